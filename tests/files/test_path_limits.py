"""Within limits nothing outside is read or written, whatever leads there: links, lists, virtual rasters, sidecars, options."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from pspnet.data.catalog import open_dataset
from pspnet.errors import DataError, OutputError, PspnetError
from pspnet.files import path_limits, write_text
from pspnet.files.path_limits import is_below, only_below
from pspnet.georaster.grids import open_raster
from pspnet.images import read_image, write_png

CLASSES = "code,name,red,green,blue\n0,a,1,2,3\n1,b,9,9,9\n"


@pytest.fixture
def places(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """(a folder inside, one outside with a raster, its labels, a picture, a table), with the limit set."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    rng = np.random.default_rng(0)
    for folder in (inside, outside):
        write_raster(folder / "image.tif", rng.integers(0, 255, (3, 64, 64), dtype=np.uint8))
        write_raster(folder / "labels.tif", np.kron(rng.integers(0, 2, (1, 8, 8)), np.ones((1, 8, 8))).astype(np.uint8))
        write_png(folder / "image.png", rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    (outside / "classes.csv").write_text(CLASSES)
    with only_below([inside]):
        yield inside, outside


def write_raster(path: Path, values: np.ndarray) -> None:
    where = {"crs": "EPSG:25832", "transform": from_origin(5e5, 5e6, 1, 1)}
    bands, height, width = values.shape
    with rasterio.open(path, "w", "GTiff", width, height, bands, dtype="uint8", **where) as target:
        target.write(values)


def vrt(source: str, relative: bool = False) -> str:
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource><SourceFilename relativeToVRT="{int(relative)}">{source}'
        f"</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for band in (1, 2, 3)
    )
    return (
        '<VRTDataset rasterXSize="64" rasterYSize="64"><SRS>EPSG:25832</SRS>'
        f"<GeoTransform>500000,1,0,5000000,0,-1</GeoTransform>{bands}</VRTDataset>"
    )


def test_without_a_limit_everything_passes(tmp_path: Path) -> None:
    assert path_limits.limits() is None
    path_limits.check("/etc/passwd")
    path_limits.check_raster("/vsicurl/http://nowhere/x.tif")


