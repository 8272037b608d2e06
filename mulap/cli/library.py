"""Commands that make a library of music and describe it."""

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import click

from mulap.cli.group import (
    LIBRARY,
    UserPath,
    device_option,
    end_with_failures,
    library_option,
    main,
    one_line_errors,
    quiet_transformers,
    refuse_given,
    say,
    say_left_aside,
    warn,
)
from mulap.cli.inference import gentle_option
from mulap.terminal import clock_time, counted


@main.command()
@click.argument("music", nargs=-1, type=UserPath())
@library_option
@click.option(
    "--model",
    help="mulap-small, or a folder of a model that shares a space with text. [default: the "
    "library's own; mulap-small for a new library and with --upgrade]",
)
@click.option(
    "--prune", is_flag=True, help="Remove missing files even if most of a folder is gone."
)
@click.option(
    "--upgrade",
    is_flag=True,
    help="Embed all tracks with --model while the old embeddings still answer, then switch.",
)
@click.option(
    "--failures", is_flag=True, help="List the files that could not be used, and do nothing else."
)
@device_option
@gentle_option
@one_line_errors
def index(music: tuple[Path, ...], library: Path, failures: bool, **options: Any) -> None:
    """Index MUSIC, files and folders, so that it can be searched; run again for what changed.

    Without MUSIC, the folders that the library already has.
    """
    if failures:
        refuse_given(
            "does nothing with --failures. Leave it out.", *("music", "model", "prune", "upgrade")
        )
        _list_failures(library)
        return
    from mulap.library.index import index_music

    report = index_music(
        music,
        library,
        partial(_load, device=options["device"]),
        options["model"] or "",
        options["prune"],
        options["upgrade"],
    )
    if report.counts["new"]:  # else it was said before
        say_left_aside(report.left_aside)
    for file, reason in report.failures:
        warn(f"left out: {file}: {reason}")
    if not report.is_changed:
        say(f"Nothing to do ({report.seconds:.1f} s).")
    else:
        left_out = f" {report.num_left_out:,} left out: mulap index --failures"
        say(
            f"Done in {clock_time(report.seconds)}. "
            f"{counted(report.num_tracks, 'track')} can be searched."
            + (left_out if report.num_left_out else "")
        )
    end_with_failures(len(report.failures), "the lines above")


def _load(model: str, device: str) -> Any:
    quiet_transformers()
    from mulap.encoders.engine import load_engine

    return load_engine(model, device)


def _list_failures(library: Path) -> None:
    from mulap.library.about import JOURNAL, read_about
    from mulap.library.known import LibraryFiles

    read_about(library)
    failed = LibraryFiles(library / JOURNAL).failures()
    for file, reason in failed:
        click.echo(f"{file}: {reason}")
    say(f"{counted(len(failed), 'file')} left out; tried again once the file or mulap changes")


@main.command()
@click.argument("library", required=False, **LIBRARY)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line.")
@one_line_errors
def info(library: Path, as_json: bool) -> None:
    """Describe LIBRARY: its tracks, files, size, failures and last run.

    Without LIBRARY, $MULAP_LIBRARY or ~/.local/share/mulap/library.
    """
    from mulap.library.info import library_info

    about = library_info(library)
    if as_json:
        click.echo(json.dumps(about, ensure_ascii=False))
        return
    for name, text in _lines(about).items():
        click.echo(f"{name:<11}{text}")


def _size(num_bytes: int) -> str:
    """Write 26 kB, or 7.1 MB."""
    return f"{num_bytes / 1e3:,.0f} kB" if num_bytes < 1e6 else f"{num_bytes / 1e6:,.1f} MB"


def _lines(about: dict[str, Any]) -> dict[str, str]:
    indexed = about["tracks"] - about["unindexed"]
    lines = {
        "library": about["library"],
        "music": ", ".join(about["music"]),
        "space": f"{about['space']}, {counted(about['size'], 'number')}",
        "tracks": f"{about['tracks']:,}",
        "files": f"{about['files']:,}",
        "windows": f"{about['windows']:,} of 9 s",
        "tags": ", ".join(about["tags"]) or "no other than title, artist, album, genre and year",
        "disk": _size(about["bytes"]),
        "failures": f"{about['failures']:,}"
        + (" (mulap index --failures)" * bool(about["failures"])),
        "index": f"{indexed:,} tracks; {about['unindexed']:,} not in it yet"
        if indexed
        else "none; a search compares all tracks",
    }
    if about["filling"]:
        lines["upgrade"] = f"to {about['filling']}: {counted(about['filled'], 'track')} so far"
    if run := about["last_run"]:
        ended = time.strftime("%Y-%m-%d %H:%M", time.localtime(run["ended"]))
        embedded = counted(run["num_embedded"], "track")
        lines["last run"] = f"{ended}, {clock_time(run['seconds'])}, {embedded} embedded"
    return lines
