"""A process that has imported everything and forks a child for every request.

Importing torch and its friends takes seconds, a round of hostilities less than one. Requests and
answers are JSON lines on standard input and output, see `hostile.kit`, which starts this:

    {"start": "hostile.workers:run_cli", "arguments": [...], "cwd": ..., "out": ..., "err": ...}
        -> {"pid": 123}
    {"wait": 123, "seconds": 60}
        -> {"code": -9, "peak_bytes": ...}, or {"code": null} where it runs on

A child is reaped only when it is waited for, so its number stays its own until then. This process
itself never computes: it has one thread, and a child's pools are its own.
"""

import atexit
import gc
import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from typing import Any

PRELOADED = (
    "mulap.cli", "mulap.embedding.embed", "mulap.encoders.load", "mulap.training.pretrain.run",
    "mulap.training.supervised.run", "mulap.probing.pair", "mulap.tasks.folder", "mulap.audio",
    "mulap.tasks.registry", "mulap.tasks.mediaeval", "mulap.data.manifest", "pyarrow.parquet",
    "mulap.data.prepared.write", "pyarrow.ipc", "torch", "transformers", "accelerate",
    "sklearn.metrics", "yaml", "soundfile", "torch.utils.data",
    "transformers.models.bert.modeling_bert", "numba",
)  # fmt: skip


def serve() -> dict[str, Any] | None:
    """Answer requests until the input ends; return a request in the child that is to do it."""
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _answer(_wait(request["wait"], request["seconds"]))
            continue
        pid = os.fork()
        if not pid:
            return request
        _answer({"pid": pid})
    return None


def run(request: dict[str, Any]) -> None:
    """Become what a shell would have started, and do what is asked for."""
    os.setsid()
    for descriptor, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, request["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(name, flags, 0o666)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin = open(0, closefd=False)
    sys.stdout = open(1, "w", closefd=False)
    os.chdir(request["cwd"])
    module, _, function = request["start"].partition(":")
    getattr(importlib.import_module(module), function)(*request["arguments"])


def _run_and_end(request: dict[str, Any]) -> None:
    """Run, and end as the interpreter would, but for taking all modules apart, which is slow."""
    code: Any = 1
    try:
        run(request)
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
    finally:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        _end(code)


def _end(code: int) -> None:
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _answer(reply: dict[str, Any]) -> None:
    print(json.dumps(reply), flush=True)


def _wait(pid: int, seconds: float) -> dict[str, Any]:
    until = time.monotonic() + seconds
    while True:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            return {"code": code, "peak_bytes": usage.ru_maxrss * 1024}
        if time.monotonic() > until:
            return {"code": None}
        time.sleep(0.005)


def main() -> None:
    """Import, say so, and serve."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in PRELOADED:
        importlib.import_module(name)
    sys.modules["torch"].set_num_threads(1)
    _answer({"ready": True})
    gc.freeze()  # a collection in a child would touch, and so copy, all of this
    request = serve()
    if request is not None:
        _run_and_end(request)


if __name__ == "__main__":
    main()
