"""trl's SFTTrainer (transformers' Seq2SeqTrainer for encoder-decoders), stepping through a plan with the fast loss."""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from slmbench.console import advanced, say
from slmbench.errors import SlmbenchError
from slmbench.interrupts import Interrupt
from slmbench.schema import OptimSpec
from slmbench.training._curves import Curves, line
from slmbench.training._forward import collate, row_losses
from slmbench.training._kept import KeptOptimizer, restore_kept, restore_kept_random
from slmbench.training._measured import PeakMemory
from slmbench.training._methods import loraplus_optimizer
from slmbench.training._mixing import Plan
from slmbench.training._parallel import scored_together
from slmbench.training._saving import (
    restore_progress,
    restore_random,
    restore_weights,
    save_progress,
    seconds_of,
    stopped,
)
from slmbench.training._team import Team
from slmbench.values import JsonObject, Model, Tensor, Tokenizer

if TYPE_CHECKING:
    from datasets import Dataset as HubDataset
    from torch.optim import Optimizer
    from transformers import Trainer, TrainerCallback
    from transformers import TrainerControl as Control
    from transformers import TrainerState as State
    from transformers import TrainingArguments as Arguments


@frozen(eq=False)
class TrainerJob:
    """What a trainer does, beside the settings that transformers has a name for.

    batches: this process' rows of each of the plan's micro-batches.
    names: the tasks, in the order of their ids. validation: task -> its rows kept aside, as fed. flat: whether rows lie
    end to end. autocast: the dtype of products where it isn't the weights' own. place: where checkpoints are.
    checkpoint_steps, checkpoint_s: one is made when either has passed; interrupted: when it is asked to end, too.
    kept: the optimiser's state that an earlier training left, which this one goes on with.
    """

    plan: Plan
    batches: Sequence[Sequence[int]]
    optim: OptimSpec
    names: Sequence[str]
    architecture: str
    pad_id: int
    flat: bool
    autocast: str | None
    place: str
    identity: str
    keep: int
    checkpoint_steps: int
    checkpoint_s: float
    log_steps: int
    validation: Mapping[str, Sequence[Mapping[str, Any]]] = field(factory=dict)
    validation_steps: int = 0
    lr_ratio: float | None = None
    kept: KeptOptimizer | None = None
    interrupted: Interrupt = field(factory=Interrupt)
    memory: PeakMemory = field(factory=PeakMemory)
    team: Team = field(factory=Team)

    def collate(self, rows: Sequence[JsonObject]) -> JsonObject:
        return collate(rows, self.pad_id, self.architecture, flat=self.flat)


