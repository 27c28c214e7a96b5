"""A folder of images segmented in this process, as `pspnet segment` does without a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from pspnet.predict.folders import FolderReport, ImageFile, one_by_one, run_files
from pspnet.predict.image_results import ImageOptions
from pspnet.predict.segmenter import Segmenter


def segment_files(
    segmenter: Segmenter,
    files: Sequence[ImageFile],
    out_dir: Path,
    *,
    options: ImageOptions | None = None,
    skip_existing: bool = False,
    overwrite: bool = False,
) -> Iterator[FolderReport]:
    run, space = partial(one_by_one, segmenter), segmenter.card.label_space
    chosen = options or ImageOptions()
    return run_files(run, files, out_dir, chosen, space, skip_existing=skip_existing, overwrite=overwrite)
