"""The command line: each command parses, calls one function and prints.

`group` is shared by all commands. Heavy imports stand inside the commands, so that `mulap --help`
needs no torch.
"""

from mulap.cli import (
    caption,
    config,
    corpora,
    explain,
    export,
    inference,
    library,
    public_sets,
    search,
    tag,
    training,
    transfer,
    web,
)
from mulap.cli.group import main

__all__ = [
    "caption",
    "config",
    "corpora",
    "explain",
    "export",
    "inference",
    "library",
    "main",
    "public_sets",
    "search",
    "tag",
    "training",
    "transfer",
    "web",
]
