"""Predictions against counting by hand, against real tensors, against PyTorch's own counter and against a process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pspnet.config.model import ModelConfig
from pspnet.inspection import Call, CallLedger, Cost, Machine, ModelInfo, measure_machine, model_info
from pspnet.inspection.calls import DENSE, GROUPED, KINDS
from pspnet.inspection.costs import PASSES, bytes_besides_tensors
from pspnet.nn import PSPNet
from support.process_memory import measured_bytes

SLOW_MACHINE = Machine("test", dict.fromkeys(KINDS, 1e9), bytes_per_s=1e9, seconds_per_call=0.0)
SMALL_SWIN = {"embed_dim": 12, "depths": (1, 2, 1, 1), "heads": (1, 2, 2, 4), "window_size": 4}


def info(**values: Any) -> ModelInfo:
    size = {name: values.pop(name) for name in ("height", "width", "batch") if name in values}
    return model_info(ModelConfig(num_classes=5, **values), machine=SLOW_MACHINE, **{"height": 48, "width": 64, **size})


@pytest.mark.parametrize(
    ("weight", "options", "cells", "multiplications"),
    [
        ((8, 6, 3, 3), {"padding": 1}, 2 * 8 * 10 * 12, 6 * 9),  # each output cell, each input channel, nine taps
        ((8, 6, 3, 3), {"padding": 1, "stride": 2}, 2 * 8 * 5 * 6, 6 * 9),
        ((6, 1, 5, 5), {"padding": 2, "groups": 6}, 2 * 6 * 10 * 12, 25),  # depthwise: its own channel only
    ],
)
def test_convolutions_cost_two_for_each_multiplication(
    weight: tuple[int, ...], options: dict[str, int], cells: int, multiplications: int
) -> None:
    inputs, kernel = torch.randn(2, 6, 10, 12, requires_grad=True), torch.randn(weight, requires_grad=True)
    with CallLedger() as ledger:
        output = F.conv2d(inputs, kernel, **options)
    assert sum(call.flops for call in ledger.calls) == 2 * cells * multiplications
    with CallLedger() as ledger:
        output.backward(torch.ones_like(output))
    assert sum(call.flops for call in ledger.calls) == 2 * 2 * cells * multiplications  # of the input, of the weight


def test_products_and_transposed_convolutions_are_counted() -> None:
    with CallLedger() as ledger:
        torch.nn.Linear(5, 7)(torch.ones(3, 5))
        torch.ones(4, 3, 5) @ torch.ones(4, 5, 2)
        F.conv_transpose2d(torch.ones(1, 2, 3, 3), torch.ones(2, 4, 2, 2), stride=2)
    assert [call.flops for call in ledger.calls if call.flops] == [2 * 3 * 7 * 5, 2 * 4 * 3 * 2 * 5, 2 * 9 * 2 * 4 * 4]


def test_memory_is_that_of_the_tensors_alive_at_once() -> None:
    with CallLedger() as ledger:
        first = torch.ones(1000)  # 4000 bytes
        second = first + 1  # 8000
        view = second.view(10, 100)[1:]
        del first, second  # the view keeps its storage
        assert ledger.live_bytes == 4000
        third = view * 2  # 4000 + 3600
        del view, third
    assert ledger.live_bytes == 0
    assert ledger.peak_bytes == 8000


def test_what_was_there_before_is_not_counted_again() -> None:
    weight = torch.ones(100, 100)
    with CallLedger() as ledger:
        product = torch.ones(1, 100) @ weight.t()  # a view of what was there
        weight.add_(1)
    assert ledger.peak_bytes == 800
    del product


def test_views_cost_nothing_and_the_rest_its_traffic() -> None:
    x = torch.ones(1000)
    with CallLedger() as ledger:
        x.view(10, 100).transpose(0, 1)
        x.add_(1)
    assert ledger.calls == [("dense", 0, 8000)]


def test_time_is_the_longer_of_arithmetic_and_traffic() -> None:
    machine = Machine("test", {DENSE: 100.0, GROUPED: 10.0}, bytes_per_s=10.0, seconds_per_call=0.5)
    calls = (Call(DENSE, 200, 10), Call(DENSE, 0, 40), Call(GROUPED, 30, 1))
    assert Cost(0, 0, calls).seconds(machine) == pytest.approx(2 + 4 + 3 + 3 * 0.5)


@pytest.mark.parametrize(("fusion", "gflop"), [("plain", 312), ("folded", 246)])
def test_the_known_cost_of_pspnet_50(fusion: str, gflop: float) -> None:
    """Recorded for 480 x 480 and 150 classes by an independent count."""
    actual = model_info(ModelConfig(encoder="resnet50", fusion=fusion), 480, 480, machine=SLOW_MACHINE)
    assert actual.segment.flops / 1e9 == pytest.approx(gflop, rel=0.01)
    assert (
        2.9 < actual.train.flops / actual.segment.flops < 3.4
    )  # forward, to the inputs, to the weights; auxiliary head


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {"encoder": "resnet18"},
        {"encoder": "efficientnet_b0", "decoder": "unet"},
        {"encoder": "swin_tiny", "encoder_options": SMALL_SWIN, "decoder": "fpn", "auxiliary": "image"},
        {
            "encoder": "mobilenetv2",
            "pointrend": True,
            "pointrend_options": {"points": 64},
            "decoder": "progressive",
            "auxiliary": "none",
            "in_bands": 5,
        },
    ],
    ids=lambda values: str(values["encoder"]),
)
def test_parts_add_up_and_tensors_without_memory_tell_what_real_ones_do(values: dict[str, Any]) -> None:
    actual = info(**values)
    model = PSPNet(actual.config).eval()
    images = torch.randn(1, actual.config.in_bands, 48, 64)
    with torch.no_grad(), CallLedger() as ledger:
        model(images)
    with torch.no_grad(), CallLedger() as repeated:
        for _ in range(PASSES):
            model(images)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        features: list[Tensor] = model.encoder(images)
        model(images)
    by_name = {stage.name: stage for stage in actual.stages}
    encoder = [stage for stage in actual.stages if stage.name.startswith("encoder")]
    assert (
        sum(stage.parameters for stage in actual.stages)
        == actual.parameters
        == sum(p.numel() for p in model.parameters())
    )
    assert sum(stage.flops for stage in actual.stages) == actual.segment.flops
    assert actual.segment.flops == sum(call.flops for call in ledger.calls) or values["encoder"] == "swin_tiny"
    assert [stage.shape for stage in encoder] == [tuple(f.shape[1:]) for f in features]
    assert all(stage.flops > 0 and stage.parameters > 0 for stage in encoder)
    counts = counter.get_flop_counts()
    for part in ("pyramid", "classifier"):
        assert by_name[part].flops == sum(counts[f"PSPNet.{part}"].values())
    assert by_name.keys() & {"auxiliary"} == ({"auxiliary"} if actual.config.auxiliary != "none" else set())
    held = sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers(), images])
    tensors = actual.segment.memory_bytes - bytes_besides_tensors(model)
    assert tensors == pytest.approx(held + repeated.heap.peak_bytes, rel=0.02)


@pytest.mark.slow
def test_the_switch_for_deterministic_algorithms_changes_no_prediction() -> None:
    values: dict[str, Any] = {"encoder": "mobilenetv2", "pointrend": True, "pointrend_options": {"points": 64}}
    usual = info(**values).segment
    torch.use_deterministic_algorithms(True)
    try:
        assert info(**values).segment.memory_bytes == pytest.approx(usual.memory_bytes, rel=0.01)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_model_is_described_by_its_config_and_left_alone() -> None:
    config = ModelConfig(encoder="resnet18", num_classes=5)
    model = PSPNet(config).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert model_info(model, 48, 64, machine=SLOW_MACHINE).segment == info(encoder="resnet18").segment
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_costs_grow_with_batch_and_size() -> None:
    one, two = info(encoder="resnet18", batch=1), info(encoder="resnet18", batch=2)
    large = info(encoder="resnet18", height=96, width=128)
    assert two.train.flops == pytest.approx(2 * one.train.flops, rel=0.02)
    assert one.train.memory_bytes < two.train.memory_bytes < 2 * one.train.memory_bytes  # weights count once
    assert two.segment == one.segment
    assert large.segment.flops == pytest.approx(4 * one.segment.flops, rel=0.05)


def test_the_table_names_parts_units_and_machine() -> None:
    text = str(info(encoder="resnet18", batch=4))
    assert "encoder 5, stride 8  512 x 6 x 8" in text
    assert "training step, 4 x 48 x 64 px" in text
    assert "auxiliary            (training only)" in text
    assert "pyramid: 4 levels (1, 2, 3, 6) of 128 channels each, beside the input's 512" in text
    assert "5 levels (1, 2, 3, 4, 6) of 102 channels each" in str(info(encoder="resnet18", bins=(1, 2, 3, 4, 6)))
    assert "pyramid: " not in str(info(encoder="resnet18", bins=()))
    assert "GFLOP" in text
    assert "MiB" in text
    assert "test: 1 GFLOP/s, 1.0 GB/s" in text


def test_the_machine_is_measured() -> None:
    machine = measure_machine(seconds=0.05)
    assert all(1e7 < rate < 1e14 for rate in machine.flops_per_s.values())
    assert set(machine.flops_per_s) == set(KINDS)
    assert 1e7 < machine.bytes_per_s < 1e13
    assert 0 < machine.seconds_per_call < 1e-2


@pytest.mark.parametrize("busy", [False, True])
def test_rates_of_a_busy_machine_are_said_to_be_rough(monkeypatch: pytest.MonkeyPatch, busy: bool) -> None:
    monkeypatch.setattr("pspnet.inspection.rates.is_busy", lambda: busy)
    machine = measure_machine(seconds=0.01)
    assert ("rough, since the machine is busy" in str(machine)) == busy
    text = str(model_info(ModelConfig(encoder="resnet18", num_classes=3), 64, 64, machine=machine))
    assert text.endswith(f"measured just now on {machine}")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="a process's peak memory is read from /proc")
@pytest.mark.parametrize(
    ("values", "mode", "batch", "side"),
    [
        ({"encoder": "resnet18"}, "segment", 1, 384),
        ({"encoder": "mobilenetv2"}, "segment", 1, 384),
        ({"encoder": "swin_tiny"}, "segment", 1, 256),
        ({"encoder": "resnet18"}, "train", 2, 192),
        ({"encoder": "efficientnet_b0"}, "train", 2, 128),
        ({"encoder": "resnet18", "decoder": "unet"}, "train", 1, 192),
    ],
    ids=str,
)
def test_memory_is_close_to_a_real_process(values: dict[str, Any], mode: str, batch: int, side: int) -> None:
    """Within 25 %, under the allocator as it comes. Time is not tested, since it tells more of the machine's other work."""
    foretold = model_info(ModelConfig(**values), side, side, batch, SLOW_MACHINE)
    cost = foretold.segment if mode == "segment" else foretold.train
    assert cost.memory_bytes == pytest.approx(measured_bytes(values, mode, batch, side), rel=0.25)
