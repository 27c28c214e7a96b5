"""Faults done to the programs on purpose, and the table of what came of them in docs/reliability.md (make faults).

Asked of each try: the right result, or an error in words; never a wrong output under its final name, a traceback, a
hang, or something left behind. A row counts the tries that were right, that were refused in words, and that were wrong.

    python tools/faults.py --kills 5 --files 1000          # the whole table: about an hour on two cores
    python tools/faults.py --kills 1 --files 50 --only raster,readers      # these rows; the others of the page stay

Full disks and read-only ones are small file systems in memory; where they cannot be mounted (no root), their rows say so.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from pspnet.errors import DataError, PspnetError
from pspnet.machine import processor_name, source_commit

ROOT = Path(__file__).parents[1]
PAGE, BEGIN, END = ROOT / "docs" / "reliability.md", "<!-- faults -->", "<!-- /faults -->"
PROGRAM = (sys.executable, "-P", "-m", "pspnet")
HANG_S = 600
LARGE = (".safetensors", ".onnx")  # megabytes to be read and hashed: a fifth of the tries
Wrong = str  # why a try was wrong; empty for a right one


@dataclass
class Row:
    """One fault on one program. refused: tries that ended with an error in words where one was right."""

    fault: str
    program: str
    right: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)
    note: str = ""

    def count(self, wrong: Wrong, refused: bool = False) -> None:
        if wrong:
            self.wrong.append(wrong)
            print(f"WRONG {self.fault}, {self.program}: {wrong}", flush=True)
        elif refused:
            self.refused += 1
        else:
            self.right += 1


def run(*words: object, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit code of pspnet and all that it printed; -1 where it hung."""
    try:
        done = subprocess.run(
            [*PROGRAM, *map(str, words)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=HANG_S,
            env={**os.environ, **(env or {})},
        )
    except subprocess.TimeoutExpired:
        return -1, "it hung"
    return done.returncode, done.stdout + done.stderr


def bad(code: int, text: str) -> Wrong:
    """What is wrong with how a program ended, whatever it did."""
    if code == -1:
        return "a hang"
    for sign in ("Traceback (most recent call last)", "unexpected error", "unexpected:"):
        if sign in text:
            return text[text.index(sign) :][:200]
    return "" if code in (0, 1, 2) else f"exit code {code}: {text[-200:]}"


def left_over(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob(".*") if ".part" in p.name or p.suffix == ".lock")


def killed(words: list[object], seconds: float) -> bool:
    """Starts pspnet and kills it and its children after some seconds; False where it had ended."""
    child = subprocess.Popen(
        [*PROGRAM, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return True
    return False


def write_raster(path: Path, height: int, seed: int) -> Path:
    import rasterio
    from rasterio.transform import from_origin

    data = np.kron(np.random.default_rng(seed).integers(0, 255, (3, height // 32, 16)), np.ones((1, 32, 32)))
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=512,
        height=height,
        count=3,
        dtype="uint8",
        crs="EPSG:25832",
        transform=from_origin(5e5, 5e6, 1, 1),
    ) as file:
        file.write(data.astype("uint8"))
    return path


RASTER = ("--tile", "256", "--overlap", "64", "--set", "block_px=128")
RECIPE = ROOT / "recipes" / "scenes_resnet18_bilinear.yaml"
TRAIN = (
    "data.options={count: 64, size: 64}",
    "data.val_options={count: 8, size: 64}",
    "model.encoder_options.depth=3",
    "augmentation.crop=[48,48]",
    "batch_size=4",
    "steps=24",
    "val_every=12",
    "checkpoint_every=3",
    "workers=0",
)


def kills_of_raster(work: Path, tries: int) -> Row:
    row = Row("SIGKILL, then the same command", "raster")
    source = write_raster(work / "in.tif", 2048, 0)
    began = time.monotonic()
    run("raster", "aerial-dubai", source, work / "straight.tif", *RASTER)
    whole = time.monotonic() - began
    for number in range(tries):
        target = work / f"k{number}" / "map.tif"
        words: list[object] = ["raster", "aerial-dubai", source, target, *RASTER]
        for _ in range(2):
            killed(words, random.uniform(0.3, 1.0) * whole)
            if target.exists():
                break
        if not target.exists():
            code, text = run(*words)
            if bad(code, text) or code:
                row.count(bad(code, text) or text[-200:])
                continue
        same = target.read_bytes() == (work / "straight.tif").read_bytes()
        files = sorted(p.name for p in target.parent.iterdir())
        row.count("" if same and files == ["map.tif", "map.tif.aux.xml"] else f"map equal: {same}, files {files}")
    return row


def kills_of_cluster(work: Path, tries: int) -> Row:
    row = Row("SIGKILL, then the same command", "raster on many, 2 workers")
    (work / "in").mkdir(parents=True)
    for number in range(4):
        write_raster(work / "in" / f"{number}.tif", 512, number)
    words = ["raster", "aerial-dubai", work / "in", "", *RASTER, "--workers", "2"]
    began = time.monotonic()
    run(*words[:3], work / "straight", *words[4:])
    whole = time.monotonic() - began
    for number in range(tries):
        out = work / f"k{number}"
        killed([*words[:3], out, *words[4:]], random.uniform(0.3, 1.0) * whole)
        code, text = run(*words[:3], out, *words[4:])
        same = [
            n
            for n in range(4)
            if (out / f"{n}.tif").exists()
            and (out / f"{n}.tif").read_bytes() == (work / "straight" / f"{n}.tif").read_bytes()
        ]
        wrong = bad(code, text) or ("" if code == 0 and len(same) == 4 else f"exit {code}, {len(same)} of 4 maps right")
        row.count(wrong or ", ".join(left_over(out)))
    return row


def kills_of_export(work: Path, tries: int) -> Row:
    row = Row("SIGKILL, then the same command", "export")
    for number in range(tries):
        target = work / f"k{number}" / ("m.onnx" if number % 2 else "m.xml")
        ended = not killed(["export", "scenes", target], random.uniform(4, 25))
        if not ended and target.exists():
            code, text = run("segment", target, photo(work / "x.png"), "--out", work / f"s{number}")
            row.count(bad(code, text) or ("" if code == 0 else "a partial file under the final name"))
            continue
        code, text = (0, "") if ended else run("export", "scenes", target)
        row.count(bad(code, text) or ("" if code == 0 else text[-200:]) or ", ".join(left_over(target.parent)))
    return row


def kills_of_training(work: Path, tries: int) -> Row:
    row = Row("SIGKILL, then --resume", "train")
    run("train", RECIPE, *TRAIN, f"run_dir={work}/straight", "--quiet")
    for number in range(tries):
        folder = work / f"k{number}"
        killed(["train", RECIPE, *TRAIN, f"run_dir={folder}", "--quiet"], random.uniform(5, 20))
        if not (folder / "config.yaml").exists():
            code, text = run("train", RECIPE, *TRAIN, f"run_dir={folder}", "--quiet")
        else:
            code, text = run("train", "--resume", folder, "--quiet")
        row.count(bad(code, text) or ("" if code == 0 else text[-200:]) or other_weights(work / "straight", folder))
    return row


def other_weights(first: Path, second: Path) -> Wrong:
    import torch
    from safetensors.torch import load_file

    a, b = (load_file(folder / "last.safetensors") for folder in (first, second))
    return "" if all(torch.equal(a[name], b[name]) for name in a) else "other weights than in one go"


def photo(path: Path, height: int = 60, width: int = 80) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)).save(path)
    return path


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[bool]:
    """A file system in memory; False where it cannot be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    mounted = shutil.which("mount") is not None and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=False)


def disks(work: Path, _tries: int) -> list[Row]:
    source, picture = write_raster(work / "in.tif", 512, 0), photo(work / "x.png", 300, 400)  # more than the disk holds
    programs: dict[str, Callable[[Path], list[object]]] = {
        "segment": lambda out: ["segment", "scenes", picture, "--out", out / "o"],
        "raster": lambda out: ["raster", "aerial-dubai", source, out / "map.tif", *RASTER],
        "export": lambda out: ["export", "scenes", out / "m.onnx"],
        "train": lambda out: ["train", RECIPE, *TRAIN, f"run_dir={out}/run", "--quiet"],
        "adapt": lambda out: ["adapt", "scenes", picture.parent, out / "m.safetensors", "--limit", "1"],
    }
    rows = []
    for fault, options in (("full disk", "size=48k"), ("read-only disk", "ro,size=48k")):
        for name, words in programs.items():
            row = Row(fault, name)
            with small_disk(work / f"{fault} {name}", options) as mounted:
                if not mounted:
                    row.note = "not tried: nothing could be mounted"
                    rows.append(row)
                    continue
                out = work / f"{fault} {name}"
                code, text = run(*words(out))
                final = [n for n in ("map.tif", "m.onnx", "m.safetensors") if (out / n).exists()]
                wrong = bad(code, text) or ("exit code 0" if code == 0 else "") or ", ".join(final + left_over(out))
                row.count(wrong, refused=True)
            rows.append(row)
    return rows


def two_processes(work: Path, _tries: int) -> list[Row]:
    source, picture = write_raster(work / "in.tif", 1024, 3), photo(work / "in" / "x.png")
    run("raster", "aerial-dubai", source, work / "straight.tif", *RASTER)
    raster, segment = Row("two processes on one output", "raster"), Row("two processes on one output", "segment")
    for row, words in (
        (raster, ["raster", "aerial-dubai", source, work / "map.tif", *RASTER]),
        (segment, ["segment", "scenes", picture, "--out", work / "o"]),
    ):
        children = [
            subprocess.Popen([*PROGRAM, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for _ in range(2)
        ]
        ends = [(child.communicate(timeout=HANG_S)[0], child.returncode) for child in children]
        for text, code in ends:
            row.count(bad(code, text), refused=code != 0)
        if not any(code == 0 for _, code in ends):
            row.count("neither of them ended well")
    if (work / "map.tif").read_bytes() != (work / "straight.tif").read_bytes():
        raster.count("the map is another one")
    return [raster, segment]


def altered(data: bytes, rng: random.Random) -> bytes:
    """A file with some bits flipped, bytes set, or its end cut off."""
    content = bytearray(data)
    if rng.random() < 0.2:
        return bytes(content[: rng.randrange(len(content) + 1)])
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        position = rng.randrange(len(content)) if rng.random() < 0.5 else rng.randrange(min(len(content), 400))
        content[position] = rng.randrange(256) if rng.random() < 0.5 else content[position] ^ (1 << rng.randrange(8))
    return bytes(content)


def readers(work: Path, tries: int, chosen: Sequence[str] = ()) -> list[Row]:
    """Every reader of files, or those chosen by name, on altered copies of good files: an answer, or a PspnetError."""
    import torch

    from pspnet.arcgis import read_package
    from pspnet.class_tables import read_rows
    from pspnet.config.base import read_yaml
    from pspnet.georaster.grids import open_raster
    from pspnet.images import image_size, read_image, read_label
    from pspnet.predict.exported import open_exported
    from pspnet.weights.checkpoint import load_checkpoint
    from pspnet.weights.export_digest import add_digest
    from pspnet.weights.torch_files import read_file

    def encoded(kind: str, mode: str = "RGB") -> bytes:
        stream = io.BytesIO()
        Image.radial_gradient("L").resize((40, 30)).convert(mode).save(stream, kind)
        return stream.getvalue()

    table = io.StringIO()
    csv.writer(table).writerows(
        [["code", "name", "red", "green", "blue"], [0, "sea", 0, 0, 255], [1, "land", 0, 160, 0]]
    )
    torch.save({"state_dict": {"a": torch.zeros(10)}}, work / "good.pth")
    emd = (
        b'{"Classes": [{"Value": 1, "Name": "a", "Color": [1, 2, 3]}], "ExtractBands": [0, 1, 2], "ModelFile": "m.pth"}'
    )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("m.emd", emd)
    write_raster(work / "good.tif", 128, 1)
    scenes = (ROOT / "src/pspnet/models/scenes.safetensors").read_bytes()

    def pixels(path: Path) -> None:
        with open_raster(str(path)) as dataset:
            try:
                dataset.read()
            except Exception as error:
                if not type(error).__module__.startswith("rasterio"):  # a run tells of a broken block with its place
                    raise

    images = [encoded(kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "JPEG2000", "PPM")]
    kinds: dict[str, tuple[list[bytes], str, Callable[[Path], object]]] = {
        "images": (images, ".png", lambda path: (image_size(path), read_image(path))),
        "labels": ([encoded("PNG", m) for m in ("L", "P", "1", "I;16")], ".png", read_label),
        "checkpoints": ([scenes], ".safetensors", load_checkpoint),
        "PyTorch files": ([(work / "good.pth").read_bytes()], ".pth", read_file),
        "recipes": ([RECIPE.read_bytes()], ".yaml", read_yaml),
        "class tables": ([table.getvalue().encode()], ".csv", read_rows),
        ".emd": ([emd], ".emd", read_package),
        ".dlpk": ([archive.getvalue()], ".dlpk", read_package),
        "rasters": ([(work / "good.tif").read_bytes()], ".tif", pixels),
    }
    shutil.copyfile(ROOT / "src/pspnet/models/scenes.int8.onnx", work / "good.onnx")
    bare = (work / "good.onnx").read_bytes()  # it comes along without a digest, as other programs' files do
    add_digest(work / "good.onnx")
    onnx = (work / "good.onnx").read_bytes()
    kinds |= {
        ".onnx": ([onnx], ".onnx", open_exported),
        ".onnx without its digest": ([bare], ".onnx", open_exported),
    }
    kinds |= _exports(work) | _vectors(work)
    if unknown := set(chosen) - kinds.keys():
        raise SystemExit(f"--readers {', '.join(sorted(unknown))}: there are {', '.join(kinds)}")
    rows = []
    for name, (goods, ending, read) in kinds.items():
        if chosen and name not in chosen:
            continue
        row, rng = Row("altered files", name), random.Random(7)
        path = work / f"x{ending}"
        for good in goods:  # else a refusal would say nothing
            path.write_bytes(good)
            read(path)
        for number in range(max(tries // 5, 10) if ending in LARGE else tries):
            path.write_bytes(altered(goods[number % len(goods)], rng))
            began = time.monotonic()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    read(path)
                row.count("" if time.monotonic() - began < 30 else "30 s")
            except PspnetError:
                row.count("" if time.monotonic() - began < 30 else "30 s", refused=True)
            except Exception as error:
                row.count(f"{type(error).__name__}: {error}"[:200])
        rows.append(row)
    return rows


def _exports(work: Path) -> dict[str, tuple[list[bytes], str, Callable[[Path], object]]]:
    """Readers of annotation tools' exports: one picture, and the file that annotates it."""
    from pspnet.data.catalog import open_unchecked

    corners = [[4, 4], [30, 4], [30, 20], [4, 20]]
    flat = [number for corner in corners for number in corner]
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "height": 60, "width": 80}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [flat], "bbox": [4, 4, 26, 16]}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    labelme = {
        "imagePath": "a.png",
        "imageHeight": 60,
        "imageWidth": 80,
        "shapes": [{"label": "cat", "points": corners}],
    }
    region = {
        "type": "polygonlabels",
        "original_width": 80,
        "original_height": 60,
        "value": {"points": corners, "polygonlabels": ["cat"]},
    }
    studio = [{"id": 1, "data": {"image": "a.png"}, "annotations": [{"result": [region]}]}]
    yolo = "0 " + " ".join(f"{number / 80:.3f}" for number in flat)
    exports = {
        "coco": ("result.json", "images/a.png", json.dumps(coco)),
        "labelme": ("a.json", "a.png", json.dumps(labelme)),
        "label_studio": ("project.json", "images/a.png", json.dumps(studio)),
        "yolo_polygons": ("labels/train/a.txt", "images/train/a.png", yolo),
    }

    def reader(format: str, file: str, picture: str) -> Callable[[Path], object]:
        root = work / format
        photo(root / picture)
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / "data.yaml").write_text("names: [cat]\n")

        def read(path: Path) -> None:
            (root / file).write_bytes(path.read_bytes())
            dataset = open_unchecked(format, root, "all")
            faults = [*dataset.faults, *(fault for index in range(len(dataset)) for fault in dataset.inspect(index)[1])]
            errors = [fault.message for fault in faults if fault.severity == "error"]
            if errors:
                raise DataError(errors[0])

        return read

    return {
        format: ([text.encode()], Path(file).suffix, reader(format, file, picture))
        for format, (file, picture, text) in exports.items()
    }


