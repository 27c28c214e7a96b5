"""The house's rules that a program can check: directions of imports, doors of heavy libraries, the public face."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from support.paths import ROOT

PACKAGE = ROOT / "src" / "pspnet"

# The room (first path part below the package) and its floor. Imports go to the same room or to a lower floor.
FLOORS = {
    **dict.fromkeys(("errors", "installation", "machine", "files", "display", "terminal"), 0),
    **dict.fromkeys(
        (
            "labels",
            "class_tables",
            "config",
            "images",
            "tiling",
            "georaster",
            "outlines",
        ),
        1,
    ),
    **dict.fromkeys(("nn", "losses", "metrics"), 2),
    **dict.fromkeys(("weights", "data"), 3),
    "predict": 4,
    **dict.fromkeys(("training", "evaluation", "raster", "exporting", "ablation", "explorer"), 5),
    **dict.fromkeys(("demo", "inspection", "bench", "adaptation", "picking", "integrations"), 5),
    **dict.fromkeys(("cli", "server", "client", "playground", "arcgis"), 6),
}

# (from, to): why an arrow between rooms of one floor, or upwards, is right. One that is no longer needed fails.
ALLOWED = {
    ("errors", "installation"): "the error of a missing extra prints the command that brings it",
    ("labels", "class_tables"): "the rows of a table become a LabelSpace",
    ("files", "errors"): "what cannot be written is told in one class",
    ("files", "machine"): "what a dead process left is told from what a living one writes",
    ("images", "labels"): "label pictures are read and written in classes",
    ("georaster", "images"): "a label raster is read as every label picture",
    ("georaster", "labels"): "a label raster is decoded into classes",
    ("outlines", "labels"): "what is ignored has no outline",
    ("georaster", "tiling"): "a grid is cut into windows",
    ("ablation", "training"): "a grid of trainings",
    ("training", "inspection"): "memory and time are told before a run starts",
    ("ablation", "evaluation"): "a grid of evaluations",
    ("demo", "training"): "the demo trains three networks",
    ("bench", "inspection"): "a share of the roof needs the operations counted",
    ("exporting", "evaluation"): "an export is scored beside its source",
    ("picking", "raster"): "a raster is cut into tiles as a map is",
    ("explorer", "evaluation"): "failures are looked for in an evaluation",
    ("cli", "server"): "the command line starts the others",
    ("cli", "playground"): "the command line starts the others",
    ("playground", "server"): "the playground is mounted in the server's application",
}

# Heavy libraries and the rooms that may name them.
DOORS = {
    "timm": {"nn", "weights"},
    "lightning_fabric": {"training"},
    "rasterio": {"georaster", "raster", "data"},
    "openvino": {"predict"},
    "nncf": {"predict"},
    "fastapi": {"server"},
    "gradio": {"playground"},
    "ray": {"predict"},
    "scipy": {"data"},
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> list[tuple[str, int]]:
    """Every imported module of a file, function-level ones included, and literal names given to `require`."""
    collected = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            collected += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"pspnet.{a.name}" for a in node.names] if node.module == "pspnet" else [node.module]
            collected += [(name, node.lineno) for name in names]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require":
            collected += [(str(node.args[0].value), node.lineno)] if isinstance(node.args[0], ast.Constant) else []
    return collected


def arrows() -> list[tuple[str, str, str]]:
    """(from room, to room, where) of every import between rooms."""
    there = {room(p) for p in modules()}
    assert there - {"__init__", "__main__"} <= set(FLOORS), "give each room a floor here and in docs/ARCHITECTURE.md"
    drawn = []
    for path in modules():
        for name, line in imports(path):
            parts = name.split(".")
            if parts[0] == "pspnet" and len(parts) > 1 and parts[1] in FLOORS and room(path) in FLOORS:
                drawn.append((room(path), parts[1], f"{path.relative_to(ROOT)}:{line} imports {name}"))
    return [arrow for arrow in drawn if arrow[0] != arrow[1]]


def test_imports_point_down() -> None:
    up = {(here, there): where for here, there, where in arrows() if FLOORS[there] >= FLOORS[here]}
    assert [where for pair, where in up.items() if pair not in ALLOWED] == []
    assert sorted(set(ALLOWED) - set(up)) == [], "exceptions that are no longer needed"


def test_heavy_libraries_have_one_door() -> None:
    wrong, used = [], set()
    for path in modules():
        for name, line in imports(path):
            library = name.split(".")[0]
            if library in DOORS:
                used.add((library, room(path)))
                if room(path) not in DOORS[library]:
                    wrong.append(
                        f"{path.relative_to(ROOT)}:{line} imports {name}; its door is {sorted(DOORS[library])}"
                    )
    assert wrong == []
    assert {(k, r) for k, rooms in DOORS.items() for r in rooms} - used == set(), "doors that are no longer used"


def test_one_file_of_predict_imports_pytorch() -> None:
    """Everything else there works where PyTorch is not installed."""
    rooms = sorted((PACKAGE / "predict").rglob("*.py"))
    heavy = {"torch", "timm", "safetensors", "lightning_fabric"}
    assert [p.name for p in rooms if heavy & {name.split(".")[0] for name, _ in imports(p)}] == ["engines.py"]


def for_types_only(tree: ast.Module) -> set[ast.AST]:
    """What stands below `if TYPE_CHECKING:`."""
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return {inner for block in blocks for inner in ast.walk(block)}


def test_no_circle_of_files() -> None:
    """Counting imports inside functions too: one there loads a heavy part late, and is no way around a circle."""
    names = {
        ".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): p for p in modules()
    }
    above: dict[str, set[str]] = {}
    for module, path in names.items():
        goals = set()
        for node in set(ast.walk(parsed(path))) - for_types_only(parsed(path)):
            if isinstance(node, ast.ImportFrom) and node.module:
                files = {f"{node.module}.{a.name}" for a in node.names} & names.keys()
                goals |= files or {node.module}
        # a package that hands on what its files define is met through any of them
        above[module] = {
            goal for goal in goals if goal in names and goal != module and not module.startswith(goal + ".")
        }
    done: set[str] = set()

    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for goal in above[module]:
                walk(goal, (*path, module))
            done.add(module)

    for module in names:
        walk(module, ())


def test_import_loads_nothing_heavy() -> None:
    code = (
        "import sys, pspnet, pspnet.cli\n"
        "heavy = {'torch', 'timm', 'lightning_fabric', 'rasterio', 'onnx', 'openvino', 'fastapi', 'gradio', 'ray', 'cv2', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Modules whose import may call something: the command line puts its commands together, a room asks for its extra.
CALLS_AT_IMPORT = re.compile(r"(\w+\.add_to\(app\)|require\(.*\)|main\(\)|serve\(.*\))$", re.S)


def test_importing_a_module_changes_nothing_in_the_process() -> None:
    """No entry of sys.modules is replaced anywhere, and no global switch (filters, environment, settings of a library)
    is turned by an import."""
    wrong: list[tuple[Path, ast.AST]] = []
    for path in modules():
        tree = parsed(path)
        for node in tree.body:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                wrong += [] if CALLS_AT_IMPORT.fullmatch(ast.unparse(node)) else [(path, node)]
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            wrong += [(path, node) for goal in targets if isinstance(goal, (ast.Attribute, ast.Subscript))]
        touched = re.search(r"sys\.(modules|meta_path|path_hooks)", path.read_text(encoding="utf-8"))
        for part in ast.walk(tree) if touched else ():
            text = ast.unparse(part) if isinstance(part, (ast.Call, ast.Assign, ast.AugAssign, ast.Delete)) else ""
            if re.match(
                r"(del )?sys\.(modules|meta_path|path_hooks)(\[.*\] = |\[[^\]]*\]$|\.(pop|update|setdefault)\()", text
            ):
                wrong.append((path, part))
    assert [
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}: {ast.unparse(node)[:80]}" for path, node in wrong
    ] == []


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


def test_a_long_file_says_why() -> None:
    """Over 300 lines a file holds two ideas, or its docstring has a sentence that begins with "Long"."""
    texts = {path: path.read_text(encoding="utf-8") for path in modules()}
    long = [path for path, text in texts.items() if text.count("\n") > 300]
    docstrings = {path: ast.get_docstring(ast.parse(texts[path])) or "" for path in long}
    assert [str(path.relative_to(ROOT)) for path in long if not re.search(r"\bLong\b", docstrings[path])] == []


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


def glossary() -> dict[str, set[str]]:
    """word -> what it is never called (single words; an entry with a note in brackets says where it may stand)."""
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8").split("<!-- glossary -->")[1]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    return {word: set(re.split(r",\s*", never)) for word, _, never in rows[2:]}


# Other people's formats and libraries keep their names in ours.
FOREIGN_NAMES = {"Category", "ValueRange"}


def test_names_of_files_and_classes_keep_to_the_glossary() -> None:
    words = glossary()
    assert 38 <= len(words) <= 48
    never = {name.lower(): word for word, names in words.items() for name in names if re.fullmatch(r"[a-z]+", name)}
    never = {name: word for name, word in never.items() if name not in words}  # a tile is no window, but a word
    wrong = []
    for path in modules():
        names = [path.stem] + [node.name for node in ast.walk(parsed(path)) if isinstance(node, ast.ClassDef)]
        for name in names:
            parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
            wrong += [
                f"{path.relative_to(ROOT)}: {name}: say {never[part.lower()]!r}, not {part.lower()!r}"
                for part in parts
                if part.lower() in never and name not in FOREIGN_NAMES
            ]
    assert wrong == []


def test_no_room_hands_on_a_name_that_is_another_of_its_files() -> None:
    """`from room import writing` would give the file once it is imported, not the function of another file."""
    both = []
    for path in PACKAGE.rglob("__init__.py"):
        files = {p.stem for p in path.parent.glob("*.py")} | {p.parent.name for p in path.parent.glob("*/__init__.py")}
        for node in parsed(path).body:
            package = ".".join(path.parent.relative_to(PACKAGE.parent).parts)
            if isinstance(node, ast.ImportFrom) and node.module != package:
                names = {alias.asname or alias.name for alias in node.names} & files
                both += [(str(path), name) for name in names - {(node.module or "").split(".")[-1]}]
    assert both == []


def test_class_names_are_unique() -> None:
    places: dict[str, list[str]] = {}
    for path in modules():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name.lstrip("_"), []).append(str(path.relative_to(ROOT)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


# They say nothing of what they hold; name the content (labels, window, path, message, match ...).
NO_NAMES = {"found", "made", "told", "kept", "seen", "sure", "place", "beside", "own"}


def test_variables_are_called_after_what_they_hold() -> None:
    wrong = []
    for path in modules() + [p for room in ("tests", "benchmarks", "tools") for p in (ROOT / room).rglob("*.py")]:
        for node in ast.walk(parsed(path)):
            name = ""
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                name = node.id
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                name = node.attr
            elif isinstance(node, ast.arg):
                name = node.arg
            if name.strip("_") in NO_NAMES:
                wrong.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}: {name}")
    assert wrong == []


def test_no_id_of_a_document_that_is_not_here() -> None:
    texts = {p: p.read_text(encoding="utf-8") for p in modules()}
    assert [str(p) for p, text in texts.items() if re.search(r"SPEC [A-Z]", text)] == []


def test_what_the_guide_to_the_code_names_is_there() -> None:
    table = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8").split("<!-- happens -->")[1]
    rows = [line.split("|")[2:4] for line in table.strip().splitlines()[2:]]
    assert len(rows) > 8
    for files, names in rows:
        code = "".join((PACKAGE / file).read_text(encoding="utf-8") for file in re.findall("`([^`]+)`", files))
        for name in re.findall("`([^`]+)`", names):
            assert re.search(rf"^ *(def|class) {name}\b", code, re.MULTILINE), f"{name} is not in {files}"
