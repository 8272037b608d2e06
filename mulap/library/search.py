"""From a point to the tracks to show: the nearest, then what a list of music has to be.

    nearest tracks (by cosine)  ->  without what is not wanted, or excluded
                                ->  near-duplicates merged, few of one artist
                                ->  of each, the 9 seconds that fit best

Too few left? Then more of the nearest are asked for, up to `_MOST_CANDIDATES`.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from lancedb.expr import Expr

from mulap.encoders.zero_shot import unit_length
from mulap.library.store import Store, points_of

_CANDIDATES, _CANDIDATES_OF_A_HIT = 200, 20
_MOST_CANDIDATES = 20_000
# Measured: other encodings and cuts of a clip have cosines of 0.93 and more (median 0.99), the
# most alike tracks of different names 0.95.
_SAME_RECORDING, _SAME_SECONDS = 0.97, 0.03
_SAME_SONG = 0.7  # of tracks with one title by one artist
_VERSION = re.compile(
    r"""[(\[][^)\]]*[)\]]                  # (Live), [2011 Remaster]
    |\s[-–—:]\s.*?\b(?:live|demo|remaster(?:ed)?|mix|remix|version|edit|mono|stereo|take|acoustic|
      instrumental|unplugged|session|bonus)\b.*$""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True)
class Rules:
    """What a list of tracks has to be."""

    per_artist: int | None = 2  # most tracks of one artist; None for any number
    is_one_an_album: bool = False  # no two tracks of one album
    merges: bool = True  # shows one of several near-duplicates
    excluded: frozenset[str] = frozenset()  # absolute paths of files that are not shown
    vary: int | None = None  # seed that mixes the order a little; None for the nearest first


@dataclass
class Picks:
    """Tracks that were picked, and what they leave no room for."""

    rules: Rules
    rows: list[dict[str, Any]] = field(default_factory=list)  # of `Store.nearest`, with `point`
    alike: list[dict[str, Any]] = field(
        default_factory=list
    )  # examples: no pick is one, or a duplicate of one

    def __post_init__(self) -> None:
        """Begin with no artist and no album."""
        self._artists, self._albums = Counter[str](), set[tuple[str, str]]()

    def offer(self, row: dict[str, Any]) -> bool:
        """Pick a track if the rules allow it; return whether they do."""
        artist = row["artist"].casefold()
        album = (artist, row["album"].casefold())
        is_too_many = artist and self._artists[artist] >= (self.rules.per_artist or np.inf)
        is_same_album = self.rules.is_one_an_album and row["album"] and album in self._albums
        is_excluded = not self.rules.excluded.isdisjoint(row["files"])
        is_example = any(row["key"] == each["key"] for each in self.alike)
        if is_too_many or is_same_album or is_excluded or is_example:
            return False
        if self.rules.merges and any(is_duplicate(row, each) for each in (*self.alike, *self.rows)):
            return False
        self.take(row)
        return True

    def take(self, row: dict[str, Any]) -> None:
        """Pick a track, whatever the rules say."""
        artist = row["artist"].casefold()
        self.rows.append(row)
        self._artists[artist] += 1
        self._albums.add((artist, row["album"].casefold()))


def find(
    store: Store,
    point: np.ndarray,
    picks: Picks,
    count: int,
    where: Expr | None = None,
    allows: Callable[[np.ndarray], np.ndarray] | None = None,
) -> None:
    """Pick tracks near a point.

    Args:
        store: where the tracks are.
        point: of unit length (D,).
        picks: what was picked already; the tracks are added to it.
        count: how many to add, if there are so many.
        where: a filter that all tracks fulfil.
        allows: points (N, D) -> which of them may be picked (N,).
    """
    wanted, seen = len(picks.rows) + count, {row["key"] for row in picks.rows}
    num_asked = max(_CANDIDATES, _CANDIDATES_OF_A_HIT * count)
    while True:
        found = store.nearest(point, num_asked, where)
        for row in _rows(found, allows, picks.rules.vary, count):
            if len(picks.rows) == wanted:
                return
            if row["key"] not in seen:
                seen.add(row["key"])
                picks.offer(row)
        if len(found) < num_asked or num_asked >= _MOST_CANDIDATES:
            return
        num_asked *= 5


class Window(NamedTuple):
    """A part of a track, in seconds, and its point (D,)."""

    start: float
    end: float
    point: np.ndarray


def best_windows(store: Store, rows: list[dict[str, Any]], point: np.ndarray) -> list[Window]:
    """Return of each track, a row of `Store.nearest`, the window nearest to a point."""
    windows = store.windows_of([row["key"] for row in rows])
    points = points_of(windows)
    cosines = points @ point
    best: dict[str, int] = {}
    for index, key in enumerate(windows.column("key").to_pylist()):
        if key not in best or cosines[index] > cosines[best[key]]:
            best[key] = index
    starts, ends = (windows.column(name).to_pylist() for name in ("start", "end"))
    whole = {row["key"]: Window(0.0, row["seconds"], row["point"]) for row in rows}
    found = {key: Window(starts[index], ends[index], points[index]) for key, index in best.items()}
    return list((whole | found).values())  # whole: a track that was removed a moment ago


def is_duplicate(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two tracks are one recording, or versions of one song by one artist."""
    cosine = float(one["point"] @ other["point"])
    shorter, longer = sorted((one["seconds"], other["seconds"]))
    if cosine >= _SAME_RECORDING and shorter >= (1 - _SAME_SECONDS) * longer:
        return True
    title = clean_title(one["title"])
    is_same_artist = one["artist"].casefold() == other["artist"].casefold() != ""
    return (
        bool(title)
        and is_same_artist
        and cosine >= _SAME_SONG
        and title == clean_title(other["title"])
    )


def clean_title(title: str) -> str:
    """Return a title without what tells versions apart: `Ambre (Live)` -> `ambre`."""
    plain = unicodedata.normalize("NFKC", title).casefold()
    cleaned = re.sub(r"[\W_]+", " ", _VERSION.sub(" ", plain)).strip()
    return cleaned or plain.strip()


def between(first: np.ndarray, last: np.ndarray, count: int) -> np.ndarray:
    """Return points of unit length on the way between two, both included (count, D)."""
    angle = np.arccos(np.clip(first @ last, -1, 1))
    steps = np.linspace(0, 1, count)[:, None]
    if angle < 1e-4:
        return np.repeat(first[None], count, 0)
    points = np.sin((1 - steps) * angle) * first + np.sin(steps * angle) * last
    return unit_length(points)


def _rows(
    found: pa.Table,
    allows: Callable[[np.ndarray], np.ndarray] | None,
    vary: int | None,
    count: int,
) -> list[dict[str, Any]]:
    """Return rows that may be picked, each with its point, best first."""
    points = points_of(found)
    cosines = found.column("cosine").to_numpy()
    order = np.arange(len(found))
    if vary is not None and len(found) > 1:
        # Gumbel noise: a track comes up more often the nearer it is.
        scale = (cosines[0] - cosines[min(3 * count, len(found) - 1)]) / 3
        noise = np.random.default_rng(vary).gumbel(size=len(found))
        order = np.argsort(-(cosines + scale * noise), kind="stable")
    if allows is not None:
        order = order[allows(points[order])]
    rows = found.drop_columns(["point"]).to_pylist()
    return [rows[index] | {"point": points[index]} for index in order]
