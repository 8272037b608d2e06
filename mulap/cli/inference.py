"""Commands that use a trained model on files."""

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mulap.cli.group import (
    ENCODERS_HELP,
    UserPath,
    check_device,
    end_with_failures,
    main,
    one_line_errors,
    quiet_transformers,
    say,
    say_left_aside,
)

if TYPE_CHECKING:
    from mulap.inference.embed import Engine

LEVELS = ["segment", "track"]
ENGINES = ["local", "ray"]


@main.command()
@click.argument("paths", nargs=-1, required=True, type=UserPath())
@click.option(
    "--output",
    "-o",
    default="-",
    show_default=True,
    help="A .parquet, .npz or .jsonl file, or DIR/ for a folder of Parquet shards.",
)
@click.option(
    "--model",
    default="musicnn-mtt",
    show_default=True,
    help=ENCODERS_HELP,
)
@click.option(
    "--level", type=click.Choice(LEVELS), default="segment", show_default=True, help="Of a row."
)
@click.option("--device", default="cpu", show_default=True, help="As torch names it.")
@click.option("--skip-existing", is_flag=True, help="Keep the rows of files that did not change.")
@click.option("--force", is_flag=True, help="Replace an earlier output.")
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="local",
    show_default=True,
    help="ray: many processes, or machines.",
)
@click.option("--num-actors", type=int, help="Of ray: processes.  [default: one a CPU]")
@click.option("--gpus-per-actor", type=float, help="Of ray: 0.25 puts four on a GPU.")
@click.option(
    "--ray-address", metavar="ADDRESS", help="Of ray: a running cluster, auto for this machine's."
)
@one_line_errors
def embed(paths: tuple[Path, ...], output: str, model: str, level: Any, **options: Any) -> None:
    """Embed audio files, and those in folders: one vector a 3-second segment or a track.

    Without --output, JSON lines go to standard output.
    """
    quiet_transformers()
    with ExitStack() as opened:
        engine = _open_engine(opened, output, options)
        from mulap.inference.embed import embed_files
        from mulap.inference.encoders import load_encoder

        # With an engine, the encoder here only says what the actors' must be like.
        embedder = load_encoder(model, "cpu" if engine else options["device"])
        report = embed_files(
            paths,
            embedder,
            output,
            level,
            options["skip_existing"],
            options["force"],
            engine=engine,
        )
    say(
        f"{report.num_files} files: {report.num_embedded} embedded, {report.num_skipped} there "
        f"already; {report.num_rows} rows of {embedder.embedding_size}"
    )
    say_left_aside(report.left_aside)
    for file, reason in report.failures if report.failures_path is None else ():
        say(f"left out: {file}: {reason}")
    end_with_failures(len(report.failures), report.failures_path or "the lines above")


def _open_engine(opened: ExitStack, output: str, options: dict[str, Any]) -> "Engine | None":
    """Return what is to do the work; None for this process."""
    asked = {
        "num_actors": options["num_actors"],
        "gpus_per_actor": options["gpus_per_actor"],
        "address": options["ray_address"],
    }
    given = {name: value for name, value in asked.items() if value is not None}
    if options["engine"] == "local":
        if given:
            raise ValueError("--num-actors and the like are of another engine (give --engine ray)")
        check_device(options["device"])
        return None
    if output == "-":
        raise ValueError("--engine ray needs a place that all machines see (give --output)")
    from mulap.inference.cluster import Cluster, RayEngine

    return opened.enter_context(RayEngine(Cluster(device=options["device"], **given)))


@main.command()
@click.argument("paths", nargs=-1, required=True, type=UserPath())
@click.option("--model", default="musicnn-mtt", show_default=True, help="Or musicnn-msd.")
@click.option("--top", default=10, show_default=True, help="How many tags of each file.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON line a file, all tags.")
@one_line_errors
def tag(paths: tuple[Path, ...], model: str, top: int, as_json: bool) -> None:
    """Name the tags of audio files, highest score first."""
    quiet_transformers()
    from mulap.audio import AudioError, find_audio, no_audio
    from mulap.inference.tag import Tagger
    from mulap.vectors.keys import file_name

    closed: list[tuple[str, str]] = []
    left_aside = Counter[str]()
    found = find_audio(paths, closed, left_aside)
    if not found:
        raise no_audio(paths, closed, left_aside)
    say_left_aside(left_aside)
    for folder, reason in closed:
        say(f"left out: {folder}: {reason}")
    tagger = Tagger.from_pretrained(model)
    num_failures = len(closed)
    for path in found:
        file = file_name(path)
        try:
            scores = tagger.tag_file(path)
        except AudioError as error:
            num_failures += 1
            say(f"left out: {file}: {error.reason}")
            continue
        if as_json:
            click.echo(json.dumps({"file": file, "tags": scores}, ensure_ascii=False))
            continue
        click.echo(file)
        for name, score in list(scores.items())[:top]:
            click.echo(f"  {score:.3f}  {name}")
    end_with_failures(num_failures, "the lines above")
