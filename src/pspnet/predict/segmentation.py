"""A parsed scene: what a model found in one image, with everything needed to show and keep it."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pspnet import display
from pspnet.errors import ConfigError
from pspnet.files import new_file, write_bytes
from pspnet.images import write_jpeg, write_label, write_png
from pspnet.labels import IGNORE, Colour, LabelSpace


@dataclass(frozen=True)
class Segmentation:
    """Labels of one image.

    labels: (H, W) uint8, 0..K-1; 255 where nothing is known (nodata). confidence: (H, W) float32 in 0..1, the
    probability of the label, or None where it was not asked for. probabilities: (K, H, W) float16, of every class, likewise.
    image: (H, W, 3) uint8, for overlays, as
    `display` shows it; None where it was not kept. georeference: place on Earth of a raster (CRS and transform), or None.
    mean_confidence: 0 to 1, what is known without a map of it: the mean over the network's own coarse cells.
    """

    labels: NDArray[np.uint8]
    label_space: LabelSpace
    confidence: NDArray[np.float32] | None = None
    image: NDArray[np.uint8] | None = None
    name: str = "image"
    georeference: Any = None
    probabilities: NDArray[np.float16] | None = None
    mean_confidence: float | None = None

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
        shown = display.overlay(
            self.coloured() if self.image is None else self.image, self.labels, self.label_space.palette, opacity
        )
        if not legend:
            return shown
        shares = self.shares()
        colours = [self.colours[self.classes.index(name)] for name in shares]
        return np.vstack([shown, display.legend(shares, colours, shown.shape[1])])

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Writes by the ending: `.png` the label map with a palette, `.json` the class shares, `.jpg` the overlay, `.npz` the
        probabilities with the names of the classes. Raises ConfigError for another ending, and for probabilities that were
        not asked for; OutputError for a file that exists, without overwrite."""
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix == ".png":
            write_label(path, self.labels, self.label_space, overwrite=overwrite)
        elif suffix == ".json":
            write_bytes(path, json.dumps(self.to_dict(), indent=1).encode(), overwrite=overwrite)
        elif suffix in (".jpg", ".jpeg"):
            write_jpeg(path, self.overlay(), overwrite=overwrite)
        elif suffix == ".npz":
            self._save_probabilities(path, overwrite)
        else:
            raise ConfigError(
                f"'{path}': ending {suffix!r}; .png keeps labels, .json class shares, .jpg an overlay, .npz probabilities"
            )
        return path

    def _save_probabilities(self, path: Path, overwrite: bool) -> None:
        """numpy.load(path) has `probabilities` (K, H, W) float16 and `classes` (K,) text, quickly compressed."""
        if self.probabilities is None:
            raise ConfigError(f"'{path}': probabilities were not asked for; segment with probabilities=True")
        with (
            new_file(path, overwrite=overwrite) as part,
            zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        ):
            for name, values in {"classes": np.array(self.classes), "probabilities": self.probabilities}.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(cast(io.BufferedIOBase, file), values, allow_pickle=False)

    def save_overlay(self, path: str | Path, opacity: float = 0.55, *, overwrite: bool = False) -> Path:
        """Writes the overlay as PNG or JPEG, by the ending. Raises OutputError for a file that exists, without overwrite."""
        path = Path(path)
        if path.suffix.lower() != ".png":
            return self.save(path, overwrite=overwrite)
        write_png(path, self.overlay(opacity), overwrite=overwrite)
        return path

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: name, size, class shares, mean confidence."""
        height, width = self.labels.shape
        content: dict[str, Any] = {"name": self.name, "width": width, "height": height, "classes": self.shares()}
        mean = self.mean_confidence if self.confidence is None else float(self.confidence.mean())
        if mean is not None:
            content["mean_confidence"] = round(mean, 4)
        return content
