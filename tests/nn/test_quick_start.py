"""timm is imported without the compiler, and the compiler works afterwards."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys
import pspnet
pspnet.PSPNet
loaded = [m for m in sys.modules if m.split(".")[0] == "sympy" or m.startswith(("torch._dynamo", "torch._inductor"))]
assert loaded == [], loaded
if "compile" not in sys.argv:
    print("done")
    sys.exit()
import torch
add = torch.compile(lambda x: x + 1, backend="eager")
assert add(torch.ones(2)).tolist() == [2, 2]
assert torch._dynamo.__file__
print("done")
"""


def run(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "done", done.stderr


def test_the_compiler_is_not_loaded_with_the_network() -> None:
    run()


@pytest.mark.slow
def test_the_compiler_works_afterwards() -> None:
    run("compile")
