"""The command line: each command parses, calls one function and prints.

Reading order: `group` (shared by all commands), then `corpora`, `public_sets`, `config`,
`training`, `inference`, `library` and `transfer`. Heavy imports stand inside the commands, so that
`mulap --help` needs no torch.
"""

from mulap.cli import config, corpora, inference, library, public_sets, training, transfer
from mulap.cli.group import main

__all__ = [
    "config",
    "corpora",
    "inference",
    "library",
    "main",
    "public_sets",
    "training",
    "transfer",
]
