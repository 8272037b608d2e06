"""Commands that use a trained model on files."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mulap.cli.group import (
    DEFAULT_ENCODER,
    ENCODERS_HELP,
    UserPath,
    device_option,
    end_with_failures,
    main,
    one_line_errors,
    quiet_transformers,
    refuse_given,
    say,
    say_left_aside,
    space_option,
    warn,
)
from mulap.cores import be_gentle
from mulap.terminal import counted

if TYPE_CHECKING:
    from mulap.embedding.embed import Engine

LEVELS = ["segment", "track"]
ENGINES = ["local", "ray"]


def _be_gentle(context: click.Context, option: click.Parameter, is_gentle: bool) -> None:
    if is_gentle:
        be_gentle()


gentle_option = click.option(
    "--gentle",
    is_flag=True,
    expose_value=False,
    callback=_be_gentle,  # before anything is imported that counts cores
    help="Use half of the cores, and only while nothing else wants them.",
)


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
    default=DEFAULT_ENCODER,
    show_default=True,
    help=ENCODERS_HELP,
)
@click.option(
    "--level",
    type=click.Choice(LEVELS),
    default="segment",
    show_default=True,
    help="What one output row covers.",
)
@space_option
@device_option
@click.option(
    "--skip-existing",
    is_flag=True,
    help="Embed only new or changed files and keep all other rows. Also resumes a stopped run.",
)
@click.option("--force", is_flag=True, help="Replace an earlier output.")
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="local",
    show_default=True,
    help="local: this machine. ray: several processes or machines, through Ray.",
)
@click.option(
    "--num-actors", type=int, help="With --engine ray: number of workers. [default: one per CPU]"
)
@click.option(
    "--gpus-per-actor",
    type=float,
    help="With --engine ray: GPUs per worker; 0.25 runs four workers on one GPU.",
)
@click.option(
    "--ray-address",
    metavar="ADDRESS",
    help="With --engine ray: cluster address, or auto for this machine's. [default: start one]",
)
@gentle_option
@one_line_errors
def embed(paths: tuple[Path, ...], output: str, model: str, level: Any, **options: Any) -> None:
    """Embed audio files or folders: one embedding per 3-second segment or per track.

    Without --output, JSON lines go to standard output.
    """
    if output == "-":
        refuse_given(
            "works only with --output. Give --output, or leave it out.", "skip_existing", "force"
        )
    quiet_transformers()
    with ExitStack() as opened:
        engine = _open_engine(opened, output, options)
        from mulap.embedding.embed import embed_files
        from mulap.encoders.load import load_encoder

        # With an engine, the encoder here only says what the actors' must be like.
        device = "cpu" if engine else options["device"]
        embedder = load_encoder(model, device, space=options["space"])
        report = embed_files(
            paths,
            embedder,
            output,
            level,
            options["skip_existing"],
            options["force"],
            engine=engine,
        )
    copies = counted(report.num_copies, "copy", "copies") + ", " if report.num_copies else ""
    say(
        f"{counted(report.num_files, 'file')}: {report.num_embedded:,} embedded, {copies}"
        f"{report.num_skipped - report.num_copies:,} already present; "
        f"{counted(report.num_rows, 'row')} of {embedder.embedding_size:,} numbers"
    )
    say_left_aside(report.left_aside)
    for file, reason in report.failures if report.failures_path is None else ():
        warn(f"left out: {file}: {reason}")
    end_with_failures(len(report.failures), report.failures_path or "the lines above")


def _open_engine(opened: ExitStack, output: str, options: dict[str, Any]) -> "Engine | None":
    """Return what is to do the work; None for this process."""
    asked = {
        "num_actors": options["num_actors"],
        "gpus_per_actor": options["gpus_per_actor"],
        "address": options["ray_address"],
    }
    if options["engine"] == "local":
        refuse_given(
            "works only with --engine ray. Add --engine ray.",
            *("num_actors", "gpus_per_actor", "ray_address"),
        )
        return None
    refuse_given("is for this machine alone, not with --engine ray. Leave it out.", "gentle")
    given = {name: value for name, value in asked.items() if value is not None}
    if output == "-":
        raise ValueError(
            "--engine ray cannot write to standard output. Give --output a path on a shared disk."
        )
    from mulap.embedding.cluster import Cluster, RayEngine

    device = options["device"]
    if device == "auto":
        device = "cuda" if options["gpus_per_actor"] else "cpu"
    return opened.enter_context(RayEngine(Cluster(device=device, **given)))
