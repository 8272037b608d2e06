"""What is kept is computed once, and again if the file is damaged."""

import numpy as np

from mulap.encoders.kept import kept
from mulap.files import user_cache
from mulap.terminal import shown


def test_arrays_are_computed_once_and_again_if_they_cannot_be_read(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = []

    def compute():
        calls.append(1)
        return {"points": np.arange(3.0)}

    for _ in range(2):
        np.testing.assert_array_equal(kept("test", "abc", compute)["points"], [0, 1, 2])
    assert len(calls) == 1
    kept("test", "other", compute)
    assert len(calls) == 2
    (user_cache() / "test" / "abc.safetensors").write_bytes(b"damaged")
    with shown():
        np.testing.assert_array_equal(kept("test", "abc", compute)["points"], [0, 1, 2])
    assert len(calls) == 3
    assert "cannot be read" in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch, tmp_path, capsys):
    (tmp_path / "mulap").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with shown():
        assert kept("test", "abc", lambda: {"points": np.ones(1)})["points"] == 1
    assert "Its numbers are computed each time" in capsys.readouterr().err
