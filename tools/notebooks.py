"""The first hours as notebooks: docs/first-hours/NAME.md -> examples/NAME.ipynb.

    python tools/notebooks.py

Text becomes cells of Markdown, a block of Python a cell of code, a block of `sh` a cell of `!` lines. A test runs them.
"""

from __future__ import annotations

import json
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
GUIDES = ROOT / "docs" / "first-hours"
NOTEBOOKS = ROOT / "examples"
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```\n", re.M | re.S)


def notebook(guide: Path) -> dict[str, Any]:
    """A guide as a notebook of format 4.5, without outputs. Links are those seen from examples/."""
    pieces = BLOCK.split(guide.read_text(encoding="utf-8"))
    cells = [_cell("markdown", _relinked(pieces[0]))]
    for language, code, text in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        cells += [_cell("code", code if language == "python" else re.sub(r"^(?=\S)", "!", code, flags=re.M))]
        cells += [_cell("markdown", _relinked(text))]
    cells = [cell for cell in cells if cell["source"]]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    python = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": python}, "nbformat": 4, "nbformat_minor": 5}


def written(guide: Path) -> str:
    """The text of a guide's notebook file."""
    return json.dumps(notebook(guide), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _cell(kind: str, text: str) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": kind, "metadata": {}, "source": text.strip("\n").splitlines(keepends=True)}
    return cell | {"execution_count": None, "outputs": []} if kind == "code" else cell


def _relinked(text: str) -> str:
    """Links of docs/first-hours as they are from examples/; a link to another hour leads to its notebook."""

    def link(match: re.Match[str]) -> str:
        goal = match.group(1)
        if "://" in goal or goal.startswith("#"):
            return match.group(0)
        if re.fullmatch(r"\w+\.md", goal):
            return f"]({goal.removesuffix('.md')}.ipynb)"
        return f"]({posixpath.normpath(posixpath.join('../docs/first-hours', goal))})"

    return re.sub(r"\]\(([^)\s]+)\)", link, text)


def main() -> int:
    for guide in sorted(GUIDES.glob("*.md")):
        path = NOTEBOOKS / f"{guide.stem}.ipynb"
        path.write_text(written(guide), encoding="utf-8")
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
