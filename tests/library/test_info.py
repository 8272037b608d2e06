"""What a library says of itself, also while it is upgraded."""

from dataclasses import replace

from library.listening import index, write_sound

from mulap.library.about import Space, read_about
from mulap.library.info import library_info
from mulap.library.store import Store


def test_tracks_files_and_copies_are_counted(tmp_path):
    write_sound(tmp_path / "music" / "a.flac", 1, seconds=12)
    write_sound(tmp_path / "music" / "copy.flac", 1, seconds=12)
    write_sound(tmp_path / "music" / "b.flac", 2)
    index(tmp_path / "music", tmp_path / "lib")
    about = library_info(tmp_path / "lib")
    assert (about["tracks"], about["files"], about["windows"]) == (2, 3, 3)
    assert about["bytes"] == sum(
        path.stat().st_size for path in (tmp_path / "lib").rglob("*") if path.is_file()
    )


def test_an_upgrade_that_was_stopped_tells_how_far_it_came(tmp_path):
    library = tmp_path / "lib"
    write_sound(tmp_path / "music" / "a.flac", 1)
    index(tmp_path / "music", library)
    filling = Space("tiny-3@00000003", "tiny-3", 8)
    replace(read_about(library), filling=filling).write(library)
    about = library_info(library)
    assert (about["filling"], about["filled"]) == ("tiny-3@00000003", 0)
    Store.write(library, filling)
    assert library_info(library)["filled"] == 0
    assert library_info(library)["tracks"] == 1
