"""Audio that is sent: what is taken, cut, refused and removed."""

import http.client
import io
import json
import threading
import time
from dataclasses import replace

import pytest
import soundfile as sf
from tiny import RATE, tone
from web.served import SMALL, client, no_model, serving

from mulap.library.library import Library
from mulap.web.service import make_app


def audio(seed: int, seconds: float) -> bytes:
    file = io.BytesIO()
    sf.write(file, tone(seed, seconds), RATE, format="FLAC")
    return file.getvalue()


def test_a_file_that_was_sent_serves_like_a_track(asked, song):
    sent = asked.post("/v1/uploads", content=song).json()
    assert (sent["seconds"], sent["notes"]) == (33.0, [])
    for path, asking in [
        ("/v1/search", {"query": "piano", "like": [sent["id"]]}),
        ("/v1/similar", {"id": sent["id"], "at": 12}),
        ("/v1/tag", {"id": sent["id"]}),
        ("/v1/explain", {"id": sent["id"], "text": "piano"}),
        ("/v1/caption", {"id": sent["id"]}),
    ]:
        assert asked.post(path, json=asking).status_code == 200, path


def test_what_is_no_audio_is_refused_and_not_kept(songs, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    app = make_app(no_model, Library(songs / "lib", "cpu"), limits=SMALL)
    with client(app) as asked:
        for content in (
            b"no audio at all",
            b"<script>alert(1)</script>",
            b"#EXTM3U\n/etc/passwd\n",
            b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:1/x.ts\n",
            b"ffconcat version 1.0\nfile /etc/passwd\n",
            b"http://example.org/song.mp3",
            b"fLaC" + b"\0" * 500,
        ):
            answer = asked.post("/v1/uploads", content=content)
            assert answer.status_code == 422, content
            assert answer.json()["error"] == "No sound could be read from this file."
            assert "mulap-uploads" not in answer.text
        assert asked.post("/v1/uploads", content=b"").status_code == 400
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert list(tmp_path.iterdir()) == []


def test_the_path_of_another_file_cannot_be_sent(asked, songs):
    path = str(songs / "music" / "1.flac")
    for name in (path, f"file://{path}", "/etc/passwd", "http://127.0.0.1/x"):
        for route, field in (
            ("similar", "id"),
            ("tag", "id"),
            ("caption", "id"),
            ("search", "like"),
        ):
            answer = asked.post(f"/v1/{route}", json={field: name})
            assert answer.status_code == 404, (route, name)
            assert answer.json()["error"] == "No track has this id."


def test_a_file_of_too_many_bytes_is_refused_by_its_length_and_by_its_bytes(asked):
    large = b"\0" * (SMALL.upload_bytes + 1)
    refused = asked.post("/v1/uploads", content=large)
    assert (refused.status_code, refused.json()["error"]) == (413, "Over 3 MB.")

    def pieces():  # without a length
        for _ in range(4):
            yield b"\0" * 1_000_000

    assert asked.post("/v1/uploads", content=pieces()).status_code == 413


def test_a_file_of_too_many_minutes_is_cut_and_that_is_said(asked):
    sent = asked.post("/v1/uploads", content=audio(1, 50.0)).json()
    assert sent["seconds"] == 40.0
    assert sent["notes"] == ["Longer than 0:40: only that much is used."]
    cut = asked.post("/v1/embed/audio?level=segment", content=audio(1, 50.0)).json()
    whole = asked.post("/v1/embed/audio?level=segment", content=audio(1, 40.0)).json()
    assert cut["embeddings"] == whole["embeddings"]
    assert asked.post("/v1/similar", json={"id": sent["id"], "at": 45}).status_code == 400


def test_the_oldest_of_too_many_files_is_removed(asked, song):
    names = [asked.post("/v1/uploads", content=song).json()["id"] for _ in range(3)]
    statuses = [asked.post("/v1/tag", json={"id": name}).status_code for name in names]
    assert statuses == [404, 200, 200]


def test_ids_are_not_to_be_guessed(asked, song):
    first, second = (asked.post("/v1/uploads", content=song).json()["id"] for _ in range(2))
    assert first != second
    assert len(first) == 2 + 32


def test_a_body_that_stops_coming_is_refused(songs):
    with serving(songs) as address:
        host = address.removeprefix("http://").rstrip("/")
        connection = http.client.HTTPConnection(host, timeout=20)
        connection.putrequest("POST", "/v1/uploads")
        connection.putheader("content-length", "1000")
        connection.endheaders(b"some")
        answer = connection.getresponse()
        assert answer.status == 408
        connection.close()


def test_a_body_that_comes_too_slowly_is_refused(songs):
    with serving(songs, limits=replace(SMALL, silence_seconds=5.0, body_seconds=0.5)) as address:
        host = address.removeprefix("http://").rstrip("/")
        connection = http.client.HTTPConnection(host, timeout=20)
        connection.putrequest("POST", "/v1/uploads")
        connection.putheader("content-length", "1000")
        connection.endheaders(b"some")
        refused = threading.Event()

        def trickle():
            while not refused.wait(0.1):
                connection.send(b".")

        sending = threading.Thread(target=trickle)
        sending.start()
        try:
            answer = connection.getresponse()
        finally:
            refused.set()
            sending.join()
        assert answer.status == 408
        connection.close()


def test_no_more_files_come_in_at_a_time_than_are_kept(songs, song):
    with serving(songs, limits=replace(SMALL, num_uploads=1, silence_seconds=20.0)) as address:
        host = address.removeprefix("http://").rstrip("/")
        slow, other = (http.client.HTTPConnection(host, timeout=20) for _ in range(2))
        slow.putrequest("POST", "/v1/uploads")
        slow.putheader("content-length", str(len(song)))
        slow.endheaders(song[:1])
        for _ in range(200):  # until the first byte has arrived
            other.request("POST", "/v1/uploads", b"x")
            answer = other.getresponse()
            said = json.loads(answer.read())
            if answer.status == 503:
                break
            time.sleep(0.02)
        assert said["error"] == "Too many files are being sent."
        slow.send(song[1:])
        assert slow.getresponse().status == 200
        other.request("POST", "/v1/uploads", song)
        assert other.getresponse().status == 200


def test_a_form_is_refused_with_how_a_file_is_sent(asked, song):
    answer = asked.post("/v1/uploads", files={"file": ("a.flac", song)})
    assert (answer.status_code, answer.json()) == (
        415,
        {
            "error": "The body is a form.",
            "remedy": "Send the bytes of the file alone: curl --data-binary @song.flac.",
        },
    )


@pytest.mark.parametrize("name", ["u-", "u-0", "u-" + "0" * 32])
def test_an_id_that_nothing_has_says_so(asked, name):
    answer = asked.post("/v1/tag", json={"id": name})
    assert (answer.status_code, answer.json()["remedy"]) == (404, "Send it again.")
