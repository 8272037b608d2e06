"""Vectors of files, embedded once; tests/probing/test_features.py kills what writes them."""

import numpy as np
import pytest
import soundfile as sf
from tiny import RATE, tone

from mulap.embedding.cache import cache_vectors
from mulap.encoders.backbones import random_backbone
from mulap.encoders.embedder import Embedder
from mulap.model.config import MulapAudioConfig

SMALL = MulapAudioConfig(num_timbral_filters=5, num_temporal_filters=3, num_midend_filters=4)


@pytest.fixture
def embedder():
    return Embedder(random_backbone(SMALL), "small")


def test_each_file_has_the_vectors_of_all_its_segments_and_copies_share_theirs(tmp_path, embedder):
    paths = [tmp_path / name for name in ("a.wav", "b.wav", "copy.wav")]
    for path, (seed, seconds) in zip(paths, ((0, 7.0), (1, 3.5), (0, 7.0)), strict=True):
        sf.write(path, tone(seed, seconds), RATE)
    cached = cache_vectors(paths, embedder, tmp_path / "cache")
    assert cached.counts.tolist() == [2, 1, 2]
    assert cached.starts[0] == cached.starts[2]
    assert len(cached.vectors) == 3
    for path, start, count in zip(paths, cached.starts, cached.counts, strict=True):
        expected = embedder.embed(path).embeddings
        np.testing.assert_allclose(cached.vectors[np.arange(start, start + count)], expected)


def test_a_file_that_cannot_be_used_has_a_reason_and_no_vectors(tmp_path, embedder):
    sf.write(tmp_path / "a.wav", tone(0, 4.0), RATE)
    (tmp_path / "b.wav").write_bytes(b"no audio")
    cached = cache_vectors([tmp_path / "b.wav", tmp_path / "a.wav"], embedder, tmp_path / "cache")
    assert cached.counts.tolist() == [0, 1]
    assert list(cached.reasons) == [0]
