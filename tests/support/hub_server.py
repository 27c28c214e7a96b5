"""A hub on this machine: the requests of huggingface_hub's client for making, filling, listing and reading repositories.

Files are taken inside of the commit ("regular"); the hub itself takes large ones by another way, which is the client's affair.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

SHA = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """url: its address. files: repository -> name -> content. asked: (method, path, token) of each request."""

    url: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)


@contextmanager
def hub_server() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def say(self, status: int, content: Any = None, body: bytes = b"", **headers: str) -> None:
            data = body or (b"" if content is None else json.dumps(content).encode())
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", headers.get("length", str(len(data))))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def handle_one(self) -> None:
            token = self.headers.get("authorization", "").removeprefix("Bearer ")
            path = self.path.partition("?")[0]
            hub.asked.append((self.command, path, token))
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            parts = path.strip("/").split("/")
            if path == "/":
                self.say(200)
            elif path == "/api/repos/create":
                given = json.loads(body)
                name = "/".join(filter(None, (given.get("organization"), given["name"]))) or given["name"]
                hub.files.setdefault(name, {})
                self.say(200, {"url": f"{hub.url}/{name}"})
            elif path == "/api/validate-yaml":
                self.say(200, {"warnings": [], "errors": []})
            elif "preupload" in parts:
                files = [
                    {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for f in json.loads(body)["files"]
                ]
                self.say(200, {"files": files})
            elif "commit" in parts and self.command == "POST":
                name = "/".join(parts[2:4])
                for line in body.decode().splitlines():
                    one = json.loads(line)
                    if one["key"] == "file":
                        hub.files[name][one["value"]["path"]] = base64.b64decode(one["value"]["content"])
                self.say(200, {"commitUrl": f"{hub.url}/{name}/commit/{SHA}", "commitOid": SHA, "success": True})
            elif parts[:2] == ["api", "models"] and "/".join(parts[2:4]) in hub.files:
                name = "/".join(parts[2:4])
                if "tree" in parts:
                    listed = [
                        {"type": "file", "path": k, "size": len(v), "oid": SHA} for k, v in hub.files[name].items()
                    ]
                    self.say(200, listed)
                    return
                self.say(200, {"id": name, "sha": SHA, "siblings": [{"rfilename": one} for one in hub.files[name]]})
            elif len(parts) == 5 and parts[2] == "resolve" and parts[4] in hub.files.get("/".join(parts[:2]), {}):
                data = hub.files["/".join(parts[:2])][parts[4]]
                etag = f'"{hashlib.sha1(data).hexdigest()}"'
                self.say(200, body=data, ETag=etag, X_Repo_Commit=SHA)
            else:
                self.say(
                    404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound", X_Error_Message="not found"
                )

        do_GET = do_HEAD = do_POST = handle_one  # noqa: N815 - names of http.server

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A fixture: the hub of huggingface_hub's client for one test, with a cache of its own."""
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    huggingface_hub.utils.disable_progress_bars()
    with hub_server() as running:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", running.url)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"  # made when the library is imported
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield running
