"""A `pspnet serve` service, called from Python.

    with Client("http://127.0.0.1:8000") as client:
        scene = client.segment("street.jpg", confidence=True)     # a Segmentation, as Segmenter.segment gives
        scene.save_overlay("street_overlay.png")

Needs httpx and no torch. A 503 is tried again after the time that the server names.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import ImageError, ServiceError, require
from pspnet.images import decode_image, encode_png
from pspnet.labels import IGNORE, LabelSpace
from pspnet.predict.segmentation import Segmentation

require("httpx", "serve")
import httpx  # noqa: E402 - after the check that says what to install

Image = str | Path | bytes | NDArray[Any]


class Client:
    """Calls one server; may be shared by threads.

    url: such as "http://127.0.0.1:8000". api_key: what the server's PSPNET_API_KEY holds. timeout_s: for one try.
    retries: how often a 503 is tried again. patience_s: the longest that is waited in all between tries.
    Raises ServiceError with the server's words when it refuses, and when it cannot be reached.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = 60.0,
        retries: int = 5,
        patience_s: float = 120.0,
    ) -> None:
        headers = {"x-api-key": api_key} if api_key else {}
        try:
            self._http = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=timeout_s)
        except (httpx.InvalidURL, ValueError) as error:
            raise ServiceError(f"url = {url!r}: {error}; write it as http://127.0.0.1:8000") from error
        self.url, self.retries, self.patience_s = url, retries, patience_s
        self._spaces: dict[str | None, LabelSpace] = {}

    def segment(
        self,
        image: Image,
        *,
        model: str | None = None,
        confidence: bool = False,
        classes: Iterable[str] | None = None,
        size: str | int | None = None,
        deadline_s: float | None = None,
    ) -> Segmentation:
        """One image -> its Segmentation. classes: only these, other pixels are 255. Raises ServiceError, ImageError.

        size: what it is looked at with: "trained" (what None means), "native", or the pixels of the longer side.

        image: a file's path or bytes, or an array (H, W) or (H, W, 3 or 4), RGB, uint8 or uint16. confidence comes in
        steps of 1/255.
        """
        data = as_bytes(image)
        asked: dict[str, Any] = {
            "model": model,
            "confidence": confidence,
            "classes": classes,
            "size": size,
            "deadline_s": deadline_s,
        }
        certainty: NDArray[np.float32] | None = None
        if confidence:
            content = self.rle(data, **asked)
            labels = labels_of(content)
            shown = decode_image(base64.b64decode(content["confidence_png"]), "confidence", bands=1)
            certainty = shown[..., 0].astype(np.float32) / np.float32(255)
        else:
            labels = _codes(self.answer(data, "labels", **asked))
        name = Path(image).stem if isinstance(image, (str, Path)) else "image"
        return Segmentation(labels, self.label_space(model), certainty, _look(data), name)

    def overlay(self, image: Image, *, opacity: float = 0.55, legend: bool = False, **asked: Any) -> NDArray[np.uint8]:
        """(H, W [+ legend], 3) uint8: the classes' colours over the image. The other arguments are those of `answer`."""
        return decode_image(self.answer(image, "overlay", opacity=opacity, legend=legend, **asked), "overlay")

    def polygons(self, image: Image, **asked: Any) -> dict[str, Any]:
        """A GeoJSON feature collection in pixels, x right and y down: one polygon for each region."""
        answer: dict[str, Any] = self._json(self.answer(image, "polygons", **asked))
        return answer

    def rle(self, image: Image, **asked: Any) -> dict[str, Any]:
        """Each class as COCO's uncompressed run lengths; `labels_of` makes a label map of it."""
        answer: dict[str, Any] = self._json(self.answer(image, "rle", **asked))
        return answer

    def answer(
        self,
        image: Image,
        format: str = "labels",
        *,
        model: str | None = None,
        confidence: bool = False,
        classes: Iterable[str] | None = None,
        opacity: float | None = None,
        legend: bool | None = None,
        size: str | int | None = None,
        deadline_s: float | None = None,
    ) -> bytes:
        """The answer as it comes. format: labels, overlay, confidence (PNG), rle, polygons (JSON)."""
        asked: dict[str, Any] = {
            "format": format,
            "model": model,
            "confidence": confidence or None,
            "opacity": opacity,
            "legend": legend,
            "classes": None if classes is None else [classes] if isinstance(classes, str) else list(classes),
            "size": size,
            "deadline_s": deadline_s,
        }
        query = {name: value for name, value in asked.items() if value is not None}
        headers = {"content-type": "application/octet-stream"}
        return self._call("POST", "/v1/segment", params=query, content=as_bytes(image), headers=headers).content

    def model(self, name: str | None = None) -> dict[str, Any]:
        """Classes, colours, protocol, scores and provenance of a model; None is the server's first."""
        answer: dict[str, Any] = self._json(
            self._call("GET", "/v1/model", params={"model": name} if name else {}).content
        )
        return answer

    def models(self) -> list[str]:
        """The names of the server's models, the default first."""
        return list(self._json(self._call("GET", "/v1/models").content)["models"])

    def label_space(self, model: str | None = None) -> LabelSpace:
        """A model's classes; asked for once."""
        if model not in self._spaces:
            classes = self.model(model)["classes"]
            colours = tuple(_colour(entry["colour"]) for entry in classes)
            self._spaces[model] = LabelSpace(tuple(entry["name"] for entry in classes), colours)
        return self._spaces[model]

    def ready(self) -> bool:
        """Whether the server can be reached and takes requests."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def wait_until_ready(self, timeout_s: float = 60.0) -> None:
        """Returns when the server takes requests. Raises ServiceError when it does not in time."""
        until = time.monotonic() + timeout_s
        while not self.ready():
            if time.monotonic() > until:
                raise ServiceError(f"{self.url} was not ready within {timeout_s:g} s; its log says why")
            time.sleep(0.1)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        waited = 0.0
        for attempt in range(self.retries + 1):
            try:
                response = self._http.request(method, path, **arguments)
            except httpx.TimeoutException as error:
                raise ServiceError(f"{self.url} did not answer in time ({type(error).__name__})") from error
            except httpx.HTTPError as error:
                raise ServiceError(
                    f"{self.url} cannot be reached: {error or type(error).__name__}. Is it running?"
                ) from error
            if response.status_code != 503 or attempt == self.retries:
                break
            pause = _retry_after(response)
            if waited + pause > self.patience_s:
                break
            time.sleep(pause)
            waited += pause
        if response.status_code != 200:
            raise ServiceError(f"{self.url} answered {response.status_code}: {_told(response)}")
        return response

    def _json(self, content: bytes) -> Any:
        try:
            return httpx.Response(200, content=content).json()
        except ValueError as error:
            raise ServiceError(f"{self.url} answered with something that is no JSON; is it a pspnet server?") from error


def as_bytes(image: Image) -> bytes:
    """A file's bytes: read, taken as they are, or made from an array as PNG. Raises ImageError."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, (str, Path)):
        try:
            return Path(image).read_bytes()
        except OSError as error:
            raise ImageError(f"'{image}' cannot be read: {error.strerror or error}") from error
    return encode_png(np.asarray(image), "the array")


def labels_of(rle: dict[str, Any]) -> NDArray[np.uint8]:
    """Run lengths as the server gives them -> (H, W) uint8, 255 where no class is."""
    height, width = rle["height"], rle["width"]
    down = np.full(height * width, IGNORE, np.uint8)
    for segment in rle["segments"]:
        counts = np.asarray(segment["counts"])
        inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        down[: len(inside)][inside] = segment["index"]
    return np.ascontiguousarray(down.reshape(width, height).T)


def _codes(png: bytes) -> NDArray[np.uint8]:
    """The palette's indices of a label PNG."""
    import io

    from PIL import Image as Pillow

    return np.array(Pillow.open(io.BytesIO(png)), np.uint8)


def _look(data: bytes) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = decode_image(data, "image", bands=3)
    return pixels


def _colour(text: str) -> tuple[int, int, int]:
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def _retry_after(response: httpx.Response) -> float:
    """Seconds; 1 where the header is missing or is a date."""
    text = response.headers.get("retry-after", "")
    return max(float(text), 0.05) if text.replace(".", "", 1).isdigit() else 1.0


def _told(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200] or response.reason_phrase
