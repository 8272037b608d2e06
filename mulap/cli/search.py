"""Commands that ask a library: the tracks that fit words or examples, and moods as numbers."""

import csv
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mulap.cli.group import (
    COUNT,
    UserPath,
    device_option,
    library_option,
    main,
    one_line_errors,
    quiet_transformers,
    refuse_given,
    say,
    warn,
)
from mulap.terminal import clock_time, counted

if TYPE_CHECKING:
    from mulap.library.hits import Hits
    from mulap.library.library import Library

_SEVERAL = "Can be repeated."


@main.command()
@click.argument("query", nargs=-1)
@library_option
@click.option("--top", "-n", default=10, show_default=True, type=COUNT, help="Number of tracks.")
@click.option("--not", "unwanted", multiple=True, metavar="WORDS", help=f"Unwanted. {_SEVERAL}")
@click.option(
    "--like",
    multiple=True,
    metavar="FILE",
    help=f"A track, or a playlist (.m3u8), to find more like it; FILE^2 doubles its weight. "
    f"{_SEVERAL}",
)
@click.option(
    "--at",
    multiple=True,
    metavar="M:SS",
    help="The nine seconds of --like to go by, given once for each --like, in order. "
    "[default: the whole track]",
)
@click.option(
    "--unlike", multiple=True, metavar="FILE", help=f"A track or playlist to avoid. {_SEVERAL}"
)
@click.option(
    "--where",
    multiple=True,
    metavar="CONDITION",
    help="FIELD, an operator and a value: artist=Nils Frahm, path~live, seconds<5:00, "
    "genre=jazz|blues, year>=1990, and any other tag of your files: mood=calm, bpm>120. "
    f"= compares all of a text, ~ finds a part. {_SEVERAL}",
)
@click.option(
    "--per-artist",
    type=click.IntRange(min=0),
    help="Most tracks per artist; 0 for any number. [default: 2; any with --where artist]",
)
@click.option("--not-same-album", is_flag=True, help="At most one track per album.")
@click.option(
    "--versions", is_flag=True, help="Also show other versions, and copies, of a track shown."
)
@click.option(
    "--any-length",
    is_flag=True,
    help="Also tracks shorter than 30 s or longer than 15 min. Not needed where half of the "
    "library is shorter than 30 s.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="FILE",
    help=f"Track or playlist (.m3u8) not to show. {_SEVERAL}",
)
@click.option("--vary", type=int, metavar="SEED", help="Another, similar list for each SEED.")
@click.option(
    "--path",
    "ends",
    nargs=2,
    metavar="FIRST LAST",
    help="A way from one track to another, one track per artist, in place of a query.",
)
@click.option(
    "--rerank",
    is_flag=True,
    help="Listen to the hits again and order them by co-attention. It did not help with "
    "mulap-small.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per hit.")
@click.option("--csv", "as_csv", is_flag=True, help="Print the same fields as CSV.")
@click.option(
    "--m3u8", type=UserPath(dir_okay=False), help="Also save the hits as a playlist, FILE.m3u8."
)
@device_option
@one_line_errors
def search(query: tuple[str, ...], library: Path, device: str, **options: Any) -> None:
    """Find the tracks of a library that fit QUERY, and where to listen.

    QUERY is words, such as "calm piano with strings, no drums"; several are averaged, and
    "piano^2" doubles a weight. Without words give --like or --path.
    """
    if options["as_json"] and options["as_csv"]:
        raise click.UsageError("--csv and --json exclude each other. Leave one out.")
    if options["ends"]:
        if query:
            raise click.UsageError("--path takes no QUERY. Leave one of them out.")
        reason = "has no effect with --path. Leave it out."
        refuse_given(reason, "like", "at", "unlike", "unwanted", "rerank")
    quiet_transformers()
    from mulap.library.library import Library
    from mulap.library.playlist import write_playlist

    hits = _ask(Library(library, device), query, options)
    if options["m3u8"]:
        write_playlist(options["m3u8"], hits.playlist())
    for note in hits.notes:
        say(note)
    if options["as_json"]:
        for hit in hits:
            click.echo(json.dumps(hit.to_json(), ensure_ascii=False))
    elif options["as_csv"]:
        _write_csv(hits)
    elif hits:
        click.echo("\n".join(_table(hits)))
    _conclude(hits, options["where"], bool(query))


