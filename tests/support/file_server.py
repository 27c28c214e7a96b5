"""A program that serves a folder over HTTP with byte ranges, as object stores do: python file_server.py FOLDER.

Its own process, since GDAL keeps Python's lock while it waits for an answer. Tells the port, then a line for each
answer before it is sent: its status and its bytes. A path with "broken" in it is answered 503.
"""

from __future__ import annotations

import os
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def tell(*values: int) -> None:
    """A line on standard output, by one call to the system: print() of two threads may mix their lines."""
    os.write(sys.stdout.fileno(), (" ".join(map(str, values)) + "\n").encode())


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = Path(sys.argv[1]) / self.path.lstrip("/")
        if "broken" in self.path or not path.is_file():
            status = 503 if "broken" in self.path else 404
            tell(status, 0)
            self.send_error(status)
            return
        data = path.read_bytes()
        first, last = 0, len(data) - 1
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted:
            first, last = int(wanted[1]), min(int(wanted[2]), last)
        self.send_response(206 if wanted else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - first + 1))
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.end_headers()
        if body:
            tell(206 if wanted else 200, last - first + 1)
            self.wfile.write(data[first : last + 1])

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    tell(server.server_port)
    server.serve_forever()
