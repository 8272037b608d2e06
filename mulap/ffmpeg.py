"""FFmpeg (PyAV) as a reader of audio files: of those that libsndfile cannot read, or cuts short.

It always decodes from the beginning and drops what comes too early: FFmpeg's seeks are exact in few
formats, and after one its AAC decoder was seen to differ for good.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby

import av
import numpy as np
import soxr
from av.container import InputContainer
from av.error import DecoderNotFoundError, FFmpegError

from mulap.containers import FilePart, is_plausible
from mulap.files import AnyPath

# Formats without a table of contents, whose duration FFmpeg guesses from the first bit rate.
_WITHOUT_DURATION = frozenset({"aac", "ac3", "amr", "dts", "eac3", "loas", "mp3", "mpegts"})
# What stands between mp3 files that were joined, and reaches the decoder as a packet.
_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN")


class FFmpegReader:
    """What FFmpeg decodes: the first audio stream. See `mulap.decode.Reader`."""

    def __init__(self, file: FilePart, path: AnyPath) -> None:
        self.path = path
        self.notes: set[str] = set()
        self._file = file
        self._container = open_container(file)
        streams = self._container.streams.audio
        if not streams or not streams[0].codec_context:
            self._container.close()
            raise DecoderNotFoundError(0, "no audio that can be decoded")
        self._stream = streams[0]
        self.sampling_rate_hz: int = self._stream.codec_context.sample_rate
        self.num_channels: int = self._stream.codec_context.channels

    def close(self) -> None:
        """See `Reader`."""
        self._container.close()

    def duration_seconds(self) -> float:
        """See `Reader`."""
        seconds = 0.0
        if self._container.format.name not in _WITHOUT_DURATION:
            seconds = (self._stream.duration or 0) * float(self._stream.time_base or 0)
            seconds = seconds or (self._container.duration or 0) / av.time_base
        return seconds if is_plausible(seconds, self._file) else count_seconds(self._file)

    def tags(self) -> dict[str, str]:
        """See `Reader`."""
        return container_tags(self._container)

    def blocks(self, start: int) -> Iterator[np.ndarray]:
        """See `Reader`."""
        position = 0
        # Files that were joined may differ in both.
        runs = groupby(self._frames(), lambda frame: (frame.sample_rate, frame.layout.nb_channels))
        for (rate, _), frames in runs:
            if rate != self.sampling_rate_hz:
                for block in change_rate(map(_frame_samples, frames), rate, self.sampling_rate_hz):
                    yield block[max(0, start - position) :]
                    position += len(block)
                continue
            for frame in frames:
                if position + frame.samples > start:
                    yield _frame_samples(frame)[max(0, start - position) :]
                position += frame.samples

    def _frames(self) -> Iterator[av.AudioFrame]:
        num_samples = num_failed = 0
        try:
            for packet in self._container.demux(self._stream):
                try:
                    frames = packet.decode()
                except FFmpegError:  # a damaged packet: the next one may be whole
                    num_failed += not bytes(packet).startswith(_TAGS)
                    continue
                for frame in frames:
                    if num_failed and num_samples:  # else before the first: no audio yet
                        self.notes.add(
                            "is damaged: parts of it cannot be decoded. Replace the file."
                        )
                    num_failed = 0
                    num_samples += frame.samples
                    yield frame
        except FFmpegError:  # what came before is used
            seconds = num_samples / self.sampling_rate_hz
            self.notes.add(
                f"is damaged: nothing behind {seconds:.1f} s can be decoded. Replace the file."
            )


def open_container(file: FilePart) -> InputContainer:
    """Open a file with FFmpeg, at a position of its own."""
    # No protocol is allowed: a playlist must not make FFmpeg open other files or the network.
    options = {"protocol_whitelist": ""}
    return av.open(file.part(), "r", options=options, metadata_errors="replace")


def count_seconds(file: FilePart) -> float:
    """Return the playing time of the first audio stream by its packets; nothing is decoded."""
    with open_container(file) as container:
        stream = container.streams.audio[0]
        ticks = sum(packet.duration or 0 for packet in container.demux(stream))
        return ticks * float(stream.time_base or 0)


def container_tags(container: InputContainer) -> dict[str, str]:
    """Return title, artist and so on; keys in lower case, no empty values."""
    # Ogg keeps its comments with the stream, not with the container.
    streams = container.streams.audio
    return clean_tags(streams[0].metadata if streams else {}) | clean_tags(container.metadata)


def clean_tags(tags: dict[str, str]) -> dict[str, str]:
    """Return tags with keys in lower case, without empty values."""
    return {key.lower(): value.strip() for key, value in tags.items() if value.strip()}


def change_rate(blocks: Iterable[np.ndarray], rate: int, new_rate: int) -> Iterator[np.ndarray]:
    """Resample consecutive blocks (num_samples, num_channels) of one number of channels."""
    resampler = None
    for block in blocks:
        if resampler is None:
            channels = block.shape[1]
            resampler = soxr.ResampleStream(rate, new_rate, channels, "float32", quality="HQ")
        yield resampler.resample_chunk(np.ascontiguousarray(block))
    if resampler is not None:
        yield resampler.resample_chunk(np.empty((0, channels), np.float32), last=True)


def _frame_samples(frame: av.AudioFrame) -> np.ndarray:
    """Return a frame's samples as float32 (num_samples, num_channels); integers go to [-1, 1]."""
    samples = frame.to_ndarray()
    samples = samples.T if frame.format.is_planar else samples.reshape(frame.samples, -1)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / np.float32(2.0 ** (8 * samples.itemsize - 1))
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found later
        return samples.astype(np.float32)
