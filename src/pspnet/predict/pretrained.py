"""Models of other places: a folder or the Hugging Face hub (opened, saved, handed in), other projects' checkpoints.

A folder of ours holds model.safetensors (the whole model), config.json (the same header, for people and for the hub's count of
downloads) and README.md (the model card). One of segmentation_models_pytorch (its PSPNet) is read too.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet.errors import CheckpointError, ConfigError
from pspnet.files import check_output, write_text
from pspnet.predict.hub_card import readme
from pspnet.weights.checkpoint import header_text, read_header
from pspnet.weights.hub import WEIGHTS, fetch, upload

if TYPE_CHECKING:
    from pspnet.predict.segmenter import Segmenter
    from pspnet.weights.importing import Classes

FILES = (WEIGHTS, "model.onnx", "model.xml", "pytorch_model.bin")  # what a folder may hold, the first that is there


def from_pretrained(source: str | Path, revision: str | None, token: str | None, options: dict[str, Any]) -> Segmenter:
    """See `Segmenter.from_pretrained`."""
    from pspnet.predict.segmenter import Segmenter

    folder = Path(source)
    if not folder.is_dir():
        folder = fetch(str(source), FILES, ("config.json", "model.bin"), revision=revision, token=token)
    elif revision is not None:
        raise ConfigError(f"revision = {revision!r}: '{source}' is a folder here, which has none")
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None:
        raise CheckpointError(
            f"'{source}' has none of {', '.join(FILES)}; give a folder of save_pretrained, or a hub id"
        )
    if file.suffix in (".onnx", ".xml") or _is_ours(file):
        return Segmenter.load(file, **options)
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"'{file}' is no checkpoint of pspnet, and no config.json beside it says whose it is. Import it: "
            "pspnet import FILE OUT --source semseg|mmseg|smp|..."
        )
    return import_weights(folder, "smp", device=str(options.get("device", "auto")))


def _is_ours(file: Path) -> bool:
    try:
        read_header(file)
    except CheckpointError as error:
        if "not a pspnet checkpoint" in str(error) or file.suffix == ".bin":
            return False
        raise
    return True


def save_pretrained(
    segmenter: Segmenter,
    folder: str | Path,
    title: str | None,
    license: str | None,
    license_link: str | None,
    half: bool,
    overwrite: bool = False,
) -> Path:
    """See `Segmenter.save_pretrained`."""
    folder = Path(folder)
    for name in (WEIGHTS, "config.json", "README.md"):
        check_output(folder / name, overwrite=overwrite)
    segmenter.save(folder / WEIGHTS, half, overwrite=overwrite)
    header = json.loads(header_text(segmenter.config, segmenter.card))
    write_text(folder / "config.json", json.dumps({"model_type": "pspnet", **header}, indent=1))
    text = readme(
        segmenter.config, segmenter.card, title=title or folder.name, license=license, license_link=license_link
    )
    write_text(folder / "README.md", text)
    return folder


def push_to_hub(
    segmenter: Segmenter,
    repository: str,
    license: str,
    license_link: str | None,
    private: bool,
    token: str | None,
    message: str,
    half: bool,
) -> str:
    """See `Segmenter.push_to_hub`."""
    if not license.strip():
        raise ConfigError(
            "license is empty; name one of the hub's list, such as apache-2.0, or other with license_link"
        )
    with tempfile.TemporaryDirectory(prefix="pspnet-hub-") as folder:
        save_pretrained(segmenter, folder, repository, license, license_link, half)
        return upload(Path(folder), repository, private=private, token=token, message=message)


def import_weights(
    path: str | Path,
    source: str,
    classes: Classes | None = None,
    verify: str | Path | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    check: bool = True,
    device: str = "auto",
) -> Segmenter:
    """Another project's checkpoint, ready to use; a summary of what was imported is in `.card.provenance`.

    Args:
        path: The file; for smp also a folder or a hub id.
        source: semseg, mmseg, smp, csail, caffe or torchvision.
        classes: Names where the file has none: "ade20k", "voc", "cityscapes", a class table (CSV), or a list.
        verify: An .npz recorded with the original project, to compare with.
        settings: Fields of ModelConfig to set otherwise than the source usually does.
        check: Whether the self-check runs, which weights that were never trained may fail.
        device: "auto", "cpu", "cuda" ...

    Raises what `pspnet.weights.importing.import_checkpoint` raises, which also gives the whole report.
    """
    from pspnet.predict.segmenter import Segmenter
    from pspnet.weights.importing import import_checkpoint

    imported = import_checkpoint(path, source, classes=classes, settings=settings, verify=verify, check=check)
    return Segmenter(imported.model, imported.card, device=device)
