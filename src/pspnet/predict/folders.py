"""Segmenting files: images and folders in, label PNGs, overlays and class shares out; one broken image stops nothing.

summary.json in the folder of results says whose each result is. Only by it may a later run replace a result, skip an
image that is done, or know that a picture is not a photograph but an earlier run's result.
"""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pspnet.data.dataset import Dataset, Sample
from pspnet.errors import DataError
from pspnet.files import (
    LONGEST_NAME,
    Inputs,
    Listing,
    check_folder,
    check_output,
    check_results_folder,
    holds_keys,
    list_files,
    locked,
    write_text,
)
from pspnet.images import IMAGE_SUFFIXES
from pspnet.labels import LabelSpace
from pspnet.predict.image_results import ENDINGS, ImageFile, ImageOptions, segment_file, write_shared
from pspnet.predict.result_folders import SUMMARY, ResultFolders, file_identity, known_results, shared_results
from pspnet.predict.segmenter import Segmenter


@dataclass(frozen=True)
class ImageList(Sequence[ImageFile]):
    """Images to work on. left_out: what the folders held besides."""

    files: tuple[ImageFile, ...]
    left_out: Listing = field(default_factory=Listing)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Any) -> Any:
        return self.files[index]


@dataclass
class FolderReport:
    """What became of a list of images. `results` has an entry per image done, `failures` path -> reason."""

    results: list[dict[str, Any]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    skipped: int = 0

    def to_dict(self) -> dict[str, Any]:
        return {"done": len(self.results), "skipped": self.skipped, "failures": self.failures, "images": self.results}


class Unlabelled(Dataset):
    """Image files as a Dataset without labels, read as a model reads them."""

    def __init__(self, segmenter: Segmenter, files: Sequence[ImageFile]) -> None:
        self.segmenter, self.images = segmenter, list(files)
        self.label_space, self.bands = segmenter.card.label_space, segmenter.config.in_bands
        self.band_names = segmenter.card.band_names

    def sources(self) -> Iterable[Path]:
        return (file.path for file in self.images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        file = self.images[index]
        return Sample(self.segmenter.read(file.path), None, file.name)


def find_images(inputs: Iterable[str | Path]) -> ImageList:
    """Files as they are, folders searched with their sub-folders; every result name is unique.

    Left out of folders: what is no image by its ending, hidden files, and results of an earlier run (by the summary.json
    beside them). A file given twice counts once. Raises DataError for a path that does not exist and for a folder
    without images.
    """
    files: dict[str, ImageFile] = {}
    left_out = Listing()
    for given in map(Path, inputs):
        if _is_folder(given):
            results = ResultFolders(given)
            listing = list_files(given, IMAGE_SUFFIXES, skip=results.why)
            for why, paths in listing.left_out.items():
                left_out.left_out.setdefault(why, []).extend(paths)
            if not listing.files:
                note = listing.note()
                raise DataError(
                    f"'{given}' holds no images; looked for {', '.join(IMAGE_SUFFIXES)}" + (f"; {note}" if note else "")
                )
            for path in listing.files:
                name = str(path.relative_to(given).with_suffix(""))
                files.setdefault(os.path.abspath(path), ImageFile(path, name))
        elif os.path.lexists(given):
            files.setdefault(os.path.abspath(given), ImageFile(given, given.stem))
        else:
            raise DataError(f"'{given}' does not exist; give an image or a folder of images")
    return ImageList(tuple(_named(list(files.values()), {})), left_out)


Done = tuple[ImageFile, dict[str, Any] | str]  # what `Segmentation.to_dict` says; or why the file failed
Runner = Callable[[Sequence[ImageFile], Path, ImageOptions], Iterator[Done]]  # files, folder of the results


def run_files(
    run: Runner,
    files: Sequence[ImageFile],
    out_dir: str | Path,
    options: ImageOptions,
    space: LabelSpace,
    *,
    skip_existing: bool = False,
    overwrite: bool = False,
) -> Iterator[FolderReport]:
    """Segments each file into `out_dir`: NAME.png (labels), what the options name, and summary.json.

    run: has the work done, here (`one_by_one`) or on other machines, in whatever order it comes back. space: the model's
    classes. Yields the growing report after every image, for a progress bar. A file that cannot be read or segmented goes to
    `failures` and the rest goes on. Results of an earlier run, by its summary, are replaced, or kept with skip_existing
    where they are of the same file, unchanged. Raises OutputError before the first image where `out_dir` is a folder of the
    images (one below it is allowed), where a result would replace an input, or, without overwrite, a file that is no result
    of ours, and where another process writes into the folder.
    """
    out = Path(out_dir)
    check_folder(out)
    sources = {folder for file in files for folder in file.folders}
    check_results_folder(out, sources, {(out / file.name).parent for file in files})
    with locked(out / SUMMARY, f"'{out}'"):
        known, shared = known_results(out), shared_results(out)
        files = _named(files, known)
        results = {f"{file.name}.png": file_identity(file.path) for file in files}
        inputs = Inputs(file.path for file in files)
        for file in files:
            replaceable = overwrite or f"{file.name}.png" in known
            for ending in options.endings():
                check_output(out / f"{file.name}{ending}", inputs=inputs, overwrite=replaceable)
        for name in options.shared_files():
            check_output(out / name, inputs=inputs, overwrite=overwrite or name in shared)
        records = {name: record for name, record in known.items() if name not in results and (out / name).is_file()}
        report = FolderReport()

        def write_summary() -> None:
            content = report.to_dict() | {
                "results": records | results,
                "shared": sorted({*shared, *options.shared_files()}),
            }
            write_text(out / SUMMARY, json.dumps(content, indent=1))

        ours = bool(known) or holds_keys(out / SUMMARY, ("done", "failures", "images"))
        check_output(out / SUMMARY, inputs=inputs, overwrite=overwrite or ours)
        write_summary()  # before the first result: a run that is killed has said which are its own
        left = []
        for file in files:
            name = f"{file.name}.png"
            whole = all((out / f"{file.name}{ending}").is_file() for ending in options.endings())
            if skip_existing and whole and known.get(name) == results[name]:
                report.skipped += 1
                yield report
            else:
                left.append(file)
        try:
            for file, outcome in run(left, out, options) if left else ():
                if isinstance(outcome, str):
                    report.failures[str(file.path)] = outcome
                else:
                    report.results.append({"file": str(file.path), **outcome})
                yield report
            write_shared(files, out, options, space)
        finally:  # a cluster that is lost leaves what it finished
            write_summary()


def one_by_one(segmenter: Segmenter, files: Sequence[ImageFile], out: Path, options: ImageOptions) -> Iterator[Done]:
    """The Runner of this process."""
    return ((file, segment_file(segmenter, file, out, options)) for file in files)


def _named(files: Sequence[ImageFile], known: Mapping[str, Mapping[str, Any]]) -> list[ImageFile]:
    """The files with names of their own: the one that a summary says, else the plain one, else with a number.

    a.jpg and a.png, A.jpg and a.jpg (one name on many systems), or one name in two folders do not meet.
    """
    of_file = {record["file"]: name.removesuffix(".png") for name, record in known.items()}
    names: dict[int, str] = {}
    taken: set[str] = set()

    def take(index: int, name: str) -> bool:
        key = unicodedata.normalize("NFC", name).casefold()
        if key in taken:
            return False
        taken.add(key)
        names[index] = name
        return True

    for index, file in enumerate(files):
        earlier = of_file.get(os.path.abspath(file.path))
        if earlier is not None:
            take(index, earlier)
    for index, file in enumerate(files):
        plain = _fitting(file.name)
        if index not in names and f"{plain}.png" not in known:
            take(index, plain)
    for index, file in enumerate(files):
        plain, number = _fitting(file.name), 2
        while index not in names:
            if f"{plain}_{number}.png" not in known:
                take(index, f"{plain}_{number}")
            number += 1
    return [replace(file, name=names[index]) for index, file in enumerate(files)]


def _fitting(name: str) -> str:
    """The name, shortened where its results' names would be too long for a file system."""
    folder, _, last = name.rpartition("/") if os.sep == "/" else name.rpartition(os.sep)
    data, most = os.fsencode(last), LONGEST_NAME - max(map(len, ENDINGS)) - 8  # room for a number
    if len(data) <= most:
        return name
    last = (
        os.fsencode(os.fsdecode(data[: most - 9])).decode(errors="ignore") + "_" + hashlib.sha256(data).hexdigest()[:8]
    )
    return f"{folder}/{last}" if folder else last


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long
        return False
