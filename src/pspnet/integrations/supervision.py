"""supervision (Roboflow): a segmentation as its Detections, for its annotators, filters and counters."""

from __future__ import annotations

from typing import Any

import numpy as np

from pspnet.errors import MissingExtraError
from pspnet.integrations.class_regions import class_regions
from pspnet.predict.segmentation import Segmentation


def detections(segmentation: Segmentation) -> Any:
    """supervision.Detections with one entry for each class: box, mask (N, H, W), class_id, class_name, mean confidence.

    A class is one entry, however many regions it has: this is semantic segmentation, which does not tell objects apart. The
    masks of all classes are in memory at once. Raises MissingExtraError without supervision.
    """
    try:
        import supervision
    except ImportError as error:
        raise MissingExtraError("Detections need the library: pip install supervision") from error
    ones = list(class_regions(segmentation))
    if not ones:
        return supervision.Detections.empty()
    confidence = [one.confidence for one in ones]
    return supervision.Detections(
        xyxy=np.array([one.box for one in ones], np.float32),
        mask=np.stack([one.mask for one in ones]),
        class_id=np.array([one.index for one in ones], int),
        confidence=None if None in confidence else np.array(confidence, np.float32),
        data={"class_name": np.array([one.name for one in ones])},
    )
