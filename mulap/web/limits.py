"""What a request may ask for, and how it is refused: one JSON object with a remedy.

{"error": "top is 0.", "remedy": "Give a whole number from 1 to 200."}
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from mulap.encoders.zero_shot import check_tags
from mulap.terminal import clock_time


@dataclass(frozen=True)
class Limits:
    """The most that one request, or one process, takes."""

    body_bytes: int = 2**18  # of JSON
    upload_bytes: int = 100_000_000
    upload_seconds: float = 1_800.0  # what is longer is cut
    text_letters: int = 1_000
    num_texts: int = 256  # of one list
    top: int = 200
    num_uploads: int = 20  # kept, the oldest is removed; and as many on their way
    num_waiting: int = 64  # requests for the model; more are refused
    silence_seconds: float = 30.0  # without a byte of the body
    body_seconds: float = 1_800.0  # for all of the body


class Refused(Exception):
    """A request that is refused.

    Attributes:
        status: of HTTP.
        error: what is wrong.
        remedy: what to do.
    """

    def __init__(self, status: int, error: str, remedy: str) -> None:
        super().__init__(status, error, remedy)
        self.status, self.error, self.remedy = status, error, remedy

    def to_json(self) -> dict[str, str]:
        """Return the body of the answer."""
        return {"error": self.error, "remedy": self.remedy}

    @classmethod
    def by(cls, error: ValueError, status: int = 400) -> "Refused":
        """Make one of an error in mulap's form, `WHERE: WHAT. REMEDY.`"""
        text = " ".join(str(error).split())
        what, dot, remedy = text.rstrip(".").rpartition(". ")
        return cls(status, f"{what}.", f"{remedy}.") if dot else cls(status, text, "")


def read_json(body: bytes) -> dict[str, Any]:
    """Read the object in a body.

    Raises:
        Refused: it is not JSON, or not an object.
    """
    try:
        values = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "The body is not JSON.", 'Send an object: {"query": "..."}.') from error
    if not isinstance(values, dict):
        raise Refused(400, "The body is no JSON object.", 'Send an object: {"query": "..."}.')
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class Fields:
    """The fields of a request, each checked when it is taken.

    Args:
        values: of JSON; or of a query string, whose values are lists of text.
        limits: that apply.
        is_query: whether they are of a query string.
    """

    def __init__(self, values: Mapping[str, Any], limits: Limits, is_query: bool = False) -> None:
        self._values, self._limits, self._is_query = dict(values), limits, is_query
        self._taken: set[str] = set()

    def texts(self, name: str, is_needed: bool = False) -> list[str]:
        """Take one text or a list of texts."""
        value = self._take(name)
        texts = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise _wrong(name, "is not text", "Give text, or a list of texts")
        if len(texts) > self._limits.num_texts:
            raise _wrong(name, f"has {len(texts)} texts", f"Give at most {self._limits.num_texts}")
        for text in texts:
            self._check_text(name, text)
        if is_needed and not texts:
            raise _wrong(name, "is missing", "Give text, or a list of texts")
        return texts

    def text(self, name: str, default: str = "") -> str:
        """Take one text."""
        value = self._first(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise _wrong(name, "is not text", "Give text")
        self._check_text(name, value)
        return value

    def tags(self, name: str) -> tuple[str, ...] | None:
        """Take words that serve as tags; None if there are none."""
        texts = self.texts(name)
        if self._is_query:
            texts = [tag for text in texts for tag in text.split(",")]
        if not texts:
            return None
        try:
            return check_tags(texts)
        except ValueError as error:
            raise _wrong(name, "holds an empty tag", "Give words, such as jazz") from error

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """Take a whole number."""
        value = self._first(name)
        if self._is_query and isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value[:20])
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            remedy = f"Give a whole number from {least} to {most}"
            raise _wrong(name, "is no such number", remedy)
        return value

    def seconds(self, name: str) -> float | None:
        """Take seconds, at least 0; None if there are none."""
        value = self._first(name)
        if self._is_query and value is not None:
            try:
                value = float(value)
            except ValueError:
                value = math.nan
        return None if value is None else check_seconds(name, value)

    def flag(self, name: str) -> bool:
        """Take true or false; false if it is not there."""
        value = self._first(name)
        if self._is_query and value is not None:
            value = {"true": True, "1": True, "false": False, "0": False}.get(str(value), value)
        if value is not None and not isinstance(value, bool):
            raise _wrong(name, "is neither true nor false", "Give true or false")
        return bool(value)

    def values(self, name: str) -> list[Any]:
        """Take a list of anything, or one thing that is no list; the caller checks what it is."""
        value = self._take(name)
        found = [] if value is None else value if isinstance(value, list) else [value]
        if len(found) > self._limits.num_texts:
            raise _wrong(name, f"has {len(found)} items", f"Give at most {self._limits.num_texts}")
        return found

    def end(self) -> None:
        """Refuse fields that were not taken: they are misspelt, or of another route."""
        if unknown := sorted(set(self._values) - self._taken):
            shown = ", ".join(name[:40].encode("utf-8", "replace").decode() for name in unknown[:3])
            known = ", ".join(sorted(self._taken))
            raise Refused(400, f"{shown}: is no field here.", f"Use {known}.")

    def _take(self, name: str) -> Any:
        self._taken.add(name)
        return self._values.get(name)

    def _first(self, name: str) -> Any:
        value = self._take(name)
        return value[0] if self._is_query and value else value

    def _check_text(self, name: str, text: str) -> None:
        most = self._limits.text_letters
        if len(text) > most:
            raise _wrong(name, f"has {len(text):,} letters", f"Give at most {most:,}", 413)
        if not text.strip() or not text.isascii() and not _is_encodable(text) or "\0" in text:
            raise _wrong(name, "is empty, or not text", "Give words")


def check_seconds(name: str, value: Any) -> float:
    """Return seconds, at least 0, or refuse them."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value < 1e9:
        raise _wrong(name, "is no time", "Give seconds, such as 83")
    return float(value)


def too_large(limits: Limits) -> Refused:
    """Return what refuses audio of too many bytes."""
    megabytes = limits.upload_bytes // 1_000_000
    return Refused(413, f"Over {megabytes} MB.", "Send a shorter or more compressed file.")


def was_cut(limits: Limits) -> str:
    """Return the note about audio that was cut."""
    minutes = limits.upload_seconds / 60
    if minutes < 1:
        return f"Longer than {clock_time(limits.upload_seconds)}: only that much is used."
    return f"Longer than {minutes:g} minutes: the first {minutes:g} are used."


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character
        return False
    return True


def _wrong(name: str, what: str, remedy: str, status: int = 400) -> Refused:
    return Refused(status, f"{name}: {what}.", f"{remedy}.")
