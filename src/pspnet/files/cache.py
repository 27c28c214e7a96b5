"""The cache: one folder of the user's for what can be made again, never beside their data.

PSPNET_CACHE, else `pspnet` in the user's cache folder. Nothing is lost when it is emptied, and nothing fails where it
cannot be written to. Names in it are digests, so the limits of `path_limits` on what people name do not apply.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from pspnet.files.temporary import sweep, temporary_path

KEPT_NOTES = 200  # of each kind; those written last


def cache_folder() -> Path:
    """Where it is. It need not exist."""
    given = os.environ.get("PSPNET_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pspnet"


def read_note(name: str) -> dict[str, Any]:
    """What `keep_note` kept under a name; {} where there is nothing, something else, or where a bit of it was altered."""
    try:
        note = json.loads((cache_folder() / name).read_text(encoding="utf-8"))
        content: dict[str, Any] = note["content"]
        return content if note["check"] == _check(content) else {}
    except Exception:  # none, or whatever lies there: it is made again
        return {}


def keep_note(name: str, content: dict[str, Any]) -> None:
    """Keeps a JSON content as KIND-DIGEST.json, whole or not at all; not at all where the folder cannot be written to."""
    with suppress(OSError, RuntimeError):  # RuntimeError: nobody knows where the user's home is
        path = cache_folder() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        part = temporary_path(path)
        try:
            content = json.loads(json.dumps(content))  # as it will be read back
            part.write_text(json.dumps({"content": content, "check": _check(content)}), encoding="utf-8")
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        notes = path.parent.glob(f"{name.partition('-')[0]}-*.json")
        for old in sorted(notes, key=lambda note: note.stat().st_mtime)[:-KEPT_NOTES]:
            old.unlink(missing_ok=True)


def _check(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
