"""Encoders on tasks: the paper's tables, with your scores next to the published ones."""
