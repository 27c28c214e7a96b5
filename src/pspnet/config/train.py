"""TrainConfig: everything that makes a training run. What the data can tell is derived, not asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from pspnet.config.base import Fraction, Positive, Settings, with_overrides
from pspnet.config.data import AugmentConfig, DataConfig
from pspnet.config.loss import LossConfig
from pspnet.config.model import ModelConfig
from pspnet.config.protocol import find_protocol
from pspnet.config.recipes import read_recipe
from pspnet.errors import ConfigError

Scale = Annotated[float, Field(gt=0.0, le=2.0)]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]
DEFAULT_EPOCHS = 50.0  # of semseg's VOC recipe, the smallest of the paper's three data sets

Monitored = Literal[
    "loss", "mean_iou", "mean_accuracy", "pixel_accuracy", "mean_f1", "mean_dice", "frequency_weighted_iou"
]
MONITORED: tuple[Monitored, ...] = get_args(Monitored)  # in the order of metrics.csv's columns


class OptimizerConfig(Settings):
    """How weights are updated. The defaults are the paper's (sec. 5.1) and semseg's."""

    title = "optimizer"

    name: Literal["sgd", "adamw"] = Field("sgd", description="SGD with momentum, or AdamW (for Swin and ConvNeXt).")
    learning_rate: float = Field(0.01, gt=0.0, description="Base rate: the encoder's. Try 0.0001 with adamw.")
    head_lr_factor: float = Field(10.0, gt=0.0, description="Rate of everything after the encoder over the encoder's.")
    layer_decay: float | None = Field(
        None,
        gt=0.0,
        le=1.0,
        description="Discriminative rates: each encoder stage has this times the rate of the "
        "stage after it. None: one rate for the whole encoder.",
    )
    momentum: float = Field(0.9, ge=0.0, lt=1.0, description="Momentum of sgd.")
    nesterov: bool = Field(False, description="Nesterov's momentum, sgd only.")
    betas: tuple[float, float] = Field((0.9, 0.999), description="Decay rates of adamw's two averages.")
    fused: bool = Field(
        True,
        description="The update of all weights in one kernel.",
    )
    weight_decay: float = Field(1e-4, ge=0.0, description="Pull of the weights towards zero.")
    decay_norms: bool | None = Field(
        None, description="Whether norms and biases decay too. None: yes with sgd (as semseg), no with adamw."
    )


class ScheduleConfig(Settings):
    """How the learning rate changes, step by step."""

    title = "schedule"

    name: Literal["poly", "one_cycle", "cosine", "constant"] = Field(
        "poly", description="poly (the paper's), one_cycle (up, then down), cosine (down), constant."
    )
    power: float = Field(0.9, gt=0.0, description="poly: (1 - step / steps) to this power.")
    final_factor: Fraction = Field(0.0, description="poly and cosine: the last rate over the base rate.")
    peak_share: float = Field(0.25, gt=0.0, lt=1.0, description="one_cycle: share of the run until the highest rate.")
    warmup_steps: int = Field(0, ge=0, description="First steps, in which the rate grows in a line from near zero.")


class EarlyStopConfig(Settings):
    """When a run ends before its last step."""

    patience: Positive = Field(10, description="Validations in a row that are no better than the best (see monitor).")
    min_gain: float = Field(
        0.0, ge=0.0, description="Gain in mean IoU (0..1), or in what is monitored, that counts as better."
    )


class PublishedConfig(Settings):
    """What a recipe's unchanged settings gave those who published them. Nothing is computed from it."""

    title = "published"

    source: str = Field(min_length=1, description="Where the settings and the scores are from.")
    split: str = Field("val", description="Part of the data set that the scores are on.")
    mean_iou: dict[str, Annotated[float, Field(gt=0.0, le=100.0)]] = Field(
        min_length=1, description="Mean IoU in %, by evaluation protocol."
    )

    @field_validator("mean_iou")
    @classmethod
    def _known(cls, value: dict[str, float]) -> dict[str, float]:
        for protocol in value:
            find_protocol(protocol)
        return value

    def __str__(self) -> str:
        scores = ", ".join(f"{score:.2f} % ({protocol})" for protocol, score in self.mean_iou.items())
        return f"mean IoU {scores} on {self.split}; {self.source}"