def build_trainer(
    job: TrainerJob, model: Model, tokenizer: Tokenizer, dataset: HubDataset, *, seed: int, fp16: bool, folder: str
) -> Trainer:
    """A trainer, with `curves` and `resumed_from` (steps), whose `train(resume_from_checkpoint=folder)` does the job.

    model: as `trainable_model` made it. dataset: the rows as fed; the plan's indices are of it. fp16: gradients are
    scaled, for float16 on a GPU.
    """
    import torch
    import transformers
    import trl

    optim = job.optim
    options: dict[str, Any] = {
        "output_dir": folder,
        "per_device_train_batch_size": optim.batch,
        "gradient_accumulation_steps": optim.accumulate,
        "learning_rate": optim.lr,
        "lr_scheduler_type": "constant" if optim.schedule == "plateau" else optim.schedule,
        "warmup_steps": min(optim.warmup_steps, job.plan.steps),
        "max_steps": job.plan.steps,
        "optim": optim.optimizer,
        "weight_decay": optim.weight_decay,
        "max_grad_norm": optim.clip_norm,
        "seed": seed,
        "data_seed": seed,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": False,  # Autocast is entered here, around the loss: the model's outer forward is not gone through.
        "fp16": fp16,
        "gradient_checkpointing": optim.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if optim.gradient_checkpointing else None,
        "remove_unused_columns": False,
        "logging_steps": job.log_steps,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": job.checkpoint_steps,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "ddp_backend": torch.distributed.get_backend() if job.team.size > 1 else None,
        "ddp_find_unused_parameters": True,  # Of a mixture of experts some may have had no token.
    }
    with warnings.catch_warnings():
        # transformers has a newer name for gradient_checkpointing, which trl doesn't use yet.
        warnings.simplefilter("ignore", FutureWarning)
        if job.architecture == "seq2seq":
            made = _subclass(transformers.Seq2SeqTrainer)
            arguments: Any = transformers.Seq2SeqTrainingArguments(**options)
        else:
            made = _subclass(trl.SFTTrainer)
            # Rows come cut and counted; trl would cut silently.
            arguments = trl.SFTConfig(**options, max_length=None, dataset_kwargs={"skip_prepare_dataset": True})
    arguments._n_gpu = min(1, arguments.n_gpu)  # Of several GPUs transformers would use all, splitting our flat rows.
    with _left_as_it_is(model):
        trainer = made(
            model=model,
            args=arguments,
            train_dataset=dataset,
            data_collator=job.collate,
            processing_class=tokenizer,
        )
    if (trainer.args.world_size, trainer.args.process_index) != (job.team.size, job.team.rank):
        raise SlmbenchError(
            f"the trainer sees {trainer.args.world_size} processes, of which this is {trainer.args.process_index}; "
            f"they are {job.team.size}, and this is {job.team.rank}"
        )
    trainer.job = job
    trainer.curves = Curves(job.names)
    trainer.resumed_from = []
    trainer.model_accepts_loss_kwargs = True  # So that no version of transformers divides the loss once more.
    trainer.remove_callback(transformers.PrinterCallback)  # It writes to stdout, which is for data.
    trainer.add_callback(_watch(trainer))
    return trainer


@contextlib.contextmanager
def _left_as_it_is(model: Model) -> Iterator[None]:
    """trl puts a slower head into the model, and turns adapters on a packed base to bfloat16: both are undone."""
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    forward = vars(core).get("forward")
    trained = [(parameter, parameter.data) for parameter in model.parameters() if parameter.requires_grad]
    yield
    vars(core).pop("forward", None)
    if forward is not None:
        core.forward = forward
    for parameter, data in trained:
        parameter.data = data.to(parameter.device)


