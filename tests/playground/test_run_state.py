"""Run folders that somebody else wrote, or that are damaged: one run each, never the page."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pspnet.errors import ConfigError, TrainingError
from pspnet.playground.app import make_context
from pspnet.playground.compare_tab import run_table
from pspnet.playground.context import Context
from pspnet.playground.run_views import curves_together, queue_page, watch

HOST = socket.gethostname()
DAMAGED = {
    "a list for a state": {"state.json": "[]"},
    "wrong kinds": {"state.json": '{"status": 7, "step": "x", "steps": {}, "pid": "a", "updated": null, "host": 1}'},
    "a pid in words": {"process.json": '{"pid": "x"}'},
    "a pid below zero": {"process.json": '{"pid": -1, "started": 5}', "config.yaml": "a: 1\n"},
    "a pid beyond all": {"process.json": '{"pid": 1' + "0" * 400 + ', "started": 1}'},
    "half a process": {"process.json": '{"pid": 5}'},
    "metrics of words": {"metrics.csv": "step,loss\nx,y\n", "config.yaml": "name: a\n"},
    "waiting since a word": {"waiting.json": '{"since": "soon"}'},
    "waiting, a list": {"waiting.json": "[]"},
    "running, no process": {"state.json": '{"status": "running"}', "config.yaml": "name: a\n"},
    "an unknown status": {"state.json": '{"status": "<b>", "step": 1}', "config.yaml": "name: a\n"},
    "no YAML": {"config.yaml": "a: [\n"},
    "long lines": {"class_iou.csv": "step,a\n1,2,3,4\n", "metrics.csv": "step\n1,2,3\n"},
    "a zero byte": {"state.json": "\0"},
    "not text": {"state.json": b"\xff\xfe", "log.txt": b"\xff", "metrics.csv": b"\xff\n"},
    "the first process": {
        "state.json": json.dumps({"status": "running", "host": HOST, "pid": 1, "updated": 1e18, "step": 1, "steps": 9}),
        "config.yaml": "name: a\n",
    },
    "deep": {"state.json": "[" * 100_000, "config.yaml": "[" * 5000},
}


@pytest.fixture
def context(tmp_path: Path) -> Context:
    (tmp_path / "work" / "runs").mkdir(parents=True)
    return make_context([tmp_path / "work"], at_once=0)


def write(context: Context, name: str, **files: str | bytes) -> Path:
    folder = context.runs.folder / name
    folder.mkdir()
    (folder / "recipe.yaml").write_text("name: x\n")
    for file, content in files.items():
        (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def test_only_runs_of_this_machine_take_a_place(context: Context) -> None:
    state = {"status": "running", "pid": 77, "updated": 1e18, "step": 1, "steps": 9}
    write(context, "here", **{"state.json": json.dumps(state | {"host": HOST, "pid": os.getpid()})})
    write(context, "elsewhere", **{"state.json": json.dumps(state | {"host": "another"})})
    write(context, "nobody knows", **{"state.json": '{"status": "running"}'})
    states = {name: context.runs.state(name) for name in context.runs.names()}
    assert {name: (state.active, state.takes_place) for name, state in states.items()} == {
        "here": (True, True),
        "elsewhere": (True, False),
        "nobody knows": (False, False),
    }


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_folder_is_shown_and_stops_nothing(context: Context, name: str) -> None:
    write(context, "bad", **DAMAGED[name])
    write(
        context, "good", **{"state.json": '{"status": "finished", "step": 5, "steps": 5}', "config.yaml": "name: g\n"}
    )
    assert set(context.runs.names()) == {"bad", "good"}
    context.runs.tick()
    shown = watch(context, "bad")
    assert "bad" in shown["status"]
    assert context.runs.state("good").status == "finished"
    states = [context.runs.state(n) for n in context.runs.names()]
    assert "good" in run_table(context, states)
    curves_together(context, ["bad", "good"])
    queue_page(context, ["bad", "good"])
    if context.runs.state("bad").status != "queued":
        with pytest.raises(TrainingError):
            context.runs.stop("bad")


def test_a_process_is_ended_only_for_its_own_run(context: Context) -> None:
    """A folder says that some process computes it: Stop must not end that process."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        now = {"status": "running", "host": HOST, "pid": other.pid, "updated": time.time() + 5, "step": 1, "steps": 9}
        write(context, "liar", **{"state.json": json.dumps(now), "config.yaml": "name: a\n"})
        assert context.runs.state("liar").status == "running"
        with pytest.raises(TrainingError, match="left alone"):
            context.runs.stop("liar")
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_links_are_no_runs(context: Context, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "config.yaml").write_text("name: secret\n")
    (outside / "log.txt").write_text("SECRET")
    (context.runs.folder / "linked").symlink_to(outside)
    (context.runs.folder / "loop").symlink_to(context.runs.folder)
    folder = write(context, "config elsewhere")
    (folder / "config.yaml").symlink_to(outside / "config.yaml")
    log = write(context, "log elsewhere")
    (log / "log.txt").symlink_to(outside / "log.txt")
    assert context.runs.names() == ["log elsewhere"]
    assert context.runs.log("log elsewhere") == ""
    with pytest.raises(ConfigError, match="link"):
        context.runs.state("linked")


@pytest.mark.wrong_types
@pytest.mark.parametrize("name", ["../x", "", ".", "..", "/etc", "a/b", "a\0b", "x" * 4000, None, 7, ["a"]])
def test_names_that_are_none_are_told(context: Context, name: object) -> None:
    for ask in (context.runs.state, context.runs.stop, context.runs.resume):
        with pytest.raises((ConfigError, TrainingError)):
            ask(name)  # type: ignore[operator]
