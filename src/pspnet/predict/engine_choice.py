"""An engine by name for a network: PyTorch, torch.compile, OpenVINO, onnxruntime; or the fastest that agrees.

OpenVINO and onnxruntime run the network as a graph, which takes 10 to 60 s to make, once for a set of weights: it is
kept in the cache folder (`pspnet.nn.graphs`), and so is what `auto` decided there.
"""

from __future__ import annotations

import logging
import platform
import statistics
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version

import cv2
import numpy as np
from numpy.typing import NDArray

from pspnet.config.model import ModelConfig
from pspnet.errors import ConfigError, MissingExtraError, missing
from pspnet.files import keep_note, read_note
from pspnet.installation import available
from pspnet.machine import processor_name
from pspnet.nn import PSPNet
from pspnet.nn.graphs import fingerprint, kept_onnx
from pspnet.predict.arrays import Device, Engine, best_class, on_device, to_numpy
from pspnet.predict.engines import CompiledEngine, TorchEngine, computes_bfloat16, gpu_name, has_bfloat16, pick_device
from pspnet.predict.exported import OnnxEngine, OpenVinoEngine
from pspnet.predict.logits import labels
from pspnet.predict.processors import thread_count

ENGINE_NAMES = ("torch", "compile", "openvino", "onnxruntime")
# Least share of labels equal to PyTorch's in float32, by the precision that an engine computes in.
AGREEMENT = {"fp32": 0.9995, "bf16": 0.98}
TRIAL_PX = ((320, 320), (201, 259))  # the first is timed too; both are compared
ROUNDS, TRIAL_SECONDS = 5, 20.0

log = logging.getLogger("pspnet")


@dataclass(frozen=True)
class Trial:
    """One engine's measurement: median milliseconds of one image of 320 x 320 px, share of labels equal to PyTorch's in
    float32, and why it was refused (empty when it was not)."""

    engine: str
    milliseconds: float
    agreement: float
    refused: str = ""


@dataclass(frozen=True)
class Choice:
    """What `auto` took, and from what. remembered: decided at an earlier start on this machine."""

    engine: str
    trials: tuple[Trial, ...]
    remembered: bool = False

    def __str__(self) -> str:
        tried = [
            f"{t.engine} refused: {t.refused}"
            if t.refused
            else f"{t.engine} {t.milliseconds:.0f} ms ({t.agreement:.2%} equal)"
            for t in self.trials
        ]
        return f"engine {self.engine}" + (" (remembered)" if self.remembered else "") + ": " + "; ".join(tried)


def open_engine(name: str, model: PSPNet, device: str, precision: str) -> tuple[Engine, Choice | None]:
    """The engine of a network by name; for "auto" also how it was chosen. Errors as `engine_named`'s."""
    where = pick_device(device)
    return (
        choose_engine(model, where, precision)
        if name == "auto"
        else (engine_named(name, model, where, precision), None)
    )


def engine_named(name: str, model: PSPNet, device: Device, precision: str = "auto") -> Engine:
    """One of ENGINE_NAMES. Raises ConfigError for an unknown name, or one that this device or model cannot have;
    MissingExtraError where its library is not installed."""
    if name == "torch":
        return TorchEngine(model, device, precision)
    if name == "compile":
        return CompiledEngine(model, device, precision)
    if name not in ENGINE_NAMES:
        raise ConfigError(f"engine = {name!r}: auto, {', '.join(ENGINE_NAMES)}")
    if device.type != "cpu":
        raise ConfigError(
            f"engine = {name!r} runs on the processor, device = '{device}'; use engine = torch or compile"
        )
    computed = precision_of(name, precision)
    if not available(name):
        raise missing(name, "export")
    path = kept_onnx(model)
    return OnnxEngine(path) if name == "onnxruntime" else OpenVinoEngine(path, computed)


def precision_of(name: str, precision: str) -> str:
    """fp32 or bf16: what an engine computes in on the processor. Raises ConfigError where it cannot."""
    if name == "onnxruntime":
        if precision == "bf16":
            raise ConfigError("precision = 'bf16' with engine = 'onnxruntime': it has float32 only on processors")
        return "fp32"
    return "bf16" if computes_bfloat16(precision, pick_device("cpu")) else "fp32"


