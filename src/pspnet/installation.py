"""How pspnet was installed, and the command that adds one of its extras to that very installation.

The name `pspnet` on the public index belongs to another project, so no command may ask an index for it.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

# top-level module -> the extra that brings it, for imports that no `require` stands before
EXTRA_OF = {
    **dict.fromkeys(("torch", "timm", "safetensors", "jaxtyping", "huggingface_hub"), "torch"),
    **dict.fromkeys(("lightning", "lightning_fabric", "tensorboard", "matplotlib", "scipy"), "train"),
    **dict.fromkeys(("rasterio", "pyogrio", "shapely", "pyproj"), "raster"),
    **dict.fromkeys(("onnx", "onnxscript", "openvino", "nncf"), "export"),
    **dict.fromkeys(("fastapi", "uvicorn", "multipart", "prometheus_client", "httpx"), "serve"),
    "gradio": "playground",
    "ray": "cluster",
}


def available(module: str) -> bool:
    """Whether a top-level module can be imported, without importing it."""
    if module in sys.modules:
        return sys.modules[module] is not None
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def install_command(extra: str) -> str:
    """A command line that adds `extra` to this installation: editable, from a folder, a wheel's path, git, or a copy."""
    try:
        installed: Distribution | None = distribution("pspnet")
    except PackageNotFoundError:
        installed = None
    origin = _origin(installed)
    if origin is None:  # nothing says where it came from: what the extra consists of, by their own names
        wanted = requirements_of(installed, extra) if installed else []
        return f"{_installer()} {' '.join(shlex.quote(one) for one in wanted)}"
    editable, where = origin
    if editable:
        return f"{_installer()} -e {shlex.quote(f'{where}[{extra}]')}"
    return f"{_installer()} {shlex.quote(f'pspnet[{extra}] @ {where}')}"


def requirements_of(installed: Distribution, extra: str) -> list[str]:
    """The third parties' requirements of an extra, those of the extras that it includes too."""
    requirements: list[str] = []
    waiting, visited = [extra], set[str]()
    while waiting:
        name = waiting.pop()
        visited.add(name)
        for line in installed.requires or ():
            requirement, _, condition = (part.strip() for part in line.partition(";"))
            if not re.search(rf"""extra\s*==\s*["']{re.escape(name)}["']""", condition):
                continue
            nested = re.match(r"pspnet\s*\[(.*?)\]", requirement)
            if nested:
                waiting += [one.strip() for one in nested[1].split(",") if one.strip() not in visited]
            elif requirement not in requirements:
                requirements.append(requirement)
    return requirements


def _origin(installed: Distribution | None) -> tuple[bool, str] | None:
    """(editable, folder) or (False, URL); None where the installation does not tell."""
    source = Path(__file__).parents[2]
    checkout = (True, str(source)) if (source / "pyproject.toml").is_file() and source.name != "site-packages" else None
    text = installed.read_text("direct_url.json") if installed else None
    if not text:
        return checkout
    direct = json.loads(text)
    url = str(direct["url"])
    if direct.get("dir_info", {}).get("editable"):
        return True, url2pathname(urlsplit(url).path)
    revision = direct.get("vcs_info", {})
    if revision:
        wanted = revision.get("requested_revision") or revision.get("commit_id")
        url = f"{revision['vcs']}+{url}" + (f"@{wanted}" if wanted else "")
    if direct.get("subdirectory"):
        url += f"#subdirectory={direct['subdirectory']}"
    return False, url


def _installer() -> str:
    """pip where it is there; an environment that uv made has none."""
    python = shlex.quote(sys.executable)
    return f"{python} -m pip install" if available("pip") else f"uv pip install --python {python}"
