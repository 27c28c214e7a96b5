"""Origin and Host checks of the page (see `pspnet.server.origin_checks`), paths that lead out, and what a page may load."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import unquote

from pspnet.server.origin_checks import refused

log = logging.getLogger("pspnet.playground")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# what a page may load: its own files, and pictures that are written into it. Gradio's page has scripts in its HTML.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' ws: wss:; worker-src 'self' blob:; "
    "frame-src 'self' data:; object-src 'none'; base-uri 'self'; frame-ancestors 'self'; form-action 'self'"
)


class Guard:
    """ASGI middleware. Refuses (403) other origins and unknown host names, and (400) paths with '..' or a backslash.

    hosts: names under which the page may be asked for, besides IP addresses and localhost: an address cannot be bent to
    another machine, a name can (DNS rebinding).
    """

    def __init__(self, app: App, hosts: Sequence[str] = ()) -> None:
        self.app, self.hosts = app, frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = self.refusal(scope)
        if refusal is None:
            await self._pass_on(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _answer(send, *refusal)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Gradio lets errors of a client's making through (an event stream of a session that is none): a line, no more.

        At the server's end the streams that browsers hold open are closed, without a word.
        """
        response = _Response(send)
        try:
            await self.app(scope, receive, response.send)
        except asyncio.CancelledError:
            if scope["type"] == "http":
                await response.end()
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            log.warning(
                "a request ended with %s (%s:%d): %s",
                type(error).__name__,
                frame.filename,
                frame.lineno,
                scope.get("path"),
            )

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """(status, message) for a request that is refused; None for one that may pass."""
        refusal = refused(scope, self.hosts)
        if refusal is not None:
            return refusal
        path = scope.get("path", "")
        raw = scope.get("raw_path", b"").decode("latin-1")
        for text in (path, unquote(path), unquote(unquote(raw))):
            parts = text.replace("file=", "file=/").replace("\\", "/").split("/")
            if ".." in parts or "\0" in text:
                return 400, "a path with '..' is refused"
            if "file=http:" in text or "file=https:" in text:
                return 400, "files of other servers are not fetched here"
        return None


class _Response:
    """Sends an answer with the policy in its headers, and knows how far it is."""

    def __init__(self, send: Send) -> None:
        self._send, self._started, self._ended = send, False, False

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            extra = [
                (b"content-security-policy", POLICY.encode()),
                (b"x-content-type-options", b"nosniff"),
                (b"referrer-policy", b"no-referrer"),
            ]
            message["headers"] = [*message.get("headers", []), *extra]
        self._ended = message["type"] == "http.response.body" and not message.get("more_body")
        await self._send(message)

    async def end(self) -> None:
        """Ends an answer that is not whole."""
        if not self._started:
            await _answer(self._send, 503, "the playground has ended")
        elif not self._ended:
            await self._send({"type": "http.response.body", "body": b""})


async def _answer(send: Send, status: int, text: str) -> None:
    body = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
