"""Whole rasters: windows in, land-cover maps and polygons out; one raster, or many on many machines."""

from pspnet.raster.progress import Progress
from pspnet.raster.segment_raster import RasterReport, segment_raster
from pspnet.raster.segment_rasters import ManyReport, segment_rasters

__all__ = ["ManyReport", "Progress", "RasterReport", "segment_raster", "segment_rasters"]
