"""A model applied to images: any size, any number of them, with results that know what they are.

Long for its docstrings: each method of the one public class is documented; the work is done in the files around it.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from PIL import Image

from pspnet.config.foreign import ForeignModel
from pspnet.config.model import ModelConfig
from pspnet.errors import ConfigError
from pspnet.labels import Colour
from pspnet.predict import logits as coarse_logits
from pspnet.predict import scale
from pspnet.predict.arrays import Array, Engine, in_kind_of, on_device
from pspnet.predict.conditions import size_doubt
from pspnet.predict.exported import files_of, is_exported, open_exported
from pspnet.predict.one_image import segment_pixels
from pspnet.predict.protocols import Predictor
from pspnet.predict.reading import read_for
from pspnet.predict.segmentation import Segmentation
from pspnet.weights.bundled import find_model
from pspnet.weights.checkpoint import ModelCard, card_for, load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from pspnet.nn import PSPNet
    from pspnet.predict.engine_choice import Choice


class Segmenter:
    """Applies one model to images.

        seg = Segmenter.load("model.safetensors")
        result = seg.segment("street.jpg")

    It takes a config, a card and an engine: what computes coarse logits, with `pspnet.predict.arrays.Engine`'s two names
    and one method. In the config's place a network may be given; it then computes in PyTorch, or as `engine` names it.

    engine: "torch" (a network's default: it starts at once), "compile", "openvino", "onnxruntime", or "auto": the fastest
    of those installed whose labels agree with PyTorch's in float32. `.engine.name` says which it is, `.choice` how it was
    chosen, and the log "pspnet" too. A graph for OpenVINO or onnxruntime takes 10 to 60 s to make; it and the choice are
    kept in the user's cache (see `pspnet.predict.engine_choice`), so a second start is quick. device: "auto" (a GPU when
    there is one), "cpu", "cuda", ... precision: "auto", "fp32", "bf16". files: what an engine was read from.
    """

    def __init__(
        self,
        config: ModelConfig | PSPNet,
        card: ModelCard | None = None,
        *,
        device: str = "auto",
        precision: str = "auto",
        engine: Engine | str | None = None,
        files: Sequence[Path] = (),
    ) -> None:
        network = None if isinstance(config, ModelConfig) else config
        self.config = config if isinstance(config, ModelConfig) else config.config
        self.card = card or card_for(self.config)
        self.files = tuple(files)
        self._network = network
        self.choice: Choice | None = None
        if engine is None or isinstance(engine, str):
            from pspnet.predict.engine_choice import open_engine

            engine, self.choice = open_engine(engine or "torch", self.model, device, precision)
        self.engine: Engine = engine
        mean = self.config.normalisation[0] if network is None else network.mean.tolist()
        self.mean: tuple[float, ...] = tuple(mean)  # of each band, in the images' own units: the colour to pad with

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        device: str = "auto",
        precision: str = "auto",
        engine: str | None = None,
        about: ForeignModel | None = None,
    ) -> Segmenter:
        """A checkpoint, an exported model (.onnx, .xml, .pt2), or the name of a model that comes along.

        An exported model runs in its own engine and precision, and needs no PyTorch; without PyTorch a name means the
        model's int8 ONNX.

        Args:
            source: The file's path, or a name that `pspnet models` lists.
            device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1" ...
            precision: "auto" (bfloat16 where the hardware computes in it), "fp32" or "bf16"; of a checkpoint.
            engine: See the class; None: PyTorch, or what an exported model was made for.
            about: What an ONNX file of another project does not say itself; None: a YAML file beside it says it.

        Raises CheckpointError saying what is wrong with the file,
        ConfigError for an engine that does not exist or that an exported model does not have, MissingExtraError where
        PyTorch is needed and not installed.
        """
        path = find_model(source)
        if about is not None and path.suffix.lower() != ".onnx":
            raise ConfigError(f"about describes an .onnx file of another project; '{path}' is none")
        if is_exported(path):
            engine_opened, config, exported_card = open_exported(path, about)
            if engine not in (None, "auto", engine_opened.name):
                raise ConfigError(
                    f"engine = {engine!r} with '{source}': an exported model runs in {engine_opened.name}. Leave engine out, or give "
                    "the checkpoint it was exported from"
                )
            return cls(config, exported_card, engine=engine_opened, files=files_of(path))
        model, card = load_checkpoint(path)
        return cls(model, card, device=device, precision=precision, engine=engine)

    @classmethod
    def of(cls, model: Segmenter | str | Path) -> Segmenter:
        """What every function on a model takes: a Segmenter as it is, or what `load` takes, opened."""
        return model if isinstance(model, Segmenter) else cls.load(model)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        device: str = "auto",
        precision: str = "auto",
        engine: str | None = None,
    ) -> Segmenter:
        """A model of `save_pretrained`'s: a folder here, or a repository of the Hugging Face hub.

        A folder or repository of segmentation_models_pytorch's PSPNet is read too.

        Args:
            source: The folder, or a hub id such as someone/streets.
            revision: Branch, tag or commit on the hub; None: its main branch.
            token: Of the hub, for private models; None: HF_TOKEN, or that of `hf auth login`.
            device: As in `load`.
            precision: As in `load`.
            engine: As in `load`.

        Raises CheckpointError where it cannot be had or is no model, MissingExtraError without huggingface_hub.
        """
        from pspnet.predict.pretrained import pretrained_file

        file, ours = pretrained_file(source, revision, token)
        if ours:
            return cls.load(file, device=device, precision=precision, engine=engine)
        from pspnet.weights.importing import import_checkpoint

        imported = import_checkpoint(file.parent, "smp")
        return cls(imported.model, imported.card, device=device, precision=precision, engine=engine)

    @property
    def model(self) -> PSPNet:
        """The network. Raises ConfigError for an exported model, which has none that could be trained or saved."""
        if self._network is None:
            raise ConfigError(
                "an exported model is a graph without a PSPNet inside; use the checkpoint it was exported from"
            )
        return self._network

    @property
    def classes(self) -> tuple[str, ...]:
        return self.card.label_space.names

    @property
    def colours(self) -> tuple[Colour, ...]:
        return self.card.label_space.colours

    def fingerprint(self) -> str:
        """Engine and SHA-256 of what decides results: the network's weights, or an exported model's files; and the card."""
        digest = hashlib.sha256()
        if self._network is not None:
            for name, value in self._network.state_dict().items():
                digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        for file in self.files:
            digest.update(file.read_bytes())
        digest.update(json.dumps(self.card.to_dict(), sort_keys=True, default=str).encode())
        return f"{self.engine.name} {digest.hexdigest()}"

    def save(self, path: str | Path, half: bool = False, *, overwrite: bool = False) -> Path:
        """Writes the checkpoint; `half` stores it in float16. Raises OutputError for a file that exists, without overwrite."""
        return save_checkpoint(path, self.model, self.card, half, overwrite=overwrite)

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        title: str | None = None,
        license: str | None = None,
        license_link: str | None = None,
        half: bool = False,
        overwrite: bool = False,
    ) -> Path:
        """Writes model.safetensors, config.json and a model card with front matter (README.md) into a folder.

        Args:
            folder: Made where it does not exist.
            title: What the card is called: the repository's name; None: the folder's.
            license: Of the weights, by the hub's list: apache-2.0, cc0-1.0, other ...; None: the card says that none is stated.
            license_link: Where the terms of an "other" license stand.
            half: Stores the weights in float16.
            overwrite: Whether files of these three names may be replaced.

        Raises ConfigError for an exported model, OutputError where the folder cannot be written or, without overwrite, has
        such a file.
        """
        from pspnet.predict.pretrained import save_pretrained

        return save_pretrained(self, folder, title, license, license_link, half, overwrite)

    def push_to_hub(
        self,
        repository: str,
        *,
        license: str,
        license_link: str | None = None,
        private: bool = False,
        token: str | None = None,
        message: str = "Model made by pspnet",
        half: bool = False,
    ) -> str:
        """Hands the model in to the Hugging Face hub, as `save_pretrained` writes it; returns the repository's URL.

        Args:
            repository: NAME/MODEL; made where it does not exist.
            license: Of the weights: nobody may use what has none. See `save_pretrained`.
            license_link: As in `save_pretrained`.
            private: Whether a repository that is made now is private.
            token: One that may write; None: HF_TOKEN, or that of `hf auth login`.
            message: Of the commit.
            half: As in `save_pretrained`.

        Raises ConfigError for a name or license that is none, ServiceError where the hub does not answer or refuses.
        """
        from pspnet.predict.pretrained import push_to_hub

        return push_to_hub(self, repository, license, license_link, private, token, message, half)

    def logits(self, images: Array) -> Array:
        """(B, bands, H, W) in the images' own range -> logits (B, K, H, W) float32. Arrays for arrays, tensors for
        tensors; those lie on the engine's device."""
        return in_kind_of(coarse_logits.resize(self.coarse(images), _size(images), self.config.align_corners), images)

    def probabilities(self, images: Array) -> Array:
        """(B, bands, H, W) -> calibrated probabilities (B, K, H, W) float32, likewise."""
        return in_kind_of(self.window_probabilities(images), images)

    def window_probabilities(self, images: Array) -> Array:
        """As `probabilities`, in whatever kind of array the engine computes: on a GPU they stay there."""
        corners = self.config.align_corners
        return coarse_logits.probabilities(self.coarse(images), _size(images), corners, self.card.temperature)

    def seen_size(
        self, image_size: scale.Size, wish: scale.Wish | None = None, protocol: str | None = None
    ) -> scale.Size:
        """The size that an image of `image_size` (height, width) is looked at with; see `segment`. Warns where the model's photographs
        were of another size by more than 1.5 and the image is not brought to it."""
        if wish is None:
            wish = "trained" if protocol is None else "native"
        size_seen = scale.seen_size(image_size, self.card.trained_size, wish)
        doubt = size_doubt(self.card, size_seen) if protocol is None else ""
        if doubt:
            warnings.warn(f"{doubt}. Leave size out, or give size = trained", stacklevel=3)
        return size_seen

    def labels(
        self, images: Array, confidence: bool = False, size: scale.Size | None = None
    ) -> tuple[Array, Array | None]:
        """(B, bands, H, W) -> labels (B, H, W) uint8 and, if asked, confidence (B, H, W): never all logits at once.

        size: (height, width) of what is given back, where it is not the images'."""
        labels, certainty = coarse_logits.labels(
            self.coarse(images), size or _size(images), self.config.align_corners, confidence, self.card.temperature
        )
        return in_kind_of(labels, images), None if certainty is None else in_kind_of(certainty, images)

    def coarse(self, images: Array) -> Array:
        """(B, bands, H, W) -> logits (B, K, h, w) at the decoder's stride, in the engine's kind of array."""
        return self.engine.coarse(on_device(images, self.engine.device))

    @property
    def on_processor(self) -> bool:
        """Whether the engine computes on the processor, where a batch of windows gains nothing."""
        return str(self.engine.device) == "cpu"

    @property
    def batch_windows(self) -> int:
        """Windows to compute at once."""
        return 1 if self.on_processor else 4

    def predictor(self) -> Predictor:
        """This model as the protocols' engine wants it."""
        corners = self.config.align_corners
        return Predictor(
            lambda images: (
                coarse_logits.resize(self.engine.coarse(images), _size(images), corners) / self.card.temperature
            ),
            self.mean,
            corners,
            self.engine.device,
            batch_windows=1 if self.on_processor else 8,
        )

    def read(self, image: str | Path | Image.Image | NDArray[Any]) -> NDArray[Any]:
        """An image file, a Pillow image or an array (H, W) or (H, W, C), RGB -> (H, W, bands) in the range that the model
        knows; see `predict.reading`. Raises ImageError."""
        return read_for(self.card, self.config.in_bands, image)

    def segment(
        self,
        image: str | Path | Image.Image | NDArray[Any],
        *,
        confidence: bool = True,
        probabilities: bool = False,
        name: str | None = None,
        protocol: str | None = None,
        size: scale.Wish | None = None,
    ) -> Segmentation:
        """One image -> its Segmentation, at the image's own size.

        Args:
            image: A file, a Pillow image, or an array (H, W) or (H, W, C), RGB; see `read`.
            confidence: Whether the result holds the label's probability, (H, W).
            probabilities: Whether it holds every class's, (K, H, W): 6 bytes for each class and pixel.
            name: What the result is called; None: the file's stem, or "image".
            protocol: How the image is looked at, a name of `pspnet.config.PROTOCOLS` such as "semseg-ms". None: up to 2
                megapixels are seen at once; larger images in overlapping windows of 1024 px whose probabilities are blended,
                so memory does not grow with K x H x W.
            size: What it is looked at with: "trained", the size of the photographs that the model was trained on (what None
                means, where the card tells it and no protocol is given), "native", or the pixels of the longer side.

        Raises ImageError naming the file, and where memory will not hold the probabilities.
        """
        pixels = self.read(image)
        size_seen = self.seen_size(pixels.shape[:2], size, protocol)
        title = name or (Path(image).stem if isinstance(image, (str, Path)) else "image")
        return segment_pixels(self, pixels, size_seen, title, confidence, probabilities, protocol)

    def segment_many(
        self,
        images: Iterable[str | Path | Image.Image | NDArray[Any]],
        *,
        confidence: bool = True,
        protocol: str | None = None,
        size: scale.Wish | None = None,
        batch_size: int | None = None,
    ) -> Iterator[Segmentation]:
        """Many images -> their Segmentations, one by one in order: files are read ahead, neighbours of one size share a batch.

            for result in seg.segment_many(sorted(Path("photos").glob("*.jpg"))):
                result.save(f"{result.name}.png")

        Args:
            images: Any iterable of what `segment` takes; it may be endless.
            confidence: As in `segment`.
            protocol: As in `segment`.
            size: As in `segment`.
            batch_size: Most images at once; None: 4 on a GPU, 1 on a processor, where a batch gains nothing.

        Raises ImageError at an image that cannot be read, when its turn comes (`pspnet segment` goes on with the others).
        """
        from pspnet.predict.many_images import segment_many

        return segment_many(self, images, confidence, protocol, size, batch_size)


def _size(images: Array) -> tuple[int, int]:
    return int(images.shape[-2]), int(images.shape[-1])
