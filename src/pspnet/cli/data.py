"""Commands on data sets: data check, data stats, data prepare, data pick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pspnet.cli.console import console, options_of
from pspnet.cli.options import DeviceOption, FormatOption, LayoutOption, ModelArgument, OverwriteOption
from pspnet.terminal import each, progress_bar

group = typer.Typer(no_args_is_help=True, help="Look at a data set before a model does.", rich_markup_mode=None)

RootArgument = Annotated[Path | None, typer.Argument(help="Folder of the data set; left out for generated scenes.")]
SplitOption = Annotated[
    list[str] | None, typer.Option(help="Split to look at; may be repeated. Default: all there are.")
]


def add_to(app: typer.Typer) -> None:
    app.add_typer(group, name="data")


@group.command(no_args_is_help=True)
def check(
    root: RootArgument = None,
    format: FormatOption = "folder",
    split: SplitOption = None,
    option: LayoutOption = None,
) -> None:
    """Read every file and list all faults, each with how to mend it. Exit code 1 when there is an error.

    Errors: unknown codes, unequal sizes, missing pairs, damaged files, a picture in two splits. Warnings: near
    duplicates, empty labels, classes that a split lacks, images of another mode.

    Example: pspnet data check data/camvid --format camvid
    """
    from pspnet.data.doctor import check_splits

    with progress_bar("checking", None) as advance:
        report = check_splits(format, root, split, options_of(option), progress=each(advance))
    for fault in report.faults:
        colour = "red" if fault.severity == "error" else "yellow"
        console.print(f"{fault.severity} [{fault.kind}] {fault}", style=colour, highlight=False, markup=False)
    summary = f"{len(report.errors)} errors, {len(report.warnings)} warnings"
    console.print(f"{report.name}: {report.samples} images, {summary}", highlight=False)
    if not report.ok:
        raise typer.Exit(1)


@group.command(no_args_is_help=True)
def stats(
    root: RootArgument = None,
    format: FormatOption = "folder",
    split: SplitOption = None,
    option: LayoutOption = None,
) -> None:
    """Band means and deviations, sizes, and each class's share of pixels and images.

    Example: pspnet data stats data/camvid --format camvid --split train
    """
    from rich.table import Table

    from pspnet.data.catalog import available_splits, open_dataset
    from pspnet.data.statistics import dataset_statistics

    for name in split or available_splits(format, root):
        dataset = open_dataset(format, root, name, **options_of(option))
        with progress_bar(f"reading {name}", len(dataset)) as advance:
            statistics = dataset_statistics(dataset, progress=each(advance))
        console.print(f"{name}: {statistics.images} images, {statistics.labelled} with labels", highlight=False)
        console.print(
            f"  height {_span(statistics.height)} px, width {_span(statistics.width)} px (least, median, greatest)\n"
            f"  mean {_numbers(statistics.mean)}\n  std  {_numbers(statistics.std)}",
            highlight=False,
        )
        if statistics.labelled:
            table = Table("", "class", "pixels", "images", box=None, pad_edge=False)
            rows = zip(statistics.label_space.names, statistics.class_shares, statistics.class_images, strict=True)
            for number, (title, share, images) in enumerate(rows):
                table.add_row(str(number), title, f"{share:.2%}", f"{images / statistics.labelled:.0%}")
            table.add_row("", "ignored", f"{statistics.ignored_share:.2%}", "")
            console.print(table)


@group.command(no_args_is_help=True)
def prepare(
    name: Annotated[str, typer.Argument(help="ade20k, voc, cityscapes, camvid, loveda ... A wrong name lists all.")],
    archives: Annotated[
        list[Path] | None, typer.Argument(help="Downloaded archives (zip, tar). None: say where to get them.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to unpack into.")] = Path("data"),
    overwrite: OverwriteOption = False,
) -> None:
    """Unpack the archives of a published data set, finish its layout and compare the counts with the published ones.

    Example: pspnet data prepare ade20k ADEChallengeData2016.zip --out data/ade20k
    """
    from pspnet.data.prepare import how_to_get
    from pspnet.data.prepare import prepare as unpack

    if not archives and not out.is_dir():
        console.print(f"{name}: {how_to_get(name)}", highlight=False, markup=False)
        console.print(f"Then: pspnet data prepare {name} ARCHIVE... --out {out / name}", highlight=False, markup=False)
        return
    with progress_bar(f"preparing {name}", None, "files") as advance:
        prepared = unpack(name, archives or [], out, progress=each(advance), overwrite=overwrite)
    for split, count in prepared.counts.items():
        wanted = prepared.expected.get(split)
        console.print(f"{split}: {count} images" + (f" of {wanted}" if wanted else ""), highlight=False)
    for note in prepared.notes:
        console.print(note, style="yellow", highlight=False, markup=False)
    console.print(f"-> {prepared.root}", highlight=False)
    if not prepared.complete:
        raise typer.Exit(1)


@group.command(no_args_is_help=True)
def pick(
    model: ModelArgument,
    images: Annotated[list[Path], typer.Argument(help="Images, rasters, or folders of them, without labels.")],
    count: Annotated[int, typer.Option(help="How many to choose.", min=1)] = 50,
    labelled: Annotated[
        list[Path] | None,
        typer.Option(help="Image or folder that has labels already: nothing like it is chosen. May be repeated."),
    ] = None,
    tile: Annotated[
        int, typer.Option(help="A raster is chosen from in squares of this side, in pixels.", min=32)
    ] = 512,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("picked"),
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
) -> None:
    """Choose what to label next: images, or tiles of rasters, that the model is unsure of and that are unlike each other.

    Writes picked.csv, picked.txt (the files), picked.jpg (small pictures) and, for rasters, picked.gpkg (the tiles).

    Example: pspnet data pick best.safetensors photos/ --count 50 --labelled data/train/images --out picked
    """
    from pspnet.cli.inputs import images_in, model_files
    from pspnet.files import check_output_folder
    from pspnet.picking import pick as choose
    from pspnet.picking import save_choice
    from pspnet.predict.segmenter import Segmenter

    files = images_in(images)
    known = images_in(labelled) if labelled else []
    check_output_folder(out, inputs=[*images, *(labelled or []), *model_files(model)], overwrite=overwrite)
    segmenter = Segmenter.load(model, device=device)
    with progress_bar("looking", len(files) + len(known)) as advance:
        choice = choose(
            segmenter,
            [file.path for file in files],
            count,
            labelled=[file.path for file in known],
            tile_px=tile,
            progress=lambda _: advance(1),
        )
    written = save_choice(choice, out, segmenter)
    for path, reason in choice.failures.items():
        console.print(f"failed: {path}: {reason}", style="red", highlight=False, markup=False)
    console.print(
        f"{len(choice.picked)} of {choice.candidates} chosen -> {', '.join(map(str, written))}", highlight=False
    )
    if choice.failures:
        raise typer.Exit(1)


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _span(values: tuple[int, int, int]) -> str:
    return ", ".join(map(str, values))
