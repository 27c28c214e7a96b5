"""Other programs' libraries: the real one where it is installed, else a stand-in with the names that we use of it."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest


@dataclass
class Detections:
    """supervision's, with the checks that its constructor makes."""

    xyxy: np.ndarray
    mask: np.ndarray | None = None
    confidence: np.ndarray | None = None
    class_id: np.ndarray | None = None
    data: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.xyxy)
        assert self.xyxy.shape == (count, 4)
        assert self.mask is None or (self.mask.ndim == 3 and len(self.mask) == count and self.mask.dtype == bool)
        for values in (self.confidence, self.class_id, *self.data.values()):
            assert values is None or values.shape == (count,)

    @classmethod
    def empty(cls) -> Detections:
        return cls(np.empty((0, 4), np.float32))

    def __getitem__(self, name: str) -> Any:
        return self.data[name]


def use(monkeypatch: pytest.MonkeyPatch, name: str, **contents: Any) -> None:
    """Puts a stand-in in the library's place, where it is not installed."""
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            module = ModuleType(".".join(parts[:depth]))
            monkeypatch.setitem(sys.modules, module.__name__, module)
            if depth > 1:
                setattr(sys.modules[".".join(parts[: depth - 1])], parts[depth - 1], module)
        sys.modules[name].__dict__.update(contents)


def use_supervision(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "supervision", Detections=Detections)


def use_fiftyone(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "fiftyone", Segmentation=lambda mask: SimpleNamespace(mask=mask))


def use_cvat(monkeypatch: pytest.MonkeyPatch) -> None:
    def shape(kind: str) -> Any:
        return lambda label_id, points: SimpleNamespace(type=kind, label_id=label_id, points=points, frame=0)

    use(
        monkeypatch,
        "cvat_sdk.auto_annotation",
        DetectionFunctionSpec=lambda labels: SimpleNamespace(labels=labels),
        label_spec=lambda name, id: SimpleNamespace(name=name, id=id),
        mask=shape("mask"),
        polygon=shape("polygon"),
    )
