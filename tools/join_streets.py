"""Brings CamVid and LabelMeFacade into one folder of street photographs, in CamVid's 11 classes.

    python tools/join_streets.py CAMVID LABELMEFACADE OUT

CAMVID: the SegNet copy of 480 x 360, {train,val,test}/{images,labels}, void is 11. LABELMEFACADE: the same folders, 255 is
ignored. OUT gets {train,val,test}/{images,labels} and classes.json: a folder that `pspnet train ... data.root=OUT` reads.
LabelMeFacade's window and door are parts of buildings and its vegetation is tree; what it does not label (people, signs,
bicycles among it) stays ignored: it is not background. Images are copied as they are. A split without labels is left out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np

from pspnet.errors import DataError, PspnetError
from pspnet.files import write_text
from pspnet.images import read_label, write_label
from pspnet.labels import IGNORE, LabelSpace

FACADE = ("building", "car", "door", "pavement", "road", "sky", "vegetation", "window")
MEANS = {"door": "building", "window": "building", "vegetation": "tree"}  # in CamVid's words; the others are the same


def main(arguments: list[str] | None = None) -> int:
    """Exit code 2 when a folder is not what it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("camvid", "labelmefacade", "out"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args(arguments)
    try:
        counts = join(given.camvid, given.labelmefacade, given.out)
    except PspnetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(", ".join(f"{split}: {count} images" for split, count in counts.items()))
    return 0


def join(camvid: Path, facade: Path, out: Path) -> dict[str, int]:
    """Writes the folder; the number of images in each split. Raises DataError where one exists or lacks."""
    if out.exists():
        raise DataError(f"'{out}' exists; name a folder that does not, or remove it")
    classes = LabelSpace.named("camvid")
    void = classes.num_classes
    tables = {
        "camvid": np.array([*range(void), *[IGNORE] * (256 - void)], np.uint8),
        "facade": np.array(
            [*(classes.names.index(MEANS.get(name, name)) for name in FACADE), *[IGNORE] * (256 - len(FACADE))],
            np.uint8,
        ),
    }
    counts: dict[str, int] = {}
    for source, root in (("camvid", camvid), ("facade", facade)):
        for split in ("train", "val", "test"):
            folder = root / split
            if not (folder / "images").is_dir():
                raise DataError(f"'{folder / 'images'}' does not exist; '{root}' is not the data set that is expected")
            if (folder / "labels").is_dir():
                counts[split] = counts.get(split, 0) + _add(folder, out / split, source, tables[source], classes)
    table = {"names": list(classes.names), "colors": [list(c) for c in classes.colours], "ignore_index": IGNORE}
    write_text(out / "classes.json", json.dumps(table, indent=1) + "\n")
    return counts


def _add(folder: Path, out: Path, source: str, table: np.ndarray, classes: LabelSpace) -> int:
    for kind in ("images", "labels"):
        (out / kind).mkdir(parents=True, exist_ok=True)
    images = sorted((folder / "images").iterdir())
    for image in images:
        label = folder / "labels" / f"{image.stem}.png"
        shutil.copyfile(image, out / "images" / f"{source}_{image.name}")
        write_label(out / "labels" / f"{source}_{label.name}", table[read_label(label)], classes)
    return len(images)


if __name__ == "__main__":
    sys.exit(main())
