"""FMA-small: which of eight genres is it? 8,000 clips of 30 s, 1,000 a genre.

The test set is the true one. MuLaP's code tested on the validation clips, by which it also stopped
early (item 32 of the differences), so its published accuracy is that of another set.

Six clips hold (next to) nothing. The split `playable`, the default, leaves them out, as MuLaP's
code does; they are all in train, so both splits are tested on the same 800 clips.
"""

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from mulap.data.row_files import one_line
from mulap.data.splits import find_split
from mulap.tasks.task import Example, Problems, Remote, Task

HOMEPAGE = "https://github.com/mdeff/fma"
_HOST = "https://os.unil.cloud.switch.ch/fma/"

# Checksums: the data set's own README, release of 2017-05-09.
REMOTES = (
    Remote(
        url=f"{_HOST}fma_metadata.zip",
        path="fma_metadata.zip",
        checksum="sha1:f0df49ffe5f2a6008d7dc83c6915b31835dfe733",
        unpack_to=".",
    ),
    Remote(
        url=f"{_HOST}fma_small.zip",
        path="fma_small.zip",
        checksum="sha1:ade154f733639d52e35e32f5593efe5be76c6d70",
        unpack_to=".",
    ),
)

LABELS = tuple("Electronic Experimental Folk Hip-Hop Instrumental International Pop Rock".split())

BROKEN = {
    98565: "1.6 s of audio",
    98567: "0.5 s of audio",
    98569: "1.5 s of audio",
    99134: "no audio",
    108925: "no audio",
    133297: "no audio",
}
"""Clips cut at the wrong place: issue 8 of FMA; durations from its wiki, as others cite it."""

# FMA publishes the sizes of `all`. Those of `playable` are two other projects' counts, and a test
# of ours cannot check them; `mulap task` can, on the real files.
SPLITS = {"playable": (6394, 800, 800), "all": (6400, 800, 800)}

TABLE = "fma_metadata/tracks.csv"
COLUMNS = ("set,split", "set,subset", "artist,id", "track,genre_top")


TASKS = {
    "fma_small": Task(
        name="fma_small",
        title="FMA-small",
        kind="class",
        labels=LABELS,
        group_name="artist",
        splits=SPLITS,
        remotes={"": REMOTES},
        licence="Audio: each artist's choice of Creative Commons licence; metadata: CC BY 4.0 "
        "(the authors of FMA). For research.",
        citation="M. Defferrard, K. Benzi, P. Vandergheynst, X. Bresson. FMA: A Dataset for Music "
        "Analysis. ISMIR 2017.",
        homepage=HOMEPAGE,
        split_source="The data set's own, column `set, split` of tracks.csv; no artist in two.",
        caveat="MuLaP's code reports the validation clips as its test; this is the true test set.",
    )
}


def read(task: Task, folder: Path, split_name: str) -> tuple[list[Example], Problems]:
    """Read the rows of the small subset, in the order of the file; broken clips are problems.

    `folder` holds `fma_metadata/tracks.csv` and `fma_small/000/000002.mp3` and so on. ValueError
    where the table is missing or of another format.
    """
    path = folder / TABLE
    table = _read_columns(path)
    examples, problems = [], []
    rows = zip(*(table[name].to_pylist() for name in ("track_id", *COLUMNS)), strict=True)
    for track_id, split, subset, artist, genre in rows:
        if subset != "small":
            continue
        source = f"{TABLE} track {track_id}"
        if split_name == "playable" and track_id in BROKEN:
            problems.append((source, f"known to be broken: {BROKEN[track_id]}"))
            continue
        name = f"{track_id:06}"
        file_name = f"fma_small/{name[:3]}/{name}.mp3"
        known = find_split(split) or split
        examples.append(Example(str(track_id), file_name, genre, known, artist, source))
    if not examples:
        raise ValueError(f"{path}: no row has the subset 'small'. Fetch it again.")
    return examples, problems


def _read_columns(path: Path) -> pa.Table:
    """Return `track_id` and `COLUMNS` of tracks.csv, which is too large to be read row by row."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            head = [next(csv.reader([file.readline()]), []) for _ in range(3)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        remedy = "Run mulap download fma_small, or unpack fma_metadata.zip here."
        raise ValueError(f"{path}: cannot be read ({one_line(error)}). {remedy}") from error
    names = [f"{group},{name}" for group, name in zip(head[0], head[1], strict=False)]
    missing = [name for name in COLUMNS if name not in names]
    if missing or head[2][:1] != ["track_id"]:
        what = f"no column {missing[0]!r}" if missing else "no index row 'track_id'"
        raise ValueError(f"{path}: not FMA's table of tracks: {what} in its three header rows")
    names[0] = "track_id"
    kinds = {"track_id": pa.int64()} | {name: pa.string() for name in COLUMNS}
    try:
        return pyarrow.csv.read_csv(
            path,
            # A biography is a cell of many lines; a block must hold the longest row.
            pyarrow.csv.ReadOptions(column_names=names, skip_rows=3, block_size=2**24),
            pyarrow.csv.ParseOptions(newlines_in_values=True),
            pyarrow.csv.ConvertOptions(include_columns=list(kinds), column_types=kinds),
        )
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read to its end ({one_line(error)})") from error
