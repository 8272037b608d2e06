"""Prepared data are to training what the files were: the same items, losses and order."""

import dataclasses
import json
import pickle
import shutil

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from tiny import make_extractor, write_corpus, write_settings
from torch.utils.data import DataLoader

from mulap import audio
from mulap.data.captions import clean_manifest, leave_out_sources
from mulap.data.clips import CaptionPool
from mulap.data.dataset import ClipDataset, ClipReader
from mulap.data.manifest import read_manifest
from mulap.data.prepared.read import PreparedClips, verify_prepared
from mulap.data.prepared.shards import make_recipe
from mulap.data.prepared.write import prepare
from mulap.files import sha256_of
from mulap.model.features import MulapFeatureExtractor
from mulap.training.pretrain.comparison import evaluate_run
from mulap.training.pretrain.run import pretrain
from mulap.training.pretrain.settings import load_settings


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Clips of 3.5 and 6.5 s, a damaged one, and one with several captions."""
    folder = write_corpus(tmp_path_factory.mktemp("corpus"), 13, 4)
    with open(folder / "metadata.csv", "a", encoding="utf-8") as out:
        out.write("clip-01.wav,a second caption,train\n")
    (folder / "clip-05.wav").write_bytes(b"RIFF of nothing")
    return folder


@pytest.fixture(scope="module")
def make(corpus, tmp_path_factory):
    """store, seconds, ... -> a prepared folder, made once; to be read, not to be changed."""
    made = {}

    def make_once(*recipe):
        if recipe not in made:
            folder = tmp_path_factory.mktemp("prepared") / "out"
            prepare(corpus, folder, make_recipe(*recipe))
            made[recipe] = folder
        return made[recipe]

    return make_once


def make_dataset(data, extractor=None, seconds=6.0, crop="start"):
    reader = ClipReader(extractor or make_extractor(), seconds, crop, seed=3)
    return ClipDataset(read_manifest(data).split("train"), reader, seed=5)


def largest_difference(prepared, files, crop, seconds=6.0, extractor=None):
    """Of any number of any item over three epochs; captions and lengths are equal."""
    ours = make_dataset(prepared, extractor, seconds, crop)
    theirs = make_dataset(files, extractor, seconds, crop)
    assert ours.verify() == []
    assert len(theirs.verify()) == 1
    assert len(ours) == len(theirs) == 12
    largest = 0.0
    for key in [(epoch, index) for epoch in range(3) for index in range(len(ours))]:
        a, b = ours[key], theirs[key]
        assert (a.key, a.caption) == (b.key, b.caption)
        assert a.input_features.shape == b.input_features.shape
        assert a.input_features.dtype == np.float32
        largest = max(largest, float(np.abs(a.input_features - b.input_features).max()))
    return largest


@pytest.mark.parametrize("seconds", [6.0, np.inf])
@pytest.mark.parametrize("variant", ["port", "original"])
def test_stored_log_mels_are_those_of_the_files_to_the_bit(make, corpus, seconds, variant):
    prepared = make("log-mel", seconds, None, variant)
    extractor = MulapFeatureExtractor(variant)
    assert largest_difference(prepared, corpus, "start", 6.0, extractor) == 0
    assert largest_difference(prepared, corpus, "start", 4.0, extractor) == 0


@pytest.mark.parametrize("crop", ["start", "random"])
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_stored_samples_give_the_items_of_the_files(make, corpus, crop, dtype):
    # The files hold 16 bits at 16 kHz, so that int16 loses nothing either.
    assert largest_difference(make("pcm", None, dtype), corpus, crop, 3.0) == 0


def test_float16_log_mels_are_off_by_their_rounding_only(make, corpus):
    # Between 32 and 64 dB a float16 has a step of 1/32 dB.
    assert 0 < largest_difference(make("log-mel", 6.0, "float16"), corpus, "start") <= 1 / 64


def test_the_manifest_is_that_of_the_files_without_what_cannot_be_decoded(make, corpus):
    before, after = read_manifest(corpus), read_manifest(make("pcm"))

    def rows(clips):
        return [(c.track_id, c.captions, c.group, c.split, c.source) for c in clips]

    expected = [row for row in rows(before.clips) if row[0] != "clip-05.wav"]
    assert rows(after.clips) == expected
    for split in ("train", "valid", "test"):
        assert rows(after.split(split)) == [row for row in expected if row[3] == split]
        assert rows(after.split(split)[1:3]) == rows(after.split(split))[1:3]
    cleaned, _ = clean_manifest(after)
    assert all(clip.stored for clip in cleaned.clips)


def test_clips_are_made_when_asked_for_and_survive_a_way_between_processes(make):
    clips = read_manifest(make("pcm")).clips
    assert isinstance(clips, PreparedClips)
    again = pickle.loads(pickle.dumps(clips[1:]))
    assert (
        again[0].captions == clips[1].captions == ("fast rock with loud guitar", "a second caption")
    )
    one, other = again[0].stored.waveform(1.0, 2.0), clips[1].stored.waveform(1.0, 2.0)
    assert len(one) == 32_000
    assert np.array_equal(one, other)


def test_the_pool_of_captions_is_that_of_the_files(make, corpus):
    """Captions drawn by number must not depend on whether the data were prepared."""
    for split in ("train", "valid"):
        pool = CaptionPool(read_manifest(make("pcm")).split(split))
        whole = [text for clip in pool.clips for text in clip.captions]
        assert len(pool) == len(whole)
        assert [pool[index] for index in range(len(pool))] == list(pool) == whole
    shuffled = PreparedClips(pool.clips.data, np.array([3, 1, 2]))
    texts = [text for clip in shuffled for text in clip.captions]
    assert list(CaptionPool(shuffled)[0:4]) == texts
    listed = CaptionPool(
        [clip for clip in read_manifest(corpus).clips if "05" not in clip.track_id]
    )
    assert list(listed) == list(CaptionPool(read_manifest(make("pcm")).clips))


def test_nothing_is_decoded_and_no_file_is_looked_for(make, monkeypatch):
    def forbidden(*arguments):
        raise AssertionError(arguments)

    made = (make("log-mel", 6.0), "start"), (make("pcm"), "random")
    monkeypatch.setattr(audio, "open_reader", forbidden)
    for folder, crop in made:
        dataset = make_dataset(folder, crop=crop)
        dataset.verify(keep=crop == "start")
        assert len(dataset[0, 1].input_features) == 2


def test_workers_read_the_same_items(make):
    def items(num_workers):
        loader = DataLoader(
            make_dataset(make("log-mel", 6.0)),
            3,
            collate_fn=list,
            num_workers=num_workers,
            multiprocessing_context="fork" if num_workers else None,
        )
        return [item for batch in loader for item in batch]

    for ours, theirs in zip(items(0), items(2), strict=True):
        assert ours.key == theirs.key
        assert np.array_equal(ours.input_features, theirs.input_features)


def test_random_crops_of_stored_log_mels_are_those_of_kept_ones(make, corpus):
    stored = make_dataset(make("log-mel", np.inf), crop="random", seconds=3.0)
    kept = make_dataset(corpus, crop="random", seconds=3.0)
    assert stored.verify(keep=True) == []
    assert len(kept.verify(keep=True)) == 1
    for key in [(epoch, index) for epoch in range(3) for index in range(len(kept))]:
        assert np.array_equal(stored[key].input_features, kept[key].input_features)


@pytest.mark.parametrize(
    ("recipe", "extractor", "reader", "says"),
    [
        (("log-mel", 6.0), {"variant": "original"}, {}, "variant port, .* with --variant original"),
        (("log-mel", 6.0), {"db_reference": "batch"}, {}, "with --db-reference batch"),
        (("log-mel", 6.0), {"num_mel_bins": 48}, {}, "num_mel_bins 96, the model needs 48"),
        (("pcm",), {"sampling_rate": 22_050}, {}, "sampling_rate 16000, the model needs 22050"),
        (("log-mel", 6.0), {}, {"crop_seconds": 9.0}, "first 6 s .* is 9. .* --seconds 9"),
        (("log-mel", 6.0), {}, {"crop": "random"}, "log-mels of the first .* --seconds all"),
        (("pcm", 6.0), {}, {"crop": "random"}, "samples of the first 6 s .* needs whole tracks"),
        (
            ("log-mel", np.inf, None, "port", "batch"),
            {"db_reference": "batch"},
            {"crop": "random"},
            "log-mels: data.crop=random .* Set data.crop to start",
        ),
        (("log-mel", 6.0), {}, {"crop_seconds": 2.0}, "do not begin with .* --seconds 2"),
    ],
)
def test_other_settings_than_prepared_for_are_refused_with_a_remedy(
    make, recipe, extractor, reader, says
):
    clips = read_manifest(make(*recipe)).clips
    with pytest.raises(ValueError, match=says) as caught:
        ClipDataset(
            clips, ClipReader(MulapFeatureExtractor(**extractor), **{"crop_seconds": 6.0} | reader)
        )
    assert "\n" not in str(caught.value)


def test_another_group_column_is_refused(make):
    with pytest.raises(ValueError, match="Prepare it again with --group-column artist"):
        read_manifest(make("pcm"), group_column="artist")


def largest_shard(folder):
    return max(folder.glob("data-*.arrow"), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("name", ["shard", "clips.arrow"])
def test_a_file_cut_short_or_missing_is_told_at_the_door(make, tmp_path, name):
    folder = tmp_path / "cut"
    shutil.copytree(make("log-mel", 6.0), folder)
    path = largest_shard(folder) if name == "shard" else folder / name
    content = path.read_bytes()
    path.write_bytes(content[:-1_000])
    with pytest.raises(ValueError, match=f"{path.name}: damaged: has .* bytes of .*--force"):
        read_manifest(folder)
    path.unlink()
    with pytest.raises(ValueError, match=f"{path.name}: damaged: No such file"):
        read_manifest(folder)


def test_a_flipped_bit_is_found(make, tmp_path):
    folder = tmp_path / "flipped"
    shutil.copytree(make("log-mel", 6.0), folder)
    assert verify_prepared(folder) == []
    path = largest_shard(folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert verify_prepared(str(folder)) == [(path, "its bytes are not those that were written")]
    index = bytearray((folder / "clips.arrow").read_bytes())
    index[len(index) // 2] ^= 1
    (folder / "clips.arrow").write_bytes(index)
    with pytest.raises(ValueError, match="clips.arrow: damaged: its checksum"):
        read_manifest(folder)


def test_a_shard_of_rubbish_of_the_right_size_is_told_in_one_line(make, tmp_path):
    folder = tmp_path / "rubbish"
    shutil.copytree(make("log-mel", 6.0), folder)
    for path in folder.glob("data-*.arrow"):
        path.write_bytes(b"\x07" * path.stat().st_size)
    dataset = make_dataset(folder)
    with pytest.raises(ValueError, match=r"data-.*damaged: .*--force") as caught:
        dataset[0, 0]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "damaged"), ("[]", "damaged"), ('{"version": 9}', "was prepared in format 9")],
)
def test_a_summary_that_cannot_be_used_is_told_in_one_line(make, tmp_path, text, says):
    folder = tmp_path / "broken"
    shutil.copytree(make("pcm"), folder)
    (folder / "prepared.json").write_text(text)
    with pytest.raises(ValueError, match=says) as caught:
        read_manifest(folder)
    assert "\n" not in str(caught.value)


def test_an_unfinished_folder_is_not_taken_for_a_whole_one(make, tmp_path):
    folder = tmp_path / "unfinished"
    shutil.copytree(make("pcm"), folder)
    (folder / "prepared.json").unlink()
    with pytest.raises(ValueError, match="Run mulap prepare again to resume"):
        verify_prepared(folder)
    with pytest.raises(ValueError, match="no metadata.csv"):
        read_manifest(folder)


def test_hugging_face_datasets_opens_it(make, corpus, tmp_path):
    folder = make("log-mel", 6.0)
    clips = read_manifest(folder).clips
    loaded = datasets.load_from_disk(str(folder))
    assert loaded["track_id"][:] == [clip.track_id for clip in clips]
    row = loaded.with_format("numpy")[1]
    assert np.array_equal(row["log_mel"], clips[1].stored.log_mels(slice(9)))
    files = str(make("pcm") / "data-*.arrow")
    arrow = datasets.load_dataset("arrow", data_files=files, cache_dir=str(tmp_path), split="train")
    assert arrow[1]["captions"] == list(clips[1].captions)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    path = tmp_path_factory.mktemp("settings") / "settings.yaml"
    return load_settings(write_settings(path, data={"cache_features": False}))


def losses(run):
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    clocks = ("data_wait", "runtime", "per_second", "time")
    return [{k: v for k, v in line.items() if not any(c in k for c in clocks)} for line in lines]


@pytest.mark.slow
def test_training_from_it_gives_the_losses_of_training_from_the_files(
    make, corpus, settings, tmp_path
):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sound = write_corpus(tmp_path / "sound", 13, 4)
    prepare(sound, tmp_path / "prepared", make_recipe("log-mel", 6.0))
    for name, data in (("ours", tmp_path / "prepared"), ("theirs", sound)):
        pretrain(settings, data, tmp_path / name)
    ours, theirs = losses(tmp_path / "ours"), losses(tmp_path / "theirs")
    assert len(ours) > 6
    assert ours == theirs
    assert (tmp_path / "ours/corpus.json").read_text() == (
        tmp_path / "theirs/corpus.json"
    ).read_text()
    evaluations = [
        evaluate_run(tmp_path / "ours", data, "valid", with_untrained=False).as_dict()
        for data in (tmp_path / "prepared", sound)
    ]
    assert evaluations[0] == evaluations[1]
    torch.set_num_threads(threads)


def test_a_recipe_says_what_is_wrong_with_it():
    with pytest.raises(ValueError, match="store 'mp3': must be one of log-mel, pcm, tars"):
        make_recipe("mp3")
    with pytest.raises(ValueError, match="pcm is stored as int16 or float32"):
        make_recipe("pcm", dtype="float16")
    with pytest.raises(ValueError, match="seconds -1: must be more than 0"):
        make_recipe("pcm", -1.0)
    assert dataclasses.asdict(make_recipe("log-mel"))["seconds"] == 20.0


@pytest.mark.parametrize(
    ("key", "value"),
    [("recipe", "log-mel"), ("shards", [7]), ("shards", ["a"]), ("clips", {"file": 7}),
     ("num_clips", 3), ("num_clips", None), ("recipe", {"store": "pcm"})],
)  # fmt: skip
def test_a_summary_that_was_changed_is_refused_in_a_line(make, tmp_path, key, value):
    folder = tmp_path / "copy"
    shutil.copytree(make("log-mel", 6.0), folder)
    path = folder / "prepared.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    for use in (verify_prepared, read_manifest):
        with pytest.raises(ValueError, match="prepared.json: damaged: ") as raised:
            use(folder)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("store", ["log-mel", "pcm", "tars"])
def test_where_captions_come_from_is_kept(tmp_path, store):
    folder = write_corpus(tmp_path / "corpus", 3, 2)
    rows = [
        {"file_name": f"clip-{k:02d}.wav", "caption": ["waltz", "slow"], "caption_source": names}
        for k, names in enumerate((["truth", "heard+measured"], ["", "title"], ["title", ""]))
    ]
    (folder / "metadata.csv").unlink()
    lines = "\n".join(
        json.dumps(row) for row in [*rows, {"file_name": "clip-03.wav", "caption": "x"}]
    )
    (folder / "metadata.jsonl").write_text(lines)
    prepare(folder, tmp_path / "out", make_recipe(store))
    clips, plain = (read_manifest(each).clips for each in (tmp_path / "out", folder))
    named = [sorted(clip.caption_sources for clip in some) for some in (clips, plain)]
    assert named[0] == named[1]
    left, line = leave_out_sources(read_manifest(tmp_path / "out"), ["title"])
    kept = sorted(clip.captions for clip in left.clips)
    assert kept == [("slow",), ("waltz",), ("waltz", "slow"), ("x",)]
    assert line.startswith("left out by source: 2 captions")


def test_what_version_0_1_prepared_names_no_sources(make, tmp_path):
    shutil.copytree(make("log-mel"), tmp_path / "old")
    summary = json.loads((tmp_path / "old" / "prepared.json").read_text())
    for file in [*summary["shards"], summary["clips"]]:
        path = tmp_path / "old" / file["file"]
        table = pa.ipc.open_stream(path.read_bytes()).read_all().drop_columns(["caption_sources"])
        with pa.OSFile(str(path), "wb") as out, pa.ipc.new_stream(out, table.schema) as writer:
            writer.write_table(table)
        file["bytes"], file["sha256"] = path.stat().st_size, sha256_of(path)
    (tmp_path / "old" / "prepared.json").write_text(json.dumps(summary))
    verify_prepared(tmp_path / "old")
    old, new = (read_manifest(each).clips for each in (tmp_path / "old", make("log-mel")))
    assert [(c.captions, c.group, c.split) for c in old] == [
        (c.captions, c.group, c.split) for c in new
    ]
    assert {clip.caption_sources for clip in old} == {()}
