"""What to label next: images, and tiles of rasters, that a model is unsure of and that are unlike each other."""

from pspnet.picking.candidates import Candidate, look_at
from pspnet.picking.greedy import greedy_choice
from pspnet.picking.results import save_choice
from pspnet.picking.run import LabellingChoice, class_balanced, pick

__all__ = ["Candidate", "LabellingChoice", "class_balanced", "greedy_choice", "look_at", "pick", "save_choice"]
