"""The service among honest and hostile clients at once: are the honest ones answered, is memory flat, does SIGTERM end it?

python benchmarks/hostile_clients.py --minutes 10 [--json results.json]

Prints a table and exits 1 where a promise of SECURITY.md was broken. Clients are threads of this process; the server is a
process of its own, `pspnet serve scenes`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

DRAIN_S, STALL_S = 10.0, 6.0
SETTLE = 0.35  # of the run: until then memory may grow, as models, threads and heaps fill


def picture(rng: random.Random, fmt: str = "PNG", side: int = 160) -> bytes:
    """A picture of a random size, at most `side` px high."""
    shape = (rng.randint(40, side), rng.randint(40, 2 * side), 3)
    noise = np.random.default_rng(rng.randrange(2**32)).integers(0, 256, shape, dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, fmt)
    return stream.getvalue()


def damaged(rng: random.Random) -> bytes:
    """A file of any format with altered bytes, or cut off."""
    data = bytearray(picture(rng, rng.choice(("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP")), 60))
    for _ in range(rng.randint(1, 9)):
        data[rng.randrange(min(len(data), rng.choice((60, 500, 10**6))))] = rng.randrange(256)
    return bytes(data[: rng.choice((len(data), rng.randrange(1, len(data))))])


def costly(rng: random.Random) -> bytes:
    """A small file that costs a library much: comments, scans, tags, chunks, or a bomb."""
    segment = lambda marker, body: b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body  # noqa: E731
    kind = rng.randrange(5)
    if kind == 0:
        return (
            b"GIF89a\x0a\0\x0a\0\0\0\0!\xfe"
            + (b"\xff" + b"c" * 255) * 8000
            + b"\0,\0\0\0\0\x0a\0\x0a\0\0\x02\x02\x4c\x01\0;"
        )
    if kind == 1:
        frame = segment(0xC2, struct.pack(">BHHB", 8, 3000, 3000, 1) + b"\x01\x11\0")
        scans = (segment(0xDA, b"\x01\x01\0\x01\x3f\0") + bytes(20)) * rng.choice((90, 5000))
        return b"\xff\xd8" + frame + segment(0xDA, b"\x01\x01\0\0\0\0") + bytes(20_000) + scans + b"\xff\xd9"
    if kind == 2:
        entries = [(256, 3, 1, 8), (257, 3, 1, 8), *((40000 + k, 1, 2**20, 8) for k in range(900))]
        listed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
        return (
            b"II*\0" + struct.pack("<I", 8 + 2**20) + bytes(2**20) + struct.pack("<H", len(entries)) + listed + bytes(4)
        )
    if kind == 3:
        return (
            b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"
            + struct.pack(">IIBBBBB", 9, 9, 8, 0, 0, 0, 0)
            + bytes(4)
            + b"\0\0\0\0prIv\0\0\0\0" * 10**5
        )
    stream = io.BytesIO()
    Image.new("1", (60_000, 20_000)).save(stream, "PNG")
    return stream.getvalue()


class Clients:
    """What clients have seen so far. answers: statuses of honest requests. hostile: of hostile ones."""

    def __init__(self, port: int, seed: int) -> None:
        self.port, self.seed, self.stop, self.draining = port, seed, threading.Event(), threading.Event()
        self.answers: Counter[str] = Counter()
        self.hostile: Counter[str] = Counter()
        self.slowest = self.slowest_health = 0.0

    def honest(self, number: int) -> None:
        rng = random.Random(self.seed * 1000 + number)
        pictures = [picture(rng) for _ in range(10)]
        while not self.stop.is_set():
            began, outcome = time.monotonic(), "lost"
            link = HTTPConnection("127.0.0.1", self.port, timeout=60)
            try:
                link.connect()
                link.request(
                    "POST", "/v1/segment?format=" + rng.choice(("labels", "rle", "overlay")), rng.choice(pictures)
                )
                answer = link.getresponse()
                answer.read()
                outcome = str(answer.status)
            except ConnectionRefusedError:
                outcome = "refused"  # before it was accepted: only right while the server ends
            except OSError as error:
                outcome = f"lost ({type(error).__name__})"
            finally:
                link.close()
            if outcome == "refused" and self.draining.is_set():
                return
            self.answers[outcome] += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            time.sleep(1.0 if outcome == "503" else 0.02)

    def health(self) -> None:
        while not self.stop.wait(0.2) and not self.draining.is_set():
            began = time.monotonic()
            status = self._ask(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 30)
            if not self.draining.is_set():
                self.answers["healthz 200" if status == "200" else f"healthz {status}"] += 1
                self.slowest_health = max(self.slowest_health, time.monotonic() - began)

    def attack(self, number: int) -> None:
        rng = random.Random(self.seed * 2000 + number)
        ways: list[Callable[[random.Random], str]] = [
            *(self._damaged, self._costly, self._slow_body, self._slow_head, self._unread, self._leaving),
            *(self._two_lengths, self._foreign, self._form),
        ]
        while not self.stop.is_set():
            way = rng.choice(ways)
            status = "no answer"
            with suppress(OSError):
                status = way(rng)
            self.hostile[f"{way.__name__.strip('_')} {status}"] += 1

    def _damaged(self, rng: random.Random) -> str:
        return self._post(damaged(rng))

    def _costly(self, rng: random.Random) -> str:
        return self._post(costly(rng))

    def _slow_body(self, rng: random.Random) -> str:
        return self._ask(self._head(30_000_000) + b"\x89PNG" * rng.choice((1, 200_000)), STALL_S + 5)

    def _slow_head(self, rng: random.Random) -> str:
        return self._ask(b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nX-A: ", rng.choice((0.5, 15)))

    def _unread(self, rng: random.Random) -> str:
        data = picture(rng, side=600)
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as link:
            link.sendall(self._head(len(data), "?format=overlay") + data)
            self.stop.wait(rng.choice((1, 8)))
        return "left"

    def _leaving(self, rng: random.Random) -> str:
        data = picture(rng)
        whole = self._head(len(data)) + data
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as link:
            link.sendall(whole[: rng.randrange(1, len(whole) + 1)])
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", rng.randrange(2), 0))
        return "left"

    def _two_lengths(self, rng: random.Random) -> str:
        return self._ask(self._head(9)[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET ", 10)

    def _foreign(self, rng: random.Random) -> str:
        return self._ask(b"GET /v1/model HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n\r\n", 10)

    def _form(self, rng: random.Random) -> str:
        body = b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n' * 5000
        return self._ask(
            self._head(len(body))[:-2] + b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + body, 20
        )

    def _post(self, data: bytes) -> str:
        return self._ask(self._head(len(data)) + data, 60)

    def _head(self, length: int, query: str = "") -> bytes:
        return f"POST /v1/segment{query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()

    def _ask(self, data: bytes, timeout: float) -> str:
        """The status of the first answer; "no answer" where the connection ends or the time passes without one."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as link:
            with suppress(ConnectionError):  # an answer may come before all is sent
                link.sendall(data)
            match = re.match(rb"HTTP/1\.1 (\d{3})", link.recv(4096))
        return match[1].decode() if match else "no answer"


