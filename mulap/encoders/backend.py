"""What computes: PyTorch where it is installed, else onnxruntime."""

import os
from importlib.util import find_spec
from typing import Literal

Backend = Literal["auto", "torch", "onnx"]
VARIABLE = "MULAP_BACKEND"
INSTALL_TORCH = "Run pip install 'mulap[torch]'"


def has_torch() -> bool:
    """Whether PyTorch and transformers are installed."""
    try:
        return all(find_spec(name) for name in ("torch", "transformers"))
    except ModuleNotFoundError:  # by whoever keeps others from importing it
        return False


def choose_backend(backend: Backend = "auto") -> Literal["torch", "onnx"]:
    """Return the backend to use.

    Args:
        backend: `auto` asks the environment variable `MULAP_BACKEND`, and without one takes PyTorch
            where it is installed.

    Raises:
        ValueError: there is no such backend, or it is not installed.
    """
    asked = os.environ.get(VARIABLE, "") or "auto" if backend == "auto" else backend
    if asked == "auto":
        return "torch" if has_torch() else "onnx"
    if asked == "torch" and not has_torch():
        raise ValueError(f"backend torch: PyTorch is not installed. {INSTALL_TORCH}.")
    if asked not in ("torch", "onnx"):
        raise ValueError(f"{VARIABLE} is '{asked}'. Give auto, torch or onnx.")
    return "torch" if asked == "torch" else "onnx"


def needs_torch(name: str) -> ValueError:
    """Return the error of a model or a device that only PyTorch has."""
    return ValueError(f"{name}: needs PyTorch. {INSTALL_TORCH}.")
