"""What is looked at before a request reaches its route: framing, Host and Origin, and the key."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping, Sequence

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from pspnet.server.origin_checks import refused
from pspnet.server.problems import Problem, answer_problem
from pspnet.server.settings import ServerSettings


class Checked:
    """ASGI middleware. 400 and the connection's end for Content-Length beside Transfer-Encoding; 403 for other origins.

    Two lengths are how a request is hidden in another one's body (RFC 9112, 6.1): a proxy takes one, a server the other.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self.app, self.any_host = app, settings.any_host
        self.hosts = frozenset(host.lower() for host in settings.hosts)
        self.origins = frozenset(settings.origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self._problem(scope) if scope["type"] == "http" else None
        if problem is None:
            await self.app(scope, receive, send)
            return
        response = answer_problem(Request(scope), problem)
        if problem.kind == "bad_request":
            response.headers["connection"] = "close"
        await response(scope, receive, send)

    def _problem(self, scope: Scope) -> Problem | None:
        names = [name for name, _ in scope["headers"]]
        if b"transfer-encoding" in names and (b"content-length" in names or scope.get("http_version") == "1.0"):
            return Problem(
                "bad_request", "Content-Length and Transfer-Encoding together, or in HTTP/1.0: send one of them"
            )
        if self.any_host:
            return None
        refusal = refused(scope, self.hosts, self.origins)
        if refusal is None:
            return None
        return Problem("bad_request" if refusal[0] == 400 else "other_origin", refusal[1])


def is_key(headers: Mapping[str, str], keys: Sequence[str]) -> bool:
    """Whether a request brings one of the keys: in X-API-Key, as `Authorization: Bearer KEY`, or as the password of Basic."""
    given = headers.get("x-api-key")
    if given is None:
        scheme, _, rest = headers.get("authorization", "").partition(" ")
        given = {"bearer": rest, "basic": _password(rest)}.get(scheme.lower(), "")
    # compared in constant time, with every key, so that time tells nothing
    right = [hmac.compare_digest(given.strip().encode(), key.encode()) for key in keys]
    return any(right)


def _password(coded: str) -> str:
    """Of "NAME:PASSWORD" in base64; empty where it is none."""
    try:
        return base64.b64decode(coded.strip(), validate=True).decode().partition(":")[2]
    except ValueError:
        return ""
