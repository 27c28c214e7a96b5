"""Imports timm without PyTorch's compiler, which it would load for nothing.

torchvision (for one name) and timm (for a decorator on a vision transformer and a cache size) import `torch._dynamo` at
start, and with it sympy and the inductor: 8.5 of the 13.9 processor seconds that `import timm` takes (2 cores, Zen 3).
While timm is imported a stand-in gives those three names; afterwards it is gone and `torch.compile` loads the real
thing as usual. Where anything is missing in the stand-in, timm is imported the ordinary way.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

_NAMES = ("torch._dynamo", "torch._dynamo.utils")


def import_timm() -> ModuleType:
    """The module timm; quickly the first time."""
    if "timm" in sys.modules or any(name in sys.modules for name in _NAMES):
        return importlib.import_module("timm")
    before = set(sys.modules)
    compiler, utils = ModuleType(_NAMES[0]), ModuleType(_NAMES[1])
    compiler.__path__ = []
    compiler.__dict__.update(
        utils=utils, config=SimpleNamespace(), disable=lambda function, *_args, **_options: function
    )
    utils.__dict__["is_compile_supported"] = _is_compile_supported
    sys.modules.update({_NAMES[0]: compiler, _NAMES[1]: utils})
    try:
        return importlib.import_module("timm")
    except Exception:  # another release may want another name: nothing is lost but the time
        for name in set(sys.modules) - before:
            if name.split(".")[0] in ("timm", "torchvision"):
                del sys.modules[name]
        _remove_stand_in()
        return importlib.import_module("timm")
    finally:
        _remove_stand_in()


def _remove_stand_in() -> None:
    for name in _NAMES:
        if getattr(sys.modules.get(name), "__file__", None) is None:
            sys.modules.pop(name, None)


def _is_compile_supported(device: Any) -> Any:
    from torch._dynamo.utils import is_compile_supported

    return is_compile_supported(device)


import_timm()
