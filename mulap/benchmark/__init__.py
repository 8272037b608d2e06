"""Encoders by tasks: the paper's tables, with ours beside what was published.

Reading order: `config` (what is compared), `pair` (one backbone on one task -> a row), `trained`
(the baselines that are trained here), `rows` and `run` (all pairs, resumable), `published` (other
people's numbers, with their sources), `differences` (between backbones), then the report:
`printing`, `tables`, `listings`, `figures`, `document`, `report`.
"""
