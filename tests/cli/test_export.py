"""What `pspnet export` hands on: calibration and scoring have limits of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from pspnet.cli import app


@pytest.mark.parametrize(
    ("options", "calibrated", "scored"),
    [
        (["--calibration-limit", "4", "--scoring-limit", "3"], [0, 2, 5, 7], 3),
        (["--calibration-limit", "50"], list(range(10)), 12),
        (["--limit", "2"], [0, 5], 2),  # an earlier spelling: both at once
    ],
)
def test_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], calibrated: list[int], scored: int
) -> None:
    (tmp_path / "images").mkdir()
    for number in range(10):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), np.full((8, 8, 3), number, np.uint8))
    given: dict[str, Any] = {}
    monkeypatch.setattr("pspnet.exporting.export", lambda *_, **options: given.update(options) or "written")
    command = [
        "export",
        "scenes",
        str(tmp_path / "m.onnx"),
        "--precision",
        "int8",
        "--images",
        str(tmp_path / "images"),
    ]
    data = ["--format", "scenes", "--option", "count=12"]
    done = CliRunner().invoke(app, [*command, *data, *options])
    assert done.exit_code == 0, done.output
    assert [int(image[0, 0, 0]) for image in given["images"]] == calibrated
    assert len(given["dataset"]) == scored
