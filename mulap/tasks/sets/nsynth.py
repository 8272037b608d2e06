"""NSynth: which of eleven instrument families plays this note? 305,979 notes of 4 s.

The labels of train are one JSON object of 289,205 members. It is read in one go, but each member is
cut down to what is needed as soon as it is parsed, so that memory holds the text and little more.
"""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from mulap.data.row_files import one_line, read_utf8
from mulap.data.splits import SPLITS as SPLIT_NAMES
from mulap.tasks.task import Example, Problems, Remote, Task

HOMEPAGE = "https://magenta.tensorflow.org/datasets/nsynth"

# Magenta's own host, download.magenta.tensorflow.org, has no certificate of its name; this is its
# bucket. Size and MD5 are the bucket's; HEAR's preprocessing of NSynth lists the same MD5.
_BUCKET = "https://storage.googleapis.com/download.magenta.tensorflow.org/datasets/nsynth"
_FILES = {
    "train": ("fde6665a93865503ba598b9fac388660", 23_815_298_079),
    "valid": ("87e94a00a19b6dbc99cf6d4c0c0cae87", 1_068_767_009),
    "test": ("5e6f8719bf7e16ad0a00d518b78af77d", None),
}
REMOTES = tuple(
    Remote(
        url=f"{_BUCKET}/nsynth-{split}.jsonwav.tar.gz",
        path=f"nsynth-{split}.jsonwav.tar.gz",
        checksum=f"md5:{digest}",
        num_bytes=num_bytes,
        unpack_to=".",
    )
    for split, (digest, num_bytes) in _FILES.items()
)

# In the order of `instrument_family`, 0 to 10.
LABELS = tuple("bass brass flute guitar keyboard mallet organ reed string synth_lead vocal".split())

FAMILIES = frozenset(enumerate(LABELS))

SPLITS = {"official": (289205, 12678, 4096)}


TASKS = {
    "nsynth": Task(
        name="nsynth",
        title="NSynth",
        kind="class",
        labels=LABELS,
        group_name="instrument",
        splits=SPLITS,
        remotes={"": REMOTES},
        licence="CC BY 4.0 (Google Inc.)",
        citation="J. Engel, C. Resnick, A. Roberts, S. Dieleman, D. Eck, K. Simonyan, M. Norouzi. "
        "Neural Audio Synthesis of Musical Notes with WaveNet Autoencoders. ICML 2017.",
        homepage=HOMEPAGE,
        split_source="The data set's own.",
        caveat=(
            "No instrument of train is in valid or test, but valid and test may share some. "
            "Others count ten of the eleven families in test, and 71 noise notes there "
            "(brass_acoustic_046, magenta issue 2092)."
        ),
    )
}


class _Note(NamedTuple):
    """What a task needs of a note."""

    family: int
    family_name: str
    instrument: str


def read(task: Task, folder: Path, split_name: str) -> tuple[list[Example], Problems]:
    """Read the notes of all three sets, in the order of the files.

    `folder` holds `nsynth-train/examples.json`, `nsynth-train/audio/*.wav` and so on. Notes whose
    labels cannot be used are problems. ValueError where a file is missing or of another format.
    """
    examples, problems = [], []
    for split in SPLIT_NAMES:
        table = f"nsynth-{split}/examples.json"
        for name, note in _read_notes(folder / table):
            source = f"{table} note {name!r}"
            if not isinstance(note, _Note):
                problems.append((source, "no instrument_family, _str or instrument_str"))
            elif (note.family, note.family_name) not in FAMILIES:
                reason = f"family {note.family!r} is not called {note.family_name!r} in NSynth"
                problems.append((source, reason))
            else:
                file_name = f"nsynth-{split}/audio/{name}.wav"
                family, instrument = LABELS[note.family], note.instrument
                examples.append(Example(name, file_name, family, split, instrument, source))
    return examples, problems


def _read_notes(path: Path) -> list[tuple[str, Any]]:
    """Return the (name, note) members of a file, also those that stand there twice."""
    try:
        text = read_utf8(path, "Fetch it with mulap download nsynth.")
        notes = json.loads(text, object_pairs_hook=_shorten)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({one_line(error)}). Fetch it again.") from error
    if not isinstance(notes, list) or not all(isinstance(each, tuple) for each in notes):
        raise ValueError(f"{path}: not NSynth's labels; {{note: {{...}}, ...}} is needed")
    return notes


def _shorten(pairs: list[tuple[str, Any]]) -> _Note | list[tuple[str, Any]]:
    """Cut one JSON object down: a note to three values, any other to its pairs."""
    found = dict(pairs)
    family, family_name = found.get("instrument_family"), found.get("instrument_family_str")
    instrument = found.get("instrument_str")
    if type(family) is int and isinstance(family_name, str) and isinstance(instrument, str):
        return _Note(family, sys.intern(family_name), sys.intern(instrument))
    return pairs
