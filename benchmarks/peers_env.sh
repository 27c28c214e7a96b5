#!/bin/sh
# Makes the environment in which benchmarks/peers.py runs the other projects, apart from ours: .peers beside .venv.
#
#     sh benchmarks/peers_env.sh [FOLDER]
#
# PyTorch, torchvision and timm are those of our environment, so that a difference in speed is a difference in the
# networks. mmcv-lite has none of mmcv's compiled operators; PSPNet uses none. About 6 GB, a minute where our own
# environment was just made.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$here/.peers}
python=$here/.venv/bin/python
test -x "$python" || { echo "no .venv here: run make install first" >&2; exit 2; }
same=$(grep -E '^(torch|torchvision|timm|numpy|safetensors|opencv-python-headless|openvino|onnx|onnxscript)==' "$here/requirements.txt")

"$python" -m uv venv --quiet --allow-existing --python "$python" "$folder"
# mmsegmentation asks for mmcv's range below 2.2; mmcv-lite 2.1 is the last one in it
"$python" -m uv pip install --quiet --python "$folder/bin/python" \
  $same "mmsegmentation==1.2.2" "mmcv-lite>=2.0.0rc4,<2.2" "mmengine>=0.10.7" "segmentation-models-pytorch>=0.5" \
  "transformers>=4.57,<6" "setuptools<80" ftfy regex psutil
"$folder/bin/python" - <<'PYTHON'
import torch, torchvision, mmseg, mmcv, transformers, segmentation_models_pytorch as smp
print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, mmsegmentation {mmseg.__version__}, "
      f"mmcv-lite {mmcv.__version__}, segmentation_models_pytorch {smp.__version__}, transformers {transformers.__version__}")
PYTHON
