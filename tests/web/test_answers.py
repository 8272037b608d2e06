"""What the service keeps between requests."""

from pathlib import Path

from library.asked import write_song

from mulap.encoders.engine import load_engine
from mulap.library.library import Library
from mulap.web.answers import Answers
from mulap.web.limits import Fields, Limits
from mulap.web.uploads import Uploads


def test_a_track_is_listened_to_once_and_few_are_remembered(songs, monkeypatch):
    monkeypatch.setattr("mulap.web.answers._MOST_FEATURES", 2)
    limits, library = Limits(), Library(songs / "lib", "cpu")
    uploads = Uploads(limits)
    engine = load_engine(songs / "model", "cpu")
    library.engine = engine
    answers = Answers(lambda: engine, library, uploads, limits)
    answers.warm_up()
    listened, embed = [], engine.backbone.embed

    def listen(file):
        listened.append(file)
        return embed(file)

    engine.backbone.embed = listen
    table = library.store.tracks(columns=["key"])
    keys = sorted(table.column("key").to_pylist())

    def explain(key):
        answers.explain(Fields({"id": key, "text": "piano"}, limits))

    explain(keys[0])
    answers.caption(Fields({"id": keys[0]}, limits))
    assert len(listened) == 1
    explain(keys[1])
    explain(keys[2])
    explain(keys[0])  # was forgotten
    assert len(listened) == 4
    uploads.close()


def test_a_file_that_was_sent_is_listened_to_once_however_often_it_is_searched_by(songs):
    limits, library = Limits(), Library(songs / "lib", "cpu")
    uploads = Uploads(limits)
    engine = library.engine
    answers = Answers(lambda: engine, library, uploads, limits)
    answers.warm_up()
    path = write_song(Path(uploads.folder) / "sent.flac", 40)  # not in the library
    listened, embed = [], engine.backbone.embed

    def listen(*args):
        listened.append(args)
        return embed(*args)

    engine.backbone.embed = listen
    heard = uploads.hear(path, engine, is_kept=True)
    first = answers.search(Fields({"like": [heard.id]}, limits))
    second = answers.search(Fields({"like": [{"id": heard.id, "at": 0}]}, limits))
    assert len(listened) == 1
    assert first["hits"]
    assert second["hits"]
    wanted = Library(songs / "lib", "cpu").similar(path)
    assert [hit["id"] for hit in first["hits"]] == [hit.id for hit in wanted]
    uploads.close()


def test_artists_and_genres_are_read_again_when_tracks_are_added(songs, monkeypatch):
    limits, library = Limits(), Library(songs / "lib", "cpu")
    uploads = Uploads(limits)
    answers = Answers(lambda: library.engine, library, uploads, limits)
    asked, tracks = [], library.store.tracks

    def ask(*args, **options):
        asked.append(options)
        return tracks(*args, **options)

    monkeypatch.setattr(library.store, "tracks", ask)
    assert answers.about_library()["artists"] == ["Artist 0", "Artist 1"]
    answers.about_library()
    assert len(asked) == 1
    monkeypatch.setattr(Library, "__len__", lambda _: 7)
    answers.about_library()
    assert len(asked) == 2
    uploads.close()
