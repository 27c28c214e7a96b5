"""Another project's checkpoint as a model that is ready to use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pspnet.predict.segmenter import Segmenter
from pspnet.weights.importing import Classes, import_checkpoint


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
        source: One of `pspnet.weights.importing.SOURCES`, such as semseg, mmseg or smp.
        classes: Names where the file has none: "ade20k", "voc", "cityscapes", a class table (CSV), or a list.
        verify: An .npz recorded with the original project, to compare with.
        settings: Fields of ModelConfig to set otherwise than the source usually does.
        check: Whether the self-check runs, which weights that were never trained may fail.
        device: "auto", "cpu", "cuda" ...

    Raises what `pspnet.weights.importing.import_checkpoint` raises, which also gives the whole report.
    """
    imported = import_checkpoint(path, source, classes=classes, settings=settings, verify=verify, check=check)
    return Segmenter(imported.model, imported.card, device=device)
