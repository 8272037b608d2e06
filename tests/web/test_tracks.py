"""Audio by id, in parts, and nothing else."""

import pytest


@pytest.fixture
def track(asked) -> str:
    hits = asked.post("/v1/search", json={"query": "x", "where": "title=Song 1"}).json()["hits"]
    return hits[0]["id"]


def test_audio_comes_whole_and_in_parts(asked, track, song):
    whole = asked.get(f"/audio/{track}")
    assert (whole.status_code, whole.content) == (200, song)
    assert whole.headers["content-type"] == "audio/flac"
    assert whole.headers["accept-ranges"] == "bytes"
    part = asked.get(f"/audio/{track}", headers={"range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, song[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(song)}"
    end = asked.get(f"/audio/{track}", headers={"range": "bytes=-50"})
    assert (end.status_code, end.content) == (206, song[-50:])
    head = asked.head(f"/audio/{track}")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(song))


@pytest.mark.parametrize("wanted", ["bytes=99999999-", "bytes=9-1"])
def test_a_part_that_is_not_there_is_refused(asked, track, wanted):
    assert asked.get(f"/audio/{track}", headers={"range": wanted}).status_code in (400, 416)


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "file:%2f%2f%2fetc%2fpasswd",
        "..%5c..%5cetc",
        "x%00.flac",
        "x' OR 1=1 --",
        "%27 OR %271%27=%271",
        "1.flac",
        "u-0000",
    ],
)
def test_nothing_but_ids_finds_audio(asked, songs, name):
    for path in (f"/audio/{name}", f"/audio/{songs}/music/1.flac", f"/{name}", "/lib/library.json"):
        answer = asked.get(path)
        assert answer.status_code == 404, path
        assert "root:" not in answer.text


def test_audio_that_was_sent_cannot_be_read_back(asked, song):
    sent = asked.post("/v1/uploads", content=song).json()
    assert asked.get(f"/audio/{sent['id']}").status_code == 404
