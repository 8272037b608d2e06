"""Song Describer: 1,106 captions by 142 people for 706 recordings. For evaluation only.

After mulab-mir/song-describer-dataset: README.md (where the files come from), docs/datacard.md
(folders and fields) and scripts/create_dataset.py (which writes the table):

    METADATA                    song_describer.csv: caption_id, track_id, caption, is_valid_subset,
                                familiarity, artist_id, album_id, path, duration; a row a caption
    AUDIO/34/1004034.2min.mp3   the first two minutes of a track; or 34/1004034.mp3, its `path`
    audio_licenses.txt          beside the table, as MTG-Jamendo has it

The recordings are a part of the test set of MTG-Jamendo's split 0.
"""

from pathlib import Path

from mulap.corpora.described.tracks import Track
from mulap.corpora.public_sets.corpus import Failures, SetTrack, find_file, find_table, read_rows
from mulap.corpora.public_sets.mtg_jamendo import read_licences
from mulap.data.cells import read_text

COLUMNS = ("caption_id", "track_id", "caption", "is_valid_subset", "artist_id", "path")


def read(
    audio: Path, metadata: Path, has_unvalidated: bool = False
) -> tuple[list[SetTrack], Failures]:
    """Read recordings with all their captions; all are in the split test.

    Args:
        audio: the unpacked audio.zip.
        metadata: song_describer.csv, or its folder.
        has_unvalidated: take captions too that the authors did not validate.

    Returns:
        The recordings, and rows that cannot be read.

    Raises:
        ValueError: the table is missing or lacks a column.
    """
    path = find_table(metadata, "song_describer.csv")
    failures: Failures = []
    captions: dict[str, dict[str, str]] = {}  # by path in the set: caption -> its id
    first: dict[str, dict[str, str]] = {}
    for where, row in read_rows(path, COLUMNS, failures):
        cells = {name: read_text(row.get(name)) for name in COLUMNS}
        if not (cells["path"] and cells["caption"]):
            failures.append((where, "has no path or no caption."))
        elif has_unvalidated or cells["is_valid_subset"].lower() == "true":
            captions.setdefault(cells["path"], {})[cells["caption"]] = cells["caption_id"]
            first.setdefault(cells["path"], cells)
    licences = read_licences(path.parent)
    tracks = []
    for name, texts in captions.items():
        stem, cells = name.removesuffix(".mp3"), first[name]
        attribution, licence = licences.get(stem, ("", "Creative Commons, see Jamendo"))
        track = Track(
            find_file(audio, [f"{stem}.2min.mp3", name]),
            stem,
            group=f"artist {cells['artist_id']}",
            split="test",
            source="song_describer",
            licence=f"captions CC BY-SA 4.0; audio {licence}",
            attribution=attribution or f"Jamendo, track {cells['track_id']}",
            texts=tuple(("human", text) for text in texts),
            facts={
                "song_describer_id": cells["track_id"],
                "caption_ids": "; ".join(texts.values()),
            },
        )
        tracks.append(SetTrack(track))
    return tracks, failures
