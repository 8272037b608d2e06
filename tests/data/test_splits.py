"""Splits: of whole groups, in the right shares, the same for ever. There are no audio files."""

import csv
import math
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.data.manifest import Manifest, read_manifest
from mulap.data.splits import SPLIT_FRACTIONS, SPLITS, split_of_group


def read(folder: Path, rows: list[dict]) -> Manifest:
    with open(folder / "metadata.csv", "w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return read_manifest(folder, check_files=False)


def rows_of(*names: str, **more: str) -> list[dict]:
    return [{"file_name": name, "caption": f"a tune called {name}", **more} for name in names]


def test_a_split_that_tears_a_group_apart_is_reported_in_words(tmp_path: Path) -> None:
    rows = rows_of("a.wav", "b.wav", "c.wav", artist="Ann")
    for row, split in zip(rows, ("train", "test", "train"), strict=True):
        row["split"] = split
    rows[1]["artist"] = "ANN "
    manifest = read(tmp_path, rows)
    assert len(manifest.clips) == 3
    (_, reason) = manifest.problems[0]
    assert reason.startswith("groups in two splits: 1 of them, such as 'Ann' in train and test")


def test_fillers_in_the_artist_column_group_nothing(tmp_path: Path) -> None:
    rows = rows_of("a.wav", "b.wav", artist="Various Artists", album="")
    assert [clip.group for clip in read(tmp_path, rows).clips] == ["a.wav", "b.wav"]


TRACKS = st.lists(
    st.tuples(st.integers(0, 200), st.sampled_from(["", "Ann", "Bob", "ann", "Unknown", "Ænima"])),
    min_size=1,
    max_size=30,
    unique_by=lambda track: track[0],
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(tracks=TRACKS, added=TRACKS, at_front=st.booleans())
def test_adding_tracks_moves_none_and_groups_never_cross_splits(tracks, added, at_front) -> None:
    def read_tracks(tracks: list[tuple[int, str]]) -> Manifest:
        with tempfile.TemporaryDirectory() as folder:
            rows = [
                {"file_name": f"{i}.wav", "caption": f"tune {i}", "artist": artist}
                for i, artist in tracks
            ]
            return read(Path(folder), rows)

    known = dict(tracks)
    new = [track for track in added if track[0] not in known]
    before = {clip.track_id: clip.split for clip in read_tracks(tracks).clips}
    after = read_tracks(new + tracks if at_front else tracks + new)
    assert {clip.track_id: clip.split for clip in after.clips}.items() >= before.items()
    splits_of_group: dict[str, set[str]] = {}
    for clip in after.clips:
        splits_of_group.setdefault(clip.group.casefold(), set()).add(clip.split)
    assert all(len(splits) == 1 for splits in splits_of_group.values())


def test_shares_of_the_splits_lie_within_binomial_bounds() -> None:
    num_groups = 20_000
    counts = Counter(split_of_group(f"artist {i}") for i in range(num_groups))
    for split, share in zip(SPLITS, SPLIT_FRACTIONS, strict=True):
        deviation = math.sqrt(num_groups * share * (1 - share))
        assert abs(counts[split] - num_groups * share) < 4 * deviation


def test_the_split_of_a_group_is_the_same_for_ever() -> None:
    names = ["Ann", "Bob", "track/1.wav", "Ænima", "x" * 1000, "\ud800", "17", "Miles  davis"]
    golden = ["train", "valid", "train", "train", "train", "valid", "train", "train"]
    assert [split_of_group(name) for name in names] == golden
    assert split_of_group("MILES DAVIS ") == split_of_group("Miles  davis")
