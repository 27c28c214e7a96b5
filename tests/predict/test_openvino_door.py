"""Nothing leaves the machine: exports and loads of OpenVINO look no name up, in this process or in one that it forks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from pspnet import LabelSpace, ModelConfig
from pspnet.weights.checkpoint import ModelCard, header_text

# asks for no name and connects nowhere; writes down who tries, from whichever process
WATCH = """
import socket, sys
def told(name):
    def refuse(*arguments, **options):
        open(sys.argv[1], "a").write(name + " " + repr(arguments[-1:]) + "\\n")
        raise OSError("no network here")
    return refuse
socket.getaddrinfo, socket.gethostbyname = told("getaddrinfo"), told("gethostbyname")
socket.socket.connect = told("connect")
"""
CONVERT = """
from pathlib import Path
from pspnet.predict.openvino_door import nncf, openvino
module = openvino()
model = module.convert_model(sys.argv[2])
nncf()
source = module.Core().read_model(sys.argv[2])
model.set_rt_info(sys.argv[3], ["pspnet"])
module.save_model(model, str(Path(sys.argv[2]).with_suffix(".xml")))
from pspnet import Segmenter
import numpy as np
print(Segmenter.load(Path(sys.argv[2]).with_suffix(".xml")).segment(np.zeros((32, 32, 3), np.uint8)).labels.shape)
"""


def test_no_name_is_looked_up_and_nothing_is_written_into_the_home_folder(tmp_path: Path) -> None:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3, 3, 1, 1], np.eye(3, dtype=np.float32).ravel())
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", 3, "h", "w"]) for n in ("images", "logits")]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["images", "w"], ["logits"])], "g", ends[:1], ends[1:], [weight]
    )
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "a.onnx")
    header = header_text(ModelConfig(encoder="resnet18", num_classes=3), ModelCard(LabelSpace(("a", "b", "c"))))
    home, asked = tmp_path / "home", tmp_path / "asked.txt"
    home.mkdir()
    clean = {k: v for k, v in os.environ.items() if k not in ("CI", "TF_BUILD", "JENKINS_URL", "PYTEST_CURRENT_TEST")}
    done = subprocess.run(
        [sys.executable, "-c", WATCH + CONVERT, str(asked), str(tmp_path / "a.onnx"), header],
        env={**clean, "HOME": str(home), "PSPNET_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.strip().endswith("(32, 32)"), done.stderr
    assert not asked.exists(), asked.read_text()
    assert not [p for p in home.rglob("*") if "intel" in str(p).lower() or "openvino" in str(p).lower()]
