"""Trains the three networks, scores them on scenes that none has seen, and writes what was found."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pspnet.config import AugmentConfig, ModelConfig, TrainConfig
from pspnet.config.model import IMAGENET_MEAN, IMAGENET_STD
from pspnet.data.scenes import AMBIGUOUS, SCENE_CLASSES, Scenes
from pspnet.data.views import InMemory
from pspnet.demo.outcomes import CONTENDERS, Contender, DemoOutcome, DemoPlan, DemoReport, predict
from pspnet.demo.page import write_page
from pspnet.files import check_output, check_output_folder, holds_keys, write_text
from pspnet.metrics import ConfusionMatrix, percent
from pspnet.terminal import PlainConsole
from pspnet.training import train
from pspnet.training.run_folder import RunFolder
from pspnet.weights.checkpoint import load_checkpoint, save_checkpoint


def training_config(plan: DemoPlan, contender: Contender, run_dir: Path | None) -> TrainConfig:
    """The three configs differ in `model.bins` alone."""
    model = ModelConfig(
        encoder="resnet18",
        encoder_options={"depth": 3},  # its features see about 100 px: the hull, not the way
        bins=contender.bins,
        decoder_channels=64,
        auxiliary="none",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
    return TrainConfig(
        name=f"demo-{contender.key}",
        run_dir=run_dir,
        model=model,
        rare_classes="off",  # the three may differ by their pyramids alone
        steps=plan.steps,
        batch_size=plan.batch_size,
        augmentation=AugmentConfig(scale=False, rotate=False, blur=False, mirror=True, crop=None),
        optimizer={"learning_rate": plan.learning_rate},
        val_every=-(-plan.steps // 6),
        pictures=0,
        seed=plan.seed,
        workers=0,
        check_data=False,
    )


def run(out_dir: Path, plan: DemoPlan, quiet: bool, overwrite: bool = False) -> DemoReport:
    """See `pspnet.demo.run_demo`."""
    started = time.perf_counter()
    _claim(out_dir, plan, overwrite)
    console = PlainConsole(quiet=quiet, soft_wrap=True)
    train_data, val_data, test_data = _draw(plan, console)
    images = np.stack([sample.image for sample in test_data.samples])
    labels = np.stack([sample.labels for sample in test_data.samples if sample.labels is not None])
    outcomes = []
    for number, contender in enumerate(CONTENDERS, 1):
        bins = ", ".join(map(str, contender.bins)) or "none"
        console.print(f"{number} of {len(CONTENDERS)}: {contender.title}  bins: {bins}", style="bold", highlight=False)
        run_dir = out_dir / "runs" / contender.key
        shutil.rmtree(run_dir, ignore_errors=True)
        began = time.perf_counter()
        train(training_config(plan, contender, run_dir), train_data=train_data, val_data=val_data, quiet=quiet)
        seconds = time.perf_counter() - began
        folder = RunFolder.open(run_dir)
        # the last model, not the best: the three are compared after the same number of steps
        model, card = load_checkpoint(folder.last_model)
        predictions = predict(model, images)
        matrix = ConfusionMatrix(card.label_space.num_classes)
        matrix.update(labels, predictions)
        outcomes.append(
            DemoOutcome(
                contender,
                matrix.scores(names=card.label_space.names),
                predictions,
                folder.read_metrics(),
                seconds,
                model,
            )
        )
        if contender is CONTENDERS[-1]:
            save_checkpoint(out_dir / "pspnet.safetensors", model, card, half=True)
    report = DemoReport(
        plan,
        Scenes(plan.test_scenes, plan.seed, plan.size_px, "test"),
        images,
        labels,
        tuple(outcomes),
        time.perf_counter() - started,
        out_dir / "index.html",
    )
    write_text(out_dir / "scores.json", json.dumps(summary(report), indent=1))
    write_page(report)
    _show(report, console)
    return report


def _claim(out_dir: Path, plan: DemoPlan, overwrite: bool) -> None:
    """Refuses to replace files and runs that no demo made; then scores.json says that the folder is a demo's."""
    scores = out_dir / "scores.json"
    ours = overwrite or holds_keys(scores, ("plan", "networks"))
    for name in ("index.html", "scores.json", "pspnet.safetensors"):
        check_output(out_dir / name, overwrite=ours)
    for contender in CONTENDERS:
        check_output_folder(out_dir / "runs" / contender.key, overwrite=ours)
    write_text(scores, json.dumps({"plan": asdict(plan), "networks": {}}, indent=1))


def _draw(plan: DemoPlan, console: PlainConsole) -> tuple[InMemory, InMemory, InMemory]:
    from rich.progress import Progress

    counts = {"train": plan.train_scenes, "val": min(plan.val_scenes, plan.test_scenes), "test": plan.test_scenes}
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("drawing scenes", total=sum(counts.values()))
        train_data, val_data, test_data = (
            InMemory(Scenes(count, plan.seed, plan.size_px, split), lambda: bar.advance(task))
            for split, count in counts.items()
        )
    return train_data, val_data, test_data


def summary(report: DemoReport) -> dict[str, object]:
    """What scores.json holds."""
    networks = {
        outcome.contender.key: {
            "bins": outcome.contender.bins,
            "mean_iou": outcome.scores.mean_iou,
            "pixel_accuracy": outcome.scores.pixel_accuracy,
            "seconds": round(outcome.seconds, 1),
            "iou": dict(zip(outcome.scores.names, outcome.scores.iou.tolist(), strict=True)),
        }
        for outcome in report.outcomes
    }
    return {"plan": asdict(report.plan), "seconds": round(report.seconds, 1), "networks": networks}


def _show(report: DemoReport, console: PlainConsole) -> None:
    from rich.table import Table

    plan = report.plan
    table = Table(title=f"{plan.test_scenes} unseen scenes, after {plan.steps} steps, in %", title_justify="left")
    table.add_column("")
    for outcome in report.outcomes:
        bins = ", ".join(map(str, outcome.contender.bins))
        table.add_column(f"{outcome.contender.title}\n{f'bins {bins}' if bins else 'no pyramid'}", justify="right")
    table.add_row("mean IoU", *(percent(outcome.scores.mean_iou) for outcome in report.outcomes), style="bold")
    table.add_row("pixel accuracy", *(percent(outcome.scores.pixel_accuracy) for outcome in report.outcomes))
    for kind, names in AMBIGUOUS.items():
        table.add_section()
        for name in names:
            ious = (float(outcome.scores.iou[SCENE_CLASSES.index(name)]) for outcome in report.outcomes)
            table.add_row(f"{kind}: {name}, IoU", *map(percent, ious))
    console.print(table)
    console.print(f"pictures and curves: {report.page}   ({report.seconds:.0f} s)", highlight=False)