def _ask(library: "Library", query: tuple[str, ...], options: dict[str, Any]) -> "Hits":
    rules: dict[str, Any] = {
        "is_one_an_album": options["not_same_album"],
        "merges": not options["versions"],
        "excluded": options["exclude"],
        "vary": options["vary"],
    }
    if options["per_artist"] is not None:
        rules["per_artist"] = options["per_artist"] or None
    shared = {name: options[name] for name in ("top", "where", "any_length")} | rules
    if options["ends"]:
        return library.path(*options["ends"], **shared)
    return library.search(
        query,
        like=_examples(options["like"], options["at"]),
        unlike=_examples(options["unlike"], ()),
        **{name: options[name] for name in ("unwanted", "rerank")},
        **shared,
    )


def _examples(files: tuple[str, ...], times: tuple[str, ...]) -> list[Any]:
    from mulap.library.query import Example, parse_time, split_weight

    if times and len(times) != len(files):
        raise click.UsageError(
            f"{counted(len(times), '--at')} for {counted(len(files), '--like')}. Give --at once "
            "for each --like, or not at all."
        )
    found = []
    for index, file in enumerate(files):
        path, weight = (file, 1.0) if os.path.exists(file) else split_weight(file)
        at = parse_time(times[index]) if times else None
        if times and at is None:
            raise click.UsageError(f"--at {times[index]}: is no time. Write it as 1:23 or 83.")
        found.append(Example(path, weight, at))
    return found


def _table(hits: "Hits") -> list[str]:
    """Return lines as wide as the terminal, if there is one."""

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 1_000
    names = hits.names
    reasons = [", ".join(hit.why) for hit in hits]
    room = max(20, width - 25 - max(map(len, reasons)))
    names = [name if len(name) <= room else f"{name[: room - 1]}…" for name in names]
    longest = max(len("track"), *map(len, names))
    lines = [f" #  match      at  {'track':<{longest}}  why"]
    for hit, name, why in zip(hits, names, reasons, strict=True):
        at = clock_time(hit.start)
        lines.append(f"{hit.rank:>2}  {hit.match:<6}  {at:>6}  {name:<{longest}}  {why}".rstrip())
    return lines


def _write_csv(hits: "Hits") -> None:
    from mulap.library.hits import Hit

    names = list(Hit.__annotations__)
    writer = csv.DictWriter(sys.stdout, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for hit in hits:
        values = hit.to_json()
        writer.writerow(values | {"why": "; ".join(values["why"])})


def _conclude(hits: "Hits", where: tuple[str, ...], has_words: bool) -> None:
    """Say how long it took, what was left out, and what the words mean."""
    from mulap.vectors.keys import real_path

    gone = [hit.file for hit in hits if not os.path.exists(real_path(hit.file))]
    if gone:
        named = f"{gone[0]} and {len(gone) - 1} more" if len(gone) > 1 else gone[0]
        warn(f"no longer there: {named}. Run mulap index to tidy up.")
    if not hits:
        hint = " = compares all of a text, ~ finds a part." if where else ""
        say(f"No track matches.{hint}")
        return
    if all(hit.match == "weak" for hit in hits):
        say("Nothing here stands out for this. These are the nearest tracks.")
    left_out = ""
    if hits.num_left_out:
        left_out = f" ({hits.num_left_out:,} under 0:30 or over 15:00 left out: --any-length)"
    took = f"{1000 * hits.seconds:.0f} ms, {counted(hits.num_tracks, 'track')}{left_out}"
    than = "fits better than 99 of 100 neutral sentences"
    if not has_words:
        than = "more alike than 99 of 100 average tracks"
    say(f"{took}. strong: {than}; fair: 95.")


@main.command()
@library_option
@click.option(
    "--pair",
    "pairs",
    multiple=True,
    metavar="WORD,OPPOSITE",
    help="What to rank by, such as happy,sad; can be repeated. [default: happy,sad, "
    "energetic,calm, aggressive,peaceful, loud,quiet, fast,slow and electronic,acoustic]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per track.")
@device_option
@one_line_errors
def moods(library: Path, pairs: tuple[str, ...], as_json: bool, device: str) -> None:
    """Print where each track stands between opposites, as CSV: sad is 0, happy 100.

    The numbers are ranks among the tracks of the library.
    """
    split = [tuple(word.strip() for word in pair.split(",")) for pair in pairs]
    if wrong := [pair for pair, words in zip(pairs, split, strict=True) if len(words) != 2]:
        raise click.UsageError(f"--pair {wrong[0]}: is no pair. Give two words: happy,sad.")
    quiet_transformers()
    from mulap.library.library import Library
    from mulap.library.moods import MOODS

    rows = Library(library, device).moods([(a, b) for a, b in split] or MOODS)
    if as_json:
        click.echo("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
        return
    writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
