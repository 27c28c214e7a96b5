"""The house's rules that a program can check: directions of imports, doors of heavy libraries, the public face."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "pspnet"

# The room (first path part below the package) and its floor. Imports go to the same room or to a lower floor.
FLOORS = {
    "errors": 0,
    "labels": 1,
    "resampling": 1,
    "config": 1,
    "images": 1,
    "tiling": 1,
    "segmentation": 1,
    "nn": 2,
    "losses": 2,
    "metrics": 2,
    "weights": 3,
    "data": 3,
    "engines": 4,
    "streaming": 4,
    "protocols": 4,
    "segmenter": 4,
    "exported": 4,
    "graphs": 4,
    "runtimes": 4,
    "segmenting": 5,
    "training": 5,
    "evaluation": 5,
    "raster": 5,
    "exporting": 5,
    "ablation": 5,
    "explorer": 5,
    "demo": 5,
    "inspection": 5,
    "bench": 5,
    "adaptation": 5,
    "cli": 6,
    "server": 6,
    "client": 6,
    "playground": 6,
    "arcgis": 6,
}

# (from, to): why an arrow between rooms of one floor, or upwards, is right.
ALLOWED = {
    ("segmentation", "images"): "a result writes itself as a label PNG",
    ("segmentation", "labels"): "a result carries its classes",
    ("images", "labels"): "a label PNG is written in the classes' colours",
    ("segmenter", "engines"): "a segmenter drives an engine",
    ("segmenter", "streaming"): "a large image is a stream of windows",
    ("segmenter", "protocols"): "an image may be looked at by a named protocol",
    ("segmenter", "exported"): "an exported model is opened by the same name",
    ("exported", "engines"): "an exported model is an engine",
    ("runtimes", "engines"): "an engine by name",
    ("runtimes", "exported"): "a graph runs as an exported model does",
    ("runtimes", "graphs"): "other runtimes execute graphs",
    ("segmenter", "runtimes"): "a segmenter's engine may be named",
    ("protocols", "streaming"): "protocols and streams turn images into tensors in one way",
    ("streaming", "engines"): "a stream is computed by an engine",
    ("ablation", "training"): "a grid of trainings",
    ("ablation", "evaluation"): "a grid of evaluations",
    ("demo", "training"): "the demo trains three networks",
    ("demo", "evaluation"): "the demo scores three networks",
    ("training", "evaluation"): "a run ends with a report",
    ("bench", "inspection"): "a share of the roof needs the operations counted",
    ("exporting", "evaluation"): "an export is scored beside its source",
    ("explorer", "evaluation"): "failures are looked for in an evaluation",
    ("weights", "data"): "class tables come along as data files",
    ("cli", "server"): "the command line starts the others",
    ("cli", "playground"): "the command line starts the others",
    ("cli", "arcgis"): "the command line starts the others",
    ("playground", "server"): "the playground is mounted in the server's application",
}

# Heavy libraries and the rooms that may name them.
DOORS = {
    "timm": {"nn", "weights"},
    "lightning": {"training"},
    "rasterio": {"raster", "data", "arcgis"},
    "onnx": {"exporting", "exported", "graphs"},
    "openvino": {"exporting", "exported"},
    "nncf": {"exporting"},
    "fastapi": {"server", "playground"},
    "gradio": {"playground"},
    "ray": {"raster"},
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> list[tuple[str, int]]:
    """Every imported module of a file, function-level ones included, and literal names given to `require`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"pspnet.{a.name}" for a in node.names] if node.module == "pspnet" else [node.module]
            found += [(name, node.lineno) for name in names]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require":
            found += [(str(node.args[0].value), node.lineno)] if isinstance(node.args[0], ast.Constant) else []
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    here = room(path)
    if here in ("__init__", "__main__"):
        return
    assert here in FLOORS, f"{path.name}: give the room {here!r} a floor in this test and in docs/ARCHITECTURE.md"
    wrong = []
    for name, line in imports(path):
        parts = name.split(".")
        if parts[0] != "pspnet" or len(parts) < 2:
            continue
        there = parts[1]
        if there == here or there not in FLOORS:
            continue
        if FLOORS[there] >= FLOORS[here] and (here, there) not in ALLOWED:
            wrong.append(
                f"{path.relative_to(ROOT)}:{line} imports {name}, from floor {FLOORS[here]} to {FLOORS[there]}"
            )
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_libraries_have_one_door(path: Path) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}; its door is {', '.join(sorted(DOORS[name.split('.')[0]]))}"
        for name, line in imports(path)
        if name.split(".")[0] in DOORS and room(path) not in DOORS[name.split(".")[0]]
    ]
    assert not wrong, "\n".join(wrong)


def test_import_loads_nothing_heavy() -> None:
    code = (
        "import sys, pspnet, pspnet.cli\n"
        "heavy = {'torch', 'timm', 'lightning', 'rasterio', 'onnx', 'openvino', 'fastapi', 'gradio', 'ray', 'cv2', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names() -> None:
    import pspnet

    for name in pspnet.__all__:
        assert getattr(pspnet, name) is not None
    with pytest.raises(AttributeError, match="PSPNet"):
        pspnet.PSPnet  # noqa: B018


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        return [p for p in PACKAGE.rglob("*") if p.is_file()]
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_tracked_file_is_large() -> None:
    assert [p for p in tracked() if p.stat().st_size > 12 * 2**20] == []
    weights = [p for p in tracked() if p.suffix in (".safetensors", ".pt", ".pth", ".onnx", ".ckpt", ".bin")]
    allowed = (ROOT / "models", PACKAGE / "models")
    assert [p for p in weights if not any(folder in p.parents for folder in allowed)] == []


def test_golden_numbers_stay_small() -> None:
    total = sum(p.stat().st_size for p in (ROOT / "tests" / "golden").rglob("*") if p.is_file())
    assert total <= 2 * 2**20


def test_pins_are_names_and_versions() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9._-]+==[0-9a-zA-Z.+]+( ; .*)?", line)] == []


def test_the_drawn_tree_is_the_real_one() -> None:
    """docs/ARCHITECTURE.md draws every room of the package, and no room that is not there."""
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    block = text.split("<!-- rooms -->")[1]
    drawn = set(re.findall(r"^  ([a-z_]+)(?:\.py|/)", block, flags=re.M))
    there = {room(p) for p in modules()} - {"__init__", "__main__"}
    assert drawn == there, f"drawn only: {sorted(drawn - there)}; there only: {sorted(there - drawn)}"
