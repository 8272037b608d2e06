"""BatchNorm statistics for an untrained backbone, from a synthetic signal and no data.

An untrained network has BatchNorm at its initial statistics, mean 0 and variance 1: it normalises
nothing, and decibels pass as they are. In the authors' code the statistics of their "frozen" random
backbone adapt to the target data while the classifier trains. In between lies this: set once, from
noise and tones that are the same for everyone, so that every layer has unit scale. Which of
the two untrained networks is the stronger baseline has to be measured.

The signal is the same on every machine; the statistics may differ in their last bits between
machines, as all that passes the network does. They do not depend on the number of threads, so that
a cache of vectors is found again.
"""

import numpy as np
import torch
from torch import nn

from mulap.inference.embedder import Embedder
from mulap.model.musicnn import MusicnnBackbone

_NUM_SEGMENTS = 16
_BatchNorm = nn.modules.batchnorm._BatchNorm  # what 1d and 2d have in common


def calibrate_batch_norm(backbone: MusicnnBackbone) -> MusicnnBackbone:
    """Set BatchNorm statistics from one pass of a synthetic signal, and never again.

    Args:
        backbone: changed in place.

    Returns:
        The backbone, in evaluation mode.
    """
    extractor = Embedder(backbone).feature_extractor
    segments = synthesize_segments(
        _NUM_SEGMENTS, extractor.segment_samples, extractor.sampling_rate
    )
    log_mel = torch.from_numpy(extractor.log_mel(segments)).to(backbone.device)
    norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    backbone.eval()
    for norm in norms:  # the statistics of this one batch, from the first layer on
        norm.train()
        norm.momentum = 1.0
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            backbone(log_mel)
    finally:
        torch.set_num_threads(num_threads)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return backbone.eval()


def synthesize_segments(
    num_segments: int, num_samples: int, sampling_rate: int, seed: int = 0
) -> np.ndarray:
    """Make signals that have music's spectrum and nothing else of it.

    Each is pink noise and four harmonic tones whose pitch, level, onsets and decay are drawn, all
    at a level that is drawn as well.

    Args:
        num_segments: M.
        num_samples: length of each.
        sampling_rate: in Hz.
        seed: of all that is drawn.

    Returns:
        float32 (M, num_samples), the largest sample of each between 0.03 and 0.9.
    """
    time = np.arange(num_samples) / sampling_rate  # in seconds
    signals = np.empty((num_segments, num_samples), np.float32)
    for index in range(num_segments):
        rng = np.random.default_rng([seed, index])
        spectrum = np.fft.rfft(rng.standard_normal(num_samples))
        noise = np.fft.irfft(spectrum / np.sqrt(np.arange(1, len(spectrum) + 1)), num_samples)
        signal = rng.uniform(0.05, 1.0) * noise / noise.std()
        for _ in range(4):
            pitch_hz, decay = np.exp(rng.uniform(np.log(60), np.log(1500))), rng.uniform(0.5, 12)
            since = np.mod(time - rng.uniform(0, 2), rng.uniform(0.2, 2))  # the last onset
            harmonics = np.arange(1, 1 + min(12, int(sampling_rate / 2 / pitch_hz)))
            waves = np.sin(2 * np.pi * pitch_hz * harmonics[:, None] * time) / harmonics[:, None]
            signal += rng.uniform(0.2, 2.0) * waves.sum(0) * np.exp(-decay * since)
        peak = np.exp(rng.uniform(np.log(0.03), np.log(0.9)))
        signals[index] = peak * signal / np.abs(signal).max()
    return signals
