"""An image decoder in a process of its own: killed at a deadline, bounded in memory and time, and not believed.

Decoders are C libraries that parse what strangers send. In a process of its own, one that is endless is killed, one that is
wasteful runs into the system's limits, and one that falls takes nothing with it. The parent checks what it gets back: an
array of the size that was admitted.

A `DecoderProcess` starts this file's `main` and speaks with it over two pipes: a length, a JSON header, bytes; and the same
back. The child ignores Ctrl-C and SIGTERM, which a terminal or systemd sends to all processes at once, because the server
still answers what it accepted; it ends when its pipe closes, so it cannot outlive its parent.
"""

from __future__ import annotations

import json
import math
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import ImageError
from pspnet.images.reading import decode_image

# processor seconds of one image: honest photographs need 0.03 s a megapixel (JPEG) to 0.2 s (deep PNG, lossless WebP)
CPU_SECONDS, CPU_SECONDS_A_MEGAPIXEL = 2.0, 0.5
# bytes of memory: a deep image with alpha is held as uint16, as float32 and as the result at the same time
MEMORY_BYTES, MEMORY_BYTES_A_PIXEL = 256 * 2**20, 48
_HEAD = struct.Struct("<I")
_TYPES = ("uint8", "uint16", "int32", "float32")


class DecoderProcess:
    """One process, one image at a time. Not for two threads at once, but `kill` may come from any.

    max_pixels: of the largest image that it will be asked for; bounds its memory (where the system can).
    """

    def __init__(self, max_pixels: int) -> None:
        memory = MEMORY_BYTES + MEMORY_BYTES_A_PIXEL * max_pixels
        self._killed = False
        source = str(Path(__file__).resolve().parents[2])
        # -c puts the working folder first in sys.path: a file there is no module of ours
        code = f"import sys; sys.path[0] = {source!r}; from pspnet.images.decoder_process import main; main({memory})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libpng and libtiff print what they think of a file
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )

    @property
    def alive(self) -> bool:
        return not self._killed and self._process.poll() is None

    def kill(self) -> None:
        """Ends the process now; a `decode` that waits for it ends with an ImageError."""
        self._killed = True
        self._process.kill()

    def close(self) -> None:
        """Ends the process and waits for it."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # what was buffered for a process that is gone
                pipe.close()  # type: ignore[union-attr]

    def decode(
        self,
        data: bytes,
        name: str,
        size: tuple[int, int],
        *,
        bands: Literal[1, 3, 4] | None = 3,
        dtype: Literal["uint8", "native"] = "uint8",
        full_scale: int | None = None,
        seconds: float = math.inf,
    ) -> NDArray[Any]:
        """As `pspnet.images.decode_image`. size: (height, width) by the header. seconds: then the process is killed.

        Raises ImageError, also where the process ended; it is of no use then (`alive`).
        """
        stop = threading.Timer(seconds, self.kill) if math.isfinite(seconds) else None
        if stop is not None:
            stop.daemon = True
            stop.start()
        began = time.monotonic()
        pixels = size[0] * size[1]
        cpu = CPU_SECONDS + CPU_SECONDS_A_MEGAPIXEL * pixels / 1e6
        reading = {"bands": bands, "dtype": dtype, "full_scale": full_scale}
        wanted = {"name": name, "reading": reading, "max_pixels": pixels, "cpu": cpu}
        try:
            _send(self._process.stdin, wanted, data)
            head = _receive_head(self._process.stdout)
            if "error" in head:
                raise ImageError(str(head["error"])[:500])
            return self._result(head, name, size, bands)
        except (OSError, EOFError, ValueError) as error:
            self.kill()
            spent = time.monotonic() - began
            raise ImageError(
                f"'{name}' ({size[1]} x {size[0]} by its header) was given up after {spent:.1f} s: decoding it takes more "
                "time or memory than an image of that size needs, or its decoder fell"
            ) from error
        finally:
            if stop is not None:
                stop.cancel()

    def _result(self, head: dict[str, Any], name: str, size: tuple[int, int], bands: int | None) -> NDArray[Any]:
        shape, kind = [int(side) for side in head["shape"]], str(head["dtype"])
        turned = sorted(shape[:2]) == sorted(size)
        if not turned or len(shape) != 3 or shape[2] not in ((bands,) if bands else (1, 3, 4)) or kind not in _TYPES:
            self.kill()
            raise ImageError(f"'{name}' came out of its decoder as {shape} {kind}, not as its header says")
        result = np.empty(shape, kind)
        _receive_into(self._process.stdout, result.data.cast("B"))
        return result


def main(memory: int) -> None:
    """The child: decodes what comes on standard input until it closes."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    source = os.fdopen(os.dup(0), "rb")
    target = os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_RDWR)
    os.dup2(silence, 0)
    os.dup2(silence, 1)  # nothing that a library prints may get between the answers
    import cv2

    cv2.setNumThreads(1)
    _limit_memory(memory)
    while True:
        try:
            wanted, data = _receive(source)
        except (EOFError, OSError):
            return
        _limit_cpu(wanted["cpu"])
        try:
            pixels = decode_image(data, wanted["name"], **wanted["reading"], max_pixels=wanted["max_pixels"])
        except ImageError as error:
            answer: tuple[dict[str, Any], Any] = ({"error": str(error)}, b"")
        except Exception as error:  # too little memory, above all
            answer = ({"error": f"'{wanted['name']}' cannot be decoded: {type(error).__name__}"}, b"")
        else:
            answer = ({"shape": pixels.shape, "dtype": str(pixels.dtype)}, pixels.data.cast("B"))
        try:
            _send(target, *answer)
        except OSError:
            return
        del answer, data


def _limit_memory(more: int) -> None:
    """At most `more` bytes of addresses above what is taken now; no files, no core dumps."""
    try:
        import resource
    except ImportError:  # Windows has no such limits; the deadline remains
        return
    limits = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)]
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limits.append((resource.RLIMIT_AS, pages * resource.getpagesize() + more))
    for kind, value in limits:
        with suppress(OSError, ValueError):
            hard = resource.getrlimit(kind)[1]
            resource.setrlimit(kind, (value if hard < 0 else min(value, hard), hard))


def _limit_cpu(seconds: float) -> None:
    """The system ends this process (SIGXCPU) when it has computed for so long from now on."""
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    with suppress(OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used.ru_utime + used.ru_stime + seconds), hard))


def _send(pipe: IO[bytes] | None, head: dict[str, Any], data: Any) -> None:
    assert pipe is not None
    text = json.dumps({**head, "bytes": len(data)}).encode()
    pipe.write(_HEAD.pack(len(text)) + text)
    pipe.write(data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    head = _receive_head(pipe)
    data = bytearray(int(head["bytes"]))
    _receive_into(pipe, memoryview(data))
    return head, bytes(data)


def _receive_head(pipe: IO[bytes] | None) -> dict[str, Any]:
    assert pipe is not None
    size = bytearray(_HEAD.size)
    _receive_into(pipe, memoryview(size))
    (length,) = _HEAD.unpack(size)
    if length > 65_536:
        raise ValueError("no header")
    text = bytearray(length)
    _receive_into(pipe, memoryview(text))
    return dict(json.loads(bytes(text)))


def _receive_into(pipe: IO[bytes] | None, target: memoryview) -> None:
    assert pipe is not None
    done = 0
    while done < len(target):
        count = pipe.readinto(target[done:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError("the other end is gone")
        done += count
