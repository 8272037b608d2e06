"""Train music-audio encoders on tracks and free-text captions; embed and tag audio files.

    encoder = mulap.load("musicnn-msd")         # a name, or a model's folder
    encoder.embed("song.mp3").embeddings        # (segments, 1506)
    encoder.tag("song.mp3").top(5)

    library = mulap.Library("music.mulap")      # made by mulap index
    library.search("calm piano, no drums")

Many files into one table: `mulap.embedding.embed`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mulap.encoders.load import load_encoder as load
    from mulap.library.library import Library

__all__ = ["Library", "load"]
__version__ = "0.1.0"


def __dir__() -> list[str]:
    """List what is imported on first use too, so that notebooks complete it."""
    return sorted([*globals(), *__all__])


def __getattr__(name: str) -> Any:
    """Import on first use: torch takes seconds to import, and `import mulap` should not."""
    if name == "load":
        from mulap.encoders.load import load_encoder  # noqa: PLC0415

        return load_encoder
    if name == "Library":
        from mulap.library.library import Library  # noqa: PLC0415

        return Library
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
