"""Imports Lightning without torchmetrics, of which it wants two names and we want none.

torchmetrics loads matplotlib and scipy.signal when they are installed: half of the seconds that `import lightning`
takes. While Lightning is imported a stand-in gives the two classes, for it to tell metrics that are logged from
numbers; we log through callbacks of our own. Afterwards the stand-in is gone, and torchmetrics imports as usual.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from torch import nn

from pspnet.errors import require


class _Metric(nn.Module):
    """Nothing is one of these."""


class _MetricCollection(nn.ModuleDict):
    """Nothing is one of these."""


def import_lightning() -> ModuleType:
    """The module lightning.pytorch; quickly the first time. Raises MissingExtraError where it is not installed."""
    if "lightning.pytorch" in sys.modules or "torchmetrics" in sys.modules:
        return require("lightning.pytorch", "train")
    before = set(sys.modules)
    stand_in = ModuleType("torchmetrics")
    stand_in.__dict__.update(Metric=_Metric, MetricCollection=_MetricCollection, __path__=[])
    sys.modules["torchmetrics"] = stand_in
    try:
        return importlib.import_module("lightning.pytorch")
    except Exception:  # another release may want another name: nothing is lost but the time
        for name in set(sys.modules) - before:
            if name.split(".")[0] in ("lightning", "torchmetrics"):
                del sys.modules[name]
        return require("lightning.pytorch", "train")
    finally:
        if sys.modules.get("torchmetrics") is stand_in:
            del sys.modules["torchmetrics"]
