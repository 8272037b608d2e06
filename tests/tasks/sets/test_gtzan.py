"""python -m pytest tests/tasks/test_gtzan.py"""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from task_samples import SPLITS, shared_splits, tar_gz, write_gtzan

from mulap.tasks.registry import find_task
from mulap.tasks.sets import gtzan

TASK = find_task("gtzan")


def test_the_real_lists_give_the_published_sizes_and_rows():
    folder = shared_splits("gtzan")
    data = TASK.load(folder)
    assert tuple(data.counts().values()) == TASK.splits["filtered"] == (443, 197, 290)
    lines = [
        line for split in SPLITS for line in (folder / f"{split}_filtered.txt").read_text().split()
    ]
    assert [f"audio/genres/{line}" for line in lines] == [e.file_name for e in data.examples]
    assert [line.partition("/")[0] for line in lines] == [
        TASK.labels[target] for target in data.targets
    ]
    assert len({example.track_id for example in data.examples}) == 930
    assert set(data.targets[data.folds[0].test]) == set(range(10))


def test_the_broken_excerpt_of_the_caveat_is_in_train():
    data = TASK.load(str(shared_splits("gtzan")))
    (index,) = np.flatnonzero([e.track_id == "jazz.00054" for e in data.examples])
    assert data.examples[index].split == "train"
    assert "jazz.00054.wav, in train," in TASK.caveat


def test_what_is_fetched_has_the_checksum_of_the_real_lists():
    for remote in TASK.remotes[""]:
        if remote.path.endswith(".txt"):
            data = (shared_splits("gtzan") / remote.path).read_bytes()
            assert remote.checksum == f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.mark.parametrize("layout", gtzan.LAYOUTS)
def test_audio_is_found_in_every_known_layout(tmp_path, layout):
    data = TASK.load(write_gtzan(tmp_path, seconds=0.1, layout=layout))
    assert all(data.audio_path(index).is_file() for index in range(len(data)))
    assert data.counts() == dict.fromkeys(SPLITS, 10)


def test_an_archive_of_the_samples_has_the_official_form(tmp_path):
    write_gtzan(tmp_path, seconds=0.1)
    assert tar_gz(tmp_path / "audio" / "genres", tmp_path / "genres.tar.gz").stat().st_size > 1_000


def test_lists_may_have_windows_line_ends_and_the_older_file_ending(tmp_path):
    folder = write_gtzan(tmp_path)
    path = folder / "test_filtered.txt"
    path.write_bytes(b"\r\n".join(path.read_bytes().replace(b".wav", b".au").split()))
    assert TASK.load(folder).examples[-1].track_id == "rock.00002"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"polka/polka.00001.wav", r"'polka/polka\.00001\.wav' is not like 'blues/blues"),
        (b"blues.00001.wav", "is not like"),
        (b"blues/jazz.00001.wav", "is not like"),
        (b"../../etc/passwd", "is not like"),
        (b"blues/blues./../../../x.wav", "is not like"),
        (b"caf\xe9", "is not UTF-8"),
        (b"rock/rock.00002.wav", r"the track 'rock\.00002' twice"),
    ],
)
def test_a_list_of_another_form_gives_one_line(tmp_path, line, complaint):
    folder = write_gtzan(tmp_path)
    path = folder / "test_filtered.txt"
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(ValueError, match=complaint) as failure:
        TASK.load(folder)
    assert "\n" not in str(failure.value)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.text(max_size=40))
def test_any_line_is_an_excerpt_of_a_genre_or_refused(tmp_path_factory, line):
    folder = write_gtzan(tmp_path_factory.mktemp("gtzan"))
    with open(folder / "train_filtered.txt", "a", encoding="utf-8") as file:
        file.write(line)
    try:
        examples, complaint = TASK.load(folder).examples, ""
    except ValueError as error:
        examples, complaint = [], str(error)
    assert {example.target for example in examples} == (set() if complaint else set(gtzan.LABELS))
    assert "\n" not in complaint


def test_a_missing_or_empty_list_gives_one_line(tmp_path):
    folder = write_gtzan(tmp_path)
    path = folder / "valid_filtered.txt"
    path.write_text("")
    with pytest.raises(ValueError, match=r"valid_filtered\.txt: empty"):
        TASK.load(folder)
    path.unlink()
    with pytest.raises(ValueError, match=r"valid_filtered\.txt: cannot be read: No such file"):
        TASK.load(folder)
