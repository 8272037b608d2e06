"""What a frozen backbone's taggers hear, as targets in the space shared with text."""

import json

import pytest
import torch
from tiny import CAPTIONS, SETTINGS, make_tokenizer, tone, write_corpus, write_settings
from torch.nn.functional import normalize

from mulap.encoders.backbones import join_backbones
from mulap.encoders.embedder import Embedder
from mulap.model.musicnn import MusicnnForTagging
from mulap.training.pretrain.heard import HeardWords
from mulap.training.pretrain.initial import initial_model
from mulap.training.pretrain.run import pretrain
from mulap.training.pretrain.settings import ModelSettings, load_settings

BOTH = ["musicnn-msd", "musicnn-mtt"]
WARM = {
    "audio_weights": BOTH,
    "freeze": ["backbone", "text"],
    "feature_norm": "batch",
    "has_contrastive_head": True,
    "text_pooling": "mean",
}


def make_heard(names=("musicnn-msd", "musicnn-mtt")):
    settings = ModelSettings(**SETTINGS["model"] | WARM | {"audio_weights": list(names)})
    model, processor, _ = initial_model(settings, CAPTIONS, 0)
    return model.mulap, HeardWords(names, model.mulap, processor.tokenizer)


@pytest.fixture(scope="module")
def features():
    embedder = Embedder(join_backbones(BOTH), "both")
    return [torch.from_numpy(embedder.embed_waveform(tone(seed, 9.5))) for seed in range(5)]


def test_words_are_those_of_the_taggers_and_their_log_odds_the_mean_of_the_tags(features):
    _, heard = make_heard()
    found = heard._hear(features[0])
    assert found.shape == (len(features[0]), len(heard.words))
    assert len(heard.words) == len(set(heard.words)) > 50
    expected = []
    for name, part in zip(BOTH, features[0].split(1506, dim=1), strict=True):
        tagger = MusicnnForTagging.from_pretrained(name).eval()
        labels = {label.lower(): place for place, label in tagger.config.id2label.items()}
        expected.append(tagger.head(part).detach()[:, labels["rock"]])
    mean = torch.stack(expected).mean(0)
    torch.testing.assert_close(found[:, heard.words.index("rock")], mean, atol=1e-4, rtol=1e-4)
    assert "no vocals" in heard.words
    assert not {"awesome", "00s", "none"} & {*heard.words}


def test_one_tagger_has_the_words_it_hears():
    _, alone = make_heard(["musicnn-mtt"])
    assert "harpsichord" in alone.words
    assert "hip-hop" not in alone.words  # of the other one


def test_a_clip_at_its_unusual_word_costs_less_than_one_at_another(features):
    model, heard = make_heard()
    heard.fit(clip.numpy() for clip in features)
    clip = features[0]
    unusual = (heard._hear(clip).mean(0) - heard._mean) / heard._deviation
    points = normalize(model.project_text(heard._summaries).unflatten(0, (-1, 4)).mean(1), dim=-1)
    losses = [
        heard.loss(model, points[[place]], clip, torch.ones(1, len(clip))).item()
        for place in (int(unusual.argmax()), int(unusual.argmin()))
    ]
    assert losses[0] < losses[1]


def test_padding_and_neighbours_change_no_loss(features):
    model, heard = make_heard()
    heard.fit(clip.numpy() for clip in features)
    clips = [features[0][:3], features[1][:1]]
    points = normalize(torch.randn(2, model.config.projection_dim), dim=-1)
    is_segment = torch.tensor([[1, 1, 1], [1, 0, 0]])
    both = heard.loss(model, points, torch.cat(clips), is_segment)
    each = [
        heard.loss(model, points[[row]], clip, torch.ones(1, len(clip)))
        for row, clip in enumerate(clips)
    ]
    torch.testing.assert_close(both, torch.stack(each).mean())


def test_other_weights_have_no_words_for_it():
    with pytest.raises(ValueError, match="model.audio_weights is somebody's, which has no words"):
        HeardWords(["somebody's"], None, make_tokenizer())
    with pytest.raises(ValueError, match="model.audio_weights is none"):
        HeardWords([], None, make_tokenizer())


def test_it_needs_frozen_parts_and_a_contrastive_term(tmp_path):
    path = write_settings(
        tmp_path / "settings.yaml",
        model=WARM | {"freeze": ["backbone"]},
        objectives={"contrastive": 1.0, "tags": 1.0},
    )
    with pytest.raises(ValueError, match=r"model.freeze: \[backbone, text\]"):
        load_settings(path)


def test_a_run_learns_what_is_heard(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", num_train=8, num_valid=2)
    path = write_settings(
        tmp_path / "settings.yaml",
        model=WARM,
        data={"cache_features": False},
        objectives={"mlm": 0.0, "mam": 0.0, "atm": 0.0, "contrastive": 1.0, "tags": 2.0},
        training={"num_epochs": 8, "batch_size": 8, "micro_batch_size": 4, "learning_rate": 0.01},
    )
    pretrain(load_settings(path), corpus, tmp_path / "run")
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [row["loss/tags"] for row in log if "loss/tags" in row]
    assert losses[-1] < losses[0]
    total = [row for row in log if "loss/tags" in row][0]
    parts = total["loss/contrastive"] + 2 * total["loss/tags"]
    assert total["loss"] == pytest.approx(parts, rel=1e-3)


def test_a_model_with_another_backbone_than_its_taggers_is_one_clear_line():
    settings = ModelSettings(**SETTINGS["model"] | WARM | {"audio_weights": ["musicnn-mtt"]})
    model, processor, _ = initial_model(settings, CAPTIONS, 0)
    for names in (["musicnn-msd"], BOTH):
        with pytest.raises(ValueError, match="is not the model's backbone"):
            HeardWords(names, model.mulap, processor.tokenizer)


def test_half_precision_on_disk_is_no_other_backbone():
    settings = ModelSettings(**SETTINGS["model"] | WARM | {"weights": "mulap-small"})
    model, processor, _ = initial_model(settings, CAPTIONS, 0)
    assert HeardWords(BOTH, model.mulap, processor.tokenizer).words
