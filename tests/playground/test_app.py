"""The playground without a browser: paths, requests, the form, runs and their misfortunes, and the story by its client."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import pytest
import timm
import torch
import yaml
from pydantic import Field as PydanticField

from pspnet import PSPNet, train
from pspnet.config import ModelConfig, TrainConfig
from pspnet.config.differences import differences, flattened
from pspnet.config.encoders import OWN_NAMES, SUGGESTED_ENCODERS, encoder_family
from pspnet.data import open_dataset
from pspnet.errors import ConfigError, PspnetError, ServiceError, TrainingError
from pspnet.playground import form, model_summary
from pspnet.playground.allowed_paths import Roots
from pspnet.playground.app import check_port, create_app, make_context
from pspnet.playground.context import Context
from pspnet.playground.guard import Guard
from pspnet.playground.model_summary import size_px, summary_of
from pspnet.playground.model_tab import (
    GROUPS,
    PRESETS,
    as_model_form,
    check_weights,
    grouped,
    hidden,
    model_fields,
    read_model,
)
from pspnet.playground.run_queue import RunQueue
from pspnet.playground.run_state import LOG, RECIPE, WAITING
from pspnet.playground.run_views import watch
from support.fakes import write_camvid

FIELDS = form.fields_of(ModelConfig)


class TestPaths:
    @pytest.fixture
    def roots(self, tmp_path: Path) -> Roots:
        (tmp_path / "work" / "data").mkdir(parents=True)
        (tmp_path / "secret").mkdir()
        (tmp_path / "secret" / "key.txt").write_text("x")
        (tmp_path / "work" / "way_out").symlink_to(tmp_path / "secret")
        (tmp_path / "work" / "inner").symlink_to(tmp_path / "work" / "data")
        return Roots([tmp_path / "work"])

    def test_inside(self, roots: Roots, tmp_path: Path) -> None:
        assert roots.path("data") == tmp_path / "work" / "data"
        assert roots.path("inner") == tmp_path / "work" / "data"
        assert roots.path(tmp_path / "work" / "not_yet") == tmp_path / "work" / "not_yet"
        assert roots.subfolders() == ["data", "inner"]  # the link to the outside is not offered

    @pytest.mark.parametrize(
        "text", ["../secret", "data/../../secret", "/etc", "way_out", "way_out/key.txt", "~", "data\0"]
    )
    def test_outside(self, roots: Roots, text: str) -> None:
        with pytest.raises(ConfigError, match=r"outside|refused|zero byte"):
            roots.path(text)

    @pytest.mark.parametrize(
        "values",
        [
            {"init_from": "/etc/passwd"},
            {"model": {"encoder_weights": "../w.pth"}},
            {"data": {"root": "/"}},
            {"data": {"options": {"classes": "/etc/passwd"}}},
            {"data": {"val_options": {"labels": ["a", "../b"]}}},
        ],
    )
    def test_settings_that_name_files_outside(self, roots: Roots, values: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match=r"outside|refused"):
            roots.resolve_settings(values)
        roots.resolve_settings({"model": {"encoder_weights": "imagenet"}, "data": {"options": {"decode": "codes"}}})

    def test_a_data_set_whose_file_is_a_link_to_the_outside(self, roots: Roots, tmp_path: Path) -> None:
        write_camvid(tmp_path / "work" / "data")
        roots.check_dataset(open_dataset("camvid", tmp_path / "work" / "data", "train"))
        image = next((tmp_path / "work" / "data" / "train" / "images").iterdir())
        image.rename(tmp_path / "secret" / image.name)
        image.symlink_to(tmp_path / "secret" / image.name)
        with pytest.raises(ConfigError, match="outside the folders"):
            roots.check_dataset(open_dataset("camvid", tmp_path / "work" / "data", "train"))

    def test_a_root_that_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="is not a folder"):
            Roots([tmp_path / "nowhere"])


@pytest.mark.wrong_types
class TestGuard:
    @pytest.mark.parametrize(
        ("status", "path", "headers"),
        [
            (200, "/", {"host": "localhost:7860"}),
            (200, "/", {"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:7860"}),
            (200, "/", {"host": "[::1]:7860"}),
            (200, "/", {"host": "work.station"}),
            (200, "/assets/a..b.js", {"host": "localhost"}),
            (403, "/", {"host": "evil.example"}),
            (400, "/", {"host": ""}),
            (400, "/", {"host": "["}),
            (403, "/", {"host": "localhost:7860", "origin": "http://evil.example"}),
            (403, "/", {"host": "localhost:7860", "origin": "http://localhost:1234"}),
            (403, "/", {"host": "localhost:7860", "origin": "null"}),
            (403, "/", {"host": "localhost:7860", "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}),
            (400, "/gradio_api/file=../../etc/passwd", {"host": "localhost"}),
            (400, "/gradio_api/file=%2e%2e/etc", {"host": "localhost"}),
            (400, "/static/%252e%252e/secret", {"host": "localhost"}),
            (400, "/static/..\\secret", {"host": "localhost"}),
            (400, "/gradio_api/file=http://evil.example/x", {"host": "localhost"}),
        ],
    )
    def test_who_may_ask(self, status: int, path: str, headers: dict[str, str]) -> None:
        assert self.ask(path, headers) == status

    @pytest.mark.parametrize("before", [[], ["start"], ["start", "body"]])
    def test_the_servers_end_ends_the_streams_that_are_open(self, before: list[str]) -> None:
        sent: list[Any] = []

        async def inner(scope: Any, receive: Any, send: Any) -> None:
            for kind in before:
                await send({"type": f"http.response.{kind}", "status": 200, "headers": []})
            raise asyncio.CancelledError  # uvicorn's, after timeout_graceful_shutdown

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "path": "/", "raw_path": b"/", "headers": [(b"host", b"localhost")]}
        asyncio.run(Guard(inner)(scope, None, send))  # type: ignore[arg-type]
        assert [message["type"].split(".")[-1] for message in sent] == ["start", "body"]
        assert sent[0]["status"] == (200 if before else 503)

    def ask(self, path: str, headers: dict[str, str]) -> int:
        sent: list[Any] = []

        async def inner(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})

        async def send(message: Any) -> None:
            sent.append(message)

        raw = [(k.encode(), v.encode()) for k, v in headers.items()]
        scope = {"type": "http", "path": path, "raw_path": path.encode(), "headers": raw}
        asyncio.run(Guard(inner, ["work.station"])(scope, None, send))  # type: ignore[arg-type]
        return int(sent[0]["status"])


class TestForm:
    def test_an_option_that_is_added_appears_by_itself(self) -> None:
        class Extended(ModelConfig):
            novelty: Literal["off", "on"] = PydanticField("off", description="Something new.")

        fields = {f.name: f for f in form.fields_of(Extended)}
        assert fields.keys() - {f.name for f in FIELDS} == {"novelty"}
        assert (fields["novelty"].choices, fields["novelty"].about) == (("off", "on"), "Something new.")
        assert [f.name for f in grouped(list(fields.values()))["More"]] == ["novelty"]
        assert grouped(FIELDS)["More"] == []  # every option of today has a place of its own

    def test_every_field_has_a_description(self) -> None:
        assert [f.name for f in FIELDS if not f.about] == []
        assert [f.name for f in [*FIELDS, *form.fields_of(TrainConfig)] if re.search(r"\bNone\b", f.info)] == []
        assert "Empty: from epochs" in form.fields_of(TrainConfig, ["steps"])[0].info
        assert sum(map(len, grouped(FIELDS).values())) == len(FIELDS)
        assert set(GROUPS) == set(grouped(FIELDS))

    def test_untouched_it_says_nothing(self) -> None:
        assert form.read(FIELDS, [f.shown(f.default) for f in FIELDS], hidden) == {}

    @pytest.mark.parametrize(
        "values",
        [
            *PRESETS.values(),
            {
                "encoder": "swin_tiny",
                "encoder_options": {"window_size": 5, "depths": [2, 2, 2, 2], "qkv_bias": False},
                "bins": [1, 4],
            },
            {
                "bins": [],
                "dropout": 0.25,
                "mean": [1.5, 2.0, 3.0],
                "pointrend": True,
                "pointrend_options": {"layers": 2},
            },
        ],
    )
    def test_what_is_written_is_what_is_read(self, values: dict[str, Any]) -> None:
        given = flattened(values)
        shown = [f.shown(given.get(f.name, f.default)) for f in FIELDS]
        assert form.read(FIELDS, shown, hidden) == values
        ModelConfig.model_validate(values)

    @pytest.mark.parametrize("encoder", ["resnet50", "efficientnet_b0", "mobilenetv2", "swin_tiny", "convnext_tiny"])
    def test_only_options_of_the_encoder_are_shown(self, encoder: str) -> None:
        values = {f.name: f.default for f in FIELDS} | {"encoder": encoder}
        shown = {
            f.name.partition(".")[2] for f in FIELDS if f.name.startswith("encoder_options.") and not hidden(f, values)
        }
        assert shown == set(encoder_family(encoder).option_names)

    @pytest.mark.parametrize(
        ("values", "at"),
        [
            ({"encoder_options": {"depth": 3}, "output_stride": 16}, {"output_stride", "encoder_options.depth"}),
            ({"bins": [2, 2]}, {"bins"}),
            ({"bins": [1, "x"]}, {"bins"}),
            ({"in_bands": 4, "mean": [1.0, 2.0]}, {"mean", "in_bands"}),
            ({"dropout": 2.0, "num_classes": 0}, {"dropout", "num_classes"}),
            ({"dropout": "much"}, {"dropout"}),
        ],
    )
    def test_a_contradiction_is_shown_at_its_fields(self, values: dict[str, Any], at: set[str]) -> None:
        with pytest.raises(ConfigError) as caught:
            ModelConfig.model_validate(values)
        actual, rest = form.faults_by_field(caught.value, [f.name for f in FIELDS])
        assert at <= actual.keys()
        assert actual.keys() <= at | {"encoder"}
        assert rest == []

    def test_every_encoder_of_the_list_is_there(self) -> None:
        assert {"resnet269", "efficientnet_b7", "tf_efficientnet_lite4", "swin_large"} < set(SUGGESTED_ENCODERS)
        assert all(name in OWN_NAMES or timm.is_model(name) for name in SUGGESTED_ENCODERS)
        with torch.device("meta"):
            lite = PSPNet(ModelConfig(encoder="tf_efficientnet_lite0", num_classes=2)).eval()
            assert lite(torch.empty(1, 3, 64, 64)).shape == (1, 2, 64, 64)

    @pytest.mark.parametrize("weights", ["random", "imagenet", "weights/mine.pth"])
    def test_weights_are_three_choices(self, weights: str) -> None:
        fields = model_fields(ModelConfig)
        choice = next(f for f in fields if f.name == "encoder_weights")
        assert choice.choices == ("random", "imagenet", "a file")
        model = {"encoder_weights": weights, "encoder": "resnet18"}
        read = read_model(fields, as_model_form(model, fields))
        assert read.get("encoder_weights", "random") == weights
        check_weights(read)

    def test_a_file_of_weights_that_is_not_named(self) -> None:
        fields = model_fields(ModelConfig)
        shown = as_model_form({"encoder_weights": ""}, fields)
        with pytest.raises(ConfigError, match="no file is named") as caught:
            check_weights(read_model(fields, shown))
        assert "encoder_weights" in form.faults_by_field(caught.value, [f.name for f in fields])[0]

    def test_the_summary_is_of_the_chosen_data(self) -> None:
        facts = {"classes": 11, "bands": 4, "height": 96, "width": 128}
        small = {"encoder": "resnet18", "encoder_options": {"depth": 3}, "decoder_channels": 32, "auxiliary": "none"}
        page = summary_of(ModelConfig, small, facts, "64, 80", 2)
        assert "11 classes and 4 bands, 64 × 80 px" in page
        assert "2 images in a step" in page
        assert "Pyramid: 4 levels (1, 2, 3, 6) of 32 channels each, beside the input&#x27;s 128. Estimated" in page
        assert "refuse" not in page
        other = summary_of(ModelConfig, {**small, "num_classes": 7}, facts, "", 2)
        assert "7 classes and 4 bands, 96 × 128 px" in other
        assert "num_classes = 7 is set, the chosen data has 11" in other
        before = model_summary._counted.cache_info().misses
        again = summary_of(ModelConfig, small, facts, "64, 80", 2)  # by another person: nothing is counted again
        assert model_summary._counted.cache_info().misses == before
        assert again.split("GFLOP/s")[0].count("GFLOP") == page.split("GFLOP/s")[0].count("GFLOP")
        assert size_px("1", {}) == (33, 33)
        assert size_px("", {}) == (473, 473)

    def test_yaml_is_a_recipe(self, tmp_path: Path) -> None:
        text = form.as_recipe({"model": PRESETS["small and fast"]})
        (tmp_path / "r.yaml").write_text(text)
        assert TrainConfig.from_yaml(tmp_path / "r.yaml").model == ModelConfig.model_validate(PRESETS["small and fast"])

    def test_what_differs(self) -> None:
        one, two = TrainConfig(steps=3), TrainConfig(steps=4, model={"bins": (1,)}, data={"options": {"count": 4}})
        actual = differences([one, two])
        assert actual["steps"] == [3, 4]
        assert actual["model.bins"] == [[1, 2, 3, 6], [1]]
        assert actual["data.options.count"] == [None, 4]
        assert "batch_size" not in actual


# a program in the place of `pspnet train`: writes what a run writes, and stops when it is asked to
STAND_IN = """
import json, os, pathlib, signal, socket, sys, time, yaml
resume = sys.argv[1] == "--resume"
run = pathlib.Path(sys.argv[2]) if resume else pathlib.Path(sys.argv[1]).parent
wish = []
signal.signal(signal.SIGTERM, lambda *_: wish.append(1))
(run / "config.yaml").write_text((run / "recipe.yaml").read_text())
steps = yaml.safe_load((run / "recipe.yaml").read_text())["steps"]
def tell(status, step):
    part = run / "state.part"
    part.write_text(json.dumps(dict(pid=os.getpid(), host=socket.gethostname(), updated=time.time(), status=status, step=step,
                                    steps=steps, message="stopped by SIGTERM after step 1. Go on with: x" if wish else "")))
    part.replace(run / "state.json")
