"""What Prometheus reads at /metrics. A registry for each application, so that two in one process stay apart."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The server's counters. Labels hold names that the server itself chose, so their number is bounded."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, in_work: Callable[[], int], waiting: Callable[[], int], ready: Callable[[], bool]) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter(
            "pspnet_requests",
            "Requests answered, by route, model and status.",
            ["route", "model", "status"],
            registry=registry,
        )
        self.refused = Counter("pspnet_refused", "Requests refused, by reason.", ["reason"], registry=registry)
        self.seconds = Histogram(
            "pspnet_request_seconds",
            "From the first byte to the answer, of /v1/segment with status 200.",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.stages = Histogram(
            "pspnet_stage_seconds",
            "Parts of a request: read, decode, wait, compute (of its batch), encode.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batches = Histogram(
            "pspnet_batch_images", "Images computed together.", ["model"], buckets=_IMAGES, registry=registry
        )
        self.pixels = Counter("pspnet_pixels", "Pixels computed.", ["model"], registry=registry)
        self.busy = Counter("pspnet_compute_seconds", "Time spent computing.", ["model"], registry=registry)
        for name, text, read in (
            ("pspnet_requests_in_work", "Requests that entered and have no answer yet.", in_work),
            ("pspnet_images_waiting", "Images that wait for a batch.", waiting),
            ("pspnet_ready", "1 when every model is open and the server takes requests.", ready),
        ):
            Gauge(name, text, registry=registry).set_function(read)
        ProcessCollector(registry=registry)

    def batch(self, model: str, images: int, pixels: int, seconds: float) -> None:
        """One batch was computed."""
        self.batches.labels(model).observe(images)
        self.pixels.labels(model).inc(pixels)
        self.busy.labels(model).inc(seconds)

    def render(self) -> bytes:
        return generate_latest(self.registry)
