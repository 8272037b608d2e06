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
    refuse_given,
    run_option,
    say,
    set_option,
    unpack_option,
    warn,
)
from mulap.terminal import counted


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
    help="Largest number of clips in the retrieval pool; 0 for none.",
)
@click.option(
    "--per-group",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Largest number of clips of one group (track, album or artist) in that pool.",
)
@click.option(
    "--queries",
    type=click.Choice(["one", "all"]),
    default="one",
    show_default=True,
    help="Captions of a clip that retrieval asks for: one, or every one.",
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
    per_group: int,
    queries: str,
    untrained: bool,
    device: str,
    unpack_to: Path | None,
    as_json: bool,
) -> None:
    """Evaluate MODEL (a run's folder or a checkpoint) on a split of --data.

    MODEL may also be a .jsonl file of captions, from mulap caption --json: they are scored by BLEU,
    ROUGE-L and METEOR beside the corpus's captions by people, or all its captions.

    Prints losses, matching accuracy and text-to-audio retrieval with 95% bootstrap intervals over
    groups, and chance levels, next to the untrained model that the run started from. --json has
    audio-to-text retrieval too. Crops and captions are those of the run's validation: chosen as in
    training, by a fixed seed.
    """
    if model.suffix == ".jsonl":
        _evaluate_captions(model, data, split, as_json)
        return
    quiet_transformers()
    from mulap.training.pretrain.comparison import evaluate_run
    from mulap.training.progress import describe_metrics

    how = pool, device, unpack_to, per_group, queries == "all"
    result = evaluate_run(model, data, split, untrained, *how)
    figures = result.as_dict()
    if as_json:
        click.echo(json.dumps(figures, indent=2))
    else:
        click.echo(f"{split} split, {result.num_clips} clips")
        for name in ("trained", "untrained"):
            values = figures.get(name)
            if isinstance(values, dict):
                click.echo(f"{name}: {describe_metrics(values)}{_intervals(values)}")
    for file, reason in result.failures:
        warn(f"left out: {file}: {reason}")
    end_with_failures(len(result.failures), "the lines above")


def _evaluate_captions(path: Path, data: Path, split: str, as_json: bool) -> None:
    """Score a file of captions."""
    refuse_given(
        "does nothing with captions. Leave it out.",
        *("pool", "per_group", "queries", "untrained", "device", "unpack_to"),
    )
    from mulap.use.caption_scores import evaluate_captions

    figures, missing = evaluate_captions(path, data, split)
    if as_json:
        click.echo(json.dumps(figures, indent=2))
    else:
        click.echo(
            f"{split} split, {counted(figures['num_clips'], 'clip')} of "
            f"{counted(figures['groups'], 'group')}, "
            f"{counted(figures['num_references'], 'reference')}; 95% intervals over groups"
        )
        for name, title in (("captions", "captions"), ("others", "captions of other clips")):
            values = figures[name]
            told = [
                f"{title} {values[key]:.1f}{_interval(values[f'{key}/95%'])}"
                for key, title in (("bleu", "BLEU"), ("rouge_l", "ROUGE-L"), ("meteor", "METEOR"))
                if key in values
            ]
            told += [f"{values['words']:.1f} words", f"{values['different']:,} different"]
            click.echo(f"{title}: {', '.join(told)}")
    if "meteor" not in figures["captions"]:
        say("METEOR needs WordNet: apt install wordnet-base, or name its folder in $WNSEARCHDIR")
    if missing:
        clips = counted(len(missing), "clip")
        warn(f"left out: {clips} without a caption in {path}, such as {missing[0]}")
    end_with_failures(len(missing), "the line above")


def _interval(ends: tuple[float, float] | None) -> str:
    return f" ({ends[0]:.1f} to {ends[1]:.1f})" if ends else ""


def _intervals(figures: dict[str, Any]) -> str:
    """Return the intervals of the figures in words, if there are any."""
    named = {"accuracy over all pairs": "atm/pair_accuracy"}
    named |= {
        f"R@10 by the {head} head": f"retrieval/{head}/R@10" for head in ("atm", "contrastive")
    }
    parts = [
        f"{name} {interval[0]:.1%} to {interval[1]:.1%}"
        for name, key in named.items()
        if (interval := figures.get(f"{key}/95%"))
    ]
    if not parts:
        return ""
    return f"; 95% intervals over {figures['retrieval/groups']} groups: {', '.join(parts)}"
