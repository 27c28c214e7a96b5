"""The two verbs: start a run, go on with one."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException

from pspnet.config.encoders import encoder_family
from pspnet.config.train import TrainConfig
from pspnet.data.dataset import Dataset
from pspnet.data.transforms import Augmentation
from pspnet.errors import ConfigError, RunInterrupted, TrainingError
from pspnet.losses import build_loss
from pspnet.nn.pspnet import PSPNet
from pspnet.training.batches import BatchPlan, TimedLoader, TrainingSamples, training_loader
from pspnet.training.checkpoint import Keeper, StateFile, interrupted
from pspnet.training.distributed import share_batch_norm
from pspnet.training.initial_weights import first_model, random_model
from pspnet.training.processes import RUN_DIR_VARIABLE, outside_launch, started_by_first
from pspnet.training.reporting import Reporter, counting
from pspnet.training.resolve import DataSets, moved, open_data, resolve
from pspnet.training.results import Results
from pspnet.training.run_folder import RunFolder, new_run_dir
from pspnet.training.seeding import own_random_numbers
from pspnet.training.signals import Interruption
from pspnet.training.state import TrainingModule
from pspnet.training.validating import Validator


def start(config: TrainConfig, data: DataSets | None, quiet: bool) -> Path:
    """See `pspnet.training.train`."""
    beside = started_by_first()
    if beside is not None:  # one of several processes of a machine: the first has prepared everything
        folder = RunFolder.open(beside)
        return _run(folder, folder.read_config(), data or _open_again(folder.read_config()), quiet, None)
    launch = outside_launch()
    if launch is not None and config.run_dir is None:
        raise ConfigError("run_dir is missing: processes that torchrun or SLURM started must be told one common folder")
    first = launch is None or launch.rank == 0
    with counting("checking the data", quiet or not first) as progress:
        sets = data or open_data(config.data, config.check_data and first, progress)
    resolved = resolve(config, sets)
    folder = RunFolder(new_run_dir(resolved))
    model, source = first_model(resolved, sets.train.label_space)  # before the folder is made: it may not be had
    if first:
        folder.create(resolved.changed(run_dir=folder.path))
        if not quiet:
            print(source, file=sys.stderr)
    return _run(folder, resolved, sets, quiet, model)


def go_on(run_dir: str | Path, data: DataSets | None, quiet: bool) -> Path:
    """See `pspnet.training.resume`."""
    folder = RunFolder.open(started_by_first() or run_dir)
    config = folder.read_config()
    if folder.summary.exists() and folder.best_model.exists():
        return folder.best_model
    sets = data or _open_again(config)
    return _run(folder, moved(config, len(sets.train)), sets, quiet, None)


def _open_again(config: TrainConfig) -> DataSets:
    return open_data(config.data, check=False)


def _run(folder: RunFolder, config: TrainConfig, data: DataSets, quiet: bool, model: PSPNet | None) -> Path:
    """model: the network to start from, where that is made already."""
    launch = outside_launch()
    first = started_by_first() is None and (launch is None or launch.rank == 0)
    if launch is None:
        os.environ[RUN_DIR_VARIABLE] = str(folder.path.absolute())
    if first:
        folder.update_state("preparing", now=True, started=round(time.time(), 3), message="", steps=config.steps)
    try:
        with own_random_numbers(), _own_switches(), _quiet_libraries(), Interruption() as interruption:
            path = _fit(folder, config, data, quiet, interruption, model)
    except RunInterrupted as stop:
        if first:
            folder.update_state("interrupted", now=True, message=str(stop))
        if started_by_first() is not None:
            sys.exit(0)  # the first process reports; Lightning would kill it at once if this one ended with a failure
        raise
    except BaseException as error:
        if first:
            folder.update_state("failed", now=True, message=f"{type(error).__name__}: {error}"[:2000])
        raise
    finally:
        os.environ.pop(RUN_DIR_VARIABLE, None)
    if started_by_first() is not None:
        sys.exit(0)  # this process was made for training alone: what follows in the caller's program is the first one's
    return path


def _fit(
    folder: RunFolder,
    config: TrainConfig,
    data: DataSets,
    quiet: bool,
    interruption: Interruption,
    model: PSPNet | None,
) -> Path:
    assert config.steps is not None  # a resolved config
    assert config.val_every is not None
    resumed = folder.last_state.exists()
    classes = data.train.label_space
    if resumed:  # all weights are in the state
        model = random_model(config.model, config.seed)
    elif model is None:
        model, _ = first_model(config, classes)
    world = _world(config)
    if world > 1 and config.sync_norm:
        share_batch_norm(model, gpu=config.device == "cuda")
    loss = build_loss(config.loss, classes.num_classes)
    module = TrainingModule(model, config, loss, config.steps, partial(_loader, config, data.train))
    results = Results(folder, config, data)
    reporter = Reporter(folder, config, len(data.train), -(-config.steps // config.val_every), quiet)
    keeper = Keeper(folder, config, interruption)
    callbacks: list[pl.Callback] = [reporter]
    if data.val is not None:
        callbacks.append(Validator(folder, config, data.val, keeper, reporter, results.save_best))
    trainer = _trainer(config, world, [*callbacks, keeper])
    try:
        trainer.fit(module, ckpt_path=str(folder.last_state) if resumed else None, weights_only=True)
    except (SIGTERMException, KeyboardInterrupt, SystemExit) as stop:
        # a second Ctrl-C, or a signal before the first batch: what was saved last is what there is
        if interruption.signal is None:
            raise
        raise interrupted(interruption.signal, keeper.saved_step, config.steps, folder) from stop
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"the memory of the GPU is too small: {str(error).split('.')[0]}. Lower batch_size ({config.batch_size}) and raise "
            "accumulate by as much, set activation_checkpointing to true, or take a smaller augmentation.crop"
        ) from error
    finally:
        reporter.close()
    return results.finish(trainer, module, reporter.clock)


def _world(config: TrainConfig) -> int:
    assert isinstance(config.devices, int)
    return config.devices * config.nodes


def _loader(config: TrainConfig, dataset: Dataset, first: int, rank: int, world: int) -> TimedLoader:
    assert config.steps is not None
    assert config.workers is not None
    plan = BatchPlan(len(dataset), config.batch_size, config.steps * config.accumulate, config.seed, rank, world)
    vary = Augmentation(config.augmentation, config.model.normalisation[0])
    return training_loader(
        TrainingSamples(dataset, vary, config.seed), plan, first, config.workers, config.device == "cuda"
    )


def _trainer(config: TrainConfig, world: int, callbacks: list[pl.Callback]) -> pl.Trainer:
    assert config.steps is not None
    strategy: Any = "auto"
    if world > 1:
        strategy = DDPStrategy(
            find_unused_parameters=config.unfreeze_step is not None,
            gradient_as_bucket_view=True,
            process_group_backend="nccl" if config.device == "cuda" else "gloo",
        )
    plugins: list[Any] = [StateFile()]
    launch = outside_launch()
    if launch is not None and "SLURM_PROCID" in os.environ and "RANK" not in os.environ:
        from lightning.pytorch.plugins.environments import SLURMEnvironment

        plugins.append(SLURMEnvironment(auto_requeue=False))  # its own checkpoints would lie beside ours
    return pl.Trainer(
        accelerator={"cuda": "gpu"}.get(config.device, config.device),
        devices=config.devices,
        num_nodes=config.nodes,
        strategy=strategy,
        plugins=plugins,
        precision="bf16-mixed" if config.precision == "bf16" else "32-true",
        max_steps=config.steps,
        max_epochs=1,
        accumulate_grad_batches=config.accumulate,
        gradient_clip_val=config.clip,
        deterministic="warn" if config.deterministic else None,
        # trying every kernel takes minutes for networks of many depthwise convolutions (H100: EfficientNet-Lite2 had made no
        # step after 20 s; without it, after 1 s) and begins anew for each size of progressive_resizing
        benchmark=config.device == "cuda"
        and not config.deterministic
        and encoder_family(config.model.encoder).name in ("resnet", "swin"),
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )


@contextmanager
def _own_switches() -> Iterator[None]:
    """Lightning turns switches of the whole process and leaves them; who called finds them as they were."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Without the hints that Lightning and torch print for the writers of training loops."""
    loggers = [
        logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities")
    ]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for text in (
            ".*does not have many workers.*",
            ".*ended before the epoch ended and your dataloader is not resumable.*",
            ".*in eval mode at the start of training.*",
            ".*srun.*command is available.*",
            ".*GPU available but not used.*",
            ".*The `srun` command.*",
            ".*This process .* is multi-threaded, use of fork.*",
            ".*LeafSpec.* is deprecated.*",
        ):
            warnings.filterwarnings("ignore", message=text)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)
