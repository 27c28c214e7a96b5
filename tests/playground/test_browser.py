"""The playground in a real browser: the whole story on generated scenes, with every request to the outside counted.

`make test-browser` runs it. PSPNET_PICTURES names a folder that the screenshots are kept in, PSPNET_WHOLE_PAGES=1 makes them
as long as the page.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
]
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
WAIT_MS = 240_000  # a machine may be busy; on an idle one nothing takes a tenth of it
# of the words inside an element with what is painted behind them, as a browser computed both (WCAG 2.2)
CONTRAST = """selector => {
  const element = document.querySelector(selector), words = element.querySelector("*") ?? element;
  const rgba = (text) => text.match(/[\\d.]+/g).map(Number);
  let back = element, colour = rgba(getComputedStyle(back).backgroundColor);
  while (colour[3] === 0 && back.parentElement) { back = back.parentElement; colour = rgba(getComputedStyle(back).backgroundColor); }
  const light = ([r, g, b]) => {
    const part = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const [a, b] = [light(rgba(getComputedStyle(words).color)), light(colour)].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
}"""
PLACES = ("Data", "Model", "Train", "Compare", "Try")


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Program:
    """`pspnet playground` as a program of its own, in a folder."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pspnet", "playground", "--root", str(folder), "--port", str(self.port)],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        end = time.monotonic() + 240
        while not answers(self.port):
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < end, "the page did not come up"
            time.sleep(0.3)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(30)
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture(scope="module")
def page_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = Program(tmp_path_factory.mktemp("browser"))
    try:
        yield program.url
    finally:
        program.end()
    assert program.process.returncode in (0, -signal.SIGTERM, 128 + signal.SIGTERM)


class Visit:
    """A page of the browser: what it asks for outside, what its console says, and short words for what people do."""

    def __init__(self, browser: Any, url: str, viewport: dict[str, int], dark: bool = False) -> None:
        self.url, self.outside, self.complaints = url, [], []  # type: ignore[var-annotated]
        context = browser.new_context(viewport=viewport, color_scheme="dark" if dark else "light")
        context.route("**/*", self._route)
        self.page = context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(url)
        self.page.wait_for_selector("#page-head")

    def _route(self, route: Any) -> None:
        if route.request.url.startswith((self.url, "data:", "blob:")):
            route.continue_()
        else:
            self.outside.append(route.request.url)
            route.abort()

    def go(self, tab: str) -> None:
        self.page.get_by_role("tab", name=tab, exact=True).click()

    def write(self, name: str, text: str) -> None:
        field = self.page.locator(f"#{name} textarea, #{name} input").first
        field.fill(text)
        field.blur()

    def choose(self, name: str, choice: str) -> None:
        self.page.locator(f"#{name} input").first.click()
        self.page.get_by_role("option", name=choice, exact=True).click()

    def holds(self, name: str, text: str) -> None:
        """Waits until a field holds a text."""
        self.page.wait_for_function(
            "([id, text]) => document.querySelector(`#${id} textarea, #${id} input`)?.value === text", arg=[name, text]
        )

    def says(self, name: str, text: str) -> None:
        """Waits until a part of the page holds a text."""
        self.page.wait_for_function(
            "([id, text]) => document.getElementById(id)?.innerText.includes(text)", arg=[name, text]
        )

    def run(self, name: str, status: str) -> None:
        self.says("train-status", name)
        self.page.wait_for_selector(f"#train-status [data-status={status}]")

    def points(self, chart: int = 0) -> int:
        return int(self.page.locator("#train-curves .chart").nth(chart).get_attribute("data-points") or 0)

    def keep(self, name: str) -> None:
        """Keeps a picture where PSPNET_PICTURES asks for it, and sees that nothing sticks out at the side."""
        wide = self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"{name}: the page is {wide} px wider than the window"
        if os.environ.get("PSPNET_PICTURES"):
            self.page.wait_for_timeout(600)
            picture = Path(os.environ["PSPNET_PICTURES"]) / f"{name}.png"
            self.page.screenshot(path=picture, full_page=bool(os.environ.get("PSPNET_WHOLE_PAGES")))

    def close(self) -> None:
        self.page.context.close()
        assert self.outside == []
        assert self.complaints == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    assert Path(CHROMIUM).exists(), "chromium is missing; make test-browser installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


