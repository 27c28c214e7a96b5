"""The sizes that a test protocol has for the data set of a model's classes."""

from __future__ import annotations

from pspnet.class_tables import same_names
from pspnet.config.protocol import VARIANTS
from pspnet.labels import LabelSpace


def with_sizes(protocol: str, label_space: LabelSpace) -> str:
    """A protocol with the sizes of the published data set whose classes these are: "semseg-ss@cityscapes"."""
    names = same_names(label_space.names)
    for table in ("cityscapes", "loveda", "isprs", "ade20k", "voc"):
        if names == same_names(LabelSpace.named(table).names):
            sizes = {"isprs": "potsdam"}.get(table, table)  # Potsdam's and Vaihingen's are the same
            return f"{protocol}@{sizes}" if protocol in VARIANTS[sizes] else protocol
    return protocol
