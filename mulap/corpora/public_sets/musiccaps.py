"""MusicCaps: 5,521 clips of 10 seconds of AudioSet, each with a caption and a list of aspects.

After the data card of google/MusicCaps. The set is one table, musiccaps-public.csv: ytid, start_s,
end_s, audioset_positive_labels, aspect_list, caption, author_id, is_balanced_subset and
is_audioset_eval. Its audio is for the reader to find; files may be named as public downloaders do:

    YTID.wav                    nateraw/download-musiccaps-dataset: the clip, or the whole video
    [YTID]-[30-40].wav          keunwoochoi/audioset-downloader, and those made after it
    YTID_30_40.wav, YTID_30-40.wav, YTID_30.wav     downloaders of AudioSet; also with milliseconds,
                                and with a Y before YTID
    Title [YTID].wav            yt-dlp itself
"""

import re
from collections.abc import Mapping
from pathlib import Path

from mulap.audio import find_audio
from mulap.corpora.described.tracks import Track
from mulap.corpora.public_sets.corpus import Failures, SetTrack, find_table, read_rows
from mulap.data.cells import read_list, read_number, read_text

COLUMNS = ("ytid", "start_s", "end_s", "aspect_list", "caption", "is_audioset_eval")
FACTS = ("audioset_positive_labels", "author_id", "is_balanced_subset", "is_audioset_eval")
LICENCE = "captions CC BY-SA 4.0; audio as on YouTube"

_NAME = re.compile(
    r"(?:.* \[|\[)?Y?(?P<id>[\w-]{11})\]?"
    r"(?:[-_]\[?(?P<start>\d+(?:\.\d+)?)(?:[-_]\d+(?:\.\d+)?)?\]?)?"
)


def read(
    audio: Path, metadata: Path, is_all_test: bool = False, has_aspects: bool = True
) -> tuple[list[SetTrack], Failures]:
    """Read the clips: AudioSet's evaluation part is the split test, the others are train.

    Args:
        audio: a folder of clips or videos, searched through.
        metadata: musiccaps-public.csv, or its folder.
        is_all_test: put all clips in the split test.
        has_aspects: take the list of aspects as a caption, too.

    Returns:
        The clips, and rows that cannot be read.

    Raises:
        ValueError: the table is missing or lacks a column.
    """
    path = find_table(metadata, "musiccaps-public.csv")
    failures: Failures = []
    rows = read_rows(path, COLUMNS, failures)
    files = _find_files(audio, failures)
    tracks: dict[str, SetTrack] = {}
    seen = set[tuple[str, float]]()
    for where, cells in rows:
        ytid = read_text(cells.get("ytid"))
        start, end = read_number(cells.get("start_s")), read_number(cells.get("end_s"))
        texts = _texts(cells, has_aspects)
        if not ytid or start is None or end is None or start >= end:
            failures.append((where, "has no ytid, start_s and end_s of a clip."))
            continue
        if not texts or (ytid, start) in seen:
            failures.append((where, "is there twice." if texts else "has no caption."))
            continue
        seen.add((ytid, start))
        track_id = ytid if ytid not in tracks else f"{ytid}_{start:g}"
        is_test = is_all_test or read_text(cells.get("is_audioset_eval")).lower() in ("true", "1")
        found, is_excerpt = _choose(files.get(ytid, {}), start)
        track = Track(
            found or audio / f"{ytid}.wav",
            track_id,
            group=ytid,
            split="test" if is_test else "train",
            source="musiccaps",
            licence=LICENCE,
            attribution=f"YouTube, {ytid}, {start:g} s to {end:g} s",
            texts=texts,
            facts={"musiccaps_id": ytid, **{name: read_text(cells.get(name)) for name in FACTS}},
            excerpt=None if is_excerpt else (start, end),
        )
        tracks[track_id] = SetTrack(track)
    return list(tracks.values()), failures


def _texts(cells: Mapping[str, object], has_aspects: bool) -> tuple[tuple[str, str], ...]:
    """Return the caption and the aspects, each as one text after its source."""
    aspects = (read_list(cells.get("aspect_list")) or []) if has_aspects else []
    texts = (("human", read_text(cells.get("caption"))), ("aspects", ", ".join(map(str, aspects))))
    return tuple((source, text) for source, text in texts if text)


def _find_files(audio: Path, failures: Failures) -> dict[str, dict[float | None, Path]]:
    """Return the files of a folder by ytid, and of each by where its clip starts, if it says so."""
    files: dict[str, dict[float | None, Path]] = {}
    for path in find_audio([audio], failures):
        if found := _NAME.fullmatch(path.stem):
            start = float(found["start"]) if found["start"] else None
            files.setdefault(found["id"], {}).setdefault(start, path)
    return files


def _choose(files: Mapping[float | None, Path], start: float) -> tuple[Path | None, bool]:
    """Return the file of a clip, and whether its name says that it is this clip and no more."""
    for named in (start, 1000 * start):
        if named in files:
            return files[named], True
    return files.get(None), False
