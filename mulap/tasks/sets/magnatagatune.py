"""MagnaTagATune: 25,863 clips of 29 s, tagged by players of a game; the 50 most used tags.

Two splits go by this name in papers, and their scores cannot be compared. `clean` is Jongpil Lee's,
which the paper cites: clips with one of the 50 tags at least and over 29.1 s of sound. `full` takes
every clip but three that hold no sound, by the folder it lies in. Every result names its split.

Labels are read from the annotations, not from the arrays that come with the lists (they agree, and
a test says so). Tags that mean the same ("female voice", "woman") stay apart, as in both splits.
"""

from collections.abc import Iterator
from pathlib import Path

from mulap.data.official_files import (
    find_layout,
    read_lines,
    read_pickled_strings,
    read_table,
)
from mulap.data.splits import SPLITS, choose_group
from mulap.tasks.task import Example, Problems, Remote, Task

# By use, the most used first; spelled as in the annotations (the lists' own file says "newAge").
LABELS = tuple(
    "guitar,classical,slow,techno,strings,drums,electronic,rock,fast,piano,ambient,beat,violin,"
    "vocal,synth,female,indian,opera,male,singing,vocals,no vocals,harpsichord,loud,quiet,flute,"
    "woman,male vocal,no vocal,pop,soft,sitar,solo,man,classic,choir,voice,new age,dance,"
    "male voice,female vocal,beats,harp,cello,no voice,weird,country,female voice,metal,"
    "choral".split(",")
)

ANNOTATIONS = "annotations_final.csv"
CLIPS = "clip_info_final.csv"
LAYOUTS = ("audio/{}", "{}", "mp3/{}")

# Clips 35644, 55753 and 57881: the files are there and hold nothing. `full` leaves them out.
EMPTY_FILES = frozenset(
    (
        "6/norine_braun-now_and_zen-08-gently-117-146.mp3",
        "8/jacob_heringman-josquin_des_prez_lute_settings-19-gintzler__pater_noster-204-233.mp3",
        "9/american_baroque-dances_and_suites_of_rameau_and_couperin-25-"
        "le_petit_rien_xiveme_ordre_couperin-88-117.mp3",
    )
)
# The first character of a file's folder, in `full`.
FOLDERS = {"0123456789ab": "train", "c": "valid", "def": "test"}

_HOST = "https://mirg.city.ac.uk/datasets/magnatagatune"
# Checksums: jukemir's list of assets (p-lambda/jukemir, jukemir/assets/magnatagatune.json).
_AUDIO = (
    "f857fe185968773058cc71662c2ef5d8f2d4b7338e3c122cfd52f82dcb9760b9",
    "fc2e1ec441755556ed1398b1808f1b08b6034372f8bc27394510c0c58cdb52ce",
    "83a689824c17e82f6eb81cdbc4e4ca239a4cfc1fb41f1a5c80b861caec90450f",
)
_TABLES = {
    ANNOTATIONS: "99b94e95825d4fa576386a5367b9c96e0ec636e9f9c240aceb492f4728f68c3c",
    CLIPS: "cb6108a10d3a91f0bfd7d2fbec2382559d15f20c8d28093f14e12162a47a3e78",
}
# Lee's lists, from a repository that carries them too, at a commit: what is read cannot change.
_LISTS = (
    "https://raw.githubusercontent.com/minzwon/sota-music-tagging-models/"
    "ffd9c4694a0f493ffd9a8ddf1302622c5f445358/split/mtat"
)
_LIST_BYTES = {"train": 1_208_643, "valid": 122_390, "test": 353_102}


