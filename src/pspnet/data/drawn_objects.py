"""Labels that are drawn from objects: polygons, run lengths, boxes, as annotation tools export them.

Every object that comes in is accounted for: drawn, or counted among those that cannot be, with a fault that names some.
Where objects overlap the smaller one is on top; where an object is known by its box alone, the box is ignored (it is
somewhere in there, so 'background' would be wrong); crowds are ignored and lie on top.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.data.class_faults import some
from pspnet.data.faults import Fault
from pspnet.data.polygons import brush_mask, polygon_mask, rle_mask
from pspnet.errors import LabelError, parsing, reason_of
from pspnet.images import MAX_PIXELS, image_size
from pspnet.labels import IGNORE, LabelSpace

Ring = NDArray[np.float64]  # (n, 2) corners x, y in px
MANY = 20  # objects that are all rectangles by chance in no data set of outlines
DRAW_AGAIN = "Draw it again, or remove it"
Box = tuple[float, float, float, float]  # left, top, width, height in px


@dataclass(frozen=True)
class Runs:
    """Run lengths of a mask of height x width: COCO's, or (brush) the bytes of a brush stroke of Label Studio's."""

    counts: Sequence[int] | str
    height: int
    width: int
    brush: bool = False


@dataclass(frozen=True)
class DrawnObject:
    """name: what messages call it. label: class index or IGNORE. rings: their union is the object. area: in px, for the
    order; None: as drawn. An object without rings, runs and mask is known by its box alone. order: of two objects of the
    same area, and among those of `in_order`."""

    name: str
    label: int
    rings: tuple[Ring, ...] = ()
    runs: Runs | None = None
    mask: NDArray[np.bool_] | None = None
    box: Box | None = None
    crowd: bool = False
    area: float | None = None


class DrawnLabels:
    """The objects of pictures, by the pictures' names. background: label of what no object covers. in_order: later ones
    are on top, whatever their size (tools that let people order them)."""

    def __init__(self, background: int, in_order: bool = False) -> None:
        self.background, self.in_order = background, in_order
        self.pictures: dict[str, tuple[Path, tuple[int, int] | None]] = {}
        self.objects: dict[str, list[DrawnObject]] = defaultdict(list)
        self._odd: dict[str, list[str]] = defaultdict(list)
        self._rectangles = 0

    def add_picture(self, name: str, path: Path, size: tuple[int, int] | None) -> None:
        """size: (height, width) that the objects were drawn on; None: the picture's own."""
        self.pictures[name] = (path, size)

    def add(self, picture: str, item: DrawnObject) -> None:
        """Takes an object, and notes why it will not be seen where it will not."""
        size = self.pictures[picture][1]
        rings = tuple(ring for ring in item.rings if len(ring) >= 3)
        where = f"{item.name} of '{picture}'"
        if item.rings and not rings:
            self._odd["corners"].append(where)
        elif not item.rings and item.runs is None and item.mask is None:
            self._odd["outline"].append(where)
        elif rings and size is not None:
            low, high = np.concatenate(rings).min(0), np.concatenate(rings).max(0)
            if (high <= 0).any() or (low >= np.array(size[::-1])).any():
                self._odd["outside"].append(where)
        if rings and item.box is not None and _elsewhere(np.concatenate(rings), item.box):
            self._odd["box"].append(where)
        self._rectangles += bool(rings) and all(_is_rectangle(ring) for ring in rings)
        if rings and all(float(np.abs(ring).max()) <= 1 and (ring != np.round(ring)).any() for ring in rings):
            self._odd["fractions"].append(where)
        self.objects[picture].append(item)

    def faults(self, source: Path) -> list[Fault]:
        """What was wrong with the objects that were taken."""
        total = sum(map(len, self.objects.values()))
        if not total:
            return [
                Fault("error", "objects", str(source), f"'{source}' holds no objects", "Export it with annotations")
            ]
        message_of = {
            "outline": (
                "have no outline, only a box: their boxes are ignored, neither their class nor background",
                "Export outlines (segmentation, polygons), or draw them; a detection export teaches no segmentation",
            ),
            "corners": ("have fewer than 3 corners and cover no pixel", "Draw them as areas, or remove them"),
            "outside": (
                "lie wholly outside of their picture",
                "Were the pictures resized or cut after they were annotated?",
            ),
            "box": (
                "have an outline elsewhere than their box",
                "Were x and y exchanged, the picture resized, or two exports put together? The outlines are drawn",
            ),
            "fractions": (
                "have coordinates of 0 to 1, which are fractions of the picture, not pixels",
                "Multiply them by width and height",
            ),
        }
        faults = []
        if self._rectangles == total >= MANY:
            message = f"'{source}': each of its {total} objects is a rectangle: were boxes exported as outlines?"
            mend = "A network learns corners of boxes as parts of the things; export outlines (polygons, masks)"
            faults.append(Fault("warning", "objects_rectangles", str(source), message, mend))
        for kind, (what, mend) in message_of.items():
            odd = self._odd[kind]
            if odd:
                faults.append(
                    Fault(
                        "error" if len(odd) == total and kind != "box" else "warning",
                        f"objects_{kind}",
                        str(source),
                        f"'{source}': {len(odd)} of {total} objects {what}: {some(odd)}",
                        mend,
                    )
                )
        return faults

    def decode(self, path: Path, name: str, label_space: LabelSpace) -> NDArray[np.uint8]:
        """(H, W) labels (a LabelDecoder). Raises LabelError naming file, picture and object."""
        picture, size = self.pictures[name]
        height, width = size or image_size(picture)
        if height * width > MAX_PIXELS:
            raise LabelError(
                f"'{path}' says that '{name}' has {width} x {height} px. Correct it; at most {MAX_PIXELS:,}"
            )
        labels = np.full((height, width), self.background, np.uint8)
        drawn = []
        for number, item in enumerate(self.objects.get(name, ())):
            with parsing(path, LabelError, f"holds {item.name} of '{name}', which cannot be drawn", DRAW_AGAIN):
                mask = _mask(item, height, width)
            boxed = not item.rings and item.runs is None and item.mask is None
            area = float(mask.sum()) if item.area is None else item.area
            layer = 2 if item.crowd else 0 if boxed else 1
            drawn.append(
                (layer, number if self.in_order else -area, number, IGNORE if item.crowd or boxed else item.label, mask)
            )
        for _, _, _, label, mask in sorted(drawn, key=lambda one: one[:3]):
            labels[mask] = label
        return labels


