"""The state of a run as a file: altered, damaged, of an older pspnet, on a full disk, read-only, wanted by two at once."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
from pathlib import Path
from typing import Any

import lightning_fabric  # noqa: F401  here, or each forked child would import it anew
import pytest
import torch
from PIL import Image

from pspnet.errors import ConfigError, DataError, OutputError, TrainingError
from pspnet.nn import PSPNet
from pspnet.training import resume, train
from pspnet.training.callbacks import TrainingEvent
from pspnet.training.checkpoint import digest, read_state, read_state_file, write_state
from pspnet.training.run_folder import RunFolder
from pspnet.training.state import TrainingState
from support.toys import Toys, ended, in_child, toy_model, toy_run


def small_state(folder: Path) -> TrainingState:
    model = toy_model(num_classes=3, encoder_options={"depth": 3}, decoder_channels=8)
    return TrainingState(PSPNet(model), toy_run(folder, model=model, ema=0.9), torch.device("cpu"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = RunFolder(tmp_path_factory.mktemp("state"))
    write_state(folder, small_state(folder.path).to_dict())
    return folder.last_state.read_bytes()


def equal(a: Any, b: Any) -> bool:
    return digest(a) == digest(b)


def test_the_digest_sees_names_types_shapes_and_bits() -> None:
    base = {"a": torch.zeros(2, 3), "b": [1, 2.0], "c": {"d": None}}
    zero = torch.zeros(2, 3)
    zero[1, 2] = -0.0
    others = [
        base | {"a": zero},
        base | {"a": torch.zeros(3, 2)},
        base | {"a": torch.zeros(2, 3, dtype=torch.int32)},
        base | {"b": [1, 2]},
        {"A": base["a"], "b": base["b"], "c": base["c"]},
    ]
    assert equal(base, {**base, "b": (1, 2.0)})
    assert len({digest(value) for value in (base, *others)}) == 6


def test_an_altered_file_is_never_taken(saved: bytes, tmp_path: Path) -> None:
    path, rng = tmp_path / "x.ckpt", random.Random(5)
    path.write_bytes(saved)
    good = digest(read_state_file(path))
    refused = 0
    for number in range(60):
        data = bytearray(saved)
        if number < 50:  # half of them where the names and numbers stand, half anywhere
            at = rng.randrange(len(data)) if number % 2 else rng.randrange(20_000)
            data[at] ^= 1 << rng.randrange(8)
        else:
            data = data[: rng.randrange(len(data))]
        path.write_bytes(data)
        try:
            assert digest(read_state_file(path)) == good  # a bit that means nothing
        except TrainingError:
            refused += 1
    assert refused > 30


def test_a_state_of_the_trainer_is_gone_on_with(tmp_path: Path) -> None:
    """As pspnet saved it until 2026-11: with the keys of Lightning's Trainer and our callbacks'."""
    state = small_state(tmp_path)
    state.step, state.batches, state.best.score, state.best.step = 4, 8, 0.5, 3
    state.clock.images = 16
    new = state.to_dict()
    old = {
        "pytorch-lightning_version": "2.6.6",
        "epoch": 0,
        "global_step": 4,
        "batches_seen": 8,
        "state_dict": new["state_dict"] | {"loss.class_weights": torch.ones(3)},
        "optimizer_states": [new["optimizer"]],
        "lr_schedulers": [{"last_epoch": 4}],
        "callbacks": {
            "Reporter": {"clock": state.clock.to_dict(), "best": 0.5, "sums": {}, "batches": 0},
            "Validator": {"best": 0.5, "best_mean_iou": 0.5, "best_step": 3, "without_gain": 1, "validated_step": 3},
            "Keeper": {},
        },
    }
    path = tmp_path / "last.ckpt"
    torch.save(old, path)
    other = small_state(tmp_path)
    other.load(read_state_file(path))
    assert (other.step, other.batches, other.clock.images) == (4, 8, 16)
    assert (other.best.score, other.best.step, other.best.without_gain, other.best.validated_step) == (0.5, 3, 1, 3)
    assert equal(other.networks.state_dict(), state.networks.state_dict())


def test_two_states_are_kept(tmp_path: Path) -> None:
    folder, state = RunFolder(tmp_path), small_state(tmp_path)
    for step in (1, 2, 3):
        state.step = step
        write_state(folder, state.to_dict())
    assert [read_state_file(path)["step"] for path in (folder.last_state, folder.previous_state)] == [3, 2]
    folder.last_state.unlink()
    newest, _ = read_state(folder)
    assert newest is not None
    assert newest["step"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["previous.ckpt"]


def limited(kib: int) -> None:
    """As a full disk would: no file of this process grows beyond."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kib * 1024, resource.RLIM_INFINITY))


