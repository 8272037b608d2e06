"""Audio that comes inside an archive: LAION-style tars, and parquet files with the audio's bytes.

Either is unpacked once into a folder of plain audio files with a `.tracks.jsonl` beside them,
which `manifest` then reads like any other. That list is written last and in one step: where it is,
the archive was unpacked whole; after a kill the files already written are kept.

    N.tar: 000.flac 000.json {"text": ["a waltz"]}     x.parquet: audio {bytes, path} | caption
      |                                                    |
      +--> .mulap-unpacked/N-<digest>/.tracks.jsonl <------+
                                      000.flac ...

An archive may come from anyone, so nothing in it is trusted: no name in it becomes a path (files
get flat names of our own), what `mulap.archives` finds unsafe is refused, sizes are checked before
anything is read. What is refused is listed with its reason, the rest is used. Decodes no audio.
"""

import hashlib
import io
import json
import posixpath
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

import pyarrow as pa

from mulap.archives import DAMAGED, Entry, read_tar
from mulap.audio import AUDIO_SUFFIXES
from mulap.data.row_files import Row, one_line, read_parquet_rows, read_parquet_schema, text_columns
from mulap.data.splits import find_split
from mulap.files import AnyPath, atomic_path

UNPACKED_FOLDER = ".mulap-unpacked"
"""Where archives are unpacked, beside them, unless the caller names a folder."""

INDEX_FILE = ".tracks.jsonl"
"""Says that an archive was unpacked whole. Hidden: `safe_name` gives no entry such a name."""

MAX_AUDIO_BYTES = 2 * 2**30
"""The largest audio file taken from an archive: 3 hours of 16-bit 44.1 kHz stereo fit in."""

MAX_JSON_BYTES = 16 * 2**20
"""The largest JSON neighbour that is read; it has to fit in memory."""

SOURCE_KEY, PROBLEM_KEY = "_source", "_problem"
"""Keys of the unpacked list: where in the archive a row came from; why an entry was refused."""

# Neighbours of a track that are no audio. Other files with any ending are tried, but where
# a track has a neighbour with an ending of audio.
_NOT_AUDIO = frozenset(
    ".cls .csv .jpeg .jpg .jsonl .lrc .md .mid .midi .npy .npz .png .txt .xml .yaml".split()
)


_SECOND = "second audio file of one track: only the first is used"


def unpack_tar(archive: AnyPath, cache_folder: AnyPath | None = None) -> Path:
    """Unpack a LAION-style tar once; return the path of its `.tracks.jsonl`, beside the audio.

    A track is a pair `key.flac` and `key.json` (any audio ending; the order does not matter); the
    JSON's `text` holds its captions. The track's id is `<tar's name>/<key>`, after the name of the
    tar's folder where that is a split's, since each split has a `0.tar`. Without a `cache_folder`,
    `.mulap-unpacked` beside the tar is used. ValueError if it cannot be written or is too small.
    """
    path = Path(archive)
    return _unpack_once(path, cache_folder, lambda folder: _TarReader(path, folder).rows())


def unpack_parquet(archive: AnyPath, cache_folder: AnyPath | None = None) -> Path:
    """Write the audio bytes of a parquet file out, once; return the path of their `.tracks.jsonl`.

    The column `audio` has structs with `bytes` (and `path`). A file is named by its content's hash,
    so rows with one recording become captions of one track. The track's id is that name where no
    column `track_id` gives one. `cache_folder` and errors are as in `unpack_tar`.
    """
    path = Path(archive)
    return _unpack_once(path, cache_folder, lambda folder: _parquet_audio_rows(path, folder))


def holds_audio_bytes(schema: pa.Schema) -> bool:
    """Say whether a parquet schema has the audio itself in a column `audio`."""
    index = schema.get_field_index("audio")
    if index < 0 or not pa.types.is_struct(schema.field(index).type):
        return False
    return schema.field(index).type.get_field_index("bytes") >= 0


def _unpack_once(
    archive: Path, cache_folder: AnyPath | None, extract: Callable[[Path], Iterator[Row]]
) -> Path:
    state = archive.stat()
    # A changed archive gets a new folder. Its size and time stand for its content: hashing
    # hundreds of gigabytes at every start would take longer than reading the tracks.
    identity = f"{archive.parent.name}/{archive.name}:{state.st_size}:{state.st_mtime_ns}"
    digest = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    folder = Path(cache_folder or archive.parent / UNPACKED_FOLDER) / f"{archive.stem}-{digest}"
    index = folder / INDEX_FILE
    if index.is_file():
        return index
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = sum(path.stat().st_size for path in folder.iterdir())  # by a run that was killed
        if shutil.disk_usage(folder).free < state.st_size - there:
            raise ValueError(
                f"{archive}: {state.st_size - there:,} bytes do not fit in {folder.parent}. Free "
                "some space there, or name another folder with --unpack-to."
            )
        with atomic_path(index) as temporary, open(temporary, "w", encoding="ascii") as out:
            for row in extract(folder):
                out.write(json.dumps(row) + "\n")
    except OSError as error:
        raise ValueError(
            f"{archive}: cannot be unpacked into {folder.parent} ({error.strerror or error}). "
            "Make room there, check the permissions, or name another folder with --unpack-to."
        ) from error
    return index


_LISTS = ("text", "caption", "caption_source")  # of a JSON, which may be lists


