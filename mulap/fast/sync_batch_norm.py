"""BatchNorm whose statistics are of the batches of all processes, on any device.

torch's own SyncBatchNorm refuses tensors on a CPU. This one sums through torch.distributed, in the
forward and in the backward pass, so that K processes with a share of a batch each train as one
process with the whole batch. Nothing is summed in evaluation mode or outside of a process group:
there it is the BatchNorm that it was made from. Every process has to take part in each training
forward and backward pass, also one that has a single segment.

Scope: sums over the process group that there is; `mulap.training.processes` joins and leaves it.

Shapes: M items of this process, C channels, ... any dimensions after the channels.
"""

from typing import Any, TypeGuard

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable


def convert_sync_batch_norm(module: nn.Module) -> nn.Module:
    """Let every BatchNorm1d and BatchNorm2d in a module take statistics over all processes.

    Parameters, buffers and their names are kept, so optimisers, checkpoints and references to any
    of them stay valid. Converting twice is converting once.

    Args:
        module: changed in place.

    Returns:
        The same module.
    """
    kinds: dict[type, type] = {nn.BatchNorm1d: SyncBatchNorm1d, nn.BatchNorm2d: SyncBatchNorm2d}
    for part in module.modules():
        part.__class__ = kinds.get(type(part), type(part))
    return module


def is_synchronised(norm: nn.Module | None) -> TypeGuard["SyncBatchNorm1d | SyncBatchNorm2d"]:
    """Whether a training pass of this normalisation waits for other processes."""
    return (
        isinstance(norm, SyncBatchNorm1d | SyncBatchNorm2d)
        and norm.training
        and distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )


def sum_over_processes(values: Tensor) -> Tensor:
    """Return the sum over all processes of a tensor that each has, in a new tensor."""
    total = values.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total


class SyncBatchNorm1d(nn.BatchNorm1d):
    """BatchNorm1d over the batches of all processes."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (M, C) or (M, C, N)."""
        if is_synchronised(self):
            return normalise_synchronised(self, input)
        return super().forward(input)


class SyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d over the batches of all processes."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (M, C, H, W)."""
        if is_synchronised(self):
            return normalise_synchronised(self, input)
        return super().forward(input)


def normalise_synchronised(
    norm: SyncBatchNorm1d | SyncBatchNorm2d, x: Tensor, is_affine: bool = True
) -> Tensor:
    """Normalise by the statistics of all processes, and move the running ones.

    Args:
        norm: what normalises.
        x: (M, C, ...).
        is_affine: whether weight and bias are applied, where there are any.

    Returns:
        A tensor like x.

    Raises:
        ValueError: there is one value per channel over all processes.
    """
    wide = x if x.dtype == torch.double else x.float()
    with torch.no_grad():
        own = _sum(wide)
        num_values = torch.full_like(own, x.numel() // x.shape[1])
        total, counts = sum_over_processes(torch.stack([own, num_values]))
        mean, count = total / counts, int(counts[0])
        variance = sum_over_processes(_sum((wide - _spread(mean, wide)).square())) / count
        update_running(norm, mean, variance, count)
    affine = (norm.weight, norm.bias) if is_affine else (None, None)
    return _Normalise.apply(wide, *affine, mean, torch.sqrt(variance + norm.eps), count).to(x.dtype)


def update_running(
    norm: nn.BatchNorm1d | nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int
) -> None:
    """Move the running statistics of a BatchNorm as a training pass of it would.

    Args:
        norm: whose running statistics are moved, if it has any.
        mean: of the batch, (C,).
        variance: of the batch, biased, (C,).
        count: values per channel in the batch.

    Raises:
        ValueError: there is one value per channel.
    """
    if count < 2:
        raise ValueError(f"BatchNorm trains on 2 or more values per channel, and got {count}")
    if norm.running_mean is None or norm.running_var is None:
        return
    assert norm.num_batches_tracked is not None  # the three come together
    norm.num_batches_tracked.add_(1)
    # No momentum: the average over all batches so far.
    momentum = 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    unbiased = variance * (count / (count - 1))
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
    norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), momentum)


class _Normalise(torch.autograd.Function):
    """(x - mean) / deviation * weight + bias, differentiated through the shared statistics."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        deviation: Tensor,
        count: int,
    ) -> Tensor:
        """Return a tensor like x."""
        ctx.save_for_backward(x, weight, mean, deviation)
        ctx.count = count
        slope = 1 / deviation if weight is None else weight / deviation
        y = (x - _spread(mean, x)) * _spread(slope, x)
        return y if bias is None else y + _spread(bias, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, weight and bias; the latter two of this process alone."""
        x, weight, mean, deviation = ctx.saved_tensors
        grad = grad_outputs[0]
        x_hat = (x - _spread(mean, x)) / _spread(deviation, x)
        own = torch.stack([_sum(grad), _sum(grad * x_hat)])
        on_mean, on_deviation = sum_over_processes(own) / ctx.count
        slope = 1 / deviation if weight is None else weight / deviation
        grad_x = grad - _spread(on_mean, x) - x_hat * _spread(on_deviation, x)
        grad_x *= _spread(slope, x)
        if weight is None:
            return grad_x, None, None, None, None, None
        on_bias, on_weight = own.to(weight.dtype)
        return grad_x, on_weight, on_bias, None, None, None


def _sum(values: Tensor) -> Tensor:
    """Sum (M, C, ...) to (C,) in double precision."""
    return values.sum([i for i in range(values.ndim) if i != 1], dtype=torch.double)


def _spread(values: Tensor, like: Tensor) -> Tensor:
    """Let (C,) stand at the channels of (M, C, ...), in its precision."""
    return values.to(like.dtype).view(-1, *[1] * (like.ndim - 2))
