"""How good a prediction is: the confusion matrix and its scores, borders, instances, calibration, intervals."""

from pspnet.metrics.bootstrap import Difference, Interval, PerImage, bootstrap, compare, intervals, worst
from pspnet.metrics.boundary import BoundaryCounter
from pspnet.metrics.calibration import CalibrationCounter, fit_temperature
from pspnet.metrics.class_counts import ABSENT_RULES, Absent, ClassCounts, mean_of_known
from pspnet.metrics.confusion import ConfusionMatrix, Scores, count_pairs, none_if_nan, percent
from pspnet.metrics.instances import InstanceCounter, InstanceRules, InstanceScores

__all__ = [
    "ABSENT_RULES",
    "Absent",
    "BoundaryCounter",
    "CalibrationCounter",
    "ClassCounts",
    "ConfusionMatrix",
    "Difference",
    "InstanceCounter",
    "InstanceRules",
    "InstanceScores",
    "Interval",
    "PerImage",
    "Scores",
    "bootstrap",
    "compare",
    "count_pairs",
    "fit_temperature",
    "intervals",
    "mean_of_known",
    "none_if_nan",
    "percent",
    "worst",
]
