"""Every route, right and wrong requests, and a model that is slow."""

import json
import os
import queue
import random
import threading
from dataclasses import replace

import numpy as np
import pytest
from library.asked import make_library, write_song
from safetensors.numpy import load_file, save_file
from web.served import SMALL, client, no_model, send_raw, serving

from mulap.encoders.engine import load_engine
from mulap.library.index import index_music
from mulap.library.library import Library
from mulap.library.store import Store
from mulap.web.service import make_app

TOKEN = "a-secret-of-some-length"


def ids_of(asked) -> dict[str, str]:
    asking = {"query": "music", "per_artist": 0, "versions": True}
    hits = asked.post("/v1/search", json=asking).json()["hits"]
    return {hit["title"]: hit["id"] for hit in hits}


def test_the_space_says_what_points_are_made_by_and_what_may_be_asked(asked, songs):
    space = asked.get("/v1/space").json()
    assert space["space"] == Library(songs / "lib", "cpu").store.space.name
    assert space["size"] == 16
    assert space["limits"]["upload_bytes"] == SMALL.upload_bytes


def test_the_library_is_described_before_the_model_is_loaded(asked):
    about = asked.get("/v1/library").json()
    assert about["tracks"] == 6
    assert about["artists"] == ["Artist 0", "Artist 1"]
    assert about["problem"] is None


def test_texts_are_embedded_as_the_engine_embeds_them(asked, songs):
    answer = asked.post("/v1/embed/text", json={"texts": ["calm piano", "drums"]}).json()
    wanted = load_engine(songs / "model", "cpu").embed_text(["calm piano", "drums"])
    np.testing.assert_allclose(answer["embeddings"], wanted, atol=1e-6)
    one = asked.post("/v1/embed/text", json={"texts": "drums"}).json()
    np.testing.assert_allclose(one["embeddings"], wanted[1:], atol=1e-6)


def test_audio_is_embedded_as_the_library_embeds_it(asked, songs, song):
    answer = asked.post("/v1/embed/audio", content=song).json()
    row = Store.open(songs / "lib").track(ids_of(asked)["Song 1"])
    np.testing.assert_allclose(answer["embeddings"], [row["point"]], atol=2e-3)  # half precision
    assert answer["seconds"] == 33.0
    by_segment = asked.post("/v1/embed/audio?level=segment", content=song).json()
    assert by_segment["starts"] == [3.0 * k for k in range(11)]
    assert np.shape(by_segment["embeddings"]) == (11, 16)
    assert asked.post("/v1/embed/audio?level=album", content=song).status_code == 400


def test_a_search_returns_what_the_library_returns(asked, songs):
    wanted = Library(songs / "lib", "cpu").search("calm piano, no drums", 3)
    answer = asked.post("/v1/search", json={"query": "calm piano, no drums", "top": 3}).json()
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in wanted]
    assert answer["hits"][0]["start"] == wanted[0].start
    assert "Read as: calm piano; not: drums" in answer["notes"]
    assert answer["tracks"] == 6


def test_a_search_obeys_filters_examples_and_what_is_not_wanted(asked):
    ids = ids_of(asked)
    assert len(ids) == 6
    first, second = ids["Song 0"], ids["Song 1"]
    filtered = asked.post("/v1/search", json={"query": "x", "where": ["artist=Artist 1"]}).json()
    assert {hit["artist"] for hit in filtered["hits"]} == {"Artist 1"}
    none = asked.post("/v1/search", json={"query": "x", "where": "year>1990"}).json()
    assert none["hits"] == []
    like = {"query": "x", "like": [first, {"id": second, "at": 12}], "exclude": [ids["Song 2"]]}
    found = {hit["id"] for hit in asked.post("/v1/search", json=like).json()["hits"]}
    assert found
    assert found.isdisjoint({first, second, ids["Song 2"]})
    unlike = asked.post("/v1/search", json={"query": "x", "unlike": [first], "not": "drums"})
    assert first not in {hit["id"] for hit in unlike.json()["hits"]}


def test_similar_takes_an_id_or_the_audio_itself(asked, song):
    ids = ids_of(asked)
    by_id = asked.post("/v1/similar", json={"id": ids["Song 1"], "top": 2}).json()["hits"]
    by_audio = asked.post("/v1/similar?top=2", content=song).json()["hits"]
    assert [hit["id"] for hit in by_id] == [hit["id"] for hit in by_audio]
    assert ids["Song 1"] not in {hit["id"] for hit in by_id}
    at = asked.post("/v1/similar", json={"id": ids["Song 1"], "at": 500})
    assert at.status_code == 400
    assert "no second 500" in at.json()["error"]


