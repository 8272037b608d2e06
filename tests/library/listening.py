"""Small sounds in files, and a listener that makes points of them in no time."""

import os
from itertools import count
from pathlib import Path

import numpy as np
import soundfile as sf

from mulap.encoders.segments import SegmentEncoder
from mulap.library.about import JOURNAL, read_about
from mulap.library.index import index_music
from mulap.library.known import LibraryFiles
from mulap.library.store import Store, points_of
from mulap.model.config import MulapAudioConfig
from mulap.model.features import MulapFeatureExtractor

RATE = 16_000
SIZE = 8
_times = count(1_600_000_000)  # long ago, and each file's its own


def _features(segments: np.ndarray) -> np.ndarray:
    """The loudness of eight pieces of each segment, float32 (M, 8)."""
    pieces = np.abs(segments).reshape(len(segments), SIZE, -1)
    return pieces.mean(-1).astype(np.float32) + np.float32(1e-6)


class TinyListener:
    """An engine without weights: what it hears is where in 3 seconds a sound is loud."""

    def __init__(self, name: str = "tiny", turn: int = 0) -> None:
        self.space, self.size, self._turn = f"{name}@{turn:08x}", SIZE, turn
        extractor = MulapFeatureExtractor.from_config(MulapAudioConfig())
        self.backbone = SegmentEncoder(name, SIZE, extractor, _features, {})

    def project(self, features: np.ndarray) -> np.ndarray:
        """Turn the numbers around; another `turn` is another model."""
        return np.roll(features, self._turn, axis=1)


def load(model: str) -> TinyListener:
    """Load a listener: `tiny`, or `tiny-3`, which is another model."""
    return TinyListener(model, int(model.partition("-")[2] or 0))


def write_sound(
    path: Path, seed: int = 0, seconds: float = 0.5, title: str = "", comment: str = ""
) -> Path:
    """Write noise, the same for the same seed; the file's time is not that of any other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).normal(size=round(seconds * RATE)) * 0.1
    with sf.SoundFile(path, "w", RATE, 1, format="WAV" if path.suffix == ".wav" else "FLAC") as out:
        if title:
            out.title = title
        if comment:
            out.comment = comment
        out.write(samples)
    return settle(path)


def settle(path: Path) -> Path:
    """Give a file a time that is long past."""
    seconds = next(_times)
    os.utime(path, (seconds, seconds))
    return path


def index(music: Path, library: Path, **options):
    """Index a folder with the tiny listener."""
    return index_music([music], library, load, options.pop("model", "tiny"), **options)


def contents(library: Path) -> dict:
    """All that a fresh build would hold as well: rows, windows and failures."""
    store = Store.open(library)
    tracks = store.tracks(columns=[*store.tracks().column_names, "point"])
    points = dict(zip(tracks.column("key").to_pylist(), points_of(tracks).tolist(), strict=True))
    rows = {
        row["key"]: {name: value for name, value in row.items() if value is not None}
        for row in tracks.drop_columns(["point", "added"]).to_pylist()
    }
    assert len(rows) == len(tracks), "a key is there twice"
    windows = store.windows_of(sorted(rows)).to_pylist()
    assert len(windows) == store.num_windows(), "windows without a track"
    failures = LibraryFiles(library / JOURNAL).failures()
    space = read_about(library).space.name
    return {
        "rows": rows,
        "points": points,
        "windows": windows,
        "failures": failures,
        "space": space,
    }
