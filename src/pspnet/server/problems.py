"""How the server refuses: every refusal is one `Problem`, answered as RFC 9457 problem details."""

from __future__ import annotations

import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"
# code: (HTTP status, title). The code is what programs compare, and what logs and metrics count.
KINDS = {
    "bad_request": (400, "The request cannot be understood"),
    "no_key": (401, "An API key is needed"),
    "other_origin": (403, "Requests of other pages and unknown host names are not answered"),
    "not_found": (404, "There is no such thing"),
    "not_allowed": (405, "The method is not allowed here"),
    "not_acceptable": (406, "No answer has the type asked for"),
    "slow_body": (408, "The body did not arrive in time"),
    "too_large": (413, "The image is larger than this server allows"),
    "unsupported_type": (415, "The body is no image of a type that is read"),
    "bad_image": (422, "The image cannot be read"),
    "bad_parameter": (422, "A parameter is wrong"),
    "gone": (499, "The client closed the connection"),
    "fault": (500, "The server made a mistake"),
    "full": (503, "The server has as much to do as it can hold"),
    "not_ready": (503, "The server is not ready"),
    "deadline": (504, "The deadline passed"),
}


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """A refusal. kind: a key of KINDS. detail: what was wrong, what is allowed. retry_after_s: for 503."""

    def __init__(self, kind: str, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.retry_after_s = kind, detail, retry_after_s
        self.status, self.heading = KINDS[kind]


def answer_problem(request: Request, problem: Problem) -> JSONResponse:
    """The response, with Retry-After in whole seconds where the problem knows it."""
    request.scope.setdefault("pspnet", {})["refused"] = problem.kind
    content: dict[str, Any] = {
        "type": f"urn:pspnet:problem:{problem.kind}",
        "title": problem.heading,
        "status": problem.status,
        "detail": problem.detail.encode("utf-8", "backslashreplace").decode(),  # it may quote what is no text
        "request_id": request.scope["pspnet"].get("request_id", ""),
    }
    headers = {}
    if problem.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(problem.retry_after_s)))
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(content, problem.status, headers, MEDIA_TYPE)


def add_handlers(app: FastAPI) -> None:
    """Every way to fail ends as problem details: ours, the framework's, and faults."""

    async def ours(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)
        return answer_problem(request, error)

    async def validation(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        faults = []
        for fault in error.errors():
            name = ".".join(str(part) for part in fault["loc"] if part != "query")
            faults.append(f"{name} = {str(fault.get('input'))[:60]!r}: {fault['msg'][0].lower() + fault['msg'][1:]}")
        return answer_problem(request, Problem("bad_parameter", "; ".join(faults)))

    async def framework(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            problem = Problem(
                "not_found", f"no {request.method} {request.url.path}; GET /openapi.json lists what there is"
            )
        elif error.status_code == 405:
            problem = Problem("not_allowed", f"{request.url.path} does not answer {request.method}")
        else:
            problem = Problem("bad_request", str(error.detail))
        return answer_problem(request, problem)

    async def fault(request: Request, error: Exception) -> JSONResponse:
        return answer_problem(request, Problem("fault", "a fault of the server, not of the request; its log has more"))

    app.add_exception_handler(Problem, ours)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(HTTPException, framework)
    app.add_exception_handler(Exception, fault)
