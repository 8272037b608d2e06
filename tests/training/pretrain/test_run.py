"""`pretrain`, end to end on a tiny corpus: what it leaves behind, repeats and resumes exactly."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import soundfile as sf
import torch
from launched import Launched, kill_in_training
from safetensors.torch import load_file
from tiny import CAPTIONS, RATE, has_no_gradient, tone, write_corpus, write_settings
from transformers import AutoModel, AutoModelForPreTraining, AutoProcessor, TrainerCallback

from mulap import terminal
from mulap.configs import find_config
from mulap.files import FailureLog
from mulap.model.pretraining import MulapForPreTraining
from mulap.terminal import shown
from mulap.training.pretrain import run as pretrain_module
from mulap.training.pretrain import trainer as trainer_module
from mulap.training.pretrain.evaluate import Evaluation
from mulap.training.pretrain.initial import initial_model
from mulap.training.pretrain.run import describe_doubts, pretrain, read_clips
from mulap.training.pretrain.settings import load_settings


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in the subprocesses, so that sums are added up in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"), num_train=13, num_valid=4)


def make_settings(folder: Path, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    return load_settings(write_settings(folder / "settings.yaml", **changes))


@pytest.fixture(scope="module")
def straight(corpus, tmp_path_factory):
    """A run of two epochs of three steps that nothing interrupts, and its report."""
    folder = tmp_path_factory.mktemp("straight")
    settings = make_settings(folder)
    return settings, pretrain(settings, corpus, folder / "run")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_equal_weights(first: Path, second: Path) -> None:
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert different == []


def read_log(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_a_run_leaves_models_settings_and_a_log_with_losses_by_name(straight):
    settings, report = straight
    run = report.last.parent
    assert {path.name for path in run.iterdir()} >= {
        "settings.yaml", "corpus.json", "log.jsonl", "best", "last", "checkpoint-6",
    }  # fmt: skip
    assert load_settings(run / "settings.yaml") == settings
    assert not (run / "failures.jsonl").exists()
    assert report.num_clips == {"train": 13, "valid": 4}
    assert report.num_failures == 0
    steps = [record for record in read_log(run) if "loss/mlm" in record]
    assert [record["step"] for record in steps] == [1, 2, 3, 4, 5, 6]
    assert {"loss", "loss/mlm", "loss/mam", "loss/atm", "atm/accuracy"} <= steps[0].keys()
    valid = [record for record in read_log(run) if "valid/loss" in record]
    assert [record["step"] for record in valid] == [3, 6]
    assert valid[-1]["valid/loss/mam"] > 0
    assert report.metrics["loss"] == valid[-1]["valid/loss"]
    assert report.metrics["retrieval/atm/pool"] == 4


def test_the_exported_models_are_folders_that_transformers_opens(straight):
    _, report = straight
    for folder in (report.best, report.last):
        model = AutoModelForPreTraining.from_pretrained(folder)
        assert type(model) is MulapForPreTraining
        assert AutoModel.from_pretrained(folder).config.layout == "paper"
        processor = AutoProcessor.from_pretrained(folder)
        batch = processor(
            text=list(CAPTIONS[:2]), audio=[tone(0, 3.0)], sampling_rate=RATE, return_tensors="pt"
        )
        assert model.score_pairs(**batch).shape == (1, 2)
        names = {path.name for path in folder.iterdir()}
        assert "modeling.py" in names
        # No optimiser, no pickle, no paths of the machine.
        assert not [name for name in names if name.endswith((".pt", ".pth", ".bin"))]
        assert "trainer_state.json" not in names


def test_the_best_model_is_the_one_that_validated_best(straight):
    _, report = straight
    run = report.last.parent
    losses = {r["step"]: r["valid/loss"] for r in read_log(run) if "valid/loss" in r}
    best = min(losses, key=losses.get)
    kept = {int(path.name[11:]) for path in run.glob("checkpoint-*")}
    assert kept == {best, 6}
    assert_equal_weights(report.best, run / f"checkpoint-{best}")
    assert_equal_weights(report.last, run / "checkpoint-6")


def test_training_changes_every_weight(straight, tmp_path):
    settings, report = straight
    captions = [CAPTIONS[index % len(CAPTIONS)] for index in range(13)]
    start, _, _ = initial_model(settings.model, captions, settings.training.seed)
    trained = MulapForPreTraining.from_pretrained(report.last).state_dict()
    before = start.state_dict()
    # Biases of keys never matter, and of 512 positions most are not met.
    assert [
        name
        for name in before
        if torch.equal(before[name], trained[name])
        and not name.endswith("key.bias")
        and not has_no_gradient(name)
    ] == []


def test_two_runs_with_one_seed_give_the_same_weights_and_another_seed_others(
    straight, corpus, tmp_path
):
    settings, report = straight
    again = pretrain(settings, corpus, tmp_path / "again")
    assert_equal_weights(report.last, again.last)
    assert again.metrics == report.metrics
    other = pretrain(make_settings(tmp_path, training={"seed": 1}), corpus, tmp_path / "other")
    ours, theirs = weights(report.last), weights(other.last)
    name = "mulap.coattention.blocks.0.audio.attention.query.weight"
    assert not torch.equal(ours[name], theirs[name])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_neither_the_cache_nor_the_worker_count_changes_the_weights(
    straight, corpus, tmp_path, num_workers
):
    settings = make_settings(tmp_path, data={"cache_features": False, "num_workers": num_workers})
    assert_equal_weights(straight[1].last, pretrain(settings, corpus, tmp_path / "run").last)


class Steps(TrainerCallback):
    """Counts the steps of a run, and stops it before one of them as control-C would."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.begun: list[int] = []

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.stop_at:
            raise KeyboardInterrupt
        self.begun.append(state.global_step)