def choose_engine(model: PSPNet, device: Device, precision: str = "auto") -> tuple[Engine, Choice]:
    """The fastest engine here that agrees with PyTorch in float32, measured in turns; what it was is remembered.

    On a processor: torch, openvino and onnxruntime, of those that are installed. On a GPU: torch and compile. Compiling
    on a processor takes minutes, so there `compile` is taken only when it is asked for by name. PyTorch itself is never
    refused. The first time takes as long as a graph does (10 to 60 s) and a dozen images.
    """
    names = ("torch", "openvino", "onnxruntime") if device.type == "cpu" else ("torch", "compile")
    note = f"engine-{fingerprint(model)}.json"
    circumstances = [_hardware(device), precision, thread_count(), {n: _release(n) for n in names}]
    remembered = _remembered(note, circumstances)
    if remembered:
        return engine_named(remembered.engine, model, device, precision), remembered
    engines: dict[str, Engine] = {}
    refused: dict[str, str] = {}
    for name in names:
        try:
            engines[name] = engine_named(name, model, device, precision)
        except (ConfigError, MissingExtraError) as error:
            refused[name] = str(error).splitlines()[0]
    images = _trial_images(model.config)
    agreement = _agreement(model, device, engines, images)
    for name in list(engines):
        bound = AGREEMENT["bf16" if has_bfloat16(device) and precision != "fp32" and name != "onnxruntime" else "fp32"]
        if name != "torch" and agreement[name] < bound:
            refused[name] = f"labels equal on {agreement[name]:.2%} of the pixels; {bound:.2%} is asked"
    times = _in_turns({n: e for n, e in engines.items() if n not in refused}, images[0])
    best = min(times, key=lambda name: times[name])
    trials = tuple(
        Trial(n, round(times.get(n, 0.0) * 1000, 1), agreement.get(n, 0.0), refused.get(n, "")) for n in names
    )
    choice = Choice(best, trials)
    log.info(str(choice))
    _remember(note, circumstances, choice)
    return engines[best], choice


def _trial_images(config: ModelConfig) -> list[NDArray[np.float32]]:
    """Smooth coloured noise around the mean that the model expects, as spread as what it was trained on."""
    random = np.random.default_rng(0)
    mean, std = (np.asarray(values, np.float32) for values in config.normalisation)
    images = []
    for height, width in TRIAL_PX:
        coarse = random.standard_normal((height // 20, width // 20, config.in_bands), np.float32)
        fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, -1)
        images.append(np.ascontiguousarray((mean + 1.5 * std * fine).transpose(2, 0, 1)[None]))
    return images


def _agreement(
    model: PSPNet, device: Device, engines: dict[str, Engine], images: list[NDArray[np.float32]]
) -> dict[str, float]:
    reference = TorchEngine(model, device, "fp32")
    wanted = [_labels(reference, image) for image in images]
    agreement = {}
    for name, engine in engines.items():
        equal = [(_labels(engine, image) == labels).mean() for image, labels in zip(images, wanted, strict=True)]
        agreement[name] = float(min(equal))
    return agreement


def _labels(engine: Engine, image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The class of each coarse pixel of one image."""
    return to_numpy(best_class(engine.coarse(on_device(image, engine.device))[0])[1])


def _in_turns(engines: dict[str, Engine], image: NDArray[np.float32]) -> dict[str, float]:
    """Median seconds of each; in turns, so that a busy moment slows all of them."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    begun = time.perf_counter()
    for done in range(ROUNDS):
        for name, engine in engines.items():
            times[name].append(_seconds(engine, image))
        if done and time.perf_counter() - begun > TRIAL_SECONDS:
            break
    return {name: statistics.median(values) for name, values in times.items()}


def _seconds(engine: Engine, image: NDArray[np.float32]) -> float:
    started = time.perf_counter()
    coarse = engine.coarse(on_device(image, engine.device))
    to_numpy(labels(coarse, (image.shape[2], image.shape[3]), False)[0])  # an image's own; waits for a GPU
    return time.perf_counter() - started


def _hardware(device: Device) -> str:
    return gpu_name(device) or f"{platform.machine()} {processor_name()}"


def _release(name: str) -> str:
    package = {"compile": "torch"}.get(name, name)
    return version(package) if available(package) else ""


def _remembered(note: str, circumstances: list[object]) -> Choice | None:
    remembered = read_note(note)
    try:
        if remembered["circumstances"] != circumstances:
            return None
        return Choice(remembered["engine"], tuple(Trial(**trial) for trial in remembered["trials"]), remembered=True)
    except (KeyError, TypeError):
        return None  # nothing kept, or by another release: it is measured again


def _remember(note: str, circumstances: list[object], choice: Choice) -> None:
    trials = [asdict(trial) for trial in choice.trials]
    keep_note(note, {"engine": choice.engine, "trials": trials, "circumstances": circumstances})
