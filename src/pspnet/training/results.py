"""What a run leaves behind: the best and the last model with their cards, and a summary of what it took."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from pspnet import __version__
from pspnet.config.paths import MAYBE_PATHS, path_fields, without_folders
from pspnet.config.train import TrainConfig
from pspnet.files import new_file, write_text
from pspnet.machine import processor_name, source_commit
from pspnet.metrics import Scores, none_if_nan
from pspnet.nn.pspnet import PSPNet
from pspnet.training.resolve import DataSets, scale_of, values_of
from pspnet.training.run_folder import RunFolder
from pspnet.training.state import TrainingState
from pspnet.training.validation import Validation
from pspnet.weights.checkpoint import card_for, save_checkpoint


class ScoredStep(NamedTuple):
    """A step of a run, its validation where there was one, and the protocol of it (or of one that is to come)."""

    step: int
    scores: Scores | None = None
    protocol: str = "whole"


class Results:
    """Writes models and summary. Only the first process of a run writes."""

    def __init__(self, folder: RunFolder, config: TrainConfig, data: DataSets) -> None:
        self.folder, self.config, self.data = folder, config, data
        self.commit = source_commit()
        self._values: dict[str, Any] = {}
        self._scale: dict[str, Any] = {}

    def save_best(self, state: TrainingState, result: Validation) -> None:
        self._save(self.folder.best_model, state.best_model, ScoredStep(state.step, result.scores, result.protocol))

    def _save(self, path: Path, model: PSPNet, scored: ScoredStep) -> None:
        self._values = self._values or values_of(self.data.train)
        self._scale = self._scale or scale_of(self.data.train, self.config.data)
        names, numbers = self.data.train.band_names, self.data.train.band_numbers
        provenance: dict[str, Any] = {
            "data": self.config.data.format,
            "training_images": len(self.data.train),
            "step": scored.step,
            "recipe": shareable(self.config),
            "pspnet": __version__,
            "commit": self.commit,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "hardware": hardware(self.config)["name"],
        }
        if scored.scores is not None:
            split = self.config.data.val_split
            provenance["scores"] = {"split": split, "protocol": scored.protocol, **scored.scores.to_dict()}
            provenance["scores"].pop("confusion")
        card = card_for(
            model,
            self.data.train.label_space,
            protocol=test_protocol(self.config, scored.protocol),
            provenance=provenance,
            **({"band_names": names} if names else {}),
            **({"band_numbers": numbers} if numbers else {}),
            **self._values,
            **self._scale,
        )
        save_checkpoint(path, model, card)

    def finish(self, state: TrainingState, processes: int) -> None:
        """Writes the last model and the summary. Without validation the last model is the best one."""
        step, clock = state.step, state.clock
        last, best = self._scores("last"), self._scores("best")
        validated = last if last is not None and last.step == step else ScoredStep(step)
        self._save(self.folder.last_model, state.best_model, validated)
        if state.best.step == 0 or not self.folder.best_model.exists():
            with new_file(self.folder.best_model, durable=True) as part:
                shutil.copyfile(self.folder.last_model, part)
        seconds = max(clock.trained_s, 1e-9)
        summary = {
            "steps": step,
            "planned_steps": state.steps,
            "images": clock.images,
            "epochs": clock.images / len(self.data.train),
            "training_s": round(clock.trained_s, 2),
            "validation_s": round(clock.validation, 2),
            "images_per_s": clock.images / seconds,
            "step_s": seconds / max(step, 1),
            "data_waiting_share": clock.waiting / seconds,
            "parameters": sum(p.numel() for p in state.model.parameters()),
            "precision": self.config.precision,
            "devices": processes,
            "hardware": hardware(self.config),
            "torch": torch.__version__,
            "pspnet": __version__,
            "commit": self.commit,
            "best": _brief(best),
            "best_of_others": {
                name: {"score": abs(score) if name == "loss" else score, "step": at}
                for name, (score, at) in state.best.others.items()
            },
            "last": _brief(last),
            "best_model": self.folder.best_model.name,
        }
        write_text(self.folder.summary, json.dumps(summary, indent=1))
        self.folder.update_state("finished", now=True, step=step, eta_s=0.0, message="")

    def _scores(self, which: Literal["best", "last"]) -> ScoredStep | None:
        path = self.folder.scores(which)
        if not path.exists():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return ScoredStep(int(content["step"]), Scores.from_dict(content), content.get("protocol", "whole"))
        except (ValueError, KeyError, TypeError):  # damaged; the run's models are not
            return None


def _brief(scored: ScoredStep | None) -> dict[str, Any] | None:
    if scored is None or scored.scores is None:
        return None
    step, scores = scored.step, scored.scores
    return {
        "step": step,
        "mean_iou": none_if_nan(scores.mean_iou),
        "pixel_accuracy": none_if_nan(scores.pixel_accuracy),
    }


def shareable(config: TrainConfig) -> dict[str, Any]:
    """The config without the names of this machine's folders: a checkpoint goes to other people."""
    values: dict[str, Any] = config.model_dump(mode="json")
    for name in (*path_fields(type(config)), *MAYBE_PATHS):
        *parents, leaf = name.split(".")
        node = values
        for part in parents:
            node = node[part]
        if node[leaf] is not None:
            node[leaf] = Path(node[leaf]).name
    values.pop("run_dir")
    return dict(without_folders(values))


def hardware(config: TrainConfig) -> dict[str, Any]:
    """What the run computed on."""
    name = processor_name()
    if config.device != "cuda":
        return {"name": name, "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    return {
        "name": torch.cuda.get_device_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processor": name,
        "gpus": config.devices,
        "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
    }


def test_protocol(config: TrainConfig, validated: str) -> str:
    """The protocol that a run's model is meant to be scored with: that of the settings' authors, first of those they gave
    scores for, else the one that its validation used."""
    return next(iter(config.published.mean_iou), validated) if config.published else validated
