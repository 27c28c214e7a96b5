"""What a command reads: its outputs must not be among it, and it names the files that it leaves out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet.cli.console import console
from pspnet.config.foreign import ForeignModel
from pspnet.data.dataset import Dataset
from pspnet.errors import CheckpointError
from pspnet.files import Inputs
from pspnet.predict.exported import files_of, is_exported
from pspnet.weights.bundled import find_model

if TYPE_CHECKING:
    from pspnet.predict.folders import ImageList


def model_files(*models: str | Path | None) -> list[Path]:
    """The files of models, given by path or by name; those that do not exist are left to who opens them."""
    files: list[Path] = []
    for model in models:
        if model is not None and is_exported(model):
            files += files_of(model)
        elif model is not None:
            files.append(find_model(model))
    return files


def check_model(model: str) -> None:
    """A model's name or path, looked at before images and data sets are, and before PyTorch loads. Raises CheckpointError."""
    path = find_model(model)
    if not path.is_file():
        raise CheckpointError(f"the model '{path}' does not exist; give a file, or a name that `pspnet models` lists")


def inputs_of(
    model: str | Path | None, root: str | Path | None = None, dataset: Dataset | None = None, also: str | None = None
) -> Inputs:
    """A model and a data set: every file that it names, and every file of its folder (class tables, lists). also: another
    model, or the file of its scores."""
    given: list[Any] = model_files(model)
    if also is not None:
        given += [also] if Path(also).suffix.lower() == ".json" else model_files(also)
    if root is not None:
        given.append(root)
    if dataset is not None:
        given += dataset.sources()
    return Inputs(given)


def images_in(paths: Iterable[str | Path]) -> ImageList:
    """The images of files and folders; prints what the folders hold besides."""
    from pspnet.predict.folders import find_images

    images = find_images(paths)
    if note := images.left_out.note():
        console.print(note, highlight=False)
    return images


def about_of(texts: list[str] | None) -> ForeignModel | None:
    """The values of --about: YAML files and name=value, the later over the earlier."""
    from pspnet.config import read_yaml, with_overrides
    from pspnet.config.base import merged

    if not texts:
        return None
    about: dict[str, Any] = {}
    for text in texts:
        about = with_overrides(about, [text]) if "=" in text else merged(about, read_yaml(text))
    return ForeignModel.model_validate(about)
