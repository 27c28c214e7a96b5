"""The playground in a real browser, on generated scenes: every place as people use it, in both looks, on desk and phone.

`make test-browser` runs it. PSPNET_PICTURES names a folder that the screenshots are kept in, PSPNET_WHOLE_PAGES=1 makes them
as long as the page.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pspnet import train
from pspnet.config import TrainConfig
from support.browser import DESK, PHONE, Program, Visit, chromium

pytestmark = pytest.mark.browser

TABS = ("Data", "Model", "Train", "Compare", "Try")
NETWORK = {
    "encoder": "resnet18",
    "encoder_options": {"depth": 3},
    "bins": [1, 2],
    "decoder_channels": 24,
    "auxiliary": "none",
    "num_classes": 13,
}
QUICK = {
    "workers": 0,
    "precision": "fp32",
    "check_data": False,
    "optimizer": {"learning_rate": 0.02, "head_lr_factor": 1},
}
DATA = {"format": "scenes", "options": {"count": 12, "size": 64}, "val_options": {"count": 3}}


def make_run(folder: Path, name: str, **changes: Any) -> None:
    """A run as the page makes them, trained here: its libraries are loaded already."""
    values = {"name": name, "steps": 12, "batch_size": 4, "augmentation": {"crop": 48}, "val_every": 4, "log_every": 2}
    config = {"model": NETWORK, "data": DATA, "run_dir": folder / "runs" / name, **values, **QUICK, **changes}
    train(TrainConfig.model_validate(config))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With two runs in it, `older` and `newer`."""
    folder = tmp_path_factory.mktemp("browser")
    make_run(folder, "older")
    make_run(folder, "newer", steps=8, seed=3, optimizer={"learning_rate": 0.003, "head_lr_factor": 1})
    return folder


@pytest.fixture(scope="module")
def program(folder: Path) -> Iterator[Program]:
    program = Program(folder)
    try:
        yield program
    finally:
        status = program.end()
    assert status in (0, -signal.SIGTERM, 128 + signal.SIGTERM)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


def test_data_and_model(browser: Any, program: Program) -> None:
    """Data is looked at; the summary follows each option; a contradiction is shown at its fields."""
    with Visit(browser, program, DESK) as visit:
        page = visit.page
        visit.write("data-options", "count=12\nsize=64")
        visit.write("data-val-options", "count=3")
        page.click("#data-look")
        visit.says("data-faults", "0 errors")
        visit.says("data-status", "train: 12 images")
        assert page.locator("#data-samples img").count() == 8
        assert page.locator("#data-stats .track").count() == 2 * 13
        visit.fits()
        visit.keep("data_light")

        visit.go("Model")
        page.wait_for_selector("#model-summary table")
        summaries = [page.inner_text("#model-summary")]

        def changed(text: str) -> None:
            page.wait_for_function(
                "([before]) => { const now = document.getElementById('model-summary').innerText;"
                "return now !== before && now.includes('Stages'); }",
                arg=[summaries[-1]],
            )
            visit.says("model-yaml", text)
            summaries.append(page.inner_text("#model-summary"))

        page.click("#preset-small-and-fast")
        changed("depth: 3")
        visit.write("model-bins", "1, 2, 7")
        changed("bins: [1, 2, 7]")
        visit.open("Input and classes")
        visit.write("model-num-classes", "12")
        changed("num_classes: 12")
        assert "the chosen data has 13" in summaries[-1]
        visit.write("model-num-classes", "13")
        changed("num_classes: 13")
        assert "the chosen data has 13" not in summaries[-1]
        visit.choose("model-decoder", "unet")
        changed("decoder: unet")
        assert len(set(summaries)) == 5  # 13 classes are those of the data: as before

        page.locator("#model-output-stride").get_by_label("16", exact=True).check()
        page.wait_for_selector("#model-output-stride.wrong")
        assert "3 halvings reach 8" in page.inner_text("#model-output-stride")
        assert page.locator("#model-encoder-options-depth.wrong").count() == 1
        visit.fits()
        visit.keep("model_contradiction")
        page.locator("#model-output-stride").get_by_label("8", exact=True).check()
        page.wait_for_selector("#model-output-stride:not(.wrong)")
        page.wait_for_selector("#model-summary table")

        # it stays in view while the form is read to its end
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        page.wait_for_function("() => document.getElementById('model-summary').getBoundingClientRect().top >= 0")


