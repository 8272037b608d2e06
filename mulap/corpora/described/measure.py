"""Loudness, tempo and mode of a clip, each only where it can be measured well.

Tempo: peaks of the autocorrelation of a log-mel's rises, each with its multiples, under a weight
that prefers usual tempi. Mode: the best of 24 keys by correlation of a chroma vector with the
Krumhansl-Kessler profiles. Each comes with a confidence, below which nothing is returned.

Of 600 rendered clips (`mulap corpus demo --seconds 18`), 535 had a sure tempo: right within 4% for
72%, half of the true one for 14%, double for 8%. So it is never said in numbers, and `facets` says
"slow" and "fast" only where a tagger agrees. "Mid-tempo" was right for 74% and is not said. "Major"
and "minor" above the threshold were right for 90% of 202 clips and 85% of 65 (docs/log.md).

Scope: mono samples at 16 kHz, and their log-mels.
"""

import numpy as np

from mulap.audio import SAMPLING_RATE
from mulap.corpora.described.tracks import Measured

# Ratings of the 12 tones in a major and in a minor key. Krumhansl, C. L. and Kessler, E. J. (1982),
# Tracing the dynamic changes in perceived tonal organization, Psychological Review 89.
_PROFILES = np.array(
    [
        [6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88],
        [6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17],
    ]
)
TONES = ("C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")
_FFT_SAMPLES, _FFT_HOP = 4096, 2048
_LOWEST_HZ, _HIGHEST_HZ = 65.0, 2100.0
_SLOWEST_BPM, _FASTEST_BPM = 40.0, 240.0
_USUAL_BPM, _OCTAVES = 125.0, 0.9  # centre and width of the weight on tempi
_NUM_MULTIPLES = 4  # of a lag, which a beat has too
_QUIETEST_DB = -100.0
TEMPO_CONFIDENCE, MODE_CONFIDENCE = 0.3, 0.12


def measure(samples: np.ndarray, log_mels: np.ndarray, frames_per_second: float) -> Measured:
    """Measure a clip.

    Args:
        samples: mono at 16 kHz, float32 (num_samples,).
        log_mels: of the same, consecutive segments (T, F, N).
        frames_per_second: of the log-mels.

    Returns:
        What is sure enough.
    """
    tempo_bpm, tempo_confidence = estimate_tempo(log_mels, frames_per_second)
    _, mode, mode_confidence = estimate_key(samples)
    third = max(1, len(samples) // 3)
    return Measured(
        loudness_db=loudness(samples),
        change_db=loudness(samples[-third:]) - loudness(samples[:third]),
        tempo_bpm=tempo_bpm if tempo_confidence >= TEMPO_CONFIDENCE else None,
        mode=mode if mode_confidence >= MODE_CONFIDENCE else "",
    )


def loudness(samples: np.ndarray) -> float:
    """Return the RMS in decibels below full scale, -100 at least."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    return max(_QUIETEST_DB, 10 * float(np.log10(power + 1e-12)))


def estimate_tempo(log_mels: np.ndarray, frames_per_second: float) -> tuple[float, float]:
    """Estimate the tempo of a clip.

    Args:
        log_mels: consecutive segments (T, F, N), logarithmic.
        frames_per_second: of the log-mels.

    Returns:
        Beats per minute, and a confidence of 0 to 1: how much of the rises repeat with the beat.
    """
    frames = np.concatenate(list(log_mels), axis=1)  # (F, T * N)
    rises = np.maximum(0.0, np.diff(frames, axis=1)).mean(0)
    rises = rises - np.convolve(rises, np.ones(31) / 31, "same")  # slow changes are no beats
    rises = np.maximum(rises, 0.0)
    rises = rises - rises.mean()
    if rises.std() < 1e-6:
        return 0.0, 0.0
    size = 2 ** int(np.ceil(np.log2(2 * len(rises))))
    correlation = np.fft.irfft(np.abs(np.fft.rfft(rises, size)) ** 2)[: len(rises)]
    correlation = correlation / np.arange(len(rises), 0, -1)  # of fewer pairs, their mean
    correlation = correlation / correlation[0]
    tempi = np.exp(np.linspace(np.log(_SLOWEST_BPM), np.log(_FASTEST_BPM), 500))
    lags = 60.0 * frames_per_second / tempi
    places = np.arange(len(correlation))
    multiples = [k * lags for k in range(1, _NUM_MULTIPLES + 1)]
    inside = [np.where(lag < 0.8 * len(rises), lag, lags) for lag in multiples]
    comb = np.mean([np.interp(lag, places, correlation) for lag in inside], axis=0)
    weight = np.exp(-0.5 * (np.log2(tempi / _USUAL_BPM) / _OCTAVES) ** 2)
    best = int(np.argmax(comb * weight))
    return float(tempi[best]), float(np.clip(comb[best], 0.0, 1.0))


def chroma(samples: np.ndarray) -> np.ndarray:
    """Return how much sounds of each of the 12 tones from C on, (12,); zeros for silence."""
    padded = np.pad(samples, (0, max(0, _FFT_SAMPLES - len(samples))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, _FFT_SAMPLES)[::_FFT_HOP]
    magnitudes = np.abs(np.fft.rfft(windows * np.hanning(_FFT_SAMPLES), axis=1))
    bins_hz = np.arange(magnitudes.shape[1]) * SAMPLING_RATE / _FFT_SAMPLES
    # Only peaks: the sides of a loud tone would count as its neighbours.
    inner = magnitudes[:, 1:-1]
    is_peak = (inner > magnitudes[:, :-2]) & (inner >= magnitudes[:, 2:])
    in_range = (bins_hz[1:-1] > _LOWEST_HZ) & (bins_hz[1:-1] < _HIGHEST_HZ)
    rows, columns = np.nonzero(is_peak & in_range)
    left, middle, right = (np.log(magnitudes[rows, columns + shift] + 1e-9) for shift in (0, 1, 2))
    curve = left - 2 * middle + right
    shift = np.where(curve < -1e-9, 0.5 * (left - right) / np.minimum(curve, -1e-9), 0.0)
    hz = (columns + 1 + shift) * SAMPLING_RATE / _FFT_SAMPLES
    tone = 12 * np.log2(hz / 440.0) + 69
    strength = np.sqrt(magnitudes[rows, columns + 1])
    found = np.bincount(np.round(tone).astype(int) % 12, strength, 12)
    total = found.sum()
    return found / total if total > 0 else found


def estimate_key(samples: np.ndarray) -> tuple[str, str, float]:
    """Estimate the key of a clip.

    Args:
        samples: mono at 16 kHz, float32 (num_samples,).

    Returns:
        The tonic, such as "E flat"; "major" or "minor"; and a confidence: how much better the best
        key of this mode correlates than the best of the other mode.
    """
    tones = chroma(samples)
    if tones.std() < 1e-9:
        return "", "", 0.0
    keys = np.stack([[np.roll(profile, k) for k in range(12)] for profile in _PROFILES])
    centred = keys - keys.mean(2, keepdims=True)
    scores = centred @ (tones - tones.mean())
    scores /= np.linalg.norm(centred, axis=2) * np.linalg.norm(tones - tones.mean())
    mode, tonic = np.unravel_index(int(np.argmax(scores)), scores.shape)
    margin = scores[mode].max() - scores[1 - mode].max()
    return TONES[tonic], ("major", "minor")[mode], float(margin)
