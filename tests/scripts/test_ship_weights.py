"""Shipped weights: smaller, and the model's own for whatever is written in Latin letters."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import tone, write_corpus, write_joint_model

import mulap
from mulap.encoders.zero_shot import Reference
from mulap.model.bundled import check_sums
from mulap.model.modeling import MulapModel
from mulap.model.pretraining import MulapForPreTraining
from mulap.model.processor import MulapProcessor

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "ship_weights.py"


@pytest.fixture(scope="module")
def ship_weights():
    spec = importlib.util.spec_from_file_location("ship_weights", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def shipped(ship_weights, tmp_path_factory):
    """A run, its corpus, and what ships of it."""
    root = tmp_path_factory.mktemp("ship")
    write_corpus(root / "corpus")
    table = root / "corpus" / "metadata.csv"
    head, *rows = table.read_text(encoding="utf-8").splitlines()
    sources = ("tunes,CC0" if index % 3 else "games,CC-BY" for index in range(len(rows)))
    rows = [f"{row},{source}" for row, source in zip(rows, sources, strict=True)]
    table.write_text("\n".join([f"{head},source,licence", *rows]), encoding="utf-8")
    write_joint_model(root / "run" / "best")
    (root / "results.md").write_text("Better than chance.", encoding="utf-8")
    arguments = [root / "run" / "best", root / "mulap-tiny", "--data", root / "corpus"]
    sys.argv = ["ship_weights.py", *map(str, arguments), "--results", str(root / "results.md")]
    ship_weights.main()
    return root


def test_matrices_are_halved_on_disk_and_whole_when_loaded(shipped):
    stored = load_file(shipped / "mulap-tiny" / "model.safetensors")
    kinds = {(value.ndim >= 2, value.dtype) for value in stored.values()}
    kinds.discard((False, torch.int64))  # counters of BatchNorm
    assert kinds == {(True, torch.float16), (False, torch.float32)}
    for kind in (MulapModel, MulapForPreTraining):
        model, report = kind.from_pretrained(shipped / "mulap-tiny", output_loading_info=True)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        assert not any(report.values())


def test_points_and_matching_stay_nearly_the_same(shipped):
    before, after = (
        mulap.load(shipped / name, space="joint") for name in ("run/best", "mulap-tiny")
    )
    waveform = tone(3, 7.0)
    np.testing.assert_allclose(
        after.embed_waveform(waveform), before.embed_waveform(waveform), atol=5e-3
    )
    texts = ["a calm piano song", "zwölf drums"]
    np.testing.assert_allclose(after.embed_text(texts), before.embed_text(texts), atol=5e-3)
    scores = []
    for name in ("run/best", "mulap-tiny"):
        model = MulapForPreTraining.from_pretrained(shipped / name).eval()
        processor = MulapProcessor.from_pretrained(shipped / name)
        inputs = processor(texts, waveform, sampling_rate=16_000, return_tensors="pt")
        scores.append(model.score_pairs(**inputs).numpy())
    np.testing.assert_allclose(*scores, atol=5e-3)


def test_unused_words_and_those_of_other_scripts_are_gone(ship_weights, shipped):
    words = MulapProcessor.from_pretrained(shipped / "mulap-tiny").tokenizer.get_vocab()
    before = MulapProcessor.from_pretrained(shipped / "run/best").tokenizer.get_vocab()
    assert set(before) - set(words) == {"[unused0]", "[unused1]"}
    assert sorted(words.values()) == list(range(len(words)))
    kept = [ship_weights.is_kept(word) for word in ("piano", "##é", "8", "##-", "[MASK]", "♫")]
    assert kept == [True] * 6
    assert not any(map(ship_weights.is_kept, ("[unused7]", "ночь", "##の", "夜")))


def test_the_reference_is_of_the_training_clips(shipped):
    encoder = mulap.load(shipped / "mulap-tiny", space="joint")
    files = [shipped / "corpus" / f"clip-{index:02}.wav" for index in range(12)]
    points = np.concatenate([each.embeddings for each in encoder.embed(files, level="track")])
    reference = Reference.load(shipped / "mulap-tiny")
    np.testing.assert_allclose(reference.mean, points.mean(0), atol=5e-3)
    covariance = reference.factor.T @ reference.factor
    np.testing.assert_allclose(covariance, np.cov(points, rowvar=False, bias=True), atol=5e-3)


def test_the_folder_is_checked_named_and_without_code(shipped):
    folder = shipped / "mulap-tiny"
    check_sums(folder)
    assert {path.suffix for path in folder.iterdir()} == {
        "",
        ".json",
        ".md",
        ".onnx",
        ".safetensors",
    }
    assert all("auto_map" not in path.read_text("utf-8") for path in folder.glob("*.json"))
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "| tunes | CC0 | 8 |" in card
    assert "| games | CC-BY | 4 |" in card
    assert "12 clips of the training corpus" in card
    assert "Better than chance." in card
    assert "Universitat Pompeu Fabra" in (folder / "LICENSE").read_text(encoding="utf-8")
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float32"


def test_numbers_that_half_precision_cannot_hold_are_refused(ship_weights):
    with pytest.raises(ValueError, match="a.weight: has numbers that half precision cannot hold"):
        ship_weights.halve({"a.weight": torch.full((2, 2), 1e6)})
