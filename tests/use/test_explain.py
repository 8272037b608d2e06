"""Leaving parts and words out says what a score depends on; attention is compared with that."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.stats import spearmanr
from tiny import tone, write_joint_model, write_reference

from mulap.encoders.engine import load_engine
from mulap.encoders.zero_shot import Reference
from mulap.use.explain import Part, attention_of_parts, explain, rank_correlation
from mulap.use.explain_figure import draw_explanation

TEXT = "calm solo piano"
RATE = 16_000


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = write_joint_model(tmp_path_factory.mktemp("explain") / "tiny")
    return load_engine(write_reference(folder), "cpu")


def deviations(engine, features, text):
    """The score, computed another way: against points drawn as the reference says."""
    reference = Reference.load(engine.backbone.joint.folder)
    point = engine.embed_text([text])[0]
    own = engine.project(features.mean(0, keepdims=True))[0]
    spread = np.sqrt(point @ reference.factor.T @ reference.factor @ point)
    return (own - reference.mean) @ point / spread


def test_the_effect_of_a_part_is_what_the_score_loses_without_it(engine):
    samples = tone(5, 15.0)
    found = explain(engine, samples, TEXT, sampling_rate=RATE)
    features = engine.backbone.embed_waveform(samples)
    assert len(features) == len(found.parts) == 5
    whole = deviations(engine, features, TEXT)
    assert found.score == pytest.approx(whole, abs=1e-3)
    point = engine.project(features.mean(0, keepdims=True))
    [[percentile]] = engine.neutral.percentile(point, engine.embed_text([TEXT]))
    assert found.percentile == pytest.approx(percentile)
    for k, part in enumerate(found.parts):
        assert (part.start, part.end) == (3.0 * k, 3.0 * k + 3.0)
        left = np.delete(features, k, axis=0)
        assert part.effect == pytest.approx(whole - deviations(engine, left, TEXT), abs=1e-3)
    assert [each.word for each in found.words] == TEXT.split()
    for each, left in zip(found.words, ("solo piano", "calm piano", "calm solo"), strict=True):
        assert each.effect == pytest.approx(whole - deviations(engine, features, left), abs=1e-3)
    assert found.most().effect == max(part.effect for part in found.parts)
    assert sum(part.attention for part in found.parts) == pytest.approx(1.0, abs=1e-5)
    effects, shares = zip(*((part.effect, part.attention) for part in found.parts), strict=True)
    assert found.agreement == pytest.approx(spearmanr(effects, shares).statistic, abs=1e-6)


def test_the_log_odds_of_a_match_are_explained_too(engine):
    samples = tone(5, 9.0)
    found = explain(engine, samples, TEXT, "match", RATE)
    features = engine.backbone.embed_waveform(samples)
    odds = engine.match(features, [TEXT, "calm piano"]).astype(np.float64)
    odds = np.log(odds / (1 - odds))
    assert found.score == pytest.approx(odds[0], abs=1e-4)
    assert found.words[1].effect == pytest.approx(odds[0] - odds[1], abs=1e-4)
    hidden = np.array([False, True, False])
    without = engine.match([features], [TEXT], [hidden])[0].astype(np.float64)
    expected = odds[0] - np.log(without / (1 - without))
    assert found.parts[1].effect == pytest.approx(expected[0], abs=1e-4)


def test_a_long_track_has_parts_of_nine_seconds_and_a_short_one_a_part(engine):
    long = explain(engine, tone(3, 44.0), "piano", sampling_rate=RATE)
    assert {part.end - part.start for part in long.parts[:-1]} == {9.0}
    assert long.words == ()
    short = explain(engine, tone(3, 0.4), TEXT, sampling_rate=RATE)
    assert [(part.effect, part.attention) for part in short.parts] == [(0.0, pytest.approx(1.0))]
    assert short.agreement is None
    with pytest.raises(ValueError, match="no text to explain"):
        explain(engine, tone(3, 4.0), "  ", sampling_rate=RATE)


def test_attention_of_a_long_track_weighs_its_windows_by_their_length(engine):
    features = engine.backbone.embed_waveform(tone(4, 21.0))
    parts = [slice(0, 4), slice(4, 7)]  # two windows
    np.testing.assert_allclose(
        attention_of_parts(engine, features, TEXT, parts), [4 / 7, 3 / 7], atol=1e-5
    )


@settings(deadline=None)  # the first call imports
@given(npst.arrays(float, st.integers(2, 12), elements=st.integers(-3, 3)), st.randoms())
def test_rank_correlation_is_spearmans(first, random):
    second = np.array(random.choices(range(4), k=len(first)), float)
    found = rank_correlation(first, second)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        assert found is None
    else:
        assert found == pytest.approx(spearmanr(first, second).statistic, abs=1e-9)
        assert rank_correlation(-first, second) == pytest.approx(-found)


def test_it_is_drawn(engine, tmp_path):
    found = explain(engine, tone(5, 15.0), "calm $piano$ _x_", sampling_rate=RATE)
    draw_explanation(found, tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) > 10_000
    assert isinstance(found.parts[0], Part)
