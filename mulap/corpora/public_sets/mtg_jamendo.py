"""MTG-Jamendo: 55,000 full tracks with tags on genre, instruments, mood and theme.

After MTG/mtg-jamendo-dataset: README.md lists the tables, scripts/commons.py reads them, and
scripts/download/download.py writes the audio.

    METADATA/autotagging.tsv        TRACK_ID ARTIST_ID ALBUM_ID PATH DURATION TAGS, and a cell for
                                    each further tag
    METADATA/splits/split-0/autotagging-train.tsv    the same, and -validation, -test
    METADATA/raw.meta.tsv           TRACK_NAME, ARTIST_NAME, ALBUM_NAME, RELEASEDATE
    METADATA/../audio_licenses.txt  three lines a track: path, attribution, licence
    AUDIO/14/214.mp3                or 14/214.low.mp3, of `audio-low`

METADATA is the folder `data` of the repository. Splits are by artist; a track that the tables of
the splits leave out is in the split of its artist, or else in train.
"""

from pathlib import Path

from mulap.corpora.described.tracks import Track
from mulap.corpora.public_sets.corpus import Failures, SetTrack, find_file
from mulap.corpora.public_sets.sentences import texts_of_jamendo, words_of_jamendo
from mulap.data.official_files import read_table
from mulap.data.row_files import read_utf8

TABLES = (
    "autotagging", "autotagging_top50tags", "autotagging_genre", "autotagging_instrument",
    "autotagging_moodtheme", "raw_30s", "raw_30s_cleantags", "raw_30s_cleantags_50artists",
)  # fmt: skip
SPLIT_FILES = {"train": "train", "valid": "validation", "test": "test"}
COLUMNS = ("TRACK_ID", "ARTIST_ID", "PATH", "TAGS")
NAMES = ("TRACK_ID", "TRACK_NAME", "ARTIST_NAME", "ALBUM_NAME", "RELEASEDATE")
LICENCES_FILE = "audio_licenses.txt"
_REMEDY = "Give --metadata the folder `data` of a clone of MTG/mtg-jamendo-dataset."


def read(
    audio: Path, metadata: Path, table: str = "autotagging", split: int = 0
) -> tuple[list[SetTrack], Failures]:
    """Read the tracks of a table.

    Args:
        audio: the folder that MTG's script unpacked the audio to.
        metadata: the folder `data` of MTG's repository, or the repository.
        table: one of `TABLES`.
        split: which of the five official splits, 0 to 4.

    Returns:
        The tracks, and nothing that failed.

    Raises:
        ValueError: a table is missing or of another format.
    """
    data = metadata / "data" if (metadata / "data").is_dir() else metadata
    names = _read_names(data / "raw.meta.tsv")
    licences = read_licences(data.parent) | read_licences(data)
    tracks = []
    for track_id, (row, tags, own_split) in _read_rows(data, table, split).items():
        stem = row["PATH"].removesuffix(".mp3")
        words = words_of_jamendo(tags)
        attribution, licence = licences.get(stem, ("", "Creative Commons, see Jamendo"))
        track = Track(
            find_file(audio, [f"{stem}.mp3", f"{stem}.low.mp3"], ["audio-low"]),
            stem,
            group=row["ARTIST_ID"],
            split=own_split,
            source="mtg_jamendo",
            licence=licence,
            attribution=attribution or f"Jamendo, {track_id}",
            tags={
                **names.get(track_id, {"title": ""}),  # and then not from the file's name either
                "genre": next(iter(words.get("genre", ())), ""),
            },
            texts=texts_of_jamendo(tags),
            facts={"mtg_jamendo_id": track_id, "tags": "; ".join(tags)},
        )
        tracks.append(SetTrack(track, words))
    return tracks, []


def _read_rows(
    data: Path, table: str, number: int
) -> dict[str, tuple[dict[str, str], list[str], str]]:
    """Return by track its cells, its tags and its split."""
    is_split = table.startswith("autotagging")
    rows, split_of_artist = {}, {}
    for split, name in SPLIT_FILES.items():
        of = table if is_split else "autotagging"
        path = data / "splits" / f"split-{number}" / f"{of}-{name}.tsv"
        for _, row, tags in read_table(path, COLUMNS, _REMEDY, is_quoted=False, is_last_open=True):
            rows[row["TRACK_ID"]] = row, tags, split
            split_of_artist[row["ARTIST_ID"]] = split
    path = data / f"{table}.tsv"
    if is_split and not path.is_file():  # such as `mulap download` leaves it
        return rows
    whole = {}
    for _, row, tags in read_table(path, COLUMNS, _REMEDY, is_quoted=False, is_last_open=True):
        *_, split = rows.get(row["TRACK_ID"], (split_of_artist.get(row["ARTIST_ID"], "train"),))
        whole[row["TRACK_ID"]] = row, tags, split
    return whole


def _read_names(path: Path) -> dict[str, dict[str, str]]:
    """Return title, artist, album and date by track; nothing where the table is not there."""
    if not path.is_file():
        return {}
    return {
        row["TRACK_ID"]: {
            "title": row["TRACK_NAME"],
            "artist": row["ARTIST_NAME"],
            "album": row["ALBUM_NAME"],
            "date": row["RELEASEDATE"],
        }
        for _, row, rest in read_table(path, NAMES, _REMEDY, is_quoted=False, is_last_open=True)
        if len(rest) == 1  # two official rows have a tab too many, and names in other columns
    }


def read_licences(folder: Path) -> dict[str, tuple[str, str]]:
    """Return attribution and licence of each track, by its path without the ending.

    The file has blocks of three lines; there is nothing where it is missing.
    """
    path = folder / LICENCES_FILE
    if not path.is_file():
        return {}
    found = {}
    for block in read_utf8(path).replace("\r\n", "\n").split("\n\n"):
        lines = block.strip().split("\n")
        if len(lines) == 3:
            licence = lines[2].removeprefix("Available under ").removeprefix("a ")
            found[lines[0].strip().removesuffix(".mp3")] = lines[1].strip(), licence.strip()
    return found
