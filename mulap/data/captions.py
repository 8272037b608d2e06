"""Cleaning captions: their normal form, when two are the same, and which are too bad to learn from.

Cleaning is an option. The paper (section 3.1) tried it, "length between 3 and 15 words, absence of
text patterns observed to appear in bad captions", kept 115,933 of 250,513 pairs, saw no significant
effect downstream and reports results on all of them. It does not print its patterns: those below
are our own guess at what production-music libraries write where a description should be.

Limits: a caption that is well formed and wrong stays. Captions in capitals stay too: they say what
others say, and the tokenizer makes them lower case.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from mulap.data.clips import Clip, Manifest

BAD_PATTERNS: dict[str, str] = {
    "wrong_encoding": "\ufffd|Ã[\x80-\xbf]|â€",
    "url": r"(?i)\bhttps?:|\bwww\.|\w\.(?:com|net|org|info|co\.uk)\b",
    "email": r"\w@\w[\w-]*\.\w",
    "html": r"(?i)</?[a-z][^<>]*>|&(?:amp|quot|lt|gt|nbsp|apos|#\d+);",
    "file_name": r"(?i)\w\.(?:wav|mp3|flac|aiff?|ogg|m4a|wma|midi?)\b|[a-z\d]_[a-z\d]",
    # ABC-01234 and the like; not BWV988, MPC2000, SP1200, JV1080, nor with three digits TR-808.
    "catalogue_number": r"\b(?!BWV|HWV|MPC|SP|JV|XV)[A-Z]{2,6}-?\d{4,}\b",
    # Nine digits or more; eight are a pair of years.
    "phone_number": r"(?:\d[\s().-]{0,3}){9}",
    "track_number": r"(?i)\b(?:track|title|cue|song)\s*(?:no\.?|number)?\s*#?\s*\d{1,3}\b",
    "untitled": r"(?i)\b(?:untitled|unnamed|no title|no description|unknown (?:title|artist))\b",
    "placeholder": r"(?i)\blorem ipsum\b|\b(?:tbc|tbd|n/a|todo|description here)\b|^test\b",
    "licensing": r"(?i)\broyalty[- ]free\b|\bcopyright\b|\ball rights reserved\b|[©℗]",
    "advertising": r"(?i)\b(?:subscribe|click here|buy now|download|follow us|visit our)\b",
    # Libraries describe an edit by pointing at another track: "as above, no drums".
    "cross_reference": r"(?i)\b(?:as|see|of) (?:above|previous|main (?:mix|version))\b|same as \d",
    "edit_length": r"(?i)\b\d+\s*(?:s|secs?|seconds?)\s+(?:edit|version|cut|mix|sting)\b",
    "repeated_character": r"([^\d\s])\1{4}",
    "no_letters": r"^[\W\d_]*$",
}
"""Names and regular expressions of bad captions. Each is searched for in the normalized caption;
case matters unless the pattern begins with (?i)."""

_COMPILED = {name: re.compile(pattern) for name, pattern in BAD_PATTERNS.items()}

MIN_WORDS, MAX_WORDS = 3, 15
"""Lengths of captions that are kept, in words split at white space: the paper's."""

_MAX_EXAMPLE_CHARACTERS = 80

# Characters that show nothing: controls, lone surrogates (which UTF-8 cannot write), zero-width
# spaces, marks of direction, soft hyphens. The joiners U+200C and U+200D stay: some scripts need
# them. White space is collapsed before, tabs and newlines with it.
_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
_APOSTROPHES = re.compile("(?<=\\w)['\u2019\u02bc`](?=\\w)")
_JOINERS = re.compile("[\u200c\u200d]")
# A sharp after a letter is part of the note's name.
_NOT_WORD = re.compile(r"(?P<sharp>(?<=\w)#)|[\W_]+")


def normalize_caption(text: str) -> str:
    """Return `text` in NFC, on one line, with single spaces and without invisible characters."""
    spaced = " ".join(text.split())
    if spaced.isascii() and spaced.isprintable():
        return spaced
    # Twice: an invisible character may stand between spaces, or keep a letter from its accent.
    return unicodedata.normalize("NFC", " ".join(_INVISIBLE.sub("", spaced).split()))


def caption_key(text: str) -> str:
    """Return what two captions share exactly if they say the same in the same words.

    Case, white space, punctuation and compatibility forms (full width, ligatures) do not count:
    "Hip-hop, 90 BPM!" and "hip hop 90 bpm" have one key. Accents do, and so do sharps and flats,
    without which C# and C would be one note. A caption of punctuation alone is its own key.
    """
    folded = _fold(text)
    words = _APOSTROPHES.sub("", folded.replace("\u266f", "#").replace("\u266d", "b"))
    return " ".join(_NOT_WORD.sub(_separate, words).split()) or folded


def _separate(found: re.Match[str]) -> str:
    if found["sharp"]:
        return "#"
    # Vowel signs are no letters to `re`, yet distinguish words in many scripts.
    kept = (mark if unicodedata.category(mark)[0] == "M" else " " for mark in found.group())
    return " " if found.group().isascii() else "".join(kept)


def _fold(text: str) -> str:
    # Decomposed before the case is folded, composed after, so that letters come out whole.
    text = unicodedata.normalize("NFKD", normalize_caption(text)).casefold()
    text = unicodedata.normalize("NFKC", text)
    return normalize_caption(text if text.isascii() else _JOINERS.sub("", text))


