"""What the contestants work on, the same for all: models, clips with captions, sound files.

Weights are random and sounds are made, which changes no cost. Everything follows from a seed.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from torch import Tensor
from transformers import BertTokenizer
from transformers.models.bert.configuration_bert import BertConfig

from mulap.data.collator import PretrainCollator
from mulap.data.dataset import Item
from mulap.encoders.backbones import random_backbone
from mulap.fast.front_end import fuse_front_end
from mulap.model.config import MulapAudioConfig, MulapConfig
from mulap.model.musicnn import MusicnnBackbone
from mulap.model.pretraining import MulapForPreTraining

FORMATS = {
    "mp3": {"format": "MP3", "subtype": "MPEG_LAYER_III", "compression_level": 0.5},
    "flac": {"format": "FLAC", "subtype": "PCM_16"},
    "ogg": {"format": "OGG", "subtype": "VORBIS", "compression_level": 0.6},
    "wav": {"format": "WAV", "subtype": "PCM_16"},
}
FILE_RATE = 44_100
CLIP_SEGMENTS = 6  # of a clip of 20 s
SEGMENT_SAMPLES = 48_000
TOKENS = (8, 30)  # the shortest and the longest caption, [CLS] and [SEP] counted
_BLOCK = 8_192  # larger ones crash libsndfile's Vorbis encoder
_TOY_AUDIO = {"num_timbral_filters": 3, "num_temporal_filters": 2, "num_midend_filters": 3}


def make_music(seconds: float, seed: int) -> np.ndarray:
    """Return stereo at 44.1 kHz, (num_samples, 2): decaying notes of eight partials over noise."""
    rng = np.random.default_rng(seed)
    music = rng.standard_normal((round(seconds * FILE_RATE), 2), np.float32) * np.float32(0.01)
    time = np.arange(FILE_RATE, dtype=np.float32) / FILE_RATE
    for start in range(0, len(music), FILE_RATE // 4):
        since = time[: len(music) - start]
        phase = np.float32(2 * np.pi * 55 * 2 ** (rng.integers(0, 48) / 12)) * since
        note = sum(np.sin(partial * phase) / partial for partial in range(1, 9))
        shares = rng.uniform(0.02, 0.05, 2).astype(np.float32)
        music[start : start + FILE_RATE] += np.outer(note * np.exp(-4 * since), shares)
    return music


def write_music(path: Path, music: np.ndarray, num_times: int = 1) -> str:
    """Write stereo samples, `num_times` over, in the format of the path's ending."""
    options = FORMATS[path.suffix[1:]]
    with sf.SoundFile(path, "w", FILE_RATE, music.shape[1], **options) as file:
        for _ in range(num_times):
            for start in range(0, len(music), _BLOCK):
                file.write(music[start : start + _BLOCK])
    return str(path)


def write_files(
    folder: Path, seconds: float, num_each: int, formats: Sequence[str] = tuple(FORMATS)
) -> dict[str, list[str]]:
    """Write `num_each` files of each format; no two files hold the same music."""
    numbered = enumerate((name, index) for name in formats for index in range(num_each))
    files: dict[str, list[str]] = {name: [] for name in formats}
    for seed, (name, index) in numbered:
        music = make_music(seconds, seed)
        files[name].append(write_music(folder / f"{name}-{index}.{name}", music))
    return files


def make_backbone() -> MusicnnBackbone:
    """Return an untrained `port` musicnn of full size in evaluation mode."""
    return random_backbone(MulapAudioConfig()).eval()


def make_model(is_toy: bool = False) -> MulapForPreTraining:
    """Return an untrained model, the paper's or a tiny one, as training has it."""
    torch.manual_seed(0)
    model = MulapForPreTraining(make_config(is_toy))
    fuse_front_end(model)
    return model


def make_config(is_toy: bool) -> MulapConfig:
    """Return the paper's config, or a tiny one."""
    if not is_toy:
        return MulapConfig()
    text = BertConfig(
        vocab_size=len(make_tokenizer(True)),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    return MulapConfig(
        text_config=text,
        audio_config=MulapAudioConfig(**_TOY_AUDIO),
        audio_hidden_size=16,
        audio_num_attention_heads=2,
        audio_intermediate_size=16,
    )


@cache
def make_tokenizer(is_toy: bool = False) -> BertTokenizer:
    """Return a tokenizer of BERT's size whose words are `w1`, `w2` and so on, a token each."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    size = 50 if is_toy else BertConfig().vocab_size
    words = specials + [f"w{index}" for index in range(size - len(specials))]
    return BertTokenizer(vocab={word: index for index, word in enumerate(words)})


def make_clips(num_clips: int, num_segments: int = CLIP_SEGMENTS) -> Tensor:
    """Return segments of noise whose level differs from one to the next, (B, T, 48000)."""
    generator = torch.Generator().manual_seed(num_clips)
    shape = (num_clips, num_segments, SEGMENT_SAMPLES)
    levels = torch.rand((num_clips, num_segments, 1), generator=generator)
    return 0.1 * levels * torch.randn(shape, generator=generator)


def make_captions(num_captions: int, is_toy: bool = False) -> list[str]:
    """Return captions of 6 to 28 words: 8 to 30 tokens, with the two that stand around them."""
    rng = np.random.default_rng(num_captions)
    num_words = len(make_tokenizer(is_toy)) - 5
    lengths = rng.integers(TOKENS[0] - 2, TOKENS[1] - 2, num_captions, endpoint=True)
    return [" ".join(f"w{word}" for word in rng.integers(0, num_words, n)) for n in lengths]


def collate(
    log_mels: Sequence[np.ndarray], captions: Sequence[str], is_toy: bool = False
) -> dict[str, Tensor]:
    """Collate log-mels, each (T, F, N), and captions as pre-training does."""
    pairs = zip(log_mels, captions, strict=True)
    items = [Item((0, index), log_mel, text) for index, (log_mel, text) in enumerate(pairs)]
    return PretrainCollator(tokenizer=make_tokenizer(is_toy), mam_min_masked=1)(items)


def make_pairs(batch_size: int, is_toy: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
    """Return clips (B, T, 48000) and what the collator makes beside their log-mels."""
    clips = make_clips(batch_size, 2 if is_toy else CLIP_SEGMENTS)
    empty = [np.zeros((clips.shape[1], 1, 1), np.float32)] * batch_size
    batch = collate(empty, make_captions(batch_size, is_toy), is_toy)
    del batch["input_features"]
    return clips, batch
