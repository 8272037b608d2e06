"""Arrays of samples, as libraries and users give them -> clips, each mono float32."""

from typing import Any

import numpy as np

_MOST_CHANNELS = 32  # of one clip, and fewer than any clip has samples
_LOUDEST = 1e12  # far beyond any recording; its power would not fit float32


def split_clips(audio: Any) -> list[Any]:
    """Return the clips of a batch, each as `to_mono` takes it.

    Args:
        audio: one clip, or several: a list, or an array (B, num_samples) or (B, C, num_samples).

    Raises:
        ValueError: there are none.
    """
    if (isinstance(audio, list | tuple) or is_batch(audio)) and not len(audio):
        raise ValueError("there is no audio. Give at least one waveform.")
    return list(audio) if is_batch(audio) else [audio]


def is_batch(audio: Any) -> bool:
    """Whether audio is several clips: a list of clips, or an array with a row for each.

    Such is a batch in all of transformers. But nobody has clips of a few samples: rows that short
    are one clip with its channels beside each other, as soundfile reads it.
    """
    if isinstance(audio, list | tuple):
        return not np.isscalar(audio[0])
    return audio.ndim > 2 or (audio.ndim == 2 and audio.shape[1] > _MOST_CHANNELS)


def to_mono(waveform: Any, first: int = 0) -> np.ndarray:
    """Return one clip as mono float32.

    Args:
        waveform: samples (num_samples,), or channels beside each other as soundfile gives them
            (num_samples, C), or one after the other (C, num_samples), which are averaged; an array,
            a tensor or a list. Floats are taken as they are; whole numbers of 8, 16 or 32 bits are
            scaled by their range to [-1, 1].
        first: place of the first sample in the whole clip, for messages.

    Returns:
        float32 (num_samples,).

    Raises:
        ValueError: another shape or type, or a sample that is not finite, or beyond any level.
    """
    if hasattr(waveform, "detach"):  # a tensor
        waveform = waveform.detach().cpu()
        waveform = waveform.float() if waveform.is_floating_point() else waveform  # bfloat16
    samples = np.asarray(waveform)
    if samples.ndim == 2 and 0 < min(samples.shape) <= _MOST_CHANNELS < max(samples.shape):
        channels = samples.T if samples.shape[1] < samples.shape[0] else samples
        mono = np.add.reduce([_scale(each) for each in channels]) / np.float32(len(channels))
    elif samples.ndim == 1:
        mono = _scale(samples)
    else:
        raise ValueError(
            f"the audio has shape {samples.shape}, which is no clip. Give mono samples, one "
            "dimension, or samples by channels; several clips as a list."
        )
    is_odd = ~(np.abs(mono) < _LOUDEST)  # of NaN too
    if is_odd.any():
        place = first + int(is_odd.argmax())
        raise ValueError(
            f"the audio has a sample that is NaN, infinite or absurdly large, number {place:,} "
            "from 0. Correct it, or set it to 0."
        )
    return mono


def _scale(samples: np.ndarray) -> np.ndarray:
    kind, num_bits = samples.dtype.kind, 8 * samples.dtype.itemsize
    if kind == "f":
        with np.errstate(over="ignore"):  # becomes infinite, and is refused
            return samples.astype(np.float32, copy=False)
    if kind not in "iu" or num_bits > 32:  # nobody's samples fill 64 bits
        raise ValueError(
            f"the audio has samples of type {samples.dtype}, whose range is not known. Give floats "
            "between -1 and 1, or int16."
        )
    half = 2.0 ** (num_bits - 1)
    return ((samples - half * (kind == "u")) / half).astype(np.float32)
