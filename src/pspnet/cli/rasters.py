"""Commands on rasters: raster, data tile, data repair."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from pspnet.cli.console import console, fail, options_of
from pspnet.cli.data import group
from pspnet.cli.options import AboutOption, DeviceOption, ModelArgument
from pspnet.terminal import PlainConsole, duration, each, minute_lines, progress_bar

if TYPE_CHECKING:
    from pspnet.config import RasterConfig
    from pspnet.raster import Progress


def add_to(app: typer.Typer) -> None:
    app.command(no_args_is_help=True)(raster)
    group.command(no_args_is_help=True)(tile)
    group.command(no_args_is_help=True)(repair)


def raster(
    model: ModelArgument,
    source: Annotated[
        str, typer.Argument(help="A raster (anything GDAL opens, a /vsicurl/ URL too), a folder, or a list (.txt).")
    ],
    target: Annotated[Path, typer.Argument(help="The land-cover map, a cloud-optimised GeoTIFF; for many, a folder.")],
    tile: Annotated[int | None, typer.Option(help="Side of the windows, in pixels. Default: 1024.")] = None,
    overlap: Annotated[int | None, typer.Option(help="Pixels that windows share and blend. Default: 256.")] = None,
    polygons: Annotated[
        Path | None, typer.Option(help="Also write the classes' areas to this GeoPackage; for many, to NAME.gpkg.")
    ] = None,
    aoi: Annotated[
        str | None, typer.Option(help="Area of interest: a file of polygons, or left,bottom,right,top.")
    ] = None,
    simplify: Annotated[
        float | None, typer.Option(help="Metres: make the polygons' stairs of pixels straight, borders stay shared.")
    ] = None,
    fill_holes: Annotated[
        float | None, typer.Option("--fill-holes", help="Square metres: fill smaller holes of polygons.")
    ] = None,
    regularize: Annotated[
        str | None, typer.Option(help="Classes whose polygons get right angles, such as building (several: a,b).")
    ] = None,
    resolution: Annotated[
        str | None,
        typer.Option(
            help="Metres of a pixel that the model sees, or trained: resamples. Default: native, the raster's."
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Another setting, as name=value: confidence=true unsure_below=0.5 bands=[4,3,2] min_area_m2=100 ...",
        ),
    ] = None,
    about: AboutOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    skip_errors: Annotated[
        bool, typer.Option("--skip-errors", help="Unreadable blocks become nodata and are listed.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(help="Many rasters: worker processes. Default: by the machine.")
    ] = None,
    cluster: Annotated[str | None, typer.Option(help="Many rasters: the address of a Ray cluster, or local.")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Classify whole georeferenced rasters, in memory that does not grow with them; a killed run goes on when repeated.

    Examples: pspnet raster aerial-dubai city.tif landcover.tif --polygons landcover.gpkg

              pspnet raster aerial-dubai scenes/ maps/ --workers 2

              pspnet raster unet.onnx city.tif map.tif --about unet.yaml
    """
    from pspnet.config import RasterConfig

    settings = options_of(setting)
    own_options = {
        "tile_px": tile,
        "overlap_px": overlap,
        "overwrite": overwrite or None,
        "skip_errors": skip_errors or None,
        "polygons": polygons,
        "aoi": _area(aoi) if aoi else None,
        "resolution": resolution,
        "simplify_m": simplify,
        "fill_holes_m2": fill_holes,
        "regularize": regularize,
    }
    for name, value in own_options.items():
        if value is not None:
            settings.setdefault(name, value)
            if settings[name] != value:
                option = "--" + re.sub("_(px|m|m2)$", "", name).replace("_", "-")
                fail(f"{name} = {settings[name]} by --set, {value} by {option}: give it once, with {option}")
    config = RasterConfig.model_validate(settings)
    many = Path(source).is_dir() or Path(source).suffix.lower() in (".txt", ".lst") or cluster is not None
    if many:
        _many(model, source, target, config, workers, cluster, device, about)
    else:
        _one(model, source, target, config, device, about)


def _one(model: str, source: str, target: Path, config: RasterConfig, device: str, about: list[str] | None) -> None:
    from pspnet.cli.inputs import about_of, model_files
    from pspnet.predict.segmenter import Segmenter
    from pspnet.raster import segment_raster

    segmenter = Segmenter.load(model, device=device, about=about_of(about))
    with _bar() as follow:
        report = segment_raster(segmenter, source, target, config, inputs=model_files(model), progress=follow)
    rate = report.height * report.width / 1e6 / max(report.seconds, 1e-9)
    console.print(
        f"{report.width} x {report.height} px in {report.seconds:.1f} s, {rate:.2f} megapixels/s"
        + (f", gone on from row {report.resumed_rows}" if report.resumed_rows else ""),
        highlight=False,
    )
    console.print("  ".join(f"{name} {share:.1%}" for name, share in report.shares.items()), highlight=False)
    if not report.data_share:
        console.print("no pixel has data: the map is all nodata", style="yellow", highlight=False)
    for top, left, height, width in report.unreadable:
        console.print(
            f"unreadable, left as nodata: rows {top} to {top + height - 1}, columns {left} to {left + width - 1}",
            style="yellow",
            highlight=False,
            markup=False,
        )
    polygons = f", {report.polygon_count} polygons -> {report.polygons}" if report.polygons else ""
    console.print(f"-> {target}{polygons}", highlight=False)


