"""The arcgis.learn workflow by its public names, without ArcGIS and without Esri's code.

    from pspnet.arcgis import prepare_data, PSPNetClassifier

    data = prepare_data("export", chip_size=224, val_split_pct=0.1)
    model = PSPNetClassifier(data, backbone="resnet50")
    model.fit(20, lr=model.lr_find())
    model.save("landcover")                          # a folder with .safetensors, .emd and .dlpk
    model.predict("city.tif", "landcover.tif")

Everything here hands over to `pspnet.train`, `pspnet.evaluate` and `pspnet.segment_raster`. An argument of arcgis.learn
that has no counterpart raises ConfigError with the reason; none is swallowed. ArcGIS itself was not at hand when this was
written: its formats are followed as Esri's public pages describe them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pspnet.arcgis.classifier import PSPNetClassifier as PSPNetClassifier
    from pspnet.arcgis.classify_pixels import classify_pixels as classify_pixels
    from pspnet.arcgis.data import prepare_data as prepare_data
    from pspnet.arcgis.package import read_package as read_package

_PLACES = {
    "classify_pixels": "pspnet.arcgis.classify_pixels",
    "PSPNetClassifier": "pspnet.arcgis.classifier",
    "prepare_data": "pspnet.arcgis.data",
    "read_package": "pspnet.arcgis.package",
}

__all__ = ["PSPNetClassifier", "classify_pixels", "prepare_data", "read_package"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'pspnet.arcgis' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value
    return value
