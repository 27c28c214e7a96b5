"""The command that starts the page: playground."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Adds this file's commands."""
    app.command()(playground)


def playground(
    root: Annotated[
        list[Path] | None,
        typer.Option(help="Folder that the page may read and write; may be repeated. Default: the working folder."),
    ] = None,
    runs: Annotated[
        Path | None, typer.Option(help="Folder of the runs, inside a root. Default: runs in the first root.")
    ] = None,
    at_once: Annotated[int, typer.Option(help="Runs that compute at the same time; others wait.", min=1)] = 1,
    host: Annotated[
        str, typer.Option(help="Address to listen on. 0.0.0.0: reachable for everybody in the network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 7860,
    serve: Annotated[
        list[str] | None,
        typer.Option(
            help="Model to answer /v1/segment with, beside the page, as `pspnet serve` does; may be repeated."
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Name under which the page may be asked for, such as that of this machine; may be repeated."),
    ] = None,
) -> None:
    """A page to choose data and a model, train, compare and try. It loads nothing from outside, and nothing leaves.

    Needs the extra `playground`. Runs are processes of their own: they go on when the page ends.

    Example: pspnet playground --root street --port 7861
    """
    # before Gradio is imported: it looks for updates otherwise, and reports its use
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    from pspnet.playground.app import make_context, run_playground, service

    context = make_context(root or [Path.cwd()], runs, at_once)
    base = None
    if serve:
        from pspnet.server.models import check_sources, name_models

        named = name_models(serve)
        check_sources(named)
        base = service(named)
    run_playground(context, host, port, allow_host or [], base)
