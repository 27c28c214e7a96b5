"""A model handed on: ONNX, OpenVINO or torch.export, exact at every size, with a parity report before it is kept."""

from pspnet.exporting.parity import Parity, Quality
from pspnet.exporting.run import BOUNDS, PRECISIONS, ExportReport, export

__all__ = ["BOUNDS", "PRECISIONS", "ExportReport", "Parity", "Quality", "export"]
