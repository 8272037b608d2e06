"""From a folder of tracks and sentences to a list of clips. Decodes no audio.

Read are: a Hugging Face audiofolder (`metadata.csv`, `.jsonl` or `.parquet`, at the top or in
`train`, `valid` and `test` folders), one such file by its own path, the original authors' JSON
(`dataset_train.json` and so on), parquet files that hold the audio, LAION-style tars, and what
`mulap prepare` made of any of them. Columns:

    file_name (or audio_path)   relative to the metadata file; absolute paths, ~ and .. are allowed
    caption (or text)           one sentence, or a list (in a CSV written as JSON or Python do);
                                several rows of one file: several captions
    caption_source              optional: where each caption comes from, a list of the same length
    split                       optional: train, valid or test
    track_id (or audio_id)      optional; else the file's path inside the folder
    group, artist, album        optional: what the split keeps together, see `splits`

Trouble in one row never stops a run: the row is left out and listed with its reason. Trouble that
leaves nothing to work with (no caption column, not UTF-8, every file missing) is a ValueError.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mulap.data.captions import normalize_caption
from mulap.data.cells import BadRow, FileFinder, read_list
from mulap.data.clips import Clip, Manifest
from mulap.data.prepared.read import is_prepared, read_prepared
from mulap.data.row_files import (
    Row,
    find_column,
    find_tables,
    read_parquet_schema,
    read_table,
    text_columns,
)
from mulap.data.splits import (
    GROUP_COLUMNS,
    SPLITS,
    choose_group,
    find_leaking_groups,
    find_split,
    fold_group,
    split_of_group,
)
from mulap.data.tars import PROBLEM_KEY, SOURCE_KEY, holds_audio_bytes, unpack_parquet, unpack_tar
from mulap.files import AnyPath

PATH_COLUMNS = ("file_name", "audio_path")
CAPTION_COLUMNS = ("caption", "text")
SOURCE_COLUMN = "caption_source"
TRACK_COLUMNS = ("track_id", "audio_id")

MAX_CAPTION_WORDS = 500
"""A caption with more words is some other text; the tokenizer would cut it far shorter anyway."""

MAX_CAPTION_CHARACTERS = 10_000
"""The same for scripts without spaces."""


def read_manifest(
    data: AnyPath,
    *,
    group_column: str | None = None,
    check_files: bool = True,
    cache_folder: AnyPath | None = None,
) -> Manifest:
    """Read the clips of a folder, or of one metadata file.

    Args:
        data: a folder or a file, see this module's head.
        group_column: the column that names the group; None means group, artist or album.
        check_files: leave out rows whose audio file does not exist. Nothing is decoded.
        cache_folder: where tars and audio in parquet files are unpacked, once; None means
            `.mulap-unpacked` beside them.

    Returns:
        The clips with their splits, and the problems met. A split that the data names (by folder,
        file name or column) wins; other tracks are split 80/10/10 by a hash of their group.

    Raises:
        ValueError: there is nothing to read, a column is missing, a file is not UTF-8 or cannot be
            parsed, or no row can be used. One line: file, row, remedy.
    """
    root = Path(data)
    if is_prepared(root):
        return read_prepared(root, group_column)
    collector = _Collector(root if root.is_dir() else root.parent, group_column, check_files)
    for path, split in find_tables(root, collector.problems):
        collector.read(path, split, Path(cache_folder) if cache_folder else None)
    return collector.finish(root)


@dataclass(slots=True)
class _Draft:
    """An unfinished clip: the values from the rows of one audio file so far."""

    source: str
    captions: dict[str, str] = field(default_factory=dict)  # caption -> its row
    caption_sources: dict[str, str] = field(default_factory=dict)  # caption -> where it is from
    track_id: str = ""
    group: str = ""
    split: str = ""


class _Collector:
    """Turns rows into clips, one audio file at a time, and keeps the list of problems."""

    def __init__(self, root: Path, group_column: str | None, check_files: bool) -> None:
        self.root, self.group_column, self.check_files = root, group_column, check_files
        self.group_columns = (group_column,) if group_column else GROUP_COLUMNS
        self.num_rows = 0
        self.columns: dict[str, None] = {}  # of all tables, in order
        self.drafts: dict[str, _Draft] = {}  # by the audio file's path
        self.problems: list[tuple[str, str]] = []

    def read(self, path: Path, split: str, cache_folder: Path | None) -> None:
        """Take in all rows of a metadata file or an archive, which is unpacked first."""
        label, table, suffix = self._shorten(path), path, path.suffix.lower()
        if suffix == ".tar":
            table = unpack_tar(path, cache_folder)
        elif suffix == ".parquet" and holds_audio_bytes(schema := read_parquet_schema(path)):
            self._check_columns(path, ["file_name", *text_columns(schema)])
            table = unpack_parquet(path, cache_folder)
        columns, rows = read_table(table)
        self.columns.update(dict.fromkeys(columns))
        if table == path and columns:
            self._check_columns(path, columns)
        # The authors' paths are relative to the folder `audio` beside their JSON.
        folders = [path.parent, path.parent / "audio"] if suffix == ".json" else [table.parent]
        finder = FileFinder(folders, self.check_files)
        for where, row in rows:
            self.num_rows += 1
            if table != path and isinstance(row, dict):
                where = row.get(SOURCE_KEY, where)
                row = row.get(PROBLEM_KEY, row)
            try:
                if isinstance(row, str):
                    raise BadRow(row)
                self._add(row, f"{label} {where}", split, finder)
            except BadRow as bad:
                self.problems.append((f"{label} {where}", str(bad)))

    def _shorten(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _check_columns(self, path: Path, columns: Sequence[str]) -> None:
        find_column(path, columns, *PATH_COLUMNS)
        find_column(path, columns, *CAPTION_COLUMNS)
        if self.group_column:
            find_column(path, columns, self.group_column, is_choice=True)

    def _add(self, row: Row, source: str, folder_split: str, finder: FileFinder) -> None:
        name = _first_text(row, PATH_COLUMNS)
        path, _ = finder.find(name)
        split = _named_split(row, name.replace("\\", "/"), folder_split)
        draft = self.drafts.get(path) or _Draft(source)
        group = choose_group((_text(row, column) for column in self.group_columns), track_id="")
        for said, before, what in ((split, draft.split, "split"), (group, draft.group, "group")):
            if said and before and fold_group(said) != fold_group(before):
                raise BadRow(
                    f"conflicting {what}: {said!r} for {name!r}, but {before!r} in {draft.source}"
                )
        for caption, caption_source in self._captions(row, source):
            if caption in draft.captions:
                reason = f"duplicate row: {draft.captions[caption]} has this file and caption too"
                self.problems.append((source, reason))
            else:
                draft.captions[caption] = source
                draft.caption_sources[caption] = caption_source
        if draft.captions:
            draft.track_id = draft.track_id or _first_text(row, TRACK_COLUMNS)
            draft.group, draft.split = draft.group or group, draft.split or split
            self.drafts[path] = draft

    def _captions(self, row: Row, source: str) -> list[tuple[str, str]]:
        """Return the row's usable captions and their sources; list what is wrong with the others.

        Raises:
            BadRow: there are more or fewer sources than captions.
        """
        value = next((row[name] for name in CAPTION_COLUMNS if row.get(name)), None)
        items = read_list(value)
        if items is None or not all(isinstance(item, str | None) for item in items):
            items = value if isinstance(value, list) else [value]  # "[1, 2]" is a caption
        usable = []
        items = items or [None]
        for raw, caption_source in zip(items, _caption_sources(row, len(items)), strict=True):
            try:
                usable.append((_check_caption(raw), caption_source))
            except BadRow as bad:
                self.problems.append((source, str(bad)))
        return usable

    def finish(self, root: Path) -> Manifest:
        """Return the manifest; ValueError where nothing is left."""
        if not self.num_rows:
            raise ValueError(f"{root}: holds no rows. Add one for each track.")
        if self.drafts and self.group_column:
            # Of tars' JSON files, too, one at least must know the column asked for.
            find_column(root, list(self.columns), self.group_column, is_choice=True)
        clips: list[Clip] = []
        owner: dict[str, str] = {}  # track id -> its row
        for path, draft in self.drafts.items():
            track_id = draft.track_id or self._inside(path)
            if track_id in owner:
                reason = (
                    f"duplicate track_id: {track_id!r} is also that of {owner[track_id]}. Give "
                    "each file its own, and use a column 'group' for files that belong together."
                )
                self.problems.append((draft.source, reason))
                continue
            owner[track_id] = draft.source
            group = draft.group or track_id
            split = draft.split or split_of_group(group)
            captions, sources = tuple(draft.captions), tuple(draft.caption_sources.values())
            clips.append(
                Clip(
                    *(Path(path), captions, track_id, group, split, draft.source),
                    caption_sources=sources if any(sources) else (),
                )
            )
        if not clips:
            (source, reason), *_ = self.problems
            raise ValueError(
                f"{root}: none of {self.num_rows:,} rows can be used; {source}: {reason}"
            )
        self._report_leaks(root, clips)
        return Manifest(clips, self.problems)

    def _inside(self, path: str) -> str:
        prefix = os.path.join(os.path.normpath(self.root), "")
        return path[len(prefix) :] if path.startswith(prefix) else os.path.relpath(path, self.root)

    def _report_leaks(self, root: Path, clips: list[Clip]) -> None:
        leaks = find_leaking_groups((clip.group, clip.split) for clip in clips)
        if leaks:
            group, splits = next(iter(leaks.items()))
            reason = (
                f"groups in two splits: {len(leaks):,} of them, such as {group!r} in "
                f"{' and '.join(splits)}; mulap keeps the splits that the data names, but tracks "
                "of one group are learnt from and tested. Remove the column of splits, and "
                "mulap splits by whole groups."
            )
            self.problems.append((str(root), reason))


def _text(row: Row, column: str) -> str:
    """Return a value as text without white space around it; "" for none, NaN and lists."""
    value = row.get(column)
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return str(value)
    return ""


def _first_text(row: Row, columns: Sequence[str]) -> str:
    return next((text for column in columns if (text := _text(row, column))), "")


def _named_split(row: Row, name: str, folder_split: str) -> str:
    """Return the split that the row's column, its table or its file's folder names, else ""."""
    said = _text(row, "split")
    split = find_split(said)
    if said and not split:
        raise BadRow(f"unknown split: {said!r}. Use {', '.join(SPLITS)}.")
    if split and folder_split and split != folder_split:
        raise BadRow(
            f"conflicting split: the row says {split}, the place of its table {folder_split}"
        )
    # As in an audiofolder with one metadata file above its split folders.
    top = name.partition("/")[0] if "/" in name else ""
    return split or folder_split or find_split(top) or ""


def _caption_sources(row: Row, num_captions: int) -> list[str]:
    """Return where each caption of a row comes from; "" where nothing says so."""
    value = row.get(SOURCE_COLUMN)
    if value is None or value == "":
        return [""] * num_captions
    sources = read_list(value)
    sources = [value] if sources is None else sources
    if len(sources) != num_captions or not all(isinstance(each, str) for each in sources):
        raise BadRow(
            f"caption_source does not fit: {len(sources)} sources for {num_captions} captions. "
            "Give a list of words, one for each caption."
        )
    return [each.strip() for each in sources]


def _check_caption(raw: object) -> str:
    """Return a caption in normal form, or say what is wrong with it."""
    if raw is None or (isinstance(raw, float) and math.isnan(raw)):
        raise BadRow("empty caption: it has no text. Write a sentence, or remove the row.")
    if not isinstance(raw, str):
        raise BadRow(f"not text: a caption is a {type(raw).__name__}. Write it as a string.")
    caption = normalize_caption(raw)
    if not caption:
        raise BadRow("empty caption: it has no text. Write a sentence, or remove the row.")
    num_words = caption.count(" ") + 1
    if num_words > MAX_CAPTION_WORDS or len(caption) > MAX_CAPTION_CHARACTERS:
        raise BadRow(
            f"caption too long: {num_words:,} words, {len(caption):,} characters, where at most "
            f"{MAX_CAPTION_WORDS:,} and {MAX_CAPTION_CHARACTERS:,} are taken. Shorten it, or "
            "give its sentences as several captions."
        )
    return caption
