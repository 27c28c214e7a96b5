"""Runs as a whole: what the folder holds, stopping, killing and going on bit for bit, several processes."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning_fabric  # noqa: F401  here, or each forked child would import it anew
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from pspnet.errors import CheckpointError, ConfigError, DataError, ImageError, RunInterrupted, TrainingError
from pspnet.machine import at_work
from pspnet.nn import PSPNet
from pspnet.training import find_learning_rate, resume, train
from pspnet.training.run_folder import RunFolder
from pspnet.weights.bundled import find_model
from pspnet.weights.checkpoint import load_checkpoint
from support.toys import Toys, ended, in_child, toy_model, toy_run


def toys() -> dict[str, Any]:
    return {"train_data": Toys(), "val_data": Toys(3, seed=9, uneven=True), "quiet": True}


def state(run: Path) -> dict[str, Any]:
    return torch.load(run / "last.ckpt", weights_only=True)


def rows_of(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Every leaf of nested dicts and lists, by its path."""
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in flat(inner, f"{name}/{key}").items()}
    if isinstance(value, (list, tuple)):
        return {k: v for i, inner in enumerate(value) for k, v in flat(inner, f"{name}/{i}").items()}
    return {name: value}


def assert_same_run(one: Path, other: Path) -> None:
    """Weights, averages, optimiser, schedule, best score: bit for bit. Only clocks may differ."""
    a, b = flat(state(one)), flat(state(other))
    assert a.keys() == b.keys()
    for name, value in a.items():
        if name.startswith("/callbacks"):  # the clock, and the checksum that covers it
            continue
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, b[name]), f"{name}: {(value.double() - b[name].double()).abs().max():.3g} apart"
        else:
            assert value == b[name] or value != value, f"{name}: {value} and {b[name]}"
    timed = ("seconds", "images_per_s", "data_waiting")
    rows = [[{k: v for k, v in row.items() if k not in timed} for row in rows_of(run)] for run in (one, other)]
    assert rows[0] == rows[1]
    for file in ("scores_best.json", "scores_last.json"):
        assert (one / file).read_text() == (other / file).read_text()
    models = [load_checkpoint(run / "best.safetensors")[0].state_dict() for run in (one, other)]
    assert all(torch.equal(value, models[1][name]) for name, value in models[0].items())


CARD = 13  # reads of training pictures for the first model's card: type and range of the values, sizes


def kill_at(read: int, number: int = signal.SIGKILL) -> Callable[[int], None]:
    def on_read(reads: int) -> None:
        if reads == read:
            os.kill(os.getpid(), number)

    return on_read


