"""The journal of a library's files."""

from mulap.library.known import Known, LibraryFiles

SETTLED = "12-1600000000000000000"


def test_the_last_line_of_a_file_counts_and_a_removed_one_is_forgotten(tmp_path):
    files = LibraryFiles(tmp_path / "journal")
    files.set("/b", Known(SETTLED, "key"))
    files.set("/a", Known(SETTLED, "", "is broken."))
    files.set("/a", Known(SETTLED, "key"))
    files.set("/c", Known(SETTLED, "", "is broken."))
    files.set("/d", Known(SETTLED, "other"))
    files.remove("/d")
    files.close()
    again = LibraryFiles(tmp_path / "journal")
    assert list(again) == ["/a", "/b", "/c"]
    assert again.by_key() == {"key": ["/a", "/b"]}
    assert again.failures() == [("/c", "is broken.")]


def test_a_line_that_a_kill_cut_short_costs_itself_alone(tmp_path):
    path = tmp_path / "journal"
    for name in ("/a", "/b", "/c"):
        files = LibraryFiles(path)
        files.set(name, Known(SETTLED, "key"))
        files.close()
        if name == "/b":
            path.write_bytes(path.read_bytes()[:-5])
    assert list(LibraryFiles(path)) == ["/a", "/c"]


def test_outdated_lines_are_dropped_once_they_are_most(tmp_path):
    path = tmp_path / "journal"
    files = LibraryFiles(path)
    for number in range(1_500):
        files.set("/a", Known(SETTLED, str(number)))
    files.close()
    assert path.read_bytes().count(b"\n") == 1
    assert LibraryFiles(path).get("/a") == Known(SETTLED, "1499")
