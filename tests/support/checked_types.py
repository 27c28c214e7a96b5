"""Every annotation of the package checked while the tests run (`make test-types`): beartype on each call and class, and
jaxtyping's shapes in the network, where a size that is named twice must be the same one.

What runs in a process of its own (the command line, workers of a loader) is not checked.
"""

from __future__ import annotations

import ast
import importlib
import io
import sys
import typing
from pathlib import Path
from typing import IO

import torch
from beartype import BeartypeConf, BeartypeHintOverrides, beartype
from beartype.claw import beartype_package
from jaxtyping import install_import_hook

from support.paths import ROOT

SHAPED = "pspnet.nn"  # whose annotations hold shapes
# whole numbers are symbols while a graph is traced; no real file is one of `typing`'s, though mypy calls them so
OVERRIDES = {
    int: int | torch.SymInt,
    IO[bytes]: IO[bytes] | io.BufferedIOBase,
    IO[str]: IO[str] | io.TextIOBase,
}
CONF = BeartypeConf(
    is_pep484_tower=True,  # int where float is written is right, as for mypy
    claw_is_pep526=False,  # variables are mypy's alone
    claw_skip_package_names=(SHAPED,),
    hint_overrides=BeartypeHintOverrides(OVERRIDES),
)
checked = beartype(conf=CONF)  # what the hook below names


def install() -> None:
    """Call it before anything imports pspnet."""
    _leave_named_tuples_unchecked()
    sys.UnraisableHookArgs = object  # type: ignore[attr-defined,misc]  # a name that only type checkers know
    beartype_package("pspnet", conf=CONF)
    install_import_hook(SHAPED, f"{__name__}.checked")
    for path in sorted((ROOT / "src" / "pspnet").rglob("*.py")):
        _import_for_types(path)


def _leave_named_tuples_unchecked() -> None:
    """The constructor of a NamedTuple looks its annotations up in a module that does not exist (mypy checks its calls)."""
    make = typing._make_nmtuple  # type: ignore[attr-defined]

    def unchecked(*args: object, **options: object) -> type:
        named_tuple = make(*args, **options)
        named_tuple.__new__.__no_type_check__ = True
        return named_tuple

    typing._make_nmtuple = unchecked  # type: ignore[attr-defined]


def _import_for_types(path: Path) -> None:
    """Runs a file's `if TYPE_CHECKING:` in it: beartype looks the names of annotations up there."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
            module = importlib.import_module(name)
            if not hasattr(module, "__getattr__"):  # else it hands these names on itself
                exec(compile(ast.Module(node.body, []), str(path), "exec"), module.__dict__)
