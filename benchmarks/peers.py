"""PSPNet-50 here beside other projects' networks: one run, in turns, from an image in memory to labels at its size.

    sh benchmarks/peers_env.sh                       # once: the other projects in .peers
    python benchmarks/peers.py [--precision fp32] [--size 480] [--threads 2] [--rounds 7] [--out benchmarks/results]

Each network is a process of its own (`pspnet.bench.interleaved`). Ratios are medians over the rounds of (their time / ours in
the same round), by the clock and of processor time; on a busy machine read the latter. mmsegmentation's network and
ours have the same weights (the golden formula of tests/support/golden_weights.py), so their labels can be compared too. The
others are other networks: what differs stands beside their figures.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

import numpy as np  # noqa: E402
import torch  # noqa: E402

from pspnet.bench.interleaved import Contestant, Measured, ratios, serve, take_turns  # noqa: E402

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
NOTES = {
    "mmsegmentation": "the same network and weights as ours; its own path: encode_decode, then argmax",
    "smp": "runs the resnet50's first two of four stages only (stride 8 without dilation): far fewer operations",
    "torchvision FCN": "the dilated resnet50 with a 3x3 head of 512 channels: no pyramid, nothing joined",
    "torchvision DeepLabV3": "the dilated resnet50 with atrous pyramid (rates 12, 24, 36) and a 3x3 layer of 256",
    "ours": "folded fusion; labels by strips",
}


def golden_input(size: int) -> np.ndarray[Any, Any]:
    """(1, 3, size, size) float32, normalised."""
    from support.golden_weights import make_input

    return make_input("input/mmseg_pspnet_r50/peers", (1, 3, size, size))


def fill(model: torch.nn.Module, gain: float) -> None:
    """The golden weights, by name."""
    from support.golden_weights import fill_entry

    state = model.state_dict()
    model.load_state_dict({n: torch.from_numpy(fill_entry(n, tuple(v.shape), gain)) for n, v in state.items()})


class _NoOperators(ModuleType):
    """Stands for mmcv.ops, whose compiled operators mmcv-lite leaves out: other networks name them, PSPNet uses none."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (torch.nn.Module,), {})


def mmsegmentation(job: dict[str, Any]) -> torch.nn.Module:
    sys.modules["mmcv.ops"] = _NoOperators("mmcv.ops")
    from mmseg.registry import MODELS
    from mmseg.utils import register_all_modules

    register_all_modules()
    norm = {"type": "BN", "requires_grad": True}
    loss = {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0}
    config = {
        "type": "EncoderDecoder",
        "backbone": {
            "type": "ResNetV1c",
            "depth": 50,
            "num_stages": 4,
            "out_indices": (0, 1, 2, 3),
            "dilations": (1, 1, 2, 4),
            "strides": (1, 2, 1, 1),
            "norm_cfg": norm,
            "norm_eval": False,
            "style": "pytorch",
            "contract_dilation": True,
        },
        "decode_head": {
            "type": "PSPHead",
            "in_channels": 2048,
            "in_index": 3,
            "channels": 512,
            "pool_scales": (1, 2, 3, 6),
            "dropout_ratio": 0.1,
            "num_classes": 150,
            "norm_cfg": norm,
            "align_corners": False,
            "loss_decode": loss,
        },
        "auxiliary_head": {
            "type": "FCNHead",
            "in_channels": 1024,
            "in_index": 2,
            "channels": 256,
            "num_convs": 1,
            "concat_input": False,
            "dropout_ratio": 0.1,
            "num_classes": 150,
            "norm_cfg": norm,
            "align_corners": False,
            "loss_decode": loss,
        },
        "train_cfg": {},
        "test_cfg": {"mode": "whole"},
    }
    model = MODELS.build(config).eval()
    fill(model, 0.72)
    torch.save(
        {"meta": {"cfg": f"model = {config!r}"}, "state_dict": model.state_dict()}, Path(job["folder"]) / "mmseg.pth"
    )
    return model


def smp(_: dict[str, Any]) -> torch.nn.Module:
    import segmentation_models_pytorch

    return segmentation_models_pytorch.PSPNet("resnet50", encoder_weights=None, classes=150).eval()


def fcn(_: dict[str, Any]) -> torch.nn.Module:
    from torchvision.models.segmentation import fcn_resnet50

    return fcn_resnet50(weights=None, weights_backbone=None, num_classes=150).eval()


def deeplab(_: dict[str, Any]) -> torch.nn.Module:
    from torchvision.models.segmentation import deeplabv3_resnet50

    return deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=150).eval()


THEIRS: dict[str, Callable[[dict[str, Any]], torch.nn.Module]] = {
    "mmsegmentation": mmsegmentation,
    "smp": smp,
    "torchvision FCN": fcn,
    "torchvision DeepLabV3": deeplab,
}


