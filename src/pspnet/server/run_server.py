"""Running an application with uvicorn: a port that is taken is told, and a shutdown loses no accepted request.

On SIGTERM or Ctrl-C the server stops listening at once, so new connections are refused and go elsewhere. Connections that
are open still get their answers, each of which closes its connection; a request that was on its way when the signal came
is answered too. When all is still for a moment, or `drain_s` has passed, the process ends: connections and decoders in work
are cut off then, and after GRACE_S more the process is ended whatever its threads do. A second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import threading
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from pspnet.errors import ServiceError
from pspnet.machine import keep_address_for_this_program, memory_trimmer
from pspnet.server.connections import Connections
from pspnet.server.logs import log_to_stderr, logger
from pspnet.server.settings import ServerSettings

GRACE_S = 3.0  # for cutting off what is left at the end
ACCEPTED_AT_ONCE = 16  # connections between two looks at how many there are; more wait in the system's list
WAITING_CONNECTIONS = 2048
LINGER_S = 0.5  # an open connection that is silent for so long has nothing under way


def run_server(
    app: FastAPI, host: str = "127.0.0.1", port: int = 8000, *, drain_s: float = 60.0, log_level: str = "info"
) -> None:
    """Serves until a signal. port 0 takes a free one; the line "listening" of the log names it.

    Raises ServiceError when the port cannot be had, or when the application's models cannot be opened. Ends as the
    signal does (143 for SIGTERM, 130 for Ctrl-C).
    """
    log_to_stderr(log_level)
    sockets = listen(host, port)
    settings = app.state.service.settings if hasattr(app.state, "service") else ServerSettings()
    connections = Connections(settings)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        http=connections.protocol,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=1,  # our own draining has waited
        timeout_keep_alive=30,
        server_header=False,
        backlog=ACCEPTED_AT_ONCE,
    )
    bound = sockets[0].getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    logger.info("listening", extra={"fields": {"url": f"http://{shown}:{bound}", "port": bound}})
    server = DrainingServer(config, app, connections, drain_s)
    server.run(sockets=sockets)
    failure = _failure(app)
    if failure is not None:
        raise ServiceError(f"the server ended because a model cannot be opened: {failure}") from failure


def listen(host: str, port: int) -> list[socket.socket]:
    """A listening socket for each address of the host. Raises ServiceError in plain words."""
    sockets: list[socket.socket] = []
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(addresses):
            one = socket.socket(family, kind, protocol)
            sockets.append(one)
            keep_address_for_this_program(one)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if port == 0 and len(sockets) > 1:
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            one.bind(address)
            one.listen(2048)
    except OSError as error:
        for one in sockets:
            one.close()
        raise ServiceError(_why(host, port, error)) from error
    return sockets


def _why(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use by another program; stop that one, or choose another with --port"
    if error.errno == errno.EACCES:
        return f"port {port} is reserved for the system's own programs; choose one from 1024 on with --port"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return (
            f"this machine has no address {host!r}; give --host 127.0.0.1 (this machine only) or 0.0.0.0 (all networks)"
        )
    return f"{host}:{port} cannot be listened at: {error.strerror or error}"


class DrainingServer(uvicorn.Server):
    """uvicorn's server with a gentler end, and an early one when the models cannot be opened."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, connections: Connections, drain_s: float) -> None:
        super().__init__(config)
        self.app, self.connections, self.drain_s = app, connections, drain_s
        self.trim = memory_trimmer()
        self.listening: list[socket.socket] = []
        self._accepting: list[asyncio.Task[Any]] = []
        self.since: float | None = None  # when draining began
        self.still: float | None = None  # since when nothing is in work

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: drain. Second: end now."""
        if self.app.state.draining:
            self.should_exit = self.force_exit = True
            return
        self._captured_signals.append(sig)
        self.app.state.draining = True
        self.app.state.signal = signal.Signals(sig).name

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening = sockets or []
        for one in self.listening:
            one.listen(WAITING_CONNECTIONS)  # asyncio took the smaller number for both

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, but what drags on is ended: a reader that reads nothing, a thread in a library."""
        end = threading.Timer(GRACE_S, _end_now, (self._captured_signals[-1:],))
        end.daemon = True
        end.start()
        try:
            self.connections.end_work()
            await super().shutdown(sockets)  # waits for the threads
        finally:
            end.cancel()

    async def on_tick(self, counter: int) -> bool:
        """Each tenth of a second: goes on with the shutdown, if there is one."""
        if _failure(self.app) is not None:
            self.should_exit = True
        if self.app.state.draining and not self.should_exit:
            self._drain(asyncio.get_running_loop().time())
        if counter % 5 == 0:
            self.trim()
            self.connections.sweep(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    def _drain(self, now: float) -> None:
        if self.since is None:
            self.since = now
            self._take_waiting()
            for server in self.servers:
                server.close()
            in_work = len(self.server_state.tasks)
            fields: dict[str, Any] = {"signal": self.app.state.signal, "requests_in_work": in_work}
            logger.info("draining", extra={"fields": fields})
        if self.server_state.tasks or self.connections.sending():
            self.still = None
        elif self.still is None:
            self.still = now
        if (self.still is not None and now - self.still >= LINGER_S) or now - self.since > self.drain_s:
            logger.info("ending", extra={"fields": {"unfinished": len(self.server_state.tasks)}})
            self.should_exit = True

    def _take_waiting(self) -> None:
        """Accepts who has connected already: the system would reset these connections when the socket closes."""
        loop = asyncio.get_running_loop()
        for listening in self.listening:
            while True:
                try:
                    one, _ = listening.accept()
                except OSError:  # nobody waits any more
                    break
                one.setblocking(False)
                self._accepting.append(loop.create_task(loop.connect_accepted_socket(self._connection, one)))

    def _connection(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = kind(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state, _loop=None
        )
        return protocol


def _end_now(signals: list[int]) -> None:
    """Ends the process although threads are at work: Python would wait for them."""
    logger.warning("ended", extra={"fields": {"reason": f"threads were still at work {GRACE_S:g} s after the end"}})
    for handler in logger.handlers:
        handler.flush()
    os._exit(128 + signals[0] if signals else 1)


def _failure(app: FastAPI) -> BaseException | None:
    service = getattr(app.state, "service", None)
    return None if service is None else service.library.failure
