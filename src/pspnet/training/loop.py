"""The training loop: batch, step, log, validate, save, stop asked? This is the place to read.

`step.py` is what happens to a batch, `state.py` what is saved. The loop goes from any saved state to the end of the run with
the same numbers: which samples form batch t, and every random number in it, are functions of (seed, t).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pspnet.config.train import TrainConfig
from pspnet.errors import CheckpointError
from pspnet.losses import build_loss
from pspnet.nn.pspnet import PSPNet
from pspnet.training.batches import run_batches
from pspnet.training.callbacks import Callback
from pspnet.training.checkpoint import StateSaver, read_state
from pspnet.training.distributed import agree, share_batch_norm
from pspnet.training.initial_weights import first_model, random_model
from pspnet.training.process import Interruption, interrupted
from pspnet.training.reporting import Reporter
from pspnet.training.resolve import DataSets
from pspnet.training.results import Results
from pspnet.training.run_folder import RunFolder
from pspnet.training.state import BestScore, TrainingState
from pspnet.training.step import TrainingStep
from pspnet.training.validation import Validator
from pspnet.weights.checkpoint import load_checkpoint

ASK_EVERY = 8  # updates between two questions to the other GPUs: each makes this one wait for its own queue


class TrainingLoop:
    """One run, in one of its processes. model: the network to start from, where that is made already."""

    def __init__(
        self,
        fabric: Any,
        folder: RunFolder,
        config: TrainConfig,
        data: DataSets,
        model: PSPNet | None,
        interruption: Interruption,
        callbacks: Sequence[Callback],
        quiet: bool,
    ) -> None:
        self.fabric, self.folder, self.config, self.interruption = fabric, folder, config, interruption
        first = fabric.is_global_zero
        self.reporter = Reporter(folder, config, len(data.train), callbacks, quiet, first)
        self.saver = StateSaver(folder, config)
        saved, remark = read_state(folder)
        if saved is not None:  # all weights are in the state
            model = random_model(config.model, config.seed)
        elif model is None:
            model, _ = first_model(config, data.train.label_space)
        if fabric.world_size > 1 and config.sync_norm:
            share_batch_norm(model, gpu=config.device == "cuda")
        self.state = TrainingState(model, config, fabric.device)
        if saved is not None:
            self.state.load(saved)
            self.saver.saved_step = self.state.step
            remark = remark or self._check_best()
        if remark:
            self.reporter.say(remark)
        loss = build_loss(config.loss, config.model.num_classes)
        self.step = fabric.setup_module(TrainingStep(model, config, loss, fabric.global_rank))
        self.results = Results(folder, config, data)
        self.loader = run_batches(config, data.train, self.state.batches, fabric.global_rank, fabric.world_size)
        self.validator: Validator | None = None
        if data.val is not None:
            self.validator = Validator(folder, config, data.val, self.reporter, self.results.save_best)

    def run(self) -> None:
        """From the state's step to the last one. Raises RunInterrupted when a signal asked the run to stop."""
        state, config, fabric = self.state, self.config, self.fabric
        if fabric.is_global_zero:
            self.folder.forget_after(state.step)
        state.training_mode()
        self.reporter.start(state, fabric.world_size)
        if self.validator is not None and self.validator.due(state):  # the run was stopped in the midst of it
            self.validator.run(fabric, state, self._stop_between_images)
        batches = self._timed(iter(self.loader))
        while not state.finished:
            if config.unfreeze_step == state.step:
                state.training_mode()
            for part in range(config.accumulate):
                batch = next(batches)
                with fabric.no_backward_sync(self.step, enabled=part + 1 < config.accumulate):
                    loss, losses = self.step(batch, state.batches)
                    fabric.backward(loss / config.accumulate)
                state.add_losses(losses)
            if config.clip is not None:
                fabric.clip_gradients(self.step, state.optimizer, max_norm=config.clip, error_if_nonfinite=False)
            state.update_weights()
            self.reporter.updated(fabric, state, self.loader.take_waited_s())
            if self.validator is not None and self.validator.due(state):
                self.validator.run(fabric, state, self._stop_between_images)
            self._save_or_stop()
        state.clock.stop()
        if state.step < state.steps:
            unit = " or ".join(config.followed).replace("_", " ")
            self.reporter.say(
                f"stopped at step {state.step}: {state.best.without_gain} validations without a better {unit}"
            )
        if fabric.is_global_zero:
            self.results.finish(state, fabric.world_size)

    def _timed(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Starts the clock with the first batch: it is waited for while the workers start, which is no step's time."""
        for number, batch in enumerate(batches):
            if number == 0:
                self.loader.take_waited_s()
                self.state.clock.go()
            yield batch

    def _save_or_stop(self) -> None:
        """Saves where a state is due, the run ends, or a signal came; all processes take the same turn."""
        state, fabric = self.state, self.fabric
        wish = late = 0
        if fabric.world_size == 1 or fabric.device.type == "cpu" or state.step % ASK_EVERY == 0:
            wish, late = agree(fabric, self.interruption.signal or 0, int(self.saver.late))
        if state.finished or wish or late or self.saver.due(state.step):
            self._save()
        if wish and not state.finished:
            raise interrupted(wish, state.step, state.steps, self.folder.path)

    def _save(self) -> None:
        if self.saver.save(self.state, self.fabric.is_global_zero):
            self.reporter.tell("saved", self.state)

    def _stop_between_images(self) -> None:
        """Stops within a validation. Several processes cannot agree there; they stop after it."""
        wish, state = self.interruption.signal, self.state
        if wish and self.fabric.world_size == 1:
            if not state.finished:  # a state of the last step would count as a finished run
                state.training_mode()
                self._save()
            raise interrupted(wish, state.step, state.steps, self.folder.path)

    def _check_best(self) -> str:
        """A word where the best model is gone or damaged: then the best one from now on counts."""
        if self.state.best.step == 0:
            return ""
        try:
            load_checkpoint(self.folder.best_model)
            return ""
        except CheckpointError as error:
            self.state.best = BestScore(validated_step=self.state.best.validated_step)
            return f"{error}. The best model of the steps from {self.state.step} on will be kept"
