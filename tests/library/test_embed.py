"""Commits: by number, by time, and merged now and then."""

import pytest
from library.listening import contents, index, write_sound

from mulap.library import embed as embed_module
from mulap.library.store import Store


@pytest.fixture
def music(tmp_path):
    for seed in range(6):
        write_sound(tmp_path / "music" / f"{seed}.flac", seed)
    return tmp_path / "music"


@pytest.fixture
def library(tmp_path):
    return tmp_path / "library"


def test_rows_are_committed_by_number_and_by_time(music, library, monkeypatch):
    sizes = []
    add = Store.add
    monkeypatch.setattr(Store, "add", lambda *given: sizes.append(len(given[1])) or add(*given))
    monkeypatch.setattr(embed_module, "_WINDOWS_OF_COMMIT", 4)
    index(music, library)
    monkeypatch.setattr(embed_module, "_WINDOWS_OF_COMMIT", 1_000)
    monkeypatch.setattr(embed_module, "_SECONDS_OF_COMMIT", 0.0)
    index(music, library.with_name("other"))
    assert sizes == [4, 2, 1, 1, 1, 1, 1, 1]
    assert contents(library) == contents(library.with_name("other"))


def test_the_small_files_of_many_commits_are_merged_meanwhile(music, library, monkeypatch):
    """Each commit writes a list of all: those of a week would take gigabytes."""
    lengths = []
    optimize = Store.optimize
    monkeypatch.setattr(Store, "optimize", lambda self: lengths.append(len(self)) or optimize(self))
    monkeypatch.setattr(embed_module, "_WINDOWS_OF_COMMIT", 1)
    monkeypatch.setattr(embed_module, "_COMMITS_OF_COMPACTION", 2)
    index(music, library)
    assert lengths == [2, 4, 6, 6]


def test_control_c_commits_what_is_done(music, library, monkeypatch):
    track = write_sound(music / "z.flac", 20)
    listener_notes = []

    def interrupt(self, file, embedded):
        listener_notes.append(file)
        if file == str(track):
            raise KeyboardInterrupt

    monkeypatch.setattr("mulap.library.index._Run._note", interrupt)
    with pytest.raises(KeyboardInterrupt):
        index(music, library)
    assert len(Store.open(library)) == 7
    monkeypatch.undo()
    assert index(music, library).num_embedded == 0
