"""A training corpus out of a folder of tagged music: an audiofolder with captions from the tags.

Titles, artists, genres and comments are weak text, but they are what a folder of music has. The
files themselves are linked (or copied) under OUT/audio, since an audiofolder's `file_name` is
relative to its metadata file and tools refuse what lies outside; links keep a large collection
from being stored twice. With `clip_seconds` the tracks are cut and written as FLAC instead, so
that a few long tracks make many clips.

What it cannot know: whether a tag is true, or two spellings mean one artist.
"""

import csv
import re
import shutil
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from mulap.audio import SAMPLING_RATE, AudioError, find_audio, load_audio, probe_audio
from mulap.files import FailureLog, atomic_path

GROUP_CHOICES = ("artist", "album", "folder", "track")
TAG_COLUMNS = ("title", "artist", "album", "genre", "date", "comment", "composer", "license")
SHORTEST_CLIP_SECONDS = 3.0  # one segment of the model
_SILENT_PEAK = 1e-4
_LONGEST_COMMENT_WORDS = 25
# Tags that say nothing, and comments that programs or sellers leave.
_EMPTY_TAG = re.compile(
    r"^\W*(unknown( (artist|album|title|genre))?|untitled|none|n/?a|other|various( artists)?|\d*)"
    r"\W*$",
    re.I,
)
_NO_COMMENT = re.compile(
    r"https?:|www\.|encod|ripped|copyright|licen[cs]e|\(c\)|©|exact audio copy|lavf|libvorbis", re.I
)
_NUMBERED = re.compile(r"^(track|title|song|piste|spur|audio|untitled)?[\s#.-]*\d*$", re.I)

# What a sentence needs, and its wordings; "an" is put right afterwards.
_TEMPLATES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("title", "artist"), "{title} by {artist}"),
    (("title", "artist"), "{artist}: {title}"),
    (("title", "artist", "genre"), "{title}, {genre} by {artist}"),
    (("title", "artist", "year"), "{title} by {artist}, from {year}"),
    (("title", "genre"), "a {genre} piece called {title}"),
    (("title", "genre"), "{title}, {genre}"),
    (("title", "genre", "year"), "{title}, {genre} from {year}"),
    (("title", "album"), "{title} from {album}"),
    (("genre", "artist"), "{genre} by {artist}"),
    (("genre", "album"), "{genre} from the album {album}"),
    (("title", "composer"), "{title}, composed by {composer}"),
    (("title", "year"), "{title}, made in {year}"),
    (("comment",), "{comment}"),
    (("title", "comment"), "{title}: {comment}"),
)
# Where nothing richer can be said.
_POOR_TEMPLATES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("title",), "a track called {title}"),
    (("title",), "{title}"),
    (("artist",), "a piece by {artist}"),
    (("genre",), "a {genre} piece"),
    (("album",), "a track from {album}"),
)


@dataclass(frozen=True)
class CorpusReport:
    """What was made of a folder.

    Attributes:
        output: the audiofolder.
        num_tracks, num_clips, num_captions: used tracks, files under audio/, rows.
        num_poor_tracks: tracks whose text says little ("track 01", or one word from a file name);
            they are used all the same.
        num_groups: groups that the split keeps together.
        failures: (file, reason) of the tracks and clips that were left out.
        num_by_tag: tag -> in how many used tracks it says something.
        elapsed_seconds: of the whole run.
    """

    output: Path
    num_tracks: int = 0
    num_clips: int = 0
    num_captions: int = 0
    num_poor_tracks: int = 0
    num_groups: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    num_by_tag: dict[str, int] = field(default_factory=dict)
    elapsed_seconds: float = 0.0


@dataclass(frozen=True)
class CorpusOptions:
    """How to make a corpus.

    Attributes:
        clip_seconds: cut tracks into clips of this length; None links whole tracks.
        max_clips_per_track: at most so many, spread evenly over the track; None means all.
        captions_per_clip: differing captions of each clip, one row each, where the tags allow.
        group_by: what the split must not tear apart: artist, album, folder or track. Where a track
            has no such tag, its folder.
        copy: copy the files instead of linking to them.
        seed: of the choice of wordings.
    """

    clip_seconds: float | None = None
    max_clips_per_track: int | None = None
    captions_per_clip: int = 2
    group_by: str = "artist"
    copy: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.group_by not in GROUP_CHOICES:
            choices = ", ".join(GROUP_CHOICES)
            raise ValueError(f"group_by {self.group_by!r}: must be one of {choices}")
        if self.clip_seconds is not None and self.clip_seconds < SHORTEST_CLIP_SECONDS:
            raise ValueError(
                f"clip_seconds {self.clip_seconds:g}: must be at least {SHORTEST_CLIP_SECONDS:g}"
            )
        if self.captions_per_clip < 1 or (self.max_clips_per_track or 1) < 1:
            raise ValueError("captions_per_clip and max_clips_per_track must be at least 1")


