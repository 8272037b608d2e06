"""Encoders by tasks: the paper's tables, with ours beside what was published."""
