"""Summaries of captions by a frozen text model: the same training, each caption encoded once."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tiny import CAPTIONS, make_collator, make_items, make_model, write_corpus, write_settings

from mulap.training.pretrain import summaries
from mulap.training.pretrain.comparison import evaluate_run
from mulap.training.pretrain.run import pretrain
from mulap.training.pretrain.settings import load_settings
from mulap.training.pretrain.summaries import TextSummaries

JOINT = {
    "has_contrastive_head": True,
    "text_pooling": "mean",
    "feature_norm": "batch",
    "freeze": ["text"],
}
ALONE = {"mlm": 0.0, "mam": 0.0, "atm": 0.0, "contrastive": 1.0}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"), num_train=8, num_valid=4)


@pytest.fixture
def encoded(monkeypatch):
    """How many captions were given to the text model at each call."""
    model = make_model(has_contrastive_head=True, text_pooling="mean", num_upper_text_layers=1)
    counts = []
    encode = model.mulap.encode_text
    monkeypatch.setattr(
        model.mulap, "encode_text", lambda *a: counts.append(len(a[0])) or encode(*a)
    )
    return model.mulap, counts


@pytest.mark.parametrize("keeps_captions", [True, False])
def test_summaries_are_those_of_whole_captions_and_computed_once(encoded, keeps_captions):
    model, counts = encoded
    collator = make_collator(
        mlm_probability=0.9 if keeps_captions else 0.0, keeps_captions=keeps_captions
    )
    first, second = (collator(make_items(num)) for num in (3, 6))
    known = TextSummaries()
    for batch in (first, second, first):
        found = known.add_to(batch, model)
        ids = batch.get("whole_input_ids", batch["input_ids"])
        so_far = len(counts)
        expected = model.get_text_features(ids, batch["attention_mask"])
        del counts[so_far:]
        torch.testing.assert_close(model.project_text(found["text_summary"]), expected)
        assert "whole_input_ids" not in found
        assert ("whole_input_ids" in batch) == keeps_captions  # the batch itself stays
    num_captions = len(set(CAPTIONS[:6]))
    assert sum(counts) == num_captions


def test_captions_beyond_the_most_are_computed_each_time(encoded, monkeypatch):
    model, counts = encoded
    monkeypatch.setattr(summaries, "MOST_CAPTIONS", 2)
    batch = make_collator()(make_items(4))
    known = TextSummaries()
    first, second = (known.add_to(batch, model)["text_summary"] for _ in range(2))
    torch.testing.assert_close(first, second)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("objectives", [ALONE, {"contrastive": 1.0}], ids=["alone", "all"])
@pytest.mark.parametrize("micro_batch_size", [4, 2])
def test_a_run_with_summaries_is_the_run_without(
    corpus, tmp_path, monkeypatch, objectives, micro_batch_size
):
    path = write_settings(
        tmp_path / "settings.yaml",
        model=JOINT | {"dropout": 0.0},
        objectives=objectives,
        training={"batch_size": 4, "micro_batch_size": micro_batch_size, "num_epochs": 2},
    )
    settings = load_settings(path)
    fast = pretrain(settings, corpus, tmp_path / "fast")
    monkeypatch.setattr(TextSummaries, "add_to", lambda self, batch, model: batch)
    plain = pretrain(settings, corpus, tmp_path / "plain")
    assert fast.metrics["loss"] == pytest.approx(plain.metrics["loss"], rel=1e-4)
    ours, theirs = (load_file(run.last / "model.safetensors") for run in (fast, plain))
    name = next(each for each in ours if "audio_projection" in each and each.endswith("weight"))
    torch.testing.assert_close(ours[name], theirs[name], atol=1e-4, rtol=1e-3)


def test_a_run_of_the_contrastive_term_alone_measures_no_matching(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("mulap.model.modeling.MulapModel.fuse", None)  # is not called
    path = write_settings(
        tmp_path / "settings.yaml",
        model=JOINT,
        objectives=ALONE,
        training={"best_by": "retrieval/contrastive/R@1"},
    )
    report = pretrain(load_settings(path), corpus, tmp_path / "run")
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert not [name for row in log for name in row if "atm" in name]
    assert report.metrics["retrieval/contrastive/pool"] == 4
    found = evaluate_run(tmp_path / "run" / "last", corpus, "valid", pool=4).as_dict()
    assert found["trained"]["loss/contrastive"] == pytest.approx(report.metrics["loss/contrastive"])
    assert not [name for name in found["trained"] if "atm" in name]
