"""Tiny models, tokenizers, batches and corpora: everything real, only small."""

import csv
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
import yaml
from transformers import BertTokenizer
from transformers.models.bert.configuration_bert import BertConfig

from mulap.data.collator import PretrainCollator
from mulap.data.dataset import Item
from mulap.data.manifest import Clip
from mulap.encoders.embedder import Embedder
from mulap.encoders.zero_shot import Reference
from mulap.model.config import MulapAudioConfig, MulapConfig
from mulap.model.features import MulapFeatureExtractor
from mulap.model.pretraining import MulapForPreTraining
from mulap.model.processor import MulapProcessor

RATE = 16_000
WORDS = (
    "a calm fast slow loud piano guitar rock jazz song with drums and strings in minor key "
    "happy sad electronic dance track choir solo"
).split()
CAPTIONS = (
    "a calm piano song",
    "fast rock with loud guitar",
    "slow strings and choir",
    "an electronic dance track",
    "jazz with drums and piano solo",
    "a sad song in minor key",
    "happy guitar song",
    "loud drums",
)
NUM_BINS, NUM_FRAMES = 12, 20  # of the tiny log-mel


def make_tokenizer() -> BertTokenizer:
    specials = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = specials + sorted({*WORDS, *(word for text in CAPTIONS for word in text.split())})
    return BertTokenizer(
        vocab={token: index for index, token in enumerate(vocabulary)}, model_max_length=64
    )


def make_config(**changes) -> MulapConfig:
    """Two text layers of width 32 and an audio stream of width 24, if nothing else is said."""
    text = {
        "vocab_size": len(make_tokenizer()),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
    }
    audio = {
        "num_mel_bins": NUM_BINS,
        "num_timbral_filters": 3,
        "num_temporal_filters": 2,
        "num_midend_filters": 3,
    }
    values = {
        "text_config": BertConfig(**(text | changes.pop("text", {}))),
        "audio_config": MulapAudioConfig(**(audio | changes.pop("audio", {}))),
        "audio_hidden_size": 24,
        "audio_num_attention_heads": 4,
        "audio_intermediate_size": 40,
        "max_segments": 8,
        "projection_dim": 16,
        "num_audio_layers": 3,
    }
    return MulapConfig(**(values | changes))


def assert_same_tensors(module, other) -> None:
    """What is stored is equal to the bit; what is computed of it need not be."""
    ours, theirs = module.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def make_model(seed: int = 0, **changes) -> MulapForPreTraining:
    """A model in eval mode whose backbone has seen something, so that features are not all zero."""
    torch.manual_seed(seed)
    model = MulapForPreTraining(make_config(**changes))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                # Larger than the start of training, so that differences stand out.
                parameter.mul_(2.0)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.train()
        model.mulap.audio_backbone(torch.randn(16, NUM_BINS, NUM_FRAMES))
    return model.eval()


def write_joint_model(folder: Path, seed: int = 0, **changes) -> Path:
    """Save a model with a contrastive head, and its processor, as a run leaves them."""
    joint = {"has_contrastive_head": True, "text_pooling": "mean", "feature_norm": "batch"}
    model = make_model(seed, **(joint | changes))
    if model.mulap.feature_norm.norm is not None:  # statistics of its own, as if it had trained
        size = model.config.audio_config.feature_size
        model.train().mulap.feature_norm(torch.randn(16, size) + 1.0)
    model.eval().save_pretrained(folder)
    extractor = MulapFeatureExtractor.from_config(model.config.audio_config)
    MulapProcessor(extractor, make_tokenizer()).save_pretrained(folder)
    return folder


def write_reference(folder: Path, seed: int = 0) -> Path:
    """Save an average track beside a model from `write_joint_model`, near its own points."""
    encoder = Embedder.from_pretrained(folder, space="joint")
    points = [encoder.embed_waveform(tone(seed + index, 3.1), "track") for index in range(8)]
    Reference.of(np.concatenate(points)).save(folder)
    return folder