def test_a_run_from_start_to_end(browser: Any, program: Program, folder: Path) -> None:
    """Start twice asks; a reload keeps every choice. The server is killed, as a system does that has no memory left: the run
    goes on and the next server shows it; killed too, it is shown as stopped and goes on from its last saved state. Stop and
    Resume can be pressed when they do something; runs wait for one another.

    The first run is too long to end by itself, however long the browser takes to press Stop.
    """
    with Visit(browser, program, DESK) as visit:
        page = visit.page
        chosen = {
            "data-options": "count=12\nsize=64",
            "data-val-options": "count=3",
            "model-bins": "1, 2",
            "model-decoder-channels": "24",
            "train-name": "watched",
            "train-steps": "20000",
            "train-batch-size": "4",
            "train-augmentation-crop": "48",
            "train-val-every": "15",
            "train-more": "log_every=1\ncheckpoint_every=10\nworkers=0\nprecision=fp32",
        }
        for name in ("data-options", "data-val-options"):
            visit.write(name, chosen[name])
        page.click("#data-look")
        visit.says("data-faults", "0 errors")
        visit.go("Model")
        page.click("#preset-small-and-fast")
        visit.says("model-yaml", "depth: 3")
        for name in ("model-bins", "model-decoder-channels"):
            visit.write(name, chosen[name])
        visit.says("model-yaml", "decoder_channels: 24")
        visit.go("Train")
        for name in chosen:
            if name.startswith("train-"):
                visit.write(name, chosen[name])
        visit.says("train-plan", "count 12, size 64")
        asked: list[str] = []

        def refuse(dialog: Any) -> None:
            asked.append(dialog.message)
            dialog.dismiss()

        page.once("dialog", refuse)
        page.click("#train-start")
        page.click("#train-start")  # a second press asks, and starts nothing when it is taken back
        assert "Start another one?" in asked[0]
        visit.run("watched", "running", "validating")
        assert page.locator("#train-resume").is_disabled()
        assert page.locator("#train-stop").is_enabled()

        page.reload()
        visit.run("watched", "running", "validating")
        visit.holds("train-run", "watched")
        visit.says("train-plan", "count 12, size 64")
        for tab in ("Train", "Data", "Model"):  # fields of a place that was never open are not on the page
            visit.go(tab)
            for name, text in chosen.items():
                if name.startswith(tab.lower()):
                    visit.holds(name, text)
        visit.go("Train")
        visit.grows(beyond=visit.grows(beyond=2))
        program.kill()
        visit.context.close()
        visit.complaints.clear()  # of a page whose server went

    program.start()
    state_file = folder / "runs" / "watched" / "state.json"
    with Visit(browser, program, DESK) as visit:
        page = visit.page
        visit.go("Train")
        visit.run("watched", "running", "validating")
        visit.grows(beyond=visit.points())
        state = json.loads(state_file.read_text())
        os.kill(state["pid"], signal.SIGKILL)
        visit.run("watched", "stopped")
        visit.says("train-status", "Resume goes on from the last saved state")
        page.wait_for_selector("#train-resume:not([disabled])")
        assert page.locator("#train-stop").is_disabled()
        page.click("#train-resume")
        visit.run("watched", "running", "validating")
        visit.grows(beyond=visit.points())
        resumed = json.loads(state_file.read_text())
        assert resumed["pid"] != state["pid"]
        assert resumed["step"] > state["step"] - 10

        # the next one waits, starts when the first is stopped, and ends
        visit.open("This run: settings, name, files")
        page.click("#train-again")
        visit.says("train-taken", "The settings of watched")
        visit.holds("train-steps", "20000")
        visit.write("train-name", "waiting")
        visit.write("train-steps", "30")
        page.click("#train-start")
        visit.run("waiting", "queued")
        visit.says("train-queue", "waits for the runs before it")
        visit.choose("train-run", "watched")
        visit.run("watched", "running", "validating")
        page.click("#train-stop")
        visit.run("watched", "stopped")
        visit.says("train-status", "stopped by SIGTERM")
        visit.choose("train-run", "waiting")
        visit.run("waiting", "finished")
        assert (visit.points(), visit.points(2)) == (30, 2)
        visit.says("train-curves", "IoU of each class")
        page.wait_for_selector("#train-picture img")
        assert page.locator("#train-picture .swatch").count() == 13 + 2
        page.wait_for_selector("#train-stop[disabled]")
        assert page.locator("#train-resume").is_disabled()
        started = sorted(path.name for path in (folder / "runs").glob("wa*"))
        assert started == ["waiting", "watched"]  # the press that was taken back started nothing
        page.evaluate("window.scrollTo(0, 0)")
        visit.fits()
        visit.keep("train_light")


