"""Lines that are appended, whole or not at all."""

import errno
import resource

import pytest

from mulap.vectors.journal import Journal, read_journal


def test_what_is_appended_is_read_back_by_any_number_of_writers(tmp_path):
    first, second = Journal(tmp_path / "names"), Journal(tmp_path / "names")
    for number, journal in enumerate((first, second, first)):
        journal.append({"number": number, "file": "a\nb\u2028.wav"})
    first.close()
    second.close()
    assert [line["number"] for line in read_journal(tmp_path / "names")] == [0, 1, 2]
    assert list(read_journal(tmp_path / "nothing")) == []


def test_a_damaged_line_costs_itself_alone(tmp_path):
    journal = Journal(tmp_path / "names")
    for number in range(3):
        journal.append({"number": number})
    journal.close()
    data = bytearray((tmp_path / "names").read_bytes())
    data[data.index(b"1}")] ^= 1
    (tmp_path / "names").write_bytes(data)
    assert [line["number"] for line in read_journal(tmp_path / "names")] == [0, 2]


def test_an_error_of_the_disk_names_the_file(tmp_path):
    journal = Journal(tmp_path / "names")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            journal.append({"file": "a name that is longer than what the disk takes"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert raised.value.errno == errno.EFBIG
    assert raised.value.filename == str(tmp_path / "names")
