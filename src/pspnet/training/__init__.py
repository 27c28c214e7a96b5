"""Training: `train` starts a run, `resume` goes on with one, bit for bit. `loop.py` is the place to read.

Everything a run writes lies in one folder; `run_folder.py` lists it. This file imports no heavy library.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pspnet.config.train import TrainConfig
from pspnet.data.dataset import GivenDataset

if TYPE_CHECKING:
    from pspnet.training.callbacks import Callback
    from pspnet.training.lr_finder import RateSearch
    from pspnet.training.resolve import DataSets


def train(
    config: TrainConfig,
    *,
    train_data: GivenDataset | None = None,
    val_data: GivenDataset | None = None,
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
) -> Path:
    """Trains a network and returns the path of its best checkpoint, RUN/best.safetensors.

    Args:
        config: The recipe.
        train_data: A data set of your own, in place of `config.data`; 100 samples are checked first, unless
            `config.check_data` is False.
        val_data: Likewise, to validate on.
        callbacks: Functions that are called with a `TrainingEvent` (see `callbacks.py`), for loggers and tools.
        quiet: Nothing on the terminal.

    Raises ConfigError and DataError, all faults together, before anything is computed; TrainingError when the run
    cannot go on; RunInterrupted when Ctrl-C or SIGTERM stopped it, after its state was saved.
    """
    from pspnet.training.launch import start

    return start(config, _sets(train_data, val_data), callbacks, quiet)


def resume(
    run_dir: str | Path,
    *,
    settings: Sequence[str] = (),
    train_data: GivenDataset | None = None,
    val_data: GivenDataset | None = None,
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
) -> Path:
    """Goes on with the run in `run_dir` where it was stopped or killed, and returns the path of its best checkpoint.

    The result is bit for bit that of a run that was never stopped, on the same kind of processor with the same number
    of devices and threads. A finished run is left as it is.

    Args:
        run_dir: The run's folder.
        settings: `name=value` of what may change, such as data.root=DIR where the data have moved.
        train_data: As in `train`.
        val_data: As in `train`.
        callbacks: As in `train`.
        quiet: As in `train`.

    Raises what `train` raises.
    """
    from pspnet.training.launch import go_on

    return go_on(run_dir, settings, _sets(train_data, val_data), callbacks, quiet)


def find_learning_rate(
    config: TrainConfig, *, train_data: GivenDataset | None = None, steps: int = 100, plot: str | Path | None = None
) -> RateSearch:
    """Tries `steps` growing learning rates, each for one batch, and suggests the one at which the loss falls fastest.

    The network is thrown away. plot: a PNG of loss over rate is written there. Raises ConfigError, DataError.
    """
    from pspnet.training.lr_finder import search_rate

    return search_rate(config, _sets(train_data, None), steps, None if plot is None else Path(plot))


def _sets(train_data: GivenDataset | None, val_data: GivenDataset | None) -> DataSets | None:
    from pspnet.training.resolve import DataSets

    return None if train_data is None else DataSets.given(train_data, val_data)
