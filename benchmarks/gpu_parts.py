"""The parts of benchmarks/gpu.py: what is measured, each part on its own."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from gpu_bench import Bench, Row, Sizes, Work, counted, cudnn
from gpu_fused import fused
from pspnet import Segmenter, open_dataset
from training_step import our_step, plain_step


def card(bench: Bench) -> list[Row]:
    """The card itself: its rates, and how fast it copies (bytes read and written)."""
    rows = []
    for kind, rates in (("matrix product", bench.machine.products), ("3x3 convolution", bench.machine.convolutions)):
        rows += [{"name": f"{kind} {name}, TFLOP/s", "value": round(r.wall / 1e12, 2)} for name, r in rates.items()]
    numbers = 2**28 if bench.cuda else 2**20
    source = torch.rand(numbers, device=bench.device)
    target = torch.empty_like(source)
    row = bench.time("copy", lambda: target.copy_(source), 1)
    return [*rows, {"name": "copy, GB/s", "value": round(8 * numbers / row["ms"] / 1e6, 1)}]


def labels(bench: Bench) -> list[Row]:
    """Labels and logits beside the same weights in float32 on the CPU: a trained model on generated scenes, and the
    large network with random weights. error: |logits - the CPU's| / |the CPU's|. right: of all pixels."""
    from pspnet.data.scenes import Scenes

    samples = [Scenes(bench.sizes.scenes, split="val")[i] for i in range(bench.sizes.scenes)]
    scenes = torch.from_numpy(np.stack([s.image for s in samples])).permute(0, 3, 1, 2).float()
    truth = torch.from_numpy(np.stack([s.labels for s in samples if s.labels is not None]))
    large = bench.images(bench.sizes.crop_px, 2).cpu()
    rows = []
    for title, images, open_model in (
        ("scenes", scenes, lambda device, precision: Segmenter.load("scenes", device=device, precision=precision)),
        ("random", large, lambda device, precision: Segmenter(bench.ours(), device=device, precision=precision)),
    ):
        reference = open_model("cpu", "fp32")
        wanted, wanted_labels = reference.engine.coarse(images), reference.labels(images)[0]
        for name, precision, tf32 in (
            ("float32", "fp32", False),
            ("float32, TF32 allowed", "fp32", True),
            ("bfloat16", "bf16", True),
        ):
            with cudnn(allow_tf32=tf32):
                segmenter = open_model(str(bench.device), precision)
                logits, predicted = segmenter.engine.coarse(images).cpu(), segmenter.labels(images)[0].cpu()
            row: Row = {"name": f"{title}, {name}", "error": float((logits - wanted).norm() / wanted.norm())}
            row["equal_labels"] = round(float((predicted == wanted_labels).float().mean()), 6)
            if title == "scenes":
                row["right"] = round(float((predicted == truth).float().mean()), 6)
                row["right_cpu"] = round(float((wanted_labels == truth).float().mean()), 6)
            rows.append(row)
    return rows


def forward(bench: Bench) -> list[Row]:
    """Images on the card to coarse logits; `to labels`: to labels at the images' size, on the card."""
    images = bench.images(bench.sizes.forward_px)
    return [*ours_forward(bench, images), *others_forward(bench, images), *fused_forward(bench, images)]


