"""What all places of one page share: the folders it may use, its runs, and models that are loaded already."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pspnet.errors import ConfigError
from pspnet.playground.allowed_paths import Roots
from pspnet.playground.run_queue import RunQueue
from pspnet.predict.exported import EXPORT_SUFFIXES
from pspnet.predict.segmenter import Segmenter
from pspnet.weights.bundled import bundled_models

KEPT_MODELS = 3
RUN = "run: "


@dataclass
class Context:
    """exports: where exported models are put."""

    roots: Roots
    runs: RunQueue
    exports: Path
    _models: OrderedDict[tuple[str, float], Segmenter] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def model_names(self) -> list[str]:
        """Models that may be chosen: of runs, exported here, and those that come along."""
        trained = [RUN + name for name in self.runs.names() if (self.runs.folder / name / "best.safetensors").is_file()]
        exported = [
            self.roots.shown(p)
            for p in sorted(self.exports.glob("*"))
            if p.suffix in EXPORT_SUFFIXES and p.suffix != ".pt2"
        ]
        return [*trained, *exported, *bundled_models()]

    def model(self, name: str | None) -> Segmenter:
        """A model by its name in the list, or by a path below the roots. Raises ConfigError, CheckpointError."""
        if not name:
            raise ConfigError("no model was chosen; take one of the list")
        if name in bundled_models():
            source: Path | str = name
            changed = 0.0
        else:
            source = (
                self.runs.path(name.removeprefix(RUN)) / "best.safetensors"
                if name.startswith(RUN)
                else self.roots.path(name, "model")
            )
            if not self.roots.holds(source):
                raise ConfigError(
                    f"model = '{name}' lies outside the folders of this page; start it with a --root that holds it"
                )
            if not source.is_file():
                raise ConfigError(f"'{name}' has no model yet: a run writes it at its first validation")
            if source.suffix not in (".safetensors", ".onnx", ".xml"):
                raise ConfigError(
                    f"model = '{name}': .safetensors, .onnx or .xml; a .pt2 file can hold programs and is not opened here"
                )
            changed = source.stat().st_mtime
        key = (str(source), changed)
        with self._lock:
            if key not in self._models:
                self._models[key] = Segmenter.load(source, device="auto")
                while len(self._models) > KEPT_MODELS:
                    self._models.popitem(last=False)
            self._models.move_to_end(key)
            return self._models[key]


def lines_of(text: str, what: str) -> dict[str, Any]:
    """`name=value` lines as settings; empty lines and those that begin with # do not count."""
    from pspnet.config import with_overrides

    lines = [line.strip() for line in str(text or "").splitlines()]
    try:
        return with_overrides({}, [line for line in lines if line and not line.startswith("#")])
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}") from None


Progress = Callable[..., Any]
