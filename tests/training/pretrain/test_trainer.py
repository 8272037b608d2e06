"""The trainer: groups, steps and schedule, accumulation, what is logged, collapse."""

import inspect
import json
import math

import pytest
import torch
from tiny import CAPTIONS, make_items, make_model, make_tokenizer, write_corpus, write_settings
from transformers import TrainerCallback, TrainerControl, TrainerState

from mulap.data.collator import PretrainCollator
from mulap.data.manifest import read_manifest
from mulap.files import FailureLog
from mulap.model.features import MulapFeatureExtractor
from mulap.model.musicnn import MusicnnBackbone
from mulap.model.processor import MulapProcessor
from mulap.objectives.losses import compute_losses
from mulap.terminal import shown
from mulap.training.loop import RunCallback, parameter_groups
from mulap.training.pretrain import evaluate as evaluate_module
from mulap.training.pretrain import trainer as trainer_module
from mulap.training.pretrain.evaluate import EVALUATION_SEED, Evaluation, split_batch
from mulap.training.pretrain.initial import initial_model
from mulap.training.pretrain.run import make_datasets, make_trainer, pretrain
from mulap.training.pretrain.settings import load_settings
from mulap.training.pretrain.trainer import (
    check_negatives,
    count_steps,
    evaluation_collator,
    has_idle_head,
    training_arguments,
    training_collator,
)
from mulap.training.progress import COLLAPSE_SPREAD, ProgressCallback


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"), num_train=20, num_valid=4)


@pytest.fixture
def configured(tmp_path):
    def load(**changes):
        return load_settings(write_settings(tmp_path / "settings.yaml", **changes))

    return load


def make_processor() -> MulapProcessor:
    return MulapProcessor(MulapFeatureExtractor(), make_tokenizer())


def build(settings, corpus, run, callbacks=()):
    """Put together what `pretrain` trains with."""
    manifest = read_manifest(corpus)
    captions = [caption for clip in manifest.split("train") for caption in clip.captions]
    model, processor, pretrained = initial_model(settings.model, captions, settings.training.seed)
    failures = FailureLog(run / "failures.jsonl")
    datasets = make_datasets(settings, manifest, processor, failures)
    arguments = training_arguments(settings, run, len(datasets["train"]))
    trainer = make_trainer(settings, arguments, model, processor, pretrained, datasets, captions)
    trainer.add_callback(RunCallback(trainer, run))
    for callback in callbacks:
        trainer.add_callback(callback)
    return trainer


