"""Ray itself, without its talk: how it is started, what it has, and what its errors say in a line.

What is done with it: `mulap.embedding.cluster`.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

import ray
import ray.exceptions

_STARTS = 4  # of a cluster, before it is given up on a busy machine
_OBJECT_STORE_BYTES = 2**27  # of a cluster that we start; only lists of files are in it
_STDERR = 2  # the system's number of it


def start_ray(address: str | None) -> None:
    """Start Ray on this machine, or join a cluster.

    Args:
        address: of a running cluster, `auto` for the one of this machine; None starts one here.

    Raises:
        ValueError: there is none, or it did not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what is not Python's to be kept quiet
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address is None:
        options |= {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    where = f"--ray-address {address}" if address else "starting Ray here"
    for _ in range(_STARTS):
        try:
            with _quiet_stderr():
                ray.init(address or "local", **options)
            return
        except (ConnectionError, RuntimeError) as error:
            raise ValueError(f"{where}: {last_line(error)}. See `ray status`.") from error
        except Exception as error:  # noqa: BLE001 (where a start takes over 30 s, Ray raises just this)
            if type(error) is not Exception:
                raise
            ray.shutdown()
    raise ValueError(
        f"{where}: took too long, {_STARTS} times. The machine may be busy. Try again."
    )


def check_gpus(gpus_per_actor: float) -> None:
    """Refuse what no machine has: Ray would wait for it without end.

    Raises:
        ValueError: an actor asks for more GPUs than any machine of the cluster has.
    """
    most = max(
        (node["Resources"].get("GPU", 0) for node in ray.nodes() if node["Alive"]), default=0
    )
    if most < gpus_per_actor:
        raise ValueError(
            f"--gpus-per-actor {gpus_per_actor:g}: no machine of the cluster has more GPUs than "
            f"{most:g}. Ask for fewer, or give --device cpu."
        )


def count_actors(gpus_per_actor: float) -> int:
    """Return how many actors of one CPU each, or of shares of GPUs, the cluster has room for."""
    resources = ray.cluster_resources()
    if gpus_per_actor:
        return max(1, int(resources.get("GPU", 0) / gpus_per_actor))
    return max(1, int(resources.get("CPU", 1)))


def get_result(reference: Any) -> Any:
    """Return what a task returned.

    Raises:
        ValueError: Ray could not have it done.
        Exception: what the task raised, without the other process's traceback in its text.
    """
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise ValueError(f"Ray: {last_line(error)}. Go on with --skip-existing.") from error


@contextlib.contextmanager
def quiet_ray() -> Iterator[None]:
    """Keep Ray's talk off the terminal; its own log files have it."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    # Ray prints of every process that died, to standard output.
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keep even what is not Python's off standard error."""
    before = os.dup(_STDERR)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), _STDERR)
        yield
    finally:
        os.dup2(before, _STDERR)
        os.close(before)


def last_line(error: Exception) -> str:
    """Return the end of an error's message, where Ray says what it was."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