def make_batch(num_segments=(3, 3), num_tokens=(6, 6), seed: int = 0) -> dict[str, torch.Tensor]:
    """Random clips and captions of these lengths, padded as the collator pads."""
    generator = torch.Generator().manual_seed(seed)
    num_clips, num_captions = len(num_segments), len(num_tokens)
    features = torch.zeros(num_clips, max(num_segments), NUM_BINS, NUM_FRAMES)
    audio_mask = torch.zeros(num_clips, max(num_segments), dtype=torch.long)
    ids = torch.zeros(num_captions, max(num_tokens), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(num_segments):
        shape = (length, NUM_BINS, NUM_FRAMES)
        features[row, :length] = torch.randn(shape, generator=generator)
        audio_mask[row, :length] = 1
    for row, length in enumerate(num_tokens):
        ids[row, :length] = torch.randint(7, 30, (length,), generator=generator)
        ids[row, 0], ids[row, length - 1] = 4, 5  # [CLS], [SEP]
        mask[row, :length] = 1
    return {
        "input_features": features,
        "audio_attention_mask": audio_mask,
        "input_ids": ids,
        "attention_mask": mask,
    }


def make_item(index=0, caption=CAPTIONS[0], num_segments=4, epoch=0) -> Item:
    shape = (num_segments, NUM_BINS, NUM_FRAMES)
    features = np.random.default_rng([index, 7]).standard_normal(shape, dtype=np.float32)
    return Item((epoch, index), features, caption)


def make_items(num_items=8, captions=CAPTIONS, epoch=0, num_segments=4) -> list[Item]:
    return [
        make_item(index, captions[index % len(captions)], num_segments, epoch)
        for index in range(num_items)
    ]


def make_collator(**changes) -> PretrainCollator:
    return PretrainCollator(**({"tokenizer": make_tokenizer()} | changes))


def tone(seed: int, seconds: float) -> np.ndarray:
    """A chord over noise, another for each seed (num_samples,)."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    chord = sum(np.sin(2 * np.pi * rng.uniform(80, 2000) * time) for _ in range(3))
    return (0.1 * chord + rng.uniform(0.001, 0.05) * rng.standard_normal(len(time))).astype("f")


def write_corpus(folder: Path, num_train=12, num_valid=5, seconds=6.5, captions=CAPTIONS) -> Path:
    """Write an audiofolder of short clips with captions and splits."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(num_train + num_valid):
        name, length = f"clip-{index:02}.wav", seconds if index % 3 else seconds - 3.0
        sf.write(folder / name, tone(index, length), RATE)
        caption = captions[index % len(captions)]
        rows.append((name, caption, "train" if index < num_train else "valid"))
    with open(folder / "metadata.csv", "w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([("file_name", "caption", "split"), *rows])
    return folder


def make_clips(folder: Path, num_clips: int, **kwargs) -> list[Clip]:
    write_corpus(folder, num_train=num_clips, num_valid=0, **kwargs)
    return [
        Clip(
            folder / f"clip-{index:02}.wav",
            (CAPTIONS[index % len(CAPTIONS)],),
            f"track-{index}",
            f"track-{index}",
            "train",
            f"row {index}",
        )
        for index in range(num_clips)
    ]


def make_extractor() -> MulapFeatureExtractor:
    return MulapFeatureExtractor()


SETTINGS = {
    "model": {
        "text": "none",
        "num_text_layers": 1,
        "text_hidden_size": 32,
        "text_num_attention_heads": 2,
        "text_intermediate_size": 48,
        "vocabulary_size": 200,
        "num_coattention_layers": 1,
        "num_audio_layers": 2,
        "audio_hidden_size": 32,
        "audio_num_attention_heads": 2,
        "audio_intermediate_size": 48,
        "audio_width": 0.02,
        "projection_dim": 16,
    },
    "masking": {"mam_min_masked": 1},
    "data": {"crop_seconds": 6.0, "cache_features": True, "num_workers": 0},
    "training": {
        "batch_size": 4,
        "micro_batch_size": 4,
        "num_epochs": 2,
        "learning_rate": 0.001,
        "log_every_steps": 1,
        "report_to": [],
        "retrieval_pool": 4,
    },
}


def write_settings(path: Path, **changes) -> Path:
    """Write `SETTINGS`, changed by section, to a YAML file."""
    values = {name: {**keys, **changes.pop(name, {})} for name, keys in SETTINGS.items()}
    path.write_text(yaml.safe_dump(values | changes), encoding="utf-8")
    return path


def has_no_gradient(name: str) -> bool:
    """Whether this is a bias that BatchNorm takes out again: its gradient is 0, give or take."""
    return name.endswith(".conv.bias")
