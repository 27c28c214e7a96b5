"""Memory and time told before a run starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from pspnet.training import forecast as room
from pspnet.training import train
from pspnet.training.forecast import Forecast, forecast
from pspnet.training.resolve import DataSets, resolve
from support.paths import ROOT
from support.toys import Toys, toy_run


def told(data: DataSets | None = None, **changes: Any) -> Forecast:
    data = data or DataSets.given(Toys(), None)
    return forecast(resolve(toy_run(Path("x"), **{"augmentation": {"crop": 129}} | changes), data), data)


@pytest.mark.slow
def test_what_makes_a_run_larger_is_counted() -> None:
    base = told()
    weights = 2 * 2**20  # the toy network has 0.6 million; each value kept for each of them takes 4 bytes
    assert told(batch_size=8).memory_bytes > base.memory_bytes + 10 * 2**20
    assert told(augmentation={"crop": 257}).memory_bytes > base.memory_bytes + 5 * 2**20
    assert told(ema=0.9).memory_bytes >= base.memory_bytes + weights
    assert told(optimizer={"name": "adamw", "learning_rate": 1e-3}).memory_bytes >= base.memory_bytes + weights
    assert told(freeze_encoder=True).memory_bytes < base.memory_bytes - weights
    assert told(progressive_resizing=((2.0, 0.3),)).memory_bytes > base.memory_bytes + 5 * 2**20
    crop = {"augmentation": {"crop": 257}, "batch_size": 8}
    assert told(activation_checkpointing=True, **crop).memory_bytes < told(**crop).memory_bytes
    large = DataSets.given(Toys(), Toys(1, size=1200))
    assert told(large).memory_bytes > 4 * base.memory_bytes / 3  # validation sees whole images
    longer = told(steps=60)  # rates are measured anew, on a machine that others use too
    assert longer.total_s == pytest.approx(60 * longer.step_s)


def test_the_terminal_is_told_and_warned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train(toy_run(tmp_path / "one", steps=1), train_data=Toys())
    assert "estimated: 0." in capsys.readouterr().err
    monkeypatch.setattr(room, "free_memory_bytes", lambda: 10 * 2**20)
    with pytest.warns(UserWarning, match=r"memory will probably not do: 0\.\d GiB are needed.*batch_size \(2\)"):
        train(toy_run(tmp_path / "two", steps=1), train_data=Toys())


PROGRAM = textwrap.dedent("""
    import json, sys
    sys.path.insert(0, sys.argv[2])
    from pathlib import Path
    import lightning_fabric, torch._dynamo, torch.utils.tensorboard
    from pspnet.bench.process_memory import MIB, forget_peak, memory_mib
    from pspnet.training import train
    from pspnet.training.forecast import forecast
    from pspnet.training.resolve import DataSets, resolve
    from support.toys import Toys, toy_run

    changes, side = json.loads(sys.argv[1])
    data = Toys(8, size=side + 20)
    config = toy_run(Path(sys.argv[3]), augmentation={"crop": side}, steps=4, pictures=0, **changes)
    told = forecast(resolve(config, DataSets.given(data, None)), DataSets.given(data, None)).memory_bytes

    forget_peak()  # of the imports
    base = memory_mib("VmRSS")
    train(config, train_data=data, quiet=True)
    print((memory_mib("VmHWM") - base) * MIB / told)
""")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="a process's peak memory is read from /proc")
@pytest.mark.parametrize(
    ("changes", "side"),
    [
        ({"model": {"encoder": "mobilenetv2"}}, 256),
        ({"model": {"encoder": "resnet18"}, "ema": 0.9, "optimizer": {"name": "adamw", "learning_rate": 1e-4}}, 192),
        ({"model": {"encoder": "resnet50"}, "activation_checkpointing": True}, 192),
        ({"model": {"encoder": "resnet50"}, "freeze_encoder": True}, 192),
    ],
    ids=str,
)
def test_memory_is_close_to_a_real_run(changes: dict[str, Any], side: int, tmp_path: Path) -> None:
    """Within 25 %, in float32, under the allocator as it comes."""
    command = [sys.executable, "-c", PROGRAM, json.dumps([changes, side]), str(ROOT / "tests"), str(tmp_path / "run")]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1]) == pytest.approx(1.0, abs=0.25)
