"""The network, in pure torch: no files, no losses."""

from pspnet.nn.pspnet import PointOutputs, PSPNet, TrainOutputs, weights_follow

__all__ = ["PSPNet", "PointOutputs", "TrainOutputs", "weights_follow"]