def read_log(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_every_parameter_is_in_one_group_by_decay_and_rate_x(configured):
    settings = configured(
        model={"has_contrastive_head": True},
        training={"weight_decay": 0.5, "pretrained_lr_scale": 0.1, "learning_rate": 0.01},
    )
    model, _, _ = initial_model(settings.model, ["a song"], 0)
    pretrained = {"mulap.text_encoder.embeddings.word_embeddings.weight", "mlm_head.norm.weight"}
    groups = parameter_groups(model, pretrained, settings.training)
    found = {id(p): group for group in groups for p in group["params"]}
    assert len(found) == sum(len(group["params"]) for group in groups)
    named = dict(model.named_parameters())
    assert set(found) == {id(parameter) for parameter in named.values()}
    for name, parameter in named.items():
        group = found[id(parameter)]
        is_matrix = parameter.ndim >= 2
        assert group["weight_decay"] == (0.5 if is_matrix else 0.0), name
        assert group["lr"] == pytest.approx(0.001 if name in pretrained else 0.01), name
    decayless = [name for name, p in named.items() if found[id(p)]["weight_decay"] == 0.0]
    assert all(name.endswith(("bias", "norm.weight", "Norm.weight", "bn.weight", "logit_scale"))
               for name in decayless), decayless  # fmt: skip


def test_a_part_may_have_a_learning_rate_of_its_own(configured, corpus, tmp_path):
    rates = {"backbone_lr_scale": 0.5, "text_lr_scale": 0.25, "heads_lr_scale": 3.0}
    settings = configured(
        model={"has_contrastive_head": True}, training=rates | {"pretrained_lr_scale": 0.1}
    )
    trainer = build(settings, corpus, tmp_path / "run")
    word = "mulap.text_encoder.embeddings.word_embeddings.weight"
    trainer.pretrained = {word}
    groups = trainer.create_optimizer().param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    named = {name: rates[id(p)] for name, p in trainer.model.named_parameters()}
    expected = {
        word: 0.025,
        "mulap.text_encoder.embeddings.position_embeddings.weight": 0.25,
        "mulap.audio_backbone.front_end.spectrogram_bn.weight": 0.5,
        "mulap.logit_scale": 3.0,
        "mulap.text_projection.weight": 3.0,
        "atm_head.score.weight": 3.0,
        "mulap.audio_embeddings.projection.weight": 1.0,
    }
    for name, scale in expected.items():
        assert named[name] == pytest.approx(0.001 * scale), name


def test_the_schedule_may_be_a_cosine(configured, corpus, tmp_path):
    training = {"schedule": "cosine", "num_epochs": 2, "warmup_share": 0.0}
    trainer = build(configured(training=training), corpus, tmp_path / "run")
    trainer.train()
    rates = [r["learning_rate"] for r in trainer.state.log_history if "learning_rate" in r]
    expected = [0.0005 * (1 + math.cos(math.pi * step / 10)) for step in range(10)]
    assert rates == pytest.approx(expected)


def test_micro_batches_of_a_step_share_their_negatives(configured, corpus, tmp_path, monkeypatch):
    shapes = []

    def look(outputs, *args):
        shapes.append(tuple(outputs.logits_per_audio.shape))
        return compute_losses(outputs, *args)

    monkeypatch.setattr(trainer_module, "compute_losses", look)
    settings = configured(
        model={"has_contrastive_head": True, "text_pooling": "mean", "feature_norm": "batch"},
        objectives={"contrastive": 1.0},
        training={"batch_size": 8, "micro_batch_size": 4, "num_epochs": 1},
    )
    trainer = build(settings, corpus, tmp_path / "run")
    trainer.model.mulap.logit_scale.data.fill_(9.0)
    trainer.train()
    # Of 20 clips: two steps of two micro-batches, and one of the last micro-batch alone.
    assert shapes == [(8, 8)] * 4 + [(4, 4)]
    assert trainer.model.mulap.logit_scale.item() == pytest.approx(math.log(100), abs=0.01)


def test_a_frozen_parameter_is_in_no_group(configured):
    settings = configured()
    model, _, _ = initial_model(settings.model, ["a song"], 0)
    model.mlm_head.transform.weight.requires_grad_(False)
    groups = parameter_groups(model, set(), settings.training)
    assert not any(p is model.mlm_head.transform.weight for g in groups for p in g["params"])


def test_weight_decay_is_really_used_a_step_without_gradient_shrinks_matrices_only_E26(
    configured, corpus, tmp_path
):
    settings = configured(training={"weight_decay": 0.1, "learning_rate": 0.01})
    trainer = build(settings, corpus, tmp_path / "run")
    optimizer = trainer.create_optimizer()
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    for parameter in trainer.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in trainer.model.named_parameters():
        share = 1 - 0.01 * 0.1 if parameter.ndim >= 2 else 1.0
        torch.testing.assert_close(parameter.detach(), share * before[name], atol=1e-7, rtol=1e-6)


def test_the_optimiser_that_training_uses_is_the_one_with_the_groups_E26(
    configured, corpus, tmp_path
):
    seen = []

    class Look(TrainerCallback):
        def on_train_begin(self, args, state, control, optimizer=None, **kwargs):
            seen.extend((g["weight_decay"], len(g["params"])) for g in optimizer.param_groups)

    settings = configured(training={"weight_decay": 0.3, "num_epochs": 1, "adam_beta2": 0.97})
    trainer = build(settings, corpus, tmp_path / "run", [Look()])
    trainer.train()
    assert {decay for decay, _ in seen} == {0.3, 0.0}
    assert sum(num for _, num in seen) == len(list(trainer.model.parameters()))
    assert trainer.optimizer.param_groups[0]["betas"] == (0.9, 0.97)


@pytest.mark.parametrize(
    ("batch", "micro", "clips", "expected"),
    [(4, 4, 20, (1, 10)), (8, 4, 20, (2, 6)), (16, 2, 20, (8, 4)), (4, 4, 23, (1, 10))],
)
def test_steps_are_counted_with_accumulation_and_left_over_clips(
    configured, batch, micro, clips, expected
):
    training = configured(training={"batch_size": batch, "micro_batch_size": micro}).training
    assert count_steps(training, clips) == expected


def test_batch_sizes_are_over_all_processes(configured, monkeypatch):
    training = configured(training={"batch_size": 8, "micro_batch_size": 4}).training
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert count_steps(training, 20) == (1, 4)
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match=r"batch_size = 8 is no multiple of 4 process"):
        count_steps(training, 20)


