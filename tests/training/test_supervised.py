"""`train_supervised` on toys: it learns, repeats and resumes exactly, and says what was tested."""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from safetensors.torch import load_file, save_file
from tiny import RATE
from transformers import TrainerCallback

from mulap.inference.backbones import load_backbone
from mulap.model.config import MulapAudioConfig
from mulap.model.features import MulapFeatureExtractor
from mulap.model.musicnn import MusicnnBackbone
from mulap.tasks.metrics import headline
from mulap.tasks.result import Predictions, score_predictions
from mulap.tasks.task import Example, Fold, Task, build_task_data
from mulap.training import supervised_run
from mulap.training.checkpoints import complete_checkpoints, hold_run
from mulap.training.classifier import Classifier, load_classifier
from mulap.training.supervised import swap_source, train_supervised, train_supervised_seeds
from mulap.training.supervised_settings import (
    SupervisedSettings,
    load_supervised_settings,
    make_supervised_settings,
)
from mulap.training.supervised_trainer import count_batch, is_out_of_patience, predict_tracks
from mulap.training.tracks import (
    CropDataset,
    SegmentDataset,
    choose_start,
    count_segments,
    crop_samples,
    read_tracks,
)

QUIET = Console(quiet=True)
CONFIGS = Path(__file__).parents[2] / "configs" / "supervised"
LABELS = {"class": ("low", "high"), "tags": ("low", "high", "loud"), "numbers": ("pitch", "level")}
SMALL: list[str] = []
SECTIONS = {
    "model": {"audio_width": 0.02, "hidden_size": 16},
    "data": {"cache_features": True, "num_workers": 0},
    "training": {
        "batch_size": 8,
        "num_epochs": 2,
        "learning_rate": 0.01,
        "weight_decay": 0.0,
        "log_every_steps": 1,
        "report_to": [],
        "fused_front_end": False,  # its kernels take longer to compile than this to train
    },
}


@pytest.fixture(scope="module", autouse=True)
def small_start(tmp_path_factory):
    """An untrained backbone of 16 bands and 1.5 seconds, for speed: every run starts from it."""
    torch.manual_seed(0)
    config = MulapAudioConfig(
        num_mel_bins=16,
        hop_length=512,
        segment_seconds=1.5,
        num_timbral_filters=8,
        num_temporal_filters=2,
        num_midend_filters=4,
    )
    folder = tmp_path_factory.mktemp("small")
    MusicnnBackbone(config).save_pretrained(folder)
    SMALL.append(str(folder))
    return str(folder)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in the subprocesses, so that sums are added up in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_settings(**changes) -> SupervisedSettings:
    values = {name: {**keys, **changes.pop(name, {})} for name, keys in SECTIONS.items()}
    return make_supervised_settings(values | changes, "test")


def write_tone(path: Path, index: int, is_high: bool, is_loud: bool, seconds: float) -> None:
    rng = np.random.default_rng(index)
    time_seconds = np.arange(round(seconds * RATE)) / RATE
    pitch_hz = rng.uniform(1900, 2100) if is_high else rng.uniform(190, 210)
    samples = np.sin(2 * np.pi * pitch_hz * time_seconds) + 0.01 * rng.standard_normal(
        len(time_seconds)
    )
    sf.write(path, (0.5 if is_loud else 0.02) * samples, RATE)