def their_work(job: dict[str, Any]) -> tuple[Callable[[], Any], dict[str, Any]]:
    """Their network as it is usually called: eager, in its own memory layout, every logit resized, then argmax."""
    from torch.utils.flop_counter import FlopCounterMode

    torch.set_num_threads(job["threads"])
    name = job["name"]
    model = THEIRS[name](job)
    images = torch.from_numpy(golden_input(job["size"]))

    def logits(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        if name == "mmsegmentation":
            side = tuple(images.shape[2:])
            return model.encode_decode(images, [{"img_shape": side, "ori_shape": side, "pad_shape": side}])
        found = model(images)
        return found["out"] if isinstance(found, dict) else found

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        logits(model, images)
    half = job["precision"] == "bf16"

    def work() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            labels = logits(model, images).argmax(dim=1)
        np.save(Path(job["folder"]) / f"{job['key']}.npy", labels[0].numpy().astype(np.uint8))

    return work, {"gflop": counter.get_total_flops() / 1e9, "parameters": sum(p.numel() for p in model.parameters())}


def our_work(job: dict[str, Any]) -> tuple[Callable[[], Any], dict[str, Any]]:
    """Ours: the imported checkpoint in a Segmenter."""
    from pspnet import Segmenter
    from pspnet.bench.worker import flops_of
    from pspnet.weights.importing import import_checkpoint

    torch.set_num_threads(job["threads"])
    found = import_checkpoint(Path(job["folder"]) / "mmseg.pth", "mmseg", check=False)
    segmenter = Segmenter(found.model, found.card, device="cpu", precision=job["precision"], engine=job["engine"])
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    images = torch.from_numpy(golden_input(job["size"])) * std + mean

    def work() -> None:
        labels, _ = segmenter.labels(images)
        np.save(Path(job["folder"]) / f"{job['key']}.npy", labels[0].numpy())

    return work, {
        "gflop": flops_of(segmenter.config, job["size"], job["size"]) / 1e9,
        "parameters": sum(p.numel() for p in segmenter.model.parameters()),
    }


def line(name: str, result: Measured, first: Measured, labels: Path | None, wanted: Path, note: str) -> dict[str, Any]:
    """One network's line: medians, and medians of the ratios first / this within each round."""
    if result.failure:
        return {"name": name, "failure": result.failure, "note": note}
    return {
        "name": name,
        "ms": round(result.median_s * 1e3, 1),
        "processor_ms": round(result.median_processor_s * 1e3, 1),
        "ratio": round(statistics.median(ratios(first, result)), 3),
        "processor_ratio": round(statistics.median(ratios(first, result, processor=True)), 3),
        "peak_mib": result.peak_mib,
        "beyond_mib": round(result.peak_mib - result.ready_mib, 1),
        "gflop": round(result.about["gflop"], 1),
        "parameters": result.about["parameters"],
        "equal_labels": None if labels is None else round(float((np.load(labels) == np.load(wanted)).mean()), 5),
        "note": note,
        "wall_s": result.wall_s,
        "processor_s": result.processor_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--peers", type=Path, default=ROOT / ".peers" / "bin" / "python", help="Python of their environment"
    )
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the other networks")
    parser.add_argument("--size", type=int, default=480, help="side of the image, px")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", help="comma-separated names of other networks (default: all)")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the result")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        job = json.loads(given.child)
        serve(lambda: (their_work if job["name"] in THEIRS else our_work)(job))
    if not given.peers.exists():
        sys.exit(f"{given.peers} does not exist: run sh benchmarks/peers_env.sh first")
    from pspnet.bench.machine import commit, hardware, stamp

    torch.set_num_threads(given.threads)
    machine = hardware(torch.device("cpu"))
    theirs = [name for name in THEIRS if name == "mmsegmentation" or not given.only or name in given.only.split(",")]
    ours = [("torch", given.precision), ("openvino", given.precision)]
    if "bf16" in machine.products and given.precision != "bf16":
        ours += [("torch", "bf16"), ("openvino", "bf16")]
    with tempfile.TemporaryDirectory() as folder:
        contestants, keys, notes = [], {}, {}
        common = {"folder": folder, "size": given.size, "threads": given.threads}
        jobs = [{"name": n, "precision": given.precision, "key": f"t{i}"} for i, n in enumerate(theirs)]
        jobs += [{"name": "ours", "engine": e, "precision": p, "key": f"o{i}"} for i, (e, p) in enumerate(ours)]
        for job in jobs:
            python = str(given.peers) if job["name"] in THEIRS else sys.executable
            title = " ".join([job["name"], job.get("engine", ""), job["precision"]]).replace("  ", " ")
            command = [python, str(Path(__file__)), "--child", json.dumps(common | job)]
            environment = {"OMP_NUM_THREADS": str(given.threads), "PYTHONWARNINGS": "ignore"}
            contestants.append(Contestant(title, command, environment))
            keys[title], notes[title] = Path(folder) / f"{job['key']}.npy", NOTES[job["name"]]
        found = take_turns(contestants, given.rounds, told=lambda text: print(text, file=sys.stderr, flush=True))
        first = contestants[0].name
        if found[first].failure:
            sys.exit(f"{first}, with which the others are compared, did not run: {found[first].failure}")
        lines = [
            line(
                name,
                result,
                found[first],
                keys[name] if name.startswith(("mmseg", "ours")) else None,
                keys[first],
                notes[name],
            )
            for name, result in found.items()
        ]
    print(machine)
    print(f"\nratio: time of {first} / time of this one, medians over {given.rounds} rounds\n")
    print(
        f"{'network':34s} {'ms':>8s} {'ratio':>6s} {'proc. ms':>9s} {'ratio':>6s} {'GFLOP':>6s} {'MiB':>6s} {'equal':>8s}"
    )
    for row in lines:
        if "failure" in row:
            print(f"{row['name']:34s} not run: {row['failure']}")
            continue
        equal = "" if row["equal_labels"] is None else f"{row['equal_labels']:.3%}"
        print(
            f"{row['name']:34s} {row['ms']:8.0f} {row['ratio']:6.2f} {row['processor_ms']:9.0f} {row['processor_ratio']:6.2f} "
            f"{row['gflop']:6.0f} {row['peak_mib']:6.0f} {equal:>8s}   {row['note']}"
        )
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / f"peers-{given.precision}-{stamp(machine.slug)}.json"
    part = path.with_suffix(f".{os.getpid()}.part")
    facts = {"commit": commit(), "machine": str(machine), "size": given.size, "threads": given.threads, "lines": lines}
    part.write_text(json.dumps(facts, indent=1) + "\n")
    os.replace(part, path)
    print(f"-> {path}")


if __name__ == "__main__":
    main()
