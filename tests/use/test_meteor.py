"""METEOR: equal words, stems and synonyms match; a small WordNet in Debian's layout."""

import pytest

from mulap.use.meteor import FOLDER, score_meteor

LICENCE = "  1 This software and database is being provided to you.  \n"


@pytest.fixture
def wordnet(tmp_path, monkeypatch):
    """One adjective synset: quick, fast."""
    for name in ("noun", "verb", "adv", "adj"):
        (tmp_path / f"{name}.exc").touch()
        (tmp_path / f"data.{name}").write_text(LICENCE)
        (tmp_path / f"index.{name}").write_text(LICENCE)
    (tmp_path / "cntlist.rev").touch()
    line = "00000059 00 a 02 fast 0 quick 0 000 | moving with speed  \n"
    assert len(LICENCE) == 59
    (tmp_path / "data.adj").write_text(LICENCE + line)
    words = "".join(f"{word} a 1 0 1 0 00000059  \n" for word in ("fast", "quick"))
    (tmp_path / "index.adj").write_text(LICENCE + words)
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))


def test_equal_words_stems_and_synonyms_match_and_the_nearest_reference_counts(wordnet):
    captions = ["A fast song, with guitars.", "a fast song with guitars", "nothing of it"]
    references = [["noise", "a quick song with guitar"], ["a fast song with guitars"], ["a tune"]]
    scores = score_meteor(captions, references)
    whole = 100 * (1 - 0.5 * (1 / 5) ** 3)  # all five words, in one piece
    assert scores == pytest.approx([whole, whole, 0])


def test_without_wordnet_there_is_no_score(tmp_path, monkeypatch):
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path / "none"))
    assert score_meteor(["a"], [["a"]]) is None
    assert FOLDER.startswith("/usr/share/")
