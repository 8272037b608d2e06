"""The engine's numbers are the model's: matching, points, masked words, attention."""

import numpy as np
import pytest
import torch
from tiny import CAPTIONS, tone, write_joint_model

import mulap
from mulap.encoders.engine import load_engine
from mulap.encoders.joint import NoJointSpace
from mulap.model.modeling import MulapModel
from mulap.model.pretraining import MulapForPreTraining
from mulap.model.processor import MulapProcessor


@pytest.fixture(scope="module", params=["paper", "official"])
def folder(request, tmp_path_factory):
    changes = {"layout": request.param, "num_coattention_layers": 2, "num_audio_layers": 4}
    folder = write_joint_model(tmp_path_factory.mktemp("engine") / "tiny", **changes)
    model = MulapForPreTraining.from_pretrained(folder)
    with torch.no_grad():
        model.atm_head.score.weight.mul_(1_000.0)  # so that pairs differ, around a half
        clips = mulap.load(folder).embed_waveform(tone(5, 15.0))[None]
        log_odds = log_odds_of(model.eval(), folder, clips, CAPTIONS)
        model.atm_head.score.bias.sub_(log_odds.mean())
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def engine(folder):
    return load_engine(folder, "cpu")


@pytest.fixture(scope="module")
def tracks(engine):
    return [engine.backbone.embed_waveform(tone(seed, 3.0 * seed)) for seed in (5, 2, 1)]


@pytest.fixture(scope="module")
def model(folder):
    return MulapForPreTraining.from_pretrained(folder).eval()


def log_odds_of(model, folder, clips, texts):
    tokens = MulapProcessor.from_pretrained(folder)(list(texts), return_tensors="pt")
    clips = [torch.from_numpy(clip) for clip in clips]
    return model.pairs(clips, tokens.input_ids, tokens.attention_mask)["atm"]


def test_matching_is_that_of_the_model_for_one_track_and_for_several(engine, model, folder, tracks):
    expected = log_odds_of(model, folder, tracks, CAPTIONS).sigmoid().numpy()
    found = engine.match(tracks, CAPTIONS)
    assert found.shape == (3, len(CAPTIONS))
    assert found.dtype == np.float32
    assert found.std() > 0.03
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for track, row in zip(tracks, expected, strict=True):
        np.testing.assert_allclose(engine.match(track, CAPTIONS), row, atol=1e-5)
    np.testing.assert_allclose(engine.match(tracks[0], CAPTIONS[2:3]), expected[0, 2:3], atol=1e-5)


def test_a_long_track_is_matched_in_windows_by_the_mean_of_their_log_odds(
    engine, model, folder, tracks
):
    five = tracks[0]
    assert len(five) == 5
    parts = [five[:2], five[2:4], five[4:]]
    odds = log_odds_of(model, folder, parts, CAPTIONS).mean(0)
    np.testing.assert_allclose(
        engine.match(five, CAPTIONS, window=2), odds.sigmoid().numpy(), atol=1e-5
    )
    long = np.concatenate([five] * 7)  # longer than the model has positions for
    assert np.isfinite(engine.match(long, CAPTIONS)).all()


def test_hidden_segments_are_hidden_as_in_training(engine, model, folder, tracks):
    five, text = tracks[0], CAPTIONS[0]
    hidden = [np.zeros(5, bool), np.array([False, True, False, False, True])]
    found = engine.match([five, five], [text], hidden)
    tokens = MulapProcessor.from_pretrained(folder)(text, return_tensors="pt")
    for masks, score in zip(hidden, found[:, 0], strict=True):
        with torch.no_grad():
            outputs = model(
                tokens.input_ids,
                torch.from_numpy(five)[None],
                is_masked_segment=torch.from_numpy(masks)[None],
            )
        assert outputs.atm_logits.sigmoid().item() == pytest.approx(score, abs=1e-5)
    assert abs(found[0, 0] - found[1, 0]) > 1e-4


def test_points_are_those_of_the_joint_space(engine, folder, tracks):
    encoder = mulap.load(folder, space="joint")
    waveform = tone(5, 15.0)
    np.testing.assert_allclose(
        engine.project(tracks[0]), encoder.embed_waveform(waveform), atol=1e-6
    )
    track = engine.project(tracks[0].mean(0, keepdims=True))
    np.testing.assert_allclose(track, encoder.embed_waveform(waveform, "track"), atol=1e-6)
    np.testing.assert_allclose(engine.embed_text(CAPTIONS), encoder.embed_text(CAPTIONS), atol=1e-6)
    assert engine.encoder.space == "joint"
    assert engine.size == encoder.embedding_size


