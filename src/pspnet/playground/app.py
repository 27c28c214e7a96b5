"""The page with its five places, mounted in a FastAPI application, and the program that serves it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pspnet.errors import ServiceError, require
from pspnet.files.path_limits import only_below
from pspnet.machine import keep_address_for_this_program
from pspnet.playground.allowed_paths import Roots
from pspnet.playground.compare_tab import add_compare
from pspnet.playground.context import Context
from pspnet.playground.data_tab import add_data
from pspnet.playground.events import Events
from pspnet.playground.guard import Guard
from pspnet.playground.model_summary import follow_model
from pspnet.playground.model_tab import add_model
from pspnet.playground.run_queue import RunQueue
from pspnet.playground.theme import css, head, theme
from pspnet.playground.train_tab import add_train
from pspnet.playground.try_tab import add_try
from pspnet.playground.uploads import Page

gr = require("gradio", "playground")

UPLOAD_BYTES = 64 * 2**20
ABOUT = "Configure, train, compare and try scene parsing models. Everything stays on this machine."


def build_page(context: Context) -> Any:
    """The page as Gradio Blocks."""
    with Page(title="pspnet playground", analytics_enabled=False) as page:
        events = Events(page)
        gr.HTML(f'<header id="page-head"><h1>pspnet playground</h1><p>{ABOUT}</p></header>')
        with gr.Tabs(elem_id="places", overflow_behavior="wrap"):
            with gr.Tab("Data", id="data"):
                data = add_data(context, events)
            with gr.Tab("Model", id="model", render_children=True):
                model = add_model(context, events)
            with gr.Tab("Train", id="train", render_children=True):
                train = add_train(context, events, data, model)
                follow_model(events, model, data.facts, train.crop, train.batch)
            with gr.Tab("Compare", id="compare", render_children=True):
                add_compare(context, events)
            with gr.Tab("Try", id="try", render_children=True):
                add_try(context, events, data)
        events.finish()
    page.queue(default_concurrency_limit=8, max_size=64)
    return page


def make_context(roots: Sequence[str | Path], runs: str | Path | None = None, at_once: int = 1) -> Context:
    """roots: folders that the page may use. runs: where runs are kept; None: `runs` in the first root."""
    held = Roots(roots)
    folder = held.path(runs if runs is not None else "runs", "--runs")
    return Context(held, RunQueue(folder, at_once), held.path("exports", "exports"))


def create_app(context: Context, base: Any = None, hosts: Sequence[str] = ()) -> Any:
    """The page as an ASGI application. base: the FastAPI application to mount it in, see `service`; None: one without models.

    hosts: names, besides localhost and IP addresses, under which the page may be asked for.
    """
    page = build_page(context)
    app = gr.mount_gradio_app(
        base if base is not None else service(),
        page,
        path="/",
        theme=theme(),
        css=css(),
        head=head(),
        footer_links=[],
        run_history=False,
        show_error=True,
        max_file_size=UPLOAD_BYTES,
        ssr_mode=False,
        pwa=False,
        allowed_paths=[],
        enable_monitoring=False,
        mcp_server=False,
    )
    page.has_launched = True  # mounting leaves it false, and Gradio then checks no file's path (see uploads.py)
    return Guard(app, hosts)


def service(models: Mapping[str, str] | None = None) -> Any:
    """The server's application, which the page is mounted in: /v1/segment answers with these models beside the page."""
    from pspnet.server import ServerSettings
    from pspnet.server import create_app as create_server
    from pspnet.server.logs import logger

    logger.setLevel("WARNING")  # a page that watches a run asks every second
    return create_server(dict(models or {}), ServerSettings(any_host=True))  # the page's Guard looks at hosts


def run_playground(
    context: Context, host: str = "127.0.0.1", port: int = 7860, hosts: Sequence[str] = (), base: Any = None
) -> None:
    """Serves the page until Ctrl-C or SIGTERM. Runs go on without it. Raises ServiceError when the port is taken."""
    uvicorn = require("uvicorn", "serve")
    check_port(host, port)
    cache = Path(tempfile.mkdtemp(prefix="pspnet-playground-"))
    os.environ["GRADIO_TEMP_DIR"] = str(cache)  # uploads and downloads of this server alone, gone with it
    ended = threading.Event()
    before = signal.signal(signal.SIGTERM, _leave)  # uvicorn sends itself the signal again at its end
    try:
        config = uvicorn.Config(
            create_app(context, base, hosts), host=host, port=port, log_level="warning", timeout_graceful_shutdown=2
        )
        threading.Thread(target=_keep_queue, args=(context.runs, ended), daemon=True).start()
        print(
            f"pspnet playground: http://{'localhost' if host in ('127.0.0.1', '::1') else host}:{port}\n"
            f"folders: {', '.join(map(str, context.roots.folders))}; runs in {context.runs.folder}\nCtrl-C ends the page; runs go on",
            flush=True,
        )
        with only_below([*context.roots.folders, cache]):
            uvicorn.Server(config).run()
    finally:
        ended.set()
        shutil.rmtree(cache, ignore_errors=True)
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, frame: Any) -> None:
    """Ends the program so that its `finally` blocks are run."""
    raise SystemExit(128 + number)


def check_port(host: str, port: int) -> None:
    """Raises ServiceError when nothing can listen there, with a port that is free."""
    try:
        _bind(host, port)
    except OSError as error:
        free = next((p for p in range(port + 1, port + 50) if _is_free(host, p)), None)
        advice = f"; {free} is free: --port {free}" if free else ""
        raise ServiceError(
            f"port {port} on {host} cannot be used ({error.strerror or error}). Another program has it, perhaps "
            f"another playground{advice}"
        ) from error


def _bind(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        keep_address_for_this_program(probe)
        probe.bind((host, port))


def _is_free(host: str, port: int) -> bool:
    try:
        _bind(host, port)
    except OSError:
        return False
    return True


def _keep_queue(runs: RunQueue, ended: threading.Event) -> None:
    """Starts waiting runs also while nobody looks at the page."""
    while not ended.wait(1.0):
        with suppress(Exception):  # a full disk today need not be one in a second; the page says it
            runs.tick()
