"""The command that captions files."""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mulap.cli.group import (
    UserPath,
    device_option,
    end_with_failures,
    joint_model_option,
    main,
    one_line_errors,
    print_files,
    quiet_transformers,
    refuse_given,
)

if TYPE_CHECKING:
    from mulap.use.captions import Caption

HOW = {"retrieved": "nearest known sentence", "written": "written by the model"}


@main.command()
@click.argument("paths", nargs=-1, required=True, type=UserPath())
@joint_model_option
@click.option(
    "--method",
    type=click.Choice(list(HOW)),
    default="retrieved",
    show_default=True,
    help="retrieved: the nearest of some 2,000 known sentences. written: by the masked-word head, "
    "which is slower and worse.",
)
@click.option(
    "--sentences",
    type=UserPath(exists=True, dir_okay=False),
    help="Text file of your own sentences to choose from, one per line.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line per file.")
@device_option
@one_line_errors
def caption(
    paths: tuple[Path, ...],
    model: str,
    method: Any,
    sentences: Path | None,
    as_json: bool,
    device: str,
) -> None:
    """Describe audio files, each by a sentence.

    The word behind a sentence says how sure it is: strong if the ten nearest sentences agree more
    than those of 75 of 100 average tracks do, fair from 50, else weak. Where neutral sentences fit
    as well, nothing stands out. So they judge what is written, too, and a list of under 100
    sentences of yours: strong from 99 of 100, fair from 95.
    """
    if method == "written":
        refuse_given("works only with --method retrieved. Leave it out.", "sentences")
    quiet_transformers()
    from mulap.encoders.engine import load_engine
    from mulap.use.captions import Captioner, caption_files, read_sentences

    given = None if sentences is None else read_sentences(sentences)
    captioner = Captioner(load_engine(model, device), method, given)
    left_aside = Counter[str]()
    found = caption_files(paths, captioner, left_aside)
    num_failures = print_files(found, _json if as_json else _line, left_aside)
    end_with_failures(num_failures, "the lines above")


def _json(found: "Caption") -> str:
    return json.dumps(found.to_dict(), ensure_ascii=False)


def _line(found: "Caption") -> str:
    if not found.stands_out:
        return f"{found.file}  Nothing stands out."
    return f"{found.file}  {found.caption}  ({HOW[found.method]}, {found.match})"
