"""An audiofolder in the making: nobody else's files are touched, and what is not whole says so.

    OUTPUT/.unfinished     from before the first file until after the last: as long as this is
           audio/          there, `read_manifest` refuses the folder
           metadata.csv    put there whole

A folder is ours if it is empty, if its metadata.csv has a column that only we write, or if an
earlier run of ours left its mark in it. Knows nothing of what is written.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mulap.data.tables import UNFINISHED
from mulap.files import atomic_path

METADATA_FILE, AUDIO_FOLDER = "metadata.csv", "audio"


@contextmanager
def making_audiofolder(output: Path, own_column: str) -> Iterator[Path]:
    """Mark a folder as unfinished for as long as it is, also after a kill.

    Args:
        output: a new or empty folder, or one that this command made or began before.
        own_column: of metadata.csv, by which an earlier result is known.

    Yields:
        The folder for the audio files.

    Raises:
        ValueError: there is something else in it.
    """
    mark = output / UNFINISHED
    if not mark.exists():
        _check_ours(output, own_column)
    audio = output / AUDIO_FOLDER
    audio.mkdir(parents=True, exist_ok=True)
    mark.touch()
    yield audio
    mark.unlink()


def write_metadata(output: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write metadata.csv in one step; the first row's names are its columns."""
    with (
        atomic_path(output / METADATA_FILE) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as out,
    ):
        writer = csv.DictWriter(out, fieldnames=list(rows[0]) if rows else ["file_name", "caption"])
        writer.writeheader()
        writer.writerows(rows)


def _check_ours(output: Path, own_column: str) -> None:
    metadata = output / METADATA_FILE
    if metadata.is_file():
        with open(metadata, newline="", encoding="utf-8", errors="replace") as file:
            if own_column in next(csv.reader(file), []):
                return
        raise ValueError(f"{metadata}: was not made by this command; choose another folder")
    audio = output / AUDIO_FOLDER
    if audio.exists() and (not audio.is_dir() or any(audio.iterdir())):
        raise ValueError(
            f"{audio}: holds files that this command did not make; choose another folder"
        )
