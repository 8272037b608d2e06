"""The command line: each command parses, calls one function and prints.

Reading order: `group` (shared by all commands), then `corpora`, `public_sets`, `config`,
`training`, `inference` and `transfer`. Heavy imports stand inside the commands, so that
`mulap --help` needs no torch.
"""

from mulap.cli import config, corpora, inference, public_sets, training, transfer
from mulap.cli.group import main

__all__ = ["config", "corpora", "inference", "main", "public_sets", "training", "transfer"]