def memory_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


def run(minutes: float, honest: int, hostile: int, seed: int) -> dict[str, Any]:
    """Serves, lets clients loose, ends the server; what was seen."""
    command = [
        sys.executable,
        "-m",
        "pspnet",
        "serve",
        "scenes",
        "--port",
        "0",
        "--threads",
        "1",
        "--drain",
        f"{DRAIN_S:g}",
    ]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert server.stderr is not None
    log: list[dict[str, Any]] = []
    for line in server.stderr:
        log.append(json.loads(line))
        if log[-1]["event"] == "ready":
            break
    reader = threading.Thread(target=lambda: log.extend(map(json.loads, server.stderr or ())), daemon=True)
    reader.start()
    clients = Clients(next(line["port"] for line in log if line["event"] == "listening"), seed)
    threads = [threading.Thread(target=clients.honest, args=(n,), daemon=True) for n in range(honest)]
    threads += [threading.Thread(target=clients.attack, args=(n,), daemon=True) for n in range(hostile)]
    threads.append(threading.Thread(target=clients.health, daemon=True))
    began = time.monotonic()
    for thread in threads:
        thread.start()
    memory = []
    while time.monotonic() - began < 60 * minutes and server.poll() is None:
        time.sleep(min(1.0, 6 * minutes))
        memory.append((time.monotonic() - began, memory_mib(server.pid)))
    clients.draining.set()
    ended = time.monotonic()
    server.send_signal(signal.SIGTERM)
    try:
        code = server.wait(DRAIN_S + 30)
    except subprocess.TimeoutExpired:
        server.kill()
        code = server.wait()
    seconds = time.monotonic() - ended
    clients.stop.set()
    for thread in threads[:honest]:
        thread.join(90)
    reader.join(5)
    server.stderr.close()
    settled = [value for at, value in memory if at > SETTLE * 60 * minutes] or [0.0]
    half = len(settled) // 2 or 1
    return {
        "minutes": minutes,
        "honest": dict(clients.answers.most_common()),
        "hostile": dict(sorted(clients.hostile.items())),
        "slowest honest answer, s": round(clients.slowest, 2),
        "slowest healthz, s": round(clients.slowest_health, 2),
        "memory grown, MiB": round(float(np.mean(settled[half:]) - np.mean(settled[:half])), 1)
        if len(settled) > 3
        else 0.0,
        "memory at most, MiB": round(max(settled)),
        "ended after SIGTERM, s": round(seconds, 1),
        "exit code": code,
        "faults in the log": sum(line.get("status") == 500 or "at" in line for line in log),
    }


def broken(results: dict[str, Any]) -> list[str]:
    """The promises that were not kept."""
    wrong = [f"honest clients got {name}" for name in results["honest"] if name not in ("200", "503", "healthz 200")]
    wrong += [] if results["honest"].get("200") else ["no honest request was answered"]
    wrong += [f"hostile clients got {name}" for name in results["hostile"] if name.endswith(" 500")]
    wrong += [f"{results['faults in the log']} faults in the log"] if results["faults in the log"] else []
    wrong += ["memory grew"] if results["memory grown, MiB"] > 80 else []
    wrong += ["/healthz was slow"] if results["slowest healthz, s"] > 5 else []
    late = results["ended after SIGTERM, s"] > DRAIN_S + 6 or results["exit code"] not in (-15, 143)
    return [*wrong, *(["SIGTERM was not obeyed in time"] if late else [])]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--honest", type=int, default=4, help="honest clients")
    parser.add_argument("--hostile", type=int, default=8, help="hostile clients")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the results")
    given = parser.parse_args()
    results = run(given.minutes, given.honest, given.hostile, given.seed)
    for name, value in results.items():
        print(f"{name}: {value}")
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    wrong = broken(results)
    print("promises broken: " + ("; ".join(wrong) or "none"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