def hash_caption(key: str) -> int:
    """Return 64 bits of a `caption_key`, signed: a number that processes can compare."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "little", signed=True)


def find_broken_rule(caption: str) -> str | None:
    """Return the first rule that a normalized caption breaks, None where it breaks none.

    It is `too_short`, `too_long` or the name of a pattern.
    """
    num_words = len(caption.split())
    if num_words < MIN_WORDS:
        return "too_short"
    if num_words > MAX_WORDS:
        return "too_long"
    return next((name for name, bad in _COMPILED.items() if bad.search(caption)), None)


@dataclass
class CleaningReport:
    """What cleaning dropped and which of the captions it kept say the same."""

    # rule -> how many captions broke it first
    num_dropped: Counter[str] = field(default_factory=Counter)
    # rule -> the first caption that it dropped, shortened
    examples: dict[str, str] = field(default_factory=dict)
    # `caption_key` -> how many captions with it were kept. Duplicates are kept: two tracks may well
    # be described in the same words.
    num_kept: Counter[str] = field(default_factory=Counter)
    # `caption_key` -> the first of these captions
    spelling: dict[str, str] = field(default_factory=dict)
    num_clips_dropped: int = 0  # clips that lost all their captions

    @property
    def num_captions(self) -> int:
        """How many captions came in."""
        return self.num_dropped.total() + self.num_kept.total()

    def clean(self, caption: str) -> str | None:
        """Count a caption; return its normal form, or None where a rule drops it."""
        caption = normalize_caption(caption)
        if rule := find_broken_rule(caption):
            self.num_dropped[rule] += 1
            self.examples.setdefault(rule, _shorten(caption))
            return None
        key = caption_key(caption)
        self.num_kept[key] += 1
        self.spelling.setdefault(key, caption)
        return caption

    def lines(self) -> list[str]:
        """Return the report in words, a line for each rule that dropped anything."""
        lines = [f"captions kept: {self.num_kept.total():,} of {self.num_captions:,}"]
        for rule, count in self.num_dropped.most_common():
            lines.append(f"dropped as {rule}: {count:,}, such as {self.examples[rule]!r}")
        if self.num_clips_dropped:
            lines.append(f"clips left without a caption and dropped: {self.num_clips_dropped:,}")
        if repeated := self.num_kept.total() - len(self.num_kept):
            key, count = self.num_kept.most_common(1)[0]
            lines.append(
                f"captions that repeat another: {repeated:,}; "
                f"the most frequent comes {count:,} times: {_shorten(self.spelling[key])!r}"
            )
        return lines


def clean_manifest(manifest: Manifest) -> tuple[Manifest, CleaningReport]:
    """Clean the captions of all clips; a clip left with none is dropped and counted.

    Problems stay as they are. ValueError if no clip has a caption left.
    """
    report, clips = CleaningReport(), []
    for clip in manifest.clips:
        cleaned = list(map(report.clean, clip.captions))
        if any(each is not None for each in cleaned):
            clips.append(_keep_captions(clip, cleaned))
    report.num_clips_dropped = len(manifest.clips) - len(clips)
    if not clips:
        rule, count = next(iter(report.num_dropped.most_common(1)), ("no caption", 0))
        raise ValueError(
            f"caption cleaning keeps none of {report.num_captions:,} captions (most often dropped "
            f"as {rule}: {count:,}). Set data.clean_captions to false."
        )
    return replace(manifest, clips=clips), report


def leave_out_sources(manifest: Manifest, sources: Sequence[str]) -> tuple[Manifest, str]:
    """Leave out the captions of some sources, and clips that have no other.

    Args:
        manifest: of data that name the source of each caption, in a column `caption_source`.
        sources: names, such as "heard". A caption of several, "heard+measured", is left out if one
            of them is named.

    Returns:
        The other captions, and a line that counts what was left out.

    Raises:
        ValueError: no clip names its captions' sources, or no caption is left.
    """
    unwanted, clips, num_captions = set(sources), [], 0
    if not any(clip.caption_sources for clip in manifest.clips):
        raise ValueError(
            "data.leave_out_sources: the data name no sources of captions. Give a corpus with a "
            "column caption_source, or what this version of mulap prepare makes of it."
        )
    for clip in manifest.clips:
        own = clip.caption_sources or [""] * len(clip.captions)
        kept = [
            None if unwanted & set(source.split("+")) else caption
            for caption, source in zip(clip.captions, own, strict=True)
        ]
        num_captions += kept.count(None)
        if any(each is not None for each in kept):
            clips.append(_keep_captions(clip, kept))
    if not clips:
        raise ValueError(
            f"data.leave_out_sources: no caption is left without {', '.join(sources)}. Name fewer."
        )
    num_clips = len(manifest.clips) - len(clips)
    line = f"left out by source: {num_captions:,} captions, and {num_clips:,} clips with no other"
    return replace(manifest, clips=clips), line


def _keep_captions(clip: Clip, captions: Sequence[str | None]) -> Clip:
    """Put captions, each changed or None, in the place of a clip's own."""
    kept = tuple(caption for caption in captions if caption is not None)
    sources = zip(captions, clip.caption_sources, strict=bool(clip.caption_sources))
    own = tuple(source for caption, source in sources if caption is not None)
    return replace(clip, captions=kept, caption_sources=own)


def _shorten(caption: str) -> str:
    if len(caption) <= _MAX_EXAMPLE_CHARACTERS:
        return caption
    return caption[: _MAX_EXAMPLE_CHARACTERS - 3] + "..."