def describe_tags(tags: Mapping[str, str], file_name: str) -> dict[str, str]:
    """Return what tags and file name say, cleaned: title, artist, album, genre, year, comment ...

    Args:
        tags: keys in lower case.
        file_name: without folders; it gives the title where there is no such tag.
    """
    text = {key: " ".join(value.split()) for key, value in tags.items()}
    said = {
        key: text[key]
        for key in ("title", "artist", "album", "composer")
        if text.get(key) and not _EMPTY_TAG.match(text[key])
    }
    genre = re.sub(r"^\(\d+\)", "", text.get("genre", "")).strip()
    if not _EMPTY_TAG.match(genre) and len(genre.split()) <= 4:
        said["genre"] = genre if genre.isupper() else genre.lower()
    if year := re.search(r"\b(1[5-9]|20)\d\d\b", text.get("date", "") or text.get("year", "")):
        said["year"] = year[0]
    comment = text.get("comment", "") or text.get("description", "")
    if comment and not _NO_COMMENT.search(comment) and len(comment.split()) >= 3:
        said["comment"] = " ".join(comment.split()[:_LONGEST_COMMENT_WORDS])
    if "title" not in said:
        words = re.sub(r"[\W_]+", " ", Path(file_name).stem)
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", words)
        words = re.sub(r"^\d+\s+(?=\D)", "", words).strip()
        if not _EMPTY_TAG.match(words):
            said["title"] = words
    return said


def is_poor(said: Mapping[str, str], has_title_tag: bool) -> bool:
    """Say whether the text is too little to learn much from: only a number or one file word."""
    if set(said) - {"title", "year"}:
        return False
    title = said.get("title", "")
    return bool(_NUMBERED.match(title)) or (not has_title_tag and len(title.split()) < 2)


def caption_from_tags(
    tags: Mapping[str, str], file_name: str, seed: int = 0, num_captions: int = 1
) -> list[str]:
    """Write captions from tags: a pure function of its arguments.

    Args:
        tags: as `probe_audio` gives them, keys in lower case.
        file_name: the last resort for a title.
        seed: of the choice of wordings; the file name counts too, so tracks differ.
        num_captions: how many differing ones are wanted.

    Returns:
        At most `num_captions` captions, none twice; none at all if nothing is known.
    """
    said = describe_tags(tags, file_name)
    rng = np.random.default_rng([seed, zlib.crc32(file_name.encode())])
    captions: list[str] = []
    for templates in (_TEMPLATES, _POOR_TEMPLATES):
        fitting = [text for needs, text in templates if set(needs) <= set(said)]
        for index in rng.permutation(len(fitting)):
            caption = fitting[index].format(**said)
            caption = re.sub(r"^a (?=[aeio])", "an ", caption)
            if caption not in captions:
                captions.append(caption)
    return captions[:num_captions]


def make_corpus(
    source: Path,
    output: Path,
    options: CorpusOptions | None = None,
    on_track: Callable[[int, int], None] | None = None,
) -> CorpusReport:
    """Make an audiofolder out of a folder of music files.

    A file that cannot be read, is too short or says nothing of itself is left out, and listed
    with its reason in OUT/failures.jsonl.

    Args:
        source: a folder, searched through, or one file.
        output: the audiofolder; must not lie inside `source`.
        options: see `CorpusOptions`.
        on_track: called with (tracks done, all tracks), for a progress bar.

    Raises:
        ValueError: if there is no music, or `output` lies inside `source`.
    """
    began = time.monotonic()
    options = options or CorpusOptions()
    if output.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{output}: lies inside {source} (choose a folder outside it)")
    files = find_audio([source])
    if not files:
        raise ValueError(f"{source}: no audio files found (give a folder that holds music)")
    log = FailureLog(output / "failures.jsonl")
    (output / "audio").mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, str]] = []
    num_poor, num_by_tag = 0, Counter[str]()
    for number, path in enumerate(files, start=1):
        track = _read_track(path, source, log)
        if track:
            new = list(_make_rows(track, output, options, log))
            num_poor += bool(new) and is_poor(track.said, "title" in track.tags)
            num_by_tag.update(list(track.said) if new else ())
            rows += new
        if on_track:
            on_track(number, len(files))
    _write_rows(output / "metadata.csv", rows)
    log.write()
    return CorpusReport(
        output,
        num_tracks=len({row["source_file"] for row in rows}),
        num_clips=len({row["file_name"] for row in rows}),
        num_captions=len(rows),
        num_poor_tracks=num_poor,
        num_groups=len({row["group"] for row in rows}),
        failures=log.failures,
        num_by_tag=dict(num_by_tag),
        elapsed_seconds=time.monotonic() - began,
    )


