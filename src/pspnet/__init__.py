"""pspnet: scene parsing with PSPNet, from a folder of images to a parsed scene, a raster or a service.

The public names load when they are first used (PEP 562), so that `import pspnet` takes no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

_PLACES = {
    "PSPNet": "pspnet.nn",
    "build_model": "pspnet.weights.encoder_weights",
    "ModelConfig": "pspnet.config",
    "TrainConfig": "pspnet.config",
    "LabelSpace": "pspnet.labels",
    "Segmenter": "pspnet.predict.segmenter",
    "Segmentation": "pspnet.predict.segmentation",
    "Scores": "pspnet.metrics",
    "open_dataset": "pspnet.data",
    "ForeignModel": "pspnet.config",
    "evaluate": "pspnet.evaluation",
    "assess": "pspnet.evaluation",
    "explore": "pspnet.explorer",
    "train": "pspnet.training",
    "resume": "pspnet.training",
    "ablate": "pspnet.ablation",
    "adapt_batch_norm": "pspnet.adaptation",
    "calibrate": "pspnet.adaptation",
    "import_weights": "pspnet.predict.imported",
    "segment_video": "pspnet.predict.videos",
    "segment_raster": "pspnet.raster",
    "segment_rasters": "pspnet.raster",
    "pick": "pspnet.picking",
    "export": "pspnet.exporting",
}

__all__ = [*_PLACES, "__version__"]

if TYPE_CHECKING:
    from pspnet.ablation import ablate as ablate
    from pspnet.adaptation import adapt_batch_norm as adapt_batch_norm
    from pspnet.adaptation import calibrate as calibrate
    from pspnet.config import ForeignModel as ForeignModel
    from pspnet.config import ModelConfig as ModelConfig
    from pspnet.config import TrainConfig as TrainConfig
    from pspnet.data import open_dataset as open_dataset
    from pspnet.evaluation import assess as assess
    from pspnet.evaluation import evaluate as evaluate
    from pspnet.explorer import explore as explore
    from pspnet.exporting import export as export
    from pspnet.labels import LabelSpace as LabelSpace
    from pspnet.metrics import Scores as Scores
    from pspnet.nn import PSPNet as PSPNet
    from pspnet.picking import pick as pick
    from pspnet.predict.imported import import_weights as import_weights
    from pspnet.predict.segmentation import Segmentation as Segmentation
    from pspnet.predict.segmenter import Segmenter as Segmenter
    from pspnet.predict.videos import segment_video as segment_video
    from pspnet.raster.segment_raster import segment_raster as segment_raster
    from pspnet.raster.segment_rasters import segment_rasters as segment_rasters
    from pspnet.training import resume as resume
    from pspnet.training import train as train
    from pspnet.weights.encoder_weights import build_model as build_model


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'pspnet' has no attribute {name!r}; it has {', '.join(__all__)}")
    try:
        value = getattr(importlib.import_module(_PLACES[name]), name)
    except ModuleNotFoundError as error:
        from pspnet.errors import missing
        from pspnet.installation import EXTRA_OF

        module = (error.name or "").split(".")[0]
        if module not in EXTRA_OF:
            raise
        raise missing(module, EXTRA_OF[module], error) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