print("resumed" if resume else "begun", flush=True)
tell("running", 1)
while steps > 5 and not resume and not wish:
    time.sleep(0.01)
tell("interrupted" if wish else "finished", steps)
sys.exit(143 if wish else 0)
"""


def until(happened: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


class TestRuns:
    @pytest.fixture
    def runs(self, tmp_path: Path) -> Iterator[RunQueue]:
        (tmp_path / "stand_in.py").write_text(STAND_IN)
        runs = RunQueue(tmp_path / "runs", program=[sys.executable, str(tmp_path / "stand_in.py")])
        yield runs
        for child in runs._children.values():
            child.kill()
            child.wait()

    def wait(self, runs: RunQueue, name: str, status: str) -> None:
        def there() -> bool:
            runs.tick()
            return runs.state(name).status == status

        until(there)

    def test_one_after_the_other_stop_and_resume(self, runs: RunQueue) -> None:
        first = runs.submit(TrainConfig(name="long", steps=9))
        second = runs.submit(TrainConfig(name="short", steps=3))
        third = runs.submit(TrainConfig(name="short", steps=3))
        assert (first, second, third) == ("long", "short", "short-2")
        self.wait(runs, first, "running")
        assert runs.state(second).status == "queued"
        runs.stop(third)
        assert runs.state(third).status == "stopped"
        runs.stop(first)
        self.wait(runs, first, "stopped")
        assert runs.state(first).message == "stopped by SIGTERM after step 1."
        self.wait(runs, second, "finished")
        runs.resume(first)
        self.wait(runs, first, "finished")
        log = runs.log(first)
        assert log.index("begun") < log.index("resumed")
        with pytest.raises(TrainingError, match="only a stopped or failed run"):
            runs.resume(first)
        assert set(runs.names()) == {first, second, third}

    def test_a_run_outlives_the_page_and_is_found_by_the_next(self, runs: RunQueue) -> None:
        name = runs.submit(TrainConfig(name="a", steps=9))
        self.wait(runs, name, "running")
        process = next(iter(runs._children.values()))
        assert os.getsid(process.pid) != os.getsid(0)  # a signal to the server's group does not reach it
        later = RunQueue(runs.folder)
        assert later.state(name).status == "running"
        later.stop(name)
        self.wait(runs, name, "stopped")

    def test_killed_it_is_shown_as_stopped_with_its_log(self, runs: RunQueue, tmp_path: Path) -> None:
        name = runs.submit(TrainConfig(name="a", steps=9))
        self.wait(runs, name, "running")
        os.kill(int(runs.state(name).state["pid"]), signal.SIGKILL)
        self.wait(runs, name, "stopped")
        shown = watch(Context(Roots([tmp_path]), runs, tmp_path), name)
        assert 'data-status="stopped"' in shown["status"]
        assert "killed" in shown["status"]
        assert "begun" in shown["log"]
        assert runs.state(name).can_resume

    def test_a_program_that_fails_at_once(self, tmp_path: Path) -> None:
        runs = RunQueue(tmp_path / "runs", program=[sys.executable, "-c", "import sys; sys.exit('no such data')"])
        name = runs.submit(TrainConfig(name="a", steps=3))
        until(lambda: runs.state(name).status == "failed")
        assert "no such data" in runs.log(name)

    def test_a_folder_that_vanishes(self, runs: RunQueue, tmp_path: Path) -> None:
        name = runs.submit(TrainConfig(name="a", steps=3))
        self.wait(runs, name, "finished")
        (runs.folder / name).rename(tmp_path / "elsewhere")
        with pytest.raises(TrainingError, match=r"folder of the run 'a' is gone"):
            runs.state(name)
        shown = watch(Context(Roots([tmp_path]), runs, tmp_path), name)
        assert "is gone" in shown["status"]
        assert runs.names() == []
        runs.folder.rename(tmp_path / "all_gone")
        assert runs.names() == []
        runs.tick()

    def test_a_full_disk(self, runs: RunQueue, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(path: Path, text: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

        monkeypatch.setattr("pspnet.playground.run_queue.write_text", full)
        with pytest.raises(TrainingError, match=r"the disk is full: .*recipe.yaml.* Free some space"):
            runs.submit(TrainConfig(name="a", steps=3))
        assert runs.names() == []
        assert not (runs.folder / "a").exists()

    @pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc"])
    def test_names_that_are_none(self, runs: RunQueue, name: str) -> None:
        with pytest.raises(PspnetError):
            runs.state(name)
        if "/" in name:
            with pytest.raises(ConfigError, match="a run's name is a folder's name"):
                runs.submit(TrainConfig(name=name, steps=3))
        assert not (runs.folder.parent / WAITING).exists()

    def test_a_waiting_run_survives_the_server(self, runs: RunQueue) -> None:
        runs.at_once = 0
        name = runs.submit(TrainConfig(name="a", steps=3))
        assert (runs.folder / name / RECIPE).is_file()
        assert runs.state(name).status == "queued"
        later = RunQueue(runs.folder, program=runs.program)
        self.wait(later, name, "finished")
        assert (runs.folder / name / LOG).is_file()
        runs._children |= later._children


def test_a_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match=rf"port {port} on 127.0.0.1 cannot be used .* --port \d+"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


class Served:
    """The page, served by a thread."""

    def __init__(self, folder: Path, context: Context) -> None:
        import uvicorn

        self.folder, self.context = folder, context
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(create_app(context), port=self.port, log_level="error", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        until(lambda: self.server.started)

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        for child in list(self.context.runs._children.values()):
            child.kill()
            child.wait()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("playground")
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(folder / ".cache")
    (folder / "work").mkdir()
    (folder / "secret.txt").write_text("not for the page")
    page = Served(folder, make_context([folder / "work"], at_once=2))
    yield page
    page.close()
    gc.collect()  # what gradio left open is found here, where it is not held against another test
    if before is None:
        os.environ.pop("GRADIO_TEMP_DIR")
    else:
        os.environ["GRADIO_TEMP_DIR"] = before


class Person:
    """Somebody at the page: a client with a session of its own."""

    def __init__(self, served: Served) -> None:
        from gradio_client import Client

        self.client = Client(served.url, verbose=False, download_files=str(served.folder / "downloads"))
        self.endpoints = self.client.view_api(return_format="dict", print_info=False)["named_endpoints"]

    def __call__(self, api: str, /, **by_label: Any) -> Any:
        """Calls a handler; values by the labels of their fields, the others as they are at first."""
        parameters = self.endpoints[f"/{api}"]["parameters"]
        labels = {
            p["label"].replace(" ", "_"): p["parameter_name"] for p in reversed(parameters)
        }  # the first of a name counts
        missing = by_label.keys() - labels.keys()
        assert not missing, f"{missing}: there are {sorted(labels)}"
        values = {
            p["parameter_name"]: p["parameter_default"] if p["parameter_has_default"] else None for p in parameters
        }
        values |= {labels[label]: value for label, value in by_label.items()}
        return self.client.predict(**values, api_name=f"/{api}")


@pytest.mark.wrong_types  # Gradio's listeners, reached through classes of ours, do not keep their own annotations
# gradio and its client leave sockets and event loops to the garbage collector
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
class TestServed:
    def test_requests_of_others_and_ways_out_are_refused(self, served: Served) -> None:
        with httpx.Client(base_url=served.url) as http:
            assert http.get("/").status_code == 200
            assert http.get("/config", headers={"origin": "http://evil.example"}).status_code == 403
            assert (
                http.post("/gradio_api/queue/join", json={}, headers={"origin": "http://evil.example"}).status_code
                == 403
            )
            assert http.get("/", headers={"host": "evil.example"}).status_code == 403
            for path in (served.folder / "secret.txt", Path("/etc/passwd"), Path(__file__)):
                assert http.get(f"/gradio_api/file={path}").status_code in (403, 404)
            assert http.get("/gradio_api/file=work/%2e%2e/secret.txt").status_code == 400
            assert http.get("/gradio_api/file=https://example.com/").status_code == 400
            assert http.get("/healthz").status_code == 200  # the server's application is around the page

    def test_the_page_names_no_other_machine(self, served: Served) -> None:
        page = httpx.get(served.url).text
        loads = [
            word
            for word in ('<script src="http', '<link rel="stylesheet" href="http', "fonts.googleapis", "@import")
            if word in page
        ]
        assert loads == []
        assert "default-src 'self'" in httpx.get(served.url).headers["content-security-policy"]

    def test_files_that_are_not_uploads_cannot_be_parsed(self, served: Served) -> None:
        person = Person(served)
        with httpx.Client(base_url=served.url) as http:
            body = {"data": [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, "camvid-small", "none"]}
            event = http.post("/gradio_api/call/try_parse", json=body).json()["event_id"]
            answer = http.get(f"/gradio_api/call/try_parse/{event}", timeout=60).text
        assert "event: error" in answer
        assert "root:" not in answer
        for folder in ("../..", "/etc"):
            with pytest.raises(Exception, match=r"outside the folders|refused"):
                person("data_look", Layout="camvid", Folder=folder, Options="")
        assert (
            "outside the folders"
            in person("train_start", name="x", Further_settings="init_from=/etc/passwd")[1]["value"]
        )
        assert not (served.context.runs.folder / "x").exists()
        with pytest.raises(Exception, match=r"outside the folders|neither|has no model"):
            person("try_export", Model="/etc/passwd")

    def test_a_folder_with_faults(self, served: Served) -> None:
        root = served.folder / "work" / "street"
        write_camvid(root)
        label = next((root / "train" / "labels").iterdir())
        label.write_bytes(label.read_bytes()[:40])
        _, samples, stats, faults = Person(served)(
            "data_look", Layout="camvid", Folder="street", Options="", Options_that_differ_for_validation=""
        )
        assert "data:image/jpeg" in samples
        assert "1 errors" in faults
        assert label.name in faults
        assert "pedestrian" in stats or label.name in stats

    def test_model_summary_follows_and_contradictions_are_at_their_fields(self, served: Served) -> None:
        person = Person(served)
        summary, recipe, *_ = person("model_summary", encoder="resnet18", depth="3", decoder_channels="64")
        assert "encoder 3, stride 8" in summary
        assert "depth: 3" in str(recipe)
        assert "stage 5" not in summary
        summary, _, *fields = person("model_summary", encoder="resnet18", depth="3", output_stride="16")
        assert "do not go together" in summary
        wrong = [f for f in fields if isinstance(f, dict) and "wrong" in f.get("elem_classes", [])]
        assert len(wrong) == 2
        assert all("3 halvings reach 8" in f["info"] for f in wrong)

    def test_two_people_at_once(self, served: Served) -> None:
        people = [Person(served), Person(served)]
        for person, size in zip(people, (64, 32), strict=True):
            person("data_look", Options=f"count=4\nsize={size}", Options_that_differ_for_validation="count=2")
        served.context.runs.at_once = 0  # nothing is started here
        try:
            for person, name in zip(people, ("hers", "his"), strict=True):
                person("train_start", name=name, encoder="resnet18", depth="3")
            sizes = {n: served.context.runs.path(n).joinpath(RECIPE).read_text() for n in ("hers", "his")}
        finally:
            for name in ("hers", "his"):
                served.context.runs.stop(name)
            served.context.runs.at_once = 2
        assert "size: 64" in sizes["hers"]
        assert "size: 32" in sizes["his"]

    @pytest.mark.slow
    def test_the_whole_story(self, served: Served) -> None:
        """Data, model, a run that is stopped and resumed, a second one, both compared, an image parsed, an export."""
        person, runs = Person(served), served.context.runs
        status, _, _, faults = person(
            "data_look", Options="count=12\nsize=64", Options_that_differ_for_validation="count=4"
        )
        assert "train: 12 images, val: 12 images" in status or "val: 4 images" in status
        assert "0 errors" in faults
        network = {"encoder": "resnet18", "depth": "3", "decoder_channels": "16", "auxiliary": "none", "bins": "1, 2"}
        settings = {
            "batch_size": 4,
            "crop": "33",
            "val_every": "4",
            "Further_settings": "log_every=1\nprecision=fp32\nworkers=0\npictures=1",
        }
        person("train_start", name="first", steps="4000", **settings, **network)
        values = yaml.safe_load((runs.folder / "first" / RECIPE).read_text())
        values |= {
            "name": "second",
            "run_dir": str(runs.folder / "second"),
            "steps": 8,
            "optimizer": {"learning_rate": 0.001},
        }
        train(TrainConfig.model_validate(values))  # here: libraries are loaded already
        until(
            lambda: (
                len(Path(runs.folder / "first" / "metrics.csv").read_text().splitlines()) > 6
                if (runs.folder / "first" / "metrics.csv").exists()
                else False
            ),
            300,
        )
        person("train_stop", Run="first")
        until(lambda: runs.state("first").status == "stopped", 120)
        step = runs.state("first").state["step"]
        recipe = runs.folder / "first" / "config.yaml"
        recipe.write_text(recipe.read_text().replace("steps: 4000", f"steps: {step + 4}"))  # soon at its end
        assert runs.state("second").status == "finished"
        person("train_resume", Run="first")
        until(lambda: runs.state("first").status == "finished", 300)
        shown = person("train_watch", Run="first")
        assert 'data-status="finished"' in shown[1]
        assert 'data-points="0"' not in shown[2]
        assert "IoU of each class" in shown[2]
        assert "Latest predictions" in shown[3]
        table = person("compare_watch")[0]
        assert 'data-run="first"' in table
        assert "optimizer.learning rate" in table
        verdict, page = person("compare_two", First_run="first", Second_run="second")
        assert "points of mean IoU" in verdict
        assert "paired over 4 images" in page
        assert page.count('class="heat"') == 2
        failures = person("compare_failures", Second_run="second")
        assert "inconspicuous" in failures[0]
        assert "srcdoc" in failures[1]
        image = person("try_example")
        words, view, files = person(
            "try_parse",
            Image={"path": image, "meta": {"_type": "gradio.FileData"}},
            Model="run: first",
            **{"Second_model,_for_the_swipe": "run: second"},
        )
        assert "64 × 64 px" in words
        assert "parsed-image" in view
        names = sorted(Path(f).name for f in files["value"])
        assert names == [
            "example_first_mask.png",
            "example_first_overlay.png",
            "example_second_mask.png",
            "example_second_overlay.png",
        ]
        report, exported = person("try_export", Model="run: first", Format="ONNX", Precision="fp32")
        assert "Compared with its source" in report
        assert (served.folder / "work" / "exports" / "first-fp32.onnx").is_file()
        assert "first-fp32.onnx" in person("try_watch")[0]["choices"][2][1] or exported
        scores = json.loads((runs.folder / "first" / "evaluation" / "scores.json").read_text())
        assert np.isfinite(scores["mean_iou"])
