"""A pool of decoder processes, awaited from the event loop. One that is killed is replaced by a new one."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from numpy.typing import NDArray

from pspnet.images.decoder_process import DecoderProcess


class DecoderPool:
    """`count` processes, each started when it is first needed, or all by `start`.

    max_pixels: of the largest image. Used from one event loop; `close` may come from any thread.
    """

    def __init__(self, count: int, max_pixels: int) -> None:
        self.count, self.max_pixels = count, max_pixels
        self._threads = ThreadPoolExecutor(count, "pspnet-decoder")  # one for each process: they wait for its pipes
        self._idle: asyncio.Queue[DecoderProcess | None] = asyncio.Queue()
        for _ in range(count):
            self._idle.put_nowait(None)
        self._all: set[DecoderProcess] = set()
        self._closed = False

    async def start(self) -> None:
        """Starts every process that is not there yet, so that the first requests need not wait for it."""
        waiting = [self._idle.get_nowait() for _ in range(self._idle.qsize())]
        for process in waiting:
            self._idle.put_nowait(process or self._new())

    async def decode(
        self,
        data: bytes,
        size: tuple[int, int],
        bands: Literal[1, 3, 4],
        dtype: Literal["uint8", "native"],
        seconds: float,
        full_scale: int | None = None,
    ) -> NDArray[Any]:
        """(H, W, bands). full_scale: what is white in deep pictures read as 8 bits. Raises ImageError. Cancelled, it kills the process that was at work."""
        process = await self._idle.get()
        if process is None or not process.alive:
            self._forget(process)
            process = self._new()
        work = asyncio.get_running_loop().run_in_executor(
            self._threads,
            lambda: process.decode(
                data, "image", size, bands=bands, dtype=dtype, full_scale=full_scale, seconds=seconds
            ),
        )
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            process.kill()  # its thread ends with it
            work.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody waits for it any more
            raise
        finally:
            if process.alive and work.done():
                self._idle.put_nowait(process)
            else:  # a new one at once: it loads its libraries while nobody waits
                self._forget(process)
                self._idle.put_nowait(None if self._closed else self._new())

    def close(self) -> None:
        """Kills every process; decodes in work end with an ImageError."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in list(self._all):
            process.close()
        self._all.clear()

    def _new(self) -> DecoderProcess:
        process = DecoderProcess(self.max_pixels)
        self._all.add(process)
        return process

    def _forget(self, process: DecoderProcess | None) -> None:
        if process is not None:
            process.kill()
            self._all.discard(process)
            self._threads.submit(process.close) if not self._closed else None
