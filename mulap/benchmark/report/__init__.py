"""A benchmark's results -> one page, as Markdown and HTML."""
