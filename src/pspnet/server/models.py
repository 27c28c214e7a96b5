"""The models of a server by name: opened in the background, warmed up, described."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pspnet.config.paths import without_folders
from pspnet.errors import ConfigError, did_you_mean
from pspnet.predict.exported import is_exported
from pspnet.predict.segmenter import Segmenter
from pspnet.server.problems import Problem
from pspnet.server.settings import ServerSettings
from pspnet.weights.bundled import find_model
from pspnet.weights.checkpoint import read_header

Source = str | Path | Segmenter


def name_models(texts: Sequence[str]) -> dict[str, str]:
    """["scenes", "runs/a/best.safetensors", "street=b.onnx"] -> {"scenes": ..., "best": ..., "street": "b.onnx"}.

    Raises ConfigError where two would have one name.
    """
    named: dict[str, str] = {}
    for text in texts:
        name, equals, source = text.partition("=")
        if not equals or "/" in name:
            name, source = Path(text).name.removesuffix(Path(text).suffix) or text, text
        if not name or not source:
            raise ConfigError(f"'{text}': write NAME=FILE, FILE, or the name of a model that comes along")
        if name in named:
            raise ConfigError(f"two models would be called {name!r} ('{named[name]}', '{source}'); write NAME={source}")
        named[name] = source
    return named


def check_sources(models: Mapping[str, Source]) -> None:
    """Reads headers only, so that a wrong name or a damaged file is told before anything starts.

    Raises CheckpointError, or ConfigError for a model that does not read ordinary images.
    """
    for name, source in models.items():
        if isinstance(source, Segmenter):
            _check_bands(name, source.config.in_bands)
            continue
        path = find_model(source)
        if not is_exported(path):
            _check_bands(name, read_header(path)[0].in_bands)
        elif not path.is_file():
            raise ConfigError(f"model {name!r}: '{path}' does not exist")


@dataclass
class Library:
    """Models by name, the first of which is the default. `ready` when all are open; `failure` when one cannot be."""

    sources: Mapping[str, Source]
    settings: ServerSettings
    opened: dict[str, Segmenter] = field(default_factory=dict)
    ready: bool = False
    failure: BaseException | None = None

    def open_all(self, stop: threading.Event) -> None:
        """Opens every model and lets each compute once; runs in a thread. Keeps its error in `failure`."""
        try:
            import shapely  # noqa: F401 - half a second that the first polygons would wait for

            for name, source in self.sources.items():
                if stop.is_set():
                    return
                segmenter = (
                    source
                    if isinstance(source, Segmenter)
                    else Segmenter.load(source, device=self.settings.device, precision=self.settings.precision)
                )
                _check_bands(name, segmenter.config.in_bands)
                segmenter.labels(np.zeros((1, segmenter.config.in_bands, 64, 64), np.float32), confidence=True)
                self.opened[name] = segmenter
            self.ready = True
        except Exception as error:  # whatever it is, it must reach the program that waits for the models
            self.failure = error

    def find(self, name: str | None) -> tuple[str, Segmenter]:
        """A model and its name; None is the first. Raises Problem with the names there are."""
        if not self.sources:
            raise Problem("not_found", "this server was started without a model; start it as: pspnet serve MODEL")
        wanted = next(iter(self.sources)) if name is None else name
        if wanted not in self.sources:
            hint = did_you_mean(wanted, self.sources, f"there are: {', '.join(self.sources)}")
            raise Problem("not_found", f"no model is called {wanted[:80]!r}; {hint}")
        if wanted not in self.opened:
            raise Problem("not_ready", f"the model {wanted!r} is being opened", retry_after_s=2)
        return wanted, self.opened[wanted]


def describe(name: str, segmenter: Segmenter) -> dict[str, Any]:
    """What a caller needs to use a model's answers, and where it comes from. JSON-ready."""
    card = segmenter.card
    provenance = dict(without_folders(dict(card.provenance)))  # files of other programs, and of our earlier versions
    return {
        "name": name,
        "classes": [
            {"index": index, "name": text, "colour": f"#{r:02x}{g:02x}{b:02x}"}
            for index, (text, (r, g, b)) in enumerate(zip(segmenter.classes, segmenter.colours, strict=True))
        ],
        "ignore": 255,
        "bands": list(card.band_names),
        "value_range": list(card.value_range),
        "protocol": card.protocol,
        "temperature": card.temperature,
        "trained_size": None if card.trained_size is None else list(card.trained_size),
        "ground_resolution": card.ground_resolution,
        "engine": segmenter.engine.name,
        "encoder": segmenter.config.encoder,
        "scores": provenance.pop("scores", None),
        "provenance": provenance,
    }


def _check_bands(name: str, bands: int) -> None:
    if bands not in (1, 3, 4):
        raise ConfigError(
            f"model {name!r} reads {bands} bands; image files that can be sent have 1, 3 or 4. "
            "For its rasters there is: pspnet raster"
        )
