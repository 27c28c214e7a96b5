"""Losses on logits: cross entropy, focal, Dice, Lovasz-softmax, hard pixels only, and any weighted sum of them.

Every loss leaves out pixels whose label is IGNORE, and gives 0 with zero gradients (never NaN) where none counts.
"""

from pspnet.losses.segmentation_loss import SegmentationLoss, build_loss, class_weights_from_shares
from pspnet.losses.terms import image_loss

__all__ = ["SegmentationLoss", "build_loss", "class_weights_from_shares", "image_loss"]
