"""Commands that use a trained model on files."""

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from mulap.cli.group import (
    COUNT,
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
from mulap.terminal import counted

if TYPE_CHECKING:
    from mulap.embedding.embed import Engine

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


@main.command()
@click.argument("paths", nargs=-1, required=True, type=UserPath())
@click.option(
    "--model",
    default=DEFAULT_ENCODER,
    show_default=True,
    help="mulap-small or a model that shares a space with text (any tags); musicnn-mtt "
    "(MagnaTagATune tags), musicnn-msd (Million Song Dataset tags) or a tagger's folder.",
)
@click.option(
    "--tags",
    metavar="TAGS",
    help='Any words, such as "jazz,metal,8-bit", or @FILE with one a line. [default: a list of '
    "some 200, or the tagger's own]",
)
@click.option("--top", type=COUNT, help="Number of tags per file. [default: 10, or all of --tags]")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON line per file, with all tags."
)
@device_option
@one_line_errors
def tag(
    paths: tuple[Path, ...],
    model: str,
    tags: str | None,
    top: int | None,
    as_json: bool,
    device: str,
) -> None:
    """Tag audio files; print the highest-scoring tags first.

    A tagger's scores are between 0 and 1. Any other words are scored by how many standard
    deviations a file differs from an average track: yes from 1.5, maybe from 0.5.
    """
    if as_json:
        refuse_given("does nothing with --json, which prints all tags. Leave it out.", "top")
    quiet_transformers()
    from mulap.encoders.known_words import warning
    from mulap.encoders.load import load_encoder
    from mulap.encoders.zero_shot import read_tags
    from mulap.use.tag import tag_files

    if tags is None:
        asked = None
    else:
        asked = read_tags(Path(tags[1:]).expanduser()) if tags[:1] == "@" else tags.split(",")
    encoder = load_encoder(model, device)
    zero_shot = None if asked is None and encoder.tags else encoder.zero_shot(asked)
    if zero_shot and zero_shot.unknown:
        warn(f"--tags {warning(zero_shot.unknown)}")
    count = top or (10 if asked is None else None)
    left_aside = Counter[str]()
    num_failures = 0
    for file, scores, reason in tag_files(paths, encoder, left_aside, zero_shot):
        if reason:
            num_failures += 1
            warn(f"left out: {file}: {reason}")
            continue
        if as_json:
            shown = _said(scores) if zero_shot else scores
            lines = [json.dumps({"file": file, "tags": shown}, ensure_ascii=False)]
        else:
            best = dict(list(scores.items())[:count])
            rows = (f"  {score:.3f}  {name}" for name, score in best.items())
            lines = [file, *(_rows_of_deviations(best) if zero_shot else rows)]
        with tqdm.external_write_mode():  # the bar is taken away meanwhile
            click.echo("\n".join(lines))
    if zero_shot and not as_json:
        say("+1.0 is one standard deviation above an average track")
    say_left_aside(left_aside)
    end_with_failures(num_failures, "the lines above")


def _said(scores: dict[str, float]) -> dict[str, dict[str, Any]]:
    """Return what JSON says of deviations."""
    from mulap.encoders.zero_shot import says

    return {tag: {"z": round(z, 3), "says": says(z)} for tag, z in scores.items()}


def _rows_of_deviations(scores: dict[str, float]) -> list[str]:
    """Return a line a tag, best first, and before them one if no tag says yes."""
    said = _said(scores)
    width = max(map(len, said))
    rows = [f"  {tag:<{width}}  {of['says']:<5}  {of['z']:+.1f}" for tag, of in said.items()]
    is_plain = all(of["says"] != "yes" for of in said.values())
    return ["  nothing stands out", *rows] if is_plain else rows
