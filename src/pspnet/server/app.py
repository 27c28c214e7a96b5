"""The application: routes, and the way of one request through them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.openapi.utils import get_openapi
from starlette.types import Receive, Scope, Send

from pspnet import __version__
from pspnet.server.admission import Bodies, Gate
from pspnet.server.batching import Batcher, BatchJob, Found
from pspnet.server.decoding import DecoderPool
from pspnet.server.logs import Observed, logger
from pspnet.server.metrics import Metrics
from pspnet.server.models import Library, Source, describe
from pspnet.server.negotiation import Format, choose_format
from pspnet.server.problems import Problem, add_handlers
from pspnet.server.request_checks import Checked, is_key
from pspnet.server.responses import Wanted, make_answer, pick_classes
from pspnet.server.schema import (
    BODY,
    REFUSALS,
    SEGMENT_RESPONSES,
    FeatureCollection,
    ModelList,
    RunLengths,
    ServedModel,
    State,
)
from pspnet.server.settings import ServerSettings
from pspnet.server.sizes import brought_back, brought_to, wished_size
from pspnet.server.uploads import as_known, check, decode, read_body

T = TypeVar("T")
SLICE = 256 * 1024  # bytes of an answer that wait for its reader
HELPERS = 2  # threads that encode; the libraries release the interpreter's lock meanwhile

ModelName = Annotated[str | None, Query(description="Name of the model; the first where it is left out.")]


def create_app(models: Mapping[str, Source] | None = None, settings: ServerSettings | None = None) -> FastAPI:
    """The application for any ASGI server.

    models: name -> checkpoint, exported model, name of a model that comes along, or an open Segmenter; the first is
    the default; none at all is allowed. They are opened in the background after the start: until then /readyz and
    /v1/segment say 503.
    """
    settings = settings or ServerSettings()
    service = Service(dict(models or {}), settings)
    app = FastAPI(
        title="pspnet",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=service.lifespan,
        description="Scene parsing: an image in, a class for every pixel out.",
    )
    app.state.service = service
    app.state.draining = False
    app.add_middleware(Checked, settings=settings)
    app.add_middleware(Observed, owner=app, metrics=service.metrics)
    add_handlers(app)
    _add_routes(app, service)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


class Service:
    """What the routes share: models, gate, batcher, helpers."""

    def __init__(self, models: Mapping[str, Source], settings: ServerSettings) -> None:
        self.settings = settings
        self.library = Library(models, settings)
        self.gate, self.bodies = Gate(settings), Bodies(settings)
        self.decoders = DecoderPool(settings.decoders, settings.max_pixels)
        self.metrics = Metrics(lambda: self.gate.requests, lambda: self.batcher.waiting(), lambda: self.library.ready)
        self.batcher = Batcher(settings, lambda: self.gate.preparing, self.metrics.batch)
        self.helpers = ThreadPoolExecutor(HELPERS, "pspnet-helper")

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        stop = threading.Event()
        opening = threading.Thread(target=self._open, args=(stop,), name="pspnet-opening", daemon=True)
        self.batcher.start()
        opening.start()
        if self.library.sources:
            await self.decoders.start()
        try:
            yield
        finally:
            stop.set()
            self.decoders.close()
            self.batcher.stop()
            self.helpers.shutdown()

    def _open(self, stop: threading.Event) -> None:
        began = time.monotonic()
        self.library.open_all(stop)
        if self.library.failure is not None:
            logger.error("models cannot be opened", extra={"fields": {"reason": str(self.library.failure)}})
        elif self.library.ready:
            fields = {"models": list(self.library.opened), "seconds": round(time.monotonic() - began, 2)}
            logger.info("ready", extra={"fields": fields})

    async def help(self, work: Callable[..., T], *arguments: Any) -> T:
        """Runs it in a helper thread."""
        return await asyncio.get_running_loop().run_in_executor(self.helpers, work, *arguments)

    async def segment(
        self, request: Request, model: str | None, wanted: Wanted, class_names: list[str] | None, deadline_s: float
    ) -> Response:
        """One request, from its place in the queue to its answer."""
        notes = request.scope["pspnet"]
        name, segmenter = self.library.find(model)
        notes |= {"model": name, "format": wanted.format}
        wanted = replace(wanted, classes=pick_classes(class_names, segmenter))
        stages: dict[str, float] = {}
        notes["stages"] = stages
        began, part = time.monotonic(), "slow_body"

        def passed(stage: str) -> None:
            stages[stage] = time.monotonic() - began - sum(stages.values())

        self.gate.check()
        with ExitStack() as held:
            try:
                async with asyncio.timeout(deadline_s):
                    body = held.enter_context(self.bodies.enter())
                    data = await read_body(request, self.settings, body)
                    part = "deadline"
                    upload = check(data, self.settings)
                    notes |= {"bytes_in": len(data), "width": upload.width, "height": upload.height}
                    passed("read")
                    ticket = held.enter_context(self.gate.enter())
                    ticket.take_pixels(upload.pixels)
                    left_s = began + deadline_s - time.monotonic()
                    pixels = await decode(upload, segmenter, self.decoders, left_s)
                    del data, upload
                    body.give_back()
                    pixels = await self.help(as_known, pixels, segmenter)
                    passed("decode")
                    seen = await self.help(brought_to, pixels, segmenter, wanted.size)
                    job = BatchJob(name, segmenter, seen, wanted.needs_confidence, began + deadline_s)
                    self.batcher.submit(job)
                    ticket.hand_over()
                    found = await _result_or_gone(job, request)
                    stages |= {"wait": found.waited_s, "compute": found.computed_s}
                    notes["batch"] = found.batch
                    found = await self.help(brought_back, found, pixels)
                    answer = await self.help(make_answer, found, pixels, segmenter, wanted)
                    passed("encode")
            except TimeoutError:
                raise Problem(
                    part, f"{deadline_s:g} s passed; send less, allow more, or come when it is quieter"
                ) from None
        headers = {"x-model": name, "x-batch-size": str(found.batch), "vary": "accept", **answer.headers}
        return Sliced(answer.body, headers=headers, media_type=answer.media_type)


class Sliced(Response):
    """A response that is handed to the connection as the client takes it, instead of all at once."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = memoryview(self.body)
        for at in range(0, max(1, len(body)), SLICE):
            more = at + SLICE < len(body)
            await send({"type": "http.response.body", "body": bytes(body[at : at + SLICE]), "more_body": more})


