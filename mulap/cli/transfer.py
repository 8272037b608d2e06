"""Commands that evaluate frozen encoders on labelled tasks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mulap.cli.group import (
    COUNT,
    DEFAULT_ENCODER,
    ENCODERS_HELP,
    ConfigName,
    UserPath,
    device_option,
    end_with_failures,
    join_counts,
    main,
    one_line_errors,
    quiet_transformers,
    refuse_given,
    run_option,
    say,
    set_option,
    space_option,
    warn,
)
from mulap.cli.training import JoinedCommand, tell_once

FOLDER = "folder"
PROBLEMS_SHOWN = 10
DATA_HELP = "The task's folder; for `folder` a table with file_name and labels."
data_option = click.option("--data", required=True, type=UserPath(exists=True), help=DATA_HELP)
task_option = click.option(
    "--task", help="Task name; run `mulap task` for the list. [default: folder, with --label]"
)
_READING_OPTIONS = (
    click.option("--split", help="One of the task's splits; for `folder` a column."),
    click.option(
        "--label", multiple=True, help="For `folder`: column of labels; repeat it for several."
    ),
    click.option("--fold", help="For `folder`: column that names folds."),
    click.option(
        "--group", help="For `folder`: column of values to keep in one split, such as artist."
    ),
    click.option(
        "--kind",
        type=click.Choice(["tags", "class", "numbers"]),
        help="For `folder`: label type, if it cannot be inferred.",
    ),
)


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how a task's data is read."""
    for option in reversed(_READING_OPTIONS):
        command = option(command)
    return command


def load_task(task: str | None, data: Path, split: str | None, **columns: Any) -> Any:
    """Read a task's tracks and labels by the options of a command."""
    from mulap.tasks.folder import read_folder
    from mulap.tasks.registry import find_task

    given = {name: value for name, value in columns.items() if value}
    task = task or (FOLDER if "label" in given else None)
    if task is None:
        raise ValueError(
            "--task is missing. Give --task NAME (`mulap task` lists them), or --label COLUMN for "
            "your own table."
        )
    if task == FOLDER:
        label = given.pop("label", ())
        if not label:
            raise ValueError("--task folder: no label column is named. Add --label COLUMN.")
        return read_folder(data, label[0] if len(label) == 1 else label, split=split, **given)
    if given:
        name = next(iter(given))
        raise ValueError(
            f"--{name} works only with your own table. Leave it out, or give --task folder."
        )
    return find_task(task).load(data, split or "")


def tell_problems(loaded: Any) -> None:
    """Say how labels were read, and what is wrong with rows and splits, before any computation."""
    for note in loaded.notes:
        say(note)
    for source, reason in loaded.problems[:PROBLEMS_SHOWN]:
        warn(f"problem: {source}: {reason}")
    if more := len(loaded.problems[PROBLEMS_SHOWN:]):
        warn(f"and {more} more problems. `mulap task` with the same --data shows all.")


@main.command()
@click.argument("task")
@click.option(
    "--output", "-o", required=True, type=UserPath(file_okay=False), help="The task's folder."
)
@click.option("--split", default="", help="Split to download. [default: the task's default]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@one_line_errors
def download(task: str, output: Path, split: str, as_json: bool) -> None:
    """Download TASK's files, and print instructions for those you must get yourself.

    Run it again to resume. Files that are complete are not downloaded again.
    """
    from mulap.tasks.fetch import fetch_task
    from mulap.tasks.registry import find_task

    found = find_task(task)
    say(f"{found.title}: {found.licence}")
    report = fetch_task(found, output, split)
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=2))
        return
    click.echo(report.summary)
    if report.by_hand:
        click.echo(f"Instructions: {report.by_hand}")


