"""The one door to OpenVINO, with its telemetry off.

OpenVINO and NNCF report each conversion to an analytics server from a forked child, and write an id into the home folder,
unless somebody has run their opt-out program. Nothing leaves a machine through pspnet: the check of that consent is
answered "declined" before either is used.
"""

from __future__ import annotations

import importlib
from typing import Any

from pspnet.errors import require


def openvino() -> Any:
    """The module. Raises MissingExtraError where it is not installed."""
    decline_telemetry()
    return require("openvino", "export")


def nncf() -> Any:
    """NNCF, which quantises for OpenVINO. Raises MissingExtraError where it is not installed."""
    decline_telemetry()
    return require("nncf", "export")


def decline_telemetry() -> None:
    """Answers "declined" for this process wherever Intel's telemetry asks whether it may send."""
    try:
        opt_in_checker: Any = importlib.import_module("openvino_telemetry.utils.opt_in_checker")
    except ImportError:  # not installed: nothing is sent
        return

    def declined(self: Any, *arguments: Any, **options: Any) -> Any:
        return opt_in_checker.ConsentCheckResult.DECLINED

    opt_in_checker.OptInChecker.check = declined
