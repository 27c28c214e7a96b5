"""Chips written to disks that do not take them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pspnet.data.dataset import Dataset, Sample
from pspnet.data.write_chips import _write_tiff, write_tiles
from pspnet.images import read_image
from pspnet.labels import LabelSpace


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_full_disk_is_an_error() -> None:
    """GDAL itself writes what fits, prints to the terminal, and says nothing."""
    with pytest.raises(OSError, match="No space left"):
        _write_tiff(Path("/dev/full"), np.zeros((3, 64, 64), np.uint8), None)


def test_names_that_meet_are_chips_of_their_own(tmp_path: Path) -> None:
    class Named(Dataset):
        label_space = LabelSpace(("sea", "land"))
        bands = 3
        names = ("a/b", "a_b", "A_b", "a_b_2")

        def __len__(self) -> int:
            return len(self.names)

        def __getitem__(self, index: int) -> Sample:
            return Sample(np.full((8, 8, 3), index, np.uint8), np.zeros((8, 8), np.uint8), self.names[index])

    write_tiles(Named(), tmp_path / "chips", "folder", image_format="PNG")
    for kind in ("images", "labels"):
        assert len(list((tmp_path / "chips" / kind).iterdir())) == 4
    assert sorted(int(read_image(path).max()) for path in (tmp_path / "chips/images").iterdir()) == [0, 1, 2, 3]