def test_tags_of_a_track_are_those_of_its_file(asked, songs, song):
    ids = ids_of(asked)
    tags = {"tags": ["jazz", "drums"]}
    by_id = asked.post("/v1/tag", json={"id": ids["Song 1"], **tags}).json()["tags"]
    by_audio = asked.post("/v1/tag?tags=jazz,drums", content=song).json()["tags"]
    whole = load_engine(songs / "model", "cpu").encoder.tag(
        songs / "music" / "1.flac", tags=["jazz", "drums"]
    )
    wanted = whole.top()
    for answer in (by_id, by_audio):
        assert {tag["tag"] for tag in answer} == set(wanted)
        for tag in answer:
            assert tag["percentile"] == pytest.approx(wanted[tag["tag"]], abs=0.5)
    assert len(asked.post("/v1/tag", json={"id": ids["Song 1"]}).json()["tags"]) == 10
    assert len(asked.post("/v1/tag?top=3", content=song).json()["tags"]) == 3


def test_an_explanation_leaves_negations_out_and_names_the_part_that_adds_most(asked):
    asking = {"id": ids_of(asked)["Song 1"], "text": "calm piano, no drums"}
    answer = asked.post("/v1/explain", json=asking).json()
    assert answer["text"] == "calm piano"
    assert len(answer["segments"]) == 11
    best = max(answer["segments"], key=lambda part: part["effect"])
    assert answer["most"]["start"] == best["start"]
    assert "file" not in answer
    only = asked.post("/v1/explain", json=asking | {"text": "no drums"})
    assert only.status_code == 400


def test_a_caption_is_a_sentence_with_a_word_for_how_well_it_fits(asked, song):
    by_id = asked.post("/v1/caption", json={"id": ids_of(asked)["Song 1"]}).json()
    by_audio = asked.post("/v1/caption", content=song).json()
    assert by_id["caption"] == by_audio["caption"] != ""
    assert by_id["match"] in ("strong", "fair", "weak")


def test_a_playlist_holds_what_is_shown_in_that_order(asked, songs):
    ids = ids_of(asked)
    answer = asked.post("/v1/playlist.m3u8", json={"ids": [ids["Song 2"], ids["Song 0"]]})
    music = songs / "music"
    assert answer.content.decode() == (
        "#EXTM3U\n"
        f"#EXTINF:33,Artist 0 – Song 2\n{music / '2.flac'}\n"
        f"#EXTINF:33,Artist 0 – Song 0\n{music / '0.flac'}\n"
    )


def test_a_file_that_is_gone_is_said_and_its_track_still_answers(tmp_path):
    make_library(tmp_path, 3)
    app = make_app(no_model, Library(tmp_path / "lib", "cpu"), limits=SMALL)
    with client(app) as asked:
        track = ids_of(asked)["Song 1"]
        (tmp_path / "music" / "1.flac").unlink()
        hits = asked.post("/v1/search", json={"query": "music"}).json()["hits"]
        assert {hit["id"]: hit["is_missing"] for hit in hits}[track] is True
        gone = asked.get(f"/audio/{track}")
        assert (gone.status_code, gone.json()["remedy"]) == (410, "Run mulap index to tidy up.")
        assert asked.post("/v1/caption", json={"id": track}).status_code == 410
        assert asked.post("/v1/tag", json={"id": track}).status_code == 200
        assert asked.post("/v1/similar", json={"id": track}).status_code == 200


def test_a_file_whose_name_is_not_utf_8_is_found_played_and_in_playlists(tmp_path):
    make_library(tmp_path, 1)
    odd = os.fsencode(tmp_path / "music") + b"/caf\xe9.flac"
    os.rename(tmp_path / "music" / "0.flac", odd)
    index_music([], tmp_path / "lib", lambda name: load_engine(name, "cpu"))
    with client(make_app(no_model, Library(tmp_path / "lib", "cpu"), limits=SMALL)) as asked:
        (hit,) = asked.post("/v1/search", json={"query": "music"}).json()["hits"]
        assert hit["is_missing"] is False
        with open(odd, "rb") as file:
            assert asked.get(f"/audio/{hit['id']}").content == file.read()
        assert asked.post("/v1/caption", json={"id": hit["id"]}).status_code == 200
        lines = asked.post("/v1/playlist.m3u8", json={"ids": [hit["id"]]}).content.splitlines()
        assert lines[-1] == odd