SPLITS = ["train"] * 12 + ["valid"] * 5 + ["test"] * 5


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    for index in range(len(SPLITS)):
        seconds = (3.2, 1.5, 4.6)[index % 3]
        write_tone(folder / f"{index}.wav", index, index % 2 == 1, index // 2 % 2 == 1, seconds)
    return folder


def make_data(folder: Path, kind: str, folds=None):
    """Low and high, loud and soft tones, with labels of a kind that say so."""
    examples = []
    for index, split in enumerate(SPLITS):
        is_high, is_loud = index % 2 == 1, index // 2 % 2 == 1
        target = {
            "class": "high" if is_high else "low",
            "tags": (("high" if is_high else "low"), *(["loud"] if is_loud else [])),
            "numbers": (4.0 * is_high - 1.0, 100.0 + 10.0 * is_loud),
        }[kind]
        examples.append(Example(f"t{index}", f"{index}.wav", target, split))
    task = Task("toy", "Toy", kind, LABELS[kind])
    return build_task_data(task, "toy", folder, examples, folds=folds)


def run(data, output, console=QUIET, start="small", **changes):
    start = SMALL[0] if start == "small" else start
    return train_supervised(data, output, make_settings(**changes), start, console)


@pytest.fixture(scope="module")
def straight(sounds, tmp_path_factory):
    """A run of two epochs of two steps that nothing interrupts, and its report."""
    output = tmp_path_factory.mktemp("straight") / "run"
    return run(make_data(sounds, "tags"), output), output


def extractor_of(folder: Path) -> MulapFeatureExtractor:
    return MulapFeatureExtractor.from_pretrained(folder)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_equal_weights(first: Path, second: Path) -> None:
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def assert_equal_predictions(first: Predictions, second: Predictions) -> None:
    assert first.track_ids == second.track_ids
    for name in ("targets", "outputs", "decisions"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def read_log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("kind", "metric", "least"),
    [("class", "accuracy", 1.0), ("tags", "roc_auc", 0.9), ("numbers", "r2", 0.5)],
)
def test_a_separable_toy_is_learned_in_a_few_epochs(sounds, tmp_path, kind, metric, least):
    data = make_data(sounds, kind)
    report = run(data, tmp_path / "run", training={"num_epochs": 15})
    result = score_predictions(kind, LABELS[kind], report.predictions, num_draws=20)
    assert result.scores[metric].mean >= least
    assert report.valid_scores[0] >= least
    losses = [record["loss"] for record in read_log(tmp_path / "run") if "loss" in record]
    assert losses[-1] < 0.5 * losses[0]


def test_the_test_split_is_the_true_one_and_outputs_are_probabilities_E32(straight, sounds):
    report, output = straight
    predictions = report.predictions
    assert predictions.track_ids == tuple(f"t{index}" for index in range(17, 22))
    data = make_data(sounds, "tags")
    np.testing.assert_array_equal(predictions.targets, data.targets[17:])
    assert predictions.outputs.shape == (1, 5, 3)
    assert ((predictions.outputs > 0) & (predictions.outputs < 1)).all()
    assert predictions.decisions.shape == (1, 5, 3)
    assert report.num_used == {"train": 12, "valid": 5, "test": 5}
    assert_equal_predictions(Predictions.load(output / "predictions.npz"), predictions)


def test_outputs_are_the_mean_of_each_segments_probabilities_E39(straight, sounds):
    report, output = straight
    model = load_classifier(output / "best")
    extractor = extractor_of(output / "best")
    for row, track_id in enumerate(report.predictions.track_ids):
        samples, _ = sf.read(sounds / f"{track_id[1:]}.wav", dtype="float32")
        log_mel = torch.from_numpy(extractor.log_mel(extractor.segment(samples)))
        with torch.no_grad():
            expected = model(log_mel).sigmoid().mean(0)
        np.testing.assert_allclose(report.predictions.outputs[0, row], expected, atol=1e-5)


def test_the_best_folder_is_read_by_load_backbone_with_equal_tensors_E35(straight):
    report, output = straight
    assert report.best == output / "best"
    saved = weights(report.best)
    backbone = load_backbone(report.best).state_dict()
    assert len(backbone) == sum(name.startswith("backbone.") for name in saved)
    for name, tensor in backbone.items():
        assert torch.equal(tensor, saved[f"backbone.{name}"]), name
    config = json.loads((report.best / "config.json").read_text())
    assert list(config["id2label"].values()) == list(LABELS["tags"])
    assert (report.best / "preprocessor_config.json").is_file()
    names = {path.name for path in report.best.iterdir()}
    assert not [name for name in names if name.endswith((".pt", ".pth", ".bin"))]


@pytest.mark.parametrize("change", ["missing", "unknown", "other shape"])
def test_a_model_that_is_not_whole_is_not_loaded_E35(straight, tmp_path, change):
    report, _ = straight
    shutil.copytree(report.best, tmp_path / "best")
    tensors = weights(report.best)
    if change == "missing":
        del tensors["classifier.hidden.bias"]
    elif change == "unknown":
        tensors["mulbert.extra"] = torch.zeros(1)
    else:
        tensors["classifier.output.bias"] = torch.zeros(7)
    save_file(tensors, tmp_path / "best" / "model.safetensors")
    with pytest.raises(ValueError, match="its weights do not fit config.json"):
        load_classifier(tmp_path / "best")


def test_a_run_leaves_what_pretraining_leaves(straight):
    _, output = straight
    assert {path.name for path in output.iterdir()} >= {
        "settings.yaml", "corpus.json", "log.jsonl", "best", "last", "predictions.npz",
    }  # fmt: skip
    assert load_supervised_settings(output / "settings.yaml") == make_settings()
    valid = [record for record in read_log(output) if "valid/roc_auc" in record]
    assert [record["step"] for record in valid] == [2, 4]
    assert not (output / "failures.jsonl").exists()


class Watch(TrainerCallback):
    """Counts steps, keeps gradients, and stops a run before a step as control-C would."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.begun: list[int] = []
        self.gradients: dict[str, float] = {}

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.stop_at:
            raise KeyboardInterrupt
        self.begun.append(state.global_step)

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        for name, parameter in model.named_parameters():
            size = 0.0 if parameter.grad is None else parameter.grad.abs().sum().item()
            self.gradients[name] = self.gradients.get(name, 0.0) + size


@pytest.fixture
def watched(monkeypatch):
    """`train_supervised` with a callback."""
    make_trainer = supervised_run.make_trainer

    def train(callback, *args, **kwargs):
        def make_watched(*given):
            trainer = make_trainer(*given)
            trainer.add_callback(callback)
            return trainer

        with monkeypatch.context() as patch:
            patch.setattr(supervised_run, "make_trainer", make_watched)
            return run(*args, **kwargs)

    return train


@pytest.mark.parametrize("kind", ["class", "tags", "numbers"])
def test_from_scratch_every_parameter_gets_a_gradient(sounds, tmp_path, watched, kind):
    watch = Watch()
    data, training = make_data(sounds, kind), {"num_epochs": 1}
    report = watched(watch, data, tmp_path / "run", start=None, training=training)
    assert json.loads((tmp_path / "run" / "corpus.json").read_text())["start"] == "random"
    assert load_backbone(report.best).config.num_mel_bins == 96
    assert watch.begun == [0, 1]
    # A bias before a BatchNorm gets one that is zero but for rounding.
    assert [name for name, size in watch.gradients.items() if size == 0.0] == []


@pytest.mark.parametrize(
    ("step", "save_every_steps"), [(2, 0), (1, 1), (3, 1)], ids=["epoch", "first", "later"]
)
def test_a_run_that_was_stopped_and_resumed_equals_a_straight_one(
    sounds, tmp_path, watched, step, save_every_steps
):
    data = make_data(sounds, "tags")
    changes = {
        "model": {"dropout": 0.3},
        "training": {"save_every_steps": save_every_steps, "plateau_patience": 0},
    }
    expected = run(data, tmp_path / "straight", **changes)
    with pytest.raises(KeyboardInterrupt):
        watched(Watch(stop_at=step), data, tmp_path / "run", **changes)
    saved = [int(path.name[11:]) for path in complete_checkpoints(tmp_path / "run")]
    watch = Watch()
    resumed = watched(watch, data, tmp_path / "run", **changes)
    assert watch.begun == list(range(max(saved), 4))
    for name in ("best", "last"):
        assert_equal_weights(tmp_path / "straight" / name, tmp_path / "run" / name)
    assert_equal_predictions(expected.predictions, resumed.predictions)
    assert expected.valid_scores == resumed.valid_scores
    for name in ("learning_rate", "loss"):
        logs = [
            {record["step"]: record[name] for record in read_log(folder) if name in record}
            for folder in (tmp_path / "straight", tmp_path / "run")
        ]
        assert logs[0] == logs[1]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_without_the_cache_the_number_of_workers_changes_nothing(sounds, tmp_path, num_workers):
    data = make_data(sounds, "tags")
    for name, count in (("ours", num_workers), ("other", 0)):
        settings = make_settings(data={"cache_features": False, "num_workers": count})
        train_supervised(data, tmp_path / name, settings, SMALL[0], QUIET)
    assert_equal_weights(tmp_path / "ours" / "last", tmp_path / "other" / "last")


def test_a_finished_run_called_again_trains_no_further(straight, sounds, tmp_path, watched):
    report, output = straight
    shutil.copytree(output, tmp_path / "moved")
    watch = Watch()
    again = watched(watch, make_data(sounds, "tags"), tmp_path / "moved")
    assert watch.begun == []
    assert_equal_weights(report.best, again.best)
    assert_equal_predictions(report.predictions, again.predictions)


def script_validation(monkeypatch, scores):
    """Let validations find these scores, in turn."""
    left = iter(scores)
    monkeypatch.setattr(
        "mulap.training.supervised_trainer.headline", lambda *args: np.array([next(left)])
    )


def test_a_negative_r2_saves_a_checkpoint_and_the_best_is_the_least_bad_E36(
    sounds, tmp_path, monkeypatch
):
    script_validation(monkeypatch, [-5.0, -2.0, -3.0])
    report = run(make_data(sounds, "numbers"), tmp_path / "run", training={"num_epochs": 3})
    assert report.valid_scores == (-2.0,)
    assert_equal_weights(report.best, tmp_path / "run" / "checkpoint-4")
    assert_equal_weights(tmp_path / "run" / "last", tmp_path / "run" / "checkpoint-6")


def test_the_rate_falls_on_a_plateau_and_the_run_stops_out_of_patience(
    sounds, tmp_path, monkeypatch, watched
):
    script_validation(monkeypatch, [-1.0, -0.9, -0.9, -0.95, -0.9, -0.9, 1.0])
    changes = {"num_epochs": 9, "plateau_patience": 1, "stop_patience": 4, "plateau_factor": 0.1}
    data = make_data(sounds, "numbers")
    report = run(data, tmp_path / "run", training=changes)
    log = read_log(tmp_path / "run")
    assert [record["epoch"] for record in log if "valid/r2" in record] == [1, 2, 3, 4, 5, 6]
    rates = {record["epoch"]: record["learning_rate"] for record in log if "loss" in record}
    # Two validations without a better one are a plateau: after epoch 4 and again after 6.
    expected = dict.fromkeys((1, 2, 3, 4), 0.01) | dict.fromkeys((5, 6), 0.001)
    assert {e: rates[e] for e in expected} == pytest.approx(expected)
    assert report.valid_scores == (-0.9,)
    assert_equal_weights(report.best, tmp_path / "run" / "checkpoint-4")
    # Called again, it is still finished.
    watch = Watch()
    watched(watch, data, tmp_path / "run", training=changes)
    assert watch.begun == []


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([], False), ([-3.0], False), ([1, 2, 2], False), ([2, 1, 1], True), ([2, 1, 3], False)],
)
def test_patience_is_counted_from_the_first_best(scores, expected):
    assert is_out_of_patience(scores, 2) is expected


def test_another_runs_folder_is_one_clear_error(straight, sounds, tmp_path):
    report, output = straight
    data = make_data(sounds, "tags")
    with pytest.raises(ValueError, match="training.learning_rate is 0.01 there and 0.5 now"):
        run(data, output, training={"learning_rate": 0.5})
    relabelled = [dataclasses.replace(data.examples[0], target=()), *data.examples[1:]]
    changed = build_task_data(data.task, "toy", sounds, relabelled)
    with pytest.raises(ValueError, match="holds a run with another corpus .sha256"):
        run(changed, output)
    with pytest.raises(ValueError, match="holds a run with another corpus .start"):
        run(data, output, start=None)


def test_a_folder_in_use_is_refused(sounds, tmp_path):
    code = "import sys; from mulap.training.checkpoints import hold_run; from pathlib import Path\n"
    code += "with hold_run(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "run"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match="another process is training here"):
        run(make_data(sounds, "tags"), tmp_path / "run")
    process.communicate()
    with hold_run(tmp_path / "run"):
        pass


def test_what_cannot_be_decoded_is_left_out_counted_and_listed(sounds, tmp_path):
    shutil.copytree(sounds, tmp_path / "sounds")
    for index in (0, 13, 18):  # of each split
        (tmp_path / "sounds" / f"{index}.wav").write_bytes(b"no music")
    samples = np.full((RATE * 4, 1), 1e30)
    sf.write(tmp_path / "sounds" / "1.wav", samples, RATE, subtype="DOUBLE")
    report = run(make_data(tmp_path / "sounds", "tags"), tmp_path / "run")
    assert report.num_left_out == 4
    assert report.num_used == {"train": 10, "valid": 4, "test": 4}
    assert "t18" not in report.predictions.track_ids
    lines = (tmp_path / "run" / "failures.jsonl").read_text().splitlines()
    reasons = {Path(r["file"]).name: r["reason"] for r in map(json.loads, lines)}
    assert set(reasons) == {"0.wav", "1.wav", "13.wav", "18.wav"}
    assert "absurd size" in reasons["1.wav"]


def test_a_split_that_cannot_be_decoded_or_scored_is_one_clear_error(sounds, tmp_path):
    shutil.copytree(sounds, tmp_path / "sounds")
    for index in range(12, 17):
        (tmp_path / "sounds" / f"{index}.wav").unlink()
    with pytest.raises(ValueError, match="no track in valid can be decoded: see"):
        run(make_data(tmp_path / "sounds", "tags"), tmp_path / "run")
    data = make_data(sounds, "numbers")
    data.targets[data.folds[0].valid] = 1.0
    with pytest.raises(ValueError, match="toy, valid: no label can be scored"):
        run(data, tmp_path / "other")


def test_the_cache_says_its_size_before_it_is_taken(sounds, tmp_path, monkeypatch):
    order = []
    from mulap.training import supervised

    read = supervised.read_tracks
    monkeypatch.setattr(
        supervised, "read_tracks", lambda *args: (order.append("read"), read(*args))[1]
    )
    console = Console(record=True, file=open(os.devnull, "w"), width=300)
    show = console.print
    monkeypatch.setattr(
        console, "print", lambda *args, **kw: (order.append(args[0]), show(*args, **kw))
    )
    run(make_data(sounds, "tags"), tmp_path / "run", console)
    # Of 22 tracks, 8 have 2 segments, 7 one and 7 three: 44 of 16 x 47 x 4 bytes.
    assert order[0] == "keeping the log-mels of 22 tracks in memory: 0.1 MiB a process"
    assert order[1] == "read"


def test_folds_are_runs_of_their_own_whose_predictions_are_pooled_in_order(sounds, tmp_path):
    parts = np.array([np.arange(22) % 3 == part for part in range(3)])
    folds = [
        Fold(name, *(np.flatnonzero(parts[(part + shift) % 3]) for shift in (2, 1, 0)))
        for part, name in enumerate(("a", "b/c", "d"))
    ]
    data = make_data(sounds, "class", folds)
    report = run(data, tmp_path / "run", training={"num_epochs": 1})
    assert report.predictions.track_ids == tuple(f"t{index}" for index in range(22))
    np.testing.assert_array_equal(report.predictions.targets, data.targets)
    assert len(report.valid_scores) == 3
    for part, fold in enumerate(folds):
        one = dataclasses.replace(data, folds=[fold])
        alone = run(one, tmp_path / f"alone-{part}", training={"num_epochs": 1})
        assert_equal_weights(alone.best, tmp_path / "run" / f"fold-{part}" / "best")
        outputs = report.predictions.outputs[:, fold.test]
        np.testing.assert_array_equal(outputs, alone.predictions.outputs)


def test_seeds_are_runs_of_their_own_whose_predictions_are_stacked(straight, sounds, tmp_path):
    report, _ = straight
    data = make_data(sounds, "tags")
    seeds = (3, 0)
    both = train_supervised_seeds(data, tmp_path / "run", make_settings(), seeds, SMALL[0], QUIET)
    assert both.predictions.outputs.shape == both.predictions.decisions.shape == (2, 5, 3)
    np.testing.assert_array_equal(both.predictions.outputs[1:], report.predictions.outputs)
    np.testing.assert_array_equal(both.predictions.decisions[1:], report.predictions.decisions)
    assert not np.array_equal(both.predictions.outputs[0], both.predictions.outputs[1])
    assert_equal_weights(report.best, tmp_path / "run" / "seed-0" / "best")
    assert both.valid_scores[1:] == report.valid_scores
    with pytest.raises(ValueError, match="seeds are .1, 1.: give different"):
        train_supervised_seeds(data, tmp_path / "run", make_settings(), (1, 1))


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_a_start_is_fine_tuned_at_a_rate_of_its_own(straight, sounds, tmp_path, scale, watched):
    report, _ = straight
    changes = {"training": {"num_epochs": 1, "pretrained_lr_scale": scale}}
    start = str(report.best)
    tuned = run(make_data(sounds, "class"), tmp_path / "run", start=start, **changes)
    before, after = load_backbone(start), load_backbone(tuned.best)
    named = dict(after.named_parameters())
    moved = [n for n, p in before.named_parameters() if not torch.equal(p, named[n])]
    assert len(moved) == (len(named) if scale else 0)
    assert json.loads((tmp_path / "run" / "corpus.json").read_text())["start"] != "random"


@pytest.mark.parametrize(
    ("target", "source"),
    [
        ("magnatagatune", "mtg_jamendo_top50"),
        ("gtzan", "mtg_jamendo_top50"),
        ("folder", "mtg_jamendo_top50"),
        ("mtg_jamendo_top50", "magnatagatune"),
        ("mtg_jamendo_moodtheme", "magnatagatune"),
    ],
)
def test_the_papers_swap_rule_E44(target, source):
    assert swap_source(target) == source


@settings(derandomize=True, max_examples=200)
@given(num_samples=st.integers(1, 200_000), length=st.integers(1, 60_000), seed=st.integers(0, 99))
def test_a_crop_lies_inside_the_file_or_starts_a_shorter_one_E40(num_samples, length, seed):
    start = choose_start(num_samples, length, np.random.default_rng(seed))
    assert start >= 0
    assert start + length <= num_samples or (start == 0 and num_samples < length)


def test_crops_reach_both_ends_of_a_file_E40():
    starts = {choose_start(12, 10, np.random.default_rng(seed)) for seed in range(50)}
    assert starts == {0, 1, 2}


@settings(derandomize=True, max_examples=30)
@given(num_samples=st.integers(1, 250_000), variant=st.sampled_from(["port", "original"]))
def test_segments_are_counted_as_they_are_cut(num_samples, variant):
    extractor = MulapFeatureExtractor(variant=variant)
    waveform = np.zeros(num_samples, np.float32)
    assert count_segments(extractor, num_samples) == len(extractor.segment(waveform))


@pytest.mark.parametrize("variant", ["port", "original"])
@pytest.mark.parametrize("seconds", [0.5, 3.0, 3.001, 10.0])
def test_a_crop_is_one_whole_segment_of_the_file_and_keyed_by_seed_epoch_and_index(
    tmp_path, variant, seconds
):
    write_tone(tmp_path / "a.wav", 0, True, True, seconds)
    extractor = MulapFeatureExtractor(variant=variant)
    audio, failures = read_tracks(extractor, [tmp_path / "a.wav"], keep=False)
    assert not failures
    assert audio.num_samples.tolist() == [round(seconds * RATE)]
    assert crop_samples(extractor) <= 3 * RATE
    crops = {}
    for seed in (0, 1):
        dataset = CropDataset(audio, np.zeros(2, np.int64), torch.zeros(2, 1), seed)
        for epoch in range(2):
            for index in range(2):
                crop = dataset[epoch, index]["input_features"].numpy()
                assert crop.shape == (96, extractor.num_frames)
                assert np.array_equal(crop, dataset[epoch, index]["input_features"])
                crops[seed, epoch, index] = crop.tobytes()
    if seconds == 10.0:
        assert len(set(crops.values())) == 8
    if seconds == 0.5:
        short, _ = sf.read(tmp_path / "a.wav", dtype="float32")
        expected = extractor.log_mel(extractor.segment(short))[0]
        assert set(crops.values()) == {expected.tobytes()}


@pytest.mark.parametrize("keep", [False, True])
def test_kept_and_decoded_segments_are_the_same_and_may_be_a_few_from_the_middle(tmp_path, keep):
    write_tone(tmp_path / "a.wav", 0, True, True, 16.0)
    audio, _ = read_tracks(MulapFeatureExtractor(), [tmp_path / "a.wav"], keep)
    everything = audio.read_segments(0)
    assert len(everything) == 5
    for count, expected in ((1, [2]), (2, [1, 2]), (3, [1, 2, 3]), (9, range(5))):
        np.testing.assert_allclose(audio.read_segments(0, count), everything[expected], atol=1e-3)


def test_scores_depend_neither_on_other_tracks_nor_on_how_many_there_are_E34(straight, sounds):
    report, _ = straight
    model = load_classifier(report.best)
    paths = [sounds / f"{index}.wav" for index in range(22)]
    audio, _ = read_tracks(extractor_of(report.best), paths, keep=True)
    everything = predict_tracks(model, SegmentDataset(audio, np.arange(22)))
    some = predict_tracks(model, SegmentDataset(audio, np.array([7, 3, 21])))
    np.testing.assert_array_equal(some, everything[[7, 3, 21]])
    assert not model.training


def test_the_validation_metric_is_the_one_of_all_tracks_whatever_the_batch_size_E34(
    sounds, tmp_path
):
    data = make_data(sounds, "tags")
    for batch_size in (5, 12):
        training = {"batch_size": batch_size, "num_epochs": 1}
        report = run(data, tmp_path / str(batch_size), training=training)
        valid = data.folds[0].valid
        paths = [data.audio_path(index) for index in range(22)]
        audio, _ = read_tracks(extractor_of(report.best), paths, keep=True)
        outputs = predict_tracks(load_classifier(report.best), SegmentDataset(audio, valid))
        expected = headline("tags", data.targets[valid], outputs[None])[0]
        assert report.valid_scores == (expected,)


@pytest.mark.parametrize(
    ("num_tracks", "expected"), [(64, 64), (65, 33), (3, 3), (129, 43), (15_244, 64)]
)
def test_batches_of_an_epoch_are_nearly_equal_and_none_is_larger_than_asked(num_tracks, expected):
    training = make_settings(training={"batch_size": 64}).training
    assert count_batch(training, num_tracks) == expected


def test_batch_sizes_are_over_all_processes(monkeypatch):
    training = make_settings(training={"batch_size": 64}).training
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert count_batch(training, 1000) == 32
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="batch_size = 64 is no multiple of 3 processes"):
        count_batch(training, 1000)


def test_dropout_touches_the_input_and_the_hidden_layer_but_no_output_E37():
    torch.manual_seed(0)
    for hidden_size in (0, 4):
        classifier = Classifier(8, hidden_size, 50, dropout=0.9).train()
        with torch.no_grad():
            classifier.output.bias.fill_(100.0)
            outputs = classifier(torch.randn(20, 8))
        assert (outputs > 50).all()
        classifier.eval()
        features = torch.randn(3, 8)
        assert torch.equal(classifier(features), classifier(features))


def test_frozen_statistics_of_numbers_come_from_the_training_split_alone(sounds, tmp_path):
    data = make_data(sounds, "numbers")
    data.targets[12:] += 1000.0
    report = run(data, tmp_path / "run", training={"num_epochs": 1})
    saved = weights(report.best)
    train = data.targets[:12]
    np.testing.assert_allclose(saved["target_mean"], train.mean(0), rtol=1e-6)
    np.testing.assert_allclose(saved["target_deviation"], train.std(0), rtol=1e-6)


@pytest.mark.parametrize("name", ["paper", "tiny"])
def test_the_configs_load_and_paper_is_the_default(name):
    loaded = load_supervised_settings(CONFIGS / f"{name}.yaml")
    if name == "paper":
        assert loaded == SupervisedSettings()


@pytest.mark.parametrize(
    ("section", "values", "match"),
    [
        ("training", {"batch_sise": 3}, "unknown setting 'training.batch_sise': did you mean"),
        ("training", {"num_epochs": 0}, "'training.num_epochs' is out of range: give 1 up"),
        ("training", {"plateau_factor": 1.0}, "give more than 0, below 1"),
        ("model", {"dropout": 1.0}, "'model.dropout' is out of range"),
        ("data", {"valid_segments": -1}, "'data.valid_segments' is out of range"),
    ],
)
def test_settings_that_cannot_be_are_one_clear_error(section, values, match):
    with pytest.raises(ValueError, match=match) as caught:
        make_settings(**{section: values})
    assert "\n" not in str(caught.value)


SCRIPT = """
import json
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, str(Path(sys.argv[1]).parent))
from mulap.training.supervised import train_supervised
from test_supervised import make_data, make_settings
data = make_data(Path(sys.argv[2]), "tags")
train_supervised(data, sys.argv[3], make_settings(**json.loads(sys.argv[4])), sys.argv[5])
"""


def begin(folder: Path, sounds: Path, output: Path, changes, num_processes: int = 1):
    (folder / "run.py").write_text(SCRIPT)
    command = [sys.executable]
    if num_processes > 1:
        command += ["-m", "torch.distributed.run", "--nproc-per-node", str(num_processes)]
        command += ["--standalone"]
    command += [folder / "run.py", __file__, sounds, output, json.dumps(changes), SMALL[0]]
    paths = os.pathsep.join([os.getcwd(), str(Path(__file__).parents[1])])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    stderr = open(folder / "stderr.txt", "a")
    return subprocess.Popen(list(map(str, command)), env=environment, stderr=stderr)


def descendants(process_id: int) -> list[int]:
    """Return a process and all below it. (The launcher's workers have sessions of their own.)"""
    found = [process_id]
    for task in Path(f"/proc/{process_id}/task").glob("*/children"):
        for child in task.read_text().split():
            found += descendants(int(child))
    return found


def kill_in_training(process: subprocess.Popen, output: Path) -> None:
    """Wait for a first whole checkpoint and a little longer, then kill -9 all processes."""
    until = time.monotonic() + 120
    while not list(output.glob("checkpoint-*/complete")):
        assert process.poll() is None, "ended before its first checkpoint"
        assert time.monotonic() < until, "no checkpoint in time"
        time.sleep(0.01)
    time.sleep(random.Random(time.time_ns()).uniform(0.0, 0.4))
    for process_id in descendants(process.pid):
        os.kill(process_id, signal.SIGKILL)
    process.wait()
    assert not (output / "best").exists(), "ended before it was killed"


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [1, 2])
def test_kill_9_and_rerun_resume_bit_exactly(sounds, tmp_path, num_processes):
    changes = {
        "model": {"dropout": 0.2},
        "training": {"num_epochs": 20, "save_every_steps": 1, "evaluate_every_epochs": 2},
    }
    process = begin(tmp_path, sounds, tmp_path / "straight", changes, num_processes)
    assert process.wait(timeout=150) == 0, (tmp_path / "stderr.txt").read_text()[-3000:]
    process = begin(tmp_path, sounds, tmp_path / "run", changes, num_processes)
    kill_in_training(process, tmp_path / "run")
    process = begin(tmp_path, sounds, tmp_path / "run", changes, num_processes)
    assert process.wait(timeout=150) == 0, (tmp_path / "stderr.txt").read_text()[-3000:]
    for name in ("best", "last"):
        assert_equal_weights(tmp_path / "straight" / name, tmp_path / "run" / name)
    first, second = (tmp_path / name / "predictions.npz" for name in ("straight", "run"))
    assert first.read_bytes() == second.read_bytes()
