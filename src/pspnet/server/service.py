"""What the routes share: models, the gate, the batcher, the threads that encode; and an image's way through them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from numpy.typing import NDArray
from starlette.types import Receive, Scope, Send

from pspnet.predict.scale import Wish
from pspnet.server.admission import Bodies, Body, Gate
from pspnet.server.batching import Batcher, BatchJob, Found
from pspnet.server.decoding import DecoderPool
from pspnet.server.logs import logger
from pspnet.server.metrics import Metrics
from pspnet.server.models import Library, Source
from pspnet.server.problems import Problem
from pspnet.server.responses import Answer, Wanted, make_answer, pick_classes
from pspnet.server.settings import ServerSettings
from pspnet.server.sizes import brought_back, brought_to
from pspnet.server.uploads import as_known, check, decode, read_body

T = TypeVar("T")
SLICE = 256 * 1024  # bytes of an answer that wait for its reader
HELPERS = 2  # threads that encode; the libraries release the interpreter's lock meanwhile


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
        """One request of /v1/segment, from its place in the queue to its answer."""
        segmenter = self.library.find(model)[1]
        wanted = replace(wanted, classes=pick_classes(class_names, segmenter))
        request.scope["pspnet"]["format"] = wanted.format

        def finish(result: Found, pixels: NDArray[Any]) -> Answer:
            return make_answer(result, pixels, segmenter, wanted)

        async def read(body: Body) -> bytes:
            return await read_body(request, self.settings, body)

        name, result, answer = await self.parsed(
            request, model, read, finish, wanted.size, wanted.needs_confidence, deadline_s
        )
        headers = {"x-model": name, "x-batch-size": str(result.batch), "vary": "accept", **answer.headers}
        return Sliced(answer.body, headers=headers, media_type=answer.media_type)

    async def parsed(
        self,
        request: Request,
        model: str | None,
        read: Callable[[Body], Awaitable[bytes]],
        finish: Callable[[Found, NDArray[Any]], T],
        size: Wish,
        confidence: bool,
        deadline_s: float,
    ) -> tuple[str, Found, T]:
        """One image through all limits: the model's name, what it found at the image's own size, and what `finish` made of that.

        read: gets the image's bytes. finish(result, pixels): runs in a helper thread. Raises Problem.
        """
        notes = request.scope["pspnet"]
        name, segmenter = self.library.find(model)
        stages: dict[str, float] = {}
        notes |= {"model": name, "stages": stages}
        began, part = time.monotonic(), "slow_body"

        def passed(stage: str) -> None:
            stages[stage] = time.monotonic() - began - sum(stages.values())

        self.gate.check()
        with ExitStack() as held:
            try:
                async with asyncio.timeout(deadline_s):
                    body = held.enter_context(self.bodies.enter())
                    data = await read(body)
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
                    scaled = await self.help(brought_to, pixels, segmenter, size)
                    job = BatchJob(name, segmenter, scaled, confidence, began + deadline_s)
                    self.batcher.submit(job)
                    ticket.hand_over()
                    result = await _result_or_gone(job, request)
                    stages |= {"wait": result.waited_s, "compute": result.computed_s}
                    notes["batch"] = result.batch
                    result = await self.help(brought_back, result, pixels)
                    parsed_answer = await self.help(finish, result, pixels)
                    passed("encode")
            except TimeoutError:
                raise Problem(
                    part, f"{deadline_s:g} s passed; send less, allow more, or come when it is quieter"
                ) from None
        return name, result, parsed_answer


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
