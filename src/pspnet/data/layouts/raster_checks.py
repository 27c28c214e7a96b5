"""What is told of a data set of rasters when it is opened: unlike resolutions, labels between pixels, files left out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pspnet.errors import RasterError
from pspnet.georaster.bands import gap_doubts
from pspnet.georaster.grids import Grid, open_raster
from pspnet.georaster.ground import pixel_sides_m, resolution_m
from pspnet.georaster.labels import LabelSource, RasterLabels

UNLIKE = 1.5  # ratio of two images' resolutions, or of a pixel's sides, that is told
SAME = 1.05  # ratio of a label's pixels to its image's up to which both are one grid
SHIFT = 0.05  # of a pixel
_LOOKED = 20  # images that are looked into for gaps
LEVEL = 4  # of a warning: the function here, `raster`, the layout's table, whoever opened the data set


def tell_grids(rasters: Sequence[tuple[Path, Grid, LabelSource]]) -> None:
    """Warns of everything that the grids of images and labels tell."""
    _resolutions([(image, grid) for image, grid, _ in rasters])
    _oblong([(image, grid) for image, grid, _ in rasters])
    labels = [(grid, source) for _, grid, source in rasters if isinstance(source, RasterLabels)]
    _shifted(labels)
    _other_pixels(labels)
    _hidden_classes(list({source.path: source for _, source in labels}.values()))


def tell_gaps(images: Sequence[Path], indexes: Sequence[Sequence[int]], nodata: float | None) -> None:
    """Warns of images whose gaps may not be told from their data, by the first ones."""
    kinds = set[str]()
    for image, numbers in list(zip(images, indexes, strict=True))[:_LOOKED]:
        with suppress(RasterError), open_raster(str(image)) as dataset:
            for doubt in gap_doubts(dataset, numbers, nodata):
                kind = doubt.partition(" ")[0]
                if kind not in kinds:
                    warnings.warn(f"'{image}' {doubt}", stacklevel=LEVEL)
                kinds.add(kind)


def tell_left_out(unread: Mapping[str, Sequence[Path]], without_image: Sequence[Path]) -> None:
    """Warns of images in formats that are not read, and of labels of no image."""
    for ending, paths in unread.items():
        _tell(paths, f"{len(paths)} {ending} files are left out", "Convert them to GeoTIFF: gdal_translate IN OUT.tif")
    if without_image:
        what = f"{len(without_image)} label files have no image of their name and are left out"
        _tell(without_image, what, "Add their images, or take them out")


def _tell(paths: Sequence[Path | str], what: str, mend: str) -> None:
    warnings.warn(f"{what}, such as '{paths[0]}'. {mend}", stacklevel=LEVEL + 1)


def _resolutions(images: Sequence[tuple[Path, Grid]]) -> None:
    """A house of 20 pixels and one of 200 are two things to a network."""
    sizes = {image: size for image, grid in images if (size := resolution_m(grid)) is not None}
    if not sizes:
        return
    finest, coarsest = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    if sizes[coarsest] > UNLIKE * sizes[finest]:
        warnings.warn(
            f"the images differ in resolution: '{finest.name}' has pixels of {sizes[finest]:.3g} m, '{coarsest.name}' of "
            f"{sizes[coarsest]:.3g} m. Resample them to one size, or train a model for each",
            stacklevel=LEVEL,
        )


def _oblong(images: Sequence[tuple[Path, Grid]]) -> None:
    """Pixels that are much higher than wide, as those of degrees far from the equator."""
    sides = {image: pair for image, grid in images if (pair := pixel_sides_m(grid)) and max(pair) > UNLIKE * min(pair)}
    if sides:
        wide, high = next(iter(sides.values()))
        what = f"{len(sides)} images have oblong pixels of {wide:.3g} m x {high:.3g} m on the ground (width x height)"
        mend = "Things look squeezed there; warp them to square metres: gdalwarp -t_srs EPSG:326.. (UTM) IN OUT"
        _tell(list(sides), what, mend)


def _ratio(grid: Grid, source: RasterLabels) -> float | None:
    """Side of a label's pixel over its image's; None where nobody knows."""
    if grid.crs == source.grid.crs:
        return float(abs(source.grid.transform.determinant / grid.transform.determinant) ** 0.5)
    ours, theirs = resolution_m(grid), resolution_m(source.grid)
    return theirs / ours if ours and theirs else None


def _shifted(labels: Sequence[tuple[Grid, RasterLabels]]) -> None:
    shifts: dict[str, tuple[float, float]] = {}
    for grid, source in labels:
        ratio = _ratio(grid, source)
        if grid.crs != source.grid.crs or ratio is None or not 1 / SAME < ratio < SAME:
            continue
        column, row = (float(value) for value in grid.to_pixels(*source.grid.to_map(0, 0)))
        right, down = column - round(column), row - round(row)
        if max(abs(right), abs(down)) > SHIFT:
            shifts[source.path] = right, down
    if shifts:
        right, down = next(iter(shifts.values()))
        what = f"{len(shifts)} label rasters lie between the pixels of their image ({right:+.2f} px to the right, {down:+.2f} px down)"
        mend = (
            "The nearest label counts. If one program meant a pixel's corner and the other its middle, move the file: "
            "gdal_edit -a_ullr WEST NORTH EAST SOUTH FILE"
        )
        _tell(list(shifts), what, mend)


def _other_pixels(labels: Sequence[tuple[Grid, RasterLabels]]) -> None:
    for coarser in (True, False):
        ratios = {source.path: ratio for grid, source in labels if (ratio := _ratio(grid, source))}
        unlike = {path: r for path, r in ratios.items() if (r >= SAME if coarser else r <= 1 / SAME)}
        if unlike:
            ratio = next(iter(unlike.values()))
            size = f"{ratio:.3g} times larger" if coarser else f"{1 / ratio:.3g} times smaller"
            mend = "The nearest label counts: " + (
                "borders of classes are as coarse as the labels"
                if coarser
                else "what is thinner than an image's pixel may vanish"
            )
            _tell(list(unlike), f"{len(unlike)} label rasters have pixels {size} than those of their image", mend)


def _hidden_classes(sources: Sequence[RasterLabels]) -> None:
    """Codes that a label file calls 'no data' and the class table a class."""
    hidden = {source.path: source.hidden_class for source in sources if source.hidden_class}
    if hidden:
        what = f"{len(hidden)} label rasters call {next(iter(hidden.values()))} 'no data', so that its pixels have no label"
        _tell(
            list(hidden),
            what,
            "If it is that class there: gdal_edit -unsetnodata FILE; else take it out of the class table",
        )
