"""What the system refused to write, as one error in one wording."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pspnet.errors import OutputError

_REASONS = {
    errno.ENOSPC: "the disk is full",
    getattr(errno, "EDQUOT", -1): "your quota of the disk is used up",  # Windows has no such number
    errno.EROFS: "the file system can only be read",
    errno.EACCES: "you may not write there",
    errno.EPERM: "you may not write there",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "it is a link, and what is changed where it lies is not changed through one",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
}


@contextmanager
def writing(path: str | Path, after: str = "", also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turns the system's errors into one OutputError that names `path` and the reason.

    after: a sentence for the end of the message, what is kept say. also: exceptions of a library that mean the same.
    """
    kinds: tuple[type[Exception], ...] = (OSError, *also)
    try:
        yield
    except OutputError:
        raise
    except kinds as error:
        raise OutputError(f"'{path}' cannot be written: {reason(error)}{'. ' + after if after else ''}") from error


def not_through_links(path: str, flags: int) -> int:
    """An `opener` for what is changed where it lies (locks, logs, unfinished work): a link there may lead to anything."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def reason(error: BaseException) -> str:
    """Why the system refused, in plain words."""
    if isinstance(error, OSError) and error.errno is not None:
        return _REASONS.get(error.errno, error.strerror or str(error))
    return " ".join(str(error).split()) or type(error).__name__
