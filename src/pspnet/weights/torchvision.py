"""torchvision's classification networks as encoders of a new PSPNet; its segmentation networks are refused.

There is no PSPNet in torchvision: what can be imported is an ImageNet encoder, and the rest starts at random.
"""

from __future__ import annotations

from typing import Any

from pspnet.errors import CheckpointError, ConfigError
from pspnet.weights import inverted_residuals as names
from pspnet.weights.rename_table import Drop, Foreign, Plan, Rename

MARKER = r"layer1\.0\.conv1\.weight|features\.0\.0\.weight"
SIGN = r"(?:backbone\.|layer1\.0\.conv1\.weight|features\.0\.0\.weight)"

RESNET: tuple[Rename, ...] = ((r"(conv1|bn1|layer[1-4])\.", r"encoder.\1."),)
DROPS: tuple[Drop, ...] = (
    (r"fc\.", "ImageNet's classifier: a PSPNet has its own, for your classes"),
    (r"classifier\.\d+\.", "ImageNet's classifier: a PSPNet has its own, for your classes"),
    (r"features\.18\.", "ImageNet's 1x1 head behind the features"),
)


def plan(foreign: Foreign) -> Plan:
    """A PSPNet in the paper's form around a ResNet or MobileNetV2. `num_classes` has to be said."""
    if any(name.startswith("backbone.") for name in foreign.state):
        kinds = {"classifier.0.convs.": "DeepLab", "classifier.cbr.": "LRASPP"}
        kind = next((kinds[part] for part in kinds if any(part in name for name in foreign.state)), "FCN")
        raise CheckpointError(
            f"'{foreign.path}' is torchvision's {kind}: it has no pyramid pooling, so its trained head fits no PSPNet, and "
            "an import would throw away what makes it segment. Train a PSPNet from its ImageNet encoder instead: "
            "give the classification checkpoint (resnet50-....pth) with num_classes"
        )
    if "num_classes" not in foreign.settings:
        raise ConfigError(
            f"'{foreign.path}' is an ImageNet classifier, so only an encoder can be imported: say for how many classes the "
            "new PSPNet is (--set num_classes=21, or --classes). It has to be trained before it is of use"
        )
    config: dict[str, Any]
    if "layer1.0.conv1.weight" in foreign.state:
        config = {"encoder": f"resnet{foreign.resnet_layers('')}", "dilation": "contracted"}
        renames, first = RESNET, "conv1.weight"
    elif "features.1.conv.0.0.weight" in foreign.state:
        config = {"encoder": "mobilenetv2", "dilation": "contracted"}
        renames, first = names.torchvision_mobilenet(""), "features.0.0.weight"
    else:
        raise CheckpointError(
            f"'{foreign.path}' is not torchvision's ResNet 18..152 or MobileNetV2; other encoders come with ImageNet weights "
            "by name: encoder=efficientnet_b0, encoder_weights=imagenet"
        )
    config |= {"num_classes": foreign.settings["num_classes"], "in_bands": foreign.shape(first)[1]}
    notes = ("only the encoder is in the file: pyramid, fusion and classifier are random and have to be trained",)
    return Plan(config, foreign.state, renames, DROPS, notes=notes, encoder_only=True)
