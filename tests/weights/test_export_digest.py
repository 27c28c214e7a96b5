"""Exports that were altered after they were written are refused; others' files, and older ones, pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from pspnet.errors import CheckpointError
from pspnet.weights.export_digest import add_digest, check_digest


@pytest.mark.parametrize("ending", [".onnx", ".xml"])
def test_every_flipped_bit_is_noticed(tmp_path: Path, ending: str) -> None:
    path, weights = tmp_path / f"m{ending}", tmp_path / "m.bin"
    path.write_bytes(bytes(range(97)))
    weights.write_bytes(b"weights")
    check_digest(path)  # without a digest: an older one
    add_digest(path)
    check_digest(path)
    whole = path.read_bytes()
    for position in range(97):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 8]) + whole[position + 1 :])
        with pytest.raises(CheckpointError, match="was altered since it was exported"):
            check_digest(path)
    path.write_bytes(whole)
    weights.write_bytes(b"Weights")
    if ending == ".xml":
        with pytest.raises(CheckpointError, match="was altered"):
            check_digest(path)
    else:
        check_digest(path)  # of nobody's that is read


def test_what_is_no_export_passes(tmp_path: Path) -> None:
    for name, content in (("a.pt2", b"zip"), ("a.onnx", b""), ("a.xml", b"<net/>")):
        (tmp_path / name).write_bytes(content)
        check_digest(tmp_path / name)
