"""Rows of a table from laps, and waiting for a quiet machine."""

from __future__ import annotations

import pytest

from pspnet.bench import interleaved
from pspnet.bench.interleaved import Measured, alternate, figures, wait_for_quiet


def test_figures_compare_round_by_round() -> None:
    first = Measured("first", [2.0, 4.0, 2.0], [1.0, 1.0, 1.0])
    other = Measured("other", [1.0, 1.0, 0.5], [0.5, 0.25, 0.5], ready_mib=100.0, peak_mib=130.0, about={"gflop": 3})
    row = figures(other, first)
    assert (row["ms"], row["processor_ms"]) == (1000, 500)
    assert (row["ratio"], row["processor_ratio"]) == (4, 2)  # medians of 2, 4, 4 and 2, 4, 2: not the ratio of medians
    assert (row["peak_mib"], row["beyond_mib"], row["gflop"]) == (130, 30, 3)
    assert "ratio" not in figures(other)
    assert figures(Measured("broken", failure="no such engine"), first) == {
        "name": "broken",
        "failure": "no such engine",
    }


def test_waiting_ends_when_it_is_quiet_or_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = iter([3.0, 1.0, 0.1, 9.0])
    lines: list[str] = []
    slept: list[float] = []
    monkeypatch.setattr(interleaved, "load_per_core", lambda: next(loads))
    monkeypatch.setattr(interleaved.time, "sleep", slept.append)
    assert wait_for_quiet(10, 0.2, lines.append) == 0.1
    assert len(slept) == len(lines) == 2
    assert "load 3.00 a core" in lines[0]
    assert wait_for_quiet(0, 0.2, lines.append) == 9.0  # nobody wants to wait: the load is told all the same
    assert len(slept) == 2
    monkeypatch.setattr(interleaved, "load_per_core", lambda: None)  # Windows has no such number
    assert wait_for_quiet(10) is None


def test_works_of_one_process_take_turns() -> None:
    order: list[str] = []
    ticks = iter(range(100))
    works = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    laps = alternate(works, rounds=2, warmups=1, clock=lambda: float(next(ticks)))
    assert order == ["a", "b"] * 3
    assert laps == {"a": [1.0, 1.0], "b": [1.0, 1.0]}
