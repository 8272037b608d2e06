"""Encoders by name: audio -> vectors and tags."""
