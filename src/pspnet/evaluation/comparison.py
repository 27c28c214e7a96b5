"""Is model B better than model A? Both scored on the same images, compared image by image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pspnet.evaluation.report import read_per_image, title_of
from pspnet.metrics import Absent, Difference, PerImage, compare, none_if_nan, percent

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Comparison:
    """Second minus first, for every score; and for each image the change of its mean IoU, largest loss first."""

    first: str
    second: str
    differences: dict[str, Difference]
    images: list[tuple[str, float]]
    level: float = 0.95

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "first": self.first,
            "second": self.second,
            "level": self.level,
            "differences": {
                name: {
                    "value": none_if_nan(d.value),
                    "low": none_if_nan(d.low),
                    "high": none_if_nan(d.high),
                    "better": none_if_nan(d.better),
                    "p_value": none_if_nan(d.p_value),
                }
                for name, d in self.differences.items()
            },
            "images": [{"name": name, "change": change} for name, change in self.images],
        }

    def render(self) -> RenderableType:
        """For a terminal: a row a score, and the images that changed most."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(
            title=f"{self.second} minus {self.first}, paired over {len(self.images)} images", title_justify="left"
        )
        table.add_column("score")
        for heading in ("points", f"{self.level:.0%} interval", "better in resamples", "verdict"):
            table.add_column(heading, justify="right")
        for name, d in self.differences.items():
            verdict = "better" if d.low > 0 else "worse" if d.high < 0 else "not told apart"
            table.add_row(
                title_of(name),
                f"{100 * d.value:+.2f}",
                f"{100 * d.low:+.2f} to {100 * d.high:+.2f}",
                f"{percent(d.better)} %",
                verdict,
            )
        losses = ", ".join(f"{name} {100 * change:+.1f}" for name, change in self.images[:5])
        gains = ", ".join(f"{name} {100 * change:+.1f}" for name, change in self.images[::-1][:5])
        return Group(table, Text(f"largest losses: {losses}\nlargest gains:  {gains}"))


def compare_models(
    first: PerImage | str | Path,
    second: PerImage | str | Path,
    absent: Absent = "exclude",
    level: float = 0.95,
    *,
    names: tuple[str, str] = ("", ""),
) -> Comparison:
    """Compares two evaluations: `Evaluation.per_image`, or paths of saved scores.json files. names: what to call them.

    Raises ConfigError when they were not made on the same images, DataError for a file that is no scores.json.
    """
    one, two = _load(first), _load(second)
    differences = compare(one, two, absent, level=level)
    index_of = {name: index for index, name in enumerate(two.names)}
    before, after = (model.areas().summary()["mean_iou"] for model in (one, two))
    changes = after[[index_of[name] for name in one.names]] - before
    order = np.argsort(changes, kind="stable")
    images = [(one.names[i], float(changes[i])) for i in order if not np.isnan(changes[i])]
    titles = names[0] or _name(first, "first"), names[1] or _name(second, "second")
    return Comparison(*titles, differences, images, level)


def _load(source: PerImage | str | Path) -> PerImage:
    return source if isinstance(source, PerImage) else read_per_image(source)


def _name(source: PerImage | str | Path, otherwise: str) -> str:
    return otherwise if isinstance(source, PerImage) else str(source)
