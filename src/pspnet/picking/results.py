"""A choice as files: a table, a list, a sheet of small pictures, and the tiles of rasters on the map."""

from __future__ import annotations

import csv
import io
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pspnet.display import image_for_display
from pspnet.errors import RasterError, parsing, require
from pspnet.files import new_file, write_text
from pspnet.georaster.grids import BandReader, open_raster
from pspnet.georaster.vectors import move
from pspnet.images import write_jpeg
from pspnet.picking.candidates import Candidate
from pspnet.picking.run import LabellingChoice
from pspnet.predict.segmenter import Segmenter

TABLE, LIST, SHEET, TILES = "picked.csv", "picked.txt", "picked.jpg", "picked.gpkg"
SMALL_PX, COLUMNS, LINE_PX = 200, 6, 18  # of the sheet's pictures: longer side, in a row, height of the text below


def save_choice(choice: LabellingChoice, folder: str | Path, segmenter: Segmenter) -> list[Path]:
    """Writes picked.csv (rank, file, uncertainty, distance, a tile's pixels), picked.txt (the files, one a line), picked.jpg
    (small pictures) and, where rasters were chosen from, picked.gpkg (their tiles). Returns their paths."""
    folder = Path(folder)
    stream = io.StringIO(newline="")
    rows = csv.writer(stream)
    rows.writerow(["rank", "file", "uncertainty", "distance", "top", "left", "height", "width"])
    for rank, (one, distance) in enumerate(zip(choice.picked, choice.distances, strict=True), start=1):
        window = one.window
        corners = ["", "", "", ""] if window is None else [window.top, window.left, window.height, window.width]
        rows.writerow([rank, one.path, f"{one.uncertainty:.4f}", f"{distance:.4f}", *corners])
    write_text(folder / TABLE, stream.getvalue())
    write_text(folder / LIST, "".join(f"{path}\n" for path in dict.fromkeys(one.path for one in choice.picked)))
    write_jpeg(folder / SHEET, contact_sheet(choice, segmenter))
    written = [folder / TABLE, folder / LIST, folder / SHEET]
    on_map = [(rank, one) for rank, one in enumerate(choice.picked, start=1) if one.grid is not None]
    if on_map:
        write_tiles(folder / TILES, on_map)
        written.append(folder / TILES)
    return written


def contact_sheet(choice: LabellingChoice, segmenter: Segmenter) -> NDArray[np.uint8]:
    """(rows, width, 3) uint8: each picked image with rank, name and uncertainty below it."""
    rows = -(-len(choice.picked) // COLUMNS)
    sheet = np.full((rows * (SMALL_PX + LINE_PX), COLUMNS * SMALL_PX, 3), 255, np.uint8)
    for rank, one in enumerate(choice.picked):
        small = _small(one, segmenter)
        top, left = rank // COLUMNS * (SMALL_PX + LINE_PX), rank % COLUMNS * SMALL_PX
        sheet[top : top + small.shape[0], left : left + small.shape[1]] = small
        text = f"{rank + 1} {one.path.stem[-18:]} {one.uncertainty:.2f}"
        at, black = (left + 2, top + SMALL_PX + LINE_PX - 5), (30, 30, 30)
        cv2.putText(sheet, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.38, black, 1, cv2.LINE_AA)
    return sheet


def _small(one: Candidate, segmenter: Segmenter) -> NDArray[np.uint8]:
    if one.window is None:
        pixels = segmenter.read(one.path)
    else:
        with open_raster(str(one.path)) as dataset:
            numbers = list(range(1, min(dataset.count, 3) + 1))
            pixels = BandReader(dataset, numbers, [0.0] * len(numbers)).read(one.window)[0].transpose(1, 2, 0)
    shown = image_for_display(pixels)
    times = (SMALL_PX - 4) / max(shown.shape[:2])
    size = max(1, round(shown.shape[1] * times)), max(1, round(shown.shape[0] * times))
    return np.asarray(cv2.resize(shown, size, interpolation=cv2.INTER_AREA), np.uint8)


def write_tiles(path: Path, tiles: Sequence[tuple[int, Candidate]]) -> None:
    """The outlines of tiles as one layer of a GeoPackage: in the rasters' coordinate system, or in WGS 84 where they have
    several. Fields: rank, file, uncertainty. Raises RasterError."""
    shapely, pyogrio = require("shapely", "raster"), require("pyogrio", "raster")
    systems: list[Any] = []
    outlines = []
    for _, one in tiles:
        assert one.grid is not None
        height, width = one.grid.height, one.grid.width
        xs, ys = one.grid.to_map([0, width, width, 0], [0, 0, height, height])
        outlines.append(shapely.Polygon(np.column_stack([xs, ys])))
        systems.append(one.grid.crs)
    target = systems[0] if all(crs == systems[0] for crs in systems) else "EPSG:4326"
    geometries = [
        move(np.array([outline], object), crs, target, str(one.path))[0]
        for outline, crs, (_, one) in zip(outlines, systems, tiles, strict=True)
    ]
    columns: dict[str, Any] = {
        "rank": np.array([rank for rank, _ in tiles], np.int32),
        "file": np.array([os.path.abspath(one.path) for _, one in tiles], object),
        "uncertainty": np.array([one.uncertainty for _, one in tiles]),
    }
    text = target if isinstance(target, str) or target is None else target.to_wkt()
    with new_file(path) as part, warnings.catch_warnings(), parsing(str(path), RasterError, "cannot be written", ""):
        warnings.filterwarnings("ignore", message="'crs' was not provided")  # told when the raster was opened
        pyogrio.raw.write(
            part,
            shapely.to_wkb(np.array(geometries, object)),
            list(columns.values()),
            list(columns),
            layer="picked",
            driver="GPKG",
            geometry_type="Polygon",
            crs=text,
        )