def test_runs_are_managed(browser: Any, program: Program, folder: Path) -> None:
    """The settings of every run come into the form again; a run is renamed, downloaded and deleted."""
    make_run(folder, "spare", steps=2, val_every=2)
    with Visit(browser, program, DESK) as visit:
        page = visit.page
        visit.go("Train")
        page.wait_for_selector("#train-status [data-status]")
        visit.open("This run: settings, name, files")
        for name, rate in (("newer", "0.003"), ("older", "0.02")):
            visit.choose("train-run", name)
            visit.run(name, "finished")
            page.click("#train-again")
            visit.says("train-taken", f"The settings of {name}")
            visit.holds("train-optimizer-learning-rate", rate)
            visit.holds("train-steps", "8" if name == "newer" else "12")
            visit.says("train-plan", "bins 1, 2")
        page.reload()
        visit.holds("train-optimizer-learning-rate", "0.02")
        visit.says("train-plan", "bins 1, 2")
        visit.go("Model")
        visit.holds("model-bins", "1, 2")
        visit.holds("model-decoder-channels", "24")
        visit.go("Data")
        visit.holds("data-options", "count=12\nsize=64")
        visit.go("Train")

        visit.open("This run: settings, name, files")
        visit.choose("train-run", "spare")
        visit.run("spare", "finished")
        page.click("#train-fetch")
        page.wait_for_selector("#train-files a[download]")
        with page.expect_download() as download:
            page.locator("#train-files a[download]").first.click()
        assert Path(download.value.path()).stat().st_size > 1000
        visit.write("train-new-name", "renamed")
        page.click("#train-rename")
        visit.run("renamed", "finished")
        visit.holds("train-run", "renamed")
        assert (folder / "runs" / "renamed").is_dir()
        page.click("#train-delete")  # without the tick nothing goes
        page.locator(".toast-body", has_text="tick 'delete it for good' first").first.wait_for()
        assert (folder / "runs" / "renamed").is_dir()
        page.locator("#train-sure input").check()
        page.click("#train-delete")
        page.wait_for_function("() => document.querySelector('#train-run input').value !== 'renamed'")
        assert not (folder / "runs" / "renamed").exists()


LOOKS = pytest.mark.parametrize(("viewport", "dark"), [(DESK, False), (PHONE, True)], ids=["desk_light", "phone_dark"])


@LOOKS
def test_two_runs_compared(browser: Any, program: Program, viewport: dict[str, int], dark: bool) -> None:
    """Newest against its predecessor by itself; settings that differ are marked; images, matrices, kinds of failure."""
    look = "phone_dark" if dark else "light"
    with Visit(browser, program, viewport, dark) as visit:
        page = visit.page
        visit.go("Compare")
        page.wait_for_selector("#compare-table [data-run=newer] td.differs")
        page.wait_for_function("() => document.querySelector('#compare-second input').value")
        visit.choose("compare-first", "older")
        visit.choose("compare-second", "newer")
        page.get_by_role("button", name="run", exact=True).click()  # sorts
        names = page.locator("#compare-table tbody tr").evaluate_all("rows => rows.map((row) => row.dataset.run)")
        assert names == sorted(names)
        assert page.locator("#compare-curves polyline").count() >= 4  # loss and mean IoU of each
        page.click("#compare-both")
        visit.says("compare-status", "points of mean IoU")
        assert page.locator("#compare-found table.heat").count() == 2
        page.evaluate("window.scrollTo(0, 0)")
        visit.fits()
        visit.keep(f"compare_{look}")
        page.click("#compare-failures")
        page.frame_locator("iframe.explorer").get_by_text("Inconspicuous", exact=False).first.wait_for()
        visit.keep(f"compare_failures_{look}")


