"""What this machine does: its matrix rates, then models by engine, precision and size; start-up too.

    report = bench(["resnet50"], engines=["torch", "openvino"], sizes=[480])
    print(report); report.save("results")

Every measured thing lives in a process of its own and they take turns, so that memory is each one's own and a busy
moment slows all of them. See `pspnet bench --help`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pspnet.bench.report import BenchReport as BenchReport
    from pspnet.bench.run import bench as bench

__all__ = ["BenchReport", "bench"]
_HOMES = {"BenchReport": "pspnet.bench.report", "bench": "pspnet.bench.run"}


def __getattr__(name: str) -> Any:  # lazily: `pspnet.bench.interleaved` is also used by programs without our libraries
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