def test_below_is_below_and_not_beside(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert is_below(tmp_path / "a", [tmp_path / "a"])
    assert is_below(tmp_path / "a" / "b" / "c", [tmp_path / "a"])
    assert not is_below(tmp_path / "ab", [tmp_path / "a"])
    assert not is_below(tmp_path / "a" / ".." / "b", [tmp_path / "a"])
    assert is_below("/etc", ["/"])


def test_pictures_and_links(places: tuple[Path, Path]) -> None:
    inside, outside = places
    assert read_image(inside / "image.png").shape == (64, 64, 3)
    (inside / "link.png").symlink_to(outside / "image.png")
    (inside / "folder").symlink_to(outside)
    for path in (
        outside / "image.png",
        inside / "link.png",
        inside / "folder" / "image.png",
        inside / ".." / "out/image.png",
    ):
        with pytest.raises(DataError, match=r"lies outside of the folders.*--root"):
            read_image(path)


def test_nothing_is_written_outside(places: tuple[Path, Path]) -> None:
    inside, outside = places
    write_text(inside / "a" / "b.txt", "x")
    (inside / "way").symlink_to(outside)
    for path in (outside / "b.txt", inside / "way" / "b.txt"):
        with pytest.raises(OutputError, match="lies outside"):
            write_text(path, "x")
    assert not (outside / "b.txt").exists()


def test_rasters_that_lead_outside(places: tuple[Path, Path]) -> None:
    inside, outside = places
    open_raster(str(inside / "image.tif")).close()
    (inside / "own.vrt").write_text(vrt("image.tif", relative=True))
    open_raster(str(inside / "own.vrt")).close()
    shutil.copy(inside / "image.tif", inside / "with_sidecar.tif")
    (inside / "with_sidecar.tif.ovr").symlink_to(outside / "image.tif")
    (inside / "linked.tif").symlink_to(outside / "image.tif")
    (inside / "absolute.vrt").write_text(vrt(f"{outside}/image.tif"))
    (inside / "dots.vrt").write_text(vrt("../out/image.tif", relative=True))
    (inside / "nested.vrt").write_text(vrt("absolute.vrt", relative=True))
    (inside / "hidden.tif").write_text("\n  " + vrt(f"{outside}/image.tif"))
    (inside / "inline.vrt").write_text(vrt("&lt;VRTDataset/&gt;"))
    (inside / "far.vrt").write_text(vrt("/vsicurl/http://127.0.0.1:9/x.tif"))
    (inside / "zip.vrt").write_text(vrt(f"/vsizip/{outside}/x.zip/x.tif"))
    (inside / "subdataset.vrt").write_text(vrt(f"GTIFF_DIR:1:{outside}/image.tif"))
    (inside / "itself.vrt").write_text(vrt("itself.vrt", relative=True))
    (inside / "wms.tif").write_text("<GDAL_WMS><Service/></GDAL_WMS>")
    (inside / "damaged.vrt").write_text("<VRTDataset")
    wrong = [str(p) for p in inside.iterdir() if p.name not in ("image.tif", "labels.tif", "image.png", "own.vrt")]
    for name in [
        *wrong,
        str(outside / "image.tif"),
        f"GTIFF_DIR:1:{outside}/image.tif",
        f"/vsisubfile/0_9,{outside}/image.tif",
    ]:
        with pytest.raises(PspnetError):
            open_raster(name).close()


@pytest.mark.parametrize("how", ["csv", "link", "vrt", "folder of links", "shapefile", "table"])
def test_data_sets_that_lead_outside(places: tuple[Path, Path], how: str) -> None:
    inside, outside = places
    root: Path = inside / "set"
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    (root / "classes.csv").write_text(CLASSES)
    shutil.copy(inside / "labels.tif", root / "labels" / "x.tif")
    shutil.copy(inside / "image.tif", root / "images" / "x.tif")
    open_dataset("raster", root, "train", window_px=16)  # as it is now nothing is wrong with it
    if how == "csv":
        root = inside / "list.csv"
        root.write_text(f"image,labels,split\n{outside}/image.tif,{outside}/labels.tif,train\n")
        (inside / "classes.csv").write_text(CLASSES)
    elif how == "folder of links":
        shutil.rmtree(root / "images")
        (outside / "images").mkdir()
        shutil.copy(outside / "image.tif", outside / "images" / "x.tif")
        (root / "images").symlink_to(outside / "images")
    elif how == "table":
        (root / "classes.csv").unlink()
        (root / "classes.csv").symlink_to(outside / "classes.csv")
    else:
        (root / "images" / "x.tif").unlink()
        if how == "link":
            (root / "images" / "x.tif").symlink_to(outside / "image.tif")
        elif how == "vrt":
            (root / "images" / "x.vrt").write_text(vrt(f"{outside}/image.tif"))
        else:
            shutil.copy(inside / "image.tif", root / "images" / "x.tif")
            (root / "labels" / "x.tif").unlink()
            (root / "labels" / "x.shp").write_bytes(b"")
            (root / "labels" / "x.dbf").symlink_to(outside / "classes.csv")
    before = sorted(outside.rglob("*"))
    with pytest.raises(PspnetError, match=r"outside|no ordinary file"):
        open_dataset("raster", root, "train", window_px=16)
    assert sorted(outside.rglob("*")) == before


def test_processes_that_are_started_have_the_limit_too(places: tuple[Path, Path]) -> None:
    inside, outside = places
    code = f"from pspnet.images import image_size; print(image_size({str(inside / 'image.png')!r})); image_size({str(outside / 'image.png')!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "(64, 64)\n"
    assert "lies outside of the folders" in done.stderr


def test_the_limit_ends_with_its_block(tmp_path: Path) -> None:
    with only_below([tmp_path]):
        with only_below([tmp_path / "inner"]):
            assert path_limits.limits() == (os.path.realpath(tmp_path / "inner"),)
        assert path_limits.limits() == (os.path.realpath(tmp_path),)
    assert path_limits.limits() is None
