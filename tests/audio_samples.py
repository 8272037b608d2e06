"""Audio files for the tests, made when they run: music-like noise in every format we read."""

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import soundfile as sf

from mulap.audio import load_audio

SECONDS = 9.0  # longer than the 6 s that ogg is decoded ahead of a crop

# name -> how `write_sample` makes it. `sf`: libsndfile's (format, subtype, options); `av`: FFmpeg's
# (container, codec, bit rate, options of the container). `joined`: of so many files, end to end;
# `pipe`: written where it could not seek back to write down the length.
FORMATS: dict[str, dict] = {
    "wav": {"sf": ("WAV", "PCM_16", {})},
    "wav_24_bit": {"sf": ("WAV", "PCM_24", {})},
    "wav_float": {"sf": ("WAV", "FLOAT", {}), "rate": 48_000},
    "wav_adpcm": {"sf": ("WAV", "IMA_ADPCM", {}), "rate": 22_050},
    "wav_8_khz": {"sf": ("WAV", "ULAW", {}), "rate": 8_000, "channels": 1},
    "wav_192_khz": {"sf": ("WAV", "PCM_24", {}), "rate": 192_000},
    "wav_6_channels": {"sf": ("WAVEX", "PCM_16", {}), "channels": 6},
    "wav_odd_rate": {"sf": ("WAV", "PCM_16", {}), "rate": 15_999},
    "aiff": {"sf": ("AIFF", "PCM_16", {})},
    "flac": {"sf": ("FLAC", "PCM_16", {})},
    "flac_from_a_pipe": {"av": ("flac", "flac", 0, {}), "pipe": True},
    "ogg_vorbis": {"sf": ("OGG", "VORBIS", {"compression_level": 0.6})},
    "ogg_vorbis_low": {"sf": ("OGG", "VORBIS", {"compression_level": 0.99}), "channels": 1},
    "opus": {"sf": ("OGG", "OPUS", {"compression_level": 0.7}), "rate": 48_000},
    "ogg_vorbis_joined": {"sf": ("OGG", "VORBIS", {}), "joined": 3},
    "opus_joined": {"sf": ("OGG", "OPUS", {}), "rate": 48_000, "joined": 2},
    "opus_speech": {"av": ("ogg", "libopus", 14_000, {}), "rate": 48_000, "channels": 1},
    "mp3_cbr": {
        "sf": ("MP3", "MPEG_LAYER_III", {"bitrate_mode": "CONSTANT", "compression_level": 0.5})
    },
    "mp3_cbr_low": {"av": ("mp3", "libmp3lame", 32_000, {}), "rate": 22_050, "channels": 1},
    "mp3_vbr": {
        "sf": ("MP3", "MPEG_LAYER_III", {"bitrate_mode": "VARIABLE", "compression_level": 0.5})
    },
    "mp3_vbr_without_xing": {"av": ("mp3", "libmp3lame", 0, {"write_xing": "0"})},
    "m4a": {"av": ("ipod", "aac", 128_000, {})},
    "m4a_lossless": {"av": ("ipod", "alac", 0, {})},
    "mp4_faststart": {"av": ("mp4", "aac", 128_000, {"movflags": "faststart"})},
    "aac": {"av": ("adts", "aac", 96_000, {})},
    "wma": {"av": ("asf", "wmav2", 128_000, {})},
    "webm": {"av": ("webm", "libopus", 96_000, {}), "rate": 48_000},
}