def test_batch_sizes_that_do_not_divide_are_one_clear_error(configured):
    training = configured(training={"batch_size": 6}).training
    with pytest.raises(ValueError, match="batch_size = 6 is no multiple of 1 .* = 4: change one"):
        count_steps(training, 20)


def test_a_corpus_smaller_than_a_batch_does_not_succeed_with_no_step_E31(configured, tmp_path):
    corpus = write_corpus(tmp_path / "toy", num_train=3, num_valid=2)
    with pytest.raises(ValueError, match="3 clips, fewer than the 4 .*: lower training.micro_batc"):
        pretrain(configured(), corpus, tmp_path / "run")


@pytest.mark.parametrize(
    ("batch", "num_workers", "expected"),
    [(64, 2, 8), (64, 3, 6), (64, 0, None), (4, 2, 2), (12, 2, 2)],
)
def test_the_workers_hold_a_whole_step_ahead(configured, tmp_path, batch, num_workers, expected):
    data = {"cache_features": False, "num_workers": num_workers}
    settings = configured(data=data, training={"batch_size": batch})
    assert training_arguments(settings, tmp_path, 80).dataloader_prefetch_factor == expected


@pytest.mark.parametrize(("is_cached", "expected"), [(False, 2), (True, 0)])
def test_validation_decodes_by_as_many_workers_as_training(
    configured, corpus, tmp_path, monkeypatch, is_cached, expected
):
    told = {}

    def evaluate(*given, **named):
        told.update(inspect.signature(evaluate_module.evaluate).bind(*given, **named).arguments)
        return Evaluation({"loss": 1.0})

    monkeypatch.setattr(trainer_module, "evaluate", evaluate)
    settings = configured(data={"cache_features": is_cached, "num_workers": 2})
    build(settings, corpus, tmp_path / "run").evaluate()
    assert told["num_workers"] == expected


def test_bf16_without_an_accelerator_is_one_clear_error(configured, tmp_path):
    with pytest.raises(ValueError, match="bf16 is for accelerators: set it to fp32"):
        training_arguments(configured(training={"precision": "bf16"}), tmp_path, 20)


def test_processes_do_not_wait_for_the_gradients_of_heads_without_weight(configured):
    assert not has_idle_head(configured())
    assert has_idle_head(configured(objectives={"atm": 0.0}))
    assert has_idle_head(configured(objectives={"mlm": 0.0}))
    with_head = {"model": {"has_contrastive_head": True}}
    assert has_idle_head(configured(**with_head))
    assert not has_idle_head(configured(**with_head, objectives={"contrastive": 1.0}))


@pytest.mark.parametrize(("batch", "num_steps"), [(4, 10), (8, 6)])
def test_the_schedule_warms_up_peaks_and_ends_at_zero_with_the_last_step_E28(
    configured, corpus, tmp_path, batch, num_steps
):
    settings = configured(
        training={"batch_size": batch, "warmup_share": 0.2, "learning_rate": 0.01}
    )
    trainer = build(settings, corpus, tmp_path / "run")
    num_updates = 0
    step = trainer.create_optimizer().step

    def counted(*args, **kwargs):
        nonlocal num_updates
        num_updates += 1
        return step(*args, **kwargs)

    trainer.optimizer.step = counted
    trainer.train()
    # One update a batch of all micro-batches, not one a micro-batch.
    assert trainer.state.global_step == num_updates == num_steps
    rates = [r["learning_rate"] for r in trainer.state.log_history if "learning_rate" in r]
    warmup = round(0.2 * num_steps)
    expected = [
        0.01 * min(step / warmup, (num_steps - step) / (num_steps - warmup))
        for step in range(num_steps)
    ]
    assert rates == pytest.approx(expected)
    assert trainer.lr_scheduler.get_last_lr() == pytest.approx([0.0] * 2)
    assert min(rates[1:]) > 0