class _TarReader:
    """Reads one tar from front to back: writes its audio out and pairs it with its JSON."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self.archive, self.folder = archive, folder
        self.names_seen: set[str] = set()
        self.audio: dict[str, str] = {}  # key -> name of the file written
        self.texts: dict[str, Row] = {}  # key -> what its JSON says
        self.neighbours: list[tuple[str, str]] = []  # key and name of what seems to be no audio

    def rows(self) -> Iterator[Row]:
        """Yield a row for each track and for each entry that was refused."""
        try:
            with open(self.archive, "rb") as content:
                for entry in read_tar(content):
                    if problem := self._take(entry):
                        yield {SOURCE_KEY: f"entry {entry.name!r}", PROBLEM_KEY: problem}
        except DAMAGED as error:
            reason = f"damaged tar: {one_line(error)}. Fetch it again, uncompressed."
            yield {SOURCE_KEY: f"after {len(self.audio)} audio files", PROBLEM_KEY: reason}
        yield from self._paired()

    def _paired(self) -> Iterator[Row]:
        folder = self.archive.parent.name
        prefix = f"{folder}/{self.archive.stem}" if find_split(folder) else self.archive.stem
        for key, file_name in self.audio.items():
            source = {SOURCE_KEY: f"entry {key!r}"}
            if key in self.texts:
                track_id = f"{prefix}/{key}"
                yield {"track_id": track_id, **self.texts[key], "file_name": file_name, **source}
            else:
                yield {**source, PROBLEM_KEY: "no JSON: this audio file has no .json beside it"}
        for key, name in self.neighbours:
            if not is_audio_name(self.audio[key]):  # either may be the audio
                yield {SOURCE_KEY: f"entry {name!r}", PROBLEM_KEY: _SECOND}
        for key in self.texts.keys() - self.audio.keys():
            yield {
                SOURCE_KEY: f"entry {key + '.json'!r}",
                PROBLEM_KEY: "no audio: this .json has no audio file beside it",
            }

    def _take(self, entry: Entry) -> str | None:
        """Use one entry of the tar; return why it was refused, None where it was not."""
        key, suffix = posixpath.splitext(posixpath.normpath(entry.name))
        suffix = suffix.lower()
        # Names starting "._" are the shadow files that macOS puts into tars.
        is_ignored = suffix in _NOT_AUDIO or posixpath.basename(entry.name).startswith("._")
        if entry.open is None or is_ignored:
            return None
        if reason := self._refuse(entry, MAX_JSON_BYTES if suffix == ".json" else MAX_AUDIO_BYTES):
            return reason
        self.names_seen.add(entry.name)
        if suffix == ".json":
            return self._take_text(key, entry.open().read())
        held = self.audio.get(key)
        if held and is_audio_name(held) and is_audio_name(entry.name):
            return _SECOND
        if held and not is_audio_name(entry.name):
            self.neighbours.append((key, entry.name))
            return None
        name = safe_name(entry.name)
        _write_once(self.folder / name, entry.open(), entry.num_bytes)
        self.audio[key] = name
        if held:  # and it was none by its ending
            (self.folder / held).unlink(missing_ok=True)
        return None

    def _refuse(self, entry: Entry, max_bytes: int) -> str | None:
        if entry.problem:
            return f"unsafe entry: it {entry.problem}"
        if entry.name in self.names_seen:
            return "duplicate entry: only the first of this name is used"
        if entry.num_bytes > max_bytes:
            return f"entry too large: {entry.num_bytes:,} bytes, at most {max_bytes:,} are taken"
        return None

    def _take_text(self, key: str, content: bytes) -> str | None:
        try:
            values = json.loads(content)
        except (ValueError, RecursionError) as error:
            return f"not JSON: {one_line(error)}"
        if not isinstance(values, dict):
            return "not JSON: an object with `text` is expected"
        # Only plain values are kept, and never a path: the audio is what the tar holds.
        self.texts[key] = {
            name: value
            for name, value in values.items()
            if (isinstance(value, str | int | float) or name in _LISTS)
            and name not in ("file_name", "audio_path", SOURCE_KEY, PROBLEM_KEY)
        }
        return None


def _parquet_audio_rows(archive: Path, folder: Path) -> Iterator[Row]:
    columns = [*text_columns(read_parquet_schema(archive)), "audio.bytes", "audio.path"]
    # Few rows at once: each may hold a whole recording.
    for number, row in enumerate(read_parquet_rows(archive, columns, rows_at_once=16), start=1):
        audio = row.pop("audio", None) or {}
        content, where = audio.get("bytes"), {SOURCE_KEY: f"row {number}"}
        if not content:
            hint = "Write the paths of the files as a column `file_name` instead."
            yield {**where, PROBLEM_KEY: f"no audio bytes: this row has none. {hint}"}
            continue
        if len(content) > MAX_AUDIO_BYTES:
            yield {**where, PROBLEM_KEY: f"entry too large: {len(content):,} bytes of audio"}
            continue
        suffix = PurePosixPath(safe_name(str(audio.get("path") or ""))).suffix or ".audio"
        name = hashlib.sha256(content).hexdigest()[:32] + suffix.lower()
        _write_once(folder / name, io.BytesIO(content), len(content))
        row.pop("audio_path", None)
        track_id = row.pop("track_id", None)
        yield {**row, "track_id": track_id if track_id else name, "file_name": name, **where}


def is_audio_name(name: str) -> bool:
    """Whether an entry's name ends as audio files' do."""
    return PurePosixPath(name).suffix.lower() in AUDIO_SUFFIXES


def safe_name(name: str) -> str:
    """Return a flat file name for an archive's entry: no folders, plain letters, not hidden.

    Different names stay different: a hash of the original marks a changed name.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".-")
    if plain == name and len(name) <= 100:
        return plain
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{digest}-{plain[-80:]}"


def _write_once(path: Path, content: IO[bytes], num_bytes: int) -> None:
    if path.is_file() and path.stat().st_size == num_bytes:
        return  # written whole before an earlier run was killed
    with atomic_path(path) as temporary, open(temporary, "wb") as out:
        shutil.copyfileobj(content, out, length=2**20)
