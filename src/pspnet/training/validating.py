"""When to validate, which model is the best so far, and when to stop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch.distributed as dist

from pspnet.config.train import TrainConfig
from pspnet.data.dataset import Dataset
from pspnet.files import write_text
from pspnet.images import write_png
from pspnet.training.checkpoint import Keeper, interrupted
from pspnet.training.pictures import draw
from pspnet.training.reporting import Reporter
from pspnet.training.run_folder import RunFolder
from pspnet.training.state import TrainingModule
from pspnet.training.validation import Validation, chosen, validate

SaveBest = Callable[[TrainingModule, Validation, int], None]


class Validator(pl.Callback):  # type: ignore[misc]
    """Validates every `val_every` updates and after the last, keeps the best model, ends a run that no longer improves."""

    def __init__(
        self,
        folder: RunFolder,
        config: TrainConfig,
        dataset: Dataset,
        keeper: Keeper,
        reporter: Reporter,
        save_best: SaveBest,
    ) -> None:
        assert config.val_every is not None  # a resolved config
        assert config.workers is not None
        self.folder, self.settings, self.dataset = folder, config, dataset
        self.interval, self.workers = config.val_every, config.workers
        self.keeper, self.reporter, self.save_best = keeper, reporter, save_best
        self.indices = chosen(dataset, config.val_limit)
        self.best, self.best_step, self.best_mean_iou = float("-inf"), 0, float("nan")  # best: of what is monitored
        self.without_gain = 0  # validations in a row
        self.validated_step = 0
        self.latest: Validation | None = None

    def due(self, step: int, steps: int) -> bool:
        return step > self.validated_step and (step % self.interval == 0 or step >= steps)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        if self.due(trainer.global_step, pl_module.steps):  # the run was stopped in the midst of this validation
            self.run(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, TrainingModule)
        if pl_module.batches_seen % self.settings.accumulate == 0 and self.due(trainer.global_step, pl_module.steps):
            self.run(trainer, pl_module)

    def run(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        step = trainer.global_step
        if trainer.is_global_zero:
            self.folder.update_state("validating", step=step)
        with self.reporter.clock.validating():
            module.eval()
            if trainer.world_size > 1:  # running statistics are each process's own until the next batch
                for buffer in module.best.buffers():
                    dist.broadcast(buffer, src=0)
            found = validate(
                module.best,
                self.dataset,
                self.indices,
                module.device,
                trainer.precision_plugin.forward_context,
                self.workers,
                self.settings.pictures,
                partial(self._progress, trainer, module),
            )
            module.training_mode()
            self._remember(trainer, module, found, step)
        self.reporter.validated(trainer, module, found, self.best_mean_iou)

    def _progress(self, trainer: pl.Trainer, module: TrainingModule, done: int) -> None:
        """Stops between two images. Several processes cannot agree here; they stop after the validation."""
        wish = self.keeper.interruption.signal
        step = trainer.global_step
        self.reporter.validating(done, len(self.indices[trainer.global_rank :: trainer.world_size]))
        if wish and trainer.world_size == 1:
            if step < module.steps:  # a state of the last step would count as a finished run
                module.training_mode()
                self.keeper.save(trainer, module)
            raise interrupted(wish, step, module.steps, self.folder)

    def _remember(self, trainer: pl.Trainer, module: TrainingModule, found: Validation, step: int) -> None:
        by = self.settings.monitor
        score = -found.loss if by == "loss" else float(getattr(found.scores, by))  # a loss is better when it is smaller
        self.latest, self.validated_step = found, step
        stop = self.settings.early_stopping
        better = score > self.best
        self.without_gain = 0 if stop and score > self.best + stop.min_gain else self.without_gain + 1
        if trainer.is_global_zero:
            text = found.to_json(step)
            write_text(self.folder.scores("last"), text)
            self.folder.append_class_iou(step, found.scores.names, found.scores.iou.tolist())
            if found.examples:
                picture = draw(found.examples, self.dataset.label_space)
                write_png(self.folder.pictures / f"step_{step:06d}.png", picture)
            if better:
                write_text(self.folder.scores("best"), text)
                self.save_best(module, found, step)
        if better:
            self.best, self.best_step, self.best_mean_iou = score, step, found.scores.mean_iou
        if stop is not None and self.without_gain >= stop.patience:
            self.reporter.say(
                f"stopped at step {step}: {self.without_gain} validations without a better {by.replace('_', ' ')}"
            )
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {
            "best": self.best,
            "best_mean_iou": self.best_mean_iou,
            "best_step": self.best_step,
            "without_gain": self.without_gain,
            "validated_step": self.validated_step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_step = float(state_dict["best"]), int(state_dict["best_step"])
        self.best_mean_iou = float(state_dict["best_mean_iou"])
        self.without_gain, self.validated_step = int(state_dict["without_gain"]), int(state_dict["validated_step"])
