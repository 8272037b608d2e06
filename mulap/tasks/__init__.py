"""The tasks that an encoder is judged by: which tracks, which labels, which split, which score.

Reading order: `task` (what a task is), `registry` (name -> task), one file of constants a task,
`folder` (labels of your own), `verify` (is a download whole?), `metrics` and `result` (how
predictions are scored). A task knows files and labels, and nothing of encoders.
"""
