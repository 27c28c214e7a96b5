"""AblationConfig: the paper's grid of experiments over one recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from pspnet.config.base import Positive, Settings
from pspnet.config.protocol import find_protocol
from pspnet.config.train import TrainConfig


class AblationConfig(Settings):
    """Which of the paper's tables are made again, from which recipe, how often."""

    title = "ablation"

    recipe: TrainConfig = Field(
        default_factory=TrainConfig, description="What every run has in common; each row of a table changes a little."
    )
    out: Path = Field(Path("ablation"), description="Folder for runs and tables; an earlier one is gone on with.")
    tables: tuple[Literal["T1", "T2", "T3", "T4"], ...] = Field(
        ("T1", "T2", "T3", "T4"),
        min_length=1,
        description="T1 pooling, bins and reduction; T2 weight of the auxiliary "
        "loss; T3 depth and multi-scale; T4 cumulative steps.",
    )
    seeds: Positive = Field(5, description="Runs of each row, with the recipe's seed and the ones after it.")
    encoders: tuple[str, ...] = Field(
        ("resnet50", "resnet101", "resnet152", "resnet269"),
        min_length=1,
        description="Encoders of T3, shallow to deep; the last one is T4's deeper network.",
    )
    protocol: str = Field("whole", description="Single-scale protocol of all rows.")
    multi_scale: str = Field(
        "",
        description="Protocol of the multi-scale rows; empty: the single-scale one at the paper's six scales with "
        "mirror images.",
    )
    instances: bool | None = Field(
        None, description="Cityscapes' four scores for every row. None: where the data is Cityscapes."
    )
    pictures: int = Field(6, ge=0, description="Pictures of the baseline beside PSPNet: those that changed most.")
    keep_models: bool = Field(False, description="Keep the state of finished runs, not only their best model.")

    @field_validator("protocol", "multi_scale")
    @classmethod
    def _known(cls, value: str) -> str:
        if value:
            find_protocol(value)
        return value