def test_a_disk_without_room_for_a_state(tmp_path: Path) -> None:
    """The reason in words, the run known as failed, nothing half left; with room again the run goes on to the same end."""
    run, whole = tmp_path / "run", tmp_path / "whole"
    options = {"checkpoint_every": 2, "model": toy_model(encoder_options={"depth": 3}, decoder_channels=8)}

    def work() -> None:
        limited(100)
        with pytest.raises(OutputError, match=r"last.ckpt' cannot be written: File too large"):
            train(toy_run(run, **options), train_data=Toys(), quiet=True)

    assert ended(in_child(work)) == 0
    state = json.loads((run / "state.json").read_text())
    assert state["status"] == "failed"
    assert "File too large" in state["message"]
    assert not [path for path in run.rglob("*") if ".part" in path.name or path.name.endswith(".lock")]
    resume(run, train_data=Toys(), quiet=True)
    train(toy_run(whole, **options), train_data=Toys(), quiet=True)
    assert (run / "last.safetensors").exists()
    first, second = (torch.load(folder / "last.ckpt", weights_only=True)["state_dict"] for folder in (run, whole))
    assert equal(first, second)


def test_a_failed_run_is_not_running_where_nothing_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """state.json is written over where no second file has room beside it."""
    folder = RunFolder(tmp_path)
    folder.update_state("running", step=3, message="")

    def full(*_: Any, **__: Any) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr("pspnet.training.run_folder.write_text", full)
    folder.update_state("failed", message="no room " * 20)
    assert json.loads((tmp_path / "state.json").read_text())["status"] == "failed"
    folder.update_state("running", message="")  # shorter: nothing of the longer text is left
    assert json.loads((tmp_path / "state.json").read_text())["message"] == ""
    (tmp_path / "state.json").unlink()
    with pytest.raises(OutputError, match="the disk is full"):
        folder.update_state("failed")


def test_two_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pspnet.training.run_folder.LOADERS_END_S", 0.3)
    run = tmp_path / "run"
    child = in_child(
        lambda: train(toy_run(run), train_data=Toys(on_read=lambda n: os.kill(os.getpid(), 9) if n == 18 else None))
    )
    assert ended(child) == -signal.SIGKILL
    with RunFolder(run).owned():
        before = (run / "metrics.csv").read_bytes()

        def second() -> None:
            with pytest.raises(TrainingError, match=r"is being trained by another process"):
                resume(run, train_data=Toys(), quiet=True)

        assert ended(in_child(second)) == 0
        assert (run / "metrics.csv").read_bytes() == before
    assert resume(run, train_data=Toys(), quiet=True).exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("state.json", b""),
        ("state.json", b"[]"),
        ("metrics.csv", b"\xff\xfe\0\n1,2\nx,y\n"),
        ("metrics.csv", b"step,loss\nabc,def\n"),
        ("class_iou.csv", b""),
        ("scores_best.json", b""),
        ("best.safetensors", b"cut"),
    ],
)
def test_a_damaged_file_beside_the_state_does_not_stop_a_run(
    interrupted_run: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    import shutil

    run = tmp_path / "run"
    shutil.copytree(interrupted_run, run)
    (run / name).write_bytes(content)
    best = resume(run, train_data=Toys(), val_data=Toys(3, seed=9), quiet=True)
    assert best.exists()
    assert RunFolder.open(run).status() == "finished"
    assert [row["step"] for row in RunFolder(run).read_metrics()][-1] == 6


@pytest.fixture(scope="module")
def interrupted_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("interrupted") / "run"
    model = toy_model(encoder_options={"depth": 3}, decoder_channels=8)
    reads = 12 + 1 + 10  # the statistics, the best model's card, five steps of two
    data = Toys(on_read=lambda n: os.kill(os.getpid(), signal.SIGTERM) if n == reads else None)
    child = in_child(lambda: train(toy_run(run, model=model, val_every=2), train_data=data, val_data=Toys(3, seed=9)))
    assert ended(child) == 143
    return run


def test_a_config_that_no_run_wrote(interrupted_run: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("name: x\n")
    with pytest.raises(TrainingError, match=r"config.yaml' is not what a run wrote there"):
        resume(tmp_path, train_data=Toys(), quiet=True)


def test_a_run_whose_data_moved(tmp_path: Path) -> None:
    run, data = tmp_path / "run", tmp_path / "data"
    for kind in ("images", "labels"):
        (data / "train" / kind).mkdir(parents=True)
    for i in range(4):
        sample = Toys()[i]
        Image.fromarray(sample.image).save(data / "train" / "images" / f"{i}.png")
        Image.fromarray(sample.labels).save(data / "train" / "labels" / f"{i}.png")
    (data / "classes.csv").write_text("code,name,red,green,blue\n0,a,1,2,3\n1,b,9,9,9\n2,c,50,0,0\n")

    def stops(event: TrainingEvent) -> None:
        if event.kind == "log" and event.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    config = toy_run(run, data={"format": "folder", "root": data, "val_split": None})
    assert ended(in_child(lambda: train(config, callbacks=[stops], quiet=True))) == 143
    moved = tmp_path / "elsewhere"
    data.rename(moved)
    with pytest.raises(DataError, match=r"no longer in .*data'.*data.root=DIR .*config.yaml"):
        resume(run, quiet=True)
    with pytest.raises(ConfigError, match=r"--resume with steps=9: a run goes on as it was set up"):
        resume(run, settings=["steps=9"], quiet=True)
    assert resume(run, settings=[f"data.root={moved}", "workers=0"], quiet=True).exists()
    assert RunFolder(run).read_config().data.root == moved
