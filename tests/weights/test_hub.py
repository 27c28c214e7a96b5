"""The hub is tried once and shortly: its cache first, and a place without a network gets a sentence within seconds."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import huggingface_hub
import pytest

from pspnet.weights import hub


def test_the_cache_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: str(path))
    monkeypatch.setattr(hub, "_fault_of", lambda address: pytest.fail("the network was asked"))
    assert hub.hub_file("timm/some") == path


def test_who_never_answers_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "TRY_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and says nothing
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
        started = time.monotonic()
        answer = hub.hub_file("timm/some")
    assert isinstance(answer, str)
    assert time.monotonic() - started < 5


def test_who_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "refused" in hub._fault_of(f"http://127.0.0.1:{port}")  # closed by now
