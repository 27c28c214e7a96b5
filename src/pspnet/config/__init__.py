"""Settings: frozen pydantic models, no torch. Every field says its meaning and unit, once, for CLI, form and docs."""

from pspnet.config.ablation import AblationConfig
from pspnet.config.base import Settings, read_yaml, with_overrides
from pspnet.config.data import AugmentConfig, DataConfig
from pspnet.config.encoders import EncoderOptions
from pspnet.config.evaluation import EvaluationConfig
from pspnet.config.foreign import ForeignModel
from pspnet.config.loss import LossConfig
from pspnet.config.model import ModelConfig, PointRendOptions, PyramidOptions
from pspnet.config.protocol import PROTOCOLS, Protocol, find_protocol
from pspnet.config.raster import RasterConfig
from pspnet.config.recipes import read_recipe, recipe_names
from pspnet.config.train import EarlyStopConfig, OptimizerConfig, PublishedConfig, ScheduleConfig, TrainConfig

__all__ = [
    "PROTOCOLS",
    "AblationConfig",
    "AugmentConfig",
    "DataConfig",
    "EarlyStopConfig",
    "EncoderOptions",
    "EvaluationConfig",
    "ForeignModel",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "PointRendOptions",
    "Protocol",
    "PublishedConfig",
    "PyramidOptions",
    "RasterConfig",
    "ScheduleConfig",
    "Settings",
    "TrainConfig",
    "find_protocol",
    "read_recipe",
    "read_yaml",
    "recipe_names",
    "with_overrides",
]
