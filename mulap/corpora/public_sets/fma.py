"""FMA: 106,574 tracks of the Free Music Archive with genres and listeners' tags, in four sizes.

After mdeff/fma: README.md names the archives (fma_metadata.zip, fma_small.zip ...), and creation.py
and utils.py write and read these tables:

    METADATA/tracks.csv     three header rows: groups of columns, columns, and the index's name
    METADATA/genres.csv     genre_id,#tracks,parent,title,top_level
    AUDIO/000/000002.mp3    or AUDIO/fma_small/000/000002.mp3

Sizes include each other; `full` has the tracks of `large`, uncut. The split is the set's own.
"""

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from mulap.corpora.described.tracks import Track
from mulap.corpora.public_sets.corpus import Failures, SetTrack, find_file, find_table, read_rows
from mulap.corpora.public_sets.sentences import words_of_fma
from mulap.data.cells import read_list
from mulap.data.row_files import one_line
from mulap.data.splits import find_split

SUBSETS = ("small", "medium", "large", "full")
COLUMNS = (
    "set,split", "set,subset", "track,title", "track,genre_top", "track,genres", "track,tags",
    "track,license", "artist,id", "artist,name", "album,title", "album,date_released",
)  # fmt: skip


def read(audio: Path, metadata: Path, subset: str = "small") -> tuple[list[SetTrack], Failures]:
    """Read the tracks of a size of FMA.

    Args:
        audio: the unpacked archive of that size, or the folder that it lies in.
        metadata: the unpacked fma_metadata.zip.
        subset: one of `SUBSETS`.

    Returns:
        The tracks, and rows of genres that cannot be read.

    Raises:
        ValueError: a table is missing or of another format, or has no track of that size.
    """
    wanted = SUBSETS[: SUBSETS.index(subset) + 1]
    path = find_table(metadata, "tracks.csv")
    failures: Failures = []
    genre_rows = read_rows(path.with_name("genres.csv"), ("genre_id", "title"), failures)
    titles = {row["genre_id"]: row.get("title", "") for _, row in genre_rows}
    table = read_tracks(path, COLUMNS)
    columns = (table[name].to_pylist() for name in ("track_id", *COLUMNS))
    tracks = []
    for number, split, own, title, top, genres, tags, licence, group, artist, album, date in zip(
        *columns, strict=True
    ):
        if own not in wanted:
            continue
        name = f"{number:06}"
        stem = f"{name[:3]}/{name}"
        ids = [titles[key] for each in read_list(genres) or () if (key := str(each)) in titles]
        names = list(dict.fromkeys(filter(None, [top, *ids])))
        words, spelled = words_of_fma(names), read_list(tags) or []
        track = Track(
            find_file(audio, [f"{stem}.mp3"], [f"fma_{subset}"]),
            stem,
            group=f"artist {group}",
            split=find_split(split) or "",
            source="fma",
            licence=licence or "unknown",
            attribution=f"{title or 'untitled'} by {artist}, Free Music Archive, track {number}",
            tags={
                "title": title,
                "artist": artist,
                "album": album,
                "date": date,
                "genre": next(iter(words.get("genre", ())), ""),
            },
            texts=(("tags", ", ".join(map(str, spelled[:6]))),) if spelled else (),
            facts={"fma_id": str(number), "genres": "; ".join(names), "subset": own},
        )
        tracks.append(SetTrack(track, words))
    if not tracks:
        raise ValueError(f"{path}: no track is in the subset {subset!r}. Unpack it again.")
    return tracks, failures


def read_tracks(path: Path, columns: tuple[str, ...]) -> pa.Table:
    """Return columns of tracks.csv, which is too large to be read row by row.

    Args:
        path: the table.
        columns: such as "track,genre_top", by the first two header rows.

    Returns:
        `track_id`, a number, and these columns as text.

    Raises:
        ValueError: the table is missing, lacks a column or cannot be read to its end.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            head = [next(csv.reader([file.readline()]), []) for _ in range(3)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        remedy = "Run mulap download fma_small, or unpack fma_metadata.zip here."
        raise ValueError(f"{path}: cannot be read ({one_line(error)}). {remedy}") from error
    names = [f"{group},{name}" for group, name in zip(head[0], head[1], strict=False)]
    missing = [name for name in columns if name not in names]
    if missing or head[2][:1] != ["track_id"]:
        what = f"no column {missing[0]!r}" if missing else "no index row 'track_id'"
        raise ValueError(f"{path}: not FMA's table of tracks: {what} in its three header rows")
    names[0] = "track_id"
    kinds = {"track_id": pa.int64()} | {name: pa.string() for name in columns}
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