def test_a_title_with_markup_comes_back_as_it_is(tmp_path):
    make_library(tmp_path, 1)
    write_song(tmp_path / "music" / "9.flac", 9, title="<script>alert(1)</script>", artist='"&')
    index_music([], tmp_path / "lib", lambda name: load_engine(name, "cpu"))
    app = make_app(no_model, Library(tmp_path / "lib", "cpu"), limits=SMALL)
    with client(app) as asked:
        answer = asked.post("/v1/search", json={"query": "music"})
        assert answer.headers["content-type"] == "application/json"
        assert "<script>alert(1)</script>" in {hit["title"] for hit in answer.json()["hits"]}


def test_a_service_without_a_library_embeds_and_tags(songs, song):
    app = make_app(lambda: load_engine(songs / "model", "cpu"), limits=SMALL)
    with client(app) as asked:
        assert asked.get("/v1/space").json()["has_library"] is False
        assert asked.post("/v1/embed/text", json={"texts": "drums"}).status_code == 200
        assert asked.post("/v1/tag?tags=jazz", content=song).json()["tags"][0]["tag"] == "jazz"
        refused = asked.post("/v1/search", json={"query": "x"})
        assert refused.status_code == 404
        assert refused.json() == {
            "error": "This server has no library.",
            "remedy": "Start it with --library DIR.",
        }
        assert asked.get("/v1/library").status_code == 404
        assert asked.get("/audio/x").status_code == 404
        assert asked.get("/").status_code == 404  # the page is another command


def test_a_library_of_another_model_says_which_command_helps(tmp_path):
    make_library(tmp_path, 1)
    library = Library(tmp_path / "lib", "cpu")
    weights = tmp_path / "model" / "model.safetensors"
    tensors = load_file(weights)
    turned = {name: -tensor if tensor.ndim == 2 else tensor for name, tensor in tensors.items()}
    save_file(turned, weights, {"format": "pt"})
    with client(make_app(no_model, library, limits=SMALL)) as asked:
        answer = asked.post("/v1/search", json={"query": "x"})
        assert answer.status_code == 409
        assert answer.json()["remedy"] == "Run mulap index --upgrade."
        problem = asked.get("/v1/library").json()["problem"]
        assert problem == answer.json()
        assert asked.get("/healthz").status_code == 503


def test_an_empty_library_says_how_to_fill_it(tmp_path):
    make_library(tmp_path, 1)
    store = Store.write(tmp_path / "lib", Store.open(tmp_path / "lib").space)
    store.delete(store.tracks(columns=["key"]).column("key").to_pylist())
    with client(make_app(no_model, Library(tmp_path / "lib", "cpu"), limits=SMALL)) as asked:
        assert asked.get("/v1/library").json()["tracks"] == 0
        answer = asked.post("/v1/search", json={"query": "x"})
        assert answer.status_code == 409
        assert answer.json()["remedy"].startswith("Run mulap index MUSIC")


def test_a_server_answers_while_the_model_is_loaded(songs):
    begun, go_on = threading.Event(), threading.Event()

    def load():
        begun.set()
        assert go_on.wait(20)
        return load_engine(songs / "model", "cpu")

    with client(make_app(load, limits=SMALL)) as asked:
        assert begun.wait(20)
        assert asked.get("/healthz").json() == {"status": "loading"}
        go_on.set()
        assert asked.post("/v1/embed/text", json={"texts": "x"}).status_code == 200
        assert asked.get("/healthz").json() == {"status": "ok"}


def test_more_waiting_requests_than_allowed_are_refused_with_a_time_to_come_back(songs):
    go_on, statuses = threading.Event(), queue.SimpleQueue()

    def load():
        assert go_on.wait(20)
        return load_engine(songs / "model", "cpu")

    with client(make_app(load, limits=replace(SMALL, num_waiting=1))) as asked:

        def ask():
            answer = asked.get("/v1/space")
            statuses.put((answer.status_code, answer.headers.get("retry-after")))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        assert statuses.get(timeout=20) == (503, "1")
        go_on.set()
        assert statuses.get(timeout=20) == (200, None)
        for thread in threads:
            thread.join()


