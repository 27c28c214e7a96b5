"""Scoring a model on a data set, and the report that says how it was done."""

from pspnet.evaluation.comparison import Comparison, compare_models
from pspnet.evaluation.report import Evaluation
from pspnet.evaluation.run import assess, evaluate, predict_dataset

__all__ = ["Comparison", "Evaluation", "assess", "compare_models", "evaluate", "predict_dataset"]
