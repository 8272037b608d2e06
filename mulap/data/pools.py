"""For the processes of a pool: to end when the one that started them does. Knows nothing else.

`ProcessPoolExecutor`'s wait for work for ever once theirs was killed. Imports nothing heavy, since
each of them imports this.
"""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """Watch the process that started this one, in a thread; to be given as a pool's initializer."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # only processes of a pool come here
    parent.join()
    os._exit(1)
