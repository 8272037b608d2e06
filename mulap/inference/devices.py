"""What the device that an encoder computes on asks for, so that its rows are like the CPU's.

cuDNN convolves in TF32 unless it is told otherwise: numbers of 10 bits instead of 23. The setting
is the whole process's, so it is lent: it is as before once nobody computes any more.

It knows no other rounding: who asks torch for TF32 in matrix products gets it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class _WholeFloat32:
    """Keeps convolutions at float32 as long as any thread is in it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_inside = 0
        self._before = ""

    def __enter__(self) -> None:
        with self._lock:
            if not self._num_inside:
                self._before = _convolutions().fp32_precision
                _convolutions().fp32_precision = "ieee"
            self._num_inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._num_inside -= 1
            if not self._num_inside:
                _convolutions().fp32_precision = self._before


def check_device(device: str) -> None:
    """Stop where torch has no such device; of a missing CUDA it says so at length.

    Raises:
        ValueError: there is none here.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"--device {device}: torch cannot use it here (install one that does, or give cpu)"
        ) from error


def _convolutions() -> Any:
    # `cudnn.flags` changes more than this, and fails where somebody has used the newer settings.
    return torch.backends.cudnn.conv  # pyright: ignore[reportAttributeAccessIssue] (undeclared)


_whole_float32 = _WholeFloat32()


@contextmanager
def computing_on(device: str | torch.device) -> Iterator[None]:
    """Compute in float32 throughout, on any number of threads.

    Args:
        device: where; for the message.

    Raises:
        ValueError: its memory is too small.
    """
    try:
        with _whole_float32:
            yield
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"{device}: its memory is too small (end what else uses it, ask Ray for more GPUs an "
            "actor, or give --device cpu)"
        ) from error
