"""The check that ends every import: does the network see? And, given a recording, does it see the same?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pspnet.errors import CheckpointError, parsing
from pspnet.nn import PSPNet

SPREAD = (1e-5, 1e5)  # deviation of a sound network's logits over the pixels, generously
ALWAYS_AHEAD = 30.0  # spreads by which a class must lead everywhere before it is taken for a fault


@dataclass(frozen=True)
class SelfCheck:
    """What the fixed images showed.

    spread: standard deviation of the logits over pixels, mean over classes. classes_seen: different winners.
    largest_share: pixels of the most frequent winner, 0..1.
    """

    spread: float
    classes_seen: int
    largest_share: float


def check_images(model: PSPNet) -> Tensor:
    """Three fixed images (3, bands, 105, 137) in the model's own value range: coarse blocks with noise, their inverse
    over a gradient, flat patches of strong colours. Odd sizes, so that a wrong corner rule does not hide."""
    bands = model.config.in_bands
    numbers = np.random.default_rng(161201105)  # the paper's arXiv number
    blocks = numbers.standard_normal((bands, 7, 9)).repeat(16, axis=1).repeat(16, axis=2)[:, :105, :137]
    noise = numbers.standard_normal((bands, 105, 137))
    ramp = np.linspace(-1.5, 1.5, 137)[None, None, :]
    patches = 2.5 * np.sign(numbers.standard_normal((bands, 3, 4))).repeat(35, axis=1).repeat(35, axis=2)[:, :, :137]
    images = np.stack([blocks + 0.5 * noise, ramp - 0.7 * blocks, patches]).astype(np.float32)
    return torch.from_numpy(images) * model.std[:, None, None] + model.mean[:, None, None]


@torch.inference_mode()
def self_check(model: PSPNet, path: Path, trained: bool = True) -> SelfCheck:
    """Runs the fixed images.

    Raises CheckpointError when a logit is not finite, when the logits hardly change from pixel to pixel or are absurdly
    large, or (for a `trained` head) when one class wins everywhere with no other near. One class winning narrowly is
    left to the report: a detector may well see nothing in synthetic images.
    """
    logits = model.coarse_logits(check_images(model))
    if not bool(torch.isfinite(logits).all()):
        bad = next((name for name, value in model.state_dict().items() if not torch.isfinite(value).all()), None)
        cause = f"{bad} holds values that are not finite" if bad else "the values overflow"
        raise CheckpointError(f"'{path}': the imported network's logits are not finite: {cause}. The file is damaged")
    spread = float(logits.std(dim=(0, 2, 3)).mean())
    counts = torch.bincount(logits.argmax(dim=1).flatten(), minlength=model.config.num_classes)
    check = SelfCheck(spread, int((counts > 0).sum()), float(counts.max() / counts.sum()))
    if not SPREAD[0] <= spread <= SPREAD[1]:
        raise CheckpointError(
            f"'{path}': the imported network's logits vary by {spread:.3g} over the fixed check images; a sound network's "
            f"lie between {SPREAD[0]:g} and {SPREAD[1]:g}. The weights are damaged, untrained or of another architecture"
        )
    if trained and check.classes_seen == 1:
        first, second = logits.topk(2, dim=1).values.unbind(dim=1)
        lead = float((first - second).min()) / spread
        if lead > ALWAYS_AHEAD:
            raise CheckpointError(
                f"'{path}': class {int(counts.argmax())} wins every pixel of the fixed check images, {lead:.0f} spreads "
                "ahead of any other, so the imported network cannot answer anything else. The weights are damaged; to look "
                "at the model all the same, import it with check=False"
            )
    return check


@torch.inference_mode()
def verify_recording(model: PSPNet, path: Path) -> float:
    """Compares with a recording of the original project: an .npz with `images` (B, bands, H, W) in the images' own value
    range, or `inputs` (already normalised), and `logits`, either at the images' size or before the last resize.
    `atol` and `rtol` may be in it (1e-3 of the logits' spread and 1e-4 otherwise).

    Returns the largest difference. Raises CheckpointError when it is too large, or the file lacks something.
    """
    with parsing(path, CheckpointError, "is no .npz recording"), np.load(path, allow_pickle=False) as file:
        recorded = {name: file[name] for name in file.files}
    given = recorded.get("images", recorded.get("inputs"))
    if given is None or "logits" not in recorded:
        raise CheckpointError(
            f"'{path}' has {', '.join(recorded) or 'nothing'}; a recording has 'images' (or 'inputs', normalised) and "
            "'logits', as docs/checkpoints.md shows"
        )
    images = torch.from_numpy(given.astype(np.float32))
    if "images" not in recorded:
        images = images * model.std[:, None, None] + model.mean[:, None, None]
    wanted = torch.from_numpy(recorded["logits"].astype(np.float32))
    logits = model(images) if wanted.shape[-2:] == images.shape[-2:] else model.coarse_logits(images)
    if logits.shape != wanted.shape:
        raise CheckpointError(f"'{path}' has logits {tuple(wanted.shape)}; the model gives {tuple(logits.shape)}")
    difference = (logits - wanted).abs()
    atol = float(recorded.get("atol", 1e-3 * float(wanted.std())))
    allowed = atol + float(recorded.get("rtol", 1e-4)) * wanted.abs()
    if bool((difference > allowed).any()):
        same = float((logits.argmax(1) == wanted.argmax(1)).float().mean())
        raise CheckpointError(
            f"the imported model differs from '{path}' by up to {float(difference.max()):.3g} (allowed {atol:.3g}); "
            f"{same:.1%} of the pixels have the same class. Dilation, align_corners, order of concatenation or "
            "normalisation differ from what the source usually does: say them with --set (docs/checkpoints.md)"
        )
    return float(difference.max())
