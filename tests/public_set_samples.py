"""Public sets in their official layouts, with a few rows and tones, all made up here.

Each function writes a set into a folder and returns what --audio and --metadata take.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import soundfile as sf
from tiny import RATE, tone

JAMENDO_HEADER = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]
# id, artist, path, split, tags; the last is in no split
JAMENDO = (
    (1, 1, "01/1", "train", ["genre---hiphop", "genre---jazz", "instrument---acousticguitar"]),
    (102, 1, "02/102", "train", ["genre---orchestral", "mood/theme---film", "mood/theme---dream"]),
    (203, 2, "03/203", "validation", ["instrument---voice", "mood/theme---slow", "genre---80s"]),
    (304, 3, "04/304", "test", ["genre---rock", "instrument---organ", "mood/theme---happy"]),
    (305, 3, "05/305", "", ["genre---rock"]),
)


def write_audio(path: Path, index: int, seconds: float) -> None:
    """Write a tone; an mp3 as the sets have them, else as the name's ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, tone(index, seconds), RATE)


def write_rows(path: Path, rows: Sequence[Sequence[object]], delimiter: str = ",") -> None:
    """Write a table as Python's csv does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")


def write_mtg_jamendo(folder: Path, seconds: float = 14.0) -> tuple[Path, Path]:
    """Five tracks of three artists; every second one is of the smaller version."""
    audio, data = folder / "mtg" / "audio", folder / "mtg" / "repository" / "data"
    lines = {
        name: [
            f"track_{each:07}\tartist_{artist:06}\talbum_000001\t{stem}.mp3\t{seconds}\t"
            + "\t".join(tags)
            for each, artist, stem, split, tags in JAMENDO
            if name in ("", split)
        ]
        for name in ("", "train", "validation", "test")
    }
    for name, own in lines.items():
        place = f"splits/split-0/autotagging-{name}.tsv" if name else "autotagging.tsv"
        (data / place).parent.mkdir(parents=True, exist_ok=True)
        (data / place).write_text("\n".join(["\t".join(JAMENDO_HEADER), *own]) + "\n")
    for index, (_, _, stem, *_) in enumerate(JAMENDO):
        write_audio(audio / f"{stem}{'.low' if index % 2 else ''}.mp3", index, seconds)
    head = "TRACK_ID\tARTIST_ID\tALBUM_ID\tTRACK_NAME\tARTIST_NAME\tALBUM_NAME\tRELEASEDATE\tURL\n"
    (data / "raw.meta.tsv").write_text(
        head
        + 'track_0000001\tartist_000001\talbum_000001\tThe "Owl\tAnn Bee\tNight\t2010-02-03\tu\n'
        + "track_0000304\tartist_000003\talbum_000001\tOdd\t\tCee\tDay\t2011-02-03\tu\n"
    )
    (data.parent / "audio_licenses.txt").write_text(
        "01/1.mp3\nThe Owl by Ann Bee from Jamendo: http://example.org/track/1\n"
        "Available under a Creative Commons Attribution license: http://example.org/by/3.0/\n\n"
    )
    return audio, data


FMA_COLUMNS = (
    "album,date_released", "album,title", "artist,bio", "artist,id", "artist,name", "set,split",
    "set,subset", "track,genre_top", "track,genres", "track,license", "track,tags", "track,title",
)  # fmt: skip
# id, then the cells of FMA_COLUMNS
FMA = (
    (2, "2009-01-05 00:00:00", "A Way", "Two\nlines, and more", 1, "AWOL", "training", "small",
     "Hip-Hop", "[21]", "Attribution-NonCommercial 3.0", "[]", "Food"),
    (5, "", "", "", 2, "Kurt", "validation", "medium", "", "[10, 76]",
     "Attribution", "['lo-fi', 'home']", ""),
    (1003, "", "Live", "", 3, "Bo", "test", "small", "Instrumental", "[18, 9]", "", "[]", "Up"),
    (2004, "", "", "", 4, "Di", "training", "large", "Rock", "[12]", "CC0", "[]", "Far"),
)  # fmt: skip


def write_fma(folder: Path, seconds: float = 8.0) -> tuple[Path, Path]:
    """Four tracks: two of the small set, one more of the medium, one more of the large."""
    audio, metadata = folder / "fma" / "fma_medium", folder / "fma" / "fma_metadata"
    head = [["", *(name.partition(",")[2 * part] for name in FMA_COLUMNS)] for part in (0, 1)]
    index = ["track_id", *("" for _ in FMA_COLUMNS)]
    write_rows(metadata / "tracks.csv", [*head, index, *FMA])
    titles = {21: "Hip-Hop", 10: "Pop", 76: "Experimental Pop", 18: "Instrumental", 12: "Rock",
              9: "Country & Western"}  # fmt: skip
    rows = [[each, 1, 0, title, each] for each, title in titles.items()]
    write_rows(
        metadata / "genres.csv", [["genre_id", "#tracks", "parent", "title", "top_level"], *rows]
    )
    for number, *_ in FMA[:3]:
        write_audio(audio / f"{number:06}"[:3] / f"{number:06}.mp3", number, seconds)
    return audio, metadata


MUSICCAPS_HEADER = (
    "ytid start_s end_s audioset_positive_labels aspect_list caption author_id is_balanced_subset "
    "is_audioset_eval"
).split()
# ytid, start, name of the file, its length, aspects, caption, whether in AudioSet's evaluation part
MUSICCAPS = (
    ("-ab_defghij", 30, "-ab_defghij.wav", 10, "['jazz', \"a singer's voice\"]", "Jazz. Slow.", 1),
    ("Ybcdefghijk", 30, "[Ybcdefghijk]-[30-40].flac", 10, "['rock']", "Rock, with drums.", 1),
    ("c0-defghijk", 20, "c0-defghijk_20000_30000.mp3", 10, "['pop', 'a choir']", "A pop tune.", 0),
    ("d0-defghijk", 10, "Yd0-defghijk.ogg", 24, "['harp']", "A harp plays.", 0),
    ("e0-defghijk", 0, "Some [other] video [e0-defghijk].wav", 10, "['organ']", "An organ.", 0),
    ("f0-defghijk", 0, "", 0, "['gone']", "Not there.", 1),
)


def write_musiccaps(folder: Path) -> tuple[Path, Path]:
    """Six clips: one is a whole video, one has no file."""
    audio, table = folder / "musiccaps" / "clips", folder / "musiccaps" / "musiccaps-public.csv"
    rows = [
        (ytid, start, start + 10, "/m/04rlf", aspects, caption, 4, False, bool(is_eval))
        for ytid, start, _, _, aspects, caption, is_eval in MUSICCAPS
    ]
    write_rows(table, [MUSICCAPS_HEADER, *rows])
    for index, (_, _, name, seconds, *_) in enumerate(MUSICCAPS):
        if name:
            write_audio(audio / name, index, seconds)
    return audio, table


SONG_DESCRIBER_HEADER = (
    "caption_id track_id caption is_valid_subset familiarity artist_id album_id path duration"
).split()
SONG_DESCRIBER = (
    (11, 1004034, "An electronic tune, with echo", "True", 368880, "34/1004034.mp3"),
    (12, 1004034, "Slow synthesizer music", "True", 368880, "34/1004034.mp3"),
    (13, 1004034, "music", "False", 368880, "34/1004034.mp3"),
    (14, 1007274, "Solo acoustic guitar", "True", 429137, "74/1007274.mp3"),
    (15, 1009, "a song", "", 429139, "09/1009.mp3"),
    (16, 1010, "Slow synthesizer music", "True", 429140, "10/1010.mp3"),
)


def write_song_describer(folder: Path, seconds: float = 12.0) -> tuple[Path, Path]:
    """Six captions of four tracks, one of which has none that is validated."""
    base = folder / "song_describer"
    rows = [
        (caption_id, track, text, is_valid, 2, artist, 1, path, 200.5)
        for caption_id, track, text, is_valid, artist, path in SONG_DESCRIBER
    ]
    write_rows(base / "song_describer.csv", [SONG_DESCRIBER_HEADER, *rows])
    paths = dict.fromkeys(path for *_, path in SONG_DESCRIBER)
    for index, path in enumerate(paths):
        name = path if index == 1 else path.replace(".mp3", ".2min.mp3")
        write_audio(base / "audio" / "audio" / name, index, seconds)
    return base / "audio", base / "song_describer.csv"
