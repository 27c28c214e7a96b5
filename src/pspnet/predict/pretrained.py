"""Models of other places: a folder or the Hugging Face hub (found, saved, handed in).

A folder of ours holds model.safetensors (the whole model), config.json (the same header, for people and for the hub's count of
downloads) and README.md (the model card). One of segmentation_models_pytorch (its PSPNet) is read too.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pspnet.errors import CheckpointError, ConfigError
from pspnet.files import check_output, write_text
from pspnet.predict.hub_card import readme
from pspnet.weights.checkpoint import header_text, read_header
from pspnet.weights.hub import WEIGHTS, fetch, upload

if TYPE_CHECKING:
    from pspnet.predict.segmenter import Segmenter

FILES = (WEIGHTS, "model.onnx", "model.xml", "pytorch_model.bin")  # what a folder may hold, the first that is there


def pretrained_file(source: str | Path, revision: str | None, token: str | None) -> tuple[Path, bool]:
    """The model's file, fetched where `source` is no folder; and whether it is ours (else its folder is for the importer
    "smp"). See `Segmenter.from_pretrained`."""
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
    ours = file.suffix in (".onnx", ".xml") or _is_ours(file)
    if not ours and not (folder / "config.json").is_file():
        raise CheckpointError(
            f"'{file}' is no checkpoint of pspnet, and no config.json beside it says whose it is. Import it: "
            "pspnet import FILE OUT --source semseg|mmseg|smp|..."
        )
    return file, ours


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
