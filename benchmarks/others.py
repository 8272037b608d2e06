"""Networks of others, by their architecture: random weights, which cost the same; no download.

    MERT-95M          HuBERT base at 24 kHz, pieces of 5 s
    CLAP HTSAT-tiny   its Swin transformer at 48 kHz, pieces of 10 s, the mel of its own extractor

Files are decoded by `mulap.audio`, the fastest way that there is here, so what is compared is the
models. A file's pieces pass at once. musicnn in TensorFlow is in `musicnn_tf`. openl3 and essentia
do not install beside the others, and are not here.
"""

from collections.abc import Callable, Sequence

import librosa
import numpy as np
import torch
from transformers import (
    ClapAudioConfig,
    ClapAudioModelWithProjection,
    ClapFeatureExtractor,
    HubertConfig,
    HubertModel,
)

from mulap.audio import load_audio

MERT_RATE, MERT_SECONDS = 24_000, 5
CLAP_RATE, CLAP_SECONDS = 48_000, 10
_TOY_HUBERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
_TOY_HUBERT |= {"intermediate_size": 16, "conv_dim": (8,) * 7, "num_conv_pos_embeddings": 4}
_TOY_HUBERT |= {"num_conv_pos_embedding_groups": 2}
_TOY_CLAP = {"patch_embeds_hidden_size": 8, "depths": [1, 1, 1, 1]}
_TOY_CLAP |= {"num_attention_heads": [1, 1, 2, 2], "hidden_size": 64, "projection_dim": 8}


def _pieces(path: str, rate: int, seconds: int) -> np.ndarray:
    """Decode a file into pieces, (T, rate * seconds); a last one that is not full is dropped."""
    waveform = load_audio(path, sampling_rate=rate)
    num_pieces = max(1, len(waveform) // (rate * seconds))
    return np.resize(waveform, (num_pieces, rate * seconds))


def _over_files(files: Sequence[str], embed: Callable[[str], torch.Tensor]) -> Callable[[], int]:
    def run() -> int:
        return sum(len(embed(path)) for path in files)

    embed(files[0])
    return run


def mert(files: Sequence[str], is_toy: bool = False) -> Callable[[], int]:
    """Make what embeds files by MERT-95M's architecture; it returns the number of pieces."""
    torch.manual_seed(0)
    model = HubertModel(HubertConfig(**(_TOY_HUBERT if is_toy else {}))).eval()

    @torch.inference_mode()
    def embed(path: str) -> torch.Tensor:
        pieces = torch.from_numpy(_pieces(path, MERT_RATE, MERT_SECONDS))
        return model(pieces).last_hidden_state.mean(1)

    return _over_files(files, embed)


def clap(files: Sequence[str], is_toy: bool = False) -> Callable[[], int]:
    """Make what embeds files by CLAP's architecture; it returns the number of pieces."""
    torch.manual_seed(0)
    config = ClapAudioConfig(**(_TOY_CLAP if is_toy else {}))
    model = ClapAudioModelWithProjection(config).eval()
    extractor = ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad")

    @torch.inference_mode()
    def embed(path: str) -> torch.Tensor:
        pieces = list(_pieces(path, CLAP_RATE, CLAP_SECONDS))
        inputs = extractor(pieces, sampling_rate=CLAP_RATE, return_tensors="pt")
        return model(**inputs).audio_embeds

    return _over_files(files, embed)


def load_by_librosa(files: Sequence[str]) -> Callable[[], int]:
    """Make what decodes files to 16 kHz mono by librosa; it returns the number of samples."""

    def run() -> int:
        return sum(len(librosa.load(path, sr=16_000)[0]) for path in files)

    run()
    return run


def mel_by_librosa(num_seconds: float) -> Callable[[], tuple[int, ...]]:
    """Make what computes a mel spectrogram of 96 bands by librosa; it returns the shape."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, round(num_seconds * 16_000))
    samples = samples.astype(np.float32)

    def run() -> tuple[int, ...]:
        mel = librosa.feature.melspectrogram(
            y=samples, sr=16_000, n_fft=512, hop_length=256, n_mels=96
        )
        return librosa.power_to_db(mel).shape

    run()
    return run
