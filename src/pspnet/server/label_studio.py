"""Label Studio's machine learning backend: /health, /setup and /predict, beside the service's own routes.

They are there only where `label_studio` names the one Label Studio whose images may be fetched: a task says where its image is, and a
server that fetched whatever it is told would fetch from its own network for strangers (SSRF).
"""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import httpx
from fastapi import FastAPI, Request
from numpy.typing import NDArray

from pspnet.errors import ConfigError
from pspnet.integrations.label_studio import BrushTask, prediction, read_configuration
from pspnet.predict.segmentation import Segmentation
from pspnet.server.admission import Body
from pspnet.server.batching import Found
from pspnet.server.problems import Problem
from pspnet.server.service import Service
from pspnet.server.settings import ServerSettings
from pspnet.server.uploads import read_json

MOST_TASKS = 64
MOST_VALUES = 1_000_000  # of a body: each takes some 70 bytes of memory, where it is two in the body
CONNECT_S = 5.0  # until Label Studio takes a connection


def add_label_studio(app: FastAPI, service: Service, guarded: list[Any]) -> None:
    """Adds the three routes. guarded: what asks for the server's key; Label Studio sends it as the password of basic auth."""
    settings = service.settings

    @app.get("/health", tags=["label studio"], summary="Label Studio: the backend is up")
    async def health() -> dict[str, str]:
        return {"status": "UP", "model_class": "pspnet"}

    @app.post("/setup", dependencies=guarded, tags=["label studio"], summary="Label Studio: a project is connected")
    async def setup(request: Request) -> dict[str, str]:
        name, segmenter = service.library.find(None)
        content = await _content(request, service)
        if content.get("schema"):
            _task_of(content["schema"], segmenter.classes)
        return {"model_version": name}

    @app.post("/predict", dependencies=guarded, tags=["label studio"], summary="Label Studio: brush masks for tasks")
    async def predict(request: Request) -> dict[str, Any]:
        name, segmenter = service.library.find(None)
        content = await _content(request, service)
        tasks = content.get("tasks")
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks) or len(tasks) > MOST_TASKS:
            raise Problem("bad_parameter", f"tasks: a list of at most {MOST_TASKS} tasks is taken")
        brush = _task_of(content.get("label_config"), segmenter.classes)
        space = segmenter.card.label_space

        def finish(result: Found, _: NDArray[Any]) -> dict[str, Any]:
            return prediction(Segmentation(result.labels, space, result.confidence), brush, name)

        results = []
        for task in tasks:
            data = task.get("data")
            address = data.get(brush.key) if isinstance(data, dict) else None
            if not isinstance(address, str) or not address:
                raise Problem(
                    "bad_parameter", f"task {str(task.get('id'))[:20]!r} has no text in data.{brush.key[:60]}"
                )

            async def read(body: Body, address: str = address) -> bytes:
                return await _image(address, settings, body)

            results.append((await service.parsed(request, None, read, finish, "trained", True, settings.deadline_s))[2])
        return {"results": results, "model_version": name}


async def _content(request: Request, service: Service) -> dict[str, Any]:
    with service.bodies.enter() as body:
        data = await read_json(request, service.settings, body)
    if sum(map(data.count, (b",", b"[", b"{"))) > MOST_VALUES:  # commas of texts too, of which an image's has one
        raise Problem("too_large", f"the body has more than {MOST_VALUES:,} values; send fewer tasks at once")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Problem("bad_request", f"the body is no JSON: {str(error)[:200]}") from None
    if not isinstance(content, dict):
        raise Problem("bad_request", "the body is no JSON object")
    return content


def _task_of(text: Any, classes: tuple[str, ...]) -> BrushTask:
    if not isinstance(text, str) or not text.strip():
        raise Problem("bad_parameter", "label_config: the project's labelling configuration is missing")
    try:
        return read_configuration(text, classes)
    except ConfigError as error:
        raise Problem("bad_parameter", str(error)[:1000]) from None


async def _image(address: str, settings: ServerSettings, body: Body) -> bytes:
    """The bytes behind a task's image: within the task itself (data:), or at the Label Studio that the server knows."""
    if address.startswith("data:"):
        head, _, coded = address.partition(",")
        try:
            data = base64.b64decode(coded, validate=True) if head.endswith(";base64") else b""
        except ValueError:
            data = b""
        if not data or len(data) > settings.max_bytes:
            raise Problem(
                "bad_image", f"the task's data: URL holds no base64, or more than {settings.max_bytes:,} bytes"
            )
        body.grow(len(data))
        body.complete()
        return data
    home = settings.label_studio.rstrip("/") + "/"
    try:
        url = urljoin(home, address.lstrip("/") if address.startswith("/") else address)
        below = url.startswith(home) and ".." not in unquote(urlsplit(url).path).split("/")
    except ValueError:
        below = False
    if not below:  # what lies beside it on that host may be another program, which is not shown the token
        raise Problem(
            "bad_parameter",
            f"the image {address[:200]!r} is not at {settings.label_studio}, the only place where this server fetches; let Label "
            "Studio serve it (uploads and local files), or start with another --label-studio",
        )
    return await _fetched(url, settings, body)


async def _fetched(url: str, settings: ServerSettings, body: Body) -> bytes:
    data = bytearray()
    try:
        timeout = httpx.Timeout(settings.stall_s, connect=CONNECT_S)
        async with httpx.AsyncClient(timeout=timeout, follow_redirects=False, trust_env=False) as client:
            headers = await _authorization(client, settings)
            async with client.stream("GET", url, headers=headers) as answer:
                if answer.status_code != 200:
                    hint = {
                        401: "set LABEL_STUDIO_API_KEY to a token of it",
                        404: "it has no such file",
                    }.get(
                        answer.status_code, "redirects to other places are not followed" if answer.is_redirect else ""
                    )
                    raise Problem(
                        "bad_image", f"Label Studio answers {answer.status_code} for {url[:300]!r}: {hint}".rstrip(": ")
                    )
                async for part in answer.aiter_bytes():
                    data += part
                    body.grow(len(part))
                    if len(data) > settings.max_bytes:
                        raise Problem(
                            "too_large", f"the image has more than {settings.max_bytes:,} bytes, the most that is taken"
                        )
    except Problem:
        raise
    except Exception as error:  # httpx's, and those of addresses and answers that are none
        reason = f"{type(error).__name__} {error}".strip()[:300]
        raise Problem("bad_image", f"{url[:300]!r} cannot be fetched: {reason}") from None
    body.complete()
    return bytes(data)


async def _authorization(client: httpx.AsyncClient, settings: ServerSettings) -> dict[str, str]:
    """A legacy token is sent as it is; a personal access token (a JWT) is exchanged for one that lives for minutes."""
    key = settings.label_studio_key
    if not key:
        return {}
    if key.count(".") != 2:
        return {"authorization": f"Token {key}"}
    answer = await client.post(settings.label_studio.rstrip("/") + "/api/token/refresh", json={"refresh": key})
    if answer.status_code != 200:
        raise Problem(
            "bad_image", f"Label Studio does not take the token of LABEL_STUDIO_API_KEY ({answer.status_code})"
        )
    return {"authorization": f"Bearer {answer.json()['access']}"}
