"""A digest at the end of exported models: an altered bit of a weight is noticed when the file is opened.

    .onnx   one more entry of the metadata, `pspnet_digest`, as the last bytes: protobuf takes a field that is appended
    .xml    a comment behind the root element, over the .xml before it and the .bin beside it (OpenVINO)

Other programs read past both. A .pt2 is a zip, which has checksums of its own.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from pspnet.errors import CheckpointError

KEY = b"pspnet_digest"
# protobuf: field 14 (metadata_props), its length; field 1, the key; field 2, the value; lengths below 128 are one byte
_ONNX_HEAD = bytes((0x72, 2 + len(KEY) + 2 + 64, 0x0A, len(KEY))) + KEY + bytes((0x12, 64))
_TAILS = {
    ".onnx": re.compile(re.escape(_ONNX_HEAD) + rb"([0-9a-f]{64})\Z"),
    ".xml": re.compile(rb"<!-- " + KEY + rb" ([0-9a-f]{64}) -->\n\Z"),
}
_LONGEST = 200  # bytes of a tail


def add_digest(path: Path) -> None:
    """Appends the digest to an export; its file must not have one."""
    digest = _digest(path, path.stat().st_size).encode()
    tail = {".onnx": _ONNX_HEAD + digest, ".xml": b"<!-- " + KEY + b" " + digest + b" -->\n"}.get(path.suffix.lower())
    if tail is not None:
        with path.open("ab") as file:
            file.write(tail)


def check_digest(path: Path) -> None:
    """Raises CheckpointError for an export that is not what was written. One without a digest passes: it is older, or of
    another program."""
    pattern = _TAILS.get(path.suffix.lower())
    if pattern is None:
        return
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _LONGEST))
        tail = pattern.search(file.read())
    if tail is not None and tail[1].decode() != _digest(path, size - len(tail[0])):
        raise CheckpointError(
            f"'{path}' was altered since it was exported: its content is not that of its digest. Copy or export it again; "
            "if you changed it on purpose, take pspnet_digest out of its metadata"
        )


def _digest(path: Path, size: int) -> str:
    """SHA-256 of the first `size` bytes, and of the .bin beside an .xml."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size > 0 and (part := file.read(min(size, 1 << 20))):
            digest.update(part)
            size -= len(part)
    weights = path.with_suffix(".bin")
    if path.suffix.lower() == ".xml" and weights.is_file():
        with weights.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
