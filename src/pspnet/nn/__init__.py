"""The network, in pure torch: no files, no losses."""

from pspnet.nn import quick_start as quick_start  # isort: skip  # first: it decides how timm is imported
from pspnet.nn.pspnet import PointOutputs, PSPNet, TrainOutputs, weights_follow

__all__ = ["PSPNet", "PointOutputs", "TrainOutputs", "weights_follow"]
