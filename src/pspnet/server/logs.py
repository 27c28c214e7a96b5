"""One JSON object a line: what was asked, by which request id, how it ended and what took how long.

Never image contents, file names, queries or keys: a log is read by more people than the images are.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
import time
import traceback
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pspnet.server.metrics import Metrics

logger = logging.getLogger("pspnet.server")
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class JsonLines(logging.Formatter):
    """A record as one JSON object; `extra={"fields": {...}}` adds members."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        content: dict[str, Any] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0]:
            # file, line and kind of error; not its message, which may quote what was sent
            content["error"] = record.exc_info[0].__name__
            content["at"] = [f"{f.filename}:{f.lineno}" for f in traceback.extract_tb(record.exc_info[2])[-6:]]
        return json.dumps(content, ensure_ascii=False, default=str)


def log_to_stderr(level: str = "info") -> None:
    """Sends our lines and uvicorn's to standard error, as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("pspnet.server", "uvicorn", "uvicorn.error"):
        log = logging.getLogger(name)
        log.handlers, log.propagate = ([handler] if name != "uvicorn.error" else []), name == "uvicorn.error"
        log.setLevel(level.upper())
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # its start and stop lines repeat ours


class Observed:
    """ASGI middleware: a request id for each request, a log line and a count for each answer.

    A handler adds what it knows to `scope["pspnet"]`. While the server drains, each answer closes its connection, so
    that a client's next request goes to another server and not to a connection about to end.
    """

    def __init__(self, app: ASGIApp, owner: FastAPI, metrics: Metrics) -> None:
        self.app, self.owner, self.metrics = app, owner, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        notes: dict[str, Any] = {"request_id": given if _GIVEN_ID.fullmatch(given) else secrets.token_hex(8)}
        scope["pspnet"] = notes
        began, status, size = time.monotonic(), 500, 0

        async def sent(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", notes["request_id"].encode())]
                if getattr(self.owner.state, "draining", False):
                    message["headers"].append((b"connection", b"close"))
            else:
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, sent)
        finally:
            self._note(scope, notes, status, size, time.monotonic() - began)

    def _note(self, scope: Scope, notes: dict[str, Any], status: int, size: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None)
        if route is None and "refused" not in notes:
            return  # a page of something mounted here: not ours to count
        route = route or "none"
        self.metrics.requests.labels(route, notes.get("model", ""), str(status)).inc()
        if "refused" in notes:
            self.metrics.refused.labels(notes["refused"]).inc()
        if route == "/v1/segment" and status == 200:
            self.metrics.seconds.labels(notes.get("model", "")).observe(seconds)
        for stage, spent in notes.get("stages", {}).items():
            self.metrics.stages.labels(stage).observe(spent)
        quiet = route in ("/healthz", "/readyz", "/metrics") and status == 200
        fields = {
            "method": scope["method"],
            "route": route,
            "status": status,
            "seconds": round(seconds, 4),
            "bytes_out": size,
            **notes,
        }
        if "stages" in notes:
            fields["stages"] = {stage: round(spent, 4) for stage, spent in notes["stages"].items()}
        level = logging.DEBUG if quiet else logging.ERROR if status == 500 else logging.INFO
        logger.log(level, "request", extra={"fields": fields})
