"""What every training here shares: Hugging Face's Trainer with keyed order, means in the log, and
checkpoints that are whole or not there.

Gradient accumulation, mixed precision, distribution and resuming are the Trainer's. Which model is
trained, on what and by which loss, the classes built on this know.
"""

import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)

from mulap.data.dataset import KeyedSampler
from mulap.fast.front_end import fuse_front_end
from mulap.fast.sync_batch_norm import convert_sync_batch_norm
from mulap.files import atomic_path
from mulap.training.checkpoints import (
    check_checkpoint,
    checkpoint_path,
    complete_checkpoints,
    mark_complete,
    remove_old,
)
from mulap.training.pretrain.settings import TrainingSettings
from mulap.training.processes import (
    Processes,
    fail_together,
    is_lost_connection,
    joined_processes,
    leave_group_at_exit,
)
from mulap.training.supervised.settings import SupervisedTrainingSettings

AnyTraining = TrainingSettings | SupervisedTrainingSettings


def _restore_on_cpu(storage: Any, location: str) -> Any:
    return storage if location.startswith("cpu:") else None


# transformers 5.17 resumes the optimiser of several CPU processes at "cpu:0", which torch does not
# know as a place; 5.23 says "cpu". Nothing is tagged by this, only found.
torch.serialization.register_package(0, lambda storage: None, _restore_on_cpu)


def parameter_groups(
    model: nn.Module,
    pretrained: set[str],
    settings: AnyTraining,
    part_scale: Callable[[str], float] = lambda name: 1.0,
) -> list[dict[str, Any]]:
    """Part the parameters by decay and learning rate.

    Decay is for matrices and kernels: a parameter of one dimension is a bias or belongs to a
    normalisation. Pretrained weights have a learning rate of their own.

    Args:
        model: whose trainable parameters are parted.
        pretrained: names of the parameters that were not drawn at random.
        settings: rates and decay.
        part_scale: name of a parameter -> a further factor of its learning rate.

    Returns:
        Groups for the optimiser, each parameter in one of them.
    """
    groups: dict[tuple[bool, bool, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = parameter.ndim >= 2, name in pretrained, part_scale(name)
            groups[key].append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": settings.weight_decay if decays else 0.0,
            "lr": settings.learning_rate
            * scale
            * (settings.pretrained_lr_scale if is_pretrained else 1.0),
        }
        for (decays, is_pretrained, scale), parameters in sorted(groups.items())
    ]


def speed_up(model: nn.Module, settings: AnyTraining) -> None:
    """Put into a model what makes its training faster, or as one over several processes.

    Args:
        model: changed in place; its parameters and their names stay.
        settings: `fused_front_end` and `sync_batch_norm`.
    """
    fuse_front_end(model, settings.fused_front_end)
    if settings.sync_batch_norm and joined_processes().count > 1:
        convert_sync_batch_norm(model)


def check_reporting(report_to: Sequence[str]) -> None:
    """Check that the packages that a run reports to are there, before anything is decoded.

    Args:
        report_to: names as the Trainer knows them.

    Raises:
        ValueError: one is not known, or its package not installed.
    """
    if list(report_to) in (["all"], ["none"]):
        return
    # These two are not packages, or not among those that the Trainer can say of.
    there = {*get_available_reporting_integrations(), "flyte", "kubeflow"}
    for name in report_to:
        if name not in INTEGRATION_TO_CALLBACK:
            known = ", ".join(INTEGRATION_TO_CALLBACK)
            raise ValueError(f"training.report_to names {name!r}: choose of {known}")
        if name not in there:
            package = {"azure_ml": "azureml-core"}.get(name, name)
            raise ValueError(
                f"training.report_to names {name!r}, a package that is missing: install it (pip "
                f"install {package}), or take it off the list"
            )


