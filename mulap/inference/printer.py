"""The store's stand-in where rows are printed: JSON lines, of which a later run knows nothing."""

import shutil
import tempfile
import threading
from typing import Any, TextIO

from mulap.inference.parts import Rows, file_batches
from mulap.inference.shards import WriteShards, write_here
from mulap.inference.tables import row_schema, write_json_lines


class LinePrinter:
    """A store's stand-in for a stream: JSON lines, a file's all at once or none.

    Args:
        out: where to print.
        embedding_size: length of a vector.
        metadata: what makes the vectors.
    """

    def __init__(self, out: TextIO, embedding_size: int, metadata: dict[str, Any]) -> None:
        self.out = out
        self.schema = row_schema(embedding_size, metadata)
        self._num_rows = 0
        self._lock = threading.Lock()

    def __enter__(self) -> "LinePrinter":
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is held."""

    def has(self, file: str, version: str) -> bool:
        """Return False: what was printed by an earlier run is not known."""
        return False

    def add(self, file: str, version: str, rows: Rows) -> None:
        """Print a file's rows, once all are there. See `mulap.inference.store`."""
        with tempfile.TemporaryFile("w+", encoding="utf-8") as spool:
            num_rows = 0
            for batch in file_batches(self.schema, file, version, rows):
                write_json_lines(spool, batch)
                num_rows += len(batch)
            spool.seek(0)
            with self._lock:
                shutil.copyfileobj(spool, self.out)
                self.out.flush()
                self._num_rows += num_rows

    def forget(self, file: str) -> None:
        """Do nothing: of a file that cannot be used, nothing was printed."""

    def finish(self, write_shards: WriteShards = write_here) -> int:
        """Return the number of rows that were printed."""
        return self._num_rows
