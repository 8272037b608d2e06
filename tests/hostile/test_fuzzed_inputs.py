"""Damaged tables, tars, settings, embeddings, checkpoints and caches: a line, or a result.

Every file that a command reads is damaged in every round, one at a time. Whatever can be told is
told in one line; no traceback, no crash, no hang, no absurd memory.
"""

import csv
import io
import json
import random
import shutil
import tarfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
import toy_task
import yaml
from hostile.damage import damage, replace_value
from hostile.kit import MIB, Template, contents, rounds
from tiny import SETTINGS, tone, write_corpus

from mulap.embedding.embed import embed_files
from mulap.encoders.embedder import Embedder
from mulap.model.config import MulapAudioConfig
from mulap.model.features import MulapFeatureExtractor
from mulap.model.musicnn import MusicnnForTagging

pytestmark = pytest.mark.slow

MAX_BYTES = 2048 * MIB
CAPTIONS = ["a calm piano", "fast, loud rock", 'she said "jazz"', "a sad song"]


class Target(NamedTuple):
    """A file that is damaged, and the command that reads it; OUT is a new folder."""

    file: str
    argv: list[str]


MANIFESTS = ("a.csv", "a.jsonl", "a.json", "a.parquet", "a.tar", "audio.parquet")
TARGETS = [
    *(
        Target(f"{name}/{name}", ["prepare", f"{name}/{name}", "-o", "OUT", "--store", "pcm",
                                  "--processes", "1"])
        for name in MANIFESTS
    ),
    Target("labels.csv", ["task", "folder", "--data", "labels.csv", "--label", "pitch",
                          "--no-decode"]),
    Target("settings.yaml", ["pretrain", "settings.yaml", "--data", "nothing", "-o", "OUT"]),
    Target("supervised.yaml", ["pretrain-supervised", "supervised.yaml", "--task", "gtzan",
                               "--data", "nothing", "-o", "OUT"]),
    Target("benchmark.yaml", ["benchmark", "benchmark.yaml", "-o", "OUT"]),
    *(
        Target(f"table{suffix}", ["embed", "music", "--model", "mel", "-o", f"table{suffix}",
                                  "--skip-existing"])
        for suffix in (".parquet", ".npz", ".jsonl")
    ),
    Target("model/config.json", ["embed", "music", "--model", "model", "-o", "OUT/x.npz"]),
    Target("model/model.safetensors", ["embed", "music", "--model", "model", "-o", "OUT/x.npz"]),
    Target("prepared/prepared.json", ["prepare", "prepared", "--verify"]),
    Target("prepared/DATA", ["prepare", "prepared", "--verify"]),
    *(
        Target(f"run/best/{name}", ["evaluate", "run", "--data", "corpus", "--split", "valid",
                                    "--no-untrained"])
        for name in ("config.json", "model.safetensors", "processor_config.json",
                     "tokenizer.json", "tokenizer_config.json")
    ),
    Target("run/settings.yaml", ["evaluate", "run", "--data", "corpus", "--split", "valid",
                                 "--no-untrained"]),
    *(
        Target(f"run/checkpoint-4/{name}", ["pretrain", "settings.yaml", "--data", "corpus", "-o",
                                            "run"])
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json",
                     "model.safetensors", "config.json", "complete")
    ),
    Target("tagger/config.json", ["tag", "music", "--model", "./tagger"]),
    Target("tagger/model.safetensors", ["tag", "music", "--model", "./tagger"]),
    Target("cache/INDEX", ["probe", "--data", "labels.csv", "--label", "pitch", "--backbone",
                           "mel", "--seeds", "1", "--protocol", "linear", "--cache", "cache"]),
    Target("prepared/DATA", ["pretrain", "long.yaml", "--data", "prepared", "-o", "OUT"]),
]  # fmt: skip

BOMBS: dict[str, bytes] = {
    "deep": b"[" * 100_000,
    "deep_object": b'{"a":' * 100_000,
    "laughs": b"a: &a [x,x,x,x,x,x,x,x,x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (n, n, b",".join([b"*%c" % (n - 1)] * 9)) for n in b"bcdefgh"),
    "nul": bytes(5_000),
    "not_utf8": b"file_name,caption\n\xff\xfe\xfa,\x80\n",
    "date": b"training: {seed: 2026-99-99}\n",
    "long_line": b"x" * 3_000_000,
    "huge_number": b'[{"file_name": 1e999999, "caption": ' + b"9" * 50_000 + b"}]",
    "surrogate": b'{"file_name": "\\ud800.wav", "caption": "\\udfff"}\n',
}


