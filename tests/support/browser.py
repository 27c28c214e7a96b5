"""The playground as a program, looked at in Chromium: what people do in short words, and what the screen then shows.

Every wait is for something that is seen, and ends after WAIT_MS. When a test fails, the page's picture, its console and the
server's words are printed or kept (PSPNET_PICTURES names a folder).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
GRADIOS_OWN = ("Method not implemented.",)  # said by Gradio 6.31's image field at each upload
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
WAIT_MS = 240_000  # a machine may be busy; on an idle one nothing takes a tenth of it

# every text that is shown with its contrast against what is painted behind it (WCAG 2.2, 1.4.3): those below 4.5, or below
# 3 where letters are large. What cannot be used (disabled) does not count there and not here
FAINT_WORDS = """() => {
  const rgba = (text) => {
    const numbers = (text.match(/-?[\\d.]+(e-?\\d+)?%?/g) ?? [0, 0, 0, 0]).map(Number);
    const scale = text.startsWith("color(") ? 255 : 1;
    return [...numbers.slice(0, 3).map((v) => v * scale), numbers[3] ?? 1];
  };
  const over = (front, back) => [0, 1, 2].map((i) => front[i] * front[3] + back[i] * (1 - front[3])).concat(1);
  const behind = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) layers.push(rgba(getComputedStyle(one).backgroundColor));
    return layers.reverse().reduce((back, front) => over(front, back), [255, 255, 255, 1]);
  };
  const light = (colour) => {
    const part = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * part(colour[0]) + 0.7152 * part(colour[1]) + 0.0722 * part(colour[2]);
  };
  const faults = [], judge = (element, words, style) => {
    if (!words.trim() || element.closest(":disabled, [aria-disabled=true], script, style, noscript, template, option")) return;
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) return;
    const box = element.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) return;
    const back = behind(element), front = rgba(element.closest("svg") ? style.fill : style.color);
    for (let one = element; one; one = one.parentElement) front[3] *= Number(getComputedStyle(one).opacity);
    const [a, b] = [light(over(front, back)), light(back)].sort((x, y) => y - x), contrast = (a + 0.05) / (b + 0.05);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 600);
    if (contrast < (large ? 3 : 4.5)) faults.push(`${contrast.toFixed(2)}: ${words.trim().slice(0, 40)} (${element.tagName} ${element.className.baseVal ?? element.className})`);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) judge(texts.currentNode.parentElement, texts.currentNode.data, getComputedStyle(texts.currentNode.parentElement));
  for (const field of document.querySelectorAll("input:not([type]), input[type=text], input[type=number], textarea"))
    judge(field, field.value || field.placeholder, getComputedStyle(field, field.value ? null : "::placeholder"));
  return [...new Set(faults)];
}"""
# texts that another element cuts off, or that stick out of the window
CUT_WORDS = """() => [...document.querySelectorAll(".gradio-container *")].filter((one) => {
  if (!one.checkVisibility() || !one.childNodes.length || one.closest(".scroll, pre, .cm-editor, svg, iframe, .sr-only, .visually-hidden")) return false;
  const style = getComputedStyle(one), box = one.getBoundingClientRect();
  const hasWords = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  return hasWords && box.width > 2 && ((style.overflowX !== "visible" && one.scrollWidth > one.clientWidth + 2) || box.right > innerWidth + 1);
}).map((one) => `${one.tagName} ${one.className}: ${one.innerText.slice(0, 60)}`)"""


def faint_words(page: Any) -> list[str]:
    """What FAINT_WORDS finds once nothing fades in any more: Gradio dims what it is about to replace."""
    for _ in range(60):
        if not (faults := page.evaluate(FAINT_WORDS)):
            return []
        page.wait_for_timeout(500)
    return list(faults)


@contextmanager
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    assert Path(CHROMIUM).exists(), "chromium is missing; make test-browser installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Program:
    """`pspnet playground` as a program of its own, in a folder. Its words go to a file: a pipe that nobody reads fills up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.words = tempfile.TemporaryFile("w+")  # noqa: SIM115  as long as the program
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        try:
            self.start()
        except BaseException:
            self.words.close()
            raise

    def start(self) -> None:
        """Starts it, again after `kill`, and waits until it answers."""
        command = [sys.executable, "-m", "pspnet", "playground", "--root", str(self.folder), "--port", str(self.port)]
        self.process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=self.words)
        end = time.monotonic() + WAIT_MS / 1000
        while not answers(self.port):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, f"the page did not come up: {self.said()}"
            time.sleep(0.3)

    def said(self) -> str:
        self.words.seek(0)
        return self.words.read()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)

    def end(self) -> int:
        """Ends it as a system does (SIGTERM), and gives its exit status."""
        self.process.terminate()
        status = self.process.wait(120)
        self.words.close()
        return status


