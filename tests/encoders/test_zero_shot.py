"""Zero-shot tags: what a score is, against an average track, and how tags are read."""

import numpy as np
import pytest
import soundfile as sf
from tiny import tone, write_joint_model, write_reference

import mulap
from mulap.encoders.neutral import load_neutral
from mulap.encoders.zero_shot import (
    REFERENCE_FILE,
    Reference,
    ZeroShot,
    check_tags,
    default_tags,
    hash_sentences,
    read_tags,
    says,
    sentences,
)


def unit(points):
    return points / np.linalg.norm(points, axis=-1, keepdims=True)


@pytest.fixture
def points():
    """Of reference tracks, around one direction, as real ones are."""
    rng = np.random.default_rng(0)
    return unit(rng.standard_normal((300, 24)) * np.linspace(0.2, 1.0, 24) + 0.7)


def test_a_score_is_the_deviation_from_the_reference_tracks(points, tmp_path):
    rng = np.random.default_rng(1)
    prompts = unit(rng.standard_normal((3, 4, 24)))  # tags by sentences
    tracks = unit(rng.standard_normal((5, 24)))
    Reference.of(points).save(tmp_path)
    scorer = ZeroShot(("a", "b", "c"), prompts.mean(1), Reference.load(tmp_path))
    for track, scores in zip(tracks, scorer.score(tracks), strict=True):
        for sentences_of_tag, score in zip(prompts, scores, strict=True):
            over_reference = (points @ sentences_of_tag.T).mean(1)
            cosine = (track @ sentences_of_tag.T).mean()
            expected = (cosine - over_reference.mean()) / over_reference.std()
            assert score == pytest.approx(expected, abs=0.01)
    of_reference = scorer.score(points)
    np.testing.assert_allclose(of_reference.mean(0), 0, atol=0.01)
    np.testing.assert_allclose(of_reference.std(0), 1, atol=0.01)
    assert (tmp_path / REFERENCE_FILE).stat().st_size < 3 * 24 * 24 + 500


def test_a_reference_of_few_tracks_has_finite_scores(points, tmp_path):
    Reference.of(points[:1]).save(tmp_path)
    scorer = ZeroShot(("a",), points[:1], Reference.load(tmp_path))
    assert np.isfinite(scorer.score(points)).all()


def test_a_reference_that_is_missing_or_damaged_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"has no reference.safetensors, the average track"):
        Reference.load(tmp_path)
    (tmp_path / REFERENCE_FILE).write_bytes(b"\0" * 20)
    with pytest.raises(ValueError, match=r"reference.safetensors: cannot be read, .* Copy it"):
        Reference.load(tmp_path)


def test_words_of_scores():
    assert [says(score) for score in (2.9, 1.5, 1.49, 0.5, 0.49, -1.8)] == [
        *("yes", "yes", "maybe", "maybe", "no", "no")
    ]


def test_tags_are_cleaned_kept_in_order_and_never_empty(tmp_path):
    assert check_tags([" jazz ", "slow\tpiano", "jazz"]) == ("jazz", "slow piano")
    for bad in ([], [""], ["jazz", "  "]):
        with pytest.raises(ValueError, match="a tag is empty"):
            check_tags(bad)
    (tmp_path / "tags.txt").write_text("\ufeffjazz, metal\r\n\r\n8-bit\n", encoding="utf-8")
    assert check_tags(read_tags(tmp_path / "tags.txt")) == ("jazz", "metal", "8-bit")


def test_the_list_that_comes_with_mulap_is_one_of_plain_words():
    tags = default_tags()
    assert 180 <= len(tags) <= 260
    assert check_tags(tags) == tags
    assert all(tag == tag.lower() and len(tag) < 30 for tag in tags)
    assert {"jazz", "piano", "happy", "female vocals", "slow", "workout"} <= set(tags)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_reference(write_joint_model(tmp_path_factory.mktemp("model")))


def test_an_encoder_tags_a_clip_and_its_segments_by_percentiles_of_their_points(folder, tmp_path):
    encoder = mulap.load(folder)
    sf.write(tmp_path / "a.wav", tone(5, 9.2), 16_000, subtype="FLOAT")
    tags = ["piano", "loud drums"]
    found = encoder.tag(tmp_path / "a.wav", tags=tags)
    assert found.tags == ("piano", "loud drums")
    assert (found.scores.shape, found.whole.shape) == ((3, 2), (2,))
    np.testing.assert_allclose(found.start_seconds, np.arange(3) * encoder.stride_seconds)
    points = np.stack([encoder.embed_text(sentences(tag)).mean(0) for tag in tags])
    joint = mulap.load(folder, space="joint")
    for level, scores in (("segment", found.scores), ("track", found.whole[None])):
        of_audio = joint.embed(tmp_path / "a.wav", level=level).embeddings
        expected = load_neutral(encoder).percentile(of_audio, points)
        np.testing.assert_allclose(scores, expected, atol=0.3)  # of 950 sentences, two are 0.2
    assert found.top() == pytest.approx(dict(zip(tags, found.whole, strict=True)), abs=1e-5)
    several = encoder.tag([tone(5, 9.2), tone(6, 4.0)], 16_000, tags)
    np.testing.assert_allclose(several[0].scores, found.scores, atol=0.3)
    both = joint.tag(tone(5, 9.2), 16_000, tags)
    np.testing.assert_array_equal(both.scores, several[0].scores)
    assert encoder.tag(tone(5, 9.2), 16_000).tags == default_tags()


def test_stored_points_stand_for_the_sentences_that_made_them_only(folder, tmp_path):
    zero_shot = mulap.load(folder).zero_shot
    plain = zero_shot()
    stored = Reference.load(folder)._replace(
        tag_points=plain.points[::-1], sentences_sha256=hash_sentences(default_tags())
    )
    try:
        stored.save(folder)
        np.testing.assert_allclose(zero_shot().points, plain.points[::-1], atol=1e-3)
        assert mulap.load(folder).tag(tone(0, 3.1), 16_000).tags == default_tags()
        np.testing.assert_array_equal(
            zero_shot(default_tags()[:5]).points,
            mulap.load(folder).joint.embed_tags(default_tags()[:5]),
        )
        stored._replace(sentences_sha256="of another list").save(folder)
        np.testing.assert_array_equal(zero_shot().points, plain.points)
    finally:
        write_reference(folder)


def test_hundreds_of_tags_are_read_once_for_a_model(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tags = [f"piano {index}" for index in range(600)]
    first = mulap.load(folder).joint.embed_tags(tags)
    some = mulap.load(folder).joint.embed_tags(tags[250:260])  # of two batches
    np.testing.assert_allclose(first[250:260], some, atol=1e-5)
    again = mulap.load(folder).joint
    monkeypatch.setattr(again, "embed_text", None)
    np.testing.assert_array_equal(again.embed_tags(tags), first)


def test_encoders_without_text_say_what_they_can_do(folder):
    with pytest.raises(ValueError, match="musicnn-mtt: scores its own tags only"):
        mulap.load("musicnn-mtt").tag(tone(0, 3.1), 16_000, tags=["jazz"])
    for name in ("random", "mel"):
        with pytest.raises(ValueError, match=f"^{name}: has no tags. Give musicnn-mtt"):
            mulap.load(name).tag(tone(0, 3.1), 16_000)
