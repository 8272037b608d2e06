"""A process that holds one contestant and runs it whenever it is told to.

    python -m benchmarks.worker MODULE:FUNCTION '{"argument": 1}'

The function is called once with the arguments and returns what is to be timed. Then each line on
standard input is one run, and each line on standard output the answer to it: seconds, the most
memory this process has held, and what the run returned.

Only the standard library is used here, since the musicnn package lives in a Python of its own.
"""

import importlib
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any


def peak_mib() -> float:
    """Return the most memory that this process has held, in MiB; 0 where there is no /proc.

    Not by `resource`, which counts what the parent held too.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def make_run(target: str, arguments: dict[str, Any]) -> Any:
    """Return the function that is timed, made by `MODULE:FUNCTION`."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)(**arguments)


def time_run(run: Any) -> dict[str, Any]:
    """Run once; the answer holds `seconds`, `peak_mib` and `result`."""
    started = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_mib": peak_mib(), "result": result}


def main() -> None:
    """Answer on what was standard output; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(values: dict[str, Any]) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    run = make_run(sys.argv[1], json.loads(sys.argv[2]))
    answer({"peak_mib": peak_mib()})
    for _ in sys.stdin:
        answer(time_run(run))


if __name__ == "__main__":
    main()
