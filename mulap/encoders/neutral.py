"""How well words fit a track, beside some 950 sentences that were written for no track.

    neutral sentences ("calm folk, flute", "the price of bread") -> points (S, D)   once per model
    silence, noises, tones, speech                               -> points (K, D)   and kept on disk

    percentile = share of the neutral sentences that fit this track less than the words do
               = 0 where the track sounds like one of those sounds: no words stand out then

So a track that everything fits a little has no high percentiles, and neither has one that is no
music. A cosine has no meaning of its own; what this one is worth is in docs/zero-shot.md.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mulap.corpora.wording import draw, seeded
from mulap.encoders.kept import kept
from mulap.encoders.zero_shot import default_tags, tags_by_kind, unit_length
from mulap.files import sha256_of
from mulap.terminal import say
from mulap.vectors.store import fingerprint

if TYPE_CHECKING:
    from mulap.encoders.own import OwnEncoder

STRONG, FAIR = 99.0, 95.0  # percentiles; where each word begins
# Cosines with the nearest sound from which a track is no music. Each stands between what was
# measured of such sounds and of music (docs/zero-shot.md).
_AS_SPEECH, _AS_NOISE = 0.60, 0.92
_NUM_COMPOSED = 700
_PATTERNS = (
    "{mood} {genre}",
    "{genre} with {instrument}",
    "{sound} {genre}",
    "{instrument}, {mood}",
    "{mood} music for {use}",
    "a {sound} {mood} piece with {instrument}",
    "{voice}, {genre}",
    "{genre} for {use}",
    "{instrument} and {instrument}",
)
_NO_MUSIC = """
a person speaking|a man reading the news|a crowd talking|silence|white noise|a sine tone
rain on a roof|a dog barking|traffic on a busy street|footsteps on gravel|a door closing
wind in the trees|a telephone ringing|a vacuum cleaner|the sea|birds in a garden|an engine idling
a photograph of a mountain|the price of bread|an email about a meeting|a recipe for soup
a map of the city|the weather forecast|a football match|a chemistry lesson|a letter from the bank
the history of Rome|a red bicycle|a contract of sale|how to repair a roof
"""
_ROWS_AT_ONCE = 4_096
_RATE = 16_000
# Formants of vowels in Hz, about a fifth above those of a man's voice.
_VOWELS = np.array([
    (730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480),
    (660, 1720, 2410), (570, 840, 2410), (440, 1020, 2240),
]) * 1.1  # fmt: skip


def neutral_sentences() -> tuple[str, ...]:
    """Return sentences on any music and on none; the same ones each time."""
    words, rng = tags_by_kind(), seeded("neutral sentences")
    composed = [
        _PATTERNS[index % len(_PATTERNS)].format_map(_Drawn(words, rng))
        for index in range(_NUM_COMPOSED)
    ]
    others = _NO_MUSIC.strip().replace("\n", "|").split("|")
    return tuple(dict.fromkeys((*default_tags(), *composed, *others)))


class _Drawn:
    """Draws a word of a kind whenever one is looked up."""

    def __init__(self, words: dict[str, list[str]], rng: np.random.Generator) -> None:
        self.words, self.rng = words, rng

    def __getitem__(self, kind: str) -> str:
        return draw(self.rng, self.words[kind])


def neutral_sounds() -> list[tuple[float, np.ndarray]]:
    """Return sounds that are no music: the cosine from which a track is like it, and samples."""
    rng, times = seeded("neutral sounds"), np.arange(3 * _RATE) / _RATE
    tones = [np.sin(2 * np.pi * pitch * times) for pitch in 50 * 2 ** (np.arange(15) / 2)]
    noises = [_noise(rng, power) for power in (0, 0.25, 0.5, 0.75, 1)]
    # The network hears levels.
    steady = [level * sound for level in 0.25 ** np.arange(6) for sound in (*tones, *noises)]
    silence = np.zeros(3 * _RATE)
    return [(_AS_SPEECH, _speech(rng, 36)), *((_AS_NOISE, each) for each in (silence, *steady))]


def _noise(rng: np.random.Generator, power: float) -> np.ndarray:
    """Return three seconds of noise whose amplitude falls with frequency: 0 is white, 0.5 pink."""
    spectrum = np.fft.rfft(rng.standard_normal(3 * _RATE))
    samples = np.fft.irfft(spectrum / np.arange(1, len(spectrum) + 1) ** power)
    return samples / np.abs(samples).max()


def _speech(rng: np.random.Generator, seconds: int) -> np.ndarray:
    """Return what has the rhythm and the spectrum of speech, and no words: vowels, hisses, gaps."""
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < seconds * _RATE:
        length, kind = int(_RATE * rng.uniform(0.06, 0.16)), rng.random()
        window = np.hanning(length)
        if kind < 0.62:
            glide = rng.uniform(-0.25, 0.25) + np.linspace(0, rng.uniform(-0.15, 0.15), length)
            pitch = rng.uniform(150, 240) * 2**glide
            part = (
                _vowel(pitch, _VOWELS[rng.integers(len(_VOWELS))])
                * np.sqrt(window)
                * rng.uniform(0.3, 0.6)
            )
        elif kind < 0.82:
            hiss = rng.standard_normal(length + 1) * 0.06
            part = (hiss[1:] - 0.9 * hiss[:-1]) * window
        else:
            part = np.zeros(length)
        parts.append(part)
        if rng.random() < 0.15:
            parts.append(np.zeros(int(_RATE * rng.uniform(0.1, 0.4))))
    return np.concatenate(parts)[: seconds * _RATE]


def _vowel(pitch: np.ndarray, formants: np.ndarray) -> np.ndarray:
    """Return a voice of some pitch in Hz at each sample, as a sum of harmonics; its peak is 1."""
    phase, mean = 2 * np.pi * np.cumsum(pitch) / _RATE, pitch.mean()
    harmonics = np.arange(1, int(5_000 / mean) + 1)
    gains = 1 / harmonics
    for formant, width in zip(formants, (80, 90, 120), strict=True):
        ratio = harmonics * mean / formant
        gains = gains / np.hypot(1 - ratio**2, ratio * width / formant)
    samples = gains @ np.sin(harmonics[:, None] * phase)
    return samples / np.abs(samples).max()


@dataclass(frozen=True)
class Neutral:
    """What words are compared with; all points are of unit length.

    Attributes:
        sentences: points of `neutral_sentences` (S, D).
        sounds: points of `neutral_sounds` (K, D).
        least: the cosines of those (K,).
    """

    sentences: np.ndarray
    sounds: np.ndarray
    least: np.ndarray

    def percentile(self, tracks: np.ndarray, queries: np.ndarray) -> np.ndarray:
        """Return how well words fit tracks, in percent of the neutral sentences that fit less.

        Args:
            tracks: points (N, D), of any length but 0.
            queries: points (Q, D), likewise.

        Returns:
            0 to 100, float32 (N, Q); 0 for a track that is no music.
        """
        queries = unit_length(queries)
        found = np.zeros((len(tracks), len(queries)), np.float32)
        for start in range(0, len(tracks), _ROWS_AT_ONCE):
            some = unit_length(tracks[start : start + _ROWS_AT_ONCE])
            neutral, cosines = np.sort(some @ self.sentences.T, axis=1), some @ queries.T
            for row, (of_neutral, of_queries) in enumerate(zip(neutral, cosines, strict=True)):
                found[start + row] = np.searchsorted(of_neutral, of_queries)
        found *= 100 / len(self.sentences)
        found[~self.is_music(tracks)] = 0
        return found

    def is_music(self, tracks: np.ndarray) -> np.ndarray:
        """Return which tracks (N, D) are not like silence, noise, one tone or speech (N,)."""
        return (self.least - unit_length(tracks) @ self.sounds.T).min(axis=1) > 0


def load_neutral(encoder: "OwnEncoder") -> Neutral:
    """Return the neutral points of a model's joint space; they take seconds, once per model.

    Raises:
        ValueError: the model shares no space with text.
    """
    # This module's code makes the sounds.
    making = fingerprint(
        {
            "files": encoder.joint.files_sha256,
            "sentences": neutral_sentences(),
            "code": sha256_of(__file__),
        }
    )
    return Neutral(**kept("neutral", making, lambda: vars(_compute(encoder))))


def _compute(encoder: "OwnEncoder") -> Neutral:
    say("computing what fits are compared with, once for this model")
    sentences = encoder.embed_text(neutral_sentences())
    return Neutral(unit_length(sentences), *embed_sounds(encoder))


def embed_sounds(encoder: "OwnEncoder") -> tuple[np.ndarray, np.ndarray]:
    """Return `Neutral.sounds` and `Neutral.least` of a model's joint space."""
    pairs = neutral_sounds()
    clips = [samples.astype(np.float32) for _, samples in pairs]
    points = np.concatenate(encoder.in_joint_space().embed_waveform(clips, "track", _RATE))
    least = np.array([cosine for cosine, _ in pairs], np.float32)
    cosines = (points @ points.T)[np.triu_indices(len(points), 1)]
    if np.median(cosines) >= _AS_SPEECH:
        least[:] = np.inf  # untrained weights: all sounds are alike, so that nothing is like these
    return unit_length(points), least


def word(percentile: float) -> str:
    """Return `strong`, `fair` or `weak` for a percentile."""
    return "strong" if percentile >= STRONG else "fair" if percentile >= FAIR else "weak"
