"""What `pspnet bench` found, as a table and as a file."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pspnet.bench.machine import Hardware, commit, stamp
from pspnet.files import check_output, holds_keys, write_text


@dataclass(frozen=True)
class TableCell:
    """One model in one engine. Times are medians in milliseconds for the whole batch, by the clock and of the processor.

    share: operations per second of processor time over the machine's roof in that precision (see `Hardware.roof`). peak_mib: memory while
    it ran, everything that the process holds; beyond_mib: of that, what was not there before the first image.
    """

    model: str
    engine: str
    precision: str
    height: int
    width: int
    batch: int
    milliseconds: float = 0.0
    processor_ms: float = 0.0
    images_per_s: float = 0.0
    gflop: float = 0.0
    share: float | None = None
    peak_mib: float = 0.0
    beyond_mib: float = 0.0
    failure: str = ""


@dataclass(frozen=True)
class BenchReport:
    """The machine, the cells and the start-up times of one run."""

    hardware: Hardware
    cells: Sequence[TableCell]
    starts: dict[str, dict[str, float]]

    def __str__(self) -> str:
        rows = [("model", "engine", "precision", "batch x px", "ms", "proc. ms", "images/s", "of roof", "peak MiB")]
        for c in self.cells:
            what = (c.model, c.engine, c.precision, f"{c.batch} x {c.height} x {c.width}")
            if c.failure:
                rows.append((*what, f"not run: {c.failure}", "", "", "", ""))
                continue
            share = "" if c.share is None else f"{c.share:.0%}"
            rows.append(
                (
                    *what,
                    f"{c.milliseconds:.1f}",
                    f"{c.processor_ms:.1f}",
                    f"{c.images_per_s:.2f}",
                    share,
                    f"{c.peak_mib:.0f}",
                )
            )
        full = [row for row in rows if not row[4].startswith("not run")]
        widths = [max(len(row[i]) for row in (rows if i < 4 else full)) for i in range(9)]
        lines = [str(self.hardware), ""]
        lines += [
            "  ".join(
                t.ljust(w) if i < 4 else t.rjust(w) for i, (t, w) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        if self.starts:
            lines += [
                "",
                "start-up, s by the clock (of the processor): "
                + ", ".join(f"{name} {s['wall_s']:.2f} ({s['processor_s']:.2f})" for name, s in self.starts.items()),
            ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        return {
            "hardware": asdict(self.hardware),
            "cells": [asdict(cell) for cell in self.cells],
            "starts": self.starts,
        }

    def save(self, folder: str | Path) -> Path:
        """Writes FOLDER/bench-HARDWARE-DATE-COMMIT.json; a run of the same day and commit replaces the one before. Raises
        OutputError for a file of that name that is none of ours."""
        return save_result(folder, "bench", self.hardware, self.to_dict())


def save_result(
    folder: str | Path, kind: str, hardware: Hardware, facts: Mapping[str, Any], source: str | None = None
) -> Path:
    """Writes FOLDER/KIND-HARDWARE-DATE-COMMIT.json: how every benchmark of ours keeps what it found.

    source: the commit, where a copy of the source does not know it.
    """
    source = source or commit()
    path = Path(folder) / f"{kind}-{stamp(hardware.slug, source)}.json"
    check_output(path, overwrite=holds_keys(path, ("date", "commit", "machine")))
    head = {"date": f"{datetime.datetime.now():%Y-%m-%d %H:%M}", "commit": source, "machine": str(hardware)}
    write_text(path, json.dumps(head | dict(facts), indent=1) + "\n")
    return path
