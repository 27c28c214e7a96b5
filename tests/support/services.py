"""Services in processes of their own, for tests: `pspnet serve`, and one whose network sleeps as long as it is told.

python tests/support/services.py '{"sleep_s": 0.2, "queue": 2}'       runs the sleeping one on a free port
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Running:
    """A service's process, its address, and its log so far, a dict for each line."""

    process: subprocess.Popen[str]
    url: str = ""
    log: list[dict[str, Any]] = field(default_factory=list)

    def lines(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line.get("event") == event]

    def wait_for(self, event: str, seconds: float = 120.0, **values: Any) -> dict[str, Any]:
        """The first line of `event` with these values. A line may come after the answer that it is about."""
        until = time.monotonic() + seconds
        while True:
            for line in self.lines(event):
                if all(line.get(key) == value for key, value in values.items()):
                    return line
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"no {event!r} with {values} in the log: {self.log}")
            time.sleep(0.01)

    def memory_mib(self, key: str = "VmRSS") -> float:
        """VmRSS: now; VmHWM: the most so far."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith(key))


@contextmanager
def serving(
    *arguments: str, command: tuple[str, ...] = ("-m", "pspnet", "serve"), **environment: str
) -> Iterator[Running]:
    """`pspnet serve` with these arguments, on a free port unless they name one; ended when the block ends."""
    port = () if "--port" in arguments or command[0] != "-m" else ("--port", "0")
    process = subprocess.Popen(
        [sys.executable, *command, *arguments, *port],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )
    running = Running(process)

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            try:
                running.log.append(json.loads(line))
            except ValueError:
                running.log.append({"event": "not json", "text": line.rstrip()})

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        running.url = running.wait_for("listening")["url"]
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        reader.join()
        for pipe in (process.stdin, process.stderr):
            assert pipe is not None
            pipe.close()


def sleeping(sleep_s: float, **settings: Any) -> Any:
    """`serving`, with a network of two classes, "dark" and "bright", that sleeps for each batch.

    It is not ready before `wake` was called: its warming up waits for a line on standard input.
    """
    return serving(json.dumps({"sleep_s": sleep_s, **settings}), command=(__file__,))


def wake(running: Running) -> None:
    """Lets a sleeping service become ready, and waits until it is."""
    assert running.process.stdin is not None
    running.process.stdin.write("wake\n")
    running.process.stdin.flush()
    running.wait_for("ready")


def main() -> None:
    import torch

    from pspnet import LabelSpace, ModelConfig, Segmenter
    from pspnet.server import ServerSettings, create_app, run_server
    from pspnet.weights.checkpoint import ModelCard

    settings = json.loads(sys.argv[1])
    sleep_s = settings.pop("sleep_s")

    class Sleeping:
        name, device = "sleeping", torch.device("cpu")

        def __init__(self) -> None:
            self.awake = False

        def coarse(self, images: torch.Tensor) -> torch.Tensor:
            if not self.awake:
                self.awake = bool(sys.stdin.readline())
            time.sleep(sleep_s)
            bright = images.mean(dim=1, keepdim=True) - 127.5
            return torch.cat([-bright, bright], dim=1)

    config = ModelConfig(encoder="resnet18", num_classes=2)
    seg = Segmenter(config, ModelCard(LabelSpace(("dark", "bright"))), engine=Sleeping())
    limits = ServerSettings(**settings)
    run_server(create_app({"brightness": seg}, limits), port=0, drain_s=limits.drain_s)


if __name__ == "__main__":
    main()
