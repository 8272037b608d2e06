"""What training asks of `torch.distributed`: leaving the group of processes in order.

Nothing here starts a group; `torchrun` or `accelerate launch` say how many processes there are, and
the Trainer's arguments join them.
"""

import atexit
import gc

from torch import distributed


def leave_group_at_exit() -> None:
    """See to it that this process leaves its group of processes before the interpreter goes.

    A thread of gloo's may still hold the last reference to what was sent last. If it lets go of it
    while the interpreter is being taken down, it cannot have the interpreter's lock any more and
    the process aborts, with all its work done. Called where training first meets a group; calling
    it again, or without a group, does no harm.
    """
    atexit.unregister(_leave_group)
    atexit.register(_leave_group)


def _leave_group() -> None:
    """End the group in this process, waiting for no other one: it may be dead."""
    if distributed.is_available() and distributed.is_initialized():
        gc.collect()  # a wrapped model in a reference cycle would keep the group's threads
        distributed.destroy_process_group()
