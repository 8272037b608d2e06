"""Small FMA, NSynth and Emomusic folders in the official formats, and tables of labels."""

import csv
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile as sf

from mulap.tasks.sets import fma_small, nsynth

FMA_SPLITS = {"training": 3, "validation": 1, "test": 1}
"""Official name of a split -> clips a genre."""


def write_sound(path: Path, seconds: float, seed: int, rate: int = 16_000) -> None:
    """A tone in the format that the path's ending names; nothing if it has no length."""
    if not seconds:
        return
    time = np.arange(round(seconds * rate)) / rate
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, 0.3 * np.sin(2 * np.pi * (110 + 13 * seed % 1_700) * time), rate)


def write_rows(path: Path, rows: Iterable[Iterable[object]], line_end: str = "\n") -> Path:
    """A UTF-8 table of comma-separated cells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as out:
        csv.writer(out, lineterminator=line_end).writerows(rows)
    return path


def fma_rows(per_genre: dict[str, int] | None = None, small: str = "small") -> list[tuple]:
    """(track id, artist id, split, subset, genre), an artist for each clip."""
    rows, number = [], 2
    for split, count in (per_genre or FMA_SPLITS).items():
        for genre in fma_small.LABELS:
            for _ in range(count):
                rows.append((number, 7 * number, split, small, genre))
                number += 3
    return rows


def write_fma_small(
    folder: Path, rows: Iterable[tuple] | None = None, seconds: float = 0.0, line_end: str = "\n"
) -> Path:
    """`fma_metadata/tracks.csv`, with its three header rows, and audio if it has any length."""
    rows = [*(fma_rows() if rows is None else rows)]
    other = [(1_000_001, 8, "training", "large", ""), (1_000_002, 8, "test", "medium", "Jazz")]
    bio = 'Lives in "Köln",\nplays the lute\n\nand more, '
    table = [
        ("", "album", "album", "artist", "artist", "set", "set", "track", "track"),
        ("", "comments", "title", "bio", "id", "split", "subset", "genre_top", "title"),
        ("track_id", *8 * ("",)),
    ]
    for track, artist, split, subset, genre in [other[0], *rows, other[1]]:
        table.append((track, 0, "A, B", bio, artist, split, subset, genre, f"Song {track}"))
    write_rows(folder / fma_small.TABLE, table, line_end)
    for track, *_ in rows:
        name = f"{track:06}"
        write_sound(folder / "fma_small" / name[:3] / f"{name}.mp3", seconds, track, 44_100)
    return folder


def nsynth_notes(per_family: int = 2, first: int = 0) -> dict[str, dict]:
    """Notes with all official fields; `per_family` instruments a family, numbered from `first`."""
    notes = {}
    for family, name in enumerate(nsynth.LABELS):
        for number in range(first, first + per_family):
            instrument = f"{name}_acoustic_{number:03}"
            note = f"{instrument}-060-100"
            notes[note] = {
                "note": 100 * family + number,
                "sample_rate": 16_000,
                "pitch": 60,
                "velocity": 100,
                "note_str": note,
                "instrument": 1_000 * family + number,
                "instrument_str": instrument,
                "instrument_source": 0,
                "instrument_source_str": "acoustic",
                "instrument_family": family,
                "instrument_family_str": name,
                "qualities": [0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
                "qualities_str": ["distortion"],
            }
    return notes


def write_nsynth(
    folder: Path, notes: dict[str, dict[str, dict]] | None = None, seconds: float = 0.0
) -> Path:
    """`nsynth-train/examples.json` and so on, and audio if it has any length."""
    if notes is None:
        firsts = {"train": 0, "valid": 2, "test": 4}
        notes = {split: nsynth_notes(first=first) for split, first in firsts.items()}
    for split, each in notes.items():
        target = folder / f"nsynth-{split}"
        target.mkdir(parents=True, exist_ok=True)
        (target / "examples.json").write_text(json.dumps(each, indent=4), encoding="utf-8")
        for seed, name in enumerate(each):
            write_sound(target / "audio" / f"{name}.wav", seconds, seed)
    return folder


def emomusic_songs(num_songs: int = 30) -> list[tuple]:
    """(song id, artist, set, arousal, valence); every third song is of the evaluation set."""
    return [
        (
            number + 2,
            f"Band {chr(65 + number % 20)}",
            "evaluation" if number % 3 == 0 else "development",
            1.5 + number % 7,
            8.5 - number % 5,
        )
        for number in range(num_songs)
    ]


def write_emomusic(
    folder: Path,
    songs: Iterable[tuple] | None = None,
    seconds: float = 0.0,
    line_end: str = "\r\n",
    inside: str = "annotations",
) -> Path:
    """Both tables, with the tabs that their cells end in, and audio if it has any length."""
    songs = [*(emomusic_songs() if songs is None else songs)]
    info: list[tuple] = [
        (
            "song_id",
            "file_name",
            "Artist",
            "Song title",
            "start of the segment (min.sec)",
            "end of the segment (min.sec)",
            "Genre",
            "Mediaeval 2013 set",
        )
    ]
    numbers: list[tuple] = [
        ("song_id", "mean_arousal", "std_arousal", "mean_valence", "std_valence")
    ]
    for song, artist, media_eval_set, arousal, valence in songs:
        name = f"{song}.mp3"
        info.append((song, f"{name}\t", f"{artist}\t", f"Song {song}\t", "0.36", "1.21", "Blues\t",
                     media_eval_set))  # fmt: skip
        numbers.append((song, arousal, 1.2, valence, 0.9))
        write_sound(folder / "clips_45seconds" / name, seconds, song, 44_100)
    write_rows(folder / inside / "songs_info.csv", info, line_end)
    write_rows(folder / inside / "static_annotations.csv", numbers, line_end)
    return folder


def write_labels(table: Path, rows: list[dict], seconds: float = 0.0) -> Path:
    """A CSV of these rows, and the files that they name (empty ones if there is no length)."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_rows(table, [columns, *([row.get(name, "") for name in columns] for row in rows)])
    for seed, row in enumerate(rows):
        path = table.parent / row["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if seconds:
            write_sound(path, seconds, seed)
        else:
            path.touch()
    return table


def pack(folder: Path, names: Iterable[str], archive: Path, kind: str) -> Path:
    """Move these folders into an archive, `zip` or `gztar`, under their own names."""
    inside = archive.with_name(f"{archive.name}-content")
    for name in names:
        shutil.move(folder / name, inside / name)
    made = shutil.make_archive(str(inside), kind, inside)
    return Path(shutil.move(made, archive))
