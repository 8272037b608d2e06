"""Device settings that keep embeddings close to the CPU's.

cuDNN convolves in TF32 unless it is told otherwise: numbers of 10 bits instead of 23. The setting
is the whole process's, so it is as before once nobody computes any more.

Scope: convolutions and RNNs. A program that asks torch for TF32 in matrix products gets it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch


class _WholeFloat32:
    """Keeps convolutions, and RNNs, at float32 as long as any thread is in it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_inside = 0
        self._before = _Precision(None, "", "")

    def __enter__(self) -> None:
        with self._lock:
            if not self._num_inside:
                self._before = _precision()
                is_one = self._before.is_tf32 is not None
                _set_precision(_Precision(False if is_one else None, "ieee", "ieee"))
            self._num_inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._num_inside -= 1
            if not self._num_inside:
                _set_precision(self._before)


class _Precision(NamedTuple):
    """What cuDNN computes in: torch's one setting for all (None where they differ), and each."""

    is_tf32: bool | None
    convolutions: str
    rnns: str


# Not by `cudnn.flags`, which sets more than this and cannot be used where the settings differ.
def _precision() -> _Precision:
    cudnn: Any = torch.backends.cudnn
    try:
        is_tf32 = cudnn.allow_tf32
    except RuntimeError:
        is_tf32 = None
    return _Precision(is_tf32, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision)


def _set_precision(precision: _Precision) -> None:
    cudnn: Any = torch.backends.cudnn
    if precision.is_tf32 is not None:
        cudnn.allow_tf32 = precision.is_tf32
    cudnn.conv.fp32_precision = precision.convolutions
    cudnn.rnn.fp32_precision = precision.rnns


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
            f"{device}: its memory is too small. End what else uses it, ask Ray for more GPUs an "
            "actor, or give --device cpu."
        ) from error


def choose_device(device: str | torch.device) -> str:
    """Return a device that torch can use: the one that is named, or for `auto` a GPU, else the CPU.

    Raises:
        ValueError: torch cannot use that device here.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() and _can_use("mps") else "cpu"
    if not _can_use(device):
        raise ValueError(f"--device {device}: torch cannot use it here. Give auto or cpu.")
    return str(device)


def _can_use(device: str | torch.device) -> bool:
    """Whether torch computes there; of a device that is missing it says so in many ways."""
    try:
        one = torch.ones(1, 1, 1, device=device)
        return torch.conv1d(one, one).item() == 1.0
    except (RuntimeError, AssertionError):
        return False
