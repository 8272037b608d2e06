"""Encoders by tasks: the paper's tables, with ours beside what was published.

Reading order: `config` (what is compared), `run` (one row a pair, resumable), `published` (other
people's numbers, with their sources), `tables`, `figures` and `report`.
"""
