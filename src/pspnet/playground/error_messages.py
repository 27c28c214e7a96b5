"""Handlers that tell a person what went wrong, in words, whatever it was."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

from pspnet.errors import PspnetError, require
from pspnet.playground.run_queue import in_plain_words

gr = require("gradio", "playground")
log = logging.getLogger("pspnet.playground")
Handler = TypeVar("Handler", bound=Callable[..., Any])


def told(handler: Handler) -> Handler:
    """The handler, whose errors reach the page as a sentence and the terminal only where nobody expected them."""
    if inspect.isgeneratorfunction(handler):

        @wraps(handler)
        def stepwise(*values: Any, **named: Any) -> Iterator[Any]:
            with _words():
                yield from handler(*values, **named)

        return cast(Handler, stepwise)

    @wraps(handler)
    def once(*values: Any, **named: Any) -> Any:
        with _words():
            return handler(*values, **named)

    return cast(Handler, once)


@contextmanager
def _words() -> Iterator[None]:
    try:
        yield
    except PspnetError as error:
        raise gr.Error(str(error), duration=20, title="This did not work", print_exception=False) from error
    except OSError as error:
        raise gr.Error(in_plain_words(error), duration=20, title="This did not work", print_exception=False) from error
    except gr.Error:
        raise
    except Exception as error:
        log.exception("a handler of the page failed")
        raise gr.Error(
            f"unexpected error: {type(error).__name__}: {error}. This is a fault in pspnet; the terminal that "
            "runs the playground shows where",
            duration=20,
            title="This did not work",
            print_exception=False,
        ) from error
