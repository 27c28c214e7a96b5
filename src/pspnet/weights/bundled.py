"""Models that come along, called by name: in the package, in a `models` folder, or where PSPNET_MODELS points.

Each folder has an `index.json`: name -> {"file", "sha256", "about", "terms"}, and where the model was also exported with
8-bit numbers, for machines without PyTorch, {"int8", "int8_sha256"}. A file whose hash differs is refused. An
entry of the package with "elsewhere" in place of a file names a model that is not in the wheel, and says why and where.

The wheel holds the 8-bit files of the large models and not their checkpoints (12 MB each): it stays below 30 MB. A name is
then the 8-bit file, with PyTorch too, and a warning says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pspnet.errors import CheckpointError, did_you_mean, missing
from pspnet.installation import available

PACKAGE_MODELS = Path(__file__).parent.parent / "models"  # these are in the wheel
REPOSITORY_MODELS = Path(__file__).parents[3] / "models"  # beside a source checkout only
_WAY_OUT = "set PSPNET_MODELS to a copy of src/pspnet/models of the source repository"


@dataclass(frozen=True)
class BundledModel:
    """One line of a folder's index. terms: what its training data allow. elsewhere: where a file that lacks is to be had."""

    name: str
    path: Path | None
    sha256: str
    about: str
    terms: str = ""
    elsewhere: str = ""
    int8: Path | None = None
    int8_sha256: str = ""

    @property
    def here(self) -> bool:
        """Whether the file is there."""
        return self.path is not None and self.path.is_file()


def model_folders() -> list[Path]:
    """Where names are looked up, first to last."""
    given = os.environ.get("PSPNET_MODELS")
    folders = [Path(given)] if given else []
    return [f for f in [*folders, PACKAGE_MODELS, REPOSITORY_MODELS, Path("models")] if (f / "index.json").is_file()]


def bundled_models() -> dict[str, BundledModel]:
    """Every model known by name; where two folders have one, the first that has the file."""
    models: dict[str, BundledModel] = {}
    for folder in model_folders():
        try:
            index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
            entries = {name: _entry(name, entry, folder) for name, entry in index.items()}
        except Exception as error:  # an index.json of any content
            if folder == Path("models"):  # a folder of this name is often somebody else's
                continue
            raise CheckpointError(f"'{folder / 'index.json'}' is damaged: {error}") from error
        for name, entry in entries.items():
            if name not in models or models[name].path is None:
                models[name] = entry
    return models


def find_model(source: str | Path, *, checkpoint: bool = False) -> Path:
    """The file behind a path or a name: where PyTorch or the checkpoint is not there, a name's int8 ONNX.

    Args:
        source: A path, or the name of a model that comes along.
        checkpoint: Whether only a checkpoint will do, to train from.

    Raises CheckpointError with the names there are, when a hash differs, or for a checkpoint that is not in the wheel;
    MissingExtraError for a name that only PyTorch can run.
    """
    path = Path(source)
    if path.is_file() or isinstance(source, Path) or path.suffix or len(path.parts) > 1:
        return path
    models = bundled_models()
    if str(source) not in models:
        names = did_you_mean(str(source), models, f"there are: {', '.join(sorted(models)) or 'none'}")
        raise CheckpointError(f"{str(source)!r} is neither a file nor a model that comes along; {names}")
    model = models[str(source)]
    if model.path is None:
        raise CheckpointError(f"model {model.name!r} is not in the wheel: {model.elsewhere}")
    if not model.here and model.int8 is not None:
        absent = f"model {model.name!r}: its checkpoint is not in the wheel, to keep that small"
        if checkpoint:
            raise CheckpointError(f"{absent}. {_WAY_OUT}")
        if available("torch"):
            warnings.warn(
                f"{absent}; its 8-bit file is used. To train from it, adapt or export it: {_WAY_OUT}", stacklevel=2
            )
    elif checkpoint or available("torch"):
        return _published(model.name, model.path, model.sha256)
    if model.int8 is None:
        raise missing("torch", "torch")
    return _published(model.name, model.int8, model.int8_sha256)


def _published(name: str, path: Path, sha256: str) -> Path:
    """The file itself, once it is known to be the one that the index names."""
    if not path.is_file():
        raise CheckpointError(f"model {name!r}: '{path}' is missing; install the package again")
    if _sha256(path, path.stat().st_mtime_ns) != sha256:
        raise CheckpointError(
            f"model {name!r}: '{path}' is not the file that was published (its SHA-256 differs); "
            "install the package again, or load the file by its path if the change was meant"
        )
    return path


def _entry(name: str, entry: dict[str, str], folder: Path) -> BundledModel:
    about, terms, elsewhere = (entry.get(key, "") for key in ("about", "terms", "elsewhere"))
    if elsewhere:
        return BundledModel(name, None, "", about, terms, elsewhere)
    int8 = folder / entry["int8"] if "int8" in entry else None
    return BundledModel(
        name,
        folder / entry["file"],
        entry["sha256"],
        about,
        terms,
        int8=int8,
        int8_sha256=entry.get("int8_sha256", ""),
    )


@lru_cache(maxsize=16)
def _sha256(path: Path, _changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
