"""A model as a service over HTTP: `create_app` makes the application, `run_server` runs it."""

from __future__ import annotations

from pspnet.errors import require

for _module in ("fastapi", "uvicorn", "prometheus_client", "python_multipart"):
    require(_module, "serve")

from pspnet.server.app import create_app  # noqa: E402 - after the check that says what to install
from pspnet.server.run_server import run_server  # noqa: E402
from pspnet.server.settings import ServerSettings  # noqa: E402

__all__ = ["ServerSettings", "create_app", "run_server"]