class Gradients(TrainerCallback):
    """Keeps the gradients of the first step."""

    def __init__(self) -> None:
        self.gradients = {}

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if not self.gradients:
            named = model.named_parameters()
            self.gradients = {name: p.grad.clone() for name, p in named if p.grad is not None}


def test_a_batch_in_two_micro_batches_has_the_mean_of_their_gradients_E28(
    configured, corpus, tmp_path
):
    settings = configured(
        model={"dropout": 0.0},
        training={"batch_size": 8, "max_grad_norm": 0.0, "num_epochs": 1},
    )
    gradients = Gradients()
    trainer = build(settings, corpus, tmp_path / "run", [gradients])
    untrained = build(settings, corpus, tmp_path / "other")
    trainer.train()
    batches = iter(untrained.get_train_dataloader())
    for _ in range(2):
        untrained.model.train()
        (untrained.compute_loss(untrained.model, next(batches)) / 2).backward()
    for name, parameter in untrained.model.named_parameters():
        torch.testing.assert_close(
            gradients.gradients[name], parameter.grad, atol=1e-6, rtol=1e-4, msg=name
        )


def test_losses_are_logged_by_name_as_means_and_not_as_sums_E25(configured, corpus, tmp_path):
    logs = {}
    for every in (1, 5):
        settings = configured(training={"log_every_steps": every})
        pretrain(settings, corpus, tmp_path / str(every))
        logs[every] = [r for r in read_log(tmp_path / str(every)) if "loss/mlm" in r]
    assert (len(logs[1]), len(logs[5])) == (10, 2)
    for index, record in enumerate(logs[5]):
        steps = logs[1][5 * index : 5 * index + 5]
        for name in ("loss", "loss/mlm", "loss/mam", "loss/atm", "atm/accuracy", "feature_spread"):
            mean = sum(step[name] for step in steps) / 5
            assert record[name] == pytest.approx(mean, rel=1e-4), name
        weighted = 0.1 * record["loss/mlm"] + 4 * record["loss/mam"] + 2 * record["loss/atm"]
        assert record["loss"] == pytest.approx(weighted, rel=1e-4)


def test_losses_under_accumulation_are_means_too_E28(configured, corpus, tmp_path):
    settings = configured(training={"batch_size": 8})
    pretrain(settings, corpus, tmp_path / "run")
    records = [r for r in read_log(tmp_path / "run") if "loss/mlm" in r]
    assert len(records) == 6
    for record in records:
        weighted = 0.1 * record["loss/mlm"] + 4 * record["loss/mam"] + 2 * record["loss/atm"]
        assert record["loss"] == pytest.approx(weighted, rel=1e-4)


def test_validation_hides_as_training_does_but_always_the_same(configured):
    masking = {"mlm_probability": 0.3, "mam_probability": 0.2, "mam_min_masked": 1}
    settings = configured(
        masking=masking, data={"max_tokens": 12}, training={"seed": EVALUATION_SEED + 7}
    )
    ours = evaluation_collator(settings, make_processor())
    assert (ours.seed, ours.max_tokens, ours.atm_probability) == (EVALUATION_SEED, 12, 0.5)
    for name, value in masking.items():
        assert getattr(ours, name) == value


def test_without_the_matching_objective_no_caption_is_swapped_E10(configured, corpus, tmp_path):
    trainer = build(configured(objectives={"atm": 0.0}), corpus, tmp_path / "run")
    assert trainer.data_collator.atm_probability == 0.0
    collator = evaluation_collator(trainer.settings, trainer.processor)
    assert collator.atm_probability == 0.0
    for batch in trainer.get_train_dataloader():
        assert batch["atm_labels"].all()
    trainer.train()
    log = [record for record in trainer.state.log_history if "loss/mlm" in record]
    assert log
    assert not any("loss/atm" in record for record in log)


@pytest.mark.parametrize("scored", ["mlm", "mam", "contrastive"])
def test_only_what_is_scored_is_masked(configured, scored):
    weights = {name: float(name == scored) for name in ("mlm", "mam", "atm", "contrastive")}
    settings = configured(objectives=weights, model={"has_contrastive_head": True})
    for collator in (
        training_collator(settings, make_processor(), CAPTIONS),
        evaluation_collator(settings, make_processor()),
    ):
        batch = collator(make_items(40))
        assert (batch["mlm_labels"] != -100).any() == (scored == "mlm")
        assert batch["is_masked_segment"].any() == (scored == "mam")
        assert batch["atm_labels"].all()
        assert "whole_input_ids" not in batch  # nothing is masked that contrastive would see