def make_arguments(
    training: AnyTraining, run: Path, num_workers: int, **own: Any
) -> TrainingArguments:
    """Turn settings into the Trainer's arguments.

    Args:
        training: the optimisation.
        run: the run's folder.
        num_workers: processes that decode.
        **own: arguments that one kind of training has and the other has not.

    Raises:
        ValueError: bf16 where there is no accelerator.
    """
    on_cpu = not torch.cuda.is_available()
    if on_cpu and training.precision == "bf16":
        raise ValueError("training.precision = bf16 is for accelerators: set it to fp32 here")
    arguments = TrainingArguments(
        output_dir=os.fspath(run),
        num_train_epochs=training.num_epochs,
        learning_rate=training.learning_rate,
        max_grad_norm=training.max_grad_norm,
        bf16=training.precision == "bf16",
        seed=training.seed,
        use_cpu=on_cpu,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_steps=training.log_every_steps,
        logging_nan_inf_filter=False,
        report_to=training.report_to or "none",
        remove_unused_columns=False,
        dataloader_num_workers=num_workers,
        dataloader_pin_memory=not on_cpu,
        disable_tqdm=True,
        **own,
    )
    # A process uses one GPU, also where it sees several and no launcher has started it. The Trainer
    # would else spread each micro-batch over them (`nn.DataParallel`), behind the back of what
    # counts clips and steps, and of captions that belong to clips of their micro-batch.
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