@cache
def _whole() -> Path:
    """A folder with every kind of input, undamaged."""
    folder = toy_task.temporary_folder("mulap-hostile-inputs-")
    music = folder / "music"
    music.mkdir()
    for index in range(2):
        sf.write(music / f"{index}.wav", tone(index, 1.5), 16_000)
    (folder / "sounds").mkdir()
    for index in range(12):
        sf.write(folder / "sounds" / f"{index}.wav", tone(index, 0.2), 16_000)
    for name in MANIFESTS:
        _write_manifest(folder / name, name)
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as out:
        rows = [(f"sounds/{index}.wav", ("low", "high")[index % 2]) for index in range(12)]
        csv.writer(out).writerows([("file_name", "pitch"), *rows])
    for name, sections in (("settings", SETTINGS), ("supervised", toy_task.SECTIONS)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(sections))
    (folder / "long.yaml").write_text("training: {num_epochs: 1, batch_size: 999}\n")
    entry = {"tasks": [{"task": "gtzan", "data": "nothing"}], "backbones": ["mel", "random"]}
    (folder / "benchmark.yaml").write_text(yaml.safe_dump(entry))
    shutil.copytree(toy_task.small_start(), folder / "model")
    write_corpus(folder / "corpus", num_train=8, num_valid=4, seconds=3.2)
    config = MulapAudioConfig(num_timbral_filters=2, num_temporal_filters=2, num_midend_filters=2)
    config.id2label = {0: "loud", 1: "soft"}
    MusicnnForTagging(config).save_pretrained(folder / "tagger")
    MulapFeatureExtractor().save_pretrained(folder / "tagger")
    (folder / "nothing").mkdir()
    return folder


def _write_manifest(folder: Path, name: str) -> None:
    folder.mkdir()
    files = [f"{index}.wav" for index in range(len(CAPTIONS))]
    for index, file in enumerate(files):
        sf.write(folder / file, tone(index, 0.5), 16_000)
    rows = [
        {"file_name": file, "caption": text} for file, text in zip(files, CAPTIONS, strict=True)
    ]
    path = folder / name
    if name == "a.csv":
        with open(path, "w", newline="", encoding="utf-8") as out:
            writer = csv.DictWriter(out, ["file_name", "caption"])
            writer.writeheader()
            writer.writerows(rows)
    elif name == "a.jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif name == "a.json":
        path.write_text(json.dumps(rows))
    elif name == "a.parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name == "a.tar":
        _write_tar(path, rows)
    else:
        sounds = [{"bytes": (folder / file).read_bytes(), "path": file} for file in files]
        pq.write_table(pa.table({"audio": sounds, "caption": CAPTIONS}), path)


def _write_tar(path: Path, rows: list[dict[str, str]]) -> None:
    with tarfile.open(path, "w") as tar:
        for row in rows:
            sound = (path.parent / row["file_name"]).read_bytes()
            text = json.dumps({"text": [row["caption"]]}).encode()
            key = row["file_name"].removesuffix(".wav")
            for name, content in ((f"{key}.wav", sound), (f"{key}.json", text)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="module")
def whole(template) -> Path:
    """`_whole`, and what commands make of it."""
    folder = _whole()
    makers = [
        *(
            ("embed", "music", "--model", "mel", "-o", f"table{suffix}")
            for suffix in (".parquet", ".npz", ".jsonl")
        ),
        ("pretrain", "settings.yaml", "--data", "corpus", "-o", "run"),
        next(target.argv for target in TARGETS if target.file == "cache/INDEX"),
        ("prepare", "a.csv/a.csv", "-o", "prepared", "--processes", "1"),
    ]
    if not (folder / "prepared").exists():
        for argv in makers:
            made = template.mulap(*argv, cwd=folder).wait()
            assert made.code == 0, made.err
    return folder


