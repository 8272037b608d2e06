"""GTZAN: 1,000 excerpts of 30 s in ten genres; the fault-filtered lists of 930.

The collection repeats recordings and artists, and some labels are wrong. The lists here leave the
known repetitions out and keep artists apart; what is left is listed in the caveat. They come as
three text files, `blues/blues.00029.wav` a line.
"""

import re
from pathlib import Path

from mulap.data.official_files import find_layout, read_lines
from mulap.data.splits import SPLITS
from mulap.tasks.task import Example, Problems, Remote, Task

LABELS = tuple("blues classical country disco hiphop jazz metal pop reggae rock".split())

_LINE = re.compile(rf"(?P<genre>{'|'.join(LABELS)})/(?P<name>(?P=genre)\.[0-9]{{5}})\.(wav|au)")

# As our own download unpacks it, as the original archive does, and as copies elsewhere have it.
LAYOUTS = tuple(
    f"{folder}{{}}.{ending}"
    for folder in ("audio/genres/", "genres/", "genres_original/", "")
    for ending in ("wav", "au")
)

# The original address has not answered since 2022. This copy is Marsyas's own, packed again.
_AUDIO = Remote(
    "https://huggingface.co/datasets/marsyas/gtzan/resolve/main/data/genres.tar.gz",
    "genres.tar.gz",
    "sha256:b28cc067ff6199bd826f5d1a6931458586d64acae7f44b2e882b7a97af057531",
    unpack_to="audio",
)
_LISTS = "https://raw.githubusercontent.com/coreyker/dnn-mgr/bdad579ea6cb37b665ea6019fe1026a6ce20cbc7/gtzan"
_CHECKSUMS = {
    "train": "sha256:2b04966cef1486f1a7767b74271533fa23e220388db804a1937835e1fc4fa3fa",
    "valid": "sha256:f8fbee7c52397a0e0f3a91dc54fedecb2e27f5bdc9a9daeab8cb10d077e26956",
    "test": "sha256:09cafa6a89ce0a27f30ed250d56ecb4d03c22fffb5a693f96c7ae655ee02ac72",
}


TASKS = {
    "gtzan": Task(
        name="gtzan",
        title="GTZAN",
        kind="class",
        labels=LABELS,
        splits={"filtered": (443, 197, 290)},
        remotes={
            "": (
                *(
                    Remote(f"{_LISTS}/{name}_filtered.txt", f"{name}_filtered.txt", checksum)
                    for name, checksum in _CHECKSUMS.items()
                ),
                _AUDIO,
            )
        },
        licence="none stated; excerpts of commercial recordings, collected by G. Tzanetakis",
        citation="G. Tzanetakis, P. Cook: Musical genre classification of audio signals. "
        "IEEE Transactions on Speech and Audio Processing, 2002",
        homepage="http://marsyas.info/downloads/datasets.html",
        split_source="C. Kereliuk, B. L. Sturm, J. Larsen: Deep learning and music adversaries, "
        "2015 (github.com/coreyker/dnn-mgr)",
        caveat="A small collection with repeated recordings and artists, wrong labels and "
        "distorted files (B. L. Sturm: The GTZAN dataset: its contents, its faults, 2013, "
        "arXiv 1306.1461); the lists leave the known repetitions out. jazz.00054.wav, in train, "
        "is broken in the copies in circulation, so 442 excerpts may remain to learn from.",
    )
}


def read(task: Task, folder: Path, split_name: str) -> tuple[list[Example], Problems]:
    """Read the excerpts of the fault-filtered lists, in their order; nothing is left out.

    `folder` holds `train_filtered.txt` and so on, and the audio, in one of `LAYOUTS`. ValueError
    where a list is missing or of another format.
    """
    rows = []
    for split in SPLITS:
        path = folder / f"{split}_filtered.txt"
        for line in read_lines(path):
            match = _LINE.fullmatch(line)
            if not match:
                raise ValueError(f"{path}: {line!r} is not like 'blues/blues.00029.wav'")
            rows.append((split, match["name"], match["genre"]))
    layout = find_layout(folder, LAYOUTS, (f"{genre}/{name}" for _, name, genre in rows))
    examples = [
        Example(
            track_id=name,
            file_name=layout.format(f"{genre}/{name}"),
            target=genre,
            split=split,
            source=f"{split}_filtered.txt: {name}",
        )
        for split, name, genre in rows
    ]
    return examples, []
