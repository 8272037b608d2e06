"""Bring a library up to date with the music's folders: what changed is looked at, nothing else.

    folders -> scan: new, changed, moved, gone        `mulap.library.scan`
    files   -> points, on all cores, committed        `mulap.library.embed`
    files of each key -> rows that differ are replaced, rows without a file removed

The last step compares what the files say with what the tables hold. So a killed run needs no
repair: the next one does the rest, and ends with the tables that a fresh build would make.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lancedb.expr import col

from mulap.audio import no_audio
from mulap.files import AnyPath
from mulap.library.about import JOURNAL, About, Space, announce, is_library, read_about, writing
from mulap.library.known import Known, LibraryFiles, decoder_version
from mulap.library.rows import LibraryFile, Listener
from mulap.library.scan import Scan, check_disks, is_within, scan_files
from mulap.library.store import MOST_TAG_COLUMNS, Store, points_of, track_schema, with_points
from mulap.library.tags import TAGS_VERSION, is_own, read_tags, with_own_tags
from mulap.terminal import Progress, counted, say

if TYPE_CHECKING:
    from mulap.embedding.pipeline import Embedded

DEFAULT_MODEL = "mulap-small"
Load = Callable[[str], Listener]
_TRACKS_AT_ONCE = 1_000  # whose rows are replaced together
_KEPT = ("num_files", "counts", "num_embedded", "seconds")  # of the report, in library.json


@dataclass
class IndexReport:
    """What a run did."""

    num_tracks: int = 0  # that can be searched
    num_files: int = 0  # audio files that are there
    counts: dict[str, int] = field(default_factory=dict)  # new, changed, moved ... -> files
    num_embedded: int = 0  # files
    failures: list[tuple[str, str]] = field(default_factory=list)  # (file, reason), of this run
    num_left_out: int = 0  # files that cannot be used, those of earlier runs too
    left_aside: dict[str, int] = field(default_factory=dict)  # ending -> files without audio
    is_changed: bool = True  # whether there was anything to do
    seconds: float = 0.0


def index_music(
    paths: Sequence[AnyPath],
    folder: AnyPath,
    load: Load,
    model: str = "",
    prune: bool = False,
    upgrade: bool = False,
) -> IndexReport:
    """Make a library of folders of music, or bring one up to date.

    Args:
        paths: files, and folders that are searched through all levels. Empty: those indexed before.
        folder: of the library; made if it is missing.
        load: loads a model by name; called only if there is something to embed.
        model: its name. Empty: that of the library; of a new one, and to upgrade, `DEFAULT_MODEL`.
        prune: remove the files of a folder also if most of them are gone.
        upgrade: embed all tracks by `model` while the old points answer, and then switch.

    Raises:
        ValueError: nothing is found, most files of a folder are gone, another model made the
            library, the folder holds something else, or another process writes to it.
        OSError: the disk is full or read-only. What was committed stays.
    """
    started, folder = time.monotonic(), Path(folder)
    with writing(folder):
        about = _read_about(folder)
        known = LibraryFiles(folder / JOURNAL)
        try:
            given = [os.path.abspath(path) for path in paths]
            roots = _merge_roots([*given, *_kept_roots(about, known)])
            if not roots:
                raise ValueError(f"{folder}: no music was named yet. Run mulap index MUSIC.")
            scanned = roots if upgrade else given or roots
            scan = scan_files(scanned, known)
            if not (scan.versions or len(known)):
                raise no_audio(scanned, scan.failures, scan.left_aside)
            if not prune:
                check_disks(scanned, known, scan)
            run = _Run(folder, known, scan, load)
            run.open(about, roots, model, upgrade)
            run.report.is_changed = run.bring_up_to_date()
        finally:
            known.close()
        run.report.seconds = time.monotonic() - started
        if run.report.is_changed:
            run.end()
        run.store.drop_others([each for each in (run.about.space, run.about.filling) if each])
    return run.report


class _Run:
    """What one call of `index_music` works on."""

    store: Store  # of the space that is filled: the one that answers, or the next
    about: About

    def __init__(self, folder: Path, known: LibraryFiles, scan: Scan, load: Load) -> None:
        self.folder, self.known, self.scan, self.load = folder, known, scan, load
        self.listener: Listener | None = None
        self.report = IndexReport(
            num_files=len(scan.versions),
            counts=scan.counts(known),
            failures=scan.failures,
            left_aside=dict(scan.left_aside.most_common()),
        )

    def open(self, about: About | None, roots: list[str], model: str, upgrade: bool) -> None:
        """Choose the space to fill, and open its tables."""
        before, model = about, os.path.abspath(model) if os.path.isdir(model) else model
        if about is None or upgrade:
            model = model or DEFAULT_MODEL
            self.listener = self.load(model)
            space = Space(self.listener.space, model, self.listener.size)
            about = about or About(space)
            about = replace(about, filling=space if space.name != about.space.name else None)
        elif model not in ("", about.space.model):
            raise ValueError(
                f"{self.folder}: was made by {about.space.name}, and a library has one model. Add "
                f"--upgrade to embed all tracks with {model}."
            )
        self.about = replace(about, roots=tuple(roots))
        if self.about != before:
            self.about.write(self.folder)
        filled = self.about.filling if upgrade else None
        self.store = Store.write(self.folder, filled or self.about.space)

    def bring_up_to_date(self) -> bool:
        """Embed what is missing, and make the rows follow the files; False if nothing changed."""
        scan, known = self.scan, self.known
        counts = [f"{count:,} {name}" for name, count in self.report.counts.items() if count]
        if counts:
            say(f"{counted(len(scan.versions), 'file')}: {', '.join(counts)}")
        keys = set(self.store.tracks(columns=["key"]).column("key").to_pylist())
        is_new = {*scan.new, *scan.changed, *scan.again}
        todo = [
            file
            for file in sorted(scan.versions)
            if file in is_new or _is_missing(known.get(file), keys)
        ]
        if todo:
            self._embed(todo, keys)
        for file in scan.gone:
            known.remove(file)
        is_changed = self._follow_files()
        self.report.num_left_out = len(known.failures())
        self.report.num_tracks = len(self.store)
        # Files that were only hashed again changed nothing; a filled space has yet to answer.
        looked_at = scan.new or scan.changed or scan.gone or self.report.num_embedded
        return is_changed or bool(looked_at) or self.store.space == self.about.filling

    def end(self) -> None:
        """Compact the tables, and let the filled space answer."""
        self.store.optimize()
        if names := sorted(self.store.left_out_tags):
            say(
                f"{counted(len(names), 'column')} of tags left out, as the library has "
                f"{MOST_TAG_COLUMNS} already: {', '.join(names[:3])} ..."
            )
        if self.store.space == self.about.filling:
            self.about = self.about.switched()
        last_run = {name: value for name, value in asdict(self.report).items() if name in _KEPT}
        self.about = replace(self.about, last_run=last_run | {"ended": int(time.time())})
        self.about.write(self.folder)

    def _embed(self, todo: list[str], keys: set[str]) -> None:
        """Look at files, and embed the audio that has no row; `keys` are of the rows."""
        # torch takes seconds to import, and a run that finds nothing needs none.
        from mulap.library.embed import embed_into  # noqa: PLC0415

        files = [self._file(file) for file in todo]
        listener = self._listen()
        num_tracks = len(self.store) + len(files)
        is_answering = self.store.space == self.about.space
        with announce(self.folder, num_tracks) if is_answering else nullcontext():
            self.report.num_embedded = embed_into(self.store, listener, files, keys, self._note)

    def _listen(self) -> Listener:
        """Load the model.

        Raises:
            ValueError: it is not the one that made the points.
        """
        space = self.store.space
        listener = self.listener or self.load(space.model)
        if listener.space != space.name:
            raise ValueError(
                f"{self.folder}: was made by {space.name}; {space.model} is {listener.space} now. "
                "Run mulap index --upgrade."
            )
        return listener

    def _file(self, file: str) -> LibraryFile:
        """Return a file with its key, if that is known for sure."""
        known, version = self.known.get(file), self.scan.versions[file]
        key = self.scan.moved.get(file)
        if not key and known and known.is_final and known.version == version:
            key = known.key
        return LibraryFile(file, self.scan.paths[file], key or None, version if key else "")

    def _note(self, file: str, embedded: "Embedded") -> None:
        """Remember what became of a file."""
        version = embedded.version or self.scan.versions[file]
        if embedded.reason:
            self.report.failures.append((file, embedded.reason))
            # Without a key it could not be opened: trying again costs nothing.
            is_final = bool(embedded.key)
            known = Known(version, "", embedded.reason, is_final, decoder_version())
        else:
            known = Known(version, embedded.key)
        self.known.set(file, known)

    def _follow_files(self) -> bool:
        """Replace the rows whose files or tags are others now; remove those without a file."""
        wanted = self.known.by_key()
        columns = ["key", "files", "version", "tags_version"]
        rows = self.store.tracks(columns=columns).to_pylist()
        stale = []
        for row in rows:
            files = wanted.get(row["key"])
            if files and (row["files"] != files or self._has_other_tags(row, files[0])):
                stale.append(row["key"])
        with Progress("reading tags", len(stale)) as progress:
            for start in range(0, len(stale), _TRACKS_AT_ONCE):
                some = stale[start : start + _TRACKS_AT_ONCE]
                self._replace(some, wanted)
                progress.advance(len(some))
        gone = [row["key"] for row in rows if row["key"] not in wanted]
        self.store.delete(gone)
        return bool(stale or gone)

    def _has_other_tags(self, row: dict[str, Any], file: str) -> bool:
        """Return whether a row's tags are not those that its first file has, as read today."""
        is_outdated = row["tags_version"] != TAGS_VERSION and file in self.scan.paths
        return is_outdated or row["version"] != self._version(file)

    def _replace(self, keys: list[str], wanted: dict[str, list[str]]) -> None:
        """Give rows the files that they have now, and the tags of the first."""
        schema = track_schema(self.store.space.size)
        found = self.store.tracks(col("key").isin(keys), [*self.store.columns, "point"])
        rows = found.drop_columns(["point"]).to_pylist()
        for row in rows:
            files = wanted[row["key"]]
            if row["file"] != files[0] or self._has_other_tags(row, files[0]):
                row |= dict.fromkeys(filter(is_own, row))
                row |= read_tags(self.scan.paths.get(files[0], Path(files[0])), row["seconds"])
            row |= {"files": files, "file": files[0], "version": self._version(files[0])}
        schema, columns = with_own_tags(schema, rows)
        self.store.update(with_points(schema, columns, points_of(found)))

    def _version(self, file: str) -> str:
        known = self.known.get(file)
        return known.version if known else ""


def _is_missing(known: Known | None, keys: set[str]) -> bool:
    """Return whether a file's audio can be used and has no row: a run was killed before."""
    return known is not None and bool(known.key) and known.key not in keys


def _read_about(folder: Path) -> About | None:
    """Return what a library says of itself; None of a new one."""
    if is_library(folder):
        return read_about(folder)
    if others := [name for name in os.listdir(folder) if name[0] != "." and name != "lock"]:
        raise ValueError(
            f"{folder}: is not a library, and holds other files ({others[0]}). Name a new folder "
            "with --library."
        )
    return None


def _kept_roots(about: About | None, known: LibraryFiles) -> list[str]:
    """Return the folders that were indexed before; without those that are gone and pruned."""
    roots = about.roots if about else ()
    return [r for r in roots if os.path.exists(r) or any(is_within(file, [r]) for file in known)]


def _merge_roots(roots: Sequence[str]) -> list[str]:
    """Leave out the folders that lie in others."""
    unique = sorted(set(roots))
    return [
        root
        for root in unique
        if not any(is_within(root, [other]) for other in unique if other != root)
    ]
