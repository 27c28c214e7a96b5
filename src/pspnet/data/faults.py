"""What a check of a data set finds: faults, each with its file, its value and how to mend it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pspnet.errors import DataError, ImageError, LabelError

_WARNED = 3  # warnings of one kind that a run says
_SHOWN = 20  # faults written out in an error message; a report holds them all


@dataclass(frozen=True)
class Fault:
    """severity: an "error" keeps a run from starting, a "warning" is worth a look. file: the one it is about."""

    severity: Literal["error", "warning"]
    kind: str
    file: str
    message: str
    mend: str

    def __str__(self) -> str:
        return f"{self.message}. {self.mend}." if self.mend else self.message


def distinct(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """Each fault once: all windows of a raster tell the same of its file."""
    return tuple({(fault.severity, fault.kind, fault.message): fault for fault in reversed(list(faults))}.values())[
        ::-1
    ]


@dataclass(frozen=True)
class DataReport:
    """The outcome of `check_dataset`. name: what was checked; samples: how many pairs were looked at."""

    name: str
    samples: int
    faults: tuple[Fault, ...]

    @property
    def errors(self) -> tuple[Fault, ...]:
        return tuple(fault for fault in self.faults if fault.severity == "error")

    @property
    def warnings(self) -> tuple[Fault, ...]:
        return tuple(fault for fault in self.faults if fault.severity == "warning")

    @property
    def ok(self) -> bool:
        """No errors; there may be warnings."""
        return not self.errors

    def raise_errors(self) -> None:
        """Raises DataError that holds every error, if there is one."""
        if not self.ok:
            raise errors_of(self.name, self.errors)

    def warn(self, leave_out: tuple[str, ...] = ()) -> None:
        """Says the warnings, but those of kinds to leave out, the first ones of each kind in full."""
        kinds: dict[str, list[Fault]] = {}
        for fault in self.warnings:
            if fault.kind not in leave_out:
                kinds.setdefault(fault.kind, []).append(fault)
        for kind, faults in kinds.items():
            for fault in faults[:_WARNED]:
                warnings.warn(str(fault), stacklevel=3)
            if len(faults) > _WARNED:
                more = len(faults) - _WARNED
                warnings.warn(
                    f"{self.name}: {more} more of this kind ({kind}); `pspnet data check` lists all", stacklevel=3
                )


def errors_of(name: str, faults: Iterable[Fault]) -> DataError:
    """One DataError out of many faults; the message shows the first ones, `.faults` holds them all."""
    lines = tuple(str(fault) for fault in faults)
    if len(lines) == 1:
        return DataError(f"{name}: {lines[0]}", lines)
    shown = "\n".join(f"  - {line}" for line in lines[:_SHOWN])
    rest = f"\n  ... and {len(lines) - _SHOWN} more; `pspnet data check` lists all" if len(lines) > _SHOWN else ""
    return DataError(f"{name}: {len(lines)} faults\n{shown}{rest}", lines)


def fault_of(error: DataError, file: str) -> Fault:
    """An error that reading one file raised, as a fault."""
    if isinstance(error, ImageError):
        return Fault("error", "unreadable", file, str(error), "")
    kind = "label" if isinstance(error, LabelError) else "sample"
    return Fault("error", kind, file, str(error), "")
