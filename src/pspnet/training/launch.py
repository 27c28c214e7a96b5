"""Starting a run and going on with one: what surrounds the loop in every process."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch

from pspnet.config.encoders import encoder_family
from pspnet.config.train import TrainConfig
from pspnet.errors import ConfigError, DataError, PspnetError, RunInterrupted, TrainingError, require
from pspnet.files import check_results_folder, reason, write_text
from pspnet.nn.pspnet import PSPNet
from pspnet.training.callbacks import Callback, TensorBoard
from pspnet.training.distributed import RUN_DIR_VARIABLE, is_first, launched, outside_launch, started_by_first
from pspnet.training.initial_weights import first_model
from pspnet.training.loop import TrainingLoop
from pspnet.training.reporting import counting
from pspnet.training.resolve import DataSets, data_of, moved, open_data, resolve
from pspnet.training.run_folder import RunFolder, new_run_dir
from pspnet.training.signals import interrupted, remembered_signals
from pspnet.training.step import callers_random_numbers_kept


def start(config: TrainConfig, data: DataSets | None, callbacks: Sequence[Callback], quiet: bool) -> Path:
    """See `pspnet.training.train`."""
    is_follower = started_by_first()
    if is_follower is not None:  # one of several processes of a machine: the first has prepared everything
        folder = RunFolder.open(is_follower)
        return _run(folder, folder.read_config(), data, None, callbacks, quiet)
    first = is_first()
    if outside_launch() is not None and config.run_dir is None:
        raise ConfigError("run_dir is missing: processes that torchrun or SLURM started must be told one common folder")
    with counting("checking the data", quiet or not first) as progress:
        sets = data_of(config, data, first, progress)
    resolved = resolve(config, sets, lambda message: None if quiet or not first else print(message, file=sys.stderr))
    folder = RunFolder(new_run_dir(resolved))
    parts = [part for part in (sets.train, sets.val) if part is not None]
    inputs = [path for part in parts for path in part.sources()]
    check_results_folder(folder.path, inputs if config.data.root is None else [config.data.root, *inputs])
    model, source = first_model(resolved, sets.train.label_space)  # before the folder is made: it may not be had
    with ExitStack() as stack:
        if first:
            folder.check_new()
            stack.enter_context(folder.owned())
            folder.create(resolved.changed(run_dir=folder.path))
            if not quiet:
                print(source, file=sys.stderr)
                _tell_forecast(resolved, sets)
        return _run(folder, resolved, sets, model, callbacks, quiet)


def _tell_forecast(config: TrainConfig, data: DataSets) -> None:
    from pspnet.training.forecast import forecast

    expected = forecast(config, data)
    print(expected, file=sys.stderr)
    if not expected.fits:
        warnings.warn(
            f"memory will probably not do: {expected.memory_bytes / 2**30:.1f} GiB are needed, {expected.free_bytes / 2**30:.1f} are "
            f"free. Lower batch_size ({config.batch_size}) and raise accumulate by as much, set activation_checkpointing to "
            "true, or take a smaller augmentation.crop",
            stacklevel=2,
        )


def go_on(
    run_dir: str | Path, settings: Sequence[str], data: DataSets | None, callbacks: Sequence[Callback], quiet: bool
) -> Path:
    """See `pspnet.training.resume`."""
    folder = RunFolder.open(started_by_first() or run_dir)
    with ExitStack() as stack:
        if is_first():
            stack.enter_context(folder.owned())
        config = folder.read_config(settings)
        if folder.summary.exists() and folder.best_model.exists():
            return folder.best_model
        root = config.data.root
        if data is None and root is not None and not root.exists():
            raise DataError(
                f"the run's data are no longer in '{root}'. Where they moved, say so: pspnet train --resume {run_dir} "
                f"data.root=DIR (it is data.root in {folder.config})"
            )
        data = data or open_data(config.data, check=False)
        if settings and is_first():
            root = None if root is None else root.absolute()
            config = config.changed(data=config.data.changed(root=root))
            write_text(folder.config, config.to_yaml())
        return _run(folder, moved(config, len(data.train)), data, None, callbacks, quiet)


def _run(
    folder: RunFolder,
    config: TrainConfig,
    data: DataSets | None,
    model: PSPNet | None,
    callbacks: Sequence[Callback],
    quiet: bool,
) -> Path:
    """The loop, and what its end means for state.json and for this process."""
    first, helper = is_first(), started_by_first() is not None
    if outside_launch() is None:
        os.environ[RUN_DIR_VARIABLE] = str(folder.path.absolute())
    try:
        if first:
            folder.update_state("preparing", now=True, started=round(time.time(), 3), message="", steps=config.steps)
        data = data or open_data(config.data, check=False)
        _loop(folder, config, data, model, [TensorBoard(folder.tensorboard), *callbacks], quiet)
    except RunInterrupted as stop:
        if first:
            folder.update_state("interrupted", now=True, message=str(stop))
        if helper:
            sys.exit(0)  # the first process reports; Fabric would kill it at once if this one ended with a failure
        raise
    except BaseException as error:
        if first:
            with suppress(PspnetError):  # the reason why it failed is more than that it cannot be written down
                folder.update_state("failed", now=True, message=f"{type(error).__name__}: {error}"[:2000])
        if isinstance(error, OSError) and not isinstance(error, PspnetError):
            raise TrainingError(
                f"run '{folder.path}' cannot go on: {reason(error)} ({error.filename or type(error).__name__}). Go on "
                f"when that is mended with: pspnet train --resume {folder.path}"
            ) from error
        raise
    finally:
        os.environ.pop(RUN_DIR_VARIABLE, None)
    if helper:
        sys.exit(0)  # this process was made for training alone: what follows in the caller's program is the first one's
    return folder.best_model


def _loop(
    folder: RunFolder,
    config: TrainConfig,
    data: DataSets,
    model: PSPNet | None,
    callbacks: Sequence[Callback],
    quiet: bool,
) -> None:
    with (
        callers_random_numbers_kept(),
        _switches(config),
        _quiet_libraries(),
        remembered_signals() as interruption,
        launched(config) as fabric,
    ):
        loop = TrainingLoop(fabric, folder, config, data, model, interruption, callbacks, quiet)
        try:
            loop.run()
        except BaseException as error:
            with suppress(PspnetError):
                loop.reporter.close(loop.state)
            if isinstance(error, KeyboardInterrupt) and interruption.signal is not None:
                # a second Ctrl-C: what was saved last is what there is
                step = max(loop.saver.saved_step, 0)
                raise interrupted(interruption.signal, step, loop.state.steps, folder.path) from error
            if isinstance(error, torch.OutOfMemoryError):
                raise TrainingError(
                    f"the memory of the GPU is too small: {str(error).split('.')[0]}. Lower batch_size "
                    f"({config.batch_size}) and raise accumulate by as much, set activation_checkpointing to true, or take "
                    "a smaller augmentation.crop"
                ) from error
            raise
        loop.reporter.close(loop.state)


@contextmanager
def _switches(config: TrainConfig) -> Iterator[None]:
    """The process's switches as the run wants them; the caller's are restored."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    try:
        if config.deterministic:
            torch.use_deterministic_algorithms(True, warn_only=True)
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # cuBLAS repeats bit for bit only with a fixed workspace
        # trying every kernel takes minutes for networks of many depthwise convolutions (H100: EfficientNet-Lite2 had made no
        # step after 20 s; without it, after 1 s) and begins anew for each size of progressive_resizing
        tries = config.device == "cuda" and encoder_family(config.model.encoder).name.startswith(("resnet", "swin"))
        torch.backends.cudnn.benchmark = tries and not config.deterministic
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
        if config.deterministic:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG")
            if workspace is not None:
                os.environ["CUBLAS_WORKSPACE_CONFIG"] = workspace


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Without the hints that Fabric and torch print for the writers of training loops."""
    require("lightning_fabric", "train")  # sets its logger's level when it is imported
    logger = logging.getLogger("lightning_fabric")
    before = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for text in (
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
            logger.setLevel(before)
