"""The room that predicts: an image becomes a Segmentation, whatever computes it."""
