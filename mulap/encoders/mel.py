"""Statistics of the log-mel and its cepstrum: a handcrafted baseline that has learnt nothing.

Of every segment, for the 96 log-mel bands that the network hears and for 20 MFCCs (a DCT of those
bands) the mean and the standard deviation over time, and the same of their first differences:

    rows    96 bands, 20 MFCCs | their differences between neighbouring frames
    vector  mean over time of all rows, then standard deviation of all rows      (464,)

A trained network that does not beat this was not worth training. Everything is in decibels (and
decibels a frame); a probe that standardises its inputs gets more out of it than one that does not.
"""

from functools import partial

import numpy as np

from mulap.encoders.segments import SegmentEncoder
from mulap.model.features import MulapFeatureExtractor

NUM_MFCCS = 20


def mfccs(log_mel: np.ndarray) -> np.ndarray:
    """Return the mel-frequency cepstral coefficients of log-mels, `NUM_MFCCS` of them.

    The orthonormal DCT-II over bands, as `librosa.feature.mfcc` takes it.

    Args:
        log_mel: in decibels, float32 (M, F, N).

    Returns:
        float32 (M, NUM_MFCCS, N).
    """
    # A DCT is the FFT of the even bands, then the odd ones backwards, turned by half a step.
    num_bands = log_mel.shape[1]
    order = [*range(0, num_bands, 2), *reversed(range(1, num_bands, 2))]
    spectrum = np.fft.rfft(log_mel[:, order], axis=1)[:, :NUM_MFCCS]
    turn = np.exp(-0.5j * np.pi * np.arange(NUM_MFCCS) / num_bands) * np.sqrt(2 / num_bands)
    turn[0] *= np.sqrt(0.5)
    return (spectrum * turn.astype(np.complex64)[:, None]).real


def mel_statistics(log_mel: np.ndarray) -> np.ndarray:
    """Summarise log-mels over time.

    Args:
        log_mel: in decibels, float32 (M, F, N), N >= 2.

    Returns:
        float32 (M, 4 * (F + NUM_MFCCS)), see the head of the module.
    """
    rows = np.concatenate([log_mel, mfccs(log_mel)], axis=1)
    both = [rows, np.diff(rows, axis=2)]
    means, deviations = ([f(each, axis=2) for each in both] for f in (np.mean, np.std))
    return np.concatenate([*means, *deviations], axis=1)


def mel_encoder(name: str = "mel") -> SegmentEncoder:
    """Return the encoder of `mel_statistics`, on the log-mel of the paper's network."""
    extractor = MulapFeatureExtractor(variant="port")
    settings = {
        "log_mel": "HTK bands in dB, floored 80 dB under the segment's maximum",
        "n_fft": extractor.n_fft,
        "hop_length": extractor.hop_length,
        "num_mel_bins": extractor.num_mel_bins,
        "num_mfccs": NUM_MFCCS,
        "statistics": ["mean", "standard deviation", "of first differences too"],
    }
    return SegmentEncoder(
        name=name,
        embedding_size=4 * (extractor.num_mel_bins + NUM_MFCCS),
        feature_extractor=extractor,
        embed_segments=partial(_embed, extractor),  # no lambda: those cannot be pickled
        making={"features": settings},
    )


def _embed(extractor: MulapFeatureExtractor, segments: np.ndarray) -> np.ndarray:
    return mel_statistics(extractor.log_mel(segments))
