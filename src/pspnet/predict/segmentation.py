"""A parsed scene: what a model found in one image, with everything needed to show and keep it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pspnet.errors import ConfigError
from pspnet.files import write_bytes
from pspnet.images import write_label, write_png
from pspnet.labels import IGNORE, Colour, LabelSpace


@dataclass(frozen=True)
class Segmentation:
    """Labels of one image.

    labels: (H, W) uint8, 0..K-1; 255 where nothing is known (nodata). confidence: (H, W) float32 in 0..1, the
    probability of the label, or None where it was not asked for. image: (H, W, 3) uint8, for overlays; None for
    images without a natural RGB look. georeference: place on Earth of a raster (CRS and transform), or None.
    """

    labels: NDArray[np.uint8]
    label_space: LabelSpace
    confidence: NDArray[np.float32] | None = None
    image: NDArray[np.uint8] | None = None
    name: str = "image"
    georeference: Any = None

    @property
    def classes(self) -> tuple[str, ...]:
        return self.label_space.names

    @property
    def colours(self) -> tuple[Colour, ...]:
        return self.label_space.colours

    def shares(self) -> dict[str, float]:
        """Share of the counted pixels of each class that occurs, largest first; fractions of 1."""
        counts = np.bincount(self.labels[self.labels != IGNORE].ravel(), minlength=self.label_space.num_classes)
        total = max(int(counts.sum()), 1)
        order = np.argsort(-counts, kind="stable")
        return {self.classes[i]: float(counts[i]) / total for i in order.tolist() if counts[i]}

    def coloured(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8: each pixel in its class's colour."""
        return self.label_space.palette[self.labels]

    def overlay(self, opacity: float = 0.55, legend: bool = True) -> NDArray[np.uint8]:
        """(H, W [+ legend], 3) uint8: the classes' colours over the image, with a legend of those that occur below it.

        opacity: 0 shows the image, 1 the classes. Raises ConfigError outside 0..1.
        """
        if not 0.0 <= opacity <= 1.0:
            raise ConfigError(f"opacity = {opacity}: 0 (the image) to 1 (the classes)")
        colours = self.coloured()
        base = colours if self.image is None else self.image
        shown = cv2.addWeighted(base, 1 - opacity, colours, opacity, 0)
        known = (self.labels != IGNORE)[..., None]
        shown = np.where(known, shown, base).astype(np.uint8)
        return np.vstack([shown, self._legend(shown.shape[1])]) if legend else shown

    def save(self, path: str | Path) -> Path:
        """Writes by the ending: `.png` the label map with a palette, `.json` the class shares, `.jpg` the overlay."""
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix == ".png":
            write_label(path, self.labels, self.label_space)
        elif suffix == ".json":
            write_bytes(path, json.dumps(self.to_dict(), indent=1).encode())
        elif suffix in (".jpg", ".jpeg"):
            encoded = cv2.imencode(
                ".jpg", cv2.cvtColor(self.overlay(), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92]
            )
            write_bytes(path, encoded[1].tobytes())
        else:
            raise ConfigError(f"'{path}': ending {suffix!r}; .png keeps labels, .json class shares, .jpg an overlay")
        return path

    def save_overlay(self, path: str | Path, opacity: float = 0.55) -> Path:
        """Writes the overlay as PNG or JPEG, by the ending."""
        path = Path(path)
        if path.suffix.lower() != ".png":
            return self.save(path)
        write_png(path, self.overlay(opacity))
        return path

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: name, size, class shares, mean confidence."""
        height, width = self.labels.shape
        content: dict[str, Any] = {"name": self.name, "width": width, "height": height, "classes": self.shares()}
        if self.confidence is not None:
            content["mean_confidence"] = round(float(self.confidence.mean()), 4)
        return content

    def _legend(self, width: int) -> NDArray[np.uint8]:
        """(rows, width, 3): a swatch and a name for each class that occurs, with its share, in as few lines as fit."""
        scale = float(np.clip(width / 900, 0.38, 1.2))
        line, font, margin = round(30 * scale) + 6, cv2.FONT_HERSHEY_SIMPLEX, round(10 * scale)
        entries = [
            (name, f"{name} {share:.0%}" if share >= 0.01 else f"{name} <1%") for name, share in self.shares().items()
        ]
        widths = [cv2.getTextSize(text, font, scale * 0.7, 1)[0][0] + line + 2 * margin for _, text in entries]
        per_row = max(1, width // max([*widths, 1]))
        rows = max(1, -(-len(entries) // per_row))
        canvas = np.full((rows * line + margin, width, 3), 255, np.uint8)
        for position, (name, text) in enumerate(entries):
            x = margin + (position % per_row) * (width // per_row)
            y = margin // 2 + (position // per_row) * line
            side = line - 8
            cv2.rectangle(canvas, (x, y + 4), (x + side, y + 4 + side), self.colours[self.classes.index(name)], -1)
            cv2.rectangle(canvas, (x, y + 4), (x + side, y + 4 + side), (90, 90, 90), 1)
            cv2.putText(
                canvas, text, (x + side + margin // 2 + 2, y + side), font, scale * 0.7, (30, 30, 30), 1, cv2.LINE_AA
            )
        return canvas