def ours_forward(bench: Bench, images: Tensor) -> list[Row]:
    segmenter, batch = bench.segmenter(), len(images)
    with torch.no_grad():
        flops = counted(lambda: segmenter.model.coarse_logits(images))
    rows = [bench.time("ours, eager", lambda: segmenter.engine.coarse(images), batch, flops)]
    rows.append(bench.time("ours, to labels", lambda: segmenter.labels(images), batch, flops))
    one = images[:1].contiguous(memory_format=torch.channels_last)
    rows.append(bench.time("ours, one image", lambda: segmenter.engine.coarse(one), 1, flops // batch))
    with cudnn(benchmark=True):
        rows.append(bench.time("ours, cuDNN tries algorithms", lambda: segmenter.engine.coarse(images), batch, flops))
    network, contiguous = bench.ours().to(bench.device).eval(), images.contiguous()
    with torch.inference_mode(), bench.autocast():
        rows.append(bench.time("ours, contiguous", lambda: network.coarse_logits(contiguous), batch, flops))
    return rows


def others_forward(bench: Bench, images: Tensor) -> list[Row]:
    with torch.inference_mode(), bench.autocast():
        plain = bench.place(bench.plain()).eval()
        flops = counted(lambda: plain.coarse_logits(images))
        rows = [
            bench.time("plain PyTorch", lambda: plain.coarse_logits(images), len(images), flops),
            bench.time("plain PyTorch, to labels", lambda: plain(images)[0].argmax(1), len(images), flops),
        ]
        # smp's resnet50 stops after two of four stages, so its operations are few; its own path resizes every logit
        smp = smp_pspnet(bench)
        if isinstance(smp, str):
            return [*rows, {"name": "smp PSPNet, to labels", "failure": smp}]
        flops = counted(lambda: smp(images))
        return [*rows, bench.time("smp PSPNet, to labels", lambda: smp(images).argmax(1), len(images), flops)]


def fused_forward(bench: Bench, images: Tensor) -> list[Row]:
    """An experiment: what an engine that fuses by hand would reach. error, error_eager: |logits - float32's| / |float32's|."""
    name, model = "ours, fused by hand", bench.place(bench.ours(encoder=bench.sizes.bottlenecks)).eval()
    with torch.inference_mode():
        flops = counted(lambda: model.coarse_logits(images))
        few = images[:2].contiguous(memory_format=torch.channels_last)
        wanted = model.coarse_logits(few)  # float32
        try:
            network = fused(model, torch.bfloat16)
            coarse = network(few)
            row = bench.time(name, lambda: network(images), len(images), flops)
            with cudnn(benchmark=True):
                tried = bench.time(f"{name}, cuDNN tries", lambda: network(images), len(images), flops)
        except RuntimeError as refused:  # cuDNN has no such call for this type or shape: then that is the finding
            return [{"name": name, "failure": f"cuDNN: {' '.join(str(refused).split())[:200]}"}]
        with bench.autocast():
            usual = model.coarse_logits(few)
    row["error"], row["error_eager"] = (float((logits - wanted).norm() / wanted.norm()) for logits in (coarse, usual))
    return [row, tried]


def smp_pspnet(bench: Bench) -> Any:
    """segmentation_models_pytorch's network on the device, in evaluation mode; or why there is none."""
    try:
        import segmentation_models_pytorch
    except ImportError:
        return "segmentation_models_pytorch is not installed"
    model = segmentation_models_pytorch.PSPNet(bench.sizes.encoder, encoder_weights=None, classes=bench.sizes.classes)
    return bench.place(model).eval()


def training(bench: Bench) -> list[Row]:
    """Forward, losses, backward, update; bfloat16 autocast; images and labels on the card."""
    images, maps = bench.images(bench.sizes.crop_px), train_labels(bench)
    return [*our_training(bench, images, maps), *others_training(bench, images, maps)]


def our_training(bench: Bench, images: Tensor, maps: Tensor) -> list[Row]:
    step = our_step(images, maps, torch.bfloat16, bench.place(bench.ours()).train())
    flops = counted(step)
    rows = [bench.time("ours, eager", step, len(images), flops) | operators(bench, step)]
    with cudnn(benchmark=True):
        rows.append(bench.time("ours, cuDNN tries algorithms", step, len(images), flops))
    few, model = images[:2].contiguous(memory_format=torch.channels_last), bench.place(bench.ours()).train()
    step = our_step(few, maps[:2], torch.bfloat16, model)  # what one of eight cards sees of the paper's batch
    rows.append(bench.time("ours, two images", step, 2, flops * 2 // len(images)))
    step = our_step(images.contiguous(), maps, torch.bfloat16, bench.ours().to(bench.device).train())
    return [*rows, bench.time("ours, contiguous", step, len(images), flops)]


def others_training(bench: Bench, images: Tensor, maps: Tensor) -> list[Row]:
    step = plain_step(images, maps, torch.bfloat16, bench.place(bench.plain()).train())
    rows = [bench.time("plain PyTorch", step, len(images), counted(step))]
    smp = smp_pspnet(bench)
    if isinstance(smp, str):
        return [*rows, {"name": "smp PSPNet", "failure": smp}]
    step = plain_step(images, maps, torch.bfloat16, smp.train())
    return [*rows, bench.time("smp PSPNet", step, len(images), counted(step))]


def train_labels(bench: Bench) -> Tensor:
    """(B, crop, crop) int64: patches of one class each, a twentieth of the pixels without label."""
    random = torch.Generator().manual_seed(0)
    side = bench.sizes.crop_px
    patches = torch.randint(0, bench.sizes.classes, (bench.sizes.batch, 1, 8, 8), generator=random).float()
    labels = nn.functional.interpolate(patches, (side, side), mode="nearest")[:, 0].long()
    labels[torch.rand(labels.shape, generator=random) < 0.05] = 255
    return labels.to(bench.device)


def operators(bench: Bench, step: Work) -> Row:
    """Where one step's time goes: (name, ms of its own, calls) of operators and, on a card, of its kernels."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if bench.cuda else [])]) as profiled:
        step()
        bench.wait()
    events: Row = {"operators": [], "kernels": []}
    for event in profiled.key_averages():
        ms = (event.self_device_time_total if bench.cuda else event.self_cpu_time_total) / 1e3
        kind = "operators" if event.device_type == DeviceType.CPU else "kernels"
        events[kind].append((event.key[:120], round(ms, 3), event.count))
    return {kind: sorted(rows, key=lambda row: -row[1])[:25] for kind, rows in events.items()}


def loading(bench: Bench) -> list[Row]:
    """JPEG and PNG files to augmented batches in memory: a worker is one core."""
    from augmentation import MEAN
    from pspnet.config import AugmentConfig
    from pspnet.data.transforms import Augmentation
    from pspnet.training.batches import BatchPlan, TrainingSamples, training_loader

    sizes, rows = bench.sizes, []
    with tempfile.TemporaryDirectory() as name:
        write_pairs(Path(name), sizes)
        samples = TrainingSamples(
            dataset := open_dataset("folder", name, "all"),
            Augmentation(AugmentConfig(crop=(sizes.crop_px, sizes.crop_px)), MEAN),
            seed=0,
        )
        plan = BatchPlan(len(dataset), sizes.batch, 10**6, seed=0)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        for workers in sorted({1, cores if bench.cuda else 1}):
            batches = iter(training_loader(samples, plan, 0, workers, pin_memory=bench.cuda))
            for _ in range(workers):
                next(batches)  # while the workers start
            started, count = time.perf_counter(), 0
            while (passed := time.perf_counter() - started) < sizes.loading_s or not count:
                count += len(next(batches).images)
            rows.append({"name": f"{workers} workers, images/s", "value": round(count / passed, 1)})
            del batches
    return rows


def write_pairs(folder: Path, sizes: Sizes) -> None:
    """32 pictures and their labels, as the layout "folder" has them."""
    from augmentation import picture

    random = np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for number in range(32):
        sample, side = picture(random), sizes.image[::-1]
        codes = cv2.resize(sample.labels, side, interpolation=cv2.INTER_NEAREST) % sizes.classes
        cv2.imwrite(str(folder / "images" / f"{number}.jpg"), cv2.resize(sample.image, side))
        cv2.imwrite(str(folder / "labels" / f"{number}.png"), codes)
    table = [f"{i},class {i},{i},{i},{i}\n" for i in range(sizes.classes)]
    (folder / "classes.csv").write_text("code,name,red,green,blue\n" + "".join(table))


def multi_scale(bench: Bench) -> list[Row]:
    """One image from memory to labels in memory, as `evaluate` sees it under a test protocol."""
    segmenter, sizes = bench.segmenter(), bench.sizes
    image = np.random.default_rng(0).integers(0, 256, (*sizes.image, 3), dtype=np.uint8)
    name = f"{sizes.protocol}, {sizes.image[0]} x {sizes.image[1]} px"
    return [bench.time(name, lambda: segmenter.segment(image, protocol=sizes.protocol, confidence=False), 1)]


def compiled_training(bench: Bench) -> list[Row]:
    """The step with torch.compile, as `pspnet train --set compile=true` takes it."""
    images, maps = bench.images(bench.sizes.crop_px), train_labels(bench)
    flops = counted(our_step(images, maps, torch.bfloat16, bench.place(bench.ours()).train()))
    step = our_step(images, maps, torch.bfloat16, bench.place(bench.ours()).train(), compiled=True)
    return [bench.time("ours, compiled", step, bench.sizes.batch, flops) | operators(bench, step)]


def compiled_forward(bench: Bench) -> list[Row]:
    """The engine "compile"."""
    images, segmenter = bench.images(bench.sizes.forward_px), bench.segmenter("compile")
    with torch.no_grad():
        flops = counted(lambda: segmenter.model.coarse_logits(images))
    return [bench.time("ours, compiled", lambda: segmenter.engine.coarse(images), bench.sizes.batch, flops)]


# name, seconds that it needs on a card of 2023, what it does; the first ones matter most
PARTS: list[tuple[str, float, Callable[[Bench], list[Row]]]] = [
    ("card", 5, card),
    ("labels", 12, labels),
    ("forward", 20, forward),
    ("training", 25, training),
    ("data loading", 10, loading),
    ("multi-scale", 8, multi_scale),
    ("compiled training", 60, compiled_training),
    ("compiled forward", 40, compiled_forward),
]
