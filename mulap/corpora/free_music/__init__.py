"""The free music of Debian's packages as a corpus: fetched, cut, described and split."""