def test_masked_words_are_scored_as_by_the_model_at_the_places_asked_for(engine, model, tracks):
    tokens = engine.tokenize(CAPTIONS[:3])
    is_asked = np.zeros(tokens.ids.shape, bool)
    is_asked[0, 2] = is_asked[2, 1] = is_asked[2, 3] = True
    tokens = tokens._replace(ids=np.where(is_asked, engine.vocabulary.mask, tokens.ids))
    found = engine.score_words(tracks[0], tokens, is_asked)
    with torch.no_grad():
        outputs = model(
            torch.from_numpy(tokens.ids),
            torch.from_numpy(tracks[0]).expand(3, -1, -1),
            torch.from_numpy(tokens.mask),
            mlm_labels=torch.from_numpy(np.where(is_asked, 7, -100)),
        )
    assert found.shape == (3, len(engine.vocabulary.words))
    np.testing.assert_allclose(found, outputs.mlm_logits.numpy(), atol=1e-4)


def test_attention_is_of_each_layer_and_head_and_makes_what_the_layer_attends_to(
    engine, model, tracks
):
    attention = engine.attend(tracks[1], CAPTIONS[0])
    assert attention.tokens == ("[CLS]", *CAPTIONS[0].split(), "[SEP]")
    num_tokens, num_segments = len(attention.tokens), len(tracks[1])
    assert attention.of_words.shape == (2, 4, num_tokens, 1 + num_segments)
    assert attention.of_audio.shape == (2, 4, 1 + num_segments, num_tokens)
    for each in (attention.of_words, attention.of_audio):
        np.testing.assert_allclose(each.sum(-1), 1.0, atol=1e-5)
    layer = model.mulap.coattention.blocks[0].text.attention
    states = torch.randn(1, 4, 32), torch.randn(1, 3, 24), torch.tensor([[1, 1, 0]])
    with torch.no_grad():
        values = layer.value(states[1]).unflatten(-1, (4, -1)).transpose(1, 2)
        context = (layer.weights(*states) @ values).transpose(1, 2).flatten(2)
        torch.testing.assert_close(layer.output(context), layer(*states), atol=1e-5, rtol=1e-4)


def test_the_space_has_the_name_of_the_model_and_changes_with_what_makes_points(
    engine, folder, tmp_path
):
    name, _, digits = engine.space.partition("@")
    assert (name, len(digits)) == ("tiny", 8)
    assert load_engine(folder).space == engine.space
    model = MulapForPreTraining.from_pretrained(folder)
    processor = MulapProcessor.from_pretrained(folder)
    with torch.no_grad():
        model.atm_head.score.bias.add_(1.0)
    for changed in ("heads", "text", "audio"):
        with torch.no_grad():
            if changed == "text":
                model.mulap.text_projection.bias.add_(1.0)
            if changed == "audio":
                model.mulap.audio_projection.bias.add_(1.0)
        model.save_pretrained(tmp_path / changed / "tiny")
        processor.save_pretrained(tmp_path / changed / "tiny")
    spaces = [load_engine(tmp_path / each / "tiny").space for each in ("heads", "text", "audio")]
    assert spaces[0] == engine.space
    assert len(set(spaces)) == 3


def test_a_model_without_heads_embeds_and_refuses_to_match(folder, tmp_path, tracks):
    MulapModel.from_pretrained(folder).save_pretrained(tmp_path)
    MulapProcessor.from_pretrained(folder).save_pretrained(tmp_path)
    engine = load_engine(tmp_path)
    assert not engine.can_match
    assert engine.embed_text("a").shape == (1, engine.size)
    with pytest.raises(ValueError, match=r"has no co-attention .* Give a model of mulap pretrain"):
        engine.match(tracks[0], ["a"])
    with pytest.raises(NoJointSpace):
        load_engine("musicnn-mtt")


@pytest.mark.parametrize(("tracks", "texts"), [([], ["a"]), ([np.empty((0, 12), "f")], ["a"])])
def test_nothing_to_match_is_said(engine, tracks, texts):
    with pytest.raises(ValueError, match="nothing to match"):
        engine.match(tracks, texts)
    with pytest.raises(ValueError, match="nothing to match"):
        engine.match([np.zeros((1, 12), "f")], [])
