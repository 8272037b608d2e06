"""Emomusic: how high are arousal and valence, each from 1 to 9? 744 clips of 45 s.

The targets are the annotators' means in those units; probes scale them by the train tracks. The
split is jukemir's: its test is the evaluation set of MediaEval 2013, the rest is divided by artist.
jukemir publishes it as code and not as a list, so it is computed here too.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from mulap.data.row_files import Row, read_table
from mulap.tasks.task import Example, Problems, Task

HOMEPAGE = "https://cvml.unige.ch/databases/emoMusic/"

# Checksums of the archives as jukemir lists them (its emomusic.json).
ARCHIVES = {
    "clips_45sec.tar.gz": "3994a5d5fefc27f9540d1a69cd7f1294c68e6cb311ce49765021e2e9c7a1057b",
    "annotations.tar.gz": "e0cb0b06e1b0ce7f04b1572fc410937699b7fad9dae67ddaa745f06cda4b0b33",
}

LABELS = ("arousal", "valence")
SPLITS = {"jukemir": (504, 115, 125)}

SONGS, NUMBERS = "songs_info.csv", "static_annotations.csv"
SET_COLUMN = "Mediaeval 2013 set"
SETS = ("development", "evaluation")

BY_HAND = (
    f"The authors ask you to fill in a form: {HOMEPAGE}\n1. Get clips_45sec.tar.gz (SHA-256 "
    f"{ARCHIVES['clips_45sec.tar.gz']})\n   and annotations.tar.gz (SHA-256 "
    f"{ARCHIVES['annotations.tar.gz']}).\n2. Unpack the clips here: clips_45seconds/2.mp3, "
    "clips_45seconds/3.mp3, ...\n3. Unpack the annotations here, or into a folder annotations: "
    f"{SONGS}, {NUMBERS}, ..."
)


TASKS = {
    "emomusic": Task(
        name="emomusic",
        title="Emomusic",
        kind="numbers",
        labels=LABELS,
        group_name="artist",
        splits=SPLITS,
        by_hand=BY_HAND,
        licence="None that we know of for the annotations (University of Geneva, on request); the "
        "songs are from the Free Music Archive, each under its artist's licence.",
        citation="M. Soleymani, M. N. Caro, E. M. Schmidt, C.-Y. Sha, Y.-H. Yang. 1000 Songs for "
        "Emotional Analysis of Music. CrowdMM 2013.",
        homepage=HOMEPAGE,
        split_source="jukemir (R. Castellon, C. Donahue, P. Liang. Codified audio language "
        "modeling learns useful representations for music information retrieval. ISMIR 2021).",
        caveat="65 of the 125 test clips are by an artist of train or valid; train and valid share "
        "none.",
    )
}


def choose_split(artist: str, media_eval_set: str) -> str:
    """Return the split of a song in jukemir: a hash of its artist's name divides what is not test.

    Letters outside ASCII, digits and signs do not count, nor do case and doubled spaces.
    """
    if media_eval_set == "evaluation":
        return "test"
    kept = "".join(
        char for char in artist.lower() if char.isascii() and (char.isalpha() or char.isspace())
    )
    name = " ".join(kept.split())
    digest = hashlib.sha1(name.encode("ascii"), usedforsecurity=False).hexdigest()
    return "valid" if int(digest, 16) % 10 >= 8 else "train"


def read(task: Task, folder: Path, split_name: str) -> tuple[list[Example], Problems]:
    """Read the songs that have both numbers, in the order of the table of songs.

    `folder` holds `clips_45seconds`, and the tables, themselves or in `annotations`. ValueError
    where a table is missing or of another format.
    """
    numbers, problems = _read_rows(folder, NUMBERS, ("mean_arousal", "mean_valence"))
    songs, more_problems = _read_rows(folder, SONGS, ("Artist", SET_COLUMN))
    problems += more_problems
    values = {row["song_id"]: row for _, row in numbers}
    examples = []
    for source, row in songs:
        song_id, artist, media_eval_set = row["song_id"], row["Artist"], row[SET_COLUMN]
        target = _numbers_of(values.get(song_id, {}))
        if media_eval_set not in SETS:
            problems.append((source, f"unknown set: {media_eval_set!r} (it is one of {SETS})"))
        elif target is None:
            problems.append((source, f"no numbers: {NUMBERS} has none from 1 to 9 for {song_id}"))
        else:
            file_name = f"clips_45seconds/{song_id}.mp3"
            split = choose_split(artist, media_eval_set)
            examples.append(Example(song_id, file_name, target, split, artist, source))
    return examples, problems


def _read_rows(
    folder: Path, name: str, columns: Sequence[str]
) -> tuple[list[tuple[str, Row]], list[tuple[str, str]]]:
    """Return (source, row) of each row that has all columns, cells stripped, and the others."""
    inside = folder / "annotations" / name
    path = inside if inside.is_file() else folder / name
    if not path.is_file():
        raise ValueError(f"{path}: no such file. Run `mulap download emomusic` for instructions.")
    header, placed = read_table(path)
    columns = ("song_id", *columns)
    missing = [column for column in columns if column not in header]
    if missing:
        found = ", ".join(map(repr, header[:8]))
        raise ValueError(
            f"{path}: no column {missing[0]!r}, only {found}. This is not the authors' file: get "
            "it again."
        )
    rows, problems = [], []
    for where, row in placed:
        source = f"{name} {where}"
        if isinstance(row, str):
            problems.append((source, row))
        elif not all((row.get(column) or "").strip() for column in columns):
            problems.append((source, f"empty cell: {', '.join(columns)} are needed"))
        else:
            rows.append((source, {column: row[column].strip() for column in columns}))
    return rows, problems


def _numbers_of(row: Row) -> tuple[float, ...] | None:
    try:
        target = tuple(float(row[f"mean_{label}"]) for label in LABELS)
    except (KeyError, ValueError):
        return None
    return target if all(1 <= each <= 9 for each in target) else None
