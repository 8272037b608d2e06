"""A music library that can be searched: which files it has, and the points of their audio."""
