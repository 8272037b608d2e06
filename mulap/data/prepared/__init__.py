"""A corpus decoded once, so that training reads it without decoding."""
