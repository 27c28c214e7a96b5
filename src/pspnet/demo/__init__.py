"""`pspnet demo`: what pyramid pooling changes, trained before your eyes on generated scenes.

run.py      trains three networks that differ in their bins alone, scores them, writes what it found
gallery.py  which scenes to show, and the pictures of a scene
page.py     demo/index.html, filled from page.html
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pspnet.demo.outcomes import DemoReport

__all__ = ["run_demo"]


def run_demo(
    out_dir: str | Path = "demo",
    seed: int = 0,
    *,
    steps: int | None = None,
    size_px: int | None = None,
    train_scenes: int | None = None,
    test_scenes: int | None = None,
    quiet: bool = False,
    overwrite: bool = False,
) -> DemoReport:
    """Trains the FCN baseline, one global bin and PSPNet on the same scenes, seed and steps; about 3 minutes on 2 cores.

    Writes into `out_dir`: index.html (self-contained), scores.json, pspnet.safetensors, and the three runs below runs/
    (those of an earlier demo there are replaced; others only with overwrite). Prints a table unless `quiet`. steps, size_px, train_scenes and
    test_scenes replace the demo's own settings (see outcomes.py): smaller ones are faster and show less.

    Raises what `pspnet.train` raises: ConfigError, TrainingError, RunInterrupted; and OutputError before the work.
    """
    from pspnet.demo.outcomes import DemoPlan  # loads torch
    from pspnet.demo.run import run  # loads Lightning

    given = {"steps": steps, "size_px": size_px, "train_scenes": train_scenes, "test_scenes": test_scenes}
    return run(
        Path(out_dir), DemoPlan(seed=seed, **{k: v for k, v in given.items() if v is not None}), quiet, overwrite
    )
