"""The application: its routes, and what stands before them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.openapi.utils import get_openapi
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import HTMLResponse

from pspnet import __version__
from pspnet.server.docs_page import POLICY, docs_page
from pspnet.server.label_studio import add_label_studio
from pspnet.server.logs import Observed
from pspnet.server.models import Source, describe
from pspnet.server.negotiation import Format, choose_format
from pspnet.server.problems import Problem, add_handlers
from pspnet.server.request_checks import Checked, is_key
from pspnet.server.responses import Wanted
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
from pspnet.server.service import Service
from pspnet.server.settings import ServerSettings
from pspnet.server.sizes import wished_size

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
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["accept", "authorization", "content-type", "x-api-key"],
            expose_headers=["x-model", "x-batch-size", "x-mean-confidence", "x-request-id", "retry-after"],
        )
    app.add_middleware(Checked, settings=settings)
    app.add_middleware(Observed, owner=app, metrics=service.metrics)
    add_handlers(app)
    _add_routes(app, service)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


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
            raise Problem("not_ready", "models cannot be opened; the server's log says why")
        if app.state.draining:
            raise Problem("not_ready", "the server is shutting down")
        if not library.ready:
            raise Problem("not_ready", f"{len(library.opened)} of {len(library.sources)} models are open", 2)
        return {"status": "ready"}

    if settings.label_studio:
        add_label_studio(app, service, guarded)

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi()), headers={"content-security-policy": POLICY})

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(service.metrics.render(), media_type=service.metrics.content_type)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's description, with the shapes of answers that are made by hand."""
    if not app.openapi_schema:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        shapes = schema.setdefault("components", {}).setdefault("schemas", {})
        for kind in (RunLengths, FeatureCollection):
            model_schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
            shapes |= model_schema.pop("$defs", {})
            shapes[kind.__name__] = model_schema
        keys = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
        schema["components"]["securitySchemes"] = {"key": keys}
        for path, operations in schema["paths"].items():
            if path.startswith("/v1/"):
                for operation in operations.values():
                    operation["security"] = [{}, {"key": []}]
        app.openapi_schema = schema
    return app.openapi_schema