@dataclass(frozen=True)
class _Track:
    path: Path
    name: Path  # relative to the source folder
    duration_seconds: float
    tags: dict[str, str]
    said: dict[str, str]


def _read_track(path: Path, source: Path, log: FailureLog) -> _Track | None:
    """Probe a file; None, and a line in the log, where it cannot be used."""
    name = path.relative_to(source) if path.is_relative_to(source) else Path(path.name)
    name = name if name.name else Path(path.name)  # the source may be this very file
    try:
        info = probe_audio(path)
    except AudioError as error:
        log.add(path, error.reason)
        return None
    said = describe_tags(info.tags, path.name)
    if info.duration_seconds < SHORTEST_CLIP_SECONDS:
        log.add(path, f"shorter than {SHORTEST_CLIP_SECONDS:g} s")
    elif not caption_from_tags(info.tags, path.name):
        log.add(path, "no usable text: no tags, and a file name without words")
    else:
        return _Track(path, name, info.duration_seconds, info.tags, said)
    return None


def _make_rows(
    track: _Track, output: Path, options: CorpusOptions, log: FailureLog
) -> Iterator[dict[str, str]]:
    """Put a track's files under audio/ and give one row for each caption of each of them."""
    names = (
        [_place_track(track, output, options.copy)]
        if options.clip_seconds is None
        else _cut_track(track, output, options, log)
    )
    group = track.said.get(options.group_by, "") if options.group_by != "track" else str(track.name)
    for number, (file_name, start_seconds) in enumerate(names):
        captions = caption_from_tags(
            track.tags, track.path.name, options.seed + number, options.captions_per_clip
        )
        for caption in captions:
            yield {
                "file_name": file_name,
                "caption": caption,
                "track_id": file_name.removeprefix("audio/"),
                "group": group or track.path.parent.name,
                "source_file": track.name.as_posix(),
                "start_seconds": f"{start_seconds:g}",
                **{f"tag_{tag}": track.tags.get(tag, "") for tag in TAG_COLUMNS},
            }


def _place_track(track: _Track, output: Path, copy: bool) -> tuple[str, float]:
    target = output / "audio" / track.name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if copy:
        shutil.copyfile(track.path, target)
    else:
        target.symlink_to(track.path.resolve())
    return target.relative_to(output).as_posix(), 0.0


def _cut_track(
    track: _Track, output: Path, options: CorpusOptions, log: FailureLog
) -> list[tuple[str, float]]:
    """Write clips as FLAC; a track shorter than one clip gives one, a silent clip is left out."""
    assert options.clip_seconds is not None
    num_clips = max(1, int(track.duration_seconds // options.clip_seconds))
    wanted = min(num_clips, options.max_clips_per_track or num_clips)
    indices = np.unique(np.linspace(0, num_clips - 1, wanted).round().astype(int))
    written = []
    for index in indices:
        start_seconds = float(index * options.clip_seconds)
        target = output / "audio" / track.name.parent / f"{track.name.name}-{index:03d}.flac"
        try:
            samples = load_audio(track.path, start_seconds, options.clip_seconds)
        except AudioError as error:
            log.add(f"{track.path} at {start_seconds:g} s", error.reason)
            continue
        if np.abs(samples).max() < _SILENT_PEAK:
            log.add(f"{track.path} at {start_seconds:g} s", "silent")
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as temporary:
            soundfile.write(temporary, samples, SAMPLING_RATE, subtype="PCM_16")
        written.append((target.relative_to(output).as_posix(), start_seconds))
    return written


def _write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, fieldnames=list(rows[0]) if rows else ["file_name", "caption"])
        writer.writeheader()
        writer.writerows(rows)
