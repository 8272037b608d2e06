"""`mulap tag`: tags of files, as text, JSON or CSV."""

import csv
import io
import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mulap.cli.group import (
    COUNT,
    DEFAULT_ENCODER,
    UserPath,
    device_option,
    end_with_failures,
    main,
    one_line_errors,
    print_files,
    quiet_transformers,
    refuse_given,
    say,
    warn,
)
from mulap.terminal import clock_time, draw_bars

if TYPE_CHECKING:
    import numpy as np

    from mulap.encoders.encoder import Tags
    from mulap.use.tag import TaggedFile

_MOST_BARS = 60
_NO_MUSIC = "it sounds like silence, noise, one tone or speech"


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
@click.option("--segments", is_flag=True, help="Also tell when: scores of each 3-second segment.")
@click.option(
    "--rerank",
    is_flag=True,
    help="Also judge each tag by the co-attention, and sort by that. Slow: for few tags.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON line per file, with all tags."
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, a row per file and tag.")
@device_option
@one_line_errors
def tag(paths: tuple[Path, ...], model: str, tags: str | None, **options: Any) -> None:
    """Tag audio files; print the highest-scoring tags first.

    A tagger's scores are between 0 and 1. Any other words are compared with neutral sentences:
    strong if they fit the file better than 99 of 100, fair if better than 95.
    """
    if options["as_json"]:
        refuse_given("does nothing with --json, which prints all tags. Leave it out.", "top")
        refuse_given("cannot be combined with --json. Give one of them.", "as_csv")
    quiet_transformers()
    from mulap.encoders.engine import load_engine
    from mulap.encoders.known_words import warning
    from mulap.encoders.load import load_encoder
    from mulap.encoders.zero_shot import read_tags
    from mulap.use.tag import tag_files

    if tags is None:
        asked = None
    else:
        asked = read_tags(Path(tags[1:]).expanduser()) if tags[:1] == "@" else tags.split(",")
    encoder = load_encoder(model, options["device"])
    zero_shot = None if asked is None and encoder.tags else encoder.zero_shot(asked)
    if zero_shot and zero_shot.unknown:
        warn(f"--tags {warning(zero_shot.unknown)}")
    engine = None
    if options["rerank"] or (zero_shot and options["as_json"]):
        if encoder.tags and not zero_shot:
            raise ValueError(f"--rerank: {encoder.name} judges no words. Give --model mulap-small.")
        engine = load_engine(encoder.name, options["device"])
    match = engine.match if engine and options["rerank"] else None
    count = options["top"] or (10 if asked is None and not options["as_json"] else None)
    space = engine.space if engine else ""
    shown = _Shown(bool(zero_shot), count, options["segments"], space)
    show = shown.as_json if options["as_json"] else shown.as_csv if options["as_csv"] else None
    if options["as_csv"]:
        click.echo(shown.csv_header(match is not None))
    left_aside = Counter[str]()
    files = tag_files(paths, encoder, left_aside, zero_shot, match)
    num_failures = print_files(files, show or shown.as_text, left_aside)
    if zero_shot and show is None:
        say("strong: fits better than 99 of 100 neutral sentences; fair: 95")
    end_with_failures(num_failures, "the lines above")


@dataclass(frozen=True)
class _Shown:
    """How tagged files are printed.

    Attributes:
        is_percentile: whether scores are percentiles; a tagger's are not.
        count: of tags per file; None for all.
        has_segments: whether the scores of segments are printed.
        space: whose points were compared; empty for a tagger.
    """

    is_percentile: bool
    count: int | None
    has_segments: bool
    space: str = ""

    def as_json(self, tagged: "TaggedFile") -> str:
        """Return one line; a tagger's tags are numbers, other words' say more."""
        tags, ranked = _of(tagged), self._ranked(tagged)
        answer: dict[str, Any] = {
            "file": tagged.file,
            "tags": {
                name: said if self.is_percentile else said["score"] for _, name, said in ranked
            },
        }
        if self.space:
            answer["space"] = self.space
        if self.has_segments:
            answer["start_seconds"] = tags.start_seconds.round(3).tolist()
            answer["segments"] = {
                name: [self._rounded(score) for score in tags.scores[:, place]]
                for place, name, _ in ranked
            }
        return json.dumps(answer, ensure_ascii=False)

    def as_csv(self, tagged: "TaggedFile") -> str:
        """Return a row per tag; with segments, a row for each of them too."""
        tags, rows = _of(tagged), io.StringIO()
        names = self.csv_header(tagged.matches is not None).split(",")
        writer = csv.DictWriter(rows, names, restval="", lineterminator="\n")
        for place, name, said in self._ranked(tagged):
            row = {"file": tagged.file, "tag": name}
            writer.writerow(row | said)
            if self.has_segments:
                for second, score in zip(tags.start_seconds, tags.scores[:, place], strict=True):
                    writer.writerow(row | {"start_seconds": round(second, 3)} | self._said(score))
        return rows.getvalue().rstrip("\n")

    def csv_header(self, has_matches: bool) -> str:
        """Return the names of the columns."""
        start = ["start_seconds"] if self.has_segments else []
        rerank = ["rerank"] if has_matches else []
        return ",".join(["file", "tag", *start, *self._said(0.0, 0.0), *rerank])

    def as_text(self, tagged: "TaggedFile") -> str:
        """Return the file's name, and a line per tag; say so where no tag is strong or fair."""
        tags, ranked = _of(tagged), self._ranked(tagged)
        width = max(len(name) for _, name, _ in ranked)
        lines = [tagged.file]
        if self.is_percentile and not tags.whole.any():
            return f"{tagged.file}\n  nothing stands out: {_NO_MUSIC}"
        if self.is_percentile and all(said["match"] == "weak" for _, _, said in ranked):
            lines.append("  nothing stands out")
        for place, name, said in ranked:
            if self.is_percentile:
                line = f"  {name:<{width}}  {said['match']:<6}  {said['percentile']:5.1f}"
            else:
                line = f"  {said['score']:.3f}  {name}"
            if "rerank" in said:
                line += f"  {said['rerank']:.3f}"
            if self.has_segments:
                line += f"  {self._when(tags.scores[:, place], tags.start_seconds)}"
            lines.append(line)
        return "\n".join(lines)

    def _ranked(self, tagged: "TaggedFile") -> list[tuple[int, str, dict[str, Any]]]:
        """Return the best tags: the place of each, its name and what is said of it."""
        tags, matches = _of(tagged), tagged.matches
        keys = tags.whole if matches is None else matches
        equal = tags.whole if tags.deviations is None else tags.deviations  # decide between equals
        order = sorted(range(len(keys)), key=lambda place: (-keys[place], -equal[place]))
        ranked = []
        for place in order[: self.count]:
            deviation = None if tags.deviations is None else tags.deviations[place]
            said = self._said(tags.whole[place], deviation)
            if matches is not None:
                said["rerank"] = round(float(matches[place]), 3)
            ranked.append((place, tags.tags[place], said))
        return ranked

    def _said(self, score: float, deviation: float | None = None) -> dict[str, Any]:
        from mulap.encoders.neutral import word
        from mulap.encoders.zero_shot import says

        if not self.is_percentile:
            return {"score": self._rounded(score)}
        said: dict[str, Any] = {"match": word(score), "percentile": self._rounded(score)}
        if deviation is not None:
            said |= {"z": round(float(deviation), 3), "says": says(deviation)}
        return said

    def _rounded(self, score: float) -> float:
        return round(float(score), 1 if self.is_percentile else 4)

    def _when(self, scores: "np.ndarray", starts: "np.ndarray") -> str:
        """Say where scores are highest; on a terminal, draw them as bars before that."""
        most = f"most at {clock_time(starts[scores.argmax()])}"
        if not sys.stdout.isatty():
            return most
        highest = 100 if self.is_percentile else 1
        bars = draw_bars(scores.tolist(), 0, highest, _MOST_BARS)
        return f"{clock_time(starts[0])} {bars} {clock_time(starts[-1])}  {most}"


def _of(tagged: "TaggedFile") -> "Tags":
    assert tagged.tags  # of files that can be used
    return tagged.tags
