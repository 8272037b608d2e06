"""Without PyTorch: the commands work, files stream, threads share them, damage is said."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from tiny import RATE, tone, write_joint_model

import mulap
from mulap.embedding.embed import embed_files
from mulap.encoders.backend import choose_backend
from mulap.encoders.engine import load_engine
from mulap.graphs.write import write_export

WITHOUT_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "huggingface_hub", "onnx"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
from mulap.cli import main
main()
"""


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    path = tmp_path_factory.mktemp("music") / "song.wav"
    sf.write(path, tone(1, 8.0), RATE)
    return path


@pytest.fixture
def run(tmp_path):
    def call(*words):
        return subprocess.run(
            [sys.executable, "-c", WITHOUT_TORCH, *map(str, words)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )

    return call


def test_commands_that_use_a_model_need_no_torch(song, run, tmp_path):
    for words, expected in [
        (["tag", song, "--model", "musicnn-mtt", "--top", 3], "song.wav"),
        (["tag", song, "--tags", "jazz,calm piano", "--rerank"], "calm piano"),
        (["embed", song, "-o", "out.npz", "--quiet"], ""),
        (["embed", song, "--model", "musicnn-msd", "-o", "msd.npz", "--quiet"], ""),
        (["caption", song], "song.wav"),
        (["explain", song, "calm piano", "--by", "match"], "piano"),
        (["index", song.parent, "--library", "lib.mulap"], ""),
        (["search", "calm piano", "--library", "lib.mulap"], "song"),
        (["moods", "--library", "lib.mulap"], "song"),
        (["info", "lib.mulap"], "mulap-small"),
    ]:
        done = run(*words)
        assert done.returncode == 0, (words, done.stderr[-2_000:])
        assert expected in done.stdout, (words, done.stdout, done.stderr)
    found = np.load(tmp_path / "out.npz")["embeddings"]
    expected = mulap.load("mulap-small", backend="torch").embed(song).embeddings
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize(
    "words",
    [
        ["pretrain", "small", "--data", ".", "--output", "run"],
        ["probe", "--data", "song.wav", "--label", "a", "--backbone", "random"],
        ["tag", "song.wav", "--model", "random"],
        ["tag", "song.wav", "--device", "cuda"],
        ["export", "mulap-small", "out"],
    ],
    ids=lambda words: words[0],
)
def test_what_needs_torch_says_so_in_a_line(words, song, run, tmp_path):
    shutil.copy(song, tmp_path / "song.wav")
    done = run(*words)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "pip install 'mulap[torch]'" in done.stderr


def test_files_share_cores_and_keep_their_bits(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr("mulap.cores.usable_cores", lambda: 3)
    encoder = mulap.load("musicnn-mtt", backend="onnx")
    for seed in range(4):
        sf.write(tmp_path / f"{seed}.wav", tone(seed, 4.0 * (seed + 1)), RATE)
    embed_files(tmp_path, encoder, tmp_path / "out.npz")
    found = np.load(tmp_path / "out.npz")
    for seed in range(4):
        rows = found["embeddings"][[name.endswith(f"{seed}.wav") for name in found["file"]]]
        np.testing.assert_array_equal(rows, encoder.embed(tmp_path / f"{seed}.wav").embeddings)


def test_a_copy_for_another_process_gives_the_same(tmp_path):
    write_export(write_joint_model(tmp_path / "model"), tmp_path / "out")
    encoder = mulap.load(tmp_path / "out", space="joint", backend="onnx")
    points = encoder.embed_text("piano")
    copy = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(copy.embed_text("piano"), points)
    waveform = tone(0, 5.0)
    np.testing.assert_array_equal(copy.embed_waveform(waveform), encoder.embed_waveform(waveform))


def test_a_folder_without_graphs_or_with_damaged_ones_is_refused_in_a_line(tmp_path):
    folder = write_joint_model(tmp_path / "model")
    with pytest.raises(
        ValueError, match="has no audio.onnx.*Run mulap export .*Or run pip install"
    ):
        mulap.load(folder, backend="onnx")
    write_export(folder, tmp_path / "out")
    (tmp_path / "out" / "audio.onnx").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="audio.onnx: cannot be loaded, .*Copy the folder again"):
        mulap.load(tmp_path / "out", backend="onnx")


def test_weights_that_end_early_are_refused_in_a_line(tmp_path):
    write_export(write_joint_model(tmp_path / "model"), tmp_path / "out")
    weights = tmp_path / "out" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2_000])
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_engine(tmp_path / "out", backend="onnx").embed_text("piano")


def test_the_backend_is_chosen_by_argument_then_by_variable(monkeypatch):
    assert choose_backend() == "torch"
    monkeypatch.setenv("MULAP_BACKEND", "onnx")
    assert choose_backend() == "onnx"
    assert choose_backend("torch") == "torch"
    assert type(mulap.load("musicnn-mtt")).__name__ == "OnnxEmbedder"
    monkeypatch.setenv("MULAP_BACKEND", "jax")
    with pytest.raises(ValueError, match="MULAP_BACKEND is 'jax'. Give auto, torch or onnx"):
        choose_backend()
    with pytest.raises(ValueError, match="random: needs PyTorch. Run pip install 'mulap"):
        mulap.load("random", backend="onnx")
    assert Path(mulap.load("musicnn-mtt", backend="onnx").folder).is_dir()


def test_graphs_of_another_version_are_refused_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr("mulap.graphs.build.GRAPHS_VERSION", 0)
    write_export("musicnn-mtt", tmp_path / "out")
    with pytest.raises(ValueError, match="by another version of mulap. Run mulap export again"):
        mulap.load(tmp_path / "out", backend="onnx")
