"""What is shown of hits: names that tell them apart."""

from mulap.library.hits import tell_apart


def test_equal_names_get_as_much_of_the_path_as_tells_their_files_apart():
    files = ["/m/a/cd1/song.ogg", "/m/b/cd1/song.ogg", "/m/a/cd1/other.ogg", "/m/a/cd2/song.ogg"]
    assert tell_apart(["Song", "song", "Other", "Song"], files) == [
        "Song (a/cd1/song.ogg)",
        "song (b/cd1/song.ogg)",
        "Other",
        "Song (cd2/song.ogg)",
    ]


def test_paths_that_differ_at_their_ends_need_no_folder_and_one_may_end_another():
    assert tell_apart(["x", "x"], ["/m/1.ogg", "/m/2.ogg"]) == ["x (1.ogg)", "x (2.ogg)"]
    assert tell_apart(["x", "x"], ["/1.ogg", "/m/1.ogg"]) == ["x (/1.ogg)", "x (m/1.ogg)"]
    assert tell_apart(["x", "x"], ["/m/1.ogg", "/m/1.ogg"]) == ["x", "x"]