class Visit:
    """A page of the browser: what it asks for outside, what its console says, and short words for what people do.

    A context: left without an error, nothing was asked for outside and the console stayed empty; with one, the page's
    picture and its console say where it stood.
    """

    def __init__(self, browser: Any, program: Program, viewport: dict[str, int], dark: bool = False) -> None:
        self.program, self.outside, self.complaints = program, [], []  # type: ignore[var-annotated]
        self.context = browser.new_context(viewport=viewport, color_scheme="dark" if dark else "light")
        self.context.route("**/*", self._route)
        self.page = self.context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def __enter__(self) -> Visit:
        self.page.goto(self.program.url)
        self.page.wait_for_selector("#page-head")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            folder = Path(os.environ.get("PSPNET_PICTURES") or tempfile.mkdtemp(prefix="pspnet-failed-"))
            picture = folder / f"failed_{int(time.time())}.png"
            self.page.screenshot(path=picture, timeout=30_000)
            print(f"the page as it was: {picture}\nconsole: {self.complaints}\nserver: {self.program.said()[-3000:]}")
        complaints = [*self.complaints]  # not those of closing: Gradio tells that the stream it listened to was cut
        self.context.close()
        if kind is None:
            assert not self.outside, self.outside
            assert not complaints, complaints

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning") and message.text not in GRADIOS_OWN:
            self.complaints.append(message.text)

    def _route(self, route: Any) -> None:
        if route.request.url.startswith((self.program.url, "data:", "blob:")):
            route.continue_()
        else:
            self.outside.append(route.request.url)
            route.abort()

    def go(self, tab: str) -> None:
        self.page.get_by_role("tab", name=tab, exact=True).click()

    def open(self, title: str) -> None:
        """Unfolds a part of the page."""
        self.page.get_by_role("button", name=title).click()

    def write(self, name: str, text: str) -> None:
        field = self.page.locator(f"#{name} textarea, #{name} input").first
        field.fill(text)
        field.blur()

    def choose(self, name: str, choice: str) -> None:
        self.page.locator(f"#{name} input").first.click()
        self.page.get_by_role("option", name=choice, exact=True).click()
        self.page.get_by_role("option").first.wait_for(state="detached")  # the list fades out

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

    def run(self, name: str, *status: str) -> None:
        """Waits until the place Train shows a run in a status, one of several."""
        self.page.wait_for_function(
            "([name, all]) => { const one = document.querySelector('#train-status [data-status]');"
            "return one?.innerText.includes(name) && all.includes(one.dataset.status); }",
            arg=[name, status],
        )

    def grows(self, beyond: int) -> int:
        """Waits until the first curve has more points, and gives their number."""
        self.page.wait_for_function(
            "most => +document.querySelector('#train-curves .chart')?.dataset.points > most", arg=beyond
        )
        return self.points()

    def points(self, chart: int = 0) -> int:
        return int(self.page.locator("#train-curves .chart").nth(chart).get_attribute("data-points") or 0)

    def parse_example(self, first: str, second: str) -> Any:
        """In the place Try: a validation image under two models, and the canvas that shows it."""
        page = self.page
        self.go("Try")
        page.wait_for_function("() => document.querySelector('#try-first input').value.startsWith('run: ')")
        self.choose("try-first", first)
        page.click("#try-example")
        page.wait_for_selector("#try-image img")
        self.choose("try-second", second)
        page.click("#try-parse")
        page.wait_for_selector("parsed-image[data-ready]")
        return page.locator("parsed-image canvas")

    def fits(self) -> None:
        """Nothing sticks out at the side, no words are cut off, and all can be read on what lies behind them."""
        wide = self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"the page is {wide} px wider than the window"
        faint, cut = faint_words(self.page), self.page.evaluate(CUT_WORDS)
        assert not faint, faint
        assert not cut, cut

    def keep(self, name: str) -> None:
        """Keeps a picture where PSPNET_PICTURES asks for it (PSPNET_WHOLE_PAGES=1: as long as the page)."""
        if os.environ.get("PSPNET_PICTURES"):
            self.page.wait_for_timeout(600)
            picture = Path(os.environ["PSPNET_PICTURES"]) / f"{name}.png"
            self.page.screenshot(path=picture, full_page=bool(os.environ.get("PSPNET_WHOLE_PAGES")))