class TrainConfig(Settings):
    """A training run, completely. `pspnet.train(config)` runs it; its folder keeps it as config.yaml."""

    title = "training"

    name: str = Field(
        "", max_length=200, description="Name of the run. Empty: made from data set, encoder and decoder."
    )
    published: PublishedConfig | None = Field(
        None, description="What these settings gave their authors. Only recipes that restate others' have it."
    )
    run_dir: Path | None = Field(None, description="Folder of the run. None: runs/NAME, with a number when it exists.")
    model: ModelConfig = Field(
        default_factory=ModelConfig,
        description="The network. Classes, bands and normalisation that are not given come from the data.",
    )
    data: DataConfig = Field(default_factory=DataConfig, description="The pictures and their labels.")
    augmentation: AugmentConfig = Field(
        default_factory=AugmentConfig, description="Random changes to training pictures."
    )
    loss: LossConfig = Field(default_factory=LossConfig, description="What is minimised, class weights included.")
    rare_classes: Literal["off", "auto", "weights", "crops"] = Field(
        "auto",
        description="Help for classes with few pixels, chosen from the training data and said at the start: class weights "
        "(tempered), crops that look for them (half of all), or auto: both. off: nothing. Settings that are given stay.",
    )
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig, description="How weights are updated.")
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig, description="How the learning rate changes.")

    steps: Positive | None = Field(None, description="Updates of the weights. None: from epochs.")
    epochs: float | None = Field(
        None, gt=0.0, description="How often each training picture is seen. None: 50, or from steps."
    )
    batch_size: Positive = Field(16, description="Pictures in a batch, over all devices (the paper's: 16).")
    accumulate: Positive = Field(1, description="Batches whose gradients are averaged for one update: saves memory.")
    clip: float | None = Field(None, gt=0.0, description="Greatest norm of the gradient; larger ones are scaled down.")
    auxiliary_weight: float = Field(0.4, ge=0.0, description="Weight of the auxiliary head's loss (the paper's: 0.4).")
    points_weight: float = Field(1.0, ge=0.0, description="Weight of PointRend's loss on its points.")
    mixup: Fraction = Field(0.0, description="Probability that a batch is blended with itself in another order.")
    mixup_alpha: float = Field(0.4, gt=0.0, description="Mixup's blend is drawn from Beta(alpha, alpha).")
    progressive_resizing: tuple[tuple[Scale, Share], ...] = Field(
        (),
        description="Smaller images first (Howard's progressive resizing): pairs of an input scale and the share of the "
        "updates that see it, such as [[0.5, 0.4], [0.75, 0.3]]; the rest has model.input_scale. Cheaper steps where training "
        "begins with random weights.",
    )
    freeze_encoder: bool = Field(False, description="The encoder's weights and statistics stay as they are.")
    unfreeze_step: Positive | None = Field(None, description="Update from which a frozen encoder is trained too.")
    init_from: Path | None = Field(
        None,
        description="A pspnet checkpoint to start from (fine-tuning), or the name of a model that comes along, such as "
        "aerial-dubai. Classes are matched by name.",
    )
    ema: float | None = Field(
        None,
        gt=0.0,
        lt=1.0,
        description="Decay of an average of the weights that is validated and saved in place of "
        "the last weights, such as 0.999. None: off.",
    )

    val_every: Positive | None = Field(None, description="Updates between validations. None: twenty in a run.")
    val_limit: Positive | None = Field(None, description="Validation pictures used, evenly spread. None: all of them.")
    monitor: Monitored = Field(
        "mean_iou", description="What the best model and early stopping go by on the validation pictures."
    )
    also_monitor: tuple[Monitored, ...] = Field(
        (),
        description="Further scores, such as loss, mean_f1: early stopping waits until none of them improves either, and the "
        "best of each is reported. The best model goes by the first alone (monitor).",
    )
    early_stopping: EarlyStopConfig | None = Field(None, description="Ends a run that no longer improves. None: off.")
    pictures: int = Field(4, ge=0, description="Validation pictures whose prediction is drawn at each validation.")
    checkpoint_every: Positive | None = Field(None, description="Updates between saved states. None: by time only.")
    checkpoint_minutes: float = Field(2.0, gt=0.0, description="Longest time between two saved states, in minutes.")
    log_every: Positive = Field(10, description="Updates between two lines of metrics.csv.")

    seed: int = Field(0, ge=0, description="Start of every random number of the run.")
    workers: int | None = Field(
        None, ge=0, description="Processes that load pictures, per device. None: from the processor's cores; 0: none."
    )
    check_data: bool = Field(
        True, description="Reads every training and validation file once before the start and reports all faults."
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto: a GPU when there is one.")
    devices: Positive | Literal["auto"] = Field(
        "auto", description="Devices of this machine that train together. auto: all GPUs, or one processor."
    )
    nodes: Positive = Field(1, description="Machines that train together.")
    sync_norm: bool = Field(True, description="Batch norm over all devices (the paper's), when there are several.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bfloat16 where the processor computes with it, else float32."
    )
    channels_last: bool | None = Field(
        None, description="Memory layout with the channels last, which bfloat16 and GPUs prefer. None: there only."
    )
    compile: bool = Field(False, description="Compiles the network (torch.compile): minutes at first, faster then.")
    activation_checkpointing: bool = Field(
        False,
        description="Computes the encoder's activations twice instead of keeping them: less memory, a third slower.",
    )
    deterministic: bool = Field(
        False,
        description="Only operations that repeat bit for bit on a GPU too; slower. On a processor a run always does.",
    )

    @model_validator(mode="after")
    def _no_contradictions(self) -> TrainConfig:
        if self.steps is not None and self.epochs is not None:
            raise ConfigError(f"steps = {self.steps} and epochs = {self.epochs:g}: give one of them, the other follows")
        if self.unfreeze_step is not None and not self.freeze_encoder:
            raise ConfigError(
                f"unfreeze_step = {self.unfreeze_step} with freeze_encoder = false: nothing is frozen. "
                "Set freeze_encoder to true, or leave unfreeze_step out"
            )
        shares = sum(share for _, share in self.progressive_resizing)
        if shares >= 1:
            raise ConfigError(
                f"progressive_resizing = {self.progressive_resizing}: the shares add up to {shares:g}, so no update is left for "
                f"model.input_scale = {self.model.input_scale:g}, which the network is used with. Make them less than 1 together"
            )
        if self.optimizer.nesterov and (self.optimizer.name != "sgd" or self.optimizer.momentum == 0):
            raise ConfigError(
                f"optimizer.nesterov = true with optimizer.name = {self.optimizer.name}, momentum = "
                f"{self.optimizer.momentum:g}: Nesterov's rule needs sgd with momentum above 0"
            )
        if isinstance(self.devices, int) and self.nodes == 1 and self.batch_size % self.devices:
            raise ConfigError(
                f"batch_size = {self.batch_size} with devices = {self.devices}: each device needs the same number of "
                f"pictures. Use a multiple of {self.devices}"
            )
        return self

    def input_scale_at(self, progress: float) -> float:
        """The scale that training images are looked at, by the share of the run that is over (see progressive_resizing)."""
        for scale, share in self.progressive_resizing:
            progress -= share
            if progress < 0:
                return scale
        return self.model.input_scale

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: list[str] | None = None) -> TrainConfig:
        """A recipe (see `read_recipe`), with `name=value` texts put over it. Raises ConfigError with every fault."""
        values = with_overrides(read_recipe(path), overrides or [])
        values.setdefault("name", Path(path).stem)
        return cls.model_validate(values)

    @property
    def followed(self) -> tuple[Monitored, ...]:
        """All that is monitored; the first chooses the best model."""
        return tuple(dict.fromkeys((self.monitor, *self.also_monitor)))

    def total_steps(self, samples: int) -> int:
        """Updates of the weights in the whole run over `samples` training pictures."""
        if self.steps is not None:
            return self.steps
        samples_read = (self.epochs or DEFAULT_EPOCHS) * samples
        return max(1, -int(-samples_read // (self.batch_size * self.accumulate)))

    def validation_interval(self, steps: int) -> int:
        """Updates between two validations in a run of `steps`."""
        return self.val_every or max(1, round(steps / 20))