TASKS = {
    "magnatagatune": Task(
        name="magnatagatune",
        title="MagnaTagATune",
        kind="tags",
        labels=LABELS,
        group_name="artist",
        splits={"clean": (15_244, 1_529, 4_332), "full": (18_706, 1_825, 5_329)},
        remotes={
            "": (
                *(
                    Remote(f"{_HOST}/{name}", name, f"sha256:{checksum}")
                    for name, checksum in _TABLES.items()
                ),
                *(
                    Remote(
                        f"{_HOST}/mp3.zip.00{number}",
                        f"mp3.zip.00{number}",
                        f"sha256:{checksum}",
                        unpack_to="audio",
                    )
                    for number, checksum in enumerate(_AUDIO, 1)
                ),
            ),
            "clean": tuple(
                Remote(
                    f"{_LISTS}/{split}_list_pub.cP",
                    f"{split}_list_pub.cP",
                    num_bytes=_LIST_BYTES[split],
                )
                for split in SPLITS
            ),
        },
        licence="CC BY-NC-SA 3.0; the music is Magnatune's",
        citation="E. Law, K. West, M. Mandel, M. Bay, J. S. Downie: Evaluation of algorithms using "
        "games: the case of music tagging. ISMIR 2009",
        homepage="https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset",
        split_source="clean: J. Lee, github.com/jongpillee/music_dataset_split; full: by folder, "
        "12:1:3, as in github.com/jordipons/musicnn-training",
        caveat=(
            "Scores on clean and full cannot be compared. Artists recur: by file name, 2,668 of "
            "the 4,332 test clips of clean are by an artist who is also in train or valid. A "
            "tag that nobody gave counts as absent; synonymous tags are separate labels."
        ),
    )
}


def read(task: Task, folder: Path, split_name: str) -> tuple[list[Example], Problems]:
    """Read the clips of one split, with their artist as the group.

    `folder` holds the two tables, for `clean` the lists (`train_list_pub.cP` or `train_list.txt`
    and so on), and the audio, as `audio/0/NAME.mp3` or `0/NAME.mp3`. Examples are in the lists'
    order (`clean`) or the annotations' (`full`); listed clips without an annotation are problems.
    ValueError where a file is missing or of another format.
    """
    examples, problems = [], []
    artists = {row["clip_id"]: row["artist"] for _, row, _ in read_table(folder / CLIPS, _CLIP)}
    clips = _read_annotations(folder / ANNOTATIONS)
    listed = list(_read_lists(folder) if split_name == "clean" else _split_by_folder(clips))
    layout = find_layout(folder, LAYOUTS, (path for _, path, _ in listed))
    for split, path, source in listed:
        if path not in clips:
            problems.append((f"{source}: {path}", f"not in {ANNOTATIONS}"))
            continue
        where, clip_id, tags = clips[path]
        group = choose_group((artists.get(clip_id, ""),), "")
        examples.append(Example(clip_id, layout.format(path), tags, split, group, where))
    return examples, problems


_CLIP = ("clip_id", "artist")


def _read_annotations(path: Path) -> dict[str, tuple[str, str, tuple[str, ...]]]:
    """Return, by the audio's path: where its row stands, its clip's id and its tags."""
    clips = {}
    for where, row, _ in read_table(path, ("clip_id", "mp3_path", *LABELS)):
        for label in LABELS:
            if row[label] not in ("0", "1"):
                raise ValueError(f"{where}: {row[label]!r} for {label!r} is neither 0 nor 1")
        tags = tuple(label for label in LABELS if row[label] == "1")
        clips[row["mp3_path"]] = (where, row["clip_id"], tags)
    return clips


def _read_lists(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield split, path and list of every clip of `clean`."""
    for split in SPLITS:
        pickled, text = folder / f"{split}_list_pub.cP", folder / f"{split}_list.txt"
        is_text = text.is_file() and not pickled.is_file()
        source = text if is_text else pickled
        for name in read_lines(text) if is_text else read_pickled_strings(pickled):
            # The lists name the spectrograms that Lee had made of the clips.
            yield split, f"{name.removesuffix('.npy').removesuffix('.mp3')}.mp3", source.name


def _split_by_folder(clips: dict[str, tuple[str, str, tuple[str, ...]]]) -> Iterator:
    """Yield split, path and table of every clip of `full`."""
    for path, (where, _, _) in clips.items():
        if path in EMPTY_FILES:
            continue
        splits = [split for letters, split in FOLDERS.items() if path[:1] in letters]
        if path[1:2] != "/" or not splits:
            raise ValueError(f"{where}: {path!r} lies in none of the folders 0 to f")
        yield splits[0], path, ANNOTATIONS
