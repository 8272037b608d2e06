"""What happens to files: cut, flipped, shuffled, or with a header that lies. Pure in the generator.

Random bytes alone hardly ever make a header that is believed, so some lies are told by hand.
"""

import random
import struct
from collections.abc import Callable
from typing import Any


def damage(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Damage a file in one random way.

    Returns:
        What was done, and the bytes.
    """
    kind = rng.choice(list(KINDS))
    return kind, KINDS[kind](bytearray(content), rng)


def _cut(content: bytearray, rng: random.Random) -> bytes:
    return bytes(content[: rng.randrange(len(content))])


def _cut_within_the_head(content: bytearray, rng: random.Random) -> bytes:
    return bytes(content[: rng.randrange(min(512, len(content)))])


def _flip(content: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 4, 64))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def _flip_in_the_head(content: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 3, 10))):
        content[rng.randrange(min(256, len(content)))] = rng.choice((0, 255, rng.randrange(256)))
    return bytes(content)


def _a_span(content: bytearray, rng: random.Random) -> slice:
    start = rng.randrange(len(content))
    return slice(start, min(len(content), start + rng.choice((1, 300, 5_000, 60_000))))


def _zero(content: bytearray, rng: random.Random) -> bytes:
    span = _a_span(content, rng)
    content[span] = bytes(span.stop - span.start)
    return bytes(content)


def _scramble(content: bytearray, rng: random.Random) -> bytes:
    span = _a_span(content, rng)
    content[span] = rng.randbytes(span.stop - span.start)
    return bytes(content)


def _remove(content: bytearray, rng: random.Random) -> bytes:
    del content[_a_span(content, rng)]
    return bytes(content)


def _repeat(content: bytearray, rng: random.Random) -> bytes:
    span = _a_span(content, rng)
    content[span.stop : span.stop] = content[span]
    return bytes(content)


def _swap_blocks(content: bytearray, rng: random.Random) -> bytes:
    size = max(1, len(content) // 8)
    blocks = [content[at : at + size] for at in range(0, len(content), size)]
    first, second = rng.randrange(len(blocks)), rng.randrange(len(blocks))
    blocks[first], blocks[second] = blocks[second], blocks[first]
    return b"".join(blocks)


def _append_junk(content: bytearray, rng: random.Random) -> bytes:
    return bytes(content) + rng.choice((rng.randbytes(4_000), bytes(100_000), b"TAG" + bytes(125)))


def _prepend_junk(content: bytearray, rng: random.Random) -> bytes:
    return rng.choice((rng.randbytes(300), bytes(64), b"ID3\x04\0\0\x7f\x7f\x7f\x7f")) + content


def _empty(content: bytearray, rng: random.Random) -> bytes:
    return b""


_NUMBERS = (0, 1, 2, 7, 255, 999, 2**15, 65_535, 2**24 - 1, 2**31 - 1, 2**31, 2**32 - 1)


def _lie(content: bytearray, rng: random.Random) -> bytes:
    """Write another number where the format keeps rate, channels or length."""
    number = rng.choice(_NUMBERS)
    if content[:4] in (b"RIFF", b"FORM"):
        # chunk sizes, format, channels, rate, bytes a second, block align, bits, size of data
        at, form = rng.choice(
            ((4, "I"), (16, "I"), (20, "H"), (22, "H"), (24, "I"), (28, "I"), (32, "H"), (34, "H"),
             (40, "I"))
        )  # fmt: skip
        order = "<" if content[:4] == b"RIFF" else ">"
    elif content[:4] == b"fLaC":
        # block sizes, 20 bits of rate with 3 of channels and 5 of bits, 36 bits of length
        at, form, order = *rng.choice(((8, "H"), (10, "H"), (18, "I"), (21, "I"), (22, "I"))), ">"
    elif content[:4] == b"OggS":
        # a page's time, length of its table; of Vorbis: channels and rate
        at, form, order = *rng.choice(((6, "I"), (10, "I"), (26, "B"), (39, "B"), (40, "I"))), "<"
    else:
        at, form, order = rng.randrange(min(200, len(content))), "I", ">"
        for name in (b"Xing", b"Info", b"mdhd", b"stsz", b"stts", b"mp4a", b"trun", b"esds"):
            if (found := content.find(name)) >= 0 and rng.random() < 0.4:
                at = found + rng.choice((-4, 4, 8, 12, 16, 20, 24, 28))
    size = struct.calcsize(order + form)
    if 0 <= at and at + size <= len(content):
        struct.pack_into(order + form, content, at, number % 256**size)
    return bytes(content)


def _lie_about_the_end(content: bytearray, rng: random.Random) -> bytes:
    """Give the last Ogg page another time, or any file another last word."""
    at = content.rfind(b"OggS") + 6 if b"OggS" in content else len(content) - 8
    if 0 <= at <= len(content) - 8:
        struct.pack_into("<Q", content, at, rng.choice((0, 5, 2**31, 2**40, 2**63 - 1, 2**64 - 1)))
    return bytes(content)


_VALUES = (None, True, "x", "", -1, 0, 1, 7, 3.5, 1e300, 10**9, 10**20, [], [1, "a"], {}, {"x": 1})


def replace_value(values: Any, rng: random.Random) -> Any:
    """Replace, remove or rename something in parsed JSON or YAML."""
    if isinstance(values, dict) and values and rng.random() < 0.9:
        key = rng.choice(list(values))
        changed = dict(values)
        chance = rng.random()
        if chance < 0.1:
            del changed[key]
        elif chance < 0.2:
            changed[f"{key}x"] = changed.pop(key)
        else:
            changed[key] = replace_value(values[key], rng)
        return changed
    if isinstance(values, list) and values and rng.random() < 0.9:
        at = rng.randrange(len(values))
        return [*values[:at], replace_value(values[at], rng), *values[at + 1 :]]
    return rng.choice(_VALUES)


KINDS: dict[str, Callable[[bytearray, random.Random], bytes]] = {
    function.__name__.lstrip("_"): function
    for function in (
        *(_cut, _cut_within_the_head, _flip, _flip_in_the_head, _zero, _scramble, _remove),
        *(_repeat, _swap_blocks, _append_junk, _prepend_junk, _empty, _lie, _lie_about_the_end),
    )
}
