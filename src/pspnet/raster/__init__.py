"""Whole rasters: windows in, land-cover maps and polygons out; one raster, or many on many machines."""

from pspnet.raster.many import ManyReport, segment_rasters
from pspnet.raster.maps import RasterReport, segment_raster
from pspnet.raster.progress import Progress

__all__ = ["ManyReport", "Progress", "RasterReport", "segment_raster", "segment_rasters"]
