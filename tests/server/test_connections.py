"""Clients that are slow on purpose: each kind is ended, and honest ones are answered meanwhile."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx
import numpy as np
import pytest
from PIL import Image

from pspnet.client import as_bytes
from support.services import Running, sleeping, wake

TINY = as_bytes(np.full((4, 6, 3), 200, np.uint8))
STALL_S, DEADLINE_S, MOST = 1.0, 3.0, 24


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    limits = {"stall_s": STALL_S, "deadline_s": DEADLINE_S, "connections": MOST, "queue_mib": 2, "max_mib": 1}
    with sleeping(0.0, queue=3, max_batch=1, **limits) as running:
        wake(running)
        httpx.post(running.url + "/v1/segment", content=TINY, timeout=30)  # its decoder has loaded its libraries
        yield running


OPEN: list[socket.socket] = []


@pytest.fixture(autouse=True)
def _close_all() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def connect(served: Running, data: bytes = b"") -> socket.socket:
    link = socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2])), timeout=10)
    OPEN.append(link)
    link.sendall(data)
    return link


def head(length: int, extra: bytes = b"") -> bytes:
    return b"POST /v1/segment HTTP/1.1\r\nHost: 127.0.0.1\r\n" + extra + b"Content-Length: %d\r\n\r\n" % length


def ended_after(link: socket.socket) -> float:
    """Seconds until the server closes a connection."""
    began = time.monotonic()
    try:
        while link.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - began


def answer_of(link: socket.socket) -> bytes:
    """Head and body of an answer with a content-length."""
    content = b""
    while True:
        front, end, body = content.partition(b"\r\n\r\n")
        length = front.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        part = b"" if end and len(body) >= int(length) else link.recv(65536)
        if not part:
            return content
        content += part


def is_answered(served: Running) -> bool:
    return httpx.post(served.url + "/v1/segment", content=TINY, timeout=10).status_code == 200


@pytest.mark.parametrize("sent", [b"", b"POST /v1/segment HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: "])
def test_headers_that_never_end_are_cut_off(served: Running, sent: bytes) -> None:
    began = time.monotonic()
    links = [connect(served, sent) for _ in range(5)]
    assert is_answered(served)
    ended_after(links[0])
    assert DEADLINE_S - 0.7 < time.monotonic() - began < DEADLINE_S + 3
    assert all(ended_after(link) < 1 for link in links)


def test_headers_by_drops_are_cut_off_too(served: Running) -> None:
    link = connect(served, b"GET /healthz HTTP/1.1\r\nX-A: ")
    began = time.monotonic()
    with suppress(OSError):  # reset, or a broken pipe
        while time.monotonic() - began < 15:
            link.sendall(b"b")
            time.sleep(0.1)
    assert time.monotonic() - began < DEADLINE_S + 3


def test_bodies_of_four_bytes_take_nobodys_place(served: Running) -> None:
    links = [connect(served, head(900_000) + b"\x89PNG") for _ in range(MOST - 4)]  # far more than --queue 3
    assert all(is_answered(served) for _ in range(3))
    answer = answer_of(links[0])
    assert b" 408 " in answer.partition(b"\r\n")[0]
    assert f"no byte came for {STALL_S:g} s".encode() in answer


@pytest.mark.slow
def test_bodies_share_their_memory_and_the_idlest_leaves() -> None:
    with sleeping(0.0, queue=3, stall_s=20, deadline_s=30, queue_mib=2, max_mib=1) as running:
        wake(running)
        links = []
        for _ in range(4):  # 0.9 MiB each of 2
            links.append(connect(running, head(950_000) + bytes(940_000)))
            time.sleep(0.7)
        answer = answer_of(links[0])
        assert b" 408 " in answer.partition(b"\r\n")[0]
        assert b"others needed the memory" in answer
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8))
        stream = io.BytesIO()
        noise.save(stream, "PNG")  # 0.36 MB: it fits only when another one leaves
        assert httpx.post(running.url + "/v1/segment", content=stream.getvalue(), timeout=20).status_code == 200


def test_an_answer_that_nobody_reads_is_dropped(served: Running) -> None:
    """Requests one behind the other, whose answers are more than the system takes for a reader who takes nothing."""
    link = socket.socket()
    OPEN.append(link)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    link.settimeout(STALL_S + 8)
    link.connect(("127.0.0.1", int(served.url.rpartition(":")[2])))
    began = time.monotonic()
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        link.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 100_000)
    assert STALL_S < time.monotonic() - began < STALL_S + 8
    assert is_answered(served)


def test_too_many_connections_end_the_idlest(served: Running) -> None:
    links = [connect(served) for _ in range(3 * MOST)]
    time.sleep(0.3)
    assert is_answered(served)
    links[0].settimeout(0.5)
    assert ended_after(links[0]) < 0.5  # at once, not at a deadline


def test_a_reader_that_is_slow_but_steady_is_served(served: Running) -> None:
    link = connect(served, b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    content = b""
    for _ in range(8):
        time.sleep(0.3)
        content += link.recv(2000)
    while part := link.recv(65536):
        content += part
    assert content.endswith(b"}")
    assert int(content.partition(b"content-length: ")[2].partition(b"\r\n")[0]) == len(
        content.partition(b"\r\n\r\n")[2]
    )


def test_two_lengths_end_the_connection(served: Running) -> None:
    hidden = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Request-ID: SMUGGLED\r\n\r\n"
    body = b"0\r\n\r\n" + hidden
    link = connect(served, head(len(body), b"Transfer-Encoding: chunked\r\n") + body)
    answer = b""
    while part := link.recv(65536):
        answer += part
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"SMUGGLED" not in answer
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("path", ["/nothing", "/v1/segment"])
def test_a_broken_body_is_answered_once(served: Running, path: str) -> None:
    """The head's request is in work when uvicorn answers 400 for what follows: its own answer comes too late."""
    start = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    link = connect(served, start + b"zz\r\nabc\r\n0\r\n\r\n")
    answer = b"".join(iter(lambda: link.recv(65536), b""))  # it has no length: the connection closes
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 400")
    time.sleep(0.2)
    assert not [line for line in served.log if "Exception" in str(line)]
    assert is_answered(served)


def test_sigterm_ends_it_although_clients_hang() -> None:
    with sleeping(0.0, drain_s=1.0, stall_s=30, deadline_s=60) as running:
        wake(running)
        for sent in (head(900_000) + b"\x89PNG", b"GET / HT", b""):
            connect(running, sent)
        time.sleep(0.2)
        began = time.monotonic()
        running.process.terminate()
        assert running.process.wait(timeout=30) in (-15, 143)
        assert time.monotonic() - began < 8
