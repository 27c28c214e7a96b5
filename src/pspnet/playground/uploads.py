"""Uploaded files: taken only from this page's own upload folder, and opened by nobody but `pspnet.images`.

Gradio's own check of file paths does nothing while `Blocks.has_launched` is false, which `mount_gradio_app` never sets:
any handler with a file input then copied whatever path a client sent into the folder that the page serves. `app.create_app`
sets it; here the same is checked once more, and Gradio neither opens an image (Pillow would start Ghostscript for
PostScript) nor fetches an address.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pspnet.errors import ConfigError, require
from pspnet.files.path_limits import is_below

gr = require("gradio", "playground")


def upload_folder() -> Path:
    """Gradio's folder of this server, which it serves from. Made when it is not there."""
    from gradio.utils import get_upload_folder

    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def uploaded(path: str | Path | None) -> str:
    """The path of a file that was uploaded to this page. Raises ConfigError for any other."""
    if path is None or "\0" in str(path):
        raise ConfigError("no file was sent; drop an image on the field")
    real = os.path.realpath(path)
    if not is_below(real, [os.path.realpath(upload_folder())]) or not os.path.isfile(real):
        raise ConfigError("only files that were dropped on this page are read; drop the image on the field")
    return real


class Page(gr.Blocks):  # type: ignore[misc, name-defined]
    """Gradio's Blocks, which look at what a client sends before any component does."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *others: Any, **named: Any) -> Any:
        try:
            return await super().preprocess_data(block_fn, [_checked(value) for value in inputs], *others, **named)
        except gr.Error as error:  # Gradio's own words, for a choice that is none say
            error.print_exception = False
            raise
        except ConfigError as error:
            raise gr.Error(str(error), print_exception=False, title="This did not work") from error
        except Exception as error:  # a value that a component cannot be given: the page itself sends none
            words = f"the page cannot take this value ({type(error).__name__})"
            raise gr.Error(words, print_exception=False, title="This did not work") from error


def _checked(value: Any) -> Any:
    """What a client sent, with each file in it known to be an upload and no address left. Raises ConfigError."""
    if isinstance(value, list):
        return [_checked(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if "path" in value or "url" in value:
        path = value.get("path")
        return {**value, "path": uploaded(path if isinstance(path, str) else None), "url": None}
    return {key: _checked(inner) for key, inner in value.items()}


def uploaded_image(**options: Any) -> Any:
    """An image field whose value is the uploaded file's path; Gradio's own way would open it with Pillow.

    Not a subclass: Gradio writes a .pyi file beside the source of each one.
    """
    field = gr.Image(type="filepath", **options)
    field.preprocess = lambda payload: None if payload is None else uploaded(payload.path)
    return field