class KeyedTrainer(Trainer):
    """Hugging Face's Trainer with an order by `(seed, epoch)` and means of what is counted.

    Args:
        training: the optimisation.
        pretrained: names of the parameters that were not drawn at random.
        **kwargs: of `Trainer`; its `train_dataset` takes `(epoch, index)`.
    """

    def __init__(self, training: AnyTraining, pretrained: set[str], **kwargs: Any) -> None:
        self.training = training
        self.pretrained = pretrained
        self.sampler: KeyedSampler | None = None
        self._sums: dict[str, torch.Tensor | float] = defaultdict(float)
        self._num_batches = 0
        self._wait_seconds = 0.0
        self._logged_at = time.monotonic()
        leave_group_at_exit()
        super().__init__(**kwargs)
        self.processes = joined_processes()
        if not self.processes.is_main:
            # Or every process would drop out the same places of its own micro-batches.
            entropy = np.random.SeedSequence([training.seed, self.processes.rank])
            torch.manual_seed(int(entropy.generate_state(1)[0]))

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> KeyedSampler:
        num_items = len(cast(Sized, self.train_dataset))
        self.sampler = KeyedSampler(num_items, self.args.seed)
        return self.sampler

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Make the optimiser over `parameter_groups`."""
        if self.optimizer is None:
            assert self.model is not None
            groups = parameter_groups(self.model, self.pretrained, self.training, self.part_scale)
            kind, options = cast(Any, self.optimizer_cls_and_kwargs)
            self.optimizer = kind(groups, lr=self.training.learning_rate, fused=True, **options)
        return self.optimizer

    def part_scale(self, name: str) -> float:
        """Return a further factor of the learning rate of a parameter."""
        return 1.0

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Log what `measure` finds, and tell the callbacks."""
        model = self.accelerator.unwrap_model(self.model)
        self.processes.share_buffers(model)
        metrics = {f"eval_{name}": value for name, value in self.measure(model).items()}
        self.log(dict(metrics))
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self._logged_at = time.monotonic()
        return metrics

    def measure(self, model: Any) -> dict[str, float]:
        """Return figures of a model on held-out data, by name."""
        raise NotImplementedError

    def get_batch_samples(self, epoch_iterator: Iterator, *args: Any, **kwargs: Any) -> Any:
        """As the Trainer's, with the time that the model waited for data."""
        started = time.monotonic()
        samples = super().get_batch_samples(epoch_iterator, *args, **kwargs)
        self._wait_seconds += time.monotonic() - started
        return samples

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """As the Trainer's; torch and safetensors have errors of their own for a full disk."""
        try:
            super()._save_checkpoint(*args, **kwargs)
        except (OSError, RuntimeError, SafetensorError) as error:
            if is_lost_connection(error):  # the processes wait for each other in there
                raise
            run = self.args.output_dir
            raise ValueError(
                f"{run}: a checkpoint cannot be written, {' '.join(str(error).split())}. Free some"
                " space there, or check its rights, and call it again: the last whole one is kept."
            ) from error

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of what was summed up since the last log, over all processes."""
        if "loss" in logs:
            if self._num_batches:
                device = self.args.device
                sums = [torch.as_tensor(total, device=device) for total in self._sums.values()]
                means: Any = self.accelerator.reduce(torch.stack(sums) / self._num_batches, "mean")
                logs |= dict(zip(self._sums, means.tolist(), strict=True))
                self._sums.clear()
            now = time.monotonic()
            logs["data_wait"] = self._wait_seconds / max(now - self._logged_at, 1e-9)
            self._num_batches, self._wait_seconds, self._logged_at = 0, 0.0, now
        super().log(logs, start_time)


class RunCallback(TrainerCallback):
    """Sets epochs, thins out evaluations, completes checkpoints.

    Args:
        trainer: whose sampler is told the epoch; accelerate does not in every case.
        run: the run's folder.
    """

    def __init__(self, trainer: KeyedTrainer, run: Path) -> None:
        self.trainer = trainer
        self.run = run

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell the sampler the epoch, also when it is resumed in its middle."""
        assert self.trainer.sampler is not None
        self.trainer.sampler.set_epoch(int(state.epoch or 0))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask for a checkpoint within an epoch where the settings say so."""
        # At the end of an epoch it is for `on_epoch_end`, which evaluates first: a checkpoint is
        # written once, and knows whether it is the best.
        is_end_of_epoch = (state.epoch or 0.0) % 1.0 == 0.0
        control.should_save = self._is_step_due(state) and not is_end_of_epoch

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Evaluate and save only at the epochs that the settings name, and at the last."""
        epoch = round(state.epoch or 0)
        is_due = epoch % self.trainer.training.evaluate_every_epochs == 0
        control.should_evaluate = is_due or epoch >= args.num_train_epochs
        control.should_save = control.should_evaluate or self._is_step_due(state)

    def _is_step_due(self, state: TrainerState) -> bool:
        every = self.trainer.training.save_every_steps
        return every > 0 and state.global_step % every == 0

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Mark the checkpoint whole once every process has written its part; drop old ones."""
        self.trainer.accelerator.wait_for_everyone()
        if args.process_index == 0:
            checkpoint = checkpoint_path(self.run, state.global_step)
            # The Trainer's own arguments, pickled; `settings.yaml` says the same for everybody.
            (checkpoint / "training_args.bin").unlink(missing_ok=True)
            # Before the mark: a run that is killed after its last mark logs nothing any more.
            write_log(self.run / "log.jsonl", state.log_history)
            mark_complete(checkpoint)
            remove_old(self.run, state.best_global_step)


def newest_checkpoint(run: Path, processes: Processes) -> Path | None:
    """Return the checkpoint to go on from, which is the same for all processes.

    Args:
        run: the run's folder.
        processes: that go on together.

    Returns:
        Its folder; None where there is none yet.

    Raises:
        ValueError: it is damaged, is not there for a process on another machine, or was written by
            another number of processes.
    """
    newest = next(reversed(complete_checkpoints(run)), None)
    step = newest.name if newest else "no checkpoint"
    steps = processes.gather(step)
    with fail_together(processes):
        if step != steps[0]:
            raise ValueError(
                f"{run}: holds {step} here and {steps[0]} for process 0: give every machine the "
                "same --output, on a disk that all of them see"
            )
        if newest and processes.is_main:
            check_checkpoint(newest)
            _check_writer(newest, processes)
    return newest


def _check_writer(checkpoint: Path, processes: Processes) -> None:
    """Refuse to resume with another number of processes, each of which left a state of its own.

    A step would take another share of an epoch: the Trainer would train some of it twice or leave
    some out, and set the learning rate for another number of steps.
    """
    if (checkpoint / "pytorch_model_fsdp.bin").exists():
        raise ValueError(
            f"{checkpoint}: was written under FSDP by mulap 0.1, which later versions do not "
            "support. Give another --output, or finish the run with version 0.1."
        )
    num_before = len(list(checkpoint.glob("rng_state*.pth")))
    if num_before not in (0, processes.count):
        raise ValueError(
            f"{checkpoint}: was written by {num_before} process(es), and there are "
            f"{processes.count} now: start {num_before} to go on with it, or give another --output"
        )


def write_log(path: Path, history: list[dict[str, Any]]) -> None:
    """Write the run's log, one JSON object a line."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as out:
        for record in history:
            named = {name.replace("eval_", "valid/", 1): value for name, value in record.items()}
            out.write(json.dumps(named) + "\n")