@pytest.fixture
def watched(monkeypatch):
    """`pretrain` with a callback."""
    make_trainer = pretrain_module.make_trainer

    def run(callback, settings, corpus, output):
        def make_watched(*args):
            trainer = make_trainer(*args)
            trainer.add_callback(callback)
            return trainer

        with monkeypatch.context() as patch:
            patch.setattr(pretrain_module, "make_trainer", make_watched)
            return pretrain(settings, corpus, output)

    return run


def interrupt(watched, settings, corpus, run, step: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        watched(Steps(stop_at=step), settings, corpus, run)


@pytest.mark.parametrize(
    ("step", "save_every_steps", "accumulated"),
    [(4, 0, 1), (2, 1, 1), (5, 2, 1), (3, 2, 2)],
    ids=["at an epoch's end", "within the first", "within a later", "with accumulation"],
)
def test_resumed_at_step_k_and_run_to_the_end_equals_straight_vii_E29(
    straight, corpus, tmp_path, watched, step, save_every_steps, accumulated
):
    """Optimiser, schedule, order, masks, dropout and the best figure so far all go on."""
    changes = {"micro_batch_size": 4 // accumulated, "save_every_steps": save_every_steps}
    settings = make_settings(tmp_path, training=changes)
    if accumulated == 1:
        expected = straight[1]
    else:
        expected = pretrain(settings, corpus, tmp_path / "straight")
    interrupt(watched, settings, corpus, tmp_path / "run", step)
    saved = [int(path.name[11:]) for path in (tmp_path / "run").glob("checkpoint-*")]
    steps = Steps()
    resumed = watched(steps, settings, corpus, tmp_path / "run")
    assert steps.begun == list(range(max(saved), 6))  # none is trained again
    assert_equal_weights(expected.last, resumed.last)
    assert_equal_weights(expected.best, resumed.best)
    assert resumed.metrics == expected.metrics
    for name in ("learning_rate", "grad_norm"):
        straight_log, log = (
            {r["step"]: r[name] for r in read_log(report.last.parent) if name in r}
            for report in (expected, resumed)
        )
        assert log == straight_log  # no second warm-up, and every step once


def test_the_best_model_survives_a_resume_whose_epochs_are_worse_E29(
    corpus, tmp_path, watched, monkeypatch
):
    losses = iter([1.0, 3.0, 2.0])

    def evaluate(*args, **kwargs):
        return Evaluation({"loss": next(losses), "atm/accuracy": 0.5})

    monkeypatch.setattr(trainer_module, "evaluate", evaluate)
    settings = make_settings(tmp_path, training={"num_epochs": 3})
    interrupt(watched, settings, corpus, tmp_path / "run", 4)
    report = pretrain(settings, corpus, tmp_path / "run")
    kept = {path.name for path in (tmp_path / "run").glob("checkpoint-*")}
    assert kept == {"checkpoint-3", "checkpoint-9"}
    assert_equal_weights(report.best, tmp_path / "run" / "checkpoint-3")
    assert_equal_weights(report.last, tmp_path / "run" / "checkpoint-9")
    # Also where the folder is moved and the finished run called again.
    (tmp_path / "run").rename(tmp_path / "moved")
    again = pretrain(settings, corpus, tmp_path / "moved")
    assert_equal_weights(again.best, tmp_path / "moved" / "checkpoint-3")


def test_a_finished_run_called_again_trains_no_further(straight, corpus, tmp_path):
    settings, report = straight
    shutil.copytree(report.last.parent, tmp_path / "moved")
    again = pretrain(settings, corpus, tmp_path / "moved")
    assert_equal_weights(report.last, again.last)
    assert_equal_weights(report.best, again.best)  # also where the folder was moved
    assert again.metrics == report.metrics


def test_a_half_written_checkpoint_is_removed_and_not_gone_on_from(
    straight, corpus, tmp_path, watched, capsys
):
    settings, report = straight
    interrupt(watched, settings, corpus, tmp_path / "run", 4)
    torn = tmp_path / "run" / "checkpoint-5"
    shutil.copytree(tmp_path / "run" / "checkpoint-3", torn)
    (torn / "complete").unlink()
    (torn / "optimizer.pt").write_bytes(b"half")
    with shown():
        resumed = pretrain(settings, corpus, tmp_path / "run")
    text = capsys.readouterr().err
    assert "removed checkpoint-5, which an interruption left half written" in text
    assert "going on from checkpoint-3" in text
    assert_equal_weights(report.last, resumed.last)


def test_a_folder_of_another_run_is_one_clear_error(straight, corpus, tmp_path):
    settings, report = straight
    run = report.last.parent
    changed = dataclasses.replace(
        settings, training=dataclasses.replace(settings.training, learning_rate=0.5)
    )
    with pytest.raises(ValueError, match=r"training.learning_rate is 0.001 there and 0.5 now"):
        pretrain(changed, corpus, run)
    other = write_corpus(tmp_path / "other", num_train=14, num_valid=4)
    with pytest.raises(ValueError, match="holds a run with another corpus"):
        pretrain(settings, other, run)


def test_a_changed_caption_is_another_corpus(straight, corpus, tmp_path):
    settings, report = straight
    shutil.copytree(corpus, tmp_path / "changed")
    table = tmp_path / "changed" / "metadata.csv"
    table.write_text(table.read_text().replace(CAPTIONS[3], "an electronic track to dance"))
    with pytest.raises(ValueError, match="holds a run with another corpus .sha256"):
        pretrain(settings, tmp_path / "changed", report.last.parent)


def test_what_cannot_be_decoded_is_counted_listed_and_left_out(corpus, tmp_path):
    shutil.copytree(corpus, tmp_path / "data")
    (tmp_path / "data" / "clip-02.wav").write_bytes(b"no music")
    (tmp_path / "data" / "clip-15.wav").write_bytes(b"")  # of the validation split
    (tmp_path / "data" / "clip-03.wav").unlink()
    settings = make_settings(tmp_path, training={"num_epochs": 1})
    report = pretrain(settings, tmp_path / "data", tmp_path / "run")
    assert report.num_failures == 3
    assert report.num_clips == {"train": 11, "valid": 3}
    lines = (tmp_path / "run" / "failures.jsonl").read_text().splitlines()
    failures = {json.loads(line)["file"]: json.loads(line)["reason"] for line in lines}
    assert len(failures) == 3
    assert any("clip-02.wav" in file for file in failures)
    assert any("clip-15.wav" in file for file in failures)
    assert all(reason for reason in failures.values())
    # Two full batches of eleven clips: the schedule knows.
    assert read_log(tmp_path / "run")[-1]["step"] == 2


def test_captions_that_cleaning_drops_are_told_and_are_no_failures(corpus, tmp_path, capsys):
    shutil.copytree(corpus, tmp_path / "data")
    data = {"clean_captions": True}
    settings = make_settings(tmp_path, data=data, training={"num_epochs": 1})
    with terminal.shown():
        report = pretrain(settings, tmp_path / "data", tmp_path / "run")
    assert report.num_failures == 0
    kept = {caption for caption in CAPTIONS if len(caption.split()) > 2}
    assert "loud drums" not in kept  # too short
    assert f"captions kept: {17 - 2} of 17" in capsys.readouterr().err
    assert report.num_clips == {"train": 12, "valid": 3}
    assert not (tmp_path / "run" / "failures.jsonl").exists()


def test_captions_of_a_source_that_is_left_out_are_told_and_not_read(corpus, tmp_path, capsys):
    table = (corpus / "metadata.csv").read_text().splitlines()
    lines = [f"{line},{'heard' if ',train' in line else 'title'}" for line in table[1:]]
    shutil.copytree(corpus, tmp_path / "data")
    text = "\n".join([f"{table[0]},caption_source", *lines])
    (tmp_path / "data" / "metadata.csv").write_text(text)
    settings = make_settings(tmp_path, data={"leave_out_sources": ["heard"]})
    failures = FailureLog(tmp_path / "failures.jsonl")
    with terminal.shown():
        manifest = read_clips(settings, tmp_path / "data", failures)
    assert {clip.split for clip in manifest.clips} == {"valid"}
    assert len(manifest.clips) == 4
    told = "left out by source: 13 captions, and 13 clips with no other"
    assert told in capsys.readouterr().err
    assert len(failures) == 0


def test_a_split_that_cannot_be_decoded_at_all_is_one_clear_error_and_listed(corpus, tmp_path):
    shutil.copytree(corpus, tmp_path / "data")
    for index in range(13, 17):
        (tmp_path / "data" / f"clip-{index}.wav").write_bytes(b"no music")
    with pytest.raises(ValueError, match="no clip of the valid split can be used: see failures"):
        pretrain(make_settings(tmp_path), tmp_path / "data", tmp_path / "run")
    assert len((tmp_path / "run" / "failures.jsonl").read_text().splitlines()) == 4


def test_too_few_clips_that_can_be_decoded_is_one_clear_error_too_E31(corpus, tmp_path):
    shutil.copytree(corpus, tmp_path / "data")
    for index in range(10):
        (tmp_path / "data" / f"clip-{index:02}.wav").write_bytes(b"no music")
    with pytest.raises(ValueError, match="has 3 clips, fewer than the 4 of one micro-batch"):
        pretrain(make_settings(tmp_path), tmp_path / "data", tmp_path / "run")


def test_very_short_silent_and_equal_tracks_train_without_trouble(tmp_path):
    folder = write_corpus(tmp_path / "data", 8, 4, captions=("the same song",))
    sf.write(folder / "clip-00.wav", tone(0, 0.2), RATE)
    sf.write(folder / "clip-01.wav", torch.zeros(RATE * 5).numpy(), RATE)
    report = pretrain(make_settings(tmp_path), folder, tmp_path / "run")
    assert all(torch.isfinite(value).all() for value in weights(report.last).values())
    log = [record for record in read_log(tmp_path / "run") if "loss" in record]
    assert all(record["loss"] == record["loss"] for record in log)


@pytest.mark.parametrize("variant", ["official", "contrastive"])
def test_the_other_variants_train_too(corpus, tmp_path, variant):
    changes = {
        "official": {
            "model": {
                "layout": "official",
                "audio_hidden_size": 16,
                "db_reference": "batch",
                "global_token": "all_detached",
                "atm_head": "pooler",
            },
            "masking": {"atm_negatives": "dataset"},
            "objectives": {"mam_target": "zeros", "mismatch": "drop_mlm"},
            "training": {"weight_decay": 0.0, "max_grad_norm": 0.0, "fused_front_end": False},
        },
        "contrastive": {
            "model": {"has_contrastive_head": True},
            "objectives": {"contrastive": 1.0},
            "training": {"best_by": "atm/accuracy"},
        },
    }[variant]
    report = pretrain(make_settings(tmp_path, **changes), corpus, tmp_path / "run")
    assert all(torch.isfinite(value).all() for value in weights(report.last).values())
    heads = {name.split("/")[1] for name in report.metrics if name.startswith("retrieval/")}
    trained = {"atm", "contrastive"} if variant == "contrastive" else {"atm"}
    assert heads == {*trained, "chance"}


@pytest.mark.slow
def test_kill_9_and_rerun_resume_bit_exactly_in_one_process_vii_E29(template, corpus, tmp_path):
    changes = {"num_epochs": 10, "save_every_steps": 1, "evaluate_every_epochs": 5}
    settings = make_settings(  # two micro-batches a step, which share negatives
        tmp_path,
        model={"has_contrastive_head": True},
        objectives={"contrastive": 1.0},
        training=changes | {"micro_batch_size": 2},
    )
    command = ("pretrain", tmp_path / "settings.yaml", "--data", corpus, "-o", tmp_path / "run")
    kill_in_training(template.mulap(*command, cwd=tmp_path), tmp_path / "run")
    assert not (tmp_path / "run" / "last").exists()
    resumed = pretrain(settings, corpus, tmp_path / "run")
    straight = pretrain(settings, corpus, tmp_path / "straight")
    assert_equal_weights(straight.last, resumed.last)
    assert_equal_weights(straight.best, resumed.best)
    assert straight.metrics == resumed.metrics


SCRIPT = """
import os
import sys
import torch
torch.set_num_threads(1)
from mulap.data.collator import PretrainCollator
from mulap.training.pretrain.run import pretrain
from mulap.training.pretrain.settings import load_settings
collate = PretrainCollator.__call__


def collate_and_tell(self, items):
    if self.caption_pool:  # of training
        print(*(f"{epoch}:{index}" for (epoch, index) in (item.key for item in items)), file=keys)
    return collate(self, items)


PretrainCollator.__call__ = collate_and_tell
settings, corpus, *runs = sys.argv[1:]
for run in runs:
    with open(f"{run}-keys-{os.environ['RANK']}.txt", "a") as keys:
        pretrain(load_settings(settings), corpus, run)
"""


def assert_processes_share_each_epoch(folder: Path) -> None:
    """Of 13 clips each epoch has another 12, in pairs that the two processes take in turns."""
    ours, theirs = ((folder / f"straight-keys-{rank}.txt").read_text().split() for rank in (0, 1))
    assert len(ours) == len(theirs) == 10 * 6
    for epoch in range(10):
        rows = [keys[6 * epoch : 6 * epoch + 6] for keys in (ours, theirs)]
        indices = [int(key.removeprefix(f"{epoch}:")) for keys in rows for key in keys]
        assert len(set(indices)) == 12
    assert [key.partition(":")[2] for key in ours[:6]] != [
        key.partition(":")[2] for key in ours[6:12]
    ]


@pytest.mark.slow
def test_kill_9_and_rerun_resume_bit_exactly_in_two_processes_vii_E29(corpus, tmp_path):
    changes = {"num_epochs": 10, "save_every_steps": 2, "evaluate_every_epochs": 5}
    make_settings(tmp_path, training=changes | {"micro_batch_size": 2})
    given = tmp_path / "settings.yaml", corpus
    straight, killed = tmp_path / "straight", tmp_path / "run"
    # One launch for the run that nobody stops and for the one that is killed: imports take longest.
    kill_in_training(Launched(SCRIPT, tmp_path, *given, straight, killed), killed)
    assert not (killed / "last").exists()
    assert_processes_share_each_epoch(tmp_path)
    ended = Launched(SCRIPT, tmp_path, *given, killed).wait()
    assert ended.code == 0, ended.err
    for name in ("last", "best"):
        assert_equal_weights(straight / name, killed / name)
    log = [r for r in read_log(killed) if "loss/mlm" in r]
    weighted = [0.1 * r["loss/mlm"] + 4 * r["loss/mam"] + 2 * r["loss/atm"] for r in log]
    # The figures are of both processes, as the total is.
    assert [r["loss"] for r in log] == pytest.approx(weighted, rel=1e-4)


@pytest.mark.usefixtures("bars_of_transformers")
def test_a_library_call_prints_nothing(corpus, tmp_path, capsys):
    pretrain(make_settings(tmp_path), corpus, tmp_path / "run")
    assert capsys.readouterr() == ("", "")


def test_what_is_known_to_keep_a_model_from_learning_is_said_with_its_remedy(tmp_path):
    head = {"has_contrastive_head": True}
    changes = {"model": head, "objectives": {"contrastive": 1.0}}
    doubts = describe_doubts(make_settings(tmp_path, **changes))
    assert [line.partition(":")[0] for line in doubts] == [
        "model.feature_norm is none, as in the paper",
        "model.text_pooling is cls",
    ]
    better = head | {"feature_norm": "batch", "text_pooling": "mean"}
    assert not describe_doubts(make_settings(tmp_path, **(changes | {"model": better})))
    for name in ("small", "contrastive", "tiny", "warm"):
        assert not describe_doubts(load_settings(find_config(name, "pretrain")))
    assert len(describe_doubts(load_settings(find_config("paper", "pretrain")))) == 1


def test_a_run_of_the_paper_s_settings_warns_at_its_start(corpus, tmp_path, capsys):
    with shown():
        pretrain(make_settings(tmp_path), corpus, tmp_path / "run")
    assert "Warning: model.feature_norm is none, as in the paper" in capsys.readouterr().err