def _damage_in(whole: Path, folder: Path, target: Target, rng: random.Random) -> list[str]:
    """Copy all inputs, one of them damaged; return the arguments with the copy's paths."""
    shutil.copytree(whole, folder)
    name = target.file
    path = folder / name
    if path.name == "DATA":
        path = next(path.parent.glob("data-*"))
    elif path.name == "INDEX":
        path = next(path.parent.glob("*/*.journal"))
    content = path.read_bytes()
    chance = rng.random()
    if chance < 0.2:
        content = rng.choice(list(BOMBS.values()))
    elif chance < 0.6 and path.suffix in (".json", ".yaml"):
        values = yaml.safe_load(content)
        for _ in range(rng.choice((1, 1, 2))):
            values = replace_value(values, rng)
        content = json.dumps(values).encode()
    else:
        for _ in range(rng.choice((1, 1, 3))):
            content = damage(content, rng)[1] if content else b""
    path.write_bytes(content)
    return [each.replace("OUT", f"out{rng.randrange(10**9)}") for each in target.argv]


def _call(template: Template, calls: list[list[str]], folder: Path) -> list[dict]:
    child = template.start("hostile.workers:call_each", calls, MAX_BYTES, cwd=folder)
    ended = child.wait()
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert ended.code == 0, f"{lines[-1]}: ended with {ended.code}\n{ended.err}"
    return [line for line in lines if "code" in line]


def _fault(line: dict) -> str:
    if "raised" in line:
        return line["raised"]
    errors = [each for each in line["err"].splitlines() if each.startswith("Error: ")]
    if line["code"] == 1 and (len(errors) != 1 or not line["err"].endswith(errors[0] + "\n")):
        return f"no line: {line['err']}"
    return "" if line["code"] in (0, 1, 3) else f"ended with {line['code']}: {line['err']}"


@rounds(1)
def test_a_damaged_input_is_a_line_or_is_used(template, whole, tmp_path, seed):
    calls = []
    for index, target in enumerate(TARGETS):
        rng = random.Random(f"{target.file} {index} {seed}")
        folder = tmp_path / str(index)
        argv = _damage_in(whole, folder, target, rng)
        calls.append([_within(each, folder) for each in argv])
    told = _call(template, calls, tmp_path)
    faults = [f"{' '.join(line['argv'])}: {fault}" for line in told if (fault := _fault(line))]
    assert not faults, "\n".join(faults)
    shutil.rmtree(tmp_path)


def _within(argument: str, folder: Path) -> str:
    """Make an argument that is one of our paths lead into a folder."""
    first = argument.partition("/")[0]
    is_ours = first.startswith("out") or (folder / first).exists()
    return f"{folder.name}/{argument}" if is_ours else argument


def test_undamaged_inputs_have_no_fault_and_a_fault_would_be_seen(template, whole, tmp_path):
    calls = []
    for index, target in enumerate(TARGETS):
        shutil.copytree(whole, tmp_path / str(index))
        argv = [each.replace("OUT", "out") for each in target.argv]
        calls.append([_within(each, tmp_path / str(index)) for each in argv])
    told = _call(template, calls, tmp_path)
    assert [_fault(line) for line in told] == [""] * len(TARGETS)
    codes = {" ".join(line["argv"][:1]): line["code"] for line in told}
    assert codes["prepare"] == codes["embed"] == codes["task"] == 0, told
    assert _fault(told[0] | {"code": 1, "err": "oh\n"}).startswith("no line")


def test_damaged_parts_of_a_stopped_run_are_embedded_again(tmp_path):
    """Whatever bytes of an unfinished run are flipped or cut, its output is the same."""
    music = _whole() / "music"
    embedder = Embedder.from_pretrained(toy_task.small_start())

    class Stopped(Exception):
        pass

    class Stopping:
        """An encoder that stops a run after the first file."""

        def __init__(self) -> None:
            self.num_files = 0

        def __getattr__(self, name):
            return getattr(embedder, name)

        def stream_file(self, path):
            self.num_files += 1
            if self.num_files > 1:
                raise Stopped
            return embedder.stream_file(path)

    embed_files([music], embedder, tmp_path / "whole" / "x.npz")
    for seed in range(12):
        folder, rng = tmp_path / str(seed), random.Random(seed)
        with pytest.raises(Stopped):
            embed_files([music], Stopping(), folder / "x.npz")
        parts = [path for path in folder.rglob("*") if path.is_file()]
        victim = rng.choice(parts)
        victim.write_bytes(damage(victim.read_bytes() or b"x", rng)[1])
        embed_files([music], embedder, folder / "x.npz", skip_existing=True)
        assert contents(folder) == contents(tmp_path / "whole")
        assert np.load(folder / "x.npz")["embeddings"].shape[1] == embedder.embedding_size
