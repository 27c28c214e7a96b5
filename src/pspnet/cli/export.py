"""Commands that bring models in and hand them on: export, import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pspnet.cli.console import console, options_of, sides_of
from pspnet.cli.options import LayoutOption, OverwriteOption

if TYPE_CHECKING:
    from pspnet.predict.segmenter import Segmenter


def add_to(app: typer.Typer) -> None:
    """Adds this file's commands."""
    app.command(no_args_is_help=True)(export)
    app.command("import", no_args_is_help=True)(import_)


def export(
    model: Annotated[str, typer.Argument(help="A checkpoint, or the name of a model that comes along.")],
    out: Annotated[
        Path,
        typer.Argument(
            help="The file: .onnx, .xml (OpenVINO) or .pt2 (torch.export). A folder with --for model-server."
        ),
    ],
    precision: Annotated[
        str, typer.Option(help="fp32; with .onnx also fp16 and int8, with .xml fp16, bf16 and int8.")
    ] = "fp32",
    images: Annotated[
        Path | None, typer.Option(help="Folder of images for the parity check; with int8 also for calibration.")
    ] = None,
    calibration_limit: Annotated[
        int, typer.Option(help="Greatest number of images of --images that are used, evenly spread.", min=2)
    ] = 100,
    scoring_limit: Annotated[
        int | None, typer.Option(help="Greatest number of labelled images of --data, evenly spread; else all.", min=1)
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Both limits at once.", min=1, hidden=True)] = None,
    output: Annotated[
        str,
        typer.Option(
            help="logits; or labels: a graph for programs without pspnet, 8-bit images in, labels out (.onnx)."
        ),
    ] = "logits",
    program: Annotated[
        str | None,
        typer.Option(
            "--for",
            help="A program that has its own wishes. deepness (QGIS): probabilities and its metadata, an .onnx. model-server "
            "(OpenVINO's): OUT is its model repository, a folder.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="With --output labels: the graph is for images of HEIGHTxWIDTH px only; native: any size, seen as it is; unless "
            "said, any size, brought to the trained one inside and back. With --for deepness: the side of a tile, 512 unless said."
        ),
    ] = None,
    argmax: Annotated[
        bool, typer.Option("--argmax", hidden=True, help="Float images in, labels (int64) instead of logits out.")
    ] = False,
    bound: Annotated[
        float | None, typer.Option(help="Least share of labels equal to the source's, 0 to 1; else nothing is written.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Labelled data set: the report then holds the mean IoU before and after.")
    ] = None,
    format: Annotated[
        str | None, typer.Option("--format", help="Its layout: camvid, folder, ade20k, scenes ...; folder with --data.")
    ] = None,
    split: Annotated[str, typer.Option(help="Part of the data set.")] = "val",
    option: LayoutOption = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Greatest loss of mean IoU, 0 to 1 (0.005: half a point); where more is lost for sure nothing is written."
        ),
    ] = None,
    accuracy_aware: Annotated[
        bool, typer.Option("--accuracy-aware", help="int8: layers go back to floating point until --max-drop is kept.")
    ] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Hand a model on: a graph for any batch, height and width, normalisation inside, checked at three sizes.

    Example: pspnet export camvid-small camvid.xml --precision int8 --images data/camvid/train/images
    --data data/camvid --format camvid --max-drop 0.005

    For QGIS: pspnet export aerial-dubai dubai.onnx --for deepness

    For OpenVINO Model Server: pspnet export streets repository --for model-server
    """
    from pspnet.cli.console import fail
    from pspnet.cli.inputs import images_in, model_files
    from pspnet.data.catalog import open_dataset
    from pspnet.data.views import evenly
    from pspnet.exporting import export as write
    from pspnet.predict.segmenter import Segmenter

    if output not in ("logits", "labels"):
        fail(f"--output {output!r}: logits or labels")
    if program not in (None, "deepness", "model-server"):
        fail(f"--for {program!r}: deepness or model-server")
    if output == "labels" or program == "deepness":
        alone = precision == "fp32" and not (images or data or format or argmax or accuracy_aware)
        if not alone or max_drop is not None or (program is not None and output == "labels"):
            asked = "--output labels" if program is None else f"--for {program}"
            fail(f"{asked} goes with --size and --overwrite alone: the graph is in float32 and checked by itself")
    elif size is not None:
        fail("--size is for --output labels and --for deepness; a graph with logits takes any size")
    repository, name = out, Path(model).stem
    if program == "model-server":
        from pspnet.exporting.model_server import next_version

        out = next_version(repository, name)
    segmenter = Segmenter.load(model, device="cpu", precision="fp32")
    if output == "labels":
        from pspnet.exporting.self_contained import export_labels

        equal = export_labels(
            segmenter,
            out,
            size=None if size in (None, "native") else sides_of(size),
            own_scale=size != "native",
            inputs=model_files(model),
            overwrite=overwrite,
        )
        console.print(f"{out}: labels out, equal to the source's on {equal:.4%}", highlight=False, markup=False)
        return
    if program == "deepness":
        _for_deepness(segmenter, out, size, model_files(model), overwrite)
        return
    calibration_limit, scoring_limit = limit or calibration_limit, limit or scoring_limit
    files = images_in([images]).files if images else None
    if files:  # evenly: of a film's frames the first hundred would all show one place
        count = min(calibration_limit, len(files))
        files = tuple(files[number * len(files) // count] for number in range(count))
    dataset = open_dataset(format or "folder", data, split, **options_of(option)) if data or format else None
    if dataset is not None and scoring_limit and len(dataset) > scoring_limit:
        dataset = evenly(dataset, scoring_limit)
    report = write(
        segmenter,
        out,
        precision,
        images=[segmenter.read(f.path) for f in files] if files else None,
        argmax=argmax,
        bound=bound,
        dataset=dataset,
        max_drop=max_drop,
        accuracy_aware=accuracy_aware,
        inputs=[
            *model_files(model),
            *([images] if images else []),
            *([data] if data else []),
            *(dataset.sources() if dataset else []),
        ],
        overwrite=overwrite,
    )
    console.print(str(report), highlight=False, markup=False)
    if program == "model-server":
        from pspnet.exporting.model_server import add_to_configuration

        console.print(f"named in {add_to_configuration(repository, name)}", highlight=False, markup=False)


def _for_deepness(segmenter: Segmenter, out: Path, size: str | None, inputs: list[Path], overwrite: bool) -> None:
    from pspnet.cli.console import fail
    from pspnet.exporting.deepness import export_deepness

    height, width = sides_of(size or "512")
    if height != width:
        fail(f"--size {size!r}: Deepness cuts square tiles")
    report = export_deepness(segmenter, out, tile_px=height, inputs=inputs, overwrite=overwrite)
    scale = (
        f"{report.resolution_cm:g} cm a pixel"
        if report.resolution_cm
        else "the model does not know its metres a pixel: set the resolution in the plugin"
    )
    console.print(
        f"{out}: for Deepness, tiles of {height} px, {scale}; labels equal to the source's on {report.agreement:.4%}",
        highlight=False,
        markup=False,
    )


def import_(
    checkpoint: Annotated[str, typer.Argument(help="The other project's file; for smp also a folder or a hub id.")],
    out: Annotated[Path, typer.Argument(help="Our checkpoint, .safetensors.")],
    source: Annotated[str, typer.Option(help="The project: semseg, mmseg, smp ... A wrong name lists all.")],
    classes: Annotated[
        str | None, typer.Option(help="Names where the file has none: ade20k, voc, cityscapes, or a class table (CSV).")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="A field of the model to set otherwise, as name=value: align_corners=true ..."),
    ] = None,
    verify: Annotated[Path | None, typer.Option(help="A recorded output (.npz) to compare with.")] = None,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Leave out the self-check, which untrained weights may fail.")
    ] = False,
    half: Annotated[bool, typer.Option("--half", help="Store the weights as float16.")] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Turn another project's PSPNet checkpoint into ours, with every tensor accounted for and a self-check.

    Example: pspnet import train_epoch_100.pth ade50.safetensors --source semseg --classes ade20k
    """
    from pspnet.files import check_output
    from pspnet.weights.checkpoint import save_checkpoint
    from pspnet.weights.importing import import_checkpoint

    given = [name for name in (checkpoint, classes, verify) if name is not None]
    check_output(out, inputs=given, overwrite=overwrite)

    imported = import_checkpoint(
        checkpoint, source, classes=classes, settings=options_of(setting), verify=verify, check=not no_check
    )
    console.print(str(imported.report), highlight=False, markup=False)
    save_checkpoint(out, imported.model, imported.card, half)
    console.print(f"-> {out}", highlight=False)
