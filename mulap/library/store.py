"""The tables of a library: a row per track and a row per window of 9 seconds, in LanceDB.

    tracks_HASH     key, files, tags, ..., point      searched first
    windows_HASH    key, start, end, point            where in a track

HASH belongs to the embedding space, so that two spaces live side by side. Points have unit length
and are float16; cosines are computed here, in float32, from the points that LanceDB returns.

One process writes (`mulap.library.about.writing`), any number read. Windows are written before
their tracks and removed after them. So a kill can only leave windows without a track; the next
writer sees it from the number of rows and removes them.

LanceDB starts threads when it is imported: a process that has imported this must not fork.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.expr import Expr, col, lit
from lancedb.index import BTree, IvfSq

from mulap.encoders.zero_shot import unit_length
from mulap.files import AnyPath
from mulap.library.about import Space, read_about
from mulap.library.tags import NUMBER, TEXT, is_own

LANCE_FOLDER = "lance"
LEAST_ROWS_OF_INDEX = 50_000  # fewer are compared exactly; 300,000 took 162 ms
METRIC = "cosine"
# Parts of the index that a query looks at. Words lie far from all tracks: of a million tracks, 20
# parts (LanceDB's default) held 0.68 of the ten nearest, 100 held all, for 33 ms of CPU, not 19.
_PROBES = 100
_REFINE_FACTOR = 5  # so many times the wanted rows are compared exactly after the index
MOST_TAG_COLUMNS = 500  # of tags without a fixed column
_ROWS_AT_ONCE = 5_000  # keys of one filter, rows of one commit
_LOOK_AGAIN = timedelta(seconds=2)  # how old a reader's view may be
_KEEP_VERSIONS = timedelta(hours=1)  # longer than any reader's query
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_NO_TABLE = re.compile("Table '.*' was not found")
_Result = TypeVar("_Result")

_TRACK_FIELDS = [
    ("key", pa.string()),  # of the audio, see `mulap.vectors.keys`
    ("files", pa.list_(pa.string())),  # absolute paths of all files with this audio, sorted
    ("file", pa.string()),  # the first of them, whose tags these are
    ("version", pa.string()),  # of `file`, see `file_version`
    ("title", pa.string()),  # empty if unknown, as all tags
    ("artist", pa.string()),
    ("album", pa.string()),
    ("genre", pa.string()),
    ("year", pa.int32()),  # 0 if unknown
    ("seconds", pa.float32()),
    ("num_windows", pa.int32()),
    ("added", pa.int64()),  # seconds since 1970
    ("tags_version", pa.int32()),  # of `read_tags`; null in rows of before
]
SHOWN = ("key", "files", "file", "title", "artist", "album", "seconds", "point")
_WINDOW_FIELDS = [("key", pa.string()), ("start", pa.float32()), ("end", pa.float32())]


def track_schema(size: int) -> pa.Schema:
    """Return the columns of a track, with points of `size` numbers; those of own tags are added."""
    return pa.schema([*_TRACK_FIELDS, ("point", pa.list_(pa.float16(), size))])


def window_schema(size: int) -> pa.Schema:
    """Return the columns of a window; `start` and `end` are seconds."""
    return pa.schema([*_WINDOW_FIELDS, ("point", pa.list_(pa.float16(), size))])


def points_of(table: pa.Table) -> np.ndarray:
    """Return the column `point`, float32 (N, D)."""
    column = table.column("point").combine_chunks()
    size = table.schema.field("point").type.list_size
    return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, size).astype(np.float32)


def with_points(schema: pa.Schema, columns: dict[str, Any], points: np.ndarray) -> pa.Table:
    """Make a table of columns and of points (N, D)."""
    flat = pa.array(np.ascontiguousarray(points, np.float16).ravel())
    points_column = pa.FixedSizeListArray.from_arrays(flat, points.shape[1])
    return pa.table({**columns, "point": points_column}, schema=schema)


class Store:
    """The two tables of one embedding space. Open it with `Store.open` or `Store.write`.

    Attributes:
        folder: the library.
        space: whose points these are.
        left_out_tags: columns of tags that were not written: there are too many.
    """

    def __init__(self, folder: AnyPath, space: Space, is_writer: bool = False) -> None:
        self.folder, self.space = Path(folder), space
        self.left_out_tags: set[str] = set()
        with self._in_our_words():
            self._db = lancedb.connect(
                read_about(folder).tables or self.folder / LANCE_FOLDER,
                read_consistency_interval=timedelta(0) if is_writer else _LOOK_AGAIN,
            )
            self._tracks = self._table("tracks", track_schema(space.size), is_writer)
            self._windows = self._table("windows", window_schema(space.size), is_writer)

    @classmethod
    def open(cls, folder: AnyPath) -> "Store":
        """Open the space that answers, for reading.

        Raises:
            ValueError: the folder is not a library, or its tables are missing.
        """
        return cls(folder, read_about(folder).space)

    @classmethod
    def write(cls, folder: AnyPath, space: Space) -> "Store":
        """Open a space for writing; make its tables if they are missing, and tidy up after a kill.

        The caller is the only one that writes: `mulap.library.about.writing`.
        """
        store = cls(folder, space, is_writer=True)
        store._tidy_up()
        return store

    def __len__(self) -> int:
        """Return the number of tracks."""
        return self._read(lambda: self._tracks.count_rows())

    def num_windows(self) -> int:
        """Return the number of windows."""
        return self._read(lambda: self._windows.count_rows())

    def tracks(self, where: Expr | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the tracks for which a typed expression (`lancedb.expr`) is true, in no order.

        Args:
            where: None for all.
            columns: None for all but `point`.
        """
        columns = columns or self.columns
        return self._read(lambda: _select(self._tracks, where, columns))

    @property
    def columns(self) -> list[str]:
        """Names of the columns of tracks, without `point`."""
        return [name for name in self._read(lambda: self._tracks.schema).names if name != "point"]

    def own_tags(self) -> dict[str, bool] | None:
        """Return the tags without a fixed column: name -> whether some are numbers.

        None: the library was made before they were read.
        """
        names = self.columns
        if "tags_version" not in names:
            return None
        texts = [name.removeprefix(TEXT) for name in names if name.startswith(TEXT)]
        return {name: NUMBER + name in names for name in sorted(texts)}

    def track(self, key: str) -> dict[str, Any] | None:
        """Return one track, all columns; None if it is not there."""
        found = self.tracks(col("key") == lit(key), [*self.columns, "point"])
        if not len(found):
            return None
        return found.drop_columns(["point"]).to_pylist()[0] | {"point": points_of(found)[0]}

    def nearest(
        self, point: np.ndarray, count: int, where: Expr | None = None, is_exact: bool = False
    ) -> pa.Table:
        """Return the tracks nearest to a point, nearest first.

        Args:
            point: float32 (D,), of any length but 0.
            count: most rows.
            where: a typed expression that all rows fulfil; it applies before the search.
            is_exact: compare every track, also where there is an index.

        Returns:
            The columns that hits need, `SHOWN`, and `cosine`, float32.
        """
        self._check_point(point)
        return self._read(lambda: _nearest(self._query(point, where, is_exact), point, count))

    def explain(self, point: np.ndarray, where: Expr | None = None, is_exact: bool = False) -> str:
        """Return LanceDB's plan of `nearest`, as text."""
        return self._read(lambda: self._query(point, where, is_exact).limit(10).explain_plan(True))

    def windows_of(self, keys: Sequence[str]) -> pa.Table:
        """Return all windows of some tracks, with their points, by track and start."""
        columns = window_schema(self.space.size).names
        found = [
            self._read(lambda some=some: _select(self._windows, col("key").isin(some), columns))
            for some in _parts(list(keys))
        ]
        if not found:
            return window_schema(self.space.size).empty_table()
        return pa.concat_tables(found).sort_by([("key", "ascending"), ("start", "ascending")])

    def points(self, keys: Sequence[str]) -> pa.Table:
        """Return `key` and `point` of some tracks, in no order."""
        found = [
            self.tracks(col("key").isin(some), ["key", "point"]) for some in _parts(list(keys))
        ]
        empty = track_schema(self.space.size).empty_table().select(["key", "point"])
        return pa.concat_tables(found) if found else empty

    def unindexed(self) -> int:
        """Return how many tracks a search compares one by one."""
        return self._read(lambda: _num_unindexed(self._tracks))

    def add(self, tracks: pa.Table, windows: pa.Table) -> None:
        """Add tracks that are not there yet, and all their windows; two commits."""
        with self._in_our_words():
            self._windows.add(windows)
            self._tracks.add(self._make_room(tracks))

    def update(self, tracks: pa.Table) -> None:
        """Replace the rows of tracks that are there; their windows stay."""
        with self._in_our_words():
            tracks = self._make_room(tracks)
            for start in range(0, len(tracks), _ROWS_AT_ONCE):
                merge = self._tracks.merge_insert("key").when_matched_update_all()
                merge.execute(tracks.slice(start, _ROWS_AT_ONCE))

    def delete(self, keys: Sequence[str]) -> None:
        """Remove tracks and their windows."""
        with self._in_our_words():
            for table in (self._tracks, self._windows):
                for some in _parts(list(keys)):
                    table.delete(col("key").isin(some))

    def optimize(self) -> None:
        """Merge small files, bring indices up to date, and remove versions older than an hour.

        From `LEAST_ROWS_OF_INDEX` rows on, tracks get an index of points, and windows one of keys.
        """
        with self._in_our_words():
            if self._tracks.count_rows() >= LEAST_ROWS_OF_INDEX and not self._has_index("tracks"):
                self._tracks.create_index("point", config=IvfSq(distance_type=METRIC))
            if self._windows.count_rows() >= LEAST_ROWS_OF_INDEX and not self._has_index("windows"):
                self._windows.create_index("key", config=BTree())
            for table in (self._tracks, self._windows):
                table.optimize(cleanup_older_than=_KEEP_VERSIONS)

    def drop_others(self, kept: Sequence[Space]) -> None:
        """Remove the tables of all spaces but some; a reader of one is told to open it again."""
        hashes = {space.hash for space in kept}
        with self._in_our_words():
            for name in self._db.list_tables().tables:
                if name.rpartition("_")[2] not in hashes:
                    self._db.drop_table(name)

    def _table(self, name: str, schema: pa.Schema, is_writer: bool) -> Any:
        name = f"{name}_{self.space.hash}"
        try:
            table = self._db.open_table(name)
        except ValueError as error:
            if not (is_writer and _NO_TABLE.match(str(error))):
                raise
            return self._db.create_table(name, schema=schema)
        if is_writer:
            _add_columns(table, schema)  # that an earlier version did not have
        return table

    def _make_room(self, tracks: pa.Table) -> pa.Table:
        """Add the columns of tags that come up for the first time; return what has a column."""
        own = [name for name in self.columns if is_own(name)]
        new = [name for name in tracks.column_names if is_own(name) and name not in own]
        if too_many := new[max(0, MOST_TAG_COLUMNS - len(own)) :]:
            self.left_out_tags.update(too_many)
            tracks = tracks.drop_columns(too_many)
        _add_columns(self._tracks, tracks.schema)
        return tracks

    def _has_index(self, name: str) -> bool:
        return bool((self._tracks if name == "tracks" else self._windows).list_indices())

    def _query(self, point: np.ndarray, where: Expr | None, is_exact: bool) -> Any:
        point = np.asarray(point, np.float32)
        query = self._tracks.search(point, vector_column_name="point", query_type="vector")
        # The metric is named in index and query alike: another one scans without the index.
        query = query.distance_type(METRIC).select([*SHOWN, "_distance"])
        approximate = query.nprobes(_PROBES).refine_factor(_REFINE_FACTOR)
        query = query.bypass_vector_index() if is_exact else approximate
        return query if where is None else query.where(where, prefilter=True)

    def _check_point(self, point: np.ndarray) -> None:
        if point.shape != (self.space.size,) or not np.linalg.norm(point) > 0:
            raise ValueError(
                f"{self.folder}: a point of {self.space.name} has {self.space.size} finite "
                f"numbers, this one has the shape {point.shape}. Use the library's model."
            )

    def _read(self, ask: Callable[[], _Result]) -> _Result:
        """Ask a table; once more if the version that it stood at was removed meanwhile."""
        with self._in_our_words():
            try:
                return ask()
            except RuntimeError as error:
                if "not found" not in str(error).lower():
                    raise
                if (space := read_about(self.folder).space) != self.space:
                    raise ValueError(
                        f"{self.folder}: is answered by {space.name} now. Open it again."
                    ) from error
                self._tracks.checkout_latest()
                self._windows.checkout_latest()
                return ask()

    def _tidy_up(self) -> None:
        """Make tracks and windows agree: none twice, no windows without a track or in part."""
        with self._in_our_words():
            tracks = _select(self._tracks, None, ["key", "num_windows"])
            keys = tracks.column("key")
            is_unique = len(keys.unique()) == len(keys)
            num_windows = int(tracks.column("num_windows").to_numpy().sum())
            if is_unique and num_windows == self._windows.count_rows():
                return
            counted = _select(self._windows, None, ["key"]).column("key").value_counts()
            counts = dict(
                zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True)
            )
            # A track twice, or without all its windows (as after a power cut), is embedded again.
            rows = list(
                zip(keys.to_pylist(), tracks.column("num_windows").to_pylist(), strict=True)
            )
            sound = {key for key, number in rows if counts.get(key, 0) == number}
            seen: set[str] = set()
            twice = {key for key, _ in rows if key in seen or seen.add(key)}
        self.delete(sorted(({*counts, *seen} - sound) | twice))

    @contextmanager
    def _in_our_words(self) -> Iterator[None]:
        """Turn LanceDB's errors, which are Rust's, into a line that says what to do."""
        try:
            yield
        except (RuntimeError, ValueError, OSError) as error:
            ours = _in_our_words(error, self.folder)
            raise ours from (None if ours is error else error)