def _elsewhere(corners: Ring, box: Box) -> bool:
    """Whether an outline covers less than half of what it and its box cover together, however the box is written (left, top,
    width, height; or left, top, right, bottom)."""
    (x1, y1), (x2, y2) = corners.min(0), corners.max(0)

    def overlap(left: float, top: float, right: float, bottom: float) -> float:
        common = max(0.0, min(x2, right) - max(x1, left)) * max(0.0, min(y2, bottom) - max(y1, top))
        union = (x2 - x1) * (y2 - y1) + max(0.0, right - left) * max(0.0, bottom - top) - common
        return float(common / union) if union > 0 else 1.0

    left, top, wide, high = box
    return max(overlap(left, top, left + wide, top + high), overlap(*box)) < 0.5


def _is_rectangle(ring: Ring) -> bool:
    """Four corners (a fifth may repeat the first) with right angles, turned or not."""
    corners = ring[:-1] if len(ring) == 5 and (ring[0] == ring[-1]).all() else ring
    if len(corners) != 4:
        return False
    sides = np.roll(corners, -1, axis=0) - corners
    lengths = np.hypot(*sides.T)
    return bool((np.abs((sides * np.roll(sides, -1, axis=0)).sum(1)) <= 0.02 * lengths * np.roll(lengths, -1)).all())


def _mask(item: DrawnObject, height: int, width: int) -> NDArray[np.bool_]:
    if item.mask is not None:
        if item.mask.shape != (height, width):
            raise ValueError(
                f"its mask is {item.mask.shape[1]} x {item.mask.shape[0]} px, the picture {width} x {height}"
            )
        return item.mask
    if item.runs is not None:
        if (item.runs.height, item.runs.width) != (height, width):
            raise ValueError(
                f"its run lengths are of {item.runs.width} x {item.runs.height} px, the picture is {width} x {height}"
            )
        if item.runs.brush:
            return brush_mask(item.runs.counts, height, width)  # type: ignore[arg-type]
        return rle_mask(item.runs.counts, height, width)
    mask = np.zeros((height, width), np.bool_)
    for ring in item.rings:
        if len(ring) >= 3:
            mask |= polygon_mask(ring, height, width)
    if not item.rings and item.box is not None:
        left, top, wide, high = item.box
        mask[max(0, round(top)) : max(0, round(top + high)), max(0, round(left)) : max(0, round(left + wide))] = True
    return mask


@contextmanager
def undrawable(faults: list[Fault], file: Path, what: str) -> Iterator[None]:
    """Whatever is wrong with one object of an annotation file is a fault that names it; the others count."""
    try:
        yield
    except Exception as error:
        message = f"'{file}': {what} cannot be drawn ({reason_of(error)})"
        faults.append(Fault("error", "object", str(file), message, DRAW_AGAIN))


def ring_of(numbers: Iterable[Any]) -> Ring:
    """x1, y1, x2, y2, ... or pairs -> (n, 2). Raises ValueError for an odd count or what is no number."""
    flat = np.asarray(list(numbers), np.float64).ravel()
    if flat.size % 2:
        raise ValueError(f"{flat.size} numbers are no pairs of x and y")
    if not np.isfinite(flat).all():
        raise ValueError("a corner is not a number")
    return flat.reshape(-1, 2)


def ellipse_ring(middle: tuple[float, float], radii: tuple[float, float], rotation: float = 0.0) -> Ring:
    """(64, 2) corners of an ellipse. middle, radii: x and y in px. rotation: degrees, clockwise as a picture is seen."""
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    x, y = radii[0] * np.cos(angles), radii[1] * np.sin(angles)
    turn = np.radians(rotation)
    turned = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1)
    return np.asarray(middle, np.float64) + turned