def test_the_whole_story(browser: Any, page_url: str, tmp_path: Path) -> None:
    visit = Visit(browser, page_url, DESK)
    page = visit.page

    # data
    visit.write("data-options", "count=24\nsize=96")
    visit.write("data-val-options", "count=6")
    page.click("#data-look")
    visit.says("data-faults", "0 errors")
    visit.says("data-status", "train: 24 images")
    assert page.locator("#data-samples img").count() == 8
    assert page.locator("#data-stats .track").count() == 2 * 13
    visit.keep("data_light")

    # model: five options, and the summary follows each
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
    for field, text, recipe in (
        ("model-bins", "1, 2", "bins: [1, 2]"),
        ("model-decoder-channels", "24", "decoder_channels: 24"),
        ("model-num-classes", "12", "num_classes: 12"),
        ("model-num-classes", "13", "num_classes: 13"),
    ):
        if text == "12":
            page.get_by_role("button", name="Input and classes").click()
        visit.write(field, text)
        changed(recipe)
        assert ("the chosen data has 13" in summaries[-1]) == (text == "12")
    visit.choose("model-decoder", "unet")
    changed("decoder: unet")
    visit.choose("model-decoder", "bilinear")
    changed("decoder_channels: 24")
    assert len(set(summaries)) >= 6

    # a contradiction is shown at its fields
    page.locator("#model-output-stride").get_by_label("16", exact=True).check()
    page.wait_for_selector("#model-output-stride.wrong")
    assert "3 halvings reach 8" in page.inner_text("#model-output-stride")
    assert page.locator("#model-encoder-options-depth.wrong").count() == 1
    visit.keep("model_contradiction")
    page.locator("#model-output-stride").get_by_label("8", exact=True).check()
    page.wait_for_selector("#model-output-stride:not(.wrong)")
    page.wait_for_selector("#model-summary table")

    # train: a curve grows; stop, resume
    visit.go("Train")
    visit.write("train-name", "first")
    visit.write("train-steps", "160")
    visit.write("train-batch-size", "4")
    visit.write("train-augmentation-crop", "64")
    visit.write("train-val-every", "20")
    visit.write("train-more", "log_every=2\noptimizer.head_lr_factor=1\nworkers=0\nprecision=fp32")
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.click("#train-start")
    page.click("#train-start")  # a second press asks, and starts nothing when it is taken back
    visit.run("first", "running")
    assert page.locator("#train-resume").is_disabled()

    # a reload in mid-run: the place, the run, every choice
    page.reload()
    visit.run("first", "running")
    visit.holds("train-run", "first")
    for field, text in (
        ("train-name", "first"),
        ("train-steps", "160"),
        ("train-augmentation-crop", "64"),
        ("train-more", "log_every=2\noptimizer.head_lr_factor=1\nworkers=0\nprecision=fp32"),
        ("model-bins", "1, 2"),
        ("model-num-classes", "13"),
        ("data-options", "count=24\nsize=96"),
        ("data-val-options", "count=6"),
    ):
        visit.holds(field, text)
    visit.says("train-plan", "count 24, size 96")
    page.wait_for_function("() => +document.querySelector('#train-curves .chart')?.dataset.points > 2")
    before = visit.points()
    page.wait_for_function(
        "before => +document.querySelector('#train-curves .chart').dataset.points > before", arg=before
    )
    page.click("#train-stop")
    visit.run("first", "stopped")
    visit.says("train-status", "stopped by SIGTERM")
    page.wait_for_selector("#train-resume:not([disabled])")
    assert page.locator("#train-stop").is_disabled()
    stopped = int(page.locator("#train-status [data-status]").get_attribute("data-step") or 0)
    assert 0 < stopped < 160
    page.click("#train-resume")
    visit.run("first", "finished")
    assert visit.points() == 80
    assert visit.points(2) == 8
    visit.says("train-curves", "IoU of each class")
    page.wait_for_selector("#train-picture img")
    assert page.locator("#train-picture .swatch").count() == 13 + 2
    assert page.locator("#train-stop").is_disabled()
    assert page.locator("#train-resume").is_disabled()
    assert page.locator("#compare-table tbody tr").count() <= 1  # the second press started nothing
    page.evaluate("window.scrollTo(0, 0)")
    visit.keep("train_light")

    # a second run, compared with the first
    visit.write("train-name", "second")
    visit.write("train-optimizer-learning-rate", "0.003")
    visit.write("train-steps", "60")
    page.click("#train-start")
    visit.run("second", "finished")
    visit.go("Compare")
    page.wait_for_selector("#compare-table [data-run=second] td.differs")
    assert page.locator("#compare-table td.differs").count() >= 4
    page.locator("#compare-table th button").first.click()
    assert page.locator("#compare-table tbody tr").first.get_attribute("data-run") == "first"
    page.wait_for_function("() => document.querySelector('#compare-second input').value === 'second'")
    page.click("#compare-both")
    visit.says("compare-status", "points of mean IoU")
    assert page.locator("#compare-found table.heat").count() == 2
    page.evaluate("window.scrollTo(0, 0)")
    visit.keep("compare_light")
    page.click("#compare-failures")
    explored = page.frame_locator("iframe.explorer")
    explored.get_by_text("Inconspicuous", exact=False).first.wait_for()

    # try: hover tells class and confidence, opacity, swipe; export
    visit.go("Try")
    page.wait_for_function("() => document.querySelector('#try-first input').value.startsWith('run: ')")
    page.click("#try-example")
    page.wait_for_selector("#try-image img")
    visit.choose("try-second", "run: first")
    page.click("#try-parse")
    page.wait_for_selector("parsed-image[data-ready]")
    canvas = page.locator("parsed-image canvas")
    canvas.hover(position={"x": 60, "y": 60})
    assert "% sure" in page.inner_text("parsed-image .tip")
    assert page.evaluate(CONTRAST, "parsed-image .tip") > 4.5  # WCAG 2.2, 1.4.3
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
    visit.keep("try_light")
    assert page.locator("#try-files a").count() >= 4
    page.get_by_role("button", name="Export the first model").click()
    for kind, precision, file in (
        ("ONNX", "fp32", "second-fp32.onnx"),
        ("ONNX", "int8", "second-int8.onnx"),
        ("OpenVINO", "fp32", "second-fp32.xml"),
        ("OpenVINO", "int8", "second-int8.xml"),
    ):
        page.locator("#export-format").get_by_label(kind, exact=True).check()
        if precision == "fp32":  # another format begins with it
            visit.holds("export-precision", "fp32")
        else:
            visit.choose("export-precision", precision)
        page.click("#export-start")
        visit.says("export-report", f"exports/{file}")
        visit.says("export-report", "Compared with its source")
        assert page.locator("#export-report tbody tr").count() == 3
        page.wait_for_function("file => document.getElementById('export-files').innerText.includes(file)", arg=file[:8])

    # another size; and a file that is no image: our words, no path of the server, the old result gone
    visit.write("try-size", "48")
    page.keyboard.press("Enter")
    page.click("#try-parse")
    visit.says("try-status", "looked at with 48 × 48")
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
    visit.keep("try_no_image")
    visit.close()