def make_music(
    seconds: float, rate: int = 44_100, channels: int = 2, noise: float = 1.0
) -> np.ndarray:
    """Return decaying harmonic notes over noise that comes and goes: (num_samples, channels)."""
    rng = np.random.default_rng(0)
    time = np.arange(round(seconds * rate), dtype=np.float32) / rate
    loudness = noise * np.where(np.sin(3 * time) > 0, 0.05, 0.01).astype(np.float32)
    music = rng.standard_normal((len(time), channels), np.float32) * loudness[:, None]
    for begin in range(0, len(time), rate // 4):
        since = time[: min(rate, len(time) - begin)]
        phase = 2 * np.pi * np.float32(rng.uniform(80, 400)) * since
        note = sum(np.sin(phase * harmonic) / harmonic for harmonic in range(1, 6))
        shares = rng.uniform(0.03, 0.06, channels).astype(np.float32)
        music[begin : begin + rate] += np.outer(note * np.exp(-5 * since), shares)
    return music


def write_sample(name: str, folder: Path, seconds: float = SECONDS, **tags: str) -> Path:
    """Write `make_music` in one of the `FORMATS`; the file's ending says nothing."""
    recipe = FORMATS[name]
    path = folder / f"{name}.bin"
    rate = recipe.get("rate", 44_100)
    music = make_music(seconds, rate, recipe.get("channels", 2))
    content = b""
    for part in np.array_split(music, recipe.get("joined", 1)):
        if "sf" in recipe:
            container, subtype, options = recipe["sf"]
            write_sound(path, part, rate, container, subtype, tags, **options)
        else:
            container, codec, bit_rate, options = recipe["av"]
            encode(path, part, rate, container, codec, bit_rate, options, tags, "pipe" in recipe)
        content += path.read_bytes()
    path.write_bytes(content)
    return path


@cache
def sample(name: str) -> Path:
    """A file in one of the `FORMATS`, made once for all tests; not to be changed."""
    return write_sample(name, _shared_folder())


@cache
def whole(name: str) -> np.ndarray:
    """All of a sample, decoded once."""
    return load_audio(sample(name))


@cache
def _shared_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="mulap-samples-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def write_sound(
    path: Path, samples: np.ndarray, rate: int, container: str, subtype: str, tags=None, **options
) -> Path:
    """Write with libsndfile, in small blocks: large ones crash its Vorbis encoder."""
    options |= {"format": container, "subtype": subtype}
    with sf.SoundFile(path, "w", rate, samples.shape[1], **options) as file:
        for key, value in (tags or {}).items():
            setattr(file, key, value)
        for begin in range(0, len(samples), 8_192):
            file.write(samples[begin : begin + 8_192])
    return path


def write_noises(folder: Path, lengths_seconds: Sequence[float]) -> list[Path]:
    """Write a wav of noise of each length, at 16 kHz; no two are alike."""
    found = []
    for index, seconds in enumerate(lengths_seconds):
        found.append(folder / f"{index}.wav")
        samples = np.random.default_rng(index).normal(size=round(seconds * 16_000)) * 0.1
        sf.write(found[-1], samples, 16_000)
    return found


def encode(
    path: Path,
    samples: np.ndarray,
    rate: int,
    container: str,
    codec: str,
    bit_rate: int = 0,
    options: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
    to_pipe: bool = False,
) -> Path:
    """Write with FFmpeg; a bit rate of 0 leaves it to the codec (mp3: variable, quality 4)."""
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[samples.shape[1]]
    codec_options = {"q": "4", "flags": "+qscale"} if codec == "libmp3lame" and not bit_rate else {}
    target = _Pipe(path) if to_pipe else str(path)
    with av.open(target, "w", format=container, options=options or {}) as file:
        file.metadata.update(tags or {})
        stream = file.add_stream(codec, rate=rate, layout=layout, options=codec_options)
        if bit_rate:
            stream.bit_rate = bit_rate
        elif codec_options:
            stream.codec_context.global_quality = 4 * 118  # FF_QP2LAMBDA
        fitting = av.AudioResampler(stream.codec_context.codec.audio_formats[0].name, layout, rate)
        for begin in range(0, len(samples), 4_096):
            block = np.ascontiguousarray(samples[begin : begin + 4_096].reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(block, format="flt", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
            for fitted in fitting.resample(frame):
                file.mux(stream.encode(fitted))
        file.mux(stream.encode(None))
    if to_pipe:
        target.file.close()
    return path


class _Pipe:
    """A file that cannot seek."""

    def __init__(self, path: Path) -> None:
        self.file = open(path, "wb")

    def write(self, content: bytes) -> int:
        return self.file.write(content)
