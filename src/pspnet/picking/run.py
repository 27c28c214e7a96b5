"""Looking at all candidates and choosing among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pspnet.errors import DataError
from pspnet.picking.candidates import Candidate, look_at
from pspnet.picking.greedy import greedy_choice
from pspnet.predict.segmenter import Segmenter


@dataclass(frozen=True)
class LabellingChoice:
    """picked: the best first. distances: of each to what was known or chosen before it, 0 to 2. candidates: how many there
    were. failures: path -> why it could not be looked at."""

    picked: tuple[Candidate, ...]
    distances: tuple[float, ...]
    candidates: int
    failures: dict[str, str]


def pick(
    segmenter: Segmenter | str | Path,
    paths: Sequence[str | Path],
    count: int,
    *,
    labelled: Sequence[str | Path] = (),
    tile_px: int = 512,
    progress: Callable[[int], None] = lambda files: None,
) -> LabellingChoice:
    """The `count` images or tiles whose labels should help the model most.

    Args:
        segmenter: A checkpoint's model: a Segmenter, or what `Segmenter.load` takes.
        paths: Images and rasters.
        count: How many.
        labelled: Images that have labels already: nothing like them is chosen, and they are not candidates.
        tile_px: Side of a raster's tiles.
        progress: Called after each file with the number of files done.

    Raises DataError where nothing can be looked at, ConfigError for a count above the number of candidates, or an exported model.
    """
    segmenter, files, with_labels = Segmenter.of(segmenter), [*map(Path, paths)], [*map(Path, labelled)]
    failures: dict[str, str] = {}
    known_paths = {path.resolve() for path in with_labels}
    known: list[Candidate] = []
    candidates: list[Candidate] = []
    todo = [*with_labels, *(path for path in files if path.resolve() not in known_paths)]
    for done, (path, of_file) in enumerate(look_at(segmenter, todo, tile_px, failures), start=1):
        (known if path.resolve() in known_paths else candidates).extend(of_file)
        progress(done)
    if not candidates:
        reason = next(iter(failures.values()), "all of them are labelled, or hold no data")
        raise DataError(f"none of {len(paths)} images can be chosen: {reason}")
    features = np.stack([candidate.feature for candidate in candidates])
    uncertainty = np.array([candidate.uncertainty for candidate in candidates], np.float32)
    before = np.stack([candidate.feature for candidate in known]) if known else None
    order, distances = greedy_choice(features, uncertainty, count, before)
    return LabellingChoice(
        tuple(candidates[i] for i in order.tolist()), tuple(distances.tolist()), len(candidates), failures
    )
