"""Looking at all candidates and choosing among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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


LEAST_SHARE = 1e-3  # a class that the model finds nowhere must not make one stray pixel the best choice


def class_balanced(candidates: Sequence[Candidate]) -> NDArray[np.float32]:
    """(N,) the uncertainty of each candidate, every class counting alike: doubts over the class's share of all candidates.

    By pixels alone road, sky and trees decide, and the few pixels of signs and cyclists, on which a mean IoU rests as much,
    hardly count. A candidate as doubtful as the mean of all, in every class, has their mean entropy.

    >>> shares = np.float32([0.95, 0.05])                         # road and cyclists, in both pictures
    >>> road = Candidate(Path("road.jpg"), np.float32([1, 0]), shares, np.float32([0.19, 0]))
    >>> cyclist = Candidate(Path("cyclist.jpg"), np.float32([0, 1]), shares, np.float32([0.095, 0.04]))
    >>> round(road.uncertainty, 3), round(cyclist.uncertainty, 3)
    (0.19, 0.135)
    >>> class_balanced([road, cyclist])                           # of cyclists it doubts at 0.8, of the road at 0.1 or 0.2
    array([0.1 , 0.45], dtype=float32)
    """
    shares = np.mean([one.shares for one in candidates], axis=0)
    doubts = np.stack([one.doubts for one in candidates])
    return np.asarray((doubts / np.maximum(shares, LEAST_SHARE)).mean(1), np.float32)


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
    before = np.stack([candidate.feature for candidate in known]) if known else None
    order, distances = greedy_choice(features, class_balanced(candidates), count, before)
    return LabellingChoice(
        tuple(candidates[i] for i in order.tolist()), tuple(distances.tolist()), len(candidates), failures
    )
