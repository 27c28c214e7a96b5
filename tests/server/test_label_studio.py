"""Label Studio's requests, recorded, against the service; its images come from a stand-in of it and from nowhere else."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from pspnet.errors import ConfigError
from pspnet.integrations.label_studio import configuration, read_configuration
from pspnet.predict.segmenter import Segmenter
from pspnet.server import ServerSettings, create_app
from support.graphs import write_graph
from support.paths import GOLDEN

PIXELS = np.zeros((12, 16, 3), np.uint8)
PIXELS[..., 0] = 200  # red, with a blue square and a green row that the configuration has no label for
PIXELS[3:8, 4:9] = (0, 0, 220)
PIXELS[10] = (0, 180, 0)


def recorded(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / "label_studio" / f"{name}.json").read_text())


def png() -> bytes:
    data = io.BytesIO()
    Image.fromarray(PIXELS).save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="module")
def studio() -> Iterator[str]:
    """A Label Studio that gives one upload to who has the token, and sends elsewhere for another."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            known = self.headers.get("authorization") in ("Token secret", "Bearer short-lived")
            status = (
                401
                if not known
                else 200
                if self.path == "/data/upload/3/photo.png"
                else 302
                if "away" in self.path
                else 404
            )
            body = png() if status == 200 else b""
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            if status == 302:
                self.send_header("location", "http://169.254.169.254/latest/meta-data")
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            given = json.loads(self.rfile.read(int(self.headers["content-length"])))
            body = json.dumps({"access": "short-lived"}).encode()
            self.send_response(200 if self.path == "/api/token/refresh" and given == {"refresh": "a.b.c"} else 400)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def backend(tmp_path: Path, studio: str, key: str = "secret", **settings: Any) -> TestClient:
    write_graph(tmp_path / "tiny.onnx")
    model = Segmenter.load(tmp_path / "tiny.onnx")
    given = ServerSettings(hosts=("testserver",), decoders=1, label_studio=studio, label_studio_key=key, **settings)
    app = create_app({"tiny": model}, given)
    app.state.service.library.opened["tiny"] = model  # open already: its warming up is not waited for
    return TestClient(app)


def decoded(rle: list[int]) -> np.ndarray:
    bits = "".join(f"{byte:08b}" for byte in rle)
    count, position, out = int(bits[:32], 2), 53, list[int]()
    while len(out) < count:
        size = (3, 4, 8, 16)[int(bits[position + 1 : position + 3], 2)]
        length = int(bits[position + 3 : position + 3 + size], 2) + 1
        out += [int(bits[position + 3 + size : position + 11 + size], 2)] * length
        position += 11 + size
    return np.array(out).reshape(*PIXELS.shape[:2], 4)[..., 3] > 0


def test_setup_and_predict_as_recorded(tmp_path: Path, studio: str) -> None:
    with backend(tmp_path, studio) as http:
        assert http.get("/health").json()["status"] == "UP"
        assert http.post("/setup", json=recorded("setup")).json() == {"model_version": "tiny"}
        reply = http.post("/predict", json=recorded("predict"))
        assert reply.status_code == 200, reply.text
        actual = reply.json()
        assert http.post("/predict", json=recorded("predict") | {"tasks": []}).json()["results"] == []
    assert actual["model_version"] == "tiny"
    (result,) = actual["results"]
    assert 0 < result["score"] <= 1
    regions = {region["value"]["brushlabels"][0]: region for region in result["result"]}
    assert sorted(regions) == ["Red", "blue"]  # as the configuration writes them; green has no label there
    for region in regions.values():
        assert (region["from_name"], region["to_name"], region["type"]) == ("tag", "image", "brushlabels")
        assert (region["original_width"], region["original_height"], region["image_rotation"]) == (16, 12, 0)
        assert region["value"]["format"] == "rle"
    np.testing.assert_array_equal(decoded(regions["blue"]["value"]["rle"]), PIXELS[..., 2] > 0)
    np.testing.assert_array_equal(decoded(regions["Red"]["value"]["rle"]), PIXELS[..., 0] > 0)
    assert len({region["id"] for region in regions.values()}) == 2


def ask(http: TestClient, image: Any) -> tuple[int, str]:
    content = recorded("predict")
    content["tasks"][0]["data"] = {"image": image}
    reply = post(http, content)
    return reply.status_code, reply.text


def post(http: TestClient, content: Any) -> Any:
    """Posts any JSON, of texts that are none too."""
    return http.post("/predict", content=json.dumps(content), headers={"content-type": "application/json"})


