"""Music files -> clips in an audiofolder.

An audiofolder is never written over files of other origin, and is marked while it is unfinished:

    OUTPUT/.unfinished     from before the first file until after the last: as long as this is
           audio/          there, `read_manifest` refuses the folder
           metadata.csv    put there whole

A folder is ours if it is empty, if its metadata.csv has a column that only this command writes, or
if an earlier run of this command left its mark in it. Any other folder is refused.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile

from mulap.audio import (
    SAMPLING_RATE,
    AudioError,
    AudioInfo,
    find_audio,
    load_audio,
    no_audio,
    probe_audio,
    stream_audio,
)
from mulap.data.row_files import UNFINISHED
from mulap.files import AnyPath, FailureLog, atomic_path

METADATA_FILE, AUDIO_FOLDER = "metadata.csv", "audio"
SHORTEST_CLIP_SECONDS = 3.0  # one segment of the models
SILENT = "silent"
_SILENT_PEAK = 1e-3


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


def write_metadata(output: AnyPath, rows: Iterable[Mapping[str, object]], own_column: str) -> None:
    """Write metadata.csv in one step; the first row's names are its columns."""
    rows = iter(rows)
    first = next(rows, None)
    columns = ["file_name", "caption", own_column] if first is None else list(first)
    with (
        atomic_path(Path(output) / METADATA_FILE) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as out,
    ):
        writer = csv.DictWriter(out, fieldnames=columns)
        writer.writeheader()
        writer.writerows(chain([] if first is None else [first], rows))


def find_music(
    source: AnyPath, output: AnyPath, log: FailureLog
) -> tuple[list[Path], dict[str, int]]:
    """Find the music files of a folder.

    Args:
        source: the folder, searched through, or one file.
        output: where an audiofolder of them is to be.
        log: takes the folders that cannot be listed.

    Returns:
        The files, and by ending how many other files there are.

    Raises:
        ValueError: there are none, or one of the two folders lies inside the other.
    """
    check_apart(source, output)
    left_aside = Counter[str]()
    files = find_audio([source], log.failures, left_aside)
    if not files:
        raise no_audio([source], log.failures, left_aside)
    return files, dict(left_aside.most_common())


def check_apart(source: AnyPath, output: AnyPath) -> None:
    """Refuse to write where the music is: its files would be taken for old ones of ours."""
    music, audio = Path(source).resolve(), (Path(output) / AUDIO_FOLDER).resolve()
    if Path(output).resolve().is_relative_to(music):
        raise ValueError(f"{output}: lies inside {source}. Choose a folder outside it.")
    if music.is_relative_to(audio):
        raise ValueError(f"{source}: {output} writes its own files there. Choose another OUTPUT.")


def name_within(source: Path, path: Path) -> Path:
    """Return a music file's path inside its source, which may be the file itself."""
    name = path.relative_to(source) if path.is_relative_to(source) else Path(path.name)
    return name if name.name else Path(path.name)


def probe_track(path: Path) -> AudioInfo | str:
    """Return what a file's headers say, or the reason why no clip can be made of it."""
    try:
        str(path).encode()
        info = probe_audio(path)
    except UnicodeEncodeError:
        return "its name is not UTF-8. Rename it."
    except AudioError as error:
        return error.reason
    is_short = info.duration_seconds < SHORTEST_CLIP_SECONDS
    return f"shorter than {SHORTEST_CLIP_SECONDS:g} s. Leave it out." if is_short else info


def name_clips(
    track_id: str, duration_seconds: float, clip_seconds: float, max_clips: int | None
) -> dict[float, str]:
    """Return a track's clips: where each begins, in seconds, and its name in the audiofolder."""
    starts = clip_starts(duration_seconds, clip_seconds, max_clips)
    numbers = ((start, round(start / clip_seconds)) for start in starts)
    return {start: f"{AUDIO_FOLDER}/{track_id}-{number:03d}.flac" for start, number in numbers}


def clip_starts(duration_seconds: float, clip_seconds: float, max_clips: int | None) -> list[float]:
    """Return where a track's clips begin, in seconds: evenly spread, none over another.

    A track that is shorter than one clip has one.
    """
    num_clips = max(1, int(duration_seconds // clip_seconds))
    places = np.linspace(0, num_clips - 1, min(num_clips, max_clips or num_clips)).round()
    return [float(place * clip_seconds) for place in np.unique(places)]


def read_clips(
    path: Path, starts: Sequence[float], seconds: float
) -> Iterator[tuple[float, np.ndarray | AudioError]]:
    """Read clips of a track, each or why it cannot be read.

    Args:
        path: the track.
        starts: where they begin, in seconds; several must be multiples of `seconds`.
        seconds: their length; one that reaches the track's end may be shorter.

    Yields:
        Each start with mono samples at 16 kHz, float32 (num_samples,), or the reason.
    """
    if path.suffix.lower() != ".opus" or len(starts) < 2:
        for start in starts:
            try:
                yield start, load_audio(path, start, seconds)
            except AudioError as error:
                yield start, error
        return
    # Any part of such a file is decoded from the file's beginning: it is read through once.
    wanted = {round(start / seconds): start for start in starts}
    problem = AudioError(path, "ends earlier than its header says. Replace the file.")
    try:
        for number, samples in enumerate(stream_audio(path, block_seconds=seconds)):
            if number in wanted:
                yield wanted.pop(number), samples
    except AudioError as error:
        problem = error
    yield from ((start, problem) for start in wanted.values())


def cut_clips(
    path: Path, clips: Mapping[float, str], seconds: float, output: Path
) -> Iterator[tuple[float, np.ndarray | str]]:
    """Write clips of a track, none that is silent.

    Args:
        path: the track.
        clips: where each begins, in seconds, and its name in the audiofolder; see `read_clips`.
        seconds: their length.
        output: the audiofolder.

    Yields:
        Each start with the samples, or with the reason why there is no clip: `SILENT`, or what
        cannot be read.
    """
    for start, samples in read_clips(path, list(clips), seconds):
        if isinstance(samples, AudioError):
            yield start, samples.reason
        elif np.abs(samples).max() < _SILENT_PEAK:
            yield start, SILENT
        else:
            write_clip(output / clips[start], samples)
            yield start, samples


def write_clip(path: AnyPath, samples: np.ndarray, sampling_rate: int = SAMPLING_RATE) -> None:
    """Write samples (num_samples,) or (num_samples, 2) as FLAC, in one step."""
    with atomic_path(path) as temporary:
        soundfile.write(temporary, samples, sampling_rate, subtype="PCM_16")


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
