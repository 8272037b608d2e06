"""Commands that build a corpus out of a public set of the field."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mulap.cli.corpora import (
    Seconds,
    captions_option,
    corpus,
    max_clips_option,
    processes_option,
    seed_option,
)
from mulap.cli.group import UserPath, end_with_failures, join_counts, one_line_errors, say
from mulap.terminal import counted

_output = click.argument("output", type=UserPath())
_audio_option = click.option(
    "--audio",
    required=True,
    type=UserPath(exists=True, file_okay=False),
    help="Folder of the set's audio, unpacked.",
)
_seconds_option = click.option(
    "--clip-seconds",
    type=Seconds(has_all=True),
    default=18.0,
    show_default=True,
    help="Length of a clip; all: whole tracks.",
)


def _cutting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of sets whose tracks are cut and whose captions are written."""
    options = _seconds_option, max_clips_option, captions_option, seed_option, processes_option
    for option in reversed(options):
        command = option(command)
    return command


def _metadata_option(text: str) -> Callable[..., Any]:
    return click.option("--metadata", required=True, type=UserPath(exists=True), help=text)


@corpus.command("mtg_jamendo")
@_output
@_audio_option
@_metadata_option("Folder `data` of MTG's repository: autotagging.tsv, splits/, raw.meta.tsv.")
@click.option(
    "--table",
    type=click.Choice(
        [f"autotagging{part}" for part in ("", "_top50tags", "_genre", "_instrument", "_moodtheme")]
        + [f"raw_30s{part}" for part in ("", "_cleantags", "_cleantags_50artists")]
    ),
    default="autotagging",
    show_default=True,
    help="Table of tracks and tags.",
)
@click.option(
    "--split",
    type=click.IntRange(0, 4),
    default=0,
    show_default=True,
    help="Which of the five official splits.",
)
@_cutting_options
@one_line_errors
def corpus_mtg_jamendo(
    output: Path, audio: Path, metadata: Path, table: str, split: int, **options: Any
) -> None:
    """Build a corpus in OUTPUT from MTG-Jamendo; captions come from its tags and titles.

    Audio files are 00/7400.mp3 or, of the smaller version, 00/7400.low.mp3. The set's own script
    downloads them. See docs/public-sets.md. Run it again to resume.
    """
    from mulap.corpora.public_sets.mtg_jamendo import read

    _make(output, audio, read(audio, metadata, table, split), **options)


@corpus.command("fma")
@_output
@_audio_option
@_metadata_option("Folder fma_metadata: tracks.csv and genres.csv.")
@click.option(
    "--subset",
    type=click.Choice(["small", "medium", "large", "full"]),
    default="small",
    show_default=True,
    help="Size; full has the tracks of large, uncut.",
)
@_cutting_options
@one_line_errors
def corpus_fma(output: Path, audio: Path, metadata: Path, subset: str, **options: Any) -> None:
    """Build a corpus in OUTPUT from FMA; captions come from its genres, tags and titles.

    Audio files are 000/000002.mp3. See docs/public-sets.md. Run it again to resume.
    """
    from mulap.corpora.public_sets.fma import read

    _make(output, audio, read(audio, metadata, subset), **options)


@corpus.command("musiccaps")
@_output
@_audio_option
@_metadata_option("musiccaps-public.csv, or its folder.")
@click.option("--all-test", is_flag=True, help="Put all clips in the split test.")
@click.option("--no-aspects", is_flag=True, help="Leave out the lists of aspects.")
@processes_option
@one_line_errors
def corpus_musiccaps(
    output: Path, audio: Path, metadata: Path, all_test: bool, no_aspects: bool, processes: int
) -> None:
    """Build a corpus in OUTPUT from MusicCaps, with the captions that musicians wrote.

    You supply the audio: YTID.wav, [YTID]-[30-40].wav, YTID_30_40.wav or the like, in any format.
    Clips of AudioSet's evaluation part are test, others train. See docs/public-sets.md.
    """
    from mulap.corpora.public_sets.musiccaps import read

    _make(output, audio, read(audio, metadata, all_test, not no_aspects), processes)


@corpus.command("song_describer")
@_output
@_audio_option
@_metadata_option("song_describer.csv, or its folder.")
@click.option("--unvalidated", is_flag=True, help="Take captions too that nobody validated.")
@processes_option
@one_line_errors
def corpus_song_describer(
    output: Path, audio: Path, metadata: Path, unvalidated: bool, processes: int
) -> None:
    """Build a corpus in OUTPUT from Song Describer, with the captions that people wrote.

    For evaluation only: all recordings are in the split test. Audio files are 00/7400.2min.mp3.
    See docs/public-sets.md.
    """
    from mulap.corpora.public_sets.song_describer import read

    _make(output, audio, read(audio, metadata, unvalidated), processes)


def _make(
    output: Path,
    audio: Path,
    read: tuple[list[Any], list[tuple[str, str]]],
    processes: int,
    clip_seconds: float = math.inf,
    max_clips: int | None = None,
    captions: int = 1,
    seed: int = 0,
) -> None:
    from mulap.corpora.described.tracks import DescribeOptions
    from mulap.corpora.public_sets.corpus import make_set_corpus

    options = DescribeOptions(clip_seconds, max_clips, captions, seed)
    report = make_set_corpus(audio, *read, output, options, processes)
    say(
        f"{report.num_tracks:,} of {counted(report.num_rows, 'recording')} used, "
        f"{report.num_missing:,} missing; {report.audio_seconds / 3600:.2f} h of audio"
    )
    say(f"clips: {join_counts(report.num_by_split)}")
    say(f"captions: {join_counts(report.num_by_source)}")
    if report.num_undescribed:
        say(f"left out: {counted(report.num_undescribed, 'clip')}, as nothing is said of it")
    click.echo(output)
    end_with_failures(len(report.failures), output / "failures.jsonl")
