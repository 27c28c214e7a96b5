"""Exported models as engines of numpy arrays: ONNX by onnxruntime, OpenVINO IR by OpenVINO; and .pt2 by PyTorch.

An exported file carries the same header as a checkpoint (config, classes, colours, bands, protocol), so it is opened
wherever a checkpoint is.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.config.foreign import ForeignModel
from pspnet.config.model import ModelConfig
from pspnet.errors import CheckpointError, ConfigError
from pspnet.predict.arrays import Engine
from pspnet.predict.foreign import about_beside, open_foreign
from pspnet.predict.openvino_door import openvino
from pspnet.predict.processors import thread_count
from pspnet.weights.checkpoint import ModelCard, parse_header
from pspnet.weights.export_digest import check_digest

EXPORT_SUFFIXES = (".onnx", ".xml", ".pt2")
Values = NDArray[np.float32]


class OnnxEngine:
    """onnxruntime on the processor: (B, bands, H, W) -> logits (B, K, H, W)."""

    name = "onnxruntime"
    device = "cpu"
    precision = "as exported"

    def __init__(self, path: Path) -> None:
        import onnxruntime as runtime

        options = runtime.SessionOptions()
        options.intra_op_num_threads = thread_count()
        options.log_severity_level = 3
        try:
            # without its fallback: there is no other provider, and it prints a banner to standard output first
            self._session = runtime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"], enable_fallback=False
            )
            self.header: str | None = self._session.get_modelmeta().custom_metadata_map.get("pspnet")
            output = self._session.get_outputs()[0].name
            inputs = [one.name for one in self._session.get_inputs()]
        except Exception as error:  # onnxruntime raises a class of its own for each way a file can be broken
            raise CheckpointError(f"'{path}' cannot be opened by onnxruntime: {_line(error)}") from error
        if self.header and inputs != ["images"]:
            raise CheckpointError(f"'{path}' has a header of pspnet, but takes {', '.join(inputs)} instead of images")
        if self.header and output != "logits":
            option = "--output labels" if output == "labels" else "--for"
            raise CheckpointError(
                f"'{path}' ends with {output}, for programs without pspnet; here logits are needed: export it without {option}"
            )

    @property
    def session(self) -> Any:
        """onnxruntime's."""
        return self._session

    def coarse(self, images: Values) -> Values:
        (logits,) = self._session.run(None, {"images": images})
        return logits


class CompiledOpenVino:
    """A model that OpenVINO has compiled: (B, bands, H, W) -> logits (B, K, h, w). Threads may share it."""

    name = "openvino"
    device = "cpu"
    precision = "as compiled"

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._requests = threading.local()  # a request serves one call at a time

    def coarse(self, images: Values) -> Values:
        if not hasattr(self._requests, "request"):
            self._requests.request = self._compiled.create_infer_request()
        # copied out: the request's own memory holds the next result
        outputs = self._requests.request.infer([np.ascontiguousarray(images)], share_inputs=True)
        return outputs[0]


class OpenVinoEngine(CompiledOpenVino):
    """A file run by OpenVINO on the processor. precision: fp32 or bf16; None: what the model was exported for."""

    def __init__(self, path: Path, precision: str | None = None) -> None:
        core = openvino().Core()
        settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": thread_count()}
        try:
            model = core.read_model(str(path))
            self.header: str | None = _runtime_info(model, "pspnet")
            # OpenVINO would choose bfloat16 by itself where the processor has it: an fp32 export means float32, an int8
            # export leaves the rest to OpenVINO
            precision = precision or _runtime_info(model, "pspnet_precision") or "fp32"
            hint = {"bf16": "bf16", "fp16": "f32", "fp32": "f32"}.get(precision)
            if hint:
                settings["INFERENCE_PRECISION_HINT"] = hint
            compiled = core.compile_model(model, "CPU", settings)
        except Exception as error:  # a graph that is read may still not be one that can be compiled
            raise CheckpointError(f"'{path}' cannot be opened by OpenVINO: {_line(error)}") from error
        super().__init__(compiled)
        self.precision = precision


def is_exported(path: str | Path) -> bool:
    """Whether a path's ending is one of an exported model."""
    return Path(path).suffix.lower() in EXPORT_SUFFIXES


def files_of(path: str | Path) -> tuple[Path, ...]:
    """The files that make an exported model: OpenVINO keeps the weights beside the .xml."""
    path = Path(path)
    return (path, path.with_suffix(".bin")) if path.suffix.lower() == ".xml" else (path,)


def open_exported(path: str | Path, about: ForeignModel | None = None) -> tuple[Engine, ModelConfig, ModelCard]:
    """An exported model, ready to run; an ONNX file of another project where `about`, or a YAML file beside it, says what
    it is. Raises CheckpointError when it is missing, damaged or of another project without that."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"'{path}' does not exist")
    if path.suffix.lower() == ".pt2" and os.environ.get("PSPNET_TRUST_PT2") != "1":
        raise ConfigError(
            f"'{path}': a .pt2 archive may hold pickled code, so it is opened only when you say that you trust it: "
            "set the environment variable PSPNET_TRUST_PT2=1. An .onnx or .xml export needs no such trust"
        )
    check_digest(path)
    engine = _engine_of(path)
    if not engine.header:
        described = (about or about_beside(path)) if isinstance(engine, OnnxEngine) else None
        if described is not None:
            return open_foreign(engine.session, path, described)
        raise CheckpointError(
            f"'{path}' carries no pspnet header: it was not made by `pspnet export`, so its classes and normalisation "
            "are not known"
            + (
                f". Say what they are in '{path.with_suffix('.yaml').name}' beside it, or with --about name=value: "
                f"{', '.join(name for name, field in ForeignModel.model_fields.items() if field.is_required())}"
                if isinstance(engine, OnnxEngine)
                else ""
            )
        )
    if about is not None:
        raise ConfigError(f"'{path}' was made by pspnet and says itself what it is; leave --about out")
    config, card = parse_header(engine.header, path)
    return engine, config, card


def _engine_of(path: Path) -> Any:
    if path.suffix.lower() == ".pt2":
        from pspnet.predict.engines import PortableEngine

        return PortableEngine(path)
    return OnnxEngine(path) if path.suffix.lower() == ".onnx" else OpenVinoEngine(path)


def _runtime_info(model: Any, name: str) -> str | None:
    return str(model.get_rt_info([name]).value) if model.has_rt_info([name]) else None


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 300 else text[:297] + "..."
