"""A cached data set gives the same samples, decodes each once, in any number of processes, and leaves nothing behind."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

import pspnet.data.caching as caching
from pspnet.config import DataConfig
from pspnet.data.caching import Cache, OnDisk, cached
from pspnet.errors import ConfigError, DataError
from pspnet.training.resolve import open_data
from support.toys import Toys, ended, in_child


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_each_sample_is_decoded_once(cache: Cache, tmp_path: Path) -> None:
    toys = Toys(5, uneven=True)
    kept = cached(toys, cache, tmp_path)
    for _ in range(3):
        for index in (3, 0, 4, 1, 2):
            first, second = toys[index], kept[index]
            assert np.array_equal(first.image, second.image)
            assert np.array_equal(first.labels, second.labels)  # type: ignore[arg-type]
            assert first.name == second.name
    assert toys.reads == 15 + 5
    assert (len(kept), kept.bands, kept.label_space) == (5, 3, toys.label_space)
    del kept
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_off_is_the_data_set_itself() -> None:
    toys = Toys()
    assert cached(toys, "off") is toys


def test_processes_share_a_folder(tmp_path: Path) -> None:
    toys = Toys(4)
    kept = cached(toys, "disk", tmp_path)

    def read_all() -> None:
        for index in range(4):
            kept[index]

    assert ended(in_child(read_all)) == 0
    read_all()
    assert toys.reads == 0  # the child decoded them, and its end removed nothing


def test_too_much_for_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "_free_bytes", lambda: 20_000)
    with pytest.raises(ConfigError, match="cache = disk"):
        cached(Toys(12), "memory")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cache = disk"):
        OnDisk(Toys(), tmp_path / "file")


def test_a_run_uses_it() -> None:
    sets = open_data(DataConfig(options={"count": 4, "size": 64}, cache="memory"), check=False)
    assert isinstance(sets.train, caching.InMemory)
    assert not isinstance(sets.val, caching.InMemory)  # each validation picture is read a few times at most