def test_the_contrastive_term_sees_captions_without_masks(configured):
    settings = configured(
        objectives={"contrastive": 1.0},
        model={"has_contrastive_head": True},
        masking={"mlm_probability": 0.9},
    )
    collator = training_collator(settings, make_processor(), CAPTIONS)
    model = make_model(has_contrastive_head=True)
    inputs, targets = split_batch(collator(make_items(6)))
    with torch.no_grad():
        outputs = model(**inputs)
        expected = model.mulap.get_text_features(
            inputs["whole_input_ids"], inputs["attention_mask"]
        )
        masked = model.mulap.get_text_features(inputs["input_ids"], inputs["attention_mask"])
        as_before = model(**{k: v for k, v in inputs.items() if k != "whole_input_ids"})
    torch.testing.assert_close(outputs.text_embeds, expected)
    assert (outputs.text_embeds - masked).abs().max() > 1e-3
    scale = model.mulap.logit_scale.exp()
    torch.testing.assert_close(outputs.logits_per_text, scale * expected @ outputs.audio_embeds.T)
    for name in ("mlm_logits", "atm_logits", "mam_predictions", "text_hidden_states"):
        torch.testing.assert_close(outputs[name], as_before[name])
    assert targets.caption_hash.shape == (6,)


@pytest.mark.parametrize(("variant", "reference"), [("port", "batch"), ("port", "segment"),
                                                    ("original", "batch")])  # fmt: skip
def test_a_batch_has_one_floor_where_the_model_asks_for_it(configured, variant, reference):
    extractor = MulapFeatureExtractor(variant, db_reference=reference)
    processor = MulapProcessor(extractor, make_tokenizer())
    collator = training_collator(configured(), processor, CAPTIONS)
    assert collator.is_floored_together == (variant == "port" and reference == "batch")


def test_a_run_can_be_chosen_by_retrieval_where_more_or_less_is_better(configured, tmp_path):
    for name, is_more in (("R@10", True), ("median_rank", False)):
        settings = configured(training={"best_by": f"retrieval/atm/{name}"})
        arguments = training_arguments(settings, tmp_path / "run", 20)
        assert arguments.metric_for_best_model == f"eval_retrieval/atm/{name}"
        assert arguments.greater_is_better is is_more


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({}, "objectives.atm has a weight, and no other caption of the micro-batch"),
        (
            {"objectives": {"atm": 0.0, "contrastive": 1.0, "whole_batch": False}},
            "objectives.contrastive has a weight, and no other caption of the micro-batch",
        ),
        ({"objectives": {"atm": 0.0, "contrastive": 1.0}}, None),  # of other micro-batches
        ({"masking": {"atm_negatives": "dataset"}}, None),
        ({"objectives": {"atm": 0.0}}, None),
    ],
)
def test_a_micro_batch_of_one_has_no_negatives(configured, changes, match):
    settings = configured(
        training={"micro_batch_size": 1}, model={"has_contrastive_head": True}, **changes
    )
    if match is None:
        check_negatives(settings)
        return
    with pytest.raises(ValueError, match=match):
        check_negatives(settings)


def test_captions_of_other_processes_are_negatives_too(configured, monkeypatch):
    weights = {"atm": 0.0, "contrastive": 1.0, "whole_batch": False}
    model = {"has_contrastive_head": True}
    monkeypatch.setenv("WORLD_SIZE", "4")
    check_negatives(configured(training={"micro_batch_size": 1}, model=model, objectives=weights))
    apart = weights | {"over_processes": False}
    settings = configured(training={"micro_batch_size": 1}, model=model, objectives=apart)
    with pytest.raises(ValueError, match="objectives.contrastive has a weight"):
        check_negatives(settings)


def test_the_authors_negatives_reach_the_collator(configured, corpus, tmp_path):
    settings = configured(masking={"atm_negatives": "dataset"})
    collator = build(settings, corpus, tmp_path / "run").data_collator
    assert collator.atm_negatives == "dataset"
    assert len(collator.caption_pool) == 20


