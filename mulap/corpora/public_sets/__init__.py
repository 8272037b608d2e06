"""Public sets of the field as corpora: a module a set reads its official tables."""
