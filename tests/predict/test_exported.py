"""Exported files that are not what their header says: refused when they are opened, not at the first image."""

from __future__ import annotations

from pathlib import Path

import pytest

from pspnet.errors import CheckpointError
from pspnet.predict.exported import open_exported
from support.graphs import write_graph


def test_a_graph_that_takes_something_else(tmp_path: Path) -> None:
    import onnx

    write_graph(tmp_path / "a.onnx")
    open_exported(tmp_path / "a.onnx")
    graph = onnx.load(tmp_path / "a.onnx")
    graph.graph.input[0].name = graph.graph.node[0].input[0] = "pixels"
    onnx.save(graph, tmp_path / "a.onnx")
    with pytest.raises(CheckpointError, match="takes pixels instead of images"):
        open_exported(tmp_path / "a.onnx")


def test_a_damaged_graph_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_graph(tmp_path / "a.onnx")
    data = (tmp_path / "a.onnx").read_bytes()
    for damaged in (data[:100], data.replace(b"Conv", b"C\xd5nv"), b"", b"no graph"):
        (tmp_path / "a.onnx").write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"cannot be opened by onnxruntime|no pspnet header"):
            open_exported(tmp_path / "a.onnx")
    assert capsys.readouterr().out == ""


def test_weights_of_other_files_are_not_read(tmp_path: Path) -> None:
    """ONNX may keep weights in files beside it, by names that lead anywhere."""
    import onnx
    from onnx.external_data_helper import set_external_data

    (tmp_path / "secret").write_bytes(bytes(36))
    (tmp_path / "in").mkdir()
    write_graph(tmp_path / "in" / "a.onnx")
    graph = onnx.load(tmp_path / "in" / "a.onnx")
    weight = graph.graph.initializer[0]
    weight.raw_data = bytes(36)
    weight.ClearField("float_data")
    set_external_data(weight, "../secret")
    weight.ClearField("raw_data")
    (tmp_path / "in" / "a.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(CheckpointError, match="cannot be opened by onnxruntime"):
        open_exported(tmp_path / "in" / "a.onnx")


def test_an_openvino_file_that_is_none(tmp_path: Path) -> None:
    for text in ("", "<net/>", '<?xml version="1.0"?><net name="a" version="11"><layers/><edges/></net>', "\0"):
        (tmp_path / "a.xml").write_text(text)
        with pytest.raises(CheckpointError):
            open_exported(tmp_path / "a.xml")
