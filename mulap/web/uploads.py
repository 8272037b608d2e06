"""Audio that was sent to be used and not kept: it lies in a temporary folder, under a random id.

Nothing reads it back over HTTP. The oldest is removed when there are too many, and all are removed
when the server ends.
"""

import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import anyio
import numpy as np
import soundfile as sf

from mulap.audio import AudioError, Found, load_audio
from mulap.library.query import Example
from mulap.web.limits import Limits, Refused, too_large, was_cut

if TYPE_CHECKING:
    from mulap.encoders.engine import Engine


@dataclass(frozen=True)
class Heard:
    """Audio that was sent.

    Attributes:
        id: random; who knows it may use the audio.
        path: of the audio that was used.
        features: of the backbone, float32 (T, A).
        seconds: of the audio that was used.
        notes: what whoever sent it should know.
    """

    id: str
    path: Path
    features: np.ndarray
    seconds: float
    notes: tuple[str, ...]

    def example(self, at: float | None) -> Example:
        """Return it as an example to search by, which needs no second listening."""
        return Example(os.fspath(self.path), at=at, features=self.features)


class Uploads:
    """Takes audio in.

    Args:
        limits: on bytes, seconds and number.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits, self._lock = limits, threading.Lock()
        self._folder = TemporaryDirectory(prefix="mulap-uploads-")
        self.folder = Path(self._folder.name)
        self._kept: OrderedDict[str, Heard] = OrderedDict()

    def close(self) -> None:
        """Remove everything."""
        self._folder.cleanup()

    def get(self, name: str) -> Heard | None:
        """Return what has an id, if it is still there."""
        with self._lock:
            return self._kept.get(name)

    async def receive(self, chunks: AsyncIterator[bytes], claimed_bytes: int) -> Path:
        """Write a body to a file; the caller removes it, or `hear` does.

        Raises:
            Refused: it is too large, or empty.
        """
        if claimed_bytes > self._limits.upload_bytes:
            raise too_large(self._limits)
        path, num_bytes = self.folder / secrets.token_hex(16), 0
        try:
            async with await anyio.open_file(path, "xb") as file:
                async for chunk in chunks:
                    num_bytes += len(chunk)
                    if num_bytes > self._limits.upload_bytes:
                        raise too_large(self._limits)
                    await file.write(chunk)
            if not num_bytes:
                raise Refused(400, "No audio was sent.", "Send the bytes of an audio file.")
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def hear(self, path: Path, engine: "Engine", is_kept: bool) -> Heard:
        """Embed what was received; blocks for a second per four minutes of music, or so.

        Args:
            path: from `receive`; the file is removed, unless it is kept.
            engine: hears it.
            is_kept: whether `get` finds it afterwards.

        Raises:
            Refused: it is no audio.
        """
        try:
            heard = self._hear(path, engine)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        if not is_kept:
            path.unlink(missing_ok=True)
            return heard
        with self._lock:
            self._kept[heard.id] = heard
            if len(self._kept) > self._limits.num_uploads:
                _, oldest = self._kept.popitem(last=False)
                oldest.path.unlink(missing_ok=True)
        return heard

    def _hear(self, path: Path, engine: "Engine") -> Heard:
        rate = engine.backbone.feature_extractor.sampling_rate
        found, most = Found(), self._limits.upload_seconds
        try:
            # A second more than is used tells whether there is more.
            samples = load_audio(path, 0.0, most + 1, rate, found)
            is_cut = len(samples) > most * rate
            samples = samples[: int(most * rate)]
            features = engine.backbone.embed(samples, rate).embeddings
        except AudioError as error:
            remedy = str(error.reason).rpartition(". ")[2]
            raise Refused(422, "No sound could be read from this file.", remedy) from error
        if is_cut:  # the library listens to what the file holds
            sf.write(path, samples, rate, format="FLAC")
        notes = (was_cut(self._limits),) if is_cut else ()
        notes += tuple(f"The file {note}" for note in found.notes)
        return Heard(f"u-{secrets.token_hex(16)}", path, features, len(samples) / rate, notes)
