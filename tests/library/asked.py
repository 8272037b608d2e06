"""A library of a few sounds by a small model of its own, to be asked."""

from pathlib import Path

import soundfile as sf
from library.listening import settle
from tiny import RATE, tone, write_joint_model, write_reference

from mulap.encoders.engine import load_engine
from mulap.library.index import index_music


def write_song(path: Path, seed: int, seconds: float = 33.0, **tags: str) -> Path:
    """Write a tone of many pitches, with tags."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with sf.SoundFile(path, "w", RATE, 1, format="FLAC") as out:
        for name, text in tags.items():
            setattr(out, name, text)
        out.write(tone(seed, seconds))
    return settle(path)


def make_library(folder: Path, num_songs: int = 6) -> Path:
    """Write a model, songs and their library: `model`, `music`, `lib` in a folder."""
    write_reference(write_joint_model(folder / "model"))
    for number in range(num_songs):
        write_song(
            folder / "music" / f"{number}.flac",
            number,
            title=f"Song {number}",
            artist=f"Artist {number % 2}",
            album=f"Album {number}",
        )
    index_music(
        [folder / "music"], folder / "lib", lambda name: load_engine(name, "cpu"), folder / "model"
    )
    return folder