@LOOKS
def test_an_image_is_tried(
    browser: Any, program: Program, tmp_path: Path, viewport: dict[str, int], dark: bool
) -> None:
    """Hover tells class and confidence; opacity, swipe, keys, another size, downloads; and a file that is no image."""
    with Visit(browser, program, viewport, dark) as visit:
        page = visit.page
        canvas = visit.parse_example("run: newer", "run: older")
        canvas.hover(position={"x": 60, "y": 60})
        assert "% sure" in page.inner_text("parsed-image .tip")
        picture = "document.querySelector('parsed-image canvas').toDataURL()"
        first = page.evaluate(picture)
        for control in ("opacity", "swipe"):
            page.locator(f"parsed-image input.{control}").fill("90")
            now = page.evaluate(picture)
            assert now != first, control
            first = now
        canvas.focus()
        page.keyboard.press("ArrowRight")
        assert page.locator("parsed-image .tip").is_visible()
        page.locator("parsed-image input.swipe").fill("50")
        page.locator("parsed-image input.opacity").fill("60")
        canvas.hover(position={"x": 200, "y": 130})
        page.evaluate("window.scrollTo(0, 0)")
        visit.fits()  # the tip is among what can be read
        visit.keep("try_phone_dark" if dark else "try_light")
        assert page.locator("#try-files a").count() >= 4
        visit.write("try-size", "48")
        page.keyboard.press("Enter")
        page.click("#try-parse")
        visit.says("try-status", "looked at with 48 × 48")

        # our words, no path of the server, the old result gone
        (tmp_path / "notes.png").write_text("these are words")
        page.locator("#try-image button:is([aria-label*=clear i], [aria-label*=remove i])").first.click()
        page.wait_for_selector("parsed-image", state="detached")
        page.set_input_files("#try-image input[type=file]", tmp_path / "notes.png")
        page.wait_for_selector("#try-image img", state="attached")
        page.click("#try-parse")
        page.wait_for_selector("#try-status .note.bad")
        words = page.inner_text("#try-status")
        assert "notes.png" in words
        assert "/" not in words
        assert "Traceback" not in words
        visit.fits()
        visit.keep("try_no_image")


def test_exports(browser: Any, program: Program, folder: Path) -> None:
    """ONNX, OpenVINO and int8, each with its parity report and its files."""
    with Visit(browser, program, DESK) as visit:
        page = visit.page
        visit.write("data-options", "count=12\nsize=64")
        page.click("#data-look")
        visit.says("data-status", "train: 12 images")
        visit.go("Try")
        page.wait_for_function("() => document.querySelector('#try-first input').value.startsWith('run: ')")
        visit.choose("try-first", "run: newer")
        visit.open("Export the first model")
        for kind, precision, file in (
            ("ONNX", "fp32", "newer-fp32.onnx"),
            ("ONNX", "int8", "newer-int8.onnx"),
            ("OpenVINO", "int8", "newer-int8.xml"),
        ):
            page.locator("#export-format").get_by_label(kind, exact=True).check()
            visit.holds("export-precision", "fp32")  # another format begins with it
            if precision != "fp32":
                visit.choose("export-precision", precision)
            page.click("#export-start")
            visit.says("export-report", f"exports/{file}")
            visit.says("export-report", "Compared with its source")
            assert page.locator("#export-report tbody tr").count() == 3
            visit.says("export-files", file[:8])
            assert (folder / "exports" / file).stat().st_size > 10_000
        visit.fits()
        visit.keep("export_light")


def test_two_people_at_once(browser: Any, program: Program) -> None:
    """Each keeps choices and results of one's own; a run of the one is seen by the other."""
    with Visit(browser, program, DESK) as one, Visit(browser, program, PHONE) as two:
        one.write("data-options", "count=12\nsize=64")
        two.write("data-options", "count=10\nsize=64")
        one.page.click("#data-look")
        two.page.click("#data-look")
        one.says("data-status", "train: 12 images")
        two.says("data-status", "train: 10 images")
        for visit, text in ((one, "count 12, size 64"), (two, "count 10, size 64")):
            visit.go("Train")
            visit.says("train-plan", text)
        one.choose("train-run", "older")
        two.choose("train-run", "newer")
        one.run("older", "finished")
        two.run("newer", "finished")
        one.page.wait_for_timeout(2500)  # the watch of each has gone round
        one.run("older", "finished")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_every_place_fits(browser: Any, program: Program, viewport: dict[str, int], dark: bool) -> None:
    """Nothing sticks out and all words can be read, in both looks and at both sizes; a keyboard alone reaches the places."""
    shown = {
        "Data": "#data-status .note",
        "Model": "#model-summary table",
        "Train": "#train-curves svg",
        "Compare": "#compare-curves svg",
        "Try": "#try-status .note",
    }
    with Visit(browser, program, viewport, dark) as visit:
        for tab in TABS:
            visit.go(tab)
            visit.page.locator(shown[tab]).first.wait_for()
            visit.keep(f"{tab.lower()}_{'dark' if dark else 'light'}_{'phone' if viewport is PHONE else 'desk'}")
            visit.fits()
        visit.page.get_by_role("tab", name="Data", exact=True).first.focus()
        focused = visit.page.evaluate("document.activeElement.getAttribute('role')")
        assert focused == "tab"
        visit.page.keyboard.press("Tab")
        assert visit.page.evaluate("document.activeElement !== document.body")