# everything that holds a state of its own: an average, mixup, dropout, gradients over two batches, one cycle
LADEN = {
    "ema": 0.9,
    "mixup": 0.7,
    "accumulate": 2,
    "steps": 7,
    "val_every": 3,
    "checkpoint_every": 2,
    "clip": 1.0,
    "log_every": 3,
    "progressive_resizing": ((0.6, 0.4),),
    "schedule": {"name": "one_cycle"},
    "model": toy_model(dropout=0.5, encoder_options={"depth": 3, "drop_path_rate": 0.3}),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an ordinary finished run."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    train(toy_run(folder, steps=30, val_every=10, loss={"class_weights": "tempered"}), **toys())
    return folder


@pytest.fixture(scope="module")
def laden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run with everything on."""
    folder = tmp_path_factory.mktemp("laden") / "run"
    train(toy_run(folder, **LADEN), **toys())
    return folder


class TestFolder:
    def test_metrics(self, plain: Path) -> None:
        rows = rows_of(plain)
        losses = [float(row["loss"]) for row in rows if row["loss"]]
        assert len(losses) == 30
        assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:4])
        assert [int(row["step"]) for row in rows if row["val_mean_iou"]] == [10, 20, 30]
        rates = [float(row["learning_rate"]) for row in rows if row["learning_rate"]]
        np.testing.assert_allclose(rates, [0.005 * (1 - k / 30) ** 0.9 for k in range(30)], rtol=1e-6)
        assert float(rows[0]["loss"]) == pytest.approx(
            float(rows[0]["loss_pixel"]) + 0.4 * float(rows[0]["loss_auxiliary"]), rel=1e-6
        )

    def test_what_was_derived_is_written_down(self, plain: Path) -> None:
        config = yaml.safe_load((plain / "config.yaml").read_text())
        assert config["model"]["num_classes"] == 3
        assert config["model"]["in_bands"] == 3
        pixels = np.concatenate([Toys()[i].image.reshape(-1, 3) for i in range(12)]).astype(float)
        np.testing.assert_allclose(config["model"]["mean"], pixels.mean(0), atol=1e-3)
        np.testing.assert_allclose(config["model"]["std"], pixels.std(0), atol=1e-3)
        weights = config["loss"]["class_weights"]
        assert len(weights) == 3
        assert weights[0] < weights[1]
        assert config["precision"] in ("fp32", "bf16")
        assert config["steps"] == 30

    def test_best_checkpoint_is_complete_and_its_score_is_true(self, plain: Path) -> None:
        model, card = load_checkpoint(plain / "best.safetensors")
        assert card.label_space.names == Toys().label_space.names
        assert card.protocol == "whole"
        provenance = card.provenance
        assert provenance["recipe"]["steps"] == 30
        assert str(plain) not in json.dumps(dict(provenance))
        counts = np.zeros((3, 3), int)
        data = Toys(3, seed=9, uneven=True)
        for i in range(3):  # an independent confusion matrix, pixel by pixel
            sample = data[i]
            with torch.no_grad():
                predicted = model(torch.from_numpy(sample.image).permute(2, 0, 1)[None].float()).argmax(1)[0].numpy()
            for true, actual in zip(sample.labels.ravel().tolist(), predicted.ravel().tolist(), strict=True):
                if true != 255:
                    counts[true, actual] += 1
        iou = [counts[k, k] / (counts[k].sum() + counts[:, k].sum() - counts[k, k]) for k in range(3)]
        assert provenance["scores"]["mean_iou"] == pytest.approx(np.mean(iou), abs=1e-6)
        best = json.loads((plain / "scores_best.json").read_text())
        assert best["confusion"] == counts.tolist()
        assert best["step"] == provenance["step"]
        assert [w["mean_iou"] for w in best["worst_images"]] == sorted(w["mean_iou"] for w in best["worst_images"])

    def test_state_summary_pictures_tensorboard(self, plain: Path) -> None:
        now = json.loads((plain / "state.json").read_text())
        assert (now["status"], now["step"], now["pid"]) == ("finished", 30, os.getpid())
        summary = json.loads((plain / "summary.json").read_text())
        assert summary["images"] == 60
        assert summary["images_per_s"] > 0
        assert 0 <= summary["data_waiting_share"] < 1
        assert summary["best"]["mean_iou"] == now["best_mean_iou"]
        pictures = sorted(plain.glob("pictures/*.png"))
        assert [p.name for p in pictures] == ["step_000010.png", "step_000020.png", "step_000030.png"]
        assert np.asarray(Image.open(pictures[0])).shape[2] == 3
        assert list(plain.glob("tensorboard/events*"))
        assert not list(plain.rglob("*.part"))

    def test_status_of_a_dead_run(self, plain: Path, tmp_path: Path) -> None:
        folder = RunFolder.open(plain)
        assert folder.status() == "finished"
        (tmp_path / "config.yaml").write_text((plain / "config.yaml").read_text())
        child = in_child(lambda: RunFolder(tmp_path).update_state("running"))
        assert ended(child) == 0
        assert RunFolder.open(tmp_path).status() == "killed"
        RunFolder(tmp_path).update_state("running")
        assert RunFolder.open(tmp_path).status() == "running"

    def test_a_process_nobody_waited_for_or_another_with_its_id_is_not_at_work(self) -> None:
        child = in_child(lambda: None)
        while Path(f"/proc/{child}/stat").exists() and ") Z " not in Path(f"/proc/{child}/stat").read_text():
            time.sleep(0.01)
        assert not at_work(child, time.time())  # os.kill still finds it
        ended(child)
        assert at_work(os.getpid(), time.time())
        if Path("/proc/self/stat").exists():
            assert not at_work(os.getpid(), time.time() - 86_400 * 3650)

    def test_iou_of_every_class_over_time(self, plain: Path, tmp_path: Path) -> None:
        rows = RunFolder.open(plain).read_class_iou()
        assert [row["step"] for row in rows] == [10, 20, 30]
        scores = json.loads((plain / "scores_last.json").read_text())
        assert [rows[-1][c["name"]] for c in scores["classes"]] == pytest.approx([c["iou"] for c in scores["classes"]])
        folder = RunFolder(tmp_path)
        folder.append_class_iou(5, ("a, b", "c"), (0.5, float("nan")))
        folder.append_class_iou(9, ("a, b", "c"), (0.6, 0.1))
        folder.forget_after(5)
        assert folder.read_class_iou() == [{"step": 5, "a, b": 0.5}]

    def test_a_line_that_is_being_written_is_not_read(self, plain: Path, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path)
        text = (plain / "metrics.csv").read_text()
        folder.metrics.write_text(text + "31,15.5,1.2")
        assert len(folder.read_metrics()) == len(text.splitlines()) - 1
        folder.forget_after(10)
        assert [row["step"] for row in folder.read_metrics()][-2:] == [10, 10]  # the step's line and its validation

    def test_a_table_of_an_earlier_version_goes_on(self, plain: Path, tmp_path: Path) -> None:
        """Its columns are the first of ours; those that came later stay empty in its lines."""
        folder = RunFolder(tmp_path)
        text = (plain / "metrics.csv").read_text().splitlines()
        folder.metrics.write_text("".join(",".join(line.split(",")[:-3]) + "\n" for line in text))
        before = folder.read_metrics()
        folder.forget_after(30)
        folder.append_metrics(step=31, val_mean_f1=0.5)
        assert folder.read_metrics() == [*before, {"step": 31, "val_mean_f1": 0.5}]

    def test_a_folder_is_used_once(self, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = (plain / "metrics.csv").read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr("pspnet.training.launch.data_of", lambda *_: pytest.fail("the data were looked through"))
            with pytest.raises(TrainingError, match=r"already holds a run.*--resume"):
                train(toy_run(plain), **toys())
        assert (plain / "metrics.csv").read_bytes() == before
        assert resume(plain, **toys()) == plain / "best.safetensors"  # finished: nothing to do
        assert (plain / "metrics.csv").read_bytes() == before


class TestExactness:
    @pytest.mark.wrong_types  # whoever checks types draws random numbers of Python's too
    def test_training_leaves_the_callers_random_numbers(self, tmp_path: Path) -> None:
        def draw() -> tuple[float, float, float]:
            return random.random(), float(np.random.rand()), float(torch.rand(()))

        def set_all(seed: int) -> None:
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)

        set_all(1)
        expected = draw()
        set_all(1)
        train(toy_run(tmp_path / "run", steps=1), **toys())
        assert draw() == expected

    def test_killed_in_mid_epoch_and_resumed_bit_for_bit(self, laden: Path, tmp_path: Path) -> None:
        run = tmp_path / "run"
        reads = 12 + CARD + 18  # 12 for the statistics; batch 9 is pictures 17 and 18
        child = in_child(
            lambda: train(
                toy_run(run, **LADEN), train_data=Toys(on_read=kill_at(reads)), val_data=toys()["val_data"], quiet=True
            )
        )
        assert ended(child) == -signal.SIGKILL
        assert json.loads((run / "state.json").read_text())["status"] == "running"
        assert state(run)["batches_seen"] == 8  # killed in batch 9, after the update of step 4 was saved
        resume(run, **toys())
        assert_same_run(laden, run)

    def test_killed_twice_once_while_saving(self, laden: Path, tmp_path: Path) -> None:
        run = tmp_path / "run"
        replaced = os.replace

        def dies_at_the_second(source: Any, target: Any) -> None:
            if str(target).endswith("last.ckpt") and Path(target).exists():
                Path(source).write_bytes(Path(source).read_bytes()[:1000])  # as if the disk had got no further
                os.kill(os.getpid(), signal.SIGKILL)
            replaced(source, target)

        def first() -> None:
            os.replace = dies_at_the_second
            train(toy_run(run, **LADEN), **toys())

        assert ended(in_child(first)) == -signal.SIGKILL
        assert state(run)["batches_seen"] == 4  # the whole state of before
        second = in_child(
            lambda: resume(run, train_data=Toys(on_read=kill_at(9)), val_data=toys()["val_data"], quiet=True)
        )
        assert ended(second) == -signal.SIGKILL
        resume(run, **toys())
        assert_same_run(laden, run)

    def test_killed_before_the_first_state(self, laden: Path, tmp_path: Path) -> None:
        run = tmp_path / "run"
        child = in_child(
            lambda: train(
                toy_run(run, **LADEN), train_data=Toys(on_read=kill_at(12 + 5)), val_data=toys()["val_data"], quiet=True
            )
        )
        assert ended(child) == -signal.SIGKILL
        assert not (run / "last.ckpt").exists()
        resume(run, **toys())
        assert_same_run(laden, run)

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
    @pytest.mark.parametrize("where", ["training", "validation"])
    def test_asked_to_stop(self, laden: Path, tmp_path: Path, number: int, code: int, where: str) -> None:
        run = tmp_path / "run"
        sets = toys()
        if where == "training":
            sets["train_data"] = Toys(on_read=kill_at(11 + CARD + 18, number))
        else:
            sets["val_data"] = Toys(3, seed=9, uneven=True, on_read=kill_at(2, number))
        assert ended(in_child(lambda: train(toy_run(run, **LADEN), **sets))) == code
        now = json.loads((run / "state.json").read_text())
        assert now["status"] == "interrupted"
        assert signal.Signals(number).name in now["message"]
        assert "pspnet train --resume" in now["message"]
        assert state(run)["batches_seen"] == (
            10 if where == "training" else 6
        )  # at the very step, not the last saved one
        resume(run, **toys())
        assert_same_run(laden, run)

    def test_a_second_ctrl_c_stops_at_once(self, laden: Path, tmp_path: Path) -> None:
        run = tmp_path / "run"

        def twice(reads: int) -> None:
            if reads == 12 + 14:  # in batch 7, the first half of step 4
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)

        sets = toys() | {"train_data": Toys(on_read=twice)}
        assert ended(in_child(lambda: train(toy_run(run, **LADEN), **sets))) == 130
        assert state(run)["batches_seen"] == 4  # what was saved before
        resume(run, **toys())
        assert_same_run(laden, run)

    def test_the_signal_is_an_exception_with_the_shells_code(self, tmp_path: Path) -> None:
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(RunInterrupted, match=r"stopped by SIGTERM after step 1 of 6") as caught:
            train(toy_run(tmp_path / "run"), train_data=Toys(on_read=kill_at(13, signal.SIGTERM)), quiet=True)
        assert caught.value.exit_code == 143
        assert signal.getsignal(signal.SIGTERM) is before

    def test_workers_do_not_change_a_run(self, laden: Path, tmp_path: Path) -> None:
        train(toy_run(tmp_path / "run", **LADEN | {"workers": 2}), **toys())
        assert_same_run(laden, tmp_path / "run")

    def test_validation_does_not_change_training(self, laden: Path, tmp_path: Path) -> None:
        train(toy_run(tmp_path / "run", **LADEN | {"val_every": 2, "pictures": 0}), **toys())
        a, b = state(laden)["state_dict"], state(tmp_path / "run")["state_dict"]
        assert all(torch.equal(value, b[name]) for name, value in a.items())

    def test_of_a_damaged_state_the_one_before_is_taken_and_said(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        whole, run = tmp_path / "whole", tmp_path / "run"
        train(toy_run(whole, checkpoint_every=1), **toys())
        sets = toys() | {"train_data": Toys(on_read=kill_at(12 + CARD + 9))}
        child = in_child(lambda: train(toy_run(run, checkpoint_every=1), **sets))
        assert ended(child) == -signal.SIGKILL
        content = bytearray((run / "last.ckpt").read_bytes())
        content[len(content) // 2] ^= 4  # in a tensor: torch reads it without a word
        (run / "last.ckpt").write_bytes(content)
        resume(run, train_data=toys()["train_data"], val_data=toys()["val_data"])
        assert "checksum does not fit its content. Going on from previous.ckpt" in " ".join(
            capsys.readouterr().err.split()
        )
        assert_same_run(whole, run)

    def test_damaged_states_are_named(self, tmp_path: Path) -> None:
        run = tmp_path / "run"
        child = in_child(
            lambda: train(toy_run(run, checkpoint_every=1), train_data=Toys(on_read=kill_at(18)), quiet=True)
        )
        assert ended(child) == -signal.SIGKILL
        content = (run / "last.ckpt").read_bytes()
        for damaged in (content[: len(content) // 2], b""):
            for name in ("last.ckpt", "previous.ckpt"):
                (run / name).write_bytes(damaged)
            with pytest.raises(TrainingError, match=r"last.ckpt' cannot be read.*previous.ckpt' cannot be read"):
                resume(run, **toys())

    def test_no_run_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(TrainingError, match=r"holds no config.yaml"):
            resume(tmp_path)


def test_a_signal_to_the_whole_group_stops_a_run_with_workers_gently(tmp_path: Path) -> None:
    """As a scheduler, or a shell's timeout, sends it: the workers that load pictures get it too."""
    run = tmp_path / "run"

    def work() -> None:
        os.setpgid(0, 0)
        train(toy_run(run, steps=400, workers=1, val_every=400), train_data=Toys(), quiet=True)

    child = in_child(work)
    until = time.monotonic() + 60
    while time.monotonic() < until and not ((run / "metrics.csv").exists() and len(rows_of(run)) > 2):
        time.sleep(0.05)
    os.killpg(child, signal.SIGTERM)
    assert ended(child) == 143
    assert json.loads((run / "state.json").read_text())["status"] == "interrupted"
    assert state(run)["batches_seen"] > 2


def test_accumulation_is_the_larger_batch(tmp_path: Path) -> None:
    """Without batch statistics, two batches of two are one of four."""
    model = toy_model(dropout=0.0, auxiliary="none")
    base = {
        "steps": 3,
        "freeze_encoder": True,
        "model": model.changed(bins=(), pyramid_options={"fusion_norm": False}),
        "loss": {"reduction": "all"},
    }
    train(toy_run(tmp_path / "one", batch_size=4, **base), **toys())
    train(toy_run(tmp_path / "two", batch_size=2, accumulate=2, **base), **toys())
    a, b = state(tmp_path / "one")["state_dict"], state(tmp_path / "two")["state_dict"]
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], rtol=1e-4, atol=1e-6, msg=name)