async def _result_or_gone(job: BatchJob, request: Request) -> Found:
    """The batcher's result. Cancels the job when the client closes the connection, or the deadline passes."""
    result = asyncio.ensure_future(asyncio.wrap_future(job.future))
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((result, gone), return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            raise Problem("gone", "the client closed the connection")
        return result.result()
    finally:
        gone.cancel()
        if not result.done():
            result.cancel()  # reaches job.future, which the batcher then skips


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_routes(app: FastAPI, service: Service) -> None:
    settings, library = service.settings, service.library

    def need_key(request: Request) -> None:
        if settings.api_keys and not is_key(request.headers, settings.api_keys):
            raise Problem("no_key", "give this server's key in the header X-API-Key, or as Authorization: Bearer KEY")

    guarded = [Depends(need_key)]

    @app.post(
        "/v1/segment",
        dependencies=guarded,
        responses=SEGMENT_RESPONSES,
        openapi_extra=BODY,
        tags=["segment"],
        response_class=Response,
        summary="Parse one image",
    )
    async def segment(
        request: Request,
        model: ModelName = None,
        format: Annotated[
            Format | None,
            Query(
                description="Form of the answer. Left out: by the Accept header (image/png: labels, application/json: rle, "
                "application/geo+json: polygons).",
                examples=["polygons"],
            ),
        ] = None,
        confidence: Annotated[
            bool,
            Query(
                description="Also the probability of the labels: a mean in x-mean-confidence, and in JSON for each part.",
                examples=[True],
            ),
        ] = False,
        classes: Annotated[
            list[str] | None,
            Query(description="Only these classes; others become 255. Repeat it, or separate names by commas."),
        ] = None,
        opacity: Annotated[float, Query(ge=0, le=1, description="Of an overlay's colours.", examples=[0.5])] = 0.55,
        legend: Annotated[bool, Query(description="Adds a legend below an overlay.", examples=[True])] = False,
        size: Annotated[
            str | None,
            Query(
                description="What the photograph is looked at with: trained (the size the model knows; the default), native, or "
                "the longer side in pixels. The answer has the photograph's own size.",
                examples=["trained"],
            ),
        ] = None,
        deadline_s: Annotated[
            float | None,
            Query(
                gt=0,
                description="Seconds after which the answer is of no use; at most the server's own.",
                examples=[10],
            ),
        ] = None,
    ) -> Response:
        form = choose_format(format, request.headers.get("accept"))
        longest = min(deadline_s or settings.deadline_s, settings.deadline_s)
        wanted = Wanted(form, confidence, None, opacity, legend, wished_size(size))
        return await service.segment(request, model, wanted, classes, longest)

    @app.get(
        "/v1/model",
        dependencies=guarded,
        response_model=ServedModel,
        responses={k: REFUSALS[k] for k in (401, 404, 503)},
        tags=["models"],
        summary="Classes, colours, protocol, scores and provenance of a model",
    )
    def model(model: ModelName = None) -> dict[str, Any]:
        return describe(*library.find(model))

    @app.get(
        "/v1/models",
        dependencies=guarded,
        response_model=ModelList,
        responses={401: REFUSALS[401]},
        tags=["models"],
        summary="Names of the models",
    )
    def models() -> dict[str, Any]:
        return {"models": list(library.sources)}

    @app.get("/healthz", response_model=State, tags=["operation"], summary="The process lives")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        response_model=State,
        responses={503: REFUSALS[503]},
        tags=["operation"],
        summary="Every model is open, and requests are taken",
    )
    async def readyz() -> dict[str, str]:
        if library.failure is not None:
            raise Problem("not_ready", f"models cannot be opened: {library.failure}")
        if app.state.draining:
            raise Problem("not_ready", "the server is shutting down")
        if not library.ready:
            raise Problem("not_ready", f"{len(library.opened)} of {len(library.sources)} models are open", 2)
        return {"status": "ready"}

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(service.metrics.render(), media_type=service.metrics.content_type)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's description, with the shapes of answers that are made by hand."""
    if not app.openapi_schema:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        shapes = schema.setdefault("components", {}).setdefault("schemas", {})
        for kind in (RunLengths, FeatureCollection):
            own = kind.model_json_schema(ref_template="#/components/schemas/{model}")
            shapes |= own.pop("$defs", {})
            shapes[kind.__name__] = own
        keys = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
        schema["components"]["securitySchemes"] = {"key": keys}
        for path, operations in schema["paths"].items():
            if path.startswith("/v1/"):
                for operation in operations.values():
                    operation["security"] = [{}, {"key": []}]
        app.openapi_schema = schema
    return app.openapi_schema
