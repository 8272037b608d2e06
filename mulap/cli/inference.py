"""Commands that use a trained model on files."""

import json
from pathlib import Path
from typing import Any

import click

from mulap.cli.group import (
    ENCODERS_HELP,
    check_device,
    end_with_failures,
    main,
    one_line_errors,
    quiet_transformers,
    say,
)

LEVELS = ["segment", "track"]


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output", "-o", default="-", show_default=True, help="A .parquet, .npz or .jsonl file."
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
    check_device(device)
    from mulap.inference.embed import embed_files
    from mulap.inference.encoders import load_encoder

    embedder = load_encoder(model, device)
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
