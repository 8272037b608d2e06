"""A file -> its rows: what its tags say, a point for the whole track and one per 9 seconds.

    file -> features of 3-second segments (M, A) -> mean of all, projected            (D,)
                                                 -> mean of each three, projected  (W, D)

A point belongs to the mean of some segments' features, as in training and in `mulap tag`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from mulap.encoders.zero_shot import unit_length
from mulap.library.store import now, track_schema, window_schema, with_points
from mulap.library.tags import read_tags, with_own_tags

if TYPE_CHECKING:
    from mulap.encoders.encoder import Encoder

SEGMENTS_OF_WINDOW = 3


class LibraryFile(NamedTuple):
    """A file to look at."""

    file: str  # its name in the library
    path: Path
    key: str | None  # of its audio, if it is known for sure
    version: str  # that has this key; empty if there is none


class Listener(Protocol):
    """What is needed of an engine, see `mulap.encoders.engine`."""

    @property
    def space(self) -> str:
        """Name of the embedding space, NAME@HASH."""
        ...

    @property
    def size(self) -> int:
        """Length D of a point."""
        ...

    @property
    def backbone(self) -> "Encoder":
        """Makes the features."""
        ...

    def project(self, features: np.ndarray) -> np.ndarray:
        """Map features, float32 (M, A), to points, float32 (M, D)."""
        ...


class Batch:
    """Rows of tracks that were heard, waiting to be committed together."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.clear()

    def clear(self) -> None:
        """Forget the rows, which are in the tables now."""
        self._tracks: list[dict[str, Any]] = []
        self._windows: list[tuple[str, np.ndarray, np.ndarray]] = []
        self._points: list[np.ndarray] = []
        self.num_windows = 0

    def add(
        self, key: str, file: str, version: str, path: Path, blocks: Iterable[np.ndarray]
    ) -> None:
        """Add a file, given the features of its segments, each (M, A), at least one in all.

        The last window is shorter if segments are left over.
        """
        features = np.concatenate(list(blocks))
        edges = np.arange(0, len(features), SEGMENTS_OF_WINDOW)
        counts = np.diff(np.append(edges, len(features)))
        means = np.add.reduceat(features.astype(np.float64), edges) / counts[:, None]
        whole = features.mean(0, dtype=np.float64)
        points = self._listener.project(np.vstack([whole, means]).astype(np.float32))
        stride = self._listener.backbone.stride_seconds
        about = read_tags(path, fallback_seconds=len(features) * stride)
        row = {"key": key, "files": [file], "file": file, "version": version, **about}
        self._tracks.append(row | {"num_windows": len(edges), "added": now()})
        self._windows.append((key, edges * stride, (edges + counts) * stride))
        self._points.append(unit_length(points))
        self.num_windows += len(edges)

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """Return the rows for `Store.add`."""
        size = self._listener.size
        tracks, columns = with_own_tags(track_schema(size), self._tracks)
        windows = window_schema(size)
        keys, starts, ends = zip(*self._windows, strict=True)
        of_windows = {
            "key": [key for key, some in zip(keys, starts, strict=True) for _ in some],
            "start": np.concatenate(starts).astype(np.float32),
            "end": np.concatenate(ends).astype(np.float32),
        }
        return (
            with_points(tracks, columns, np.stack([points[0] for points in self._points])),
            with_points(windows, of_windows, np.concatenate([each[1:] for each in self._points])),
        )

    def __len__(self) -> int:
        """Return the number of tracks."""
        return len(self._tracks)
