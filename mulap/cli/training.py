"""Commands that train a model, and evaluate it by its own objectives."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from mulap.cli.group import (
    SPLITS,
    ConfigName,
    UserPath,
    data_option,
    device_option,
    end_with_failures,
    main,
    one_line_errors,
    quiet_transformers,
    run_option,
    set_option,
    unpack_option,
    warn,
)


@contextmanager
def tell_once() -> Iterator[None]:
    """Report an error that ends all processes of a machine once, by the first process."""
    from mulap.training.processes import FailedTogetherError

    try:
        yield
    except FailedTogetherError:
        if os.environ.get("LOCAL_RANK", "0") != "0":
            time.sleep(1)  # the launcher ends all when one ends: let the first one speak
            sys.exit(1)
        raise


class JoinedCommand(click.Command):
    """A command of several processes: a wrong call of one ends all of them, with code 1.

    Otherwise a file that is missing on one machine would end its process before it has joined the
    others, which would wait for it. A single process ends as with any other command, with code 2.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the call; where there are several processes, after they have joined."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return super().parse_args(ctx, args)
        return self._parse_together(ctx, args)

    @one_line_errors
    def _parse_together(self, ctx: click.Context, args: list[str]) -> list[str]:
        from mulap.training.processes import fail_together, join_processes

        with tell_once(), fail_together(join_processes()):
            try:
                return super().parse_args(ctx, args)
            except click.UsageError as error:
                raise ValueError(error.format_message()) from error


@main.command(cls=JoinedCommand)
@click.argument("config", type=ConfigName("pretrain"))
@data_option
@run_option
@set_option
@unpack_option
@one_line_errors
def pretrain(
    config: Path, data: Path, output: Path, overrides: tuple[str, ...], unpack_to: Path | None
) -> None:
    """Pre-train a model by CONFIG on the tracks and captions of --data.

    Run it again with the same arguments to resume. On several processes:
    torchrun --nproc-per-node K -m mulap pretrain ...
    """
    from mulap.training.pretrain.settings import load_settings
    from mulap.training.processes import fail_together, join_processes

    with tell_once():
        processes = join_processes()
        with fail_together(processes):
            settings = load_settings(config, list(overrides))
        quiet_transformers()
        from mulap.training.pretrain.run import pretrain as run

        report = run(settings, data, output, cache_folder=unpack_to)
    if processes.is_main:
        click.echo(report.best)
        end_with_failures(report.num_failures, output / "failures.jsonl")


@main.command()
@click.argument("model", type=UserPath(exists=True))
@data_option
@click.option(
    "--split",
    type=click.Choice(SPLITS),
    default="test",
    show_default=True,
    help="Split to evaluate.",
)
@click.option(
    "--pool",
    type=click.IntRange(0),
    default=200,
    show_default=True,
    help="Largest number of clips in the retrieval pool, one per group; 0 for none.",
)
@click.option(
    "--untrained/--no-untrained",
    default=True,
    help="Also evaluate the untrained model that the run started from.  [default: yes]",
)
@device_option
@unpack_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@one_line_errors
def evaluate(
    model: Path,
    data: Path,
    split: str,
    pool: int,
    untrained: bool,
    device: str,
    unpack_to: Path | None,
    as_json: bool,
) -> None:
    """Evaluate MODEL (a run's folder or a checkpoint) on a split of --data.

    Prints losses, matching accuracy with a 95% bootstrap interval, and text-to-audio retrieval with
    its chance level, next to the untrained model that the run started from. Pairs and retrieval use
    one clip per group (track, album or artist). Crops and captions are those of the run's
    validation: chosen as in training, by a fixed seed.
    """
    quiet_transformers()
    from mulap.training.pretrain.comparison import evaluate_run
    from mulap.training.progress import describe_metrics

    result = evaluate_run(model, data, split, untrained, pool, device, unpack_to)
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
        warn(f"left out: {file}: {reason}")
    end_with_failures(len(result.failures), "the lines above")


def _interval(figures: dict[str, Any]) -> str:
    """Return the interval of the matching accuracy in words, if there is one."""
    if "atm/pair_accuracy/95%" not in figures:
        return ""
    low, high = figures["atm/pair_accuracy/95%"]
    num_groups = f"{figures['retrieval/atm/pool']:.0f} groups"
    return (
        f"; 95% interval of the accuracy over all pairs, over {num_groups}: {low:.1%} to {high:.1%}"
    )
