"""Starting a run and going on with one: what surrounds the loop in every process."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import torch

from pspnet.config.train import TrainConfig
from pspnet.errors import ConfigError, DataError, PspnetError, RunInterrupted, TrainingError
from pspnet.files import check_results_folder, reason, write_text
from pspnet.nn.pspnet import PSPNet
from pspnet.terminal import each, progress_bar
from pspnet.training.callbacks import Callback
from pspnet.training.distributed import RUN_DIR_VARIABLE, is_first, launched, outside_launch, started_by_first
from pspnet.training.forecast import tell_forecast
from pspnet.training.initial_weights import first_model
from pspnet.training.loop import TrainingLoop
from pspnet.training.process import interrupted, process_of_a_run
from pspnet.training.resolve import DataSets, data_of, moved, open_data, resolve
from pspnet.training.run_folder import RunFolder, new_run_dir


def start(config: TrainConfig, data: DataSets | None, callbacks: Sequence[Callback], quiet: bool) -> Path:
    """See `pspnet.training.train`."""
    is_follower = started_by_first()
    if is_follower is not None:  # one of several processes of a machine: the first has prepared everything
        folder = RunFolder.open(is_follower)
        return _run(folder, folder.read_config(), data, None, callbacks, quiet)
    first = is_first()
    if outside_launch() is not None and config.run_dir is None:
        raise ConfigError("run_dir is missing: processes that torchrun or SLURM started must be told one common folder")
    if first and config.run_dir is not None:
        RunFolder(config.run_dir).check_new()  # before the data are looked through, which may take minutes
    with progress_bar("checking the data", None, quiet=quiet or not first) as advance:
        sets = data_of(config, data, first, each(advance))
    resolved = resolve(config, sets, lambda message: None if quiet or not first else print(message, file=sys.stderr))
    model, source = first_model(resolved, sets.train.label_space)  # before the folder is made: it may not be had
    folder = RunFolder(new_run_dir(resolved))
    parts = [part for part in (sets.train, sets.val) if part is not None]
    inputs = [path for part in parts for path in part.sources()]
    check_results_folder(folder.path, inputs if config.data.root is None else [config.data.root, *inputs])
    with ExitStack() as stack:
        if first:
            stack.enter_context(folder.owned())
            folder.create(resolved.changed(run_dir=folder.path))
            if not quiet:
                print(source, file=sys.stderr)
                tell_forecast(resolved, sets)
        return _run(folder, resolved, sets, model, callbacks, quiet)


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
        if is_first():
            folder.preparing(config)
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
        _loop(folder, config, data or open_data(config.data, check=False), model, callbacks, quiet)
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
    with process_of_a_run(config) as interruption, launched(config) as fabric:
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