def test_a_token_is_asked_for_everywhere_but_on_the_page_itself(songs):
    library = Library(songs / "lib", "cpu")
    app = make_app(no_model, library, has_page=True, token=TOKEN, limits=SMALL)
    with client(app) as asked:
        assert asked.get("/healthz").status_code == 200
        assert asked.get("/").status_code == 200
        for path in ("/v1/space", "/v1/library", "/audio/x"):
            assert asked.get(path).status_code == 401
        for path in ("/v1/search", "/v1/embed/text", "/v1/uploads", "/v1/playlist.m3u8"):
            assert asked.post(path, json={"query": "x"}).status_code == 401
        for wrong in ("Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN):
            assert asked.get("/v1/space", headers={"authorization": wrong}).status_code == 401
        right = {"authorization": f"Bearer {TOKEN}"}
        assert asked.get("/v1/space", headers=right).status_code == 200
        assert asked.post("/v1/session", json={"token": "wrong"}).status_code == 401
        opened = asked.post("/v1/session", json={"token": TOKEN})
        assert {"HttpOnly", "SameSite=strict"} <= set(opened.headers["set-cookie"].split("; "))
        assert TOKEN not in opened.headers["set-cookie"]
        assert asked.get("/v1/space").status_code == 200  # by the cookie


BODIES = [b"", b"{", b"[]", b"nul", b'{"query":', b"\xff\xfe{}", b'{"query": NaN}', b"[" * 5_000]
VALUES = [None, 0, -1, 1e400, True, "", " ", "x" * 300, "\ud800", "a\0b", [], [[]], {}, ["x"] * 99]
VALUES += ["../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "u-0", {"id": {}}, "' OR 1=1"]
FIELDS = ["query", "like", "unlike", "not", "where", "top", "id", "at", "texts", "tags", "ids"]
FIELDS += ["per_artist", "vary", "exclude", "text", "token", "any_length", "nonsense"]
POSTS = "search similar tag explain caption embed/text embed/audio uploads playlist.m3u8 session"


def bad_request(rng: random.Random) -> dict:
    """A request that is wrong, or nearly always."""
    path = "/v1/" + rng.choice(POSTS.split())
    method = rng.choice(["POST"] * 8 + ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"])
    kind = rng.choice(["application/json"] * 4 + ["audio/flac", "text/plain", "", "multipart/x"])
    if rng.random() < 0.3:
        content = rng.choice([*BODIES, rng.randbytes(rng.randrange(2_000))])
    else:
        fields = {rng.choice(FIELDS): rng.choice(VALUES) for _ in range(rng.randrange(1, 5))}
        content = json.dumps(fields).encode()
    headers = {"content-type": kind}
    if rng.random() < 0.1:
        headers["origin"] = rng.choice(["null", "http://evil.test", "http://127.0.0.1.evil.test"])
    if rng.random() < 0.1:
        headers["host"] = rng.choice(["evil.test", "", "127.0.0.1.evil.test", "[::1", "a b"])
    if rng.random() < 0.1:
        name = rng.choice(["../x", "%2e%2e%2fetc%2fpasswd", "..%00", "x" * 900, "%ff%fe", "'--"])
        path, method = f"/audio/{name}", "GET"
        headers["range"] = rng.choice(["bytes=0-", "bytes=9-1", "bytes=-", "x", "bytes=1e9-"])
    return {"method": method, "url": path, "headers": headers, "content": content}


def test_a_thousand_bad_requests_are_each_refused_in_json_and_survived(asked):
    rng = random.Random(17)
    statuses = []
    for number in range(1_000):
        request = bad_request(rng)
        answer = asked.request(**request)
        assert answer.status_code < 500, (number, request, answer.text)
        if answer.status_code >= 400 and request["method"] != "HEAD":
            said = answer.json()
            assert said["error"], (number, request)
            assert "remedy" in said, (number, request)
            assert "/tmp" not in answer.text, (number, request)
        statuses.append(answer.status_code)
    assert sum(status >= 400 for status in statuses) > 900
    assert asked.post("/v1/search", json={"query": "calm piano"}).status_code == 200


def test_bytes_that_are_no_http_are_survived(songs):
    rng = random.Random(5)
    with serving(songs) as address:
        for number in range(100):
            lines = [
                rng.randbytes(300),
                b"GET / HTTP/9.9\r\n\r\n",
                b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n\r\n",
                b"POST /v1/uploads HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 999\r\n\r\nabc",
                b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
                b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            ]
            send_raw(address, lines[number % len(lines)])
        host = address.removeprefix("http://").rstrip("/").encode()
        fine = b"GET /healthz HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"
        assert send_raw(address, fine).startswith(b"HTTP/1.1 200")


def test_texts_are_answered_while_the_model_listens_to_a_file(songs, song):
    engine = load_engine(songs / "model", "cpu")
    begun, go_on, embed = threading.Event(), threading.Event(), engine.backbone.embed

    def listen(*args):
        begun.set()
        assert go_on.wait(20)
        return embed(*args)

    engine.backbone.embed = listen
    with client(make_app(lambda: engine, limits=SMALL)) as asked:
        statuses = queue.SimpleQueue()
        thread = threading.Thread(
            target=lambda: statuses.put(asked.post("/v1/embed/audio", content=song).status_code)
        )
        thread.start()
        assert begun.wait(20)
        assert asked.post("/v1/embed/text", json={"texts": "x"}).status_code == 200
        assert statuses.empty()
        go_on.set()
        assert statuses.get(timeout=20) == 200
        thread.join()
