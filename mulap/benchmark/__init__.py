"""Encoders by tasks: the paper's tables, with ours beside what was published.

Reading order: `config` (what is compared), `trained` (the baselines that are trained here), `run`
(all pairs, resumable), then the folder `report`.
"""
