"""Decoder processes: the same pixels as in this process, and an end for whatever is endless, greedy or fallen."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest

from pspnet.errors import ImageError
from pspnet.images import decode_image, decoder_process, encode_png
from pspnet.images.decoder_process import DecoderProcess
from pspnet.server.decoding import DecoderPool

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
PNG = encode_png(PIXELS)


@pytest.fixture(scope="module")
def process() -> Iterator[DecoderProcess]:
    one = DecoderProcess(1_000_000)
    yield one
    one.close()


def id_of(one: DecoderProcess) -> int:
    return one._process.pid


def test_pixels_are_those_of_this_process(process: DecoderProcess) -> None:
    np.testing.assert_array_equal(process.decode(PNG, "a", (40, 30)), PIXELS)
    deep = encode_png(PIXELS.astype(np.uint16) * 257)
    for bands in (1, 3, 4):
        actual = process.decode(deep, "a", (40, 30), bands=bands, dtype="native")
        np.testing.assert_array_equal(actual, decode_image(deep, "a", bands=bands, dtype="native"))
    dark = encode_png(PIXELS.astype(np.uint16))  # as the training read it, not by its own largest value
    assert process.decode(dark, "a", (40, 30), full_scale=4095).max() == round(int(PIXELS.max()) * 255 / 4095)


def test_a_damaged_image_is_told_and_the_process_goes_on(process: DecoderProcess) -> None:
    with pytest.raises(ImageError, match=r"'a' .*cut off or damaged"):
        process.decode(PNG[:900], "a", (40, 30))
    with pytest.raises(ImageError, match="at most 99 are read"):
        process.decode(PNG, "a", (99, 1))  # another size than it was admitted with
    assert process.alive
    np.testing.assert_array_equal(process.decode(PNG, "a", (40, 30)), PIXELS)


def test_signals_for_the_group_do_not_end_it(process: DecoderProcess) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(id_of(process), number)
    time.sleep(0.05)
    np.testing.assert_array_equal(process.decode(PNG, "a", (40, 30)), PIXELS)


@pytest.mark.parametrize("how", ["deadline", "falls"])
def test_one_that_is_stuck_or_falls_is_given_up(how: str) -> None:
    one = DecoderProcess(1_000_000)
    try:
        one.decode(PNG, "a", (40, 30))
        os.kill(id_of(one), signal.SIGSTOP if how == "deadline" else signal.SIGSEGV)
        began = time.monotonic()
        with pytest.raises(ImageError, match=r"'a' \(30 x 40 by its header\) was given up"):
            one.decode(PNG, "a", (40, 30), seconds=0.3)
        assert time.monotonic() - began < 3
        assert not one.alive
    finally:
        one.close()


def test_too_much_time_or_memory_ends_at_the_systems_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits so small that an honest image of 16 Mpx breaks them."""
    large = encode_png(np.zeros((4000, 4000, 3), np.uint8))
    monkeypatch.setattr(decoder_process, "MEMORY_BYTES", 8 * 2**20)
    monkeypatch.setattr(decoder_process, "MEMORY_BYTES_A_PIXEL", 0)
    poor = DecoderProcess(1)
    with pytest.raises(ImageError, match=r"MemoryError|cut off or damaged|given up"):
        poor.decode(large, "a", (4000, 4000), seconds=60)
    poor.close()
    monkeypatch.undo()
    monkeypatch.setattr(decoder_process, "CPU_SECONDS_A_MEGAPIXEL", 0)
    monkeypatch.setattr(decoder_process, "CPU_SECONDS", -0.9)  # rounded up: until the next whole second of its life
    hasty = DecoderProcess(16_000_000)
    with pytest.raises(ImageError, match="given up"):
        _decode_often(hasty, large)
    hasty.close()


def _decode_often(one: DecoderProcess, data: bytes) -> None:
    for _ in range(40):
        one.decode(data, "a", (4000, 4000), seconds=60)


def test_a_pool_replaces_what_was_killed() -> None:
    async def run() -> None:
        pool = DecoderPool(1, 1_000_000)
        await pool.start()
        np.testing.assert_array_equal(await pool.decode(PNG, (40, 30), 3, "uint8", 60), PIXELS)
        (first,) = pool._all
        os.kill(id_of(first), signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await pool.decode(PNG, (40, 30), 3, "uint8", 60)
        assert not first.alive
        np.testing.assert_array_equal(await pool.decode(PNG, (40, 30), 3, "uint8", 60), PIXELS)
        several = [pool.decode(PNG, (40, 30), 3, "uint8", 60) for _ in range(5)]
        assert len(await asyncio.gather(*several)) == 5
        pool.close()
        pool.close()

    asyncio.run(run())


def test_it_ends_with_its_parent() -> None:
    one = DecoderProcess(1_000_000)
    one.decode(PNG, "a", (40, 30))
    assert one._process.stdin is not None
    one._process.stdin.close()
    assert one._process.wait(timeout=10) == 0
    with suppress(OSError):
        one.close()
