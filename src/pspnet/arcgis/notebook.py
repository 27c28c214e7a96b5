"""What a notebook shows: figures drawn where they are made, and how far a data set has been read."""

from __future__ import annotations

import sys
from typing import Any

from pspnet.data.dataset import Dataset, Sample
from pspnet.data.views import View


def shown(figure: Any) -> Any:
    """A figure, drawn below the cell where a notebook runs this; given back in any case."""
    display = sys.modules.get("IPython.display")
    if display is not None:
        display.display(figure)
    return figure


def counted(dataset: Dataset) -> Dataset:
    """The same data set; how many of its samples have been read stands on a terminal's last line."""
    return _Counted(dataset) if sys.stderr.isatty() else dataset


class _Counted(View):
    def __init__(self, dataset: Dataset) -> None:
        super().__init__([dataset])
        self.read = 0

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        self.read += 1
        end = "\n" if self.read == len(self) else ""
        sys.stderr.write(f"\r{self.read} of {len(self)} chips{end}")
        return sample
