"""`pspnet doctor`: what is installed here, which engines work, and what each gap needs."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Annotated

import typer

from pspnet.cli.console import console

# what a user wants to do -> (extra that brings it, distributions it needs, by import name)
NEEDS: dict[str, tuple[str, dict[str, str]]] = {
    "segment photographs with exported models": ("", {"onnxruntime": "onnxruntime", "cv2": "opencv-python-headless"}),
    "segment with checkpoints": ("torch", {"torch": "torch", "timm": "timm", "safetensors": "safetensors"}),
    "train": ("train", {"torch": "torch", "lightning_fabric": "lightning-fabric", "matplotlib": "matplotlib"}),
    "map rasters": ("raster", {"rasterio": "rasterio", "pyogrio": "pyogrio", "shapely": "shapely", "pyproj": "pyproj"}),
    "export": ("export", {"onnx": "onnx", "onnxscript": "onnxscript", "openvino": "openvino", "nncf": "nncf"}),
    "serve": ("serve", {"fastapi": "fastapi", "uvicorn": "uvicorn", "multipart": "python-multipart"}),
    "the playground": ("playground", {"gradio": "gradio"}),
    "rasters on several machines": ("cluster", {"ray": "ray"}),
}


@dataclass(frozen=True)
class Ability:
    """One thing a user may want: whether it is there, the versions it rests on, and the line that brings it."""

    name: str
    works: bool
    versions: dict[str, str]
    missing: tuple[str, ...]
    install: str


def add_to(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for scripts.")] = False,
) -> None:
    """Show what is installed here, which engines work, and what each gap needs.

    Nothing is downloaded and no model is opened; engines are tried by importing them. Exit code 0, whatever is missing.

    Example: pspnet doctor
    """
    from pspnet import __version__
    from pspnet.machine import memory_bytes, processor_name, usable_cores

    abilities = [ability(name) for name in NEEDS]
    system = {
        "pspnet": __version__,
        "python": sys.version.split()[0],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor_name(),
        "cores": usable_cores(),
        "memory_gib": round(memory_bytes() / 2**30, 1),
        "devices": devices(),
        "model_folders": model_folders(),
    }
    if as_json:
        print(json.dumps({**system, "abilities": [asdict(one) for one in abilities]}))
        return
    for name, value in system.items():
        console.print(f"{name.replace('_', ' '):14} {', '.join(value) if isinstance(value, list) else value}")
    console.print("")
    for one in abilities:
        versions = ", ".join(f"{name} {version}" for name, version in one.versions.items())
        state = "yes" if one.works else f"no: {', '.join(one.missing)} cannot be imported. {one.install}"
        console.print(f"{one.name:42} {state}" + (f"  ({versions})" if one.works else ""))


def ability(name: str) -> Ability:
    """Whether the parts of one ability can be found, without loading them: a large one takes seconds."""
    from pspnet.installation import available, install_command

    extra, parts = NEEDS[name]
    missing = tuple(distribution for module, distribution in parts.items() if not available(module))
    versions = {}
    for distribution in parts.values():
        if distribution not in missing:
            try:
                versions[distribution] = metadata.version(distribution)
            except metadata.PackageNotFoundError:
                versions[distribution] = "of unknown version"
    return Ability(name, not missing, versions, missing, f"Install: {install_command(extra)}" if missing else "")


def devices() -> list[str]:
    """What computes: the processor, and each GPU that PyTorch sees where PyTorch is installed."""
    from pspnet.installation import available

    if not available("torch"):
        return ["cpu"]
    import torch

    gpus = [f"cuda:{index} {torch.cuda.get_device_name(index)}" for index in range(torch.cuda.device_count())]
    return ["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]


def model_folders() -> list[str]:
    """Where models are looked up by name."""
    from pspnet.weights.bundled import PACKAGE_MODELS, REPOSITORY_MODELS

    return [str(folder) for folder in (PACKAGE_MODELS, REPOSITORY_MODELS) if folder.is_dir()]
