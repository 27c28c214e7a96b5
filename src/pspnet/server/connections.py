"""Connections that cost without asking anything: unfinished headers, silent ones, answers that nobody reads.

uvicorn waits for each of them for ever. Here each connection notes when it last moved, and `Connections.sweep`, called a
few times a second, ends those that have not:

    headers            complete within `deadline_s`, and not more than HEADER_S, from the first byte or the connection on
    an answer          its reader takes some bytes within `stall_s`, and all within ANSWER_S or `deadline_s`
    more than allowed  the one that has been idle the longest makes room for a new one (never one whose request is in work)

Bodies are timed where they are read (`uploads.py`), since their sender gets an answer.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from pspnet.server.logs import logger
from pspnet.server.settings import ServerSettings

HEADER_S, ANSWER_S = 10.0, 120.0
RESERVED_FILES = 64  # handles for models, decoders' pipes and the log


class Connections:
    """All connections of one server. `protocol` is what uvicorn makes one from."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.most = min(settings.connections, max(8, _file_handles() - RESERVED_FILES))
        self.open: set[Connection] = set()
        connections = self

        class LimitedConnection(Connection):
            def __init__(self, *arguments: Any, **options: Any) -> None:
                super().__init__(connections, *arguments, **options)

        self.protocol = LimitedConnection

    def add(self, new: Connection) -> None:
        """Takes a connection; another one that is idle, or else this one, leaves when there are too many."""
        self.open.add(new)
        if len(self.open) > self.most:
            idle = [one for one in self.open if one is not new and one.idle]
            leaving = min(idle, key=lambda one: one.moved, default=new)
            self._end(leaving, "too many connections")

    def sweep(self, now: float) -> None:
        """Ends what has not moved. now: the loop's time."""
        for one in list(self.open):
            why = one.overdue(now, self.settings)
            if why is not None:
                self._end(one, why)

    def sending(self) -> bool:
        """Whether an answer is still on its way to a reader."""
        return any(one.transport.get_write_buffer_size() for one in self.open)

    def end_work(self) -> None:
        """Cuts off what is still in work; uvicorn closes the idle ones itself."""
        for one in [one for one in self.open if not one.idle]:
            self._end(one, "the server ends")

    def _end(self, one: Connection, why: str) -> None:
        logger.debug("connection ended", extra={"fields": {"reason": why}})
        self.open.discard(one)
        one.transport.abort()


class Connection(H11Protocol):
    """uvicorn's connection with its times. moved: when it last did something; since: when what it does now began."""

    def __init__(self, owner: Connections, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.owner = owner
        self.moved = self.since = self.loop.time()
        self.unsent = 0
        self.answering_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.moved = self.since = self.loop.time()
        self.owner.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.owner.open.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        now = self.loop.time()
        if self.idle and self.timeout_keep_alive_task is not None:
            self.since = now  # the first byte of a further request
        self.moved = now
        super().data_received(data)

    def on_response_complete(self) -> None:
        self.moved = self.since = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Behind a request's head came what is no HTTP: uvicorn answers by itself, and the request in work no more. Where its
        answer has begun there is no second one."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
                return
        super().send_400_response(msg)

    def resume_writing(self) -> None:
        self.moved = self.loop.time()
        super().resume_writing()

    @property
    def idle(self) -> bool:
        """No request is in work, and no answer is on its way."""
        done = self.cycle is None or self.cycle.response_complete
        return done and (self.transport is None or not self.transport.get_write_buffer_size())

    def overdue(self, now: float, settings: ServerSettings) -> str | None:
        """Why this connection should end; None where it may go on."""
        unsent = self.transport.get_write_buffer_size()
        if unsent:
            self.answering_since = self.answering_since if self.answering_since is not None else now
            if unsent < self.unsent or not self.unsent:
                self.moved = now
            self.unsent = unsent
            if now - self.moved > settings.stall_s:
                return "an answer was not read"
            if now - self.answering_since > max(ANSWER_S, settings.deadline_s):
                return "an answer was read too slowly"
            return None
        self.unsent = 0
        if self.cycle is None or self.cycle.response_complete:
            self.answering_since = None
            waits_for_head = self.timeout_keep_alive_task is None and self.conn.their_state is h11.IDLE
            if waits_for_head and now - self.since > min(HEADER_S, settings.deadline_s):
                return "the headers did not arrive"
            if self.conn.their_state is h11.SEND_BODY and now - self.since > HEADER_S:
                return "the rest of a body that was refused"
            if self.transport.is_closing() and now - self.moved > settings.stall_s:
                return "closed, and not taken note of"
        return None


def _file_handles() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 1 << 16
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return soft if soft > 0 else 1 << 16