def _in_our_words(error: Exception, folder: Path) -> Exception:
    text = str(error)
    if number := _OS_ERROR.search(text):
        return OSError(int(number[1]), os.strerror(int(number[1])), os.fspath(folder))
    if _NO_TABLE.match(text):
        return ValueError(f"{folder}: has no tables for its model. Run mulap index again.")
    if not isinstance(error, RuntimeError):
        return error  # one of ours, or of a filter that names no column
    if "Cast error" in text:
        return ValueError(f"{folder}: a filter compares a column with a value of another kind.")
    if "onflict" in text:
        return ValueError(f"{folder}: another program changed it meanwhile. Run it again.")
    return ValueError(
        f"{folder}: its tables cannot be read; a file is damaged or gone. Remove the library's "
        "folder and run mulap index again."
    )


def _add_columns(table: Any, schema: pa.Schema) -> None:
    """Add the columns of a schema that a table lacks; they are null in the rows that are there."""
    if new := [each for each in schema if each.name not in table.schema.names]:
        table.add_columns(new)


def _select(table: Any, where: Expr | None, columns: Sequence[str]) -> pa.Table:
    query = table.search().select(list(columns))
    return (query if where is None else query.where(where)).to_arrow()


def _nearest(query: Any, point: np.ndarray, count: int) -> pa.Table:
    found = query.limit(count).to_arrow().drop_columns(["_distance"])
    cosines = pa.array(unit_length(points_of(found)) @ unit_length(point))
    found = found.append_column("cosine", cosines)
    return found.sort_by([("cosine", "descending"), ("file", "ascending")])


def _num_unindexed(table: Any) -> int:
    indices = table.list_indices()
    if not indices:
        return table.count_rows()
    return table.index_stats(indices[0].name).num_unindexed_rows


def _parts(keys: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(keys), _ROWS_AT_ONCE):
        yield keys[start : start + _ROWS_AT_ONCE]


def now() -> int:
    """Return the time for the column `added`."""
    return int(time.time())
