"""What an exported file says to other programs, in the words that they look for.

`class_names` (QGIS Deepness: JSON, number -> name), `names` (Python's dict, as detectors write it), and OpenVINO Model API's
`model_info`: task, labels, order of the channels, and that labels are the greatest logits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from pspnet.weights.checkpoint import ModelCard


def for_onnx(card: ModelCard, header: str) -> dict[str, str]:
    """Entries of an ONNX file's metadata: our own header, and what others read."""
    numbered = dict(enumerate(card.label_space.names))
    return {
        "pspnet": header,
        "class_names": json.dumps(numbered),
        "names": str(numbered),
        **{f"model_info {name}": value for name, value in model_info(card).items()},
    }


def model_info(card: ModelCard) -> Mapping[str, str]:
    """Model API's entries; it parts labels at blanks, so a blank of a name becomes an underscore."""
    photograph = card.band_names == ("red", "green", "blue")
    return {
        "model_type": "Segmentation",
        "labels": " ".join(name.replace(" ", "_") for name in card.label_space.names),
        "blur_strength": "-1",  # the label is the class of the greatest logit: no blurring, no threshold
        **({"reverse_input_channels": "True"} if photograph else {}),  # it reads pictures as blue, green, red
    }