def test_every_epoch_has_an_order_and_masks_of_its_own(configured, corpus, tmp_path):
    seen = []

    class Keys(PretrainCollator):
        def __call__(self, items):
            seen.append([item.key for item in items])
            return super().__call__(items)

    settings = configured()
    trainer = build(settings, corpus, tmp_path / "run")
    ours = trainer.data_collator
    trainer.data_collator = Keys(ours.tokenizer, seed=ours.seed)
    trainer.train()
    epochs = [[key for batch in seen[5 * e : 5 * e + 5] for key in batch] for e in range(2)]
    for epoch, keys in enumerate(epochs):
        assert {key[0] for key in keys} == {epoch}
        assert sorted(key[1] for key in keys) == list(range(20))
    assert [key[1] for key in epochs[0]] != [key[1] for key in epochs[1]]


@pytest.mark.parametrize(("epoch", "expected"), [(None, 0), (0.0, 0), (2.0, 2), (2.4, 2)])
def test_the_sampler_is_told_the_epoch_also_in_the_middle_of_one(
    configured, corpus, tmp_path, epoch, expected
):
    # In one process transformers does so itself; in several it does not.
    trainer = build(configured(), corpus, tmp_path / "run")
    trainer.get_train_dataloader()
    state = TrainerState()
    state.epoch = epoch
    RunCallback(trainer, tmp_path).on_epoch_begin(trainer.args, state, TrainerControl())
    assert trainer.sampler.epoch == expected


def test_a_collapsing_backbone_is_reported_in_words_and_once(
    configured, corpus, tmp_path, monkeypatch, capsys
):
    forward = MusicnnBackbone.forward
    monkeypatch.setattr(MusicnnBackbone, "forward", lambda self, x: 0 * forward(self, x) + 1)
    pretrain(configured(), corpus, tmp_path / "run")
    text = capsys.readouterr().err
    assert text.count("the backbone collapses") == 1
    assert "lower objectives.mam" in text
    assert all(r["feature_spread"] < 1e-3 for r in read_log(tmp_path / "run") if "loss/mam" in r)


def test_a_healthy_backbone_is_not_reported(configured, corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("mulap.terminal.FIRST_LINE_SECONDS", 0.0)
    monkeypatch.setattr("mulap.terminal.LINE_SECONDS", 0.0)
    with shown():
        pretrain(configured(training={"num_epochs": 1}), corpus, tmp_path / "run")
    text = capsys.readouterr().err
    assert "collapse" not in text
    for word in ("mlm", "mam", "atm", "pairs/s", "left", "data wait", "retrieval by the atm head"):
        assert word in text
    records = [r for r in read_log(tmp_path / "run") if "feature_spread" in r]
    assert all(r["feature_spread"] > COLLAPSE_SPREAD for r in records)


def test_each_checkpoint_is_written_once_and_after_the_evaluation(configured, corpus, tmp_path):
    saved = []

    class Saves(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            evaluated = [r["step"] for r in state.log_history if "eval_loss" in r]
            saved.append((state.global_step, state.global_step in evaluated))

    # Five steps an epoch, so that 5 and 10 are due twice.
    settings = configured(training={"save_every_steps": 1})
    build(settings, corpus, tmp_path / "run", [Saves()]).train()
    expected = [(step, step in (5, 10)) for step in range(1, 11)]
    assert saved == expected


def test_evaluations_can_be_thinned_out_but_the_last_epoch_has_one(configured, corpus, tmp_path):
    settings = configured(training={"num_epochs": 5, "evaluate_every_epochs": 2})
    trainer = build(settings, corpus, tmp_path / "run")
    trainer.train()
    evaluated = [r["epoch"] for r in trainer.state.log_history if "eval_loss" in r]
    assert evaluated == [2, 4, 5]
    assert (tmp_path / "run" / "checkpoint-25" / "complete").is_file()
    assert len(list((tmp_path / "run").glob("checkpoint-*"))) <= 2


def test_the_progress_callback_only_looks():
    callback = ProgressCallback(4)
    before = {"loss": 1.0, "feature_spread": 0.0}
    logs = dict(before)
    state, control = TrainerState(), TrainerControl()
    state.max_steps = 2
    callback.on_log(None, state, control, logs)  # type: ignore[arg-type]
    assert logs == before
    assert callback.has_warned
