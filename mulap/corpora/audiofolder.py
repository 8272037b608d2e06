"""Write an audiofolder: never overwrite files of other origin, and mark an unfinished folder.

    OUTPUT/.unfinished     from before the first file until after the last: as long as this is
           audio/          there, `read_manifest` refuses the folder
           metadata.csv    put there whole

A folder is ours if it is empty, if its metadata.csv has a column that only this command writes, or
if an earlier run of this command left its mark in it. Any other folder is refused.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mulap.data.row_files import UNFINISHED
from mulap.files import AnyPath, atomic_path

METADATA_FILE, AUDIO_FOLDER = "metadata.csv", "audio"


@contextmanager
def making_audiofolder(output: AnyPath, own_column: str) -> Iterator[Path]:
    """Mark a folder as unfinished for as long as it is, also after a kill; yield that of the audio.

    The folder is new, empty, or one that this command made or began before: it is known by
    `own_column` of its metadata.csv. ValueError if there is something else in it.
    """
    output = Path(output)
    mark = output / UNFINISHED
    _check_ours(output, mark, own_column)
    audio = output / AUDIO_FOLDER
    audio.mkdir(parents=True, exist_ok=True)
    mark.write_text(own_column, encoding="utf-8")
    yield audio
    mark.unlink()


def write_metadata(output: AnyPath, rows: Sequence[Mapping[str, object]], own_column: str) -> None:
    """Write metadata.csv in one step; the first row's names are its columns."""
    columns = list(rows[0]) if rows else ["file_name", "caption", own_column]
    with (
        atomic_path(Path(output) / METADATA_FILE) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as out,
    ):
        writer = csv.DictWriter(out, fieldnames=columns)
        writer.writeheader()
        writer.writerows(rows)


def _check_ours(output: Path, mark: Path, own_column: str) -> None:
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    # Version 0.1 left an empty mark. A folder of this name is a mark of `mulap prepare`.
    if mark.is_file() and mark.read_text(encoding="utf-8") in ("", own_column):
        return
    metadata = output / METADATA_FILE
    if metadata.is_file():
        with open(metadata, newline="", encoding="utf-8", errors="replace") as file:
            if own_column in next(csv.reader(file), []):
                return
    what = "holds files that this command did not make" if output.is_dir() else "is a file"
    raise ValueError(f"{output}: {what}. Choose another folder.")