def test_the_summary_stays_in_view(browser: Any, page_url: str) -> None:
    """While the form of the model is read to its end."""
    visit = Visit(browser, page_url, DESK)
    visit.go("Model")
    visit.page.wait_for_selector("#model-summary table")
    visit.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    visit.page.wait_for_timeout(300)
    box = visit.page.locator("#model-summary").bounding_box()
    assert box is not None
    assert box["y"] >= 0
    visit.close()


def test_the_server_is_killed_in_mid_run(browser: Any, tmp_path: Path) -> None:
    """SIGKILL, as a system does that has no memory left: the run goes on, is shown by the next server, and when it was
    killed too it is shown as stopped and goes on from its last saved state."""
    program = Program(tmp_path)
    visit = Visit(browser, program.url, DESK)
    page = visit.page
    visit.go("Train")
    for field, text in (
        ("name", "long"),
        ("steps", "4000"),
        ("batch-size", "2"),
        ("augmentation-crop", "33"),
        ("val-every", "5"),
    ):
        visit.write(f"train-{field}", text)
    small = "model.encoder=resnet18\nmodel.encoder_options.depth=3\nmodel.decoder_channels=16\nmodel.auxiliary=none"
    visit.write("train-more", f"log_every=1\nworkers=0\nprecision=fp32\n{small}")
    page.click("#train-start")
    visit.run("long", "running")
    page.wait_for_function("() => +document.querySelector('#train-curves .chart')?.dataset.points > 12")
    program.end(signal.SIGKILL)
    visit.page.context.close()

    program = Program(tmp_path, program.port)
    visit = Visit(browser, program.url, DESK)
    page = visit.page
    visit.go("Train")
    visit.run("long", "running")
    before = visit.points()
    page.wait_for_function(
        "before => +document.querySelector('#train-curves .chart').dataset.points > before", arg=before
    )
    state = json.loads((tmp_path / "runs" / "long" / "state.json").read_text())
    os.kill(state["pid"], signal.SIGKILL)
    visit.run("long", "stopped")
    visit.says("train-status", "Resume goes on from the last saved state")
    config = tmp_path / "runs" / "long" / "config.yaml"
    config.write_text(config.read_text().replace("steps: 4000", f"steps: {state['step'] + 20}"))
    page.click("#train-resume")
    visit.run("long", "finished")
    visit.close()
    program.end()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_every_place_fits(browser: Any, page_url: str, viewport: dict[str, int], dark: bool) -> None:
    """Nothing sticks out, in both looks and at both sizes; a keyboard alone reaches the places."""
    visit = Visit(browser, page_url, viewport, dark)
    for tab in PLACES:
        visit.go(tab)
        visit.page.wait_for_timeout(2500)
        for words in ("#page-head h1", "#page-head p", ".tabitem:not([style*=none]) .lead"):
            assert visit.page.evaluate(CONTRAST, words) > 4.5, (tab, words)
        visit.keep(f"{tab.lower()}_{'dark' if dark else 'light'}_{'phone' if viewport is PHONE else 'desk'}")
    visit.page.get_by_role("tab", name="Data", exact=True).first.focus()
    focused = visit.page.evaluate("document.activeElement.getAttribute('role')")
    assert focused == "tab"
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("document.activeElement !== document.body")
    visit.close()
