"""Whole rasters: speed beside the bare network, peak memory, polygons. Rasters are made on the spot.

    python benchmarks/raster.py speed [--full] [--json OUT.json]
    python benchmarks/raster.py memory [--full]
    python benchmarks/raster.py polygons [--full] [--min-area-m2 0]

Marks, with --full: a 20,000 x 20,000 px raster goes from file to map at 90 % of the bare network's megapixels per second;
it takes the memory of one of 20,000 x 2,000 px within 10 %, under 1.5 GiB; polygons of 10,000 x 10,000 px take 60 s and
1 GiB. Without --full the sides are a quarter of that: a few minutes, and the same code.

The network looks at overlapping windows, so it sees more megapixels than the raster has: both figures are given. Speed
compares the network's own megapixels (pixels of windows), and is measured by the clock and by processor time; the second
tells what the way around the network costs where other programs use the machine, too. Memory is each process's own peak.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

TILE, OVERLAP, CLASSES = 1024, 256, 5


def make_image(path: Path, height: int, width: int, seed: int = 0) -> None:
    """A 3-band, 8-bit, tiled and compressed GeoTIFF of smooth texture."""
    import cv2
    import rasterio
    from rasterio.transform import from_origin
    from rasterio.windows import Window

    rng = np.random.default_rng(seed)
    side = 2048
    texture = cv2.resize(
        rng.integers(0, 255, (64, 64, 3)).astype(np.uint8), (side, side), interpolation=cv2.INTER_CUBIC
    )
    texture = np.clip(texture + rng.normal(0, 4, texture.shape), 0, 255).astype(np.uint8).transpose(2, 0, 1)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=3,
        dtype="uint8",
        crs="EPSG:32631",
        transform=from_origin(500_000, 5_600_000, 0.5, 0.5),
        tiled=True,
        blockxsize=512,
        blockysize=512,
        compress="deflate",
        zlevel=1,
        photometric="rgb",
    ) as file:
        for top in range(0, height, side):
            for left in range(0, width, side):
                high, wide = min(side, height - top), min(side, width - left)
                file.write(texture[:, :high, :wide], window=Window(left, top, wide, high))


def make_labels(path: Path, side: int, seed: int = 0) -> None:
    """Labels and confidence as a map has them: patches of some 16 px with ragged borders, hundreds of thousands of them."""
    import cv2
    import rasterio
    from rasterio.transform import from_origin

    rng = np.random.default_rng(seed)
    best = np.full((side, side), -9, np.float32)
    labels = np.zeros((side, side), np.uint8)
    for label in range(CLASSES):
        field = cv2.resize(
            rng.normal(size=(side // 16, side // 16)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC
        )
        field += 0.5 * cv2.resize(rng.normal(size=(side // 4, side // 4)).astype(np.float32), (side, side))
        higher = field > best
        labels[higher], best[higher] = label, field[higher]
    confidence = np.clip(40 + 20 * best, 0, 100).astype(np.uint8)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=side,
        width=side,
        count=2,
        dtype="uint8",
        nodata=255,
        tiled=True,
        blockxsize=512,
        blockysize=512,
        interleave="band",
        compress="deflate",
        zlevel=1,
        crs="EPSG:32631",
        transform=from_origin(500_000, 5_600_000, 0.5, 0.5),
    ) as file:
        file.write(labels, 1)
        file.write(confidence, 2)


def fast_segmenter(device: str) -> Any:
    """A ResNet-18 cut after its second stage, with the paper's pyramid: a fast model that still is a PSPNet."""
    import torch

    from pspnet.config import ModelConfig
    from pspnet.nn import PSPNet
    from pspnet.predict.segmenter import Segmenter

    torch.manual_seed(0)
    return Segmenter(
        PSPNet(
            ModelConfig(
                encoder="resnet18",
                encoder_options={"depth": 3},
                num_classes=CLASSES,
                decoder_channels=64,
                auxiliary="none",
            )
        ),
        device=device,
    )


def bare(segmenter: Any, windows: int) -> tuple[float, float]:
    """(megapixels per second, processor seconds per megapixel) of the network alone on windows of the tile's size."""
    from pspnet.predict.arrays import on_device, to_numpy

    batch, engine = segmenter.batch_windows, segmenter.engine
    images = on_device(np.random.default_rng(0).random((batch, 3, TILE, TILE), np.float32) * 255, engine.device)
    engine.coarse(images)
    clock, processor = time.perf_counter(), time.process_time()
    for _ in range(windows):
        to_numpy(engine.coarse(images))
    pixels = windows * batch * TILE * TILE / 1e6
    return pixels / (time.perf_counter() - clock), (time.process_time() - processor) / pixels