def _subclass(base: Model) -> type[Trainer]:
    import torch

    class PlanTrainer(base):
        optimizer: Any
        lr_scheduler: Any
        job: TrainerJob
        curves: Curves
        loss_is_scaled_for_ga = True
        seconds_before = 0.0
        started = 0.0

        def _send_telemetry(self) -> None:
            pass

        def get_train_dataloader(self) -> object:
            batches = [list(batch) for batch in self.job.batches]
            return torch.utils.data.DataLoader(self.train_dataset, batch_sampler=batches, collate_fn=self.job.collate)

        def _get_num_items_in_batch(self, batch_samples: list[JsonObject], device: object) -> object:
            own = sum((batch["labels"] != -100).sum() for batch in batch_samples)
            return torch.tensor(sum(self.job.team.gathered(int(own)))).to(device)

        def _wrap_model(self, model: Model, *args: object, **kwargs: object) -> Model:
            return model if self.job.team.size == 1 else scored_together(model, self.accelerator)

        def compute_loss_context_manager(self) -> object:
            if self.job.autocast is None:
                return contextlib.nullcontext()
            return torch.autocast(self.args.device.type, dtype=getattr(torch, self.job.autocast))

        def compute_loss(
            self, model: Model, inputs: JsonObject, return_outputs: bool = False, num_items_in_batch: Tensor = None
        ) -> object:
            if self.job.team.size == 1:
                losses = row_losses(model, inputs, num_items_in_batch)
                loss, sums, tokens = losses.loss, losses.sums, losses.tokens
            else:
                loss, sums, tokens = model(inputs, num_items_in_batch)
                loss = loss * self.job.team.size  # Of the gradients their mean over the processes is taken.
            self.made.append((inputs["task_id"], sums, tokens))
            return (loss, None) if return_outputs else loss

        def _get_grad_norm(self, model: Model, grad_norm: object = None) -> object:
            self.grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)
            return self.grad_norm

        def floating_point_ops(self, inputs: object) -> int:
            return 0  # It would count the model's parameters anew in every step.

        def create_optimizer(self, model: Model = None) -> object:
            if self.optimizer is None and self.job.lr_ratio is not None:
                self.optimizer = loraplus_optimizer(model or self.model, self.args, self.job.lr_ratio)
            return super().create_optimizer(*(() if model is None else (model,)))

        def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> object:
            optim = self.job.optim
            if self.lr_scheduler is None and optim.schedule == "plateau":
                self.lr_scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
                    optimizer or self.optimizer, factor=optim.plateau_factor, patience=optim.plateau_patience
                )
                self.full_rates = [group["lr"] for group in self.optimizer.param_groups]
                self._created_lr_scheduler = True
            return super().create_scheduler(num_training_steps, optimizer)

        def _init_training_state(self, max_steps: int, *args: object, **kwargs: object) -> object:
            made = super()._init_training_state(max_steps, *args, **kwargs)
            # How often is logged and saved may have changed since the checkpoint.
            self.state.compute_steps(self.args, max_steps)
            return made

        def evaluate(self, *args: object, **kwargs: object) -> dict[str, float]:
            return _validate(self)

        def _evaluate(self, *args: object, **kwargs: object) -> dict[str, float]:
            metrics = self.evaluate()
            # What a rate on its way up reaches says nothing of a plateau.
            if self.job.optim.schedule == "plateau" and self.state.global_step > self.args.warmup_steps:
                self.lr_scheduler.step(metrics["eval_loss"])
            return metrics

        def _save_checkpoint(self, model: Model, trial: object) -> None:
            save_progress(self)

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Model = None) -> None:
            restore_weights(self, resume_from_checkpoint)

        def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
            if checkpoint is not None:
                restore_progress(self, checkpoint)

        def _load_rng_state(self, checkpoint: str | None) -> None:
            if checkpoint is not None:
                restore_random(self, checkpoint)

    return PlanTrainer


def _watch(trainer: Trainer) -> TrainerCallback:
    """The callback that takes each step's losses before the optimiser does, and says when to log and to validate."""
    import transformers

    job = trainer.job
    trainer.made, trainer.grad_norm = [], None

    class Watch(transformers.TrainerCallback):
        first = True

        def on_train_begin(self, args: Arguments, state: State, control: Control, **_: object) -> None:
            trainer.started = trainer.saved = time.perf_counter()
            if job.kept is not None and state.global_step == 0:
                restore_kept(job.kept, trainer.model, trainer.optimizer)
            if job.team.rank:  # Until here all had drawn the same; what they drop has to differ.
                transformers.set_seed((args.seed + job.team.rank * 1_000_003) % 2**32)

        def on_step_begin(self, args: Arguments, state: State, control: Control, **_: object) -> None:
            if job.kept is not None and state.global_step == 0:
                restore_kept_random(job.kept, job.team.rank)
            if job.optim.schedule == "plateau" and state.global_step <= args.warmup_steps:
                part = state.global_step / args.warmup_steps if args.warmup_steps else 1.0
                for group, rate in zip(trainer.optimizer.param_groups, trainer.full_rates, strict=True):
                    group["lr"] = rate * part

        def on_pre_optimizer_step(self, args: Arguments, state: State, control: Control, **_: object) -> None:
            _take_losses(trainer, state.global_step + 1)

        def on_step_end(self, args: Arguments, state: State, control: Control, **_: object) -> None:
            if self.first:
                self.first = False
                job.memory.note()
            last = state.global_step >= state.max_steps
            control.should_log |= last
            if job.validation and (last or state.global_step % job.validation_steps == 0):
                control.should_evaluate = True
            advanced("steps")
            due = time.perf_counter() - trainer.saved >= job.checkpoint_s
            asked = job.team.gathered((due, bool(job.interrupted)))
            control.should_save |= asked[0][0]
            if any(end for _, end in asked) and not last:
                control.should_save = control.should_training_stop = True

        def on_log(
            self, args: Arguments, state: State, control: Control, logs: JsonObject | None = None, **_: object
        ) -> None:
            if logs and "loss" in logs:
                norm = logs.get("grad_norm")
                norm = None if norm is None or not math.isfinite(norm) else float(norm)
                rate = float(logs["learning_rate"])
                point = trainer.curves.log(state.global_step, rate, norm, seconds_of(trainer))
                # For callbacks after this one, as trackers': transformers knows of one task.
                logs |= {f"{name}_loss": part["loss"] for name, part in point["tasks"].items()}
                say(line(point, job.plan.steps))

    return Watch()