class TestProcesses:
    """Two processes over gloo, with the environment that torchrun or srun gives them."""

    @staticmethod
    def pair(work: Callable[[int], Any], slurm: bool = False) -> list[int]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        common = {
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "TORCHELASTIC_RUN_ID": "test",
            "GROUP_RANK": "0",
        }
        ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} | common for rank in range(2)]
        if slurm:
            common = {
                "SLURM_NTASKS": "2",
                "SLURM_NTASKS_PER_NODE": "2",
                "SLURM_NNODES": "1",
                "SLURM_JOB_ID": "7",
                "SLURM_STEP_ID": "0",
                "SLURM_NODEID": "0",
                "SLURM_NODELIST": "localhost",
                "SLURM_JOB_NAME": "run",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            }
            ranks = [{"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} | common for rank in range(2)]
        children = [in_child(lambda rank=rank: work(rank), **ranks[rank]) for rank in range(2)]
        return [ended(child) for child in children]

    def test_two_processes_are_one(self, tmp_path: Path) -> None:
        """Same weights on both, every sample once per epoch, the numbers of one process, and resume exact."""
        options = {
            "batch_size": 4,
            "steps": 6,
            "checkpoint_every": 2,
            "val_every": 3,
            "pictures": 2,
            "model": toy_model(dropout=0.0, auxiliary="none"),  # dropout differs between processes, as it should
            "loss": {"reduction": "all"},
        }  # the mean of two means is the mean where both count the same pixels

        def work(rank: int, run: Path, verb: Callable[..., Any], dies: bool) -> None:
            from pspnet.training import batches, loop

            ran, get = loop.TrainingLoop.run, batches.TrainingSamples.__getitem__
            calls: list[tuple[int, int]] = []

            def run_and_save(self: Any) -> None:
                ran(self)
                torch.save(self.state.model.state_dict(), run / f"weights_{rank}.pt")

            def watched(self: Any, position: tuple[int, int]) -> Any:
                calls.append(position)
                if dies and len(calls) == 9:
                    os.kill(os.getpid(), signal.SIGKILL)
                return get(self, position)

            loop.TrainingLoop.run, batches.TrainingSamples.__getitem__ = run_and_save, watched
            verb(train_data=Toys(), val_data=toys()["val_data"], quiet=True)
            (run / f"seen_{rank}.json").write_text(json.dumps(calls))

        def starts(run: Path) -> Callable[..., Any]:
            return lambda **sets: train(toy_run(run, **options), **sets)

        one, two, killed = tmp_path / "one", tmp_path / "two", tmp_path / "killed"
        train(toy_run(one, **options), **toys())
        assert self.pair(lambda rank: work(rank, two, starts(two), False)) == [0, 0]
        first, second = (torch.load(two / f"weights_{rank}.pt") for rank in range(2))
        assert all(torch.equal(value, second[name]) for name, value in first.items())
        indexes = [json.loads((two / f"seen_{rank}.json").read_text()) for rank in range(2)]
        assert len(indexes[0]) == len(indexes[1]) == 12
        assert sorted(indexes[0] + indexes[1]) == [[epoch, index] for epoch in range(2) for index in range(12)]
        alone = state(one)["state_dict"]
        for name, value in state(two)["state_dict"].items():
            torch.testing.assert_close(value, alone[name], rtol=2e-3, atol=2e-4, msg=name)
        assert self.pair(lambda rank: work(rank, killed, starts(killed), True)) == [-signal.SIGKILL, -signal.SIGKILL]
        assert state(killed)["batches_seen"] == 4
        assert self.pair(lambda rank: work(rank, killed, partial(resume, killed), False)) == [0, 0]
        assert_same_run(two, killed)

    def test_one_is_asked_and_both_stop(self, tmp_path: Path) -> None:
        def work(rank: int) -> None:
            train(
                toy_run(tmp_path / "run"),
                quiet=True,
                train_data=Toys(on_read=kill_at(12 + 3, signal.SIGTERM) if rank == 1 else lambda _: None),
            )

        assert self.pair(work) == [143, 143]
        assert state(tmp_path / "run")["batches_seen"] == 3
        assert json.loads((tmp_path / "run" / "state.json").read_text())["status"] == "interrupted"

    def test_an_encoder_is_let_go_on_both(self, tmp_path: Path) -> None:
        run = tmp_path / "run"
        options = {"freeze_encoder": True, "unfreeze_step": 2, "steps": 4, "ema": 0.5, "val_every": 4}

        def work(rank: int) -> None:
            from pspnet.training import loop

            ran = loop.TrainingLoop.run

            def run_and_save(self: Any) -> None:
                ran(self)
                torch.save(self.state.model.encoder.state_dict(), run / f"encoder_{rank}.pt")

            loop.TrainingLoop.run = run_and_save
            train(toy_run(run, **options), **toys())

        assert self.pair(work) == [0, 0]
        first, second = (torch.load(run / f"encoder_{rank}.pt") for rank in range(2))
        assert all(torch.equal(value, second[name]) for name, value in first.items())
        assert int(first["bn1.num_batches_tracked"]) == 2

    def test_as_slurm_starts_them(self, tmp_path: Path) -> None:
        assert self.pair(lambda rank: train(toy_run(tmp_path / "run", steps=2, val_every=2), **toys()), slurm=True) == [
            0,
            0,
        ]
        summary = json.loads((tmp_path / "run" / "summary.json").read_text())
        assert (summary["devices"], summary["images"]) == (2, 4)

    def test_a_common_folder_is_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ConfigError, match=r"run_dir is missing"):
            train(toy_run(Path("x")).changed(run_dir=None), **toys())


class TestChoices:
    def test_early_stopping(self, tmp_path: Path) -> None:
        train(
            toy_run(tmp_path / "run", steps=40, val_every=2, early_stopping={"patience": 2, "min_gain": 0.9}), **toys()
        )
        summary = json.loads((tmp_path / "run" / "summary.json").read_text())
        assert (summary["steps"], summary["planned_steps"]) == (6, 40)  # one gain from nothing, then two without
        assert resume(tmp_path / "run", **toys()).exists()

    def test_several_scores_are_monitored(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Every validation says them and writes them; the first chooses the best model; the best of each is reported."""
        run = toy_run(tmp_path / "run", steps=4, val_every=2, monitor="mean_f1", also_monitor=("loss",))
        train(run, **toys() | {"quiet": False})
        said = [line for line in capsys.readouterr().err.splitlines() if "validation mIoU" in line]
        rows = [row for row in RunFolder(tmp_path / "run").read_metrics() if "val_loss" in row]
        for line, row in zip(said, rows, strict=True):
            assert f"mean f1 {row['val_mean_f1']:.4f}, loss {row['val_loss']:.4f}" in line
            assert {"val_mean_dice", "val_frequency_weighted_iou"} <= row.keys()
        summary = json.loads((tmp_path / "run" / "summary.json").read_text())
        lowest = min(rows, key=lambda row: row["val_loss"])
        assert summary["best_of_others"] == {
            "loss": {"score": pytest.approx(lowest["val_loss"]), "step": lowest["step"]}
        }
        assert summary["best"]["step"] == max(rows, key=lambda row: row["val_mean_f1"])["step"]

    @pytest.mark.parametrize("accumulate", [1, 2])
    def test_smaller_images_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulate: int) -> None:
        calls: list[tuple[int, ...]] = []
        normalise = PSPNet.normalise

        def noted(self: PSPNet, *given: Any) -> torch.Tensor:
            images = normalise(self, *given)
            calls.append(tuple(images.shape[-2:]))
            return images

        monkeypatch.setattr(PSPNet, "normalise", noted)
        train(
            toy_run(
                tmp_path / "run",
                progressive_resizing=((0.3, 0.34), (0.5, 0.34)),
                steps=6,
                accumulate=accumulate,
                val_every=6,
                augmentation={"crop": (40, 60)},
                pictures=0,
            ),
            **toys(),
        )
        expected = [(12, 18)] * 3 + [(20, 30)] * 2 + [(40, 60)]  # 0.34 of 6 updates: the third begins before it is over
        assert calls[: 6 * accumulate] == [size for size in expected for _ in range(accumulate)]
        assert set(calls[6 * accumulate :]) == {(40, 40), (45, 40), (50, 40)}  # validated as it is used

    def test_no_update_left_for_the_size_it_is_used_with(self) -> None:
        with pytest.raises(ConfigError, match=r"shares add up to 1.1, so no update is left for model.input_scale = 1"):
            toy_run(Path("x"), progressive_resizing=((0.5, 0.6), (0.75, 0.5)))

    def test_a_frozen_encoder_stays_and_is_let_go(self, tmp_path: Path) -> None:
        frozen, freed = tmp_path / "frozen", tmp_path / "freed"
        train(toy_run(frozen, freeze_encoder=True, checkpoint_every=3), **toys())
        from pspnet.training.initial_weights import random_model

        config = yaml.safe_load((frozen / "config.yaml").read_text())
        start = random_model(
            toy_model(**{k: config["model"][k] for k in ("num_classes", "mean", "std")}), 0
        ).state_dict()
        end = state(frozen)["state_dict"]
        moved = {name for name, value in start.items() if not torch.equal(value, end[f"model.{name}"])}
        assert moved
        assert not any(name.startswith("encoder.") for name in moved)
        train(toy_run(freed, freeze_encoder=True, unfreeze_step=4, checkpoint_every=3), **toys())
        end = state(freed)["state_dict"]
        assert not torch.equal(start["encoder.conv1.weight"], end["model.encoder.conv1.weight"])
        assert int(end["model.encoder.bn1.num_batches_tracked"]) == 2  # steps 5 and 6

    def test_fine_tuning_matches_classes_by_name(self, plain: Path, tmp_path: Path) -> None:
        run = tmp_path / "run"
        names = ("stripe", "ground", "square", "cloud")
        train(
            toy_run(run, steps=1, init_from=plain / "best.safetensors", optimizer={"learning_rate": 1e-9}),
            train_data=Toys(names=names),
            quiet=True,
        )
        old, new = (load_checkpoint(r / "best.safetensors")[0].state_dict() for r in (plain, run))
        for row, name in enumerate(names[:3]):
            source = Toys().label_space.names.index(name)
            torch.testing.assert_close(new["classifier.weight"][row], old["classifier.weight"][source])
        torch.testing.assert_close(new["encoder.conv1.weight"], old["encoder.conv1.weight"])
        assert torch.equal(new["mean"], old["mean"])

    def test_rows_that_stay_random_are_said(self, plain: Path) -> None:
        from pspnet.labels import LabelSpace
        from pspnet.training.initial_weights import copy_weights

        known, card = load_checkpoint(plain / "best.safetensors")
        old = known.state_dict()["classifier.weight"]
        assert card.label_space.names == ("ground", "square", "stripe")
        for names, fresh in [
            (("STRIPE", "ground"), []),
            (("stripe", "tree", "moss"), ["tree", "moss"]),
            (("Ground", "ground"), ["Ground"]),
        ]:
            model = PSPNet(known.config.changed(num_classes=len(names)))
            left_random = copy_weights(plain / "best.safetensors", model, LabelSpace(names))
            rows = model.state_dict()["classifier.weight"]
            equal = [any(torch.equal(row, other) for other in old) for row in rows]
            assert [name for name, same in zip(names, equal, strict=True) if not same] == fresh
            assert any("classifier.weight" in text and ", ".join(fresh) in text for text in left_random) == bool(fresh)

    def test_fine_tuning_from_a_model_that_comes_along(self, tmp_path: Path) -> None:
        network = {"encoder": "resnet18", "encoder_options": {"depth": 3}, "decoder_channels": 64, "auxiliary": "none"}
        run, names = tmp_path / "run", ("sky", "boat", "square", "cloud")
        train(
            toy_run(run, steps=1, init_from="scenes", model=network, optimizer={"learning_rate": 1e-9}),
            train_data=Toys(names=names),
            quiet=True,
        )
        model, card = load_checkpoint(find_model("scenes"))
        old, new = model.state_dict(), load_checkpoint(run / "best.safetensors")[0].state_dict()
        torch.testing.assert_close(new["encoder.conv1.weight"], old["encoder.conv1.weight"])
        assert torch.equal(new["mean"], old["mean"])
        for row, name in enumerate(names[:2]):
            torch.testing.assert_close(
                new["classifier.weight"][row], old["classifier.weight"][card.label_space.names.index(name)]
            )
        with pytest.raises(CheckpointError, match=r"did you mean 'scenes'"):
            train(toy_run(tmp_path / "other", init_from="scene"), **toys())

    def test_encoder_weights_of_a_file(self, plain: Path, tmp_path: Path) -> None:
        run = tmp_path / "run"
        config = toy_run(
            run,
            model=toy_model(encoder_weights=str(plain / "best.safetensors")),
            steps=1,
            val_every=1,
            optimizer={"learning_rate": 1e-9},
        )
        train(config, **toys())
        old, new = (load_checkpoint(r / "best.safetensors")[0].state_dict() for r in (plain, run))
        torch.testing.assert_close(new["encoder.layer2.0.conv1.weight"], old["encoder.layer2.0.conv1.weight"])
        assert not torch.allclose(new["classifier.weight"], old["classifier.weight"])
        with pytest.raises(CheckpointError, match=r"nowhere.pth"):
            train(toy_run(tmp_path / "other", model=toy_model(encoder_weights="nowhere.pth")), **toys())
        assert not (tmp_path / "other").exists()

    def test_fine_tuning_refuses_another_network(self, plain: Path, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"decoder_channels = 16 instead of 24"):
            train(
                toy_run(tmp_path / "run", init_from=plain / "best.safetensors", model=toy_model(decoder_channels=24)),
                **toys(),
            )

    @pytest.mark.parametrize(
        "changes",
        [
            {"model": toy_model(auxiliary="image")},
            {"model": toy_model(pointrend=True, pointrend_options={"train_points": 32, "points": 64})},
            {"model": toy_model(auxiliary="none", bins=())},
            {"optimizer": {"name": "adamw", "learning_rate": 1e-3, "layer_decay": 0.7}},
            {"activation_checkpointing": True, "channels_last": True, "deterministic": True},
            {"loss": {"cross_entropy": 0.5, "dice": 0.5, "class_weights": [1.0, 2.0, 3.0]}, "val_limit": 2},
        ],
    )
    def test_every_choice_runs(self, tmp_path: Path, changes: dict[str, Any]) -> None:
        assert train(toy_run(tmp_path / "run", **{"steps": 2, "val_every": 1} | changes), **toys()).exists()
        assert not torch.are_deterministic_algorithms_enabled(), "the caller's switches are as they were"

    def test_without_validation_the_last_model_is_the_result(self, tmp_path: Path) -> None:
        path = train(toy_run(tmp_path / "run"), train_data=Toys(), quiet=True)
        assert path.read_bytes() == (tmp_path / "run" / "last.safetensors").read_bytes()

    def test_divergence_is_said_and_never_saved(self, tmp_path: Path) -> None:
        run = tmp_path / "run"
        with pytest.raises(TrainingError, match=r"diverged.*learning_rate"):
            train(toy_run(run, optimizer={"learning_rate": 1e18}, checkpoint_every=1), train_data=Toys(), quiet=True)
        assert json.loads((run / "state.json").read_text())["status"] == "failed"
        if (run / "last.ckpt").exists():
            assert all(bool(torch.isfinite(v).all()) for v in state(run)["state_dict"].values())

    def test_wrong_classes_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"model.num_classes = 7, but the data set has 3"):
            train(toy_run(tmp_path / "run", model=toy_model(num_classes=7)), **toys())
        with pytest.raises(ConfigError, match=r"class_weights has 2 numbers"):
            train(toy_run(tmp_path / "run", loss={"class_weights": [1.0, 2.0]}), **toys())
        with pytest.raises(ConfigError, match=r"give both the same table"):
            train(toy_run(tmp_path / "run"), train_data=Toys(), val_data=Toys(names=("a", "b", "c")), quiet=True)
        assert not (tmp_path / "run").exists()

    def test_an_unreadable_file_in_mid_run(self, tmp_path: Path) -> None:
        def fail(reads: int) -> None:
            if reads == 15:
                raise ImageError("'toy.png' is cut off")

        with pytest.raises(ImageError, match=r"^'toy.png' is cut off$"):
            train(toy_run(tmp_path / "run"), train_data=Toys(on_read=fail), quiet=True)
        assert "toy.png" in json.loads((tmp_path / "run" / "state.json").read_text())["message"]

    def test_faults_of_a_data_set_come_together_before_anything_runs(self, tmp_path: Path) -> None:
        root = tmp_path / "data"
        for split, faulty in (("train", True), ("val", False)):
            for kind in ("images", "labels"):
                (root / split / kind).mkdir(parents=True)
            for i in range(3):
                sample = Toys(seed=int(faulty))[i]
                Image.fromarray(sample.image).save(root / split / "images" / f"{i}.png")
                labels = sample.labels.copy()
                if faulty and i == 0:
                    labels[5, 5] = 34
                Image.fromarray(labels[: 30 if faulty and i == 1 else None]).save(root / split / "labels" / f"{i}.png")
        (root / "classes.csv").write_text("code,name,red,green,blue\n0,a,1,2,3\n1,b,9,9,9\n2,c,50,0,0\n")
        data = {"format": "folder", "root": root}
        with pytest.raises(DataError) as caught:
            train(toy_run(tmp_path / "run", data=data, check_data=True), quiet=True)
        assert "code 34" in str(caught.value)
        assert "40 x 30" in str(caught.value)
        assert len(caught.value.faults) == 2
        assert not (tmp_path / "run").exists()
        for i in (0, 1):
            (root / "train" / "images" / f"{i}.png").unlink()
            (root / "train" / "labels" / f"{i}.png").unlink()
        assert train(toy_run(tmp_path / "run", data=data, steps=2, val_every=2), quiet=True).exists()


class TestRateFinder:
    def test_suggestion_and_plot(self, tmp_path: Path) -> None:
        search = find_learning_rate(toy_run(tmp_path / "run"), train_data=Toys(), steps=30, plot=tmp_path / "rate.png")
        assert len(search.rates) == len(search.losses) <= 30
        assert 1e-6 <= search.suggestion <= 1.0
        assert np.asarray(Image.open(tmp_path / "rate.png")).shape[1] > 300
        assert not (tmp_path / "run").exists()

    def test_the_steepest_fall_is_suggested(self) -> None:
        from pspnet.training.lr_finder import suggest

        rates = np.logspace(-6, 0, 61)
        losses = 1 / (1 + np.exp(3 * (np.log10(rates) + 3))) + np.where(rates > 0.05, 40 * (rates - 0.05), 0)
        assert suggest(rates, losses) == pytest.approx(1e-3, rel=0.3)
