"""Draws docs/pictures/playground_*.png anew: two short runs on generated scenes, looked at in Chromium.

    python tools/playground_pictures.py

Needs what `make test-browser` needs, and drives the page as its tests do; three minutes.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from pspnet import train  # noqa: E402
from pspnet.config import TrainConfig  # noqa: E402
from support.browser import DESK, PHONE, Program, Visit, chromium  # noqa: E402

NETWORK = {"encoder": "resnet18", "encoder_options": {"depth": 3}, "decoder_channels": 48, "auxiliary": "none"}
DATA = {"format": "scenes", "options": {"count": 240, "size": 96}, "val_options": {"count": 24}}


def main() -> None:
    os.environ["PSPNET_PICTURES"] = str(ROOT / "docs" / "pictures")
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        for name, bins in (("no pyramid", []), ("pyramid", [1, 2, 3, 6])):
            run(Path(folder), name, bins)
        program = Program(Path(folder))
        try:
            pictures(browser, program)
        finally:
            program.end()


def run(folder: Path, name: str, bins: list[int]) -> None:
    values = {
        "name": name,
        "run_dir": folder / "runs" / name,
        "model": {**NETWORK, "bins": bins},
        "data": DATA,
        "augmentation": {"crop": 96, "scale": False, "rotate": False, "blur": False},
        "optimizer": {"learning_rate": 0.015},
        "steps": 240,
        "batch_size": 8,
        "val_every": 30,
        "log_every": 4,
    }
    train(TrainConfig.model_validate(values))


def pictures(browser: object, program: Program) -> None:
    with Visit(browser, program, DESK) as visit:
        page = visit.page
        visit.write("data-options", "count=240\nsize=96")
        visit.write("data-val-options", "count=24")
        page.click("#data-look")
        visit.says("data-faults", "0 errors")
        visit.keep("playground_data")
        visit.go("Model")
        page.wait_for_selector("#model-summary table")
        visit.keep("playground_model")
        visit.go("Train")
        visit.choose("train-run", "pyramid")
        visit.run("pyramid", "finished")
        visit.keep("playground_train")
        visit.go("Compare")
        page.wait_for_selector("#compare-curves polyline")
        visit.keep("playground_compare")
        visit.parse_example("run: no pyramid", "run: pyramid").hover(position={"x": 160, "y": 200})
        page.evaluate("window.scrollTo(0, 0)")
        visit.keep("playground_try")
    with Visit(browser, program, PHONE, dark=True) as visit:
        visit.page.click("#data-look")
        visit.says("data-faults", "0 errors")
        visit.page.evaluate("window.scrollTo(0, 0)")
        visit.keep("playground_phone_dark")


if __name__ == "__main__":
    main()
