"""classify_pixels: arcgis.learn's function of that name, for files instead of image services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pspnet.arcgis.classifier import PSPNetClassifier
from pspnet.arcgis.package import load_package, with_pixel_values
from pspnet.config import RasterConfig
from pspnet.errors import ConfigError
from pspnet.predict.segmenter import Segmenter
from pspnet.raster import segment_raster

ARGUMENTS = ("padding", "batch_size", "tile_size")
CONTEXT = ("cellSize", "extent", "processorType")


def classify_pixels(
    input_raster: str | Path | Sequence[str | Path],
    model: str | Path | PSPNetClassifier,
    model_arguments: Mapping[str, Any] | None = None,
    output_name: str | Path | None = None,
    context: Mapping[str, Any] | None = None,
    process_all_raster_items: bool = False,
    *,
    gis: None = None,
    future: bool = False,
    **other: Any,
) -> Path | list[Path]:
    """Classifies rasters into GeoTIFFs of class values; returns the path, or paths where several rasters are given.

    input_raster: a raster, or several with process_all_raster_items. model: a classifier, an .emd, a .dlpk, a folder of one,
    or a checkpoint. model_arguments: padding (pixels around each tile that are seen and not classified), tile_size,
    batch_size. output_name: the map, or the folder of several; None: beside the raster, NAME_classified.tif. context: cellSize
    (metres), extent (xmin, ymin, xmax, ymax in the raster's system), processorType (CPU or GPU). Raises ConfigError for
    arguments that belong to image services.
    """
    if gis is not None or future or other:
        given = ", ".join([*(["gis"] if gis is not None else []), *(["future"] if future else []), *other])
        raise ConfigError(f"{given}: there is no image service here; rasters and maps are files")
    rasters = [input_raster] if isinstance(input_raster, (str, Path)) else list(input_raster)
    if len(rasters) != 1 and not process_all_raster_items:
        raise ConfigError(f"{len(rasters)} rasters: give one, or set process_all_raster_items")
    settings, device = _settings(model_arguments or {}, context or {})
    segmenter = _segmenter(model, device)
    maps = []
    for raster in rasters:
        default_out = Path(raster).with_name(f"{Path(raster).stem}_classified.tif")
        target = default_out if output_name is None else Path(output_name)
        if process_all_raster_items and output_name is not None:
            target = Path(output_name) / f"{Path(raster).stem}.tif"
        segment_raster(with_pixel_values(segmenter), raster, target, RasterConfig(codes=True, **settings))
        maps.append(target)
    return maps if process_all_raster_items else maps[0]


def _settings(arguments: Mapping[str, Any], context: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """(settings of RasterConfig, device)"""
    for what, given, known in (("model_arguments", arguments, ARGUMENTS), ("context", context, CONTEXT)):
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ConfigError(f"{what} has no entry {unknown[0]!r} here; it has: {', '.join(known)}")
    settings: dict[str, Any] = {}
    if "tile_size" in arguments:
        settings["tile_px"] = int(arguments["tile_size"])
    if "padding" in arguments:  # on each side of a tile; windows share it with their neighbours
        settings["overlap_px"] = 2 * int(arguments["padding"])
    if "batch_size" in arguments:
        settings["batch_size"] = int(arguments["batch_size"])
    if "cellSize" in context:
        settings["resolution"] = float(context["cellSize"])
    if "extent" in context:
        extent = context["extent"]
        try:
            settings["aoi"] = tuple(float(extent[key]) for key in ("xmin", "ymin", "xmax", "ymax"))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"context: extent = {extent!r}: give xmin, ymin, xmax and ymax as numbers") from error
    kind = str(context.get("processorType", "auto")).lower()
    if kind not in ("auto", "cpu", "gpu"):
        raise ConfigError(f"context: processorType = {context['processorType']!r}: CPU or GPU")
    return settings, {"gpu": "cuda"}.get(kind, kind)


def _segmenter(model: str | Path | PSPNetClassifier, device: str) -> Segmenter:
    if isinstance(model, PSPNetClassifier):
        return model.segmenter
    packed = Path(model).is_dir() or Path(model).suffix.lower() in (".emd", ".dlpk")
    return load_package(model, device=device) if packed else Segmenter.load(model, device=device)
