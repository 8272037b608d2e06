"""The processes that train one model together: joining, sharing, agreeing, failing, leaving.

`torchrun` or `accelerate launch` start them, on one machine or on several, and say by environment
variables who is who. All that training asks of `torch.distributed` is asked here, but for BatchNorm
(`mulap.fast.sync_batch_norm`) and for the gradients, which the Trainer has averaged. Without a
launcher there is one process, and everything here leaves things as they are.
"""

import atexit
import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from torch import Tensor, distributed, nn

from mulap.cores import usable_cores
from mulap.training.checkpoints import differing_names, flatten

Value = TypeVar("Value")
# The longest that a process waits for another before it takes it for gone: before training one may
# still be decoding its tracks where the other, on a faster disk, is done. NCCL's own is 10 minutes
# and gloo's 30; the Trainer's `ddp_timeout` comes too late, to a group that is joined. A process
# that has ended is noticed at once.
LONGEST_WAIT = timedelta(hours=2)
# Each process may have its own: these change neither a weight nor where the processes meet.
_OWN_SETTINGS = ("data.num_workers", "training.report_to")


class FailedTogetherError(ValueError):
    """What ends all processes though only one may have met it; to be told once, not by each."""


@dataclass(frozen=True)
class Processes:
    """Who this process is among those that train one model; each method is called by all of them.

    Attributes:
        rank: of this process, 0 up.
        count: of all.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def gather(self, value: Value) -> list[Value]:
        """Return every process's value, by rank."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value)
        return values

    def gather_shares(self, share: Sequence[Value], num_items: int) -> list[Value]:
        """Put together what the processes made of their shares `items[rank::count]`.

        Args:
            share: of this process, in order.
            num_items: of all.

        Returns:
            All, in the order of the items.
        """
        items: list[Any] = [None] * num_items
        for rank, part in enumerate(self.gather(list(share))):
            items[rank :: self.count] = part
        return items

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean over processes of a number, as a float; no gradient passes."""
        total = value.detach().float()
        if self.count > 1:
            total = total.clone()
            distributed.all_reduce(total)
        return total / self.count

    def gather_rows(self, rows: Tensor) -> Tensor:
        """Put the rows of all processes under each other, by rank.

        A row's gradient is the sum of what all processes' losses say of it. Where each computes
        the same loss of all rows, that is `count` times the gradient, which the mean over processes
        that follows for the weights makes right.

        Args:
            rows: (n, ...), n may differ between processes.

        Returns:
            (n of rank 0 + n of rank 1 + ..., ...).
        """
        if self.count == 1:
            return rows
        return _GatherRows.apply(rows, self)

    def share_buffers(self, module: nn.Module) -> None:
        """Give every process the main one's buffers, as BatchNorm's running statistics.

        Training does so before each step, and not after the last one before an evaluation.
        """
        if self.count > 1:
            for buffer in module.buffers():
                distributed.broadcast(buffer, src=0)


ALONE = Processes()


class _GatherRows(torch.autograd.Function):
    """Rows of this process -> rows of all."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, processes: Processes) -> Tensor:
        """Gather what was padded to the most rows that a process has."""
        own = torch.tensor([len(rows)], device=rows.device)
        lengths = [torch.empty_like(own) for _ in range(processes.count)]
        distributed.all_gather(lengths, own)
        lengths = [int(length) for length in lengths]
        padded = rows.new_zeros(max(lengths), *rows.shape[1:])
        padded[: len(rows)] = rows
        gathered = [torch.empty_like(padded) for _ in lengths]
        distributed.all_gather(gathered, padded)
        ctx.first = sum(lengths[: processes.rank])
        ctx.num_rows = len(rows)
        return torch.cat([part[:length] for part, length in zip(gathered, lengths, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        """Sum up the gradients of all processes; keep those of the own rows."""
        grad = grad_outputs[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(grad)
        return grad[ctx.first : ctx.first + ctx.num_rows], None


def join_processes() -> Processes:
    """Join the processes that a launcher has started, if one has; joining twice is joining once.

    Returns:
        Who this process is among them.

    Raises:
        FailedTogetherError: the launcher asks for FSDP.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        raise FailedTogetherError(
            "distributed_type: FSDP is not supported. Start from `mulap config two_nodes_ddp`, or "
            "use torchrun."
        )
    on_cpu = not torch.cuda.is_available()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        leave_group_at_exit()
        PartialState(cpu=on_cpu, timeout=LONGEST_WAIT)
        if on_cpu:
            share_cores()
    return joined_processes()


def joined_processes() -> Processes:
    """Say who this process is among those it has joined; alone, if none."""
    if distributed.is_available() and distributed.is_initialized():
        return Processes(distributed.get_rank(), distributed.get_world_size())
    return ALONE


def share_cores() -> None:
    """Give each process of a machine its part of the cores, where the launcher gives it one thread.

    torchrun says OMP_NUM_THREADS=1 to processes whose user has said nothing. Any other number is
    the user's and stays.
    """
    num_local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if num_local > 1 and os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(1, usable_cores() // num_local))


@contextmanager
def tell_of_lost_processes(processes: Processes) -> Iterator[None]:
    """Say in one line that another process has ended, where torch says which socket was closed.

    Args:
        processes: that train.

    Raises:
        FailedTogetherError: the connection to another process was lost.
    """
    is_over = False
    try:
        yield
        is_over = True
    except RuntimeError as error:
        if processes.count == 1 or not is_lost_connection(error):
            raise
        raise FailedTogetherError(
            f"process {processes.rank} has lost another one: see what that one or the launcher says"
        ) from error
    finally:
        if not is_over:
            _stay_in_group_unless_gloo()


def is_lost_connection(error: Exception) -> bool:
    """Whether torch says by an error that another process has ended."""
    if not isinstance(error, RuntimeError):
        return False
    return isinstance(error, distributed.DistError) or "onnection" in str(error)


@contextmanager
def fail_together(processes: Processes) -> Iterator[None]:
    """Let what users can mend, and one process meets, end all of them; also wait for all.

    Without it the others would wait for one that is gone. An error that is a bug passes by: the
    process ends, and the launcher ends the others. What is done inside must wait for no other
    process, or some would wait there and some here.

    Args:
        processes: that do the same at once.

    Raises:
        FailedTogetherError: a process raised a ValueError or OSError; says which, unless all may
            have, and what.
    """
    if processes.count == 1:
        yield
        return
    error = None
    try:
        yield
    except (ValueError, OSError) as caught:
        error = caught
    reasons = processes.gather(None if error is None else str(error))
    failed = [rank for rank, reason in enumerate(reasons) if reason is not None]
    if failed:
        where = f"process {failed[0]}: " if failed[0] else ""
        raise FailedTogetherError(f"{where}{reasons[failed[0]]}") from error


def check_same_settings(processes: Processes, settings: dict[str, Any]) -> None:
    """Check that all processes were told the same; called by all of them.

    Args:
        processes: that are to train together.
        settings: of this one, section -> key -> value.

    Raises:
        ValueError: one was told something else.
    """
    _check_same(processes, settings, "settings", "CONFIG and --set")


def check_same_data(processes: Processes, identity: dict[str, Any]) -> None:
    """Check that all processes have read the same tracks; called by all of them.

    Args:
        processes: that are to train together.
        identity: what this one trains and validates on, as counts and hashes by name.

    Raises:
        ValueError: one has read others, being on another machine perhaps.
    """
    _check_same(processes, identity, "data", "--data, and what else it reads")


def _check_same(processes: Processes, own: dict[str, Any], what: str, remedy: str) -> None:
    main = processes.gather(own)[0]
    with fail_together(processes):
        changed = differing_names(main, own, _OWN_SETTINGS)
        if changed:
            name = changed[0]
            here, there = flatten(own).get(name), flatten(main).get(name)
            raise ValueError(
                f"has other {what} than process 0 ({name} is {here!r} here and {there!r} there): "
                f"give every machine the same {remedy}"
            )


def leave_group_at_exit() -> None:
    """See to it that this process leaves its group of processes before the interpreter goes.

    A thread of gloo's may still hold the last reference to what was sent last. If it lets go of it
    while the interpreter is being taken down, it cannot have the interpreter's lock any more and
    the process aborts, with all its work done. Called where training first meets a group; calling
    it again, or without a group, does no harm.
    """
    atexit.unregister(_leave_group)
    atexit.register(_leave_group)


def _stay_in_group_unless_gloo() -> None:
    """Let a process that has failed go without leaving its group where leaving may wait.

    NCCL waits for what is still under way, which the other processes may never answer; the thread
    that makes gloo abort it does not have.
    """
    if distributed.is_available() and distributed.is_initialized():
        if distributed.get_backend() != "gloo":
            atexit.unregister(_leave_group)


def _leave_group() -> None:
    """End the group in this process, waiting for no other one: it may be dead."""
    if distributed.is_available() and distributed.is_initialized():
        gc.collect()  # a wrapped model in a reference cycle would keep the group's threads
        distributed.destroy_process_group()
