"""Small MagnaTagATune, MTG-Jamendo and GTZAN folders in the official formats, made on the fly."""

import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from mulap.tasks.sets import gtzan, magnatagatune, mtg_jamendo

SHARED_SPLITS = Path(__file__).resolve().parents[2] / "shared" / "splits"
SPLITS = ("train", "valid", "test")


def shared_splits(name: str) -> Path:
    """The real split files of a data set; the test is skipped where they are not."""
    folder = SHARED_SPLITS / name
    if not folder.is_dir():
        pytest.skip(f"the real split files are not here ({folder})")
    return folder


def write_tone(path: Path, seed: int, seconds: float, rate: int) -> None:
    """A tone and a little noise, in the format that the path's ending names."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    sound = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 1_000) * time)
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, sound + 0.01 * rng.standard_normal(len(time)), rate)


def magnatagatune_clips() -> dict[str, tuple[str, ...]]:
    """Path -> tags of 16 clips, one a folder: 12 of train, 1 of valid, 3 of test."""
    labels = magnatagatune.LABELS
    return {
        f"{folder}/artist_{folder}-album-01-song-0-29.mp3": (labels[index], labels[index + 20])
        for index, folder in enumerate("0123456789abcdef")
    }


def write_annotations(path: Path, clips: dict[str, tuple[str, ...]]) -> None:
    """`annotations_final.csv`: 188 tags in an order of its own, every cell quoted, CRLF."""
    rng = np.random.default_rng(0)
    columns = [*magnatagatune.LABELS, *(f"tag {number}" for number in range(138))]
    columns = [columns[index] for index in rng.permutation(188)]
    lines = [["clip_id", *columns, "mp3_path"]]
    for number, (name, tags) in enumerate(clips.items()):
        given = {*tags, "tag 7"}
        lines.append([str(number), *("01"[column in given] for column in columns), name])
    text = "".join("\t".join(f'"{cell}"' for cell in line) + "\r\n" for line in lines)
    path.write_bytes(text.encode())


def write_clip_info(path: Path, clips: dict[str, tuple[str, ...]]) -> None:
    """`clip_info_final.csv`; the artist is the first part of the file's name."""
    names = "clip_id track_number title artist album url segmentStart segmentEnd original_url"
    lines = [[*names.split(), "mp3_path"]]
    for number, name in enumerate(clips):
        artist = name.partition("/")[2].partition("-")[0].replace("_", " ").title()
        title = 'The ""Song""'
        lines.append([str(number), "1", title, artist, "Album", "http://x", "0", "29", "", name])
    path.write_text("".join("\t".join(f'"{cell}"' for cell in line) + "\n" for line in lines))


def write_magnatagatune(
    folder: Path,
    clips: dict[str, tuple[str, ...]] | None = None,
    seconds: float = 0.0,
    protocol: int = 0,
) -> Path:
    """Tables, pickled lists and, if it has any length, audio."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = clips or magnatagatune_clips()
    write_annotations(folder / magnatagatune.ANNOTATIONS, clips)
    write_clip_info(folder / magnatagatune.CLIPS, clips)
    for letters, split in magnatagatune.FOLDERS.items():
        names = [f"{name[:-4]}.npy" for name in clips if name[0] in letters]
        (folder / f"{split}_list_pub.cP").write_bytes(pickle.dumps(names, protocol))
    for seed, name in enumerate(clips if seconds else ()):
        write_tone(folder / "audio" / name, seed, seconds, 16_000)
    return folder


def mtg_jamendo_row(number: int, artist: int, tags: tuple[str, ...]) -> str:
    """A line of a table, without its end."""
    path = f"{number % 100:02}/{number}.mp3"
    cells = [f"track_{number:07}", f"artist_{artist:06}", f"album_{artist:06}", path, "151.4"]
    return "\t".join([*cells, *tags])


def write_mtg_jamendo(
    folder: Path, subset: str = "genre", tracks_per_split: int = 4, seconds: float = 0.0
) -> Path:
    """The three tables of split-0 (CRLF, as published) and, if it has any length, audio."""
    labels = next(labels for name, _, labels, _ in mtg_jamendo.SUBSETS.values() if name == subset)
    header = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"
    number = 214
    for position, (_, name) in enumerate(mtg_jamendo.SPLIT_FILES.items()):
        lines = [header]
        for index in range(tracks_per_split):
            tags = tuple(sorted({labels[index % len(labels)], labels[-1 - index % 3]}))
            lines.append(mtg_jamendo_row(number, 10 * position + index, tags))
            if seconds:
                target = folder / "audio" / f"{number % 100:02}" / f"{number}.mp3"
                write_tone(target, number, seconds, 44_100)
            number += 1
        path = folder / "data" / "splits" / "split-0" / f"autotagging_{subset}-{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes("".join(f"{line}\r\n" for line in lines).encode())
    return folder


def write_gtzan(
    folder: Path, per_genre: int = 1, seconds: float = 0.0, layout: str = gtzan.LAYOUTS[0]
) -> Path:
    """Three lists with every genre and, if it has any length, audio."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for split in SPLITS:
        names = []
        for genre in gtzan.LABELS:
            for index in range(per_genre):
                names.append(f"{genre}/{genre}.{SPLITS.index(split) * per_genre + index:05}")
        (folder / f"{split}_filtered.txt").write_text("".join(f"{name}.wav\n" for name in names))
        for name in names if seconds else ():
            write_tone(folder / layout.format(name), number, seconds, 22_050)
            number += 1
    return folder


def zip_in_parts(source: Path, target: Path, num_parts: int = 3) -> list[Path]:
    """Everything below a folder as one zip cut into NAME.001 and so on, as MagnaTagATune's is."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(source.rglob("*")):
            archive.write(path, path.relative_to(source))
    data = target.read_bytes()
    target.unlink()
    parts = []
    for part in range(num_parts):
        piece = data[len(data) * part // num_parts : len(data) * (part + 1) // num_parts]
        parts.append(target.with_name(f"{target.name}.{part + 1:03}"))
        parts[-1].write_bytes(piece)
    return parts


def tar_gz(source: Path, target: Path) -> Path:
    """A folder, under its own name, as one .tar.gz, as GTZAN's is."""
    with tarfile.open(target, "w:gz") as archive:
        archive.add(source, source.name)
    return target
