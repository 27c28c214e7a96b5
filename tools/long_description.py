"""What an index page shows: README with links and pictures that lead to the repository. A build hook of hatchling.

`repository` of [tool.pspnet] in pyproject.toml is the repository's address (https://HOST/OWNER/NAME). While it is empty, links become
plain text and pictures are left out, so that nothing on the page leads nowhere; with it, [project.urls] is filled as well.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def long_description(text: str, repository: str) -> str:
    """README's Markdown with absolute links and pictures, or without those that would lead nowhere."""

    def link(match: re.Match[str]) -> str:
        picture, words, goal = match.groups()
        if re.match(r"(https?:|mailto:|#)", goal):
            return match.group(0)
        if repository:
            return f"{picture}[{words}]({repository}/{'raw' if picture else 'blob'}/main/{goal})"
        return "" if picture else words

    return re.sub(r"\n{3,}", "\n\n", LINK.sub(link, text))


def urls(repository: str) -> dict[str, str]:
    """[project.urls], empty without a repository."""
    pages = {"Documentation": "docs", "Changelog": "CHANGELOG.md", "Security": "SECURITY.md"}
    links = {"Repository": repository, "Issues": f"{repository}/issues"}
    return {**links, **{name: f"{repository}/blob/main/{path}" for name, path in pages.items()}} if repository else {}


class LongDescription(MetadataHookInterface):
    """Fills the dynamic fields `readme` and `urls`."""

    def update(self, metadata: dict[str, Any]) -> None:
        root = Path(self.root)
        settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pspnet"]
        text = long_description((root / "README.md").read_text(encoding="utf-8"), settings["repository"])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = urls(settings["repository"])
