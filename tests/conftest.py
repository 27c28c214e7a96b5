"""One thread a test process (two run side by side), no colours, and nothing from the outside."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NO_COLOR", "1")
# a cache of these tests' own: they neither find nor leave anything in the user's
os.environ["PSPNET_CACHE"] = tempfile.mkdtemp(prefix="pspnet-tests-cache-")
atexit.register(shutil.rmtree, os.environ["PSPNET_CACHE"], ignore_errors=True)
os.environ["HF_HUB_OFFLINE"] = "1"  # a test that would reach for a hub fails at once instead of waiting
torch.set_num_threads(1)
# The first backward decides for good whether autograd has threads for devices, and a process that has cannot fork (which
# in_child does). Exporting puts a stand-in for CUDA in place, so that must not come first.
torch.zeros(1, requires_grad=True).sum().backward()

if os.environ.get("PSPNET_CHECK_TYPES"):  # make test-types
    from support.checked_types import install

    install()

SHARED = Path(os.environ.get("PSPNET_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture
def shared() -> Path:
    """The folder of real images beside the project; only slow tests may ask for it."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there: real images are not part of the repository")
    return SHARED
