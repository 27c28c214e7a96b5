"""The command that adds an extra fits how pspnet was installed, and never asks an index for `pspnet`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pspnet import installation
from pspnet.errors import MissingExtraError, require
from support.paths import ROOT

REQUIRES = [
    "numpy>=2.0",
    "torch>=2.8; extra == 'torch'",
    "pspnet[torch]; extra == 'train'",
    "tensorboard>=2.19; extra == 'train'",
]


class Installed:
    """Stands in for a distribution."""

    requires = REQUIRES

    def __init__(self, direct: object) -> None:
        self.direct = direct

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return json.dumps(self.direct) if self.direct else None


def command(monkeypatch: pytest.MonkeyPatch, direct: object, checkout: bool = False, pip: bool = True) -> str:
    monkeypatch.setattr(installation, "distribution", lambda _: Installed(direct))
    monkeypatch.setattr(installation, "available", lambda name: pip and name == "pip")
    if not checkout:
        monkeypatch.setattr(installation, "__file__", "/env/lib/site-packages/pspnet/installation.py")
    return installation.install_command("train")


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("direct", "words"),
    [
        ({"url": "file:///home/me/pspnet", "dir_info": {"editable": True}}, "-e '/home/me/pspnet[train]'"),
        ({"url": "file:///home/my%20code", "dir_info": {"editable": True}}, "-e '/home/my code[train]'"),
        ({"url": "file:///home/me/pspnet", "dir_info": {}}, "'pspnet[train] @ file:///home/me/pspnet'"),
        (
            {"url": "file:///tmp/pspnet-0.1.0-py3-none-any.whl", "archive_info": {}},
            "'pspnet[train] @ file:///tmp/pspnet-0.1.0-py3-none-any.whl'",
        ),
        (
            {"url": "https://example.org/me/pspnet", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "'pspnet[train] @ git+https://example.org/me/pspnet@abc'",
        ),
        (None, "'tensorboard>=2.19' 'torch>=2.8'"),
    ],
)
def test_each_way_of_installing(direct: object, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    line = command(monkeypatch, direct)
    assert line == f"{sys.executable} -m pip install {words}"
    assert command(monkeypatch, direct, pip=False) == f"uv pip install --python {sys.executable} {words}"


@pytest.mark.wrong_types
def test_a_source_checkout_on_the_path_is_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert command(monkeypatch, None, checkout=True).endswith(f"-e '{ROOT}[train]'")


def test_the_error_of_a_missing_extra_prints_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "install_command", lambda extra: f"install {extra}")
    with pytest.raises(MissingExtraError, match=r"'nowhere'.*\n    install raster"):
        require("nowhere.at.all", "raster")


def test_every_extra_exists() -> None:
    """In pyproject.toml, for each name in EXTRA_OF and for each `require`."""
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(installation.EXTRA_OF.values()) <= set(extras)
    source = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "src").rglob("*.py"))
    asked = set(re.findall(r"""require\("[^"]+", "([^"]+)"\)""", source))
    assert asked
    assert asked <= set(extras)


def test_nobody_is_sent_to_an_index_for_pspnet() -> None:
    """The name is another project's there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout.split("\0")
    files = [ROOT / name for name in listed if name] or [p for p in ROOT.rglob("*") if ".venv" not in p.parts]
    wrong = []
    for path in files:
        if (
            path.suffix not in (".md", ".py", ".toml", ".html", ".yaml", "")
            or not path.is_file()
            or path == Path(__file__)
        ):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if re.search(
                r"""(pip|pipx|uvx?|conda) (tool )?(install|add|run)?[^`#]*[\s"'](-U )?pspnet(\[|["'`]|\s*$)""", line
            ) and ("@" not in line):
                wrong.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert wrong == []
