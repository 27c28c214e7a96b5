"""The command that makes a service of a model: serve."""

from __future__ import annotations

from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Adds this file's command."""
    app.command(no_args_is_help=True)(serve)


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Checkpoints, exported models, or names of models that come along; NAME=FILE gives a name. "
            "The first answers where a request names none.",
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all networks.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8000,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="Threads that compute. Default: one for each core.", min=1)
    ] = None,
    queue: Annotated[int, typer.Option(help="Most requests in work or waiting; more get 503.", min=1)] = 64,
    queue_megapixels: Annotated[float, typer.Option(help="Most megapixels in work or waiting.", min=0.001)] = 64.0,
    max_batch: Annotated[int, typer.Option(help="Most images computed at once; 1 is one by one.", min=1)] = 16,
    batch_wait_ms: Annotated[
        float, typer.Option(help="How long a batch waits for requests on their way, in milliseconds.", min=0.0)
    ] = 5.0,
    bucket: Annotated[
        int,
        typer.Option(
            help="Batch images whose sides round up to the same multiple of this many pixels, padded by their edge. "
            "1: only equal sizes, answers are exact.",
            min=1,
        ),
    ] = 1,
    deadline: Annotated[float, typer.Option(help="Longest time for a request, in seconds.", min=0.001)] = 30.0,
    drain: Annotated[
        float, typer.Option(help="Longest wait for accepted requests at the end, in seconds.", min=0.1)
    ] = 60.0,
    max_mib: Annotated[float, typer.Option(help="Greatest body, in MiB.", min=0.001)] = 32.0,
    max_megapixels: Annotated[float, typer.Option(help="Greatest image, in megapixels.", min=0.0001)] = 16.0,
    decoders: Annotated[int, typer.Option(help="Processes that decode images.", min=1)] = 2,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Host name, besides localhost and IP addresses, under which the server may be asked; repeat it."
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Origin whose pages may ask from a browser (CORS), such as https://maps.example.org; repeat it."
        ),
    ] = None,
    label_studio: Annotated[
        str | None,
        typer.Option(
            help="Address of a Label Studio: serve its backend routes too (/health, /setup, /predict) and fetch its tasks' "
            "images there, with LABEL_STUDIO_API_KEY of the environment."
        ),
    ] = None,
    any_host: Annotated[
        bool, typer.Option("--any-host", help="Answer every host name, and pages of other origins in a browser.")
    ] = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Serve models over HTTP: POST an image to /v1/segment, get labels, an overlay, run lengths or polygons.

    PSPNET_API_KEY in the environment holds the key that callers must give (several, separated by commas). The log is
    JSON, on standard error. SIGTERM or Ctrl-C finishes what was accepted.

    Example: pspnet serve scenes street=runs/street/best.safetensors --port 8000
    """
    import os

    from pspnet.cli.console import fail

    if log_level not in ("debug", "info", "warning", "error"):
        fail(f"--log-level {log_level}: debug, info, warning or error")

    from pspnet.server import ServerSettings, create_app, run_server
    from pspnet.server.logs import logger
    from pspnet.server.models import check_sources, name_models

    keys = tuple(key.strip() for key in os.environ.get("PSPNET_API_KEY", "").split(",") if key.strip())
    settings = ServerSettings(
        device=device,
        precision=precision,
        queue=queue,
        queue_megapixels=queue_megapixels,
        max_batch=max_batch,
        batch_wait_ms=batch_wait_ms,
        bucket_px=bucket,
        deadline_s=deadline,
        drain_s=drain,
        max_mib=max_mib,
        max_megapixels=max_megapixels,
        decoders=decoders,
        api_keys=keys,
        hosts=_host_names(host, allow_host or []),
        origins=tuple(origin.lower().rstrip("/") for origin in allow_origin or ()),
        any_host=any_host,
        label_studio=label_studio or "",
        label_studio_key=os.environ.get("LABEL_STUDIO_API_KEY", "").strip() if label_studio else "",
    )
    named = name_models(models)
    check_sources(named)
    if threads is not None:
        from pspnet.predict.processors import set_threads

        set_threads(threads)
    if host not in ("127.0.0.1", "localhost", "::1") and not keys:
        logger.warning("open to all: no PSPNET_API_KEY is set, and the address is not this machine's own")
    run_server(create_app(named, settings), host, port, drain_s=drain, log_level=log_level)


def _host_names(host: str, allowed: list[str]) -> tuple[str, ...]:
    """Names under which the server may be asked: those allowed, and that of the address it listens at."""
    return (*allowed, *([] if host.replace(".", "").isdigit() or ":" in host else [host]))
