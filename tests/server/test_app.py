"""The service as its callers meet it: a real process, asked through pspnet.client and through bare HTTP."""

from __future__ import annotations

import base64
import io
import json
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import shapely
from PIL import Image

from pspnet import ModelConfig, PSPNet, Segmenter
from pspnet.cli import _run
from pspnet.client import Client, as_bytes, labels_of
from pspnet.data.catalog import open_dataset
from pspnet.errors import ConfigError, ServiceError
from pspnet.server import ServerSettings, create_app
from pspnet.server.models import name_models
from pspnet.server.negotiation import choose_format
from pspnet.server.problems import Problem
from pspnet.server.schema import FeatureCollection, Refusal, RunLengths, ServedModel
from support.graphs import write_graph
from support.services import Running, serving, sleeping, wake


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """A generated scene that the bundled model knows, (96, 128, 3)."""
    return np.asarray(open_dataset("scenes", None, "val", count=1, size=128)[0].image)[:96]


@pytest.fixture(scope="module")
def scenes() -> Segmenter:
    return Segmenter.load("scenes", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two models: the bundled one, and an ONNX graph. Two keys."""
    path = tmp_path_factory.mktemp("models") / "tiny.onnx"
    write_graph(path)
    arguments = ("scenes", f"small={path}", "--precision", "fp32", "--threads", "1", "--max-megapixels", "0.5")
    with serving(*arguments, PSPNET_API_KEY="secret,other") as running:
        running.wait_for("ready")
        yield running


@pytest.fixture(scope="module")
def client(served: Running) -> Iterator[Client]:
    with Client(served.url, api_key="secret") as client:
        yield client


@pytest.fixture(scope="module")
def http(served: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, headers={"authorization": "Bearer other"}, timeout=60) as http:
        yield http


def same(actual: np.ndarray, expected: np.ndarray) -> bool:
    """Equal but for a few pixels on a border, where another batching or layout may round otherwise."""
    return actual.shape == expected.shape and float((actual == expected).mean()) > 0.999


def test_the_client_gives_what_the_segmenter_gives(client: Client, scenes: Segmenter, scene: np.ndarray) -> None:
    expected = scenes.segment(scene)
    actual = client.segment(scene, confidence=True)
    assert same(actual.labels, expected.labels)
    assert len(expected.shares()) > 2
    assert actual.classes == expected.classes
    assert actual.colours == expected.colours
    np.testing.assert_allclose(actual.confidence, expected.confidence, atol=0.02)
    np.testing.assert_array_equal(actual.image, scene)
    assert same(client.segment(scene).labels, expected.labels)


def test_files_bytes_and_arrays_are_one(client: Client, scene: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(as_bytes(scene))
    from_file = client.segment(tmp_path / "a.png")
    assert from_file.name == "a"
    assert same(from_file.labels, client.segment(as_bytes(scene)).labels)
    assert same(client.segment(np.dstack([scene, np.full(scene.shape[:2], 255, np.uint8)])).labels, from_file.labels)


def test_a_label_png_has_the_classes_colours(http: httpx.Client, scene: np.ndarray, scenes: Segmenter) -> None:
    answer = http.post("/v1/segment", content=as_bytes(scene))
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-model"] == "scenes"
    image = Image.open(io.BytesIO(answer.content))
    assert image.mode == "P"
    palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    np.testing.assert_array_equal(palette[: len(scenes.colours)], scenes.colours)
    assert same(np.asarray(image), scenes.segment(scene).labels)


def test_a_form_is_read_as_a_body(http: httpx.Client, scene: np.ndarray) -> None:
    data = as_bytes(scene)
    plain = http.post("/v1/segment", content=data)
    form = http.post("/v1/segment", files={"image": ("photo.png", data, "image/png")}, data={"note": "ignored"})
    assert form.status_code == 200
    assert same(np.asarray(Image.open(io.BytesIO(form.content))), np.asarray(Image.open(io.BytesIO(plain.content))))


def test_an_overlay_shows_the_image_below_the_colours(client: Client, scene: np.ndarray, scenes: Segmenter) -> None:
    expected = scenes.segment(scene)
    actual = client.overlay(scene, opacity=0.3)
    assert np.abs(actual.astype(int) - expected.overlay(0.3, legend=False)).mean() < 0.5
    assert client.overlay(scene, legend=True).shape[0] > scene.shape[0]


def test_run_lengths_are_coco_s(client: Client, scene: np.ndarray) -> None:
    labels = client.segment(scene).labels
    content = client.rle(scene, confidence=True)
    RunLengths.model_validate(content)
    np.testing.assert_array_equal(labels_of(content), labels)
    first = content["segments"][0]
    assert sum(first["counts"]) == labels.size
    down = np.concatenate([np.full(n, i % 2) for i, n in enumerate(first["counts"])])  # as COCO reads them
    np.testing.assert_array_equal(down.reshape(labels.shape, order="F"), labels == first["index"])
    certain = np.asarray(Image.open(io.BytesIO(base64.b64decode(content["confidence_png"]))))
    assert first["confidence"] == pytest.approx(certain[labels == first["index"]].mean() / 255, abs=0.005)


def test_polygons_cover_the_labels(client: Client, scene: np.ndarray) -> None:
    labels = client.segment(scene).labels
    content = client.polygons(scene, confidence=True)
    FeatureCollection.model_validate(content)
    painted = np.full(labels.shape, 255)
    y, x = np.mgrid[: labels.shape[0], : labels.shape[1]] + 0.5
    for feature in content["features"]:
        shape = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert shape.is_valid
        assert shape.area == feature["properties"]["pixels"]
        assert 0 < feature["properties"]["confidence"] <= 1
        painted[shapely.contains_xy(shape, x.ravel(), y.ravel()).reshape(labels.shape)] = feature["properties"]["index"]
    np.testing.assert_array_equal(painted, labels)


def test_a_subset_of_classes(client: Client, http: httpx.Client, scene: np.ndarray) -> None:
    full = client.segment(scene)
    wanted_classes = list(full.shares())[:2]
    actual = client.segment(scene, classes=wanted_classes)
    wanted = np.isin(full.labels, [full.classes.index(name) for name in wanted_classes])
    np.testing.assert_array_equal(actual.labels, np.where(wanted, full.labels, 255))
    assert {f["properties"]["class"] for f in client.polygons(scene, classes=wanted_classes)["features"]} == set(
        wanted_classes
    )
    joined = http.post(
        "/v1/segment", params={"classes": ",".join(wanted_classes), "format": "rle"}, content=as_bytes(scene)
    )
    assert [s["class"] for s in joined.json()["segments"]] == [n for n in full.classes if n in wanted_classes]
    refused = http.post("/v1/segment", params={"classes": "dragon"}, content=as_bytes(scene))
    assert refused.status_code == 422
    assert "dragon" in refused.json()["detail"]
    assert "boat" in refused.json()["detail"]


def test_confidence_alone_is_a_grey_png(http: httpx.Client, scene: np.ndarray) -> None:
    answer = http.post("/v1/segment", params={"format": "confidence"}, content=as_bytes(scene))
    shown = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert shown.shape == scene.shape[:2]
    assert float(answer.headers["x-mean-confidence"]) == pytest.approx(shown.mean() / 255, abs=0.01)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "labels"),
        ("*/*", "labels"),
        ("image/png", "labels"),
        ("image/*", "labels"),
        ("application/json", "rle"),
        ("application/geo+json", "polygons"),
        ("image/png;format=overlay", "overlay"),
        ("text/html, */*;q=0.1", "labels"),
        ("application/json;q=0.4, application/geo+json;q=0.8", "polygons"),
        ("image/png;q=0, application/json", "rle"),
        ("*/*, application/json", "rle"),
    ],
)
def test_the_accept_header_chooses(accept: str | None, expected: str) -> None:
    assert choose_format(None, accept) == expected
    assert choose_format("overlay", accept) == "overlay"


def test_an_accept_header_nobody_can_please(http: httpx.Client, scene: np.ndarray) -> None:
    with pytest.raises(Problem, match="video/mp4"):
        choose_format(None, "video/mp4")
    answer = http.post("/v1/segment", content=as_bytes(scene), headers={"accept": "video/mp4"})
    assert answer.status_code == 406
    served = http.post("/v1/segment", content=as_bytes(scene), headers={"accept": "application/geo+json"})
    assert served.headers["content-type"] == "application/geo+json"


def test_several_models_by_name(client: Client, scene: np.ndarray) -> None:
    assert client.models() == ["scenes", "small"]
    assert client.model()["name"] == "scenes"
    small = client.model("small")
    ServedModel.model_validate(small)
    assert (small["engine"], len(small["classes"])) == ("onnxruntime", 3)
    actual = client.segment(scene, model="small")
    assert actual.classes == ("red", "green", "blue")
    np.testing.assert_array_equal(actual.labels, scene.argmax(axis=2))
    with pytest.raises(ServiceError, match="did you mean 'small'"):
        client.segment(scene, model="smal")


def test_a_model_tells_where_it_comes_from(client: Client) -> None:
    description = client.model()
    ServedModel.model_validate(description)
    assert description["classes"][0] == {"index": 0, "name": "sky", "colour": "#80b0e2"}
    assert description["scores"]
    assert "scores" not in description["provenance"]
    assert description["protocol"] == "whole"
    assert description["provenance"]["data"] == "scenes"


@pytest.mark.parametrize("headers", [{}, {"x-api-key": "wrong"}, {"authorization": "Bearer"}])
def test_v1_asks_for_the_key(served: Running, headers: dict[str, str]) -> None:
    for method, path in (("POST", "/v1/segment"), ("GET", "/v1/model"), ("GET", "/v1/models")):
        answer = httpx.request(method, served.url + path, headers=headers)
        assert answer.status_code == 401
        Refusal.model_validate(answer.json())
        assert "secret" not in answer.text
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
        assert httpx.get(served.url + path).status_code == 200
    with pytest.raises(ServiceError, match="401"), Client(served.url) as stranger:
        stranger.models()


def test_refusals_say_what_is_allowed(http: httpx.Client, scene: np.ndarray) -> None:
    data = as_bytes(scene)
    large = as_bytes(np.zeros((800, 700, 3), np.uint8))
    for status, words, arguments in (
        (413, "0.5 million", {"content": large}),
        (422, "opacity = '7'", {"content": data, "params": {"opacity": 7}}),
        (422, "format = 'svg'", {"content": data, "params": {"format": "svg"}}),
        (415, "gzip", {"content": data, "headers": {"content-encoding": "gzip"}}),
        (400, "empty", {"content": b""}),
    ):
        answer = http.post("/v1/segment", **arguments)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        Refusal.model_validate(answer.json())
        assert words in answer.json()["detail"]
    for path in ("/", "/v1/segment", "/v1/../etc"):
        assert http.get(path).status_code in (404, 405)


def test_the_description_s_examples_hold(http: httpx.Client, scene: np.ndarray) -> None:
    """Every example of a parameter is accepted, and every example of an answer has the shape it is an example of."""
    description = http.get("/openapi.json").json()
    segment = description["paths"]["/v1/segment"]["post"]
    tried = 0
    for parameter in segment["parameters"]:
        for example in parameter["schema"].get("examples", []):
            value = str(example).lower() if isinstance(example, bool) else example
            answer = http.post("/v1/segment", params={parameter["name"]: value}, content=as_bytes(scene))
            assert answer.status_code == 200, (parameter["name"], answer.text)
            tried += 1
    assert tried >= 5
    shown = segment["responses"]["200"]["content"]
    RunLengths.model_validate(shown["application/json"]["example"])
    assert labels_of(shown["application/json"]["example"]).tolist() == [[0, 0, 0, 0], [3, 3, 3, 3]]
    FeatureCollection.model_validate(shown["application/geo+json"]["example"])
    for status, response in segment["responses"].items():
        if status != "200":
            Refusal.model_validate(response["content"]["application/problem+json"]["example"])
    named = {ref for ref in _references(description) if ref.startswith("#/components/schemas/")}
    assert named <= {f"#/components/schemas/{name}" for name in description["components"]["schemas"]}


def _references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key == "$ref")
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def test_metrics_count(http: httpx.Client, scene: np.ndarray) -> None:
    def read() -> dict[str, float]:
        lines = [line for line in http.get("/metrics").text.splitlines() if not line.startswith("#")]
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}

    before = read()
    http.post("/v1/segment", content=as_bytes(scene))
    http.post("/v1/segment", content=b"no image")
    after = read()
    for name, grown in (
        ('pspnet_requests_total{model="scenes",route="/v1/segment",status="200"}', 1),
        ('pspnet_requests_total{model="scenes",route="/v1/segment",status="415"}', 1),
        ('pspnet_refused_total{reason="unsupported_type"}', 1),
        ('pspnet_batch_images_count{model="scenes"}', 1),
        ('pspnet_pixels_total{model="scenes"}', scene.shape[0] * scene.shape[1]),
    ):
        assert after[name] - before.get(name, 0) == grown, name
    assert after["pspnet_ready"] == 1
    assert after["pspnet_requests_in_work"] == 0
    assert after["process_resident_memory_bytes"] > 1e7


def test_the_log_has_the_request_and_no_contents(served: Running, http: httpx.Client, scene: np.ndarray) -> None:
    secret = b"\x89PNG\r\n\x1a\nPRIVATE-PIXELS"
    asked = http.post(
        "/v1/segment?classes=sky", files={"image": ("private-name.png", secret)}, headers={"x-request-id": "order-66"}
    )
    assert asked.status_code == 422
    assert asked.headers["x-request-id"] == asked.json()["request_id"] == "order-66"
    assert "PRIVATE" not in asked.text
    odd = http.post("/v1/segment", content=as_bytes(scene), headers={"x-request-id": 'a"b c'})
    assert odd.headers["x-request-id"] != 'a"b c'
    time.sleep(0.1)
    line = served.wait_for("request", request_id="order-66")
    assert (line["status"], line["refused"], line["route"]) == (422, "bad_image", "/v1/segment")
    done = served.wait_for("request", request_id=odd.headers["x-request-id"])
    assert {"read", "decode", "wait", "compute", "encode"} <= set(done["stages"])
    text = json.dumps(served.log)
    for hidden in ("PRIVATE", "private-name", "secret", "classes=sky"):
        assert hidden not in text
    assert not served.lines("not json")


def test_unlike_sizes_at_once_get_their_own_answers(client: Client, scenes: Segmenter, scene: np.ndarray) -> None:
    images = [scene[: 60 + 4 * (i % 3), : 90 + 6 * (i % 2)] for i in range(18)]
    with ThreadPoolExecutor(9) as pool:
        actual = list(pool.map(client.segment, images))
    for image, answer in zip(images, actual, strict=True):
        assert same(answer.labels, scenes.segment(image, confidence=False).labels)


# ---- a network that sleeps: queues, deadlines, batches, the end ----

TINY = as_bytes(np.full((4, 6, 3), 200, np.uint8))


@pytest.fixture(scope="module")
def slow() -> Iterator[Running]:
    with sleeping(0.25, queue=3, max_batch=2, deadline_s=5, max_mib=0.01) as running:
        assert httpx.get(running.url + "/healthz").status_code == 200
        first = httpx.get(running.url + "/readyz")
        early = httpx.post(running.url + "/v1/segment", content=TINY)
        wake(running)
        assert (first.status_code, early.status_code) == (503, 503)
        assert int(early.headers["retry-after"]) >= 1
        assert httpx.get(running.url + "/readyz").status_code == 200
        yield running


def test_a_full_queue_says_when_to_come_again(slow: Running) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: httpx.post(slow.url + "/v1/segment", content=TINY, timeout=20), range(8)))
    codes = sorted(answer.status_code for answer in answers)
    assert set(codes) == {200, 503}
    assert codes.count(200) >= 3
    for answer in answers:
        if answer.status_code == 503:
            assert 1 <= int(answer.headers["retry-after"]) <= 5
            assert "3 requests are in work" in answer.json()["detail"]
        else:
            assert np.asarray(Image.open(io.BytesIO(answer.content))).tolist() == [[1] * 6] * 4
    with Client(slow.url, retries=10) as patient, ThreadPoolExecutor(8) as pool:  # a client that comes again gets in
        assert all(scene.labels.all() for scene in pool.map(patient.segment, [TINY] * 8))
    with Client(slow.url, retries=0) as hasty, ThreadPoolExecutor(8) as pool:
        tried = [pool.submit(hasty.segment, TINY) for _ in range(8)]
        assert any(isinstance(one.exception(), ServiceError) and "503" in str(one.exception()) for one in tried)


def test_what_waits_is_computed_together(slow: Running) -> None:
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: httpx.post(slow.url + "/v1/segment", content=TINY, timeout=20), range(3)))
    assert {answer.headers["x-batch-size"] for answer in answers if answer.status_code == 200} & {"2"}


def test_a_deadline_ends_the_waiting(slow: Running) -> None:
    answer = httpx.post(
        slow.url + "/v1/segment", params={"deadline_s": 0.1}, content=TINY, headers={"x-request-id": "in-a-hurry"}
    )
    assert answer.status_code == 504
    assert "0.1 s" in answer.json()["detail"]
    line = slow.wait_for("request", request_id="in-a-hurry")
    assert "compute" not in line["stages"]  # it was answered before the network was done


def test_a_body_that_never_ends_is_given_up(slow: Running) -> None:
    def dripping() -> Iterator[bytes]:
        for _ in range(8):
            yield b"\x89"
            time.sleep(0.1)

    answer = httpx.post(slow.url + "/v1/segment", params={"deadline_s": 0.2}, content=dripping())
    assert answer.status_code == 408

    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield bytes(1024)

    assert httpx.post(slow.url + "/v1/segment", content=endless()).status_code == 413  # no content-length to tell it
    assert httpx.post(slow.url + "/v1/segment", content=bytes(20_000)).status_code == 413


def test_a_client_that_leaves_frees_its_place(slow: Running) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(slow.url + "/v1/segment", content=TINY, timeout=httpx.Timeout(5, read=0.05))
    until = time.monotonic() + 3
    while not any(line.get("refused") == "gone" for line in slow.lines("request")):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_sigterm_under_load_loses_no_accepted_request() -> None:
    """Eight callers, one request after the other, until connections are refused. Each request sent is answered."""
    with sleeping(0.05, queue=64, max_batch=2) as running:
        wake(running)
        outcomes: list[object] = []
        stopped = threading.Event()

        def call() -> None:
            with httpx.Client(base_url=running.url, timeout=20) as http:
                while not stopped.is_set():
                    try:
                        outcomes.append(http.post("/v1/segment", content=TINY).status_code)
                    except httpx.ConnectError:  # refused: never accepted
                        return
                    except httpx.HTTPError as error:
                        outcomes.append(error)

        callers = [threading.Thread(target=call) for _ in range(8)]
        for caller in callers:
            caller.start()
        while len(outcomes) < 24:
            time.sleep(0.01)
        running.process.terminate()
        code = running.process.wait(timeout=60)
        stopped.set()
        for caller in callers:
            caller.join()
        time.sleep(0.1)
        assert code == -15  # as the signal asks, after a gentle end
        assert set(outcomes) == {200}, outcomes
        assert len([line for line in running.lines("request") if line["route"] == "/v1/segment"]) == len(outcomes)
        assert running.lines("draining")[0]["requests_in_work"] > 0
        assert running.lines("ending")[0]["unfinished"] == 0


# ---- the start ----


@pytest.fixture
def logs_as_before() -> Iterator[None]:
    """A server started in this process sends its log to a standard error that ends with the test."""
    loggers = [logging.getLogger(name) for name in ("pspnet.server", "uvicorn", "uvicorn.error")]
    before = [(log.handlers, log.level, log.propagate) for log in loggers]
    yield
    for log, (log.handlers, level, log.propagate) in zip(loggers, before, strict=True):
        log.setLevel(level)


@pytest.mark.usefixtures("logs_as_before")
def test_a_port_in_use_is_told_in_words(slow: Running, capsys: pytest.CaptureFixture[str]) -> None:
    port = slow.url.rpartition(":")[2]
    assert _run(["serve", "scenes", "--port", port], debug=False) == 1
    assert f"port {port} of 127.0.0.1 is in use" in capsys.readouterr().err


@pytest.mark.usefixtures("logs_as_before")
def test_wrong_starts_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rgbn = Segmenter(PSPNet(ModelConfig(encoder="resnet18", num_classes=2, in_bands=5, encoder_options={"depth": 3})))
    rgbn.save(tmp_path / "five.safetensors")
    for arguments, words in (
        (["scene"], "did you mean 'scenes'"),
        (["scenes", "scenes"], "two models would be called 'scenes'"),
        ([str(tmp_path / "five.safetensors")], "reads 5 bands"),
        ([str(tmp_path / "none.onnx")], "does not exist"),
        (["scenes", "--max-megapixels", "99"], "queue_megapixels"),
        (["scenes", "--log-level", "loud"], "debug, info"),
        (["scenes", "--host", "256.1.1.1", "--port", "0"], "has no address"),
    ):
        assert _run(["serve", *arguments], debug=False) in (1, 2)
        assert words in capsys.readouterr().err


@pytest.mark.usefixtures("logs_as_before")
def test_a_model_that_cannot_be_opened_ends_the_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    assert _run(["serve", str(tmp_path / "broken.onnx"), "--port", "0"], debug=False) == 1
    stderr = capsys.readouterr().err
    assert "the server ended because a model cannot be opened: " in stderr
    assert "broken.onnx" in stderr
    assert "Traceback" not in stderr


def test_models_get_names() -> None:
    assert name_models(["scenes", "runs/a/best.safetensors", "s=x/y.onnx"]) == {
        "scenes": "scenes",
        "best": "runs/a/best.safetensors",
        "s": "x/y.onnx",
    }
    with pytest.raises(ConfigError, match="write NAME="):
        name_models(["=x"])


def test_an_application_without_models_starts() -> None:
    from fastapi.testclient import TestClient

    with TestClient(create_app(settings=ServerSettings(hosts=("testserver",)))) as http:
        assert http.get("/healthz").status_code == 200
        until = time.monotonic() + 10
        while http.get("/readyz").status_code != 200:
            assert time.monotonic() < until
            time.sleep(0.02)
        assert "pspnet serve MODEL" in http.post("/v1/segment", content=TINY).json()["detail"]


def test_settings_refuse_contradictions() -> None:
    with pytest.raises(ConfigError, match="could never enter"):
        ServerSettings(max_megapixels=100, queue_megapixels=50)
    with pytest.raises(ConfigError, match="api_keys"):
        ServerSettings(api_keys=("schlüssel",))


def test_the_client_tells_what_is_wrong() -> None:
    with Client("http://127.0.0.1:9", retries=0) as client:
        assert not client.ready()
        with pytest.raises(ServiceError, match="cannot be reached"):
            client.models()
        with pytest.raises(ServiceError, match="not ready within"):
            client.wait_until_ready(0.05)
