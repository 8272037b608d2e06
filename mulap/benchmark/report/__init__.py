"""A benchmark's results -> one page, as Markdown and HTML.

Reading order: `published` (other people's numbers, with their sources), `differences` (between
backbones), `tables`, `figures`, `listings`, `markdown` (how they are written), `page` (the whole).
"""
