"""What batching gains at 16 callers, and how the server bears twice the load that it can sustain.

    python benchmarks/serving.py [--size 128] [--rounds 8] [--threads 2] [--json OUT.json]
    python benchmarks/serving.py --soak 10 [--json OUT.json]            minutes

Comparison: two servers side by side, one by one and batching, take turns under 16 callers that each wait for their
answer, so a busy machine slows both. Beside requests a second stand processor seconds a request, which other programs
disturb less. Soak: requests come at fixed times, at twice the rate that 16 callers reached just before; nobody waits.
"""

from __future__ import annotations

import argparse
import http.client
import io
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

CALLERS, SETTLE_S = 16, 60.0


def bodies(sizes: list[int], count: int = 8) -> list[bytes]:
    """Generated scenes as JPEG."""
    from pspnet.data.catalog import open_dataset

    collected = []
    for size in sizes:
        scenes = open_dataset("scenes", None, "val", count=count, size=size)
        for index in range(count):
            stream = io.BytesIO()
            Image.fromarray(np.asarray(scenes[index].image)).save(stream, "JPEG", quality=90)
            collected.append(stream.getvalue())
    return collected


class Server:
    """A `pspnet serve` of its own."""

    def __init__(self, model: str, threads: int, *arguments: str) -> None:
        command = [sys.executable, "-m", "pspnet", "serve", model, "--port", "0", "--threads", str(threads), *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.port = json.loads(self.process.stderr.readline())["port"]
        while "ready" not in (line := self.process.stderr.readline()):
            if not line:
                raise SystemExit("the server did not start")
        self.faults: Counter[str] = Counter()
        threading.Thread(target=self._drain, daemon=True).start()
        self.watched = psutil.Process(self.process.pid)

    def _drain(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if '"level": "error"' in line:
                self.faults[line[:300]] += 1

    def processor_s(self) -> float:
        times = self.watched.cpu_times()
        return times.user + times.system

    def memory_mib(self) -> float:
        return self.watched.memory_info().rss / 2**20

    def images_a_batch(self) -> float:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", "/metrics")
        lines = dict(
            line.rsplit(" ", 1) for line in connection.getresponse().read().decode().splitlines() if "#" not in line
        )
        connection.close()
        total = next(float(v) for k, v in lines.items() if k.startswith("pspnet_batch_images_sum"))
        return total / next(float(v) for k, v in lines.items() if k.startswith("pspnet_batch_images_count"))


@contextmanager
def server(*arguments: object):
    one = Server(*arguments)  # type: ignore[arg-type]
    try:
        yield one
    finally:
        one.process.terminate()
        one.process.wait(60)


class Caller:
    """One connection, used again and again."""

    def __init__(self, port: int) -> None:
        self.port, self.connection = port, http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, body: bytes) -> tuple[int | str, float]:
        """(status, seconds); a text where there was no answer."""
        began = time.perf_counter()
        try:
            self.connection.request("POST", "/v1/segment", body)
            answer = self.connection.getresponse()
            answer.read()
            return answer.status, time.perf_counter() - began
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            return type(error).__name__, time.perf_counter() - began


def closed_load(port: int, images: list[bytes], seconds: float) -> tuple[float, list[float]]:
    """16 callers, each asking when it has its answer. (answers a second, their latencies)."""
    latencies: list[float] = []
    until = time.perf_counter() + seconds

    def call(first: int) -> None:
        caller = Caller(port)
        for number in itertools.count(first):
            if time.perf_counter() > until:
                return
            status, spent = caller.ask(images[number % len(images)])
            if status != 200:
                raise SystemExit(f"status {status}")
            latencies.append(spent)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(CALLERS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(latencies) / (time.perf_counter() - began), latencies


def compare(model: str, size: int, rounds: int, seconds: float, threads: int) -> dict[str, object]:
    """One by one and batching, in turns."""
    images = bodies([size])
    ways = {"one by one": ("--max-batch", "1"), "batching": ("--max-batch", "16")}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    waits: dict[str, list[float]] = {name: [] for name in ways}
    costs: dict[str, list[float]] = {name: [] for name in ways}
    with server(model, threads, *ways["one by one"]) as first, server(model, threads, *ways["batching"]) as second:
        servers = dict(zip(ways, (first, second), strict=True))
        for one in servers.values():
            closed_load(one.port, images, 2.0)
        for _ in range(rounds):
            for name, one in servers.items():
                before = one.processor_s()
                rate, latencies = closed_load(one.port, images, seconds)
                rates[name].append(rate)
                waits[name] += latencies
                costs[name].append((one.processor_s() - before) / len(latencies) * 1000)
        together = servers["batching"].images_a_batch()
    pairs = [b / a for a, b in zip(rates["one by one"], rates["batching"], strict=True)]
    cheaper = [a / b for a, b in zip(costs["one by one"], costs["batching"], strict=True)]
    return {
        "size_px": size,
        "threads": threads,
        "rounds": rounds,
        "images_a_batch": round(together, 1),
        "requests_per_s": {name: round(statistics.median(values), 1) for name, values in rates.items()},
        "p50_p95_ms": {
            name: [round(float(v) * 1000) for v in np.percentile(values, (50, 95))] for name, values in waits.items()
        },
        "server_processor_ms": {name: round(statistics.median(values), 1) for name, values in costs.items()},
        "gain": round(statistics.median(pairs), 2),
        "gain_of_rounds": [round(pair, 2) for pair in pairs],
        "gain_in_processor": round(statistics.median(cheaper), 2),
    }


def soak(model: str, minutes: float, threads: int) -> dict[str, object]:
    """Twice the sustainable load: statuses, latencies, memory."""
    images = bodies([96, 128, 160], 4)
    with server(model, threads) as one:
        sustainable, _ = closed_load(one.port, images, min(20.0, 20 * minutes))
        rate, began, seconds = 2 * sustainable, time.perf_counter(), minutes * 60
        numbers, lock = itertools.count(), threading.Lock()
        answers: list[tuple[float, int | str, float]] = []
        late = [0.0]

        def call() -> None:
            caller = Caller(one.port)
            while True:
                with lock:
                    number = next(numbers)
                due = number / rate
                if due > seconds:
                    return
                pause = began + due - time.perf_counter()
                if pause > 0:
                    time.sleep(pause)
                else:
                    late[0] = max(late[0], -pause)
                status, spent = caller.ask(images[number % len(images)])
                answers.append((due, status, spent))

        threads_of_callers = [threading.Thread(target=call) for _ in range(96)]
        for thread in threads_of_callers:
            thread.start()
        memory: list[tuple[float, float]] = []
        while any(thread.is_alive() for thread in threads_of_callers):
            memory.append((time.perf_counter() - began, one.memory_mib()))
            time.sleep(1)
        alive = one.process.poll() is None
        faults = dict(one.faults)
    settled = [mib for at, mib in memory if at > min(SETTLE_S, seconds / 4)]
    part = max(1, len(settled) // 9)
    first, last = statistics.median(settled[:part]), statistics.median(settled[-part:])
    report: dict[str, object] = {
        "minutes": minutes,
        "threads": threads,
        "sustainable_per_s": round(sustainable, 1),
        "asked_per_s": round(rate, 1),
        "answers": len(answers),
        "statuses": dict(Counter(str(status) for _, status, _ in answers)),
        "sent_late_by_at_most_s": round(late[0], 2),
        "alive": alive,
        "errors_in_log": faults,
        "memory_mib": {
            "after the first minute": round(first),
            "at the end": round(last),
            "most": round(max(settled)),
            "change_percent": round((last / first - 1) * 100, 1),
            "each_half_minute": [round(mib) for _, mib in memory[::30]],
        },
    }
    for status in (200, 503):
        spent = [value for _, code, value in answers if code == status]
        if spent:
            report[f"latency_of_{status}_ms"] = {
                name: round(float(value) * 1000)
                for name, value in zip(
                    ("p50", "p95", "p99", "most"), np.percentile(spent, (50, 95, 99, 100)), strict=True
                )
            }
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="scenes")
    parser.add_argument("--size", type=int, default=128, help="height and width of the images, in pixels")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each turn")
    parser.add_argument("--threads", type=int, default=2, help="that compute, of each server")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="the soak instead of the comparison")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.soak:
        report = soak(given.model, given.soak, given.threads)
    else:
        report = compare(given.model, given.size, given.rounds, given.seconds, given.threads)
    report |= {
        "load_of_machine": [round(v, 1) for v in os.getloadavg()],
        "processor": platform.processor() or platform.machine(),
    }
    print(json.dumps(report, indent=1))
    if given.json:
        given.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
