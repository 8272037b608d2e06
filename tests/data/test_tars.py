"""Archives of tracks, honest and hostile: nothing is written outside the cache folder."""

import io
import json
import re
import tarfile
import tracemalloc
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.data import tars
from mulap.data.manifest import Manifest, read_manifest
from mulap.data.splits import find_split, split_of_group
from mulap.data.tars import INDEX_FILE, UNPACKED_FOLDER, safe_name, unpack_tar


def entry(name: str, content: bytes | dict | str = b"", **fields) -> tuple[tarfile.TarInfo, bytes]:
    content = content if isinstance(content, bytes) else json.dumps(content).encode()
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def track(key: str, *captions: str, **more) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [
        entry(f"{key}.flac", b"fLaC" + key.encode()),
        entry(f"{key}.json", {"text": list(captions), "tag": ["x"], **more}),
    ]


def write_tar(path: Path, entries: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return path


def kinds(manifest: Manifest) -> list[str]:
    return sorted(reason.partition(":")[0] for _, reason in manifest.problems)


def test_laion_tars_are_read_as_clips_with_the_split_of_their_folder(tmp_path: Path) -> None:
    write_tar(tmp_path / "train" / "0.tar", track("000", "a waltz", "slow") + track("001", "drums"))
    write_tar(tmp_path / "train" / "1.tar", track("000", "a march", artist="Ann"))
    write_tar(tmp_path / "test" / "0.tar", track("000", "a jig"))
    (tmp_path / "train" / "sizes.json").write_text('{"0.tar": 2, "1.tar": 1}')
    manifest = read_manifest(tmp_path)
    assert not manifest.problems
    assert [(c.track_id, c.captions, c.split, c.source) for c in manifest.clips] == [
        ("test/0/000", ("a jig",), "test", "test/0.tar entry '000'"),
        ("train/0/000", ("a waltz", "slow"), "train", "train/0.tar entry '000'"),
        ("train/0/001", ("drums",), "train", "train/0.tar entry '001'"),
        ("train/1/000", ("a march",), "train", "train/1.tar entry '000'"),
    ]
    assert manifest.clips[1].audio_path.read_bytes() == b"fLaC000"
    assert manifest.clips[3].group == "Ann"


def test_a_tar_is_unpacked_once_and_anew_when_it_changes(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", track("a", "a waltz"))
    first = unpack_tar(path)
    written = first.stat().st_mtime_ns
    assert unpack_tar(path) == first
    assert first.stat().st_mtime_ns == written
    write_tar(path, track("a", "a march") + track("b", "a jig"))
    assert unpack_tar(path) != first
    assert [clip.captions for clip in read_manifest(path).clips] == [("a march",), ("a jig",)]


def test_unpacking_resumes_after_a_kill(tmp_path: Path, monkeypatch) -> None:
    path = write_tar(tmp_path / "0.tar", [e for i in range(5) for e in track(f"{i}", f"tune {i}")])
    copy, num_copied = tars.shutil.copyfileobj, 0

    def copy_until_killed(*arguments, **options) -> None:
        nonlocal num_copied
        num_copied += 1
        if num_copied == 3:
            raise KeyboardInterrupt
        copy(*arguments, **options)

    monkeypatch.setattr(tars.shutil, "copyfileobj", copy_until_killed)
    with pytest.raises(KeyboardInterrupt):
        read_manifest(path)
    assert not list(tmp_path.rglob(INDEX_FILE))
    manifest = read_manifest(path)
    assert len(manifest.clips) == 5
    assert num_copied == 3 + 3  # the two files written before were kept
    assert all(clip.audio_path.read_bytes() for clip in manifest.clips)


def test_a_half_written_file_of_a_killed_run_is_written_again(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", track("a", "a waltz"))
    index = unpack_tar(path)
    (index.parent / "a.flac").write_bytes(b"f")
    index.unlink()
    unpack_tar(path)
    assert (index.parent / "a.flac").read_bytes() == b"fLaCa"


HOSTILE = [
    entry("../escaped.flac", b"x"),
    entry("/tmp/absolute.flac", b"x"),
    entry("a/../../escaped.flac", b"x"),
    entry("a\\..\\escaped.flac", b"x"),
    entry("link.flac", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    entry("hard.flac", type=tarfile.LNKTYPE, linkname="../../escaped"),
    entry("device.flac", type=tarfile.CHRTYPE),
    entry("fifo.flac", type=tarfile.FIFOTYPE),
]


def test_unsafe_entries_are_refused_listed_and_nothing_is_written_outside(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_tar(folder / "0.tar", [*track("good", "a waltz"), *HOSTILE, *track("later", "a march")])
    manifest = read_manifest(folder)
    assert [clip.track_id for clip in manifest.clips] == ["0/good", "0/later"]
    assert kinds(manifest) == ["unsafe entry"] * len(HOSTILE)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert sorted(path.name for path in folder.iterdir()) == [UNPACKED_FOLDER, "0.tar"]
    written = [path for path in (folder / UNPACKED_FOLDER).rglob("*") if not path.is_dir()]
    assert {path.name for path in written} == {INDEX_FILE, "good.flac", "later.flac"}
    assert not any(path.is_symlink() for path in written)


def test_a_sparse_entry_is_refused(tmp_path: Path) -> None:
    sparse = entry("huge.flac", b"x" * 512, type=tarfile.GNUTYPE_SPARSE)
    path = write_tar(tmp_path / "0.tar", track("a", "a waltz"))
    content = bytearray(path.read_bytes())
    header = bytearray(sparse[0].tobuf(tarfile.GNU_FORMAT))
    header[386:398], header[398:410] = b"00000000000\0", b"00000001000\0"  # one part, 512 bytes
    header[483:495] = b"77777777777\0"  # the size it claims to have when unfolded: 8 GiB
    header[148:156] = b"        "
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    path.write_bytes(bytes(header) + b"x" * 512 + bytes(content))
    manifest = read_manifest(path)
    assert [clip.track_id for clip in manifest.clips] == ["0/a"]
    assert kinds(manifest) == ["unsafe entry"]


def test_an_entry_that_is_called_dot_does_not_end_the_reading(tmp_path: Path) -> None:
    """PurePosixPath has no suffix of ".", and raised a ValueError."""
    odd = [entry(name, b"x") for name in (".", "./", "..", "a/.", "a/..")]
    path = write_tar(tmp_path / "0.tar", [*track("a", "a waltz"), *odd, *track("b", "a march")])
    manifest = read_manifest(path)
    assert [clip.track_id for clip in manifest.clips] == ["0/a", "0/b"]
    assert set(kinds(manifest)) <= {"unsafe entry", "no JSON"}


def test_names_are_paired_whatever_their_dots_and_slashes(tmp_path: Path) -> None:
    entries = [
        entry("./a.flac", b"a"), entry("a.json", {"text": ["a waltz"]}),
        entry("x//b.flac", b"b"), entry("x/./b.json", {"text": ["a march"]}),
    ]  # fmt: skip
    manifest = read_manifest(write_tar(tmp_path / "0.tar", entries))
    assert [clip.track_id for clip in manifest.clips] == ["0/a", "0/x/b"]


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_would_fill_the_memory_is_a_damaged_tar(tmp_path: Path, kind) -> None:
    """700 MB were read at once for a tar of 0.24 MB."""
    header = tarfile.TarInfo("long")
    header.type, header.size = kind, 700 * 2**20
    path = write_tar(tmp_path / "0.tar", track("a", "a waltz"))
    with open(path, "r+b") as out:
        out.seek(4 * tarfile.BLOCKSIZE)
        out.write(header.tobuf(tarfile.GNU_FORMAT) + bytes(240_000))
    tracemalloc.start()
    manifest = read_manifest(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [clip.track_id for clip in manifest.clips] == ["0/a"]
    assert "has a header of more than 1,048,576 bytes" in manifest.problems[0][1]
    assert peak < 20 * 2**20


def test_a_json_cannot_name_another_file_or_forge_its_source(tmp_path: Path) -> None:
    forged = {"file_name": "/etc/passwd", "audio_path": "/etc/passwd", "_source": "x"}
    path = write_tar(tmp_path / "0.tar", track("a", "a waltz", **forged, _problem="x"))
    (clip,) = read_manifest(path).clips
    assert clip.audio_path.name == "a.flac"
    assert clip.source == "0.tar entry 'a'"


def test_odd_entries_are_listed_and_the_rest_is_used(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tars, "MAX_JSON_BYTES", 200)
    entries = [
        *track("good", "a waltz"),
        entry("alone.flac", b"x"),
        entry("text.json", {"text": ["no audio"]}),
        entry("broken.flac", b"x"),
        entry("broken.json", b"{nonsense"),
        entry("list.flac", b"x"),
        entry("list.json", b"[1]"),
        entry("large.flac", b"x"),
        entry("large.json", {"text": ["x" * 300]}),
        entry("good.flac", b"again"),
        entry("good.mp3", b"again"),
        entry("good.txt", b"ignored"),
        entry("._good.flac", b"ignored"),
        entry("folder", type=tarfile.DIRTYPE),
        *track("silent"),
    ]
    manifest = read_manifest(write_tar(tmp_path / "0.tar", entries))
    assert [clip.captions for clip in manifest.clips] == [("a waltz",)]
    kinds = Counter(reason.partition(":")[0] for _, reason in manifest.problems)
    assert kinds == {
        "no JSON": 4,
        "not JSON": 2,
        "duplicate entry": 1,
        "empty caption": 1,
        "entry too large": 1,
        "no audio": 1,
        "second audio file of one track": 1,
    }


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: 512 + 512 + 512 + 512 + 700],
        lambda content: content[:2048] + b"\xff" * 512 + content[2560:],
    ],
    ids=["truncated", "garbage in the middle"],
)
def test_a_damaged_tar_gives_what_is_before_the_damage(tmp_path: Path, damage) -> None:
    path = write_tar(tmp_path / "0.tar", track("a", "a waltz") + [entry("b.flac", bytes(2000))])
    path.write_bytes(damage(path.read_bytes()))
    manifest = read_manifest(path)
    assert [clip.track_id for clip in manifest.clips] == ["0/a"]
    assert kinds(manifest) == ["damaged tar"]


def test_one_bad_tar_of_several_does_not_stop_the_others(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", track("a", "a waltz"))
    (tmp_path / "1.tar").write_bytes(b"no tar at all" * 100)
    assert len(read_manifest(tmp_path).clips) == 1
    with pytest.raises(ValueError, match=r"1.tar.*none of 1 rows.*damaged tar: .*uncompressed"):
        read_manifest(tmp_path / "1.tar")


def test_a_cache_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", track("a", "a waltz"))
    (tmp_path / "file").touch()
    with pytest.raises(
        ValueError, match=r"0.tar: cannot be unpacked .*check the permissions.*--unpack"
    ):
        read_manifest(path, cache_folder=tmp_path / "file")
    manifest = read_manifest(path, cache_folder=tmp_path / "cache")
    assert manifest.clips[0].audio_path.is_relative_to(tmp_path / "cache")
    assert not (tmp_path / UNPACKED_FOLDER).exists()


def test_an_archive_that_does_not_fit_is_refused_before_it_fills_the_disk(
    tmp_path: Path, monkeypatch
) -> None:
    path = write_tar(tmp_path / "0.tar", track("a", "a waltz"))
    full = SimpleNamespace(free=10)
    monkeypatch.setattr(tars.shutil, "disk_usage", lambda folder: full)
    with pytest.raises(ValueError, match="bytes do not fit"):
        read_manifest(path)


def test_what_a_killed_run_unpacked_counts_as_room(tmp_path: Path, monkeypatch) -> None:
    path = write_tar(tmp_path / "0.tar", track("a", "a waltz") + track("b", "a march"))
    index = unpack_tar(path)
    index.unlink()
    (index.parent / "a.flac").write_bytes(bytes(path.stat().st_size))
    monkeypatch.setattr(tars.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10))
    assert len(read_manifest(path).clips) == 2


def test_an_entry_called_as_our_own_list_is_not_taken_for_it(tmp_path: Path, monkeypatch) -> None:
    """After a kill the archive's own list stood for ours, with any path of the machine in it."""
    forged = json.dumps({"file_name": str(tmp_path / "secret.wav"), "text": "x"}).encode()
    names = ["metadata.jsonl", ".tracks.jsonl", "._tracks.jsonl", "a/.tracks.jsonl"]
    entries = [*(entry(name, forged) for name in names), *track("a", "a waltz")]
    path = write_tar(tmp_path / "0.tar", entries + track("b", "a march"))
    copy = tars.shutil.copyfileobj

    def copy_until_killed(content, out, **options) -> None:
        if b"fLaCb" in (held := content.read()):
            raise KeyboardInterrupt
        copy(io.BytesIO(held), out, **options)

    monkeypatch.setattr(tars.shutil, "copyfileobj", copy_until_killed)
    with pytest.raises(KeyboardInterrupt):
        read_manifest(path)
    monkeypatch.undo()
    manifest = read_manifest(path)
    assert [clip.track_id for clip in manifest.clips] == ["0/a", "0/b"]
    assert all(
        clip.audio_path.is_relative_to(tmp_path / UNPACKED_FOLDER) for clip in manifest.clips
    )


@pytest.mark.parametrize("name", ["train-000000", "val_3", "test.01", "Validation", "train-0-of-4"])
def test_the_name_of_a_shard_names_its_split(tmp_path: Path, name: str) -> None:
    """Test shards in one folder with train shards were dealt by the hash, and trained on."""
    keys = [f"{index:03d}" for index in range(20)]
    write_tar(tmp_path / f"{name}.tar", [each for key in keys for each in track(key, "a waltz")])
    write_tar(tmp_path / "testimony-000.tar", track("hashed", "a march"))
    clips = {clip.track_id: clip.split for clip in read_manifest(tmp_path).clips}
    hashed = clips.pop("testimony-000/hashed")
    assert hashed == split_of_group("testimony-000/hashed")
    assert set(clips.values()) == {find_split(re.split(r"\W|_", name)[0])}


def test_the_audio_is_what_ends_as_audio_whatever_stands_beside_it(tmp_path: Path) -> None:
    """Tars are sorted: words and notes of a song come before its wav, and were taken for it."""
    entries = [
        *(entry(f"k.{ending}", b"no audio") for ending in ("bin", "json5", "mid", "lrc")),
        entry("k.json", {"text": "a waltz"}),
        entry("k.wav", b"the audio"),
        entry("k.xyz", b"no audio"),
        entry("odd.data", b"tried all the same"),
        entry("odd.more", b"or is it this?"),
        entry("odd.json", {"text": "a march"}),
    ]
    manifest = read_manifest(write_tar(tmp_path / "0.tar", entries))
    assert [source for source, _ in manifest.problems] == ["0.tar entry 'odd.more'"]
    assert kinds(manifest) == ["second audio file of one track"]
    content = [clip.audio_path.read_bytes() for clip in manifest.clips]
    assert content == [b"the audio", b"tried all the same"]
    kept = {path.suffix for path in manifest.clips[0].audio_path.parent.iterdir()}
    assert kept == {".wav", ".data", ".jsonl"}


def test_a_header_that_is_no_number_is_a_damaged_tar_and_what_was_before_is_used(
    tmp_path: Path,
) -> None:
    sparse = entry("s.wav", b"x", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "a"})
    sparse[0].pax_headers["GNU.sparse.map"] = "a,b"
    write_tar(tmp_path / "0.tar", [*track("a", "a waltz"), sparse])
    manifest = read_manifest(tmp_path)
    assert [clip.track_id for clip in manifest.clips] == ["0/a"]
    assert kinds(manifest) in (["damaged tar"], ["damaged tar", "no JSON"])


def test_a_group_column_that_no_tar_has_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", track("a", "a waltz"))
    write_tar(tmp_path / "1.tar", track("b", "a march", artist="Ann"))
    assert [clip.group for clip in read_manifest(tmp_path, group_column="artist").clips] == [
        "0/a",
        "Ann",
    ]
    with pytest.raises(ValueError, match=r"no column 'artsit'.*'artist'"):
        read_manifest(tmp_path, group_column="artsit")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(names=st.lists(st.text(st.characters(exclude_categories=()), min_size=1), unique=True))
def test_safe_names_are_flat_short_and_never_collide(names: list[str]) -> None:
    safe = [safe_name(name) for name in names]
    assert len(set(safe)) == len(names)
    for name in safe:
        assert name.isascii()
        assert len(name) <= 100
        assert not set(name) & set("/\\:\0 ")
        assert not name.startswith((".", "-"))


# --- parquet with the audio inside ---


def write_parquet(path: Path, rows: list[dict]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_audio_bytes_of_a_parquet_file_become_files_with_safe_names(tmp_path: Path) -> None:
    rows = [
        {"audio": {"bytes": b"one", "path": "../../x/One.FLAC"}, "caption": "a waltz"},
        {"audio": {"bytes": b"two", "path": None}, "caption": "a march"},
        {"audio": {"bytes": b"one", "path": "other.flac"}, "caption": "slow music"},
        {"audio": {"bytes": None, "path": "/etc/passwd"}, "caption": "no bytes"},
        {"audio": None, "caption": "nothing"},
    ]
    write_parquet(tmp_path / "train-00000-of-00001.parquet", rows)
    manifest = read_manifest(tmp_path)
    first, second = manifest.clips
    assert first.captions == ("a waltz", "slow music")
    assert (first.split, first.audio_path.suffix, second.audio_path.suffix) == (
        "train",
        ".flac",
        ".audio",
    )
    assert first.audio_path.read_bytes() == b"one"
    assert first.audio_path.is_relative_to(tmp_path / UNPACKED_FOLDER)
    assert first.source == "train-00000-of-00001.parquet row 1"
    assert kinds(manifest) == ["no audio bytes"] * 2
    assert read_manifest(tmp_path) == manifest


def test_a_parquet_file_without_captions_is_refused_before_anything_is_unpacked(tmp_path) -> None:
    row = {"audio": {"bytes": b"one", "path": "a.flac"}, "Caption": "a waltz"}
    path = write_parquet(tmp_path / "x.parquet", [row])
    with pytest.raises(ValueError, match=r"x.parquet: no column 'caption'.*Rename 'Caption'"):
        read_manifest(path)
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]


def test_a_truncated_parquet_file_is_one_clear_line(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", [{"file_name": "a.wav", "caption": "a waltz"}])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="x.parquet: not a readable parquet file"):
        read_manifest(path)
