"""What is fast, measured against the plain way and against others, in one run.

    make bench                             everything; writes docs/benchmarks.md
    python -m benchmarks --toy             everything at toy size: does it still run?
    python -m benchmarks --tables cnn,text --json out.json

A *table* is a question. Its *contestants* answer it, each in a process of its own (`worker`), in
turn and again (`measure`): A B C, B C A, C A B. So a slow minute slows all of them, and ratios are
taken within a round. Nothing here fails on a slow result.
"""

import os

# As it was at first: `mulap.cli.group` sets a variable, which must reach no contestant but ours.
ENVIRONMENT = dict(os.environ)
