"""`ClipDataset`: items are a function of their key, bad files are found before training."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
import soundfile as sf
from audio_samples import encode, make_music
from tiny import RATE, make_clips, make_extractor, tone
from torch.utils.data import DataLoader

from mulap.audio import AudioError, Found, load_audio, probe_audio
from mulap.data import reader as reader_module
from mulap.data.dataset import ClipDataset, ClipReader, KeyedSampler
from mulap.model.features import MulapFeatureExtractor
from mulap.objectives.masking import keyed_generator


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return make_clips(tmp_path_factory.mktemp("clips"), 6)


def make_dataset(clips, crop="start", crop_seconds=6.0, seed=0) -> ClipDataset:
    return ClipDataset(clips, ClipReader(make_extractor(), crop_seconds, crop, seed), seed)


def test_an_item_is_the_clip_s_first_segments_and_its_caption(clips):
    item = make_dataset(clips)[3, 1]
    extractor = make_extractor()
    waveform, _ = sf.read(clips[1].audio_path, dtype="float32")
    expected = extractor.log_mel(extractor.segment(waveform)[:2])
    # The file holds 16 bits a sample; quiet bins differ a little.
    np.testing.assert_allclose(item.input_features, expected, atol=1e-4)
    assert item.key == (3, 1)
    assert item.caption == clips[1].captions[0]


def test_a_short_clip_has_as_many_segments_as_it_fills(clips):
    dataset = make_dataset(clips, crop_seconds=20.0)
    assert dataset.reader.num_segments == 6
    assert [len(dataset[index].input_features) for index in range(3)] == [1, 2, 2]


def test_a_clip_shorter_than_a_segment_is_an_item_too_E23(tmp_path, clips):
    path = tmp_path / "short.wav"
    sf.write(path, tone(0, 0.4), RATE)
    item = make_dataset([dataclasses.replace(clips[0], audio_path=path)])[0]
    assert item.input_features.shape == (1, 96, 188)
    assert np.isfinite(item.input_features).all()


@pytest.mark.parametrize(("seconds", "expected"), [(20.0, 6), (3.0, 1), (2.0, 1), (6.0, 2)])
def test_the_crop_says_how_many_segments_there_are(seconds, expected):
    assert ClipReader(make_extractor(), seconds).num_segments == expected


def test_random_crops_are_another_place_each_epoch_and_the_same_for_a_key(clips):
    dataset = make_dataset(clips, crop="random", crop_seconds=3.0)
    items = [dataset[epoch, 1].input_features for epoch in range(3)]
    again = make_dataset(clips, crop="random", crop_seconds=3.0)[2, 1].input_features
    assert np.array_equal(items[2], again)
    assert not np.array_equal(items[0], items[1])
    other_seed = make_dataset(clips, crop="random", crop_seconds=3.0, seed=1)[2, 1]
    assert not np.array_equal(items[2], other_seed.input_features)


def test_a_random_crop_of_a_clip_that_is_too_short_is_all_of_it(clips):
    item = make_dataset(clips, crop="random", crop_seconds=20.0)[5, 1]
    assert np.array_equal(
        item.input_features, make_dataset(clips, crop_seconds=20.0)[1].input_features
    )


def test_one_of_several_captions_is_chosen_by_the_key(clips):
    clip = dataclasses.replace(clips[0], captions=("one", "two", "three"))
    dataset = make_dataset([clip])
    chosen = [dataset[epoch, 0].caption for epoch in range(30)]
    assert set(chosen) == {"one", "two", "three"}
    assert chosen == [make_dataset([clip])[epoch, 0].caption for epoch in range(30)]


def test_kept_features_are_those_that_would_be_read(clips):
    read, kept = make_dataset(clips), make_dataset(clips)
    assert kept.verify(keep=True) == []
    for index in range(len(clips)):
        assert np.array_equal(read[2, index].input_features, kept[2, index].input_features)
        assert read[2, index].caption == kept[2, index].caption


def test_kept_features_are_not_read_again(clips, tmp_path):
    path = tmp_path / "gone.wav"
    path.write_bytes(clips[0].audio_path.read_bytes())
    dataset = make_dataset([dataclasses.replace(clips[0], audio_path=path)])
    dataset.verify(keep=True)
    path.unlink()
    assert len(dataset[7, 0].input_features) == 1


def test_kept_random_crops_are_whole_segments_in_a_row_of_the_track(clips):
    dataset = make_dataset(clips, crop="random", crop_seconds=3.0)
    assert dataset.verify(keep=True) == []
    extractor = make_extractor()
    everything = extractor.log_mel(extractor.segment(load_audio(clips[1].audio_path)))
    assert len(everything) == 2
    chosen = set()
    for epoch in range(20):
        (crop,) = dataset[epoch, 1].input_features
        assert np.array_equal(crop, dataset[epoch, 1].input_features[0])
        chosen |= {index for index in range(2) if np.array_equal(crop, everything[index])}
    assert chosen == {0, 1}
    longer = make_dataset(clips, crop="random", crop_seconds=20.0)
    longer.verify(keep=True)
    assert np.array_equal(longer[3, 1].input_features, everything)


def test_random_crops_are_not_taken_of_log_mels_that_depend_on_their_neighbours(clips):
    reader = ClipReader(MulapFeatureExtractor(db_reference="batch"), 3.0, "random")
    with pytest.raises(ValueError, match="cache_features: data.crop=random .* db_reference"):
        ClipDataset(clips, reader).verify(keep=True)


@pytest.mark.parametrize("is_verified", [False, True])
def test_random_crops_lie_within_what_a_cut_file_holds(clips, tmp_path, is_verified):
    path = encode(tmp_path / "cut.mp3", make_music(20), 44_100, "mp3", "libmp3lame", 128_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert probe_audio(path).duration_seconds == pytest.approx(20, abs=0.1)
    found = Found()
    load_audio(path, found=found)
    assert found.duration_seconds == pytest.approx(10, abs=0.1)
    dataset = make_dataset([dataclasses.replace(clips[0], audio_path=path)], crop="random")
    if is_verified:
        assert dataset.verify() == []
    extractor = make_extractor()
    for epoch in range(5):
        draw = keyed_generator(0, epoch, 0, "crop").random()
        crop = load_audio(path, (found.duration_seconds - 6) * draw, 6.0)
        expected = extractor.log_mel(extractor.segment(crop))
        assert len(expected) == 2
        assert np.array_equal(dataset[epoch, 0].input_features, expected)


def test_lengths_that_are_written_down_spare_a_second_decoding_and_give_the_same_crops(
    clips, tmp_path, monkeypatch
):
    first = make_dataset(clips, crop="random", crop_seconds=3.0)
    first.verify(lengths=tmp_path / "lengths.json")
    monkeypatch.setattr(reader_module, "decode_file", lambda *args: pytest.fail("decoded"))
    again = make_dataset(clips, crop="random", crop_seconds=3.0)
    assert again.verify(lengths=tmp_path / "lengths.json") == []
    for key in ((0, 1), (3, 2)):
        assert np.array_equal(first[key].input_features, again[key].input_features)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("keep", [False, True])
def test_what_cannot_be_decoded_is_left_out_with_its_reason(clips, tmp_path, num_workers, keep):
    bad, empty = tmp_path / "bad.wav", tmp_path / "empty.mp3"
    bad.write_bytes(b"RIFF of nothing at all")
    empty.touch()
    rows = [
        clips[0],
        dataclasses.replace(clips[1], audio_path=bad),
        clips[2],
        dataclasses.replace(clips[3], audio_path=empty),
    ]
    dataset = make_dataset(rows)
    failures = dataset.verify(num_workers, keep)
    assert [clip.audio_path for clip, _ in failures] == [bad, empty]
    for clip, reason in failures:
        assert str(clip.audio_path) in reason
        assert "\n" not in reason
    assert dataset.clips == [clips[0], clips[2]]
    assert dataset[1].caption == clips[2].captions[0]
    assert np.array_equal(dataset[1].input_features, make_dataset(clips)[2].input_features)


def test_a_file_that_goes_bad_later_stops_the_run_with_its_name(clips, tmp_path):
    path = tmp_path / "later.wav"
    path.write_bytes(clips[0].audio_path.read_bytes())
    dataset = make_dataset([dataclasses.replace(clips[0], audio_path=path)])
    assert dataset.verify() == []
    path.write_bytes(b"")
    with pytest.raises(AudioError, match="later.wav"):
        dataset[0, 0]


@pytest.mark.parametrize("crop", ["start", "random"])
def test_the_worker_count_changes_no_item_vii(clips, crop):
    def items(num_workers):
        sampler = KeyedSampler(len(clips), seed=3)
        sampler.set_epoch(2)
        loader = DataLoader(
            make_dataset(clips, crop=crop, crop_seconds=3.0),
            2,
            sampler=sampler,
            collate_fn=list,
            num_workers=num_workers,
            multiprocessing_context="fork" if num_workers else None,
        )
        return [item for batch in loader for item in batch]

    for ours, theirs in zip(items(0), items(2), strict=True):
        assert ours.key == theirs.key
        assert ours.caption == theirs.caption
        assert np.array_equal(ours.input_features, theirs.input_features)


def test_an_epoch_holds_every_clip_once_in_an_order_of_its_own():
    sampler = KeyedSampler(50, seed=0)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert {key[0] for key in keys} == {epoch}
        orders.append([key[1] for key in keys])
        assert sorted(orders[-1]) == list(range(50))
    assert orders[0] != orders[1] != orders[2]
    sampler.set_epoch(1)
    assert [index for _, index in sampler] == orders[1]
    other = KeyedSampler(50, seed=1)
    other.set_epoch(1)
    assert [index for _, index in other] != orders[1]
    assert len(sampler) == 50


def test_an_order_takes_eight_bytes_a_clip_and_keeps_its_epoch():
    sampler = KeyedSampler(100_000, seed=0)
    tracemalloc.start()
    keys = iter(sampler)
    num_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert num_bytes < 10 * len(sampler)
    sampler.set_epoch(1)
    assert next(keys)[0] == 0


def test_a_gain_is_drawn_for_each_clip_and_epoch_and_is_the_same_each_time(tmp_path):
    clips = make_clips(tmp_path, 3)
    plain = ClipDataset(clips, ClipReader(make_extractor(), 6.0))
    louder = ClipDataset(clips, ClipReader(make_extractor(), 6.0, gain_db=6.0))
    drawn = {}
    for key in [(epoch, index) for epoch in range(3) for index in range(3)]:
        differences = louder[key].input_features - plain[key].input_features
        drawn[key] = float(np.median(differences))
        np.testing.assert_allclose(differences, drawn[key], atol=1e-3)
        np.testing.assert_array_equal(louder[key].input_features, louder[key].input_features)
    assert len(set(drawn.values())) == 9
    assert all(abs(gain) <= 6.0 for gain in drawn.values())
