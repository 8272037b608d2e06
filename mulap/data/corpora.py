"""A training corpus out of a folder of tagged music: an audiofolder with captions from the tags.

The files themselves are linked (or copied) under OUT/audio, since an audiofolder's `file_name` is
relative to its metadata file and tools refuse what lies outside; links keep a large collection
from being stored twice. With `clip_seconds` the tracks are cut and written as FLAC instead, so
that a few long tracks make many clips. Nothing is written over that an earlier run did not make.

What it cannot know: whether two spellings mean one artist.
"""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from mulap.audio import SAMPLING_RATE, AudioError, find_audio, load_audio, probe_audio
from mulap.data.audiofolder import AUDIO_FOLDER, making_audiofolder, write_metadata
from mulap.data.tags import caption_from_tags, describe_tags, is_poor
from mulap.files import FailureLog, atomic_path

GROUP_CHOICES = ("artist", "album", "folder", "track")
OWN_COLUMN = "source_file"
TAG_COLUMNS = ("title", "artist", "album", "genre", "date", "comment", "composer", "license")
SHORTEST_CLIP_SECONDS = 3.0  # one segment of the model
_SILENT_PEAK = 1e-4


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
        output: the audiofolder, new or made by this before.
        options: see `CorpusOptions`.
        on_track: called with (tracks done, all tracks), for a progress bar.

    Raises:
        ValueError: if there is no music, one of the two folders lies inside the other, or `output`
            holds what this did not make.
    """
    began = time.monotonic()
    options = options or CorpusOptions()
    _check_apart(source, output)
    files = find_audio([source])
    if not files:
        raise ValueError(f"{source}: no audio files found (give a folder that holds music)")
    log = FailureLog(output / "failures.jsonl")
    rows: list[dict[str, str]] = []
    num_poor, num_by_tag = 0, Counter[str]()
    with making_audiofolder(output, OWN_COLUMN):
        for number, path in enumerate(files, start=1):
            track = _read_track(path, source, log)
            if track:
                new = list(_make_rows(track, output, options, log))
                num_poor += bool(new) and is_poor(track.said, "title" in track.tags)
                num_by_tag.update(list(track.said) if new else ())
                rows += new
            if on_track:
                on_track(number, len(files))
        write_metadata(output, rows)
        log.write()
    return CorpusReport(
        output,
        num_tracks=len({row[OWN_COLUMN] for row in rows}),
        num_clips=len({row["file_name"] for row in rows}),
        num_captions=len(rows),
        num_poor_tracks=num_poor,
        num_groups=len({row["group"] for row in rows}),
        failures=log.failures,
        num_by_tag=dict(num_by_tag),
        elapsed_seconds=time.monotonic() - began,
    )


def _check_apart(source: Path, output: Path) -> None:
    """Refuse to write where the music is: its files would be taken for old ones of ours."""
    music, audio = source.resolve(), (output / AUDIO_FOLDER).resolve()
    if output.resolve().is_relative_to(music):
        raise ValueError(f"{output}: lies inside {source} (choose a folder outside it)")
    if music.is_relative_to(audio):
        raise ValueError(f"{source}: is where {output} has its own files (choose another OUTPUT)")


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
        str(path).encode()
    except UnicodeEncodeError:
        log.add(path, "its name is not UTF-8 (rename it)")
        return None
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
                OWN_COLUMN: track.name.as_posix(),
                "start_seconds": f"{start_seconds:g}",
                **{f"tag_{tag}": track.tags.get(tag, "") for tag in TAG_COLUMNS},
            }


def _place_track(track: _Track, output: Path, copy: bool) -> tuple[str, float]:
    target = output / AUDIO_FOLDER / track.name
    target.parent.mkdir(parents=True, exist_ok=True)
    original = track.path.resolve()
    if target.resolve() == original and not target.is_symlink():  # by a link in the music's folder
        raise ValueError(f"{target}: is the track itself (choose another OUTPUT)")
    if copy:
        with atomic_path(target) as temporary:
            shutil.copyfile(original, temporary)
    else:
        target.unlink(missing_ok=True)
        target.symlink_to(original)
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
        target = output / AUDIO_FOLDER / track.name.parent / f"{track.name.name}-{index:03d}.flac"
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