def test_only_label_studio_itself_is_asked(tmp_path: Path, studio: str) -> None:
    inline = "data:image/png;base64," + base64.b64encode(png()).decode()
    with backend(tmp_path, studio) as http:
        assert ask(http, inline)[0] == 200
        assert ask(http, f"{studio}/data/upload/3/photo.png")[0] == 200
        for elsewhere in ("http://169.254.169.254/latest", "//example.org/a.png", "file:///etc/passwd", "s3://b/k.png"):
            status, text = ask(http, elsewhere)
            assert status == 422, elsewhere
            assert "the only place where this server fetches" in text or "404" in text or "cannot be fetched" in text
        for nowhere in ("http://[", "/a\x01b", "/\ud800", "/" + "a" * 70000, "http://ls\\@x/"):
            status, text = ask(http, nowhere)
            assert (status, "the only place" in text or "cannot be fetched" in text or "404" in text) == (422, True)
        assert "redirects to other places are not followed" in ask(http, "/data/away.png")[1]
        assert "404" in ask(http, "/data/none.png")[1]
        for wrong in ("data:image/png;base64,***", "", 7, None):
            assert ask(http, wrong)[0] == 422


def test_what_lies_beside_label_studio_is_not_shown_the_token(tmp_path: Path, studio: str) -> None:
    with backend(tmp_path, f"{studio}/data/upload") as http:
        assert ask(http, "3/photo.png")[0] == 200
        for elsewhere in (f"{studio}/other/3/photo.png", "../other", "3/%2e%2e/%2e%2e/other", "/../../other"):
            assert "the only place where this server fetches" in ask(http, elsewhere)[1], elsewhere


def test_an_answer_of_label_studio_that_is_none(tmp_path: Path, studio: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def post(*_: Any, **__: Any) -> httpx.Response:
        return httpx.Response(200, content=b"<html>")

    monkeypatch.setattr(httpx.AsyncClient, "post", post)
    with backend(tmp_path, studio, key="a.b.c") as http:
        assert "cannot be fetched" in ask(http, "/data/upload/3/photo.png")[1]


def test_tokens(tmp_path: Path, studio: str) -> None:
    """A personal access token is exchanged for one that lives for minutes; without one the way out is told."""
    with backend(tmp_path, studio, key="a.b.c") as http:
        assert ask(http, "/data/upload/3/photo.png")[0] == 200
    with backend(tmp_path, studio, key="") as http:
        assert "LABEL_STUDIO_API_KEY" in ask(http, "/data/upload/3/photo.png")[1]


def test_the_servers_own_key_is_basic_auths_password(tmp_path: Path, studio: str) -> None:
    with backend(tmp_path, studio, api_keys=("k1",)) as http:
        assert http.post("/setup", json=recorded("setup")).status_code == 401
        assert http.post("/setup", json=recorded("setup"), auth=("anybody", "k1")).status_code == 200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_config": None}, "configuration is missing"),
        ({"label_config": "<View>"}, "is no XML"),
        ({"label_config": '<!DOCTYPE x [<!ENTITY a "b">]><View/>'}, "declarations"),
        ({"label_config": "<View><Text name='t' value='$t'/></View>"}, "has no BrushLabels over an Image"),
        ({"tasks": "all"}, "a list of at most"),
        ({"tasks": [{"id": "\ud800"}]}, "has no text in data.image"),
    ],
)
def test_what_cannot_be_is_told(tmp_path: Path, studio: str, change: dict[str, Any], message: str) -> None:
    with backend(tmp_path, studio) as http:
        reply = post(http, recorded("predict") | change)
        assert reply.status_code == 422
        assert message in reply.json()["detail"]


def test_bodies_that_are_no_json(tmp_path: Path, studio: str) -> None:
    with backend(tmp_path, studio, max_mib=0.001) as http:
        for body, status in ((b"{", 400), (b"[]", 400), (b"[" * 900, 400), (b" " * 5000, 413)):
            assert (
                http.post("/predict", content=body, headers={"content-type": "application/json"}).status_code == status
            )
        assert http.post("/predict", content=b"{}", headers={"content-type": "text/plain"}).status_code == 415


def test_a_body_of_many_values_costs_no_memory(tmp_path: Path, studio: str) -> None:
    with backend(tmp_path, studio) as http:
        body = b'{"tasks": [' + b"{}," * 600_000 + b"{}]}"
        reply = http.post("/predict", content=body, headers={"content-type": "application/json"})
        assert (reply.status_code, "values" in reply.json()["detail"]) == (413, True)


def test_the_routes_are_there_only_when_asked_for(tmp_path: Path) -> None:
    with backend(tmp_path, "") as http:
        assert http.post("/predict", json=recorded("predict")).status_code == 404
    with pytest.raises(ConfigError, match="label_studio = 'localhost'"):
        ServerSettings(label_studio="localhost")


def test_a_configuration_for_a_model() -> None:
    classes = ("sky", "a & b", "tree")
    text = configuration(classes, ((0, 0, 255), (1, 2, 3), (0, 255, 0)))
    task = read_configuration(text, classes)
    assert dict(task.labels) == {name: name for name in classes}
    assert (task.from_name, task.to_name, task.key) == ("label", "image", "image")
    assert "#0000ff" in text
    with pytest.raises(ConfigError, match="none of the labels"):
        read_configuration(text, ("other",))
