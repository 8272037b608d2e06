"""METEOR by nltk, with WordNet as Debian packages it: `apt install wordnet-base`.

Words match if they are equal, have one stem, or are synonyms in WordNet; order counts.
"""

import io
import os
import re
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import nltk.data
import numpy as np
from nltk.corpus.reader.wordnet import WordNetCorpusReader
from nltk.translate.meteor_score import meteor_score

FOLDER = "/usr/share/wordnet"  # unless $WNSEARCHDIR, WordNet's own variable, names another
_NUM_LEXNAMES = 45


class _Debian(WordNetCorpusReader):
    """Reads WordNet without the two files that nltk adds to it; neither changes synonyms."""

    def open(self, file: str) -> Any:
        """Open a file; the list of subject fields is made up."""
        if file == "lexnames":
            return io.StringIO("".join(f"{i:02}\tfield\t0\n" for i in range(_NUM_LEXNAMES)))
        return super().open(file)

    def map_wn(self, version: str = "wordnet") -> None:
        """Map to no other version of WordNet."""


def score_meteor(captions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray | None:
    """Return METEOR of each caption and its nearest reference, 0 to 100 (n,); None: no WordNet."""
    folder = os.environ.get("WNSEARCHDIR") or FOLDER
    if not Path(folder, "data.noun").is_file():
        return None
    wordnet: Any = _open(folder)
    return np.array([
        100 * meteor_score([_words(each) for each in own], _words(caption), wordnet=wordnet)
        for caption, own in zip(captions, references, strict=True)
    ])  # fmt: skip


@cache
def _open(folder: str) -> WordNetCorpusReader:
    nltk.data.path.append(folder)  # else nltk refuses to read there
    with warnings.catch_warnings(action="ignore"):  # that only English is there
        return _Debian(folder, None)


def _words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())
