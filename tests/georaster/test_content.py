"""Files of data whose content describes others: refused by what they hold, whatever their ending says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from rasterio.crs import CRS

from pspnet.errors import DataError, RasterError
from pspnet.files.path_limits import only_below
from pspnet.georaster.grids import open_raster
from pspnet.georaster.vectors import read_features
from support.rasters import scene, write_raster


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """(address, paths that were asked for)."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}", asked
        running.shutdown()


DRIVERS = {".kml": "LIBKML"}  # the others tell by their ending


def write(path: Path) -> Path:
    shapes, names = shapely.to_wkb([shapely.box(0, 0, 9, 9)]), np.array(["sea"], object)
    pyogrio.raw.write(
        path, shapes, [names], ["class"], geometry_type="Polygon", crs="EPSG:4326", driver=DRIVERS.get(path.suffix)
    )
    return path


@pytest.mark.parametrize("ending", [".geojson", ".json", ".gpkg", ".sqlite", ".fgb", ".shp", ".gml", ".kml"])
def test_files_that_are_what_they_say(tmp_path: Path, ending: str) -> None:
    path = (
        write(tmp_path / f"a{ending}")
        if ending != ".json"
        else write(tmp_path / "a.geojson").rename(tmp_path / "a.json")
    )
    with only_below([tmp_path]):
        assert len(read_features(path, CRS.from_epsg(4326)).geometries) == 1


@pytest.mark.parametrize(
    "name", ["labels.geojson", "labels.json", "labels.gpkg", "labels.kml", "labels.gml", "labels.dat"]
)
def test_no_file_shows_another_or_asks_a_server(tmp_path: Path, name: str, server: tuple[str, list[str]]) -> None:
    address, asked = server
    secret, path = write(tmp_path / "secret.geojson"), tmp_path / name
    layer = f'<OGRVRTLayer name="secret"><SrcDataSource>{secret}</SrcDataSource></OGRVRTLayer>'
    pipeline = {"type": "gdal_streamed_alg", "command_line": f"gdal vector pipeline ! read {secret}"}
    for text in (
        f"<OGRVRTDataSource>{layer}</OGRVRTDataSource>",
        f"\ufeff<!-- a --><OGRVRTDataSource>{layer}</OGRVRTDataSource>",
        f"<OGRWFSDataSource><URL>{address}</URL></OGRWFSDataSource>",
        json.dumps(pipeline),
        " " * 900 + json.dumps({"features": [], **pipeline}),
    ):
        path.write_text(text)
        with pytest.raises(RasterError, match=r"is no \.|describes data that lie elsewhere"):
            read_features(path, CRS.from_epsg(4326))
    assert not asked


def test_a_gml_asks_nobody_for_its_schema_and_leaves_nothing(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    address, asked = server
    wfs = f"{address}/wfs?SERVICE=WFS&amp;VERSION=1.1.0&amp;REQUEST=DescribeFeatureType&amp;TYPENAME=a"
    ring = "<gml:LinearRing><gml:coordinates>0,0 1,0 1,1 0,0</gml:coordinates></gml:LinearRing>"
    (tmp_path / "a.gml").write_text(
        '<wfs:FeatureCollection xmlns:wfs="http://www.opengis.net/wfs" xmlns:gml="http://www.opengis.net/gml" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:ms="http://x" '
        f'xsi:schemaLocation="http://x {wfs}"><gml:featureMember><ms:a gml:id="a.1"><ms:g><gml:Polygon>'
        f"<gml:outerBoundaryIs>{ring}</gml:outerBoundaryIs></gml:Polygon></ms:g><ms:class>sea</ms:class></ms:a>"
        "</gml:featureMember></wfs:FeatureCollection>"
    )
    assert read_features(tmp_path / "a.gml", None, "class").values.tolist() == ["sea"]  # type: ignore[union-attr]
    assert not asked
    assert [path.name for path in tmp_path.iterdir()] == ["a.gml"]


def test_no_image_is_a_description(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    address, asked = server
    tiles = (
        f'<GDAL_WMS><Service name="TMS"><ServerUrl>{address}/${{z}}/${{x}}/${{y}}.png</ServerUrl></Service><DataWindow>'
        "<UpperLeftX>0</UpperLeftX><UpperLeftY>1</UpperLeftY><LowerRightX>1</LowerRightX><LowerRightY>0</LowerRightY>"
        "<SizeX>256</SizeX><SizeY>256</SizeY></DataWindow><BandsCount>3</BandsCount></GDAL_WMS>"
    )
    for name in ("a.tif", "a.jp2", "a.png", "a.img"):
        (tmp_path / name).write_text(tiles)
        with pytest.raises(RasterError, match="is no image but a text"):
            open_raster(str(tmp_path / name)).read()
    assert not asked


@pytest.mark.parametrize(
    "inner",
    [
        '<Metadata domain="GEOLOCATION"><MDI key="X_DATASET">{}</MDI></Metadata>',
        '<ProcessingSteps><Step><Argument name="gain_dataset_filename_1">{}</Argument></Step></ProcessingSteps>',
        '<Anything at="{}"/>',
        "<Anything>/vsicurl/http://127.0.0.1:9/x.tif</Anything>",
    ],
)
def test_a_virtual_raster_within_limits_names_nothing_outside(tmp_path: Path, inner: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    write_raster(tmp_path / "secret.tif", scene(8, 8))
    for text in (str(tmp_path / "secret.tif"), "../secret.tif"):
        (inside / "a.vrt").write_text(f'<VRTDataset rasterXSize="8" rasterYSize="8">{inner.format(text)}</VRTDataset>')
        with only_below([inside]), pytest.raises(DataError, match=r"outside of the folders|are not used within limits"):
            open_raster(str(inside / "a.vrt"))