def _many(
    model: str,
    source: str,
    target: Path,
    config: RasterConfig,
    workers: int | None,
    cluster: str | None,
    device: str,
    about: list[str] | None,
) -> None:
    from pspnet.cli.inputs import about_of
    from pspnet.predict.segmenter import Segmenter
    from pspnet.raster import segment_rasters

    described = about_of(about)
    used = model if described is None else Segmenter.load(model, device=device, about=described)
    with progress_bar("classifying", None, "rasters") as advance:
        report = segment_rasters(
            used, source, target, config, workers=workers, cluster=cluster, device=device, progress=each(advance)
        )
    if note := report.left_out.note():
        console.print(note, highlight=False, markup=False)
    for outcome in report.done:
        for text in outcome.warnings:
            console.print(f"{outcome.job.source}: {text}", style="yellow", highlight=False, markup=False)
    for name, reason in report.failed.items():
        console.print(f"failed: {name}: {reason}", style="red", highlight=False, markup=False)
    skipped = f", {len(report.skipped)} there before" if report.skipped else ""
    console.print(
        f"{len(report.done)} rasters mapped{skipped}, {len(report.failed)} failed -> {target}", highlight=False
    )
    if report.failed:
        raise typer.Exit(1)


def tile(
    root: Annotated[Path, typer.Argument(help="Folder, CSV or raster of the data set.")],
    out: Annotated[Path, typer.Argument(help="Folder for the chips; made new.")],
    format: Annotated[str, typer.Option("--format", help="Layout of the data set: raster, folder, ...")] = "raster",
    split: Annotated[str, typer.Option(help="Part of the data set.")] = "all",
    layout: Annotated[str, typer.Option(help="classified_tiles (ArcGIS's), or folder.")] = "classified_tiles",
    image_format: Annotated[str, typer.Option(help="TIFF, PNG or JPEG.")] = "TIFF",
    option: Annotated[
        list[str] | None,
        typer.Option("--option", help="A setting of the data set, as name=value: window_px=256 labels=roofs.gpkg ..."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder where it exists.")] = False,
) -> None:
    """Cut labelled rasters into chips: ArcGIS's Classified Tiles with all its text files, or a plain folder.

    Example: pspnet data tile town chips --option labels=landuse.gpkg --option window_px=256
    """
    from pspnet.data.catalog import open_dataset
    from pspnet.data.write_chips import write_tiles

    if layout not in ("classified_tiles", "folder") or image_format not in ("TIFF", "PNG", "JPEG"):
        fail(f"layout = {layout}, image_format = {image_format}: classified_tiles or folder; TIFF, PNG or JPEG")
    dataset = open_dataset(format, root, split, **options_of(option))
    with progress_bar("writing", len(dataset), "chips") as advance:
        write_tiles(
            dataset,
            out,
            cast(Any, layout),  # checked above
            image_format=cast(Any, image_format),
            overwrite=overwrite,
            progress=each(advance),
        )
    console.print(f"{len(dataset)} chips -> {out}", highlight=False)


def repair(
    folder: Annotated[Path, typer.Argument(help="A Classified Tiles export that lacks some of its text files.")],
) -> None:
    """Write the text files that ArcGIS's export left out (map.txt, stats.txt, ...), from images and labels.

    Example: pspnet data repair export/
    """
    from pspnet.data.write_chips import repair_tiles

    tiles = repair_tiles(folder)
    console.print(f"written: {', '.join(tiles)}" if tiles else "nothing is missing", highlight=False)


def _area(text: str) -> Any:
    box = text.split(",")
    if len(box) != 4 or Path(text).exists():
        return Path(text)
    try:
        return tuple(map(float, box))
    except ValueError:
        fail(f"aoi = {text}: a file of polygons, or left,bottom,right,top as four numbers")


@contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    """A bar with megapixels per second and time left, as the run itself knows them."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    errors = PlainConsole(stderr=True)
    if not errors.is_terminal:
        line = minute_lines("classifying")
        yield lambda progress: line(
            f"{progress.stage}, {progress.done_px / 1e6:.0f} of {progress.total_px / 1e6:.0f} megapixels, "
            f"{progress.megapixels_per_s:.2f} a second"
        )
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
    )
    with Bar(*columns, console=errors, transient=True) as bar:
        task = bar.add_task("reading", total=None, rate="")

        def follow(progress: Progress) -> None:
            left = progress.seconds_left
            clock = f"{duration(left)} left" if left < 1e7 else ""
            bar.update(
                task,
                description=progress.stage,
                total=progress.total_px,
                completed=progress.done_px,
                rate=f"{progress.megapixels_per_s:.2f} megapixels/s  {clock}",
            )

        yield follow
