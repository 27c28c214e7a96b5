"""Geographic rasters: grids, vectors and label rasters behind rasterio and pyogrio."""