def _vectors(work: Path) -> dict[str, tuple[list[bytes], str, Callable[[Path], object]]]:
    """Readers of vector files, and of a mosaic's description."""
    import pyogrio
    import shapely
    from rasterio.crs import CRS

    from pspnet.georaster.grids import grid_of, open_raster
    from pspnet.georaster.vectors import read_features

    wgs84 = CRS.from_epsg(4326)
    shapes = shapely.to_wkb([shapely.box(0, 0, 9, 9), shapely.box(5, 5, 20, 9)])
    names = np.array(["sea", "land"], object)
    kinds: dict[str, tuple[list[bytes], str, Callable[[Path], object]]] = {}
    for ending in (".geojson", ".gpkg", ".fgb", ".gml"):
        file = work / f"good{ending}"
        pyogrio.raw.write(file, shapes, [names], ["class"], geometry_type="Polygon", crs="EPSG:4326")
        kinds[ending] = ([file.read_bytes()], ending, lambda path: read_features(path, wgs84, "class"))

    def header(path: Path) -> None:
        with open_raster(str(path)) as dataset:
            grid_of(dataset)

    mosaic = (
        '<VRTDataset rasterXSize="512" rasterYSize="128"><GeoTransform>0,1,0,0,0,-1</GeoTransform><VRTRasterBand dataType='
        '"Byte" band="1"><SimpleSource><SourceFilename relativeToVRT="1">good.tif</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    return kinds | {".vrt": ([mosaic.encode()], ".vrt", header)}


GROUPS: dict[str, Callable[[Path, int], Row | list[Row]]] = {
    "raster": kills_of_raster,
    "cluster": kills_of_cluster,
    "export": kills_of_export,
    "train": kills_of_training,
    "disks": disks,
    "processes": two_processes,
    "readers": readers,
}


HEAD = ["| fault | on | tries | right | refused in words | wrong | when, commit |", "| --- |" + " --- |" * 6]


def table_lines(rows: list[Row]) -> list[str]:
    when = f"{datetime.date.today()} {source_commit()}"
    return [
        f"| {row.fault} | {row.program} | {row.right + row.refused + len(row.wrong)} | {row.right} | {row.refused} | "
        f"{row.note or len(row.wrong)} | {when} |"
        for row in rows
    ]


def merged(before: list[str], lines: list[str]) -> list[str]:
    """Lines of an earlier table and of this run, which may be of some groups only: of the same fault and program the new
    one counts."""
    rows = {tuple(line.split("|")[1:3]): line for line in [*before, *lines]}
    return list(rows.values())


def publish(lines: list[str]) -> None:
    """Puts the table between its marks in docs/reliability.md, or at the end of it."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else "# Reliability\n"
    before = page[page.index(BEGIN) : page.index(END)].splitlines() if BEGIN in page else []
    lines = merged([line for line in before if line.startswith("| ") and line not in HEAD], lines)
    text = "\n".join([*HEAD, *lines]) + f"\n\nBy `make faults`, on {processor_name()}, {os.cpu_count()} cores."
    section = f"{BEGIN}\n{text}\n{END}"
    if BEGIN in page:
        page = page[: page.index(BEGIN)] + section + page[page.index(END) + len(END) :]
    else:
        page = (
            page.rstrip() + "\n\n## Files\n\n" + __doc__.split("\n\n")[1].replace("\n", " ") + "\n\n" + section + "\n"
        )
    PAGE.write_text(page, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=5, help="tries of each program that is killed")
    parser.add_argument("--files", type=int, default=1000, help="altered files for each reader")
    parser.add_argument("--only", default=",".join(GROUPS), help="groups: " + ", ".join(GROUPS))
    parser.add_argument("--readers", default="", help="of the group readers only these, such as images,labels,.dlpk")
    parser.add_argument("--print", action="store_true", help="print the table, leave the page as it is")
    given = parser.parse_args()
    random.seed(0)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="pspnet-faults-") as folder:
        for name in given.only.split(","):
            work = Path(folder) / name
            work.mkdir()
            if name == "readers":
                result: Row | list[Row] = readers(work, given.files, [one for one in given.readers.split(",") if one])
            else:
                result = GROUPS[name](work, given.kills)
            lines = table_lines(result if isinstance(result, list) else [result])
            rows += result if isinstance(result, list) else [result]
            print("\n".join(lines), flush=True)
            if not given.print:
                publish(lines)  # group by group: one that is stopped keeps those before it
    return 1 if any(row.wrong for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
