"""What the children of `hostile.template` do."""

import atexit
import importlib
import json
import os
import resource
import signal
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

# What Python tells of a file system in the making; arrow's and torch's own calls it does not see.
_EVENTS = frozenset(
    "open os.rename os.remove os.mkdir os.rmdir os.truncate os.link os.symlink os.chmod "
    "shutil.rmtree shutil.copyfile".split()
)


class _Counter:
    """Counts what this process does to files below its folder, and ends it before one of them."""

    def __init__(self, signal_number: int, last_event: int) -> None:
        self.folder, self.pid = os.getcwd(), os.getpid()
        self.signal_number, self.left = signal_number, last_event
        self.num_events = 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS or os.getpid() != self.pid or not arguments:
            return
        path = arguments[0]
        if not isinstance(path, str | bytes | os.PathLike):
            return
        name = os.fsdecode(path)
        if os.path.isabs(name) and not name.startswith(self.folder):
            return
        self.num_events += 1
        if self.num_events == self.left:
            os.kill(self.pid, self.signal_number)


def run_cli(argv: list[str], hostility: dict[str, Any]) -> None:
    """Call `mulap`, as its console script does.

    Args:
        argv: its arguments.
        hostility: `event` and `signal` end it before it touches a file for so many times; `count`
            names a file for how often it did; `max_file_bytes` and `max_memory_bytes` are limits;
            `patches` sets names of modules; `pickles` names a file for all that pickles named.
    """
    # A command that imports these itself reports control-C in a line; nobody does so here.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    for where, value in hostility.get("patches", ()):
        module, _, name = where.partition(":")
        assert hasattr(importlib.import_module(module), name), where
        setattr(importlib.import_module(module), name, value)
    signal.signal(signal.SIGINT, before)
    limits = {"max_file_bytes": resource.RLIMIT_FSIZE, "max_memory_bytes": resource.RLIMIT_AS}
    for name, kind in limits.items():
        if name in hostility:
            resource.setrlimit(kind, (hostility[name], hostility[name]))
    counter = _Counter(hostility.get("signal", signal.SIGKILL), hostility.get("event", 0))
    if "count" in hostility:
        atexit.register(lambda: Path(hostility["count"]).write_text(str(counter.num_events)))
    sys.addaudithook(counter)
    if "pickles" in hostility:
        sys.addaudithook(partial(_note_pickles, hostility["pickles"]))
    from mulap.cli import main

    main(argv, prog_name="mulap")


def _note_pickles(path: str, event: str, arguments: tuple[Any, ...]) -> None:
    if event != "pickle.find_class":  # torch's reader of weights alone never asks for one
        return
    frames = [frame.filename for frame in traceback.extract_stack()]
    if not any("/numba/" in each for each in frames):  # it keeps its compiled code so
        with open(path, "a", encoding="utf-8") as out:
            out.write(f"{arguments}\n")


def decode_files(names: list[str], max_memory_bytes: int) -> None:
    """Decode files, whole and in parts, and print a JSON line before and after each.

    Args:
        names: of the files.
        max_memory_bytes: of addresses, beyond those that this process has already.
    """
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + max_memory_bytes,) * 2)
    for name in names:
        print(json.dumps({"begin": name}), flush=True)
        print(json.dumps({"name": name} | _decode(name)), flush=True)


def _decode(name: str) -> dict[str, Any]:
    from mulap.audio import SAMPLING_RATE, AudioError, load_audio, probe_audio, stream_audio

    said: dict[str, Any] = {}
    try:
        probe_audio(name)
    except AudioError as error:
        said["probe"] = str(error)
    try:
        whole = load_audio(name)
    except AudioError as error:
        return said | {"error": str(error)}
    said["num_samples"] = len(whole)
    said["is_finite"] = bool(np.isfinite(whole).all())
    said["streamed"] = _difference(np.concatenate(list(stream_audio(name))), whole)
    said["parts"] = []
    seconds = len(whole) / SAMPLING_RATE
    for share in (0.05, 0.37, 0.71, 0.98):
        start = round(share * seconds, 2)
        first = round(start * SAMPLING_RATE)
        if first >= len(whole):
            continue
        try:
            part = load_audio(name, start, 1.0)
        except AudioError as error:
            said["parts"].append([start, str(error)])
            continue
        said["parts"].append([start, _difference(part, whole[first : first + SAMPLING_RATE])])
    return said


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float | str:
    """Return the largest difference, in units of the level where that is above 1."""
    if not np.isfinite(ours).all():
        return "not finite"
    if ours.shape != theirs.shape:
        return f"{len(ours)} samples, not {len(theirs)}"
    level = max(1.0, float(np.abs(theirs).max(initial=0.0)))
    return float(np.abs(ours - theirs).max(initial=0.0)) / level


def call_each(calls: list[list[str]], max_memory_bytes: int) -> None:
    """Call `mulap` for each list of arguments; print a JSON line before and after each.

    Args:
        calls: arguments; a folder `OUT` among them is a new one for each call.
        max_memory_bytes: of addresses, beyond those that this process has already.
    """
    from click.testing import CliRunner

    from mulap.cli import main

    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + max_memory_bytes,) * 2)
    for argv in calls:
        print(json.dumps({"begin": argv}), flush=True)
        result = CliRunner().invoke(main, argv)
        is_exit = result.exception is None or isinstance(result.exception, SystemExit)
        said = {"argv": argv, "code": result.exit_code, "err": result.stderr[-3000:]}
        if not is_exit:
            said["raised"] = "".join(traceback.format_exception(result.exception))
        print(json.dumps(said), flush=True)
