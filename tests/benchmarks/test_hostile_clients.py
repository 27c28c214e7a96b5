"""The mixed clients of docs/reliability.md, for a few seconds."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from support.paths import ROOT

SPEC = importlib.util.spec_from_file_location("hostile_clients", ROOT / "benchmarks" / "hostile_clients.py")
assert SPEC is not None
assert SPEC.loader is not None
hostile_clients = importlib.util.module_from_spec(SPEC)
sys.modules["hostile_clients"] = hostile_clients
SPEC.loader.exec_module(hostile_clients)


@pytest.mark.slow
def test_no_promise_is_broken_in_twenty_seconds() -> None:
    results = hostile_clients.run(20 / 60, honest=2, hostile=6, seed=1)
    assert hostile_clients.broken(results) == [], results
    assert len(results["hostile"]) >= 6, "the hostile clients hardly did anything"


def test_broken_promises_are_told() -> None:
    fine = {"honest": {"200": 5}, "hostile": {"costly 422": 1}, "faults in the log": 0, "memory grown, MiB": 1.0}
    fine |= {"slowest healthz, s": 0.1, "ended after SIGTERM, s": 1.0, "exit code": -15}
    assert hostile_clients.broken(fine) == []
    for name, value in (
        ("honest", {"200": 5, "lost (ConnectionResetError)": 1}),
        ("honest", {"503": 9}),
        ("hostile", {"costly 500": 1}),
        ("memory grown, MiB", 300.0),
        ("slowest healthz, s", 20.0),
        ("ended after SIGTERM, s", 40.0),
        ("exit code", -9),
        ("faults in the log", 2),
    ):
        assert len(hostile_clients.broken({**fine, name: value})) == 1, name
