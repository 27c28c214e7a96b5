"""Folders of results: what an earlier run wrote, by its summary.json, and pictures that are results themselves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pspnet.predict.image_results import label_name

SUMMARY = "summary.json"
OURS = "a result of an earlier run"


def file_identity(path: Path) -> dict[str, Any]:
    """Which file a result is of, and in which state that was: its path, size and time."""
    try:
        status = path.stat()
        return {"file": os.path.abspath(path), "size": status.st_size, "time": status.st_mtime_ns}
    except OSError:
        return {"file": os.path.abspath(path), "size": None, "time": None}


def known_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Label file -> what it is of, by the summary in a folder; empty where there is none of ours."""
    try:
        content = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        if "results" in content:
            results = {
                str(name): {**record, "file": str(record["file"])} for name, record in content["results"].items()
            }
        else:  # as summaries were before they had a table of results
            results = {f"{image['name']}.png": {"file": os.path.abspath(image["file"])} for image in content["images"]}
    except Exception:  # none, or whatever somebody wrote
        return {}
    return {name: record for name, record in results.items() if _is_inside(name)}


def _is_inside(name: str) -> bool:
    """Whether a name leads nowhere out of the folder: a summary may be a stranger's."""
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name


def shared_results(folder: Path) -> list[str]:
    """The files of earlier runs that all their images share, by the summary."""
    try:
        return [str(name) for name in json.loads((folder / SUMMARY).read_text(encoding="utf-8")).get("shared", [])]
    except Exception:  # none, or whatever somebody wrote
        return []


class ResultFolders:
    """Tells results of earlier runs, by the summaries in their folder and in those above it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self._known: dict[Path, set[str]] = {}

    def why(self, path: Path) -> str:
        for folder in (path.parent, *path.parent.parents):
            if folder not in self._known:
                self._known[folder] = set(known_results(folder))
            known = self._known[folder]
            if known and label_name(path.relative_to(folder).as_posix()) in known:
                return OURS
            if folder == self.top:
                break
        return ""