@main.command("task")
@click.argument("task", required=False)
@click.option("--data", type=UserPath(exists=True), help=DATA_HELP)
@reading_options
@click.option("--decode/--no-decode", default=True, help="Decode every file to its end.")
@click.option(
    "--processes", type=COUNT, default=2, show_default=True, help="Number of processes that decode."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@one_line_errors
def show_task(
    task: str | None, data: Path | None, decode: bool, processes: int, as_json: bool, **reading: Any
) -> None:
    """List tasks, describe TASK, or check that --data is complete."""
    from mulap.cli.describe import describe_report, describe_task, list_tasks, tasks_as_dicts
    from mulap.tasks.verify import verify_task

    if data is None:
        refuse_given("works only with --data. Add --data.", *reading, "decode", "processes")
        if as_json:
            found = tasks_as_dicts(task)
            click.echo(json.dumps(found[0] if task else found, indent=2))
        else:
            click.echo(describe_task(task) if task else list_tasks())
        return
    report = verify_task(load_task(task, data, **reading), decode, processes)
    click.echo(json.dumps(report.as_dict(), indent=2) if as_json else describe_report(report))
    end_with_failures(report.num_unusable, "the lines above")
    if not report.is_whole:
        raise ValueError(
            f"{data}: tracks differ from the published split (table above). Run `mulap download` "
            "again."
        )


@main.command()
@task_option
@data_option
@reading_options
@click.option("--backbone", default=DEFAULT_ENCODER, show_default=True, help=ENCODERS_HELP)
@space_option
@click.option(
    "--protocol",
    default="paper",
    show_default=True,
    help="paper, standardized, linear or jukemir: see docs/tasks.md.",
)
@click.option(
    "--seeds", type=COUNT, default=3, show_default=True, help="Number of classifiers to train."
)
@click.option(
    "--cache",
    default=Path("mulap-cache"),
    show_default=True,
    type=UserPath(file_okay=False),
    help="Folder that caches embeddings between runs.",
)
@click.option(
    "--output",
    "-o",
    type=UserPath(file_okay=False),
    help="Folder for predictions. [default: not saved]",
)
@click.option(
    "--zero-shot",
    is_flag=True,
    help="Train nothing: score labels as words, by the space that the encoder shares with text.",
)
@click.option(
    "--phrases",
    type=UserPath(exists=True, dir_okay=False),
    help="With --zero-shot: a CSV file of a label and its phrases in each row. [default: names]",
)
@click.option("--mediaeval", is_flag=True, help="Write MediaEval's .npy files to --output too.")
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print the row as JSON.")
@one_line_errors
def probe(  # noqa: PLR0913  (options)
    task: str | None,
    data: Path,
    backbone: str,
    space: Any,
    protocol: str,
    seeds: int,
    cache: Path,
    output: Path | None,
    zero_shot: bool,
    phrases: Path | None,
    mediaeval: bool,
    device: str,
    as_json: bool,
    **reading: Any,
) -> None:
    """Train shallow classifiers on a frozen encoder's embeddings; score them on the test split.

    Embeds every 3-second segment of every track once, into --cache. --zero-shot trains nothing.
    """
    from mulap.cli.describe import describe_row
    from mulap.encoders.devices import choose_device
    from mulap.encoders.load import load_encoder
    from mulap.probing.pair import Backbone, ProbeOptions, make_row, run_pair
    from mulap.probing.zero_shot import read_phrases, zero_shot_pair
    from mulap.tasks.mediaeval import write_mediaeval
    from mulap.tasks.result import Predictions

    if zero_shot:
        reason = "does nothing with --zero-shot, which trains no classifier. Leave it out."
        refuse_given(reason, "protocol", "seeds", "space")
    else:
        refuse_given("works only with --zero-shot. Add --zero-shot.", "phrases")
    if mediaeval and output is None:
        raise ValueError("--mediaeval writes files. Add --output FOLDER.")
    quiet_transformers()
    device = choose_device(device)
    loaded = load_task(task, data, **reading)
    if mediaeval and loaded.task.kind != "tags":
        raise ValueError(f"--mediaeval: {loaded.task.title} has no tags. Leave --mediaeval out.")
    tell_problems(loaded)
    options = ProbeOptions(cache, protocol, seeds, device)
    judged = Backbone(backbone, space=space, zero_shot=zero_shot)
    if zero_shot:
        encoder = load_encoder(backbone, device)
        asked = read_phrases(phrases) if phrases else None
        row = make_row(zero_shot_pair(loaded, judged, options, encoder, asked), output)
    else:
        row = run_pair(loaded, judged, options, output)
    click.echo(json.dumps(row, indent=2) if as_json else describe_row(row))
    if mediaeval and output is not None:
        for path in write_mediaeval(Predictions.load(output / row["predictions"]), output):
            say(f"wrote {path}")
    if mediaeval and row["left_out"]:
        say(
            "tracks left out have no row in MediaEval's files; compare with the groundtruth.npy "
            "written here"
        )
    listed_in = output / row["left_out_list"] if output else "the lines above"
    end_with_failures(row["left_out"] + loaded.num_unusable_rows, listed_in)


@main.command("pretrain-supervised", cls=JoinedCommand)
@click.argument("config", required=False, type=ConfigName("supervised"))
@task_option
@data_option
@reading_options
@run_option
@set_option
@click.option("--start", help="A checkpoint to fine-tune, instead of untrained weights.")
@one_line_errors
def pretrain_supervised(
    config: Path | None,
    task: str | None,
    data: Path,
    output: Path,
    overrides: tuple[str, ...],
    start: str | None,
    **reading: Any,
) -> None:
    """Train backbone and classifier together on a task's labels. CONFIG defaults to the paper's.

    The best backbone, in OUTPUT/best, is the Supervised baseline for other tasks; the printed
    scores are the end-to-end baseline of this task. Run it again to resume.
    """
    from mulap.cli.describe import describe_scores
    from mulap.probing.printing import resampled
    from mulap.tasks.result import score_predictions
    from mulap.training.processes import fail_together, join_processes
    from mulap.training.supervised.settings import load_supervised_settings

    with tell_once():
        processes = join_processes()
        with fail_together(processes):
            settings = load_supervised_settings(config, list(overrides))
            loaded = load_task(task, data, **reading)
        quiet_transformers()
        from mulap.training.supervised.run import train_supervised

        if processes.is_main:
            tell_problems(loaded)
        report = train_supervised(loaded, output, settings, start)
    if not processes.is_main:
        return
    result = score_predictions(loaded.task.kind, loaded.task.labels, report.predictions)
    say(f"tracks: {join_counts(report.num_used)}")
    say(describe_scores(result.scores))
    say(f"intervals resample {resampled(result.unit, result.num_units)}")
    click.echo(report.best)
    listed_in = f"the problems above, and {output / 'failures.jsonl'}"
    end_with_failures(report.num_left_out + loaded.num_unusable_rows, listed_in)


@main.command()
@click.argument("config", type=ConfigName("benchmark"))
@click.option(
    "--output", "-o", required=True, type=UserPath(file_okay=False), help="Folder of the results."
)
@device_option
@one_line_errors
def benchmark(config: Path, output: Path, device: str) -> None:
    """Evaluate every backbone in CONFIG on every task in it; write OUTPUT/results.jsonl.

    Run it again to resume.
    """
    quiet_transformers()
    from mulap.benchmark.config import load_config
    from mulap.benchmark.run import run_benchmark
    from mulap.encoders.devices import choose_device

    report = run_benchmark(load_config(config), output, choose_device(device))
    say(f"{report.num_run} pairs evaluated now, {report.num_skipped} already present")
    click.echo(output / "results.jsonl")
    end_with_failures(len(report.failures), output / "failures.jsonl")


@main.command()
@click.argument("folder", type=UserPath(exists=True, file_okay=False))
@one_line_errors
def report(folder: Path) -> None:
    """Write report.md and report.html about FOLDER, a benchmark's results."""
    from mulap.benchmark.report.page import write_report

    click.echo(write_report(folder))
