"""Everything that pspnet raises on purpose.

    PspnetError                  exit code 1
    |-- ConfigError              a setting or a combination of settings is wrong (also a ValueError); exit code 2
    |-- MissingExtraError        an optional dependency is not installed (also an ImportError); exit code 2
    |-- DataError                files of a data set cannot be used
    |   |-- ImageError           one image cannot be read
    |   `-- LabelError           one label file holds what its table does not know
    |-- CheckpointError          a model file is cut off, altered, foreign or too new
    |-- OutputError              a file or folder cannot be written or exists (1); it is an input, or no file (2)
    |-- RasterError              a georeferenced raster or vector cannot be read, matched or written
    |-- ExportError              an exported model differs from its source, or cannot be made
    |-- TrainingError            a run cannot start, continue or finish
    |   `-- RunInterrupted       a run was asked to stop and left its state; exit code 128 + signal (130, 143)
    `-- ServiceError             a server, a cluster or a client could not do its part

A message names what was wrong, the value, what is accepted and the next step: it is all that a user reads.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType


class PspnetError(Exception):
    """The root of the tree; `exit_code` is what the command line ends with."""

    exit_code = 1


class ConfigError(PspnetError, ValueError):
    """A setting or a combination of settings is wrong. `faults` holds one line for each, with its dotted name."""

    exit_code = 2

    def __init__(self, message: str, faults: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.faults = faults or (message,)


class MissingExtraError(PspnetError, ImportError):
    """An optional dependency is not installed; the message holds the command that installs it."""

    exit_code = 2


class DataError(PspnetError):
    """Files of a data set cannot be used. `faults` holds one line for each fault found."""

    def __init__(self, message: str, faults: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.faults = faults or (message,)


class ImageError(DataError):
    """One image cannot be read."""


class LabelError(DataError):
    """One label file holds what its table does not know."""


class CheckpointError(PspnetError):
    """A model file is cut off, altered, foreign or of a newer format."""


class OutputError(PspnetError):
    """A file or folder cannot be written, or must not be: it exists, it is an input, another process writes it.

    exit_code: 1, or 2 where the command asked for the wrong thing. Raised by `pspnet.files` only.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class RasterError(PspnetError):
    """A georeferenced raster or vector cannot be read, matched or written."""


class ExportError(PspnetError):
    """An exported model differs from its source by more than was asked, or cannot be made."""


class TrainingError(PspnetError):
    """A run cannot start, continue or finish."""


class RunInterrupted(TrainingError):  # noqa: N818 - not an error of anybody
    """A run was asked to stop by a signal, and its state was saved. `exit_code` is the shell's: 128 + the signal."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal
        self.exit_code = 128 + signal


class ServiceError(PspnetError):
    """A server, a cluster or a client could not do its part."""


def require(module: str, extra: str) -> ModuleType:
    """Imports an optional dependency, or says which extra brings it.

    `extra` is one of the extras in pyproject.toml. Raises MissingExtraError with the exact command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing(module, extra, error) from error


def missing(module: str, extra: str, error: ImportError | None = None) -> MissingExtraError:
    """The error for a module of an extra that cannot be imported, with the command that brings it."""
    from pspnet.installation import install_command

    why = f" ({error})" if error else ""
    return MissingExtraError(
        f"this needs '{module.split('.')[0]}', which could not be imported{why}. Install it with:\n"
        f"    {install_command(extra)}"
    )


@contextmanager
def parsing(
    file: object, kind: type[PspnetError], problem: str = "cannot be read", way_out: str = "Copy or export it again"
) -> Iterator[None]:
    """The door of a parser that is not ours: whatever it raises on a file is one error of `kind` that names the file.

    No list of exceptions, which the next release of a parser makes wrong: text of any content brings RecursionError,
    OverflowError, MemoryError, struct.error ... Errors of ours pass. "'FILE' PROBLEM (what the parser said). WAY OUT".
    """
    try:
        yield
    except PspnetError:
        raise
    except Exception as error:
        raise kind(f"'{file}' {problem} ({reason_of(error)}). {way_out}") from error


def reason_of(error: BaseException) -> str:
    """What a foreign exception says, in one line of at most 300 characters; its kind where that alone says little."""
    words = " ".join(str(error).split())[:300]
    plain = isinstance(error, (OSError, UnicodeError)) or type(error).__name__ in words or " " in words
    return (words if plain else f"{type(error).__name__}: {words}") if words else type(error).__name__


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "", most: int = 1) -> str:
    """The end of a message about a name that is none: "did you mean 'camvid'?", or `otherwise` where none is near.

    most: how many near names are told.
    """
    import difflib  # here: only a mistake needs it

    near = difflib.get_close_matches(word, list(known), n=most, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else otherwise
