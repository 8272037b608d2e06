"""The tasks that encoders are evaluated on: which tracks, which labels, which split, which score.

Reading order: `task` (what a task is), `registry` (name -> task), `sets` (official data sets),
`folder` (labels of your own), `verify` (is a download whole?), `metrics`, `bootstrap` and `result`
(how predictions are scored). Scope: files and labels, no encoders.
"""
