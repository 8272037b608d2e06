"""Sentences as the text model reads them, by the tokenizer in a model's folder."""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers


class Tokens(NamedTuple):
    """Sentences as the text model reads them, padded to the longest.

    Attributes:
        ids: of the tokens, int64 (N, L).
        mask: 1 where there is a token, int64 (N, L).
    """

    ids: np.ndarray
    mask: np.ndarray


class Vocabulary(NamedTuple):
    """What writes sentences of tokens.

    Attributes:
        words: of each id (V,); what continues a word begins with ##.
        start: the id before a sentence.
        end: the id after it.
        mask: the id that stands for a hidden word.
        padding: the id where there is no token.
        never: ids that no sentence holds: special tokens and unused ones.
        parts: ids of what continues a word.
    """

    words: tuple[str, ...]
    start: int
    end: int
    mask: int
    padding: int
    never: np.ndarray
    parts: np.ndarray


class Tokenizer:
    """The WordPiece of a BERT.

    Args:
        folder: of the model.
        most_tokens: that the text model takes.
        vocab_size: of the text model.

    Raises:
        ValueError: there is no tokenizer, or it cannot be read.
    """

    def __init__(self, folder: Path, most_tokens: int, vocab_size: int) -> None:
        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
            text = (folder / "tokenizer_config.json").read_text(encoding="utf-8")
            self._names: dict[str, Any] = json.loads(text)
            for kind in ("cls", "sep", "mask", "pad", "unk"):
                self._id_of(kind)
        except Exception as error:  # noqa: BLE001 (of a wrong tokenizer.json `tokenizers` raises just this)
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"{folder}: has no tokenizer: {reason}. Copy it again.") from error
        self.most_tokens = min(int(self._names.get("model_max_length", most_tokens)), most_tokens)
        self._vocab_size = vocab_size
        self._tokenizer.enable_truncation(self.most_tokens)
        self._tokenizer.enable_padding(pad_id=self._id_of("pad"), pad_token=self._name_of("pad"))

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Turn sentences into tokens; those too long for the text model are cut."""
        encoded = self._tokenizer.encode_batch(list(texts))
        ids = np.array([each.ids for each in encoded], np.int64)
        return Tokens(ids, np.array([each.attention_mask for each in encoded], np.int64))

    def pieces(self, text: str) -> list[str]:
        """Return the pieces of a text's words, without special tokens."""
        return self._tokenizer.encode(text, add_special_tokens=False).tokens

    @property
    def unknown(self) -> str:
        """The piece that stands for characters which the vocabulary lacks."""
        return self._name_of("unk")

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words that the text model knows."""
        size = min(self._tokenizer.get_vocab_size(), self._vocab_size)
        words = tuple(self._tokenizer.id_to_token(index) for index in range(size))
        added = self._tokenizer.get_added_tokens_decoder()
        special = {index for index, token in added.items() if token.special}
        special |= {self._id_of(kind) for kind in ("cls", "sep", "mask", "pad", "unk")}
        never = [i for i in range(size) if i in special or words[i].startswith("[unused")]
        return Vocabulary(
            words,
            start=self._id_of("cls"),
            end=self._id_of("sep"),
            mask=self._id_of("mask"),
            padding=self._id_of("pad"),
            never=np.array(never),
            parts=np.array([i for i, word in enumerate(words) if word.startswith("##")], np.int64),
        )

    def _name_of(self, kind: str) -> str:
        name = self._names[f"{kind}_token"]
        return name["content"] if isinstance(name, dict) else name

    def _id_of(self, kind: str) -> int:
        index = self._tokenizer.token_to_id(self._name_of(kind))
        if index is None:
            raise ValueError(f"{self._name_of(kind)} is not in its vocabulary")
        return index