def speed(height: int, width: int, device: str) -> dict[str, Any]:
    from pspnet.raster import segment_raster
    from pspnet.tiling import windows as tiles

    segmenter = fast_segmenter(device)
    windows = len(tiles(height, width, TILE, overlap=OVERLAP))
    computed = windows * min(TILE, height) * min(TILE, width) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.tif", Path(folder) / "out.tif"
        make_image(source, height, width)
        before = bare(segmenter, max(3, windows // 10))
        clock, processor = time.perf_counter(), time.process_time()
        segment_raster(segmenter, source, target, tile_px=TILE, overlap_px=OVERLAP)
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
        after = bare(segmenter, max(3, windows // 10))
        size = target.stat().st_size
    alone = (before[0] + after[0]) / 2, (before[1] + after[1]) / 2
    return {
        "raster_megapixels": height * width / 1e6,
        "window_megapixels": computed,
        "seconds": clock,
        "raster_megapixels_per_s": height * width / 1e6 / clock,
        "window_megapixels_per_s": computed / clock,
        "bare_megapixels_per_s": alone[0],
        "share_of_bare_by_clock": computed / clock / alone[0],
        "processor_s_per_megapixel": processor / computed,
        "bare_processor_s_per_megapixel": alone[1],
        "share_of_bare_by_processor_time": alone[1] / (processor / computed),
        "map_megabytes": size / 1e6,
    }


def memory_of(height: int, width: int, device: str) -> dict[str, Any]:
    """One raster in this process, with its peak."""
    from pspnet.raster import segment_raster

    segmenter = fast_segmenter(device)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.tif"
        subprocess.run([sys.executable, __file__, "make", str(source), str(height), str(width)], check=True)
        loaded = peak()
        segment_raster(segmenter, source, Path(folder) / "out.tif", tile_px=TILE, overlap_px=OVERLAP)
    return {"height": height, "width": width, "loaded_mib": loaded, "peak_mib": peak()}


def polygons_of(side: int, min_area_m2: float) -> dict[str, Any]:
    from pspnet.raster.geopackage import write_polygons

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "labels.tif"
        subprocess.run([sys.executable, __file__, "make-labels", str(source), str(side)], check=True)
        loaded, clock, processor = peak(), time.perf_counter(), time.process_time()
        count = write_polygons(
            source, Path(folder) / "out.gpkg", {i: f"class {i}" for i in range(CLASSES)}, min_area_m2
        )
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
    return {
        "side": side,
        "min_area_m2": min_area_m2,
        "polygons": count,
        "seconds": clock,
        "processor_s": processor,
        "loaded_mib": loaded,
        "peak_mib": peak(),
    }


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def alone(*arguments: object) -> dict[str, Any]:
    """This script in a process of its own, so that its peak is its own."""
    done = subprocess.run([sys.executable, __file__, *map(str, arguments)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "memory", "memory-one", "polygons", "make", "make-labels"])
    parser.add_argument("rest", nargs="*")
    parser.add_argument("--full", action="store_true", help="the sizes of the marks")
    parser.add_argument("--height", type=int)
    parser.add_argument("--width", type=int)
    parser.add_argument("--side", type=int)
    parser.add_argument("--min-area-m2", type=float, default=0.0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    full = 20_000 if given.full else 5_000
    height, width, side = given.height or full, given.width or full, given.side or full // 2
    if given.what == "make":
        make_image(Path(given.rest[0]), int(given.rest[1]), int(given.rest[2]))
        return
    if given.what == "make-labels":
        make_labels(Path(given.rest[0]), int(given.rest[1]))
        return
    if given.what == "speed":
        results: Any = speed(height, width, given.device)
    elif given.what == "memory-one":
        results = memory_of(height, width, given.device)
    elif given.what == "memory":
        results = [
            alone("memory-one", "--height", h, "--width", width, "--device", given.device)
            for h in (height // 10, height)
        ]
    else:
        results = polygons_of(side, given.min_area_m2)
    print(json.dumps(results))
    if given.json:
        import torch

        given.json.write_text(
            json.dumps(
                {
                    "what": given.what,
                    "found": results,
                    "machine": processor(),
                    "threads": torch.get_num_threads(),
                    "date": time.strftime("%Y-%m-%d"),
                },
                indent=1,
            )
        )


if __name__ == "__main__":
    main()
