"""A client of the page may name no file of the machine, in one request or in two. A real playground, asked over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pspnet.images import encode_png

PICTURE = encode_png(np.full((20, 30, 3), 90, np.uint8))
PRIVATE = b"TOP SECRET 0815\n"


def _listens_to_ctrl_c() -> None:
    """A shell's background jobs, these tests perhaps, ignore SIGINT, and so would their children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Playground:
    """`pspnet playground` in a process of its own."""

    def __init__(self, root: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = (root.parent / "page.log").open("wb")
        command = [sys.executable, "-m", "pspnet", "playground", "--root", str(root), "--port", str(self.port)]
        self.process = subprocess.Popen(
            command, stdout=self.log, stderr=self.log, cwd=root, preexec_fn=_listens_to_ctrl_c
        )
        until = time.monotonic() + 300
        while self.ask("GET", "/healthz")[0] != 200:
            assert self.process.poll() is None, (root.parent / "page.log").read_text()
            assert time.monotonic() < until
            time.sleep(0.1)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            link.request(method, path, body or None, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = link.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            link.close()

    def call(self, handler: str, *values: Any) -> str:
        """A handler's answer, as the server writes it."""
        body = json.dumps({"data": values}).encode()
        event = json.loads(self.ask("POST", f"/gradio_api/call/{handler}", body, content_type="application/json")[1])
        return self.ask("GET", f"/gradio_api/call/{handler}/{event['event_id']}")[1].decode()

    def upload(self, name: str, data: bytes) -> str:
        part = f'--x\r\ncontent-disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
        kind = "multipart/form-data; boundary=x"
        return json.loads(self.ask("POST", "/gradio_api/upload", part + data + b"\r\n--x--\r\n", content_type=kind)[1])[
            0
        ]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    folder = tmp_path_factory.mktemp("uploads")
    (folder / "work").mkdir()
    (folder / "secret.txt").write_bytes(PRIVATE)
    (folder / "secret.png").write_bytes(PICTURE)
    (folder / "work" / "inside.png").write_bytes(PICTURE)
    (folder / "work" / "link.png").symlink_to(folder / "secret.png")
    running = Playground(folder / "work")
    yield running
    running.close()


def as_file(path: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


@pytest.mark.parametrize("name", ["secret.txt", "secret.png", "work/inside.png", "work/link.png"])
def test_no_file_of_the_machine_is_read_in_two_requests(page: Playground, name: str) -> None:
    target = Path(page.log.name).parent / name
    for value in (
        as_file(str(target)),
        as_file(f"/../..{target}"),
        as_file("x.png", url=str(target)),
        [as_file(str(target))],
    ):
        answer = page.call("try_parse", value, "scenes", "none")
        assert "event: error" in answer
        assert "SECRET" not in answer
        for copy in re.findall(
            r"/[\w/.-]*pspnet-playground-[\w/.-]+", answer
        ):  # the second request: the page's own copy
            assert page.ask("GET", f"/gradio_api/file={copy}")[0] in (400, 403, 404)
    assert page.ask("GET", f"/gradio_api/file={target}")[0] in (400, 403, 404)
    for folder in Path(_cache_of(page)).rglob("*"):
        assert not folder.is_file() or folder.read_bytes() not in (PRIVATE, PICTURE)


def _cache_of(page: Playground) -> str:
    """The page's folder for uploads, as the system tells."""
    environment = Path(f"/proc/{page.process.pid}/fd")  # the process exists
    assert environment.exists()
    return str(Path(page.upload("probe.bin", b"\0probe")).parents[1])


def test_no_address_is_fetched(page: Playground) -> None:
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.png"
        for value in (
            as_file(address),
            as_file("a.png", url=address),
            {"url": address, "path": None},
            as_file("ftp://a/b"),
        ):
            assert "event: error" in page.call("try_parse", value, "scenes", "none")
        with pytest.raises(TimeoutError):
            asked.append(server.accept()[0].recv(99))
    assert not asked


def test_an_upload_is_parsed_and_one_that_is_no_image_is_told_in_words(page: Playground) -> None:
    assert "event: complete" in page.call("try_parse", as_file(page.upload("a.png", PICTURE)), "scenes", "none")
    answer = page.call("try_parse", as_file(page.upload("notes.txt", PRIVATE)), "scenes", "none")
    assert "event: complete" in answer  # the message stands on the page, and the old result goes
    assert "notes.txt" in answer
    assert "is no image" in answer
    assert "pspnet-playground-" not in answer  # no folder of the server in it


def test_postscript_called_png_starts_no_program(page: Playground) -> None:
    answer = page.call("try_parse", as_file(page.upload("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n")), "scenes", "none")
    assert "is no image" in answer


def test_requests_that_make_no_sense_are_no_fault(page: Playground) -> None:
    assert "event: error" in page.call("try_parse", None, "[/x]", "<script>")  # choices that the page does not offer
    for host in ("[", "[::1", "localhost:abc", "evil.example", ""):
        assert page.ask("GET", "/", Host=host)[0] in (400, 403)
    page.ask("GET", "/gradio_api/queue/data?session_hash=nobody")
    page.log.flush()
    assert "Traceback" not in Path(page.log.name).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_uploads_go_with_the_page(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "work").mkdir()
    page = Playground(tmp_path / "work")
    try:
        upload = page.upload("private.png", PICTURE)
        assert os.path.exists(upload)
        page.process.send_signal(number)
        assert page.process.wait(120) == 128 + number
        assert not os.path.exists(upload)
    finally:
        page.close()