def begin_with_nothing(trainer: Trainer) -> None:
    """What a training of no steps has of optimiser and draws: those that it would begin with."""
    trainer.create_optimizer()
    if trainer.job.kept is not None:
        restore_kept(trainer.job.kept, trainer.model, trainer.optimizer)
        restore_kept_random(trainer.job.kept, trainer.job.team.rank)


def _take_losses(trainer: Trainer, step: int) -> None:
    """Gives a step's losses to the curves. Raises SlmbenchError if they, or the gradient, are NaN or infinite."""
    made = [tuple(part.tolist() for part in parts) for parts in trainer.made]
    trainer.made = []
    made = [parts for of_process in trainer.job.team.gathered(made) for parts in of_process]
    for ids, sums, tokens in made:
        if not all(map(math.isfinite, sums)):
            bad = next(value for value in sums if not math.isfinite(value))
            task = trainer.curves.worst_task(ids, sums)
            raise SlmbenchError(stopped(trainer.job, step, f"the loss became {bad} in rows of task {task!r}"))
        trainer.curves.add(ids, sums, tokens)
    norm = math.nan if trainer.grad_norm is None else float(trainer.grad_norm)
    # With scaled float16 gradients an overflow is met by leaving the step out.
    if not math.isfinite(norm) and not trainer.args.fp16:
        tasks = ", ".join(sorted({trainer.job.names[i] for ids, _, _ in made for i in ids}))
        raise SlmbenchError(stopped(trainer.job, step, f"the gradient became {norm} on rows of {tasks}"))
    trainer.curves.close_step(step)


def _validate(trainer: Trainer) -> dict[str, float]:
    """The loss on the rows kept aside, by task, into the curves; {"eval_loss", "eval_<task>_loss"}."""
    import torch

    job, model = trainer.job, trainer.model
    step, by_task = trainer.state.global_step, {}
    model.eval()
    with torch.no_grad(), trainer.compute_loss_context_manager():
        for name, rows in job.validation.items():
            total, tokens = 0.0, 0
            for start in range(job.team.rank * job.optim.batch, len(rows), job.team.size * job.optim.batch):
                batch = trainer._prepare_inputs(job.collate(rows[start : start + job.optim.batch]))
                losses = row_losses(model, batch)
                total += float(losses.sums.sum())
                tokens += int(losses.tokens.sum())
            parts = job.team.gathered((total, tokens))
            total, tokens = sum(part[0] for part in parts), sum(part[1] for part in parts)
            if not math.isfinite(total):
                what = f"the validation loss of task {name!r} became {total}"
                raise SlmbenchError(stopped(job, step, what, taken=True))
            by_task[name] = (total, tokens)
    point = trainer.curves.add_validation(step, by_task)
    metrics = {"eval_loss": point["loss"]} | {f"eval_{name}_loss": p["loss"] for name, p in point["tasks"].items()}
    trainer.log(dict(metrics))
    say(line(point, job.plan.steps))
    trainer.control = trainer.callback_handler.on_evaluate(trainer.args, trainer.state, trainer.control, metrics)
    model.train()
    return metrics
