"""Commands that use a model: segment, evaluate, explore."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, cast

import typer

from pspnet.cli.console import console, fail, options_of
from pspnet.cli.options import (
    DataOption,
    DeviceOption,
    EngineOption,
    FormatOption,
    LayoutOption,
    ModelArgument,
    OverwriteOption,
    ProtocolOption,
    SplitOption,
)
from pspnet.cli.video import check_video, parse_video
from pspnet.terminal import each, progress_bar


def add_to(app: typer.Typer) -> None:
    app.command(no_args_is_help=True)(segment)
    app.command(no_args_is_help=True)(evaluate)
    app.command(no_args_is_help=True)(explore)


def segment(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="MODEL, then images or folders, or one video clip. With --model, without MODEL.",
            metavar="[MODEL] IMAGE_OR_FOLDER...",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results; of a video clip, the video to write.")] = Path(
        "segmented"
    ),
    model: Annotated[str | None, typer.Option(help="The model, when it is not the first argument.")] = None,
    overlay: Annotated[
        bool, typer.Option(help="Also write NAME_overlay.jpg: colours over the image, with a legend.")
    ] = True,
    opacity: Annotated[float, typer.Option(help="Opacity of the overlay's colours, 0 to 1.", min=0.0, max=1.0)] = 0.55,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="Also write NAME_confidence.tif: grey, 0 to 255, 255 = certain.")
    ] = False,
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities",
            help="Also write NAME_probabilities.npz for NumPy: probabilities (classes, height, width) as float16, and classes.",
        ),
    ] = False,
    polygons: Annotated[
        str | None,
        typer.Option(
            help="Also write outlines of the regions, in pixels: geojson (NAME.geojson), yolo (NAME.txt and data.yaml) or coco "
            "(one coco.json)."
        ),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="How to look at an image: whole, slide, semseg-ms ... Default: whole.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="What a photograph is looked at with: trained (the size the model knows), native, or the longer side in "
            "pixels. Default: trained, and native with --protocol. Results have the photograph's own size."
        ),
    ] = None,
    steady: Annotated[
        bool, typer.Option(help="A video clip: average probabilities over some frames, against flicker.")
    ] = True,
    skip_existing: Annotated[
        bool, typer.Option(help="Leave images whose result is there already and that have not changed since.")
    ] = False,
    cluster: Annotated[
        str | None, typer.Option(help="The address of a Ray cluster, or local: many images on many machines.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="With --cluster: processes. Default: one for each GPU, or every four cores.", min=1),
    ] = None,
    device: DeviceOption = "auto",
    engine: EngineOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Parse images: NAME.png with a class per pixel, NAME_overlay.jpg, and summary.json with class shares.

    A broken image does not stop the rest; the exit code is then 1. Results of an earlier run are replaced, and no other
    file without --overwrite. Results get a folder of their own, which may lie below that of the photographs.

    A video clip becomes a video with the classes' colours, a table (CSV) of each frame's class shares, and a legend.

    Example: pspnet segment camvid-small photos/ --out parsed --polygons geojson

    A clip: pspnet segment camvid-small drive.mp4 --out parsed.mp4
    """
    from pspnet.cli.inputs import check_model, images_in
    from pspnet.predict.cluster import on_machines, read_card
    from pspnet.predict.folders import FolderReport, Runner, one_by_one, run_files
    from pspnet.predict.image_results import ImageOptions, Polygons
    from pspnet.predict.scale import parse_size
    from pspnet.predict.segmenter import Segmenter
    from pspnet.predict.videos import VideoOptions, is_video
    from pspnet.weights.bundled import find_model

    wish = None if size is None else parse_size(size)
    name, paths = (model, inputs) if model else (inputs[0], inputs[1:])
    if not paths:
        fail(f"no image given after the model '{name}'. Write: pspnet segment MODEL IMAGE_OR_FOLDER... --out DIR")
    if is_video(out) or any(map(is_video, paths)):
        given = {
            "--confidence": confidence,
            "--probabilities": probabilities,
            "--polygons": polygons,
            "--protocol": protocol,
            "--cluster": cluster,
            "--skip-existing": skip_existing,
            "--no-overlay": not overlay,
        }
        check_video(paths, out, [option for option, value in given.items() if value])
        video = VideoOptions(opacity, wish, VideoOptions.earlier_weight if steady else 0.0)
        parse_video(name, Path(paths[0]), out, video, device, engine, overwrite)
        return
    check_model(name)
    files = images_in(paths)
    if workers and not cluster:
        fail(f"--workers {workers} is for --cluster; without it one process segments. Try --cluster local")
    outlines = cast(Polygons | None, polygons)  # checked by the options
    options = ImageOptions(overlay, opacity, protocol, wish, confidence, probabilities, outlines)
    if cluster:
        space = read_card(find_model(name)).label_space
        run: Runner = partial(on_machines, name, cluster, workers=workers, device=device, engine=engine)
    else:
        segmenter = Segmenter.load(name, device=device, engine=engine)
        if segmenter.choice:
            console.print(str(segmenter.choice), highlight=False, markup=False)
        run, space = partial(one_by_one, segmenter), segmenter.card.label_space
    report = FolderReport()
    with progress_bar("segmenting", len(files)) as advance:
        steps = run_files(run, files, out, options, space, skip_existing=skip_existing, overwrite=overwrite)
        for grown in steps:
            report = grown
            advance(1)
    if len(report.results) == 1:
        shares = list(report.results[0]["classes"].items())
        console.print("  ".join(f"{name} {share:.1%}" for name, share in shares[:8]), highlight=False)
    skipped = f", {report.skipped} skipped" if report.skipped else ""
    console.print(f"{len(report.results)} of {len(files)} images parsed{skipped} -> {out}", highlight=False)
    for path, reason in report.failures.items():
        console.print(f"failed: {path}: {reason}", style="red", highlight=False, markup=False)
    if report.failures:
        raise typer.Exit(1)


def evaluate(
    model: ModelArgument,
    earlier: Annotated[
        str | None, typer.Argument(hidden=True, help="The file of an earlier spelling, --json FILE; now --scores FILE.")
    ] = None,
    data: DataOption = None,
    format: FormatOption = "folder",
    split: SplitOption = "val",
    option: LayoutOption = None,
    protocol: ProtocolOption = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the evaluation, as name=value: boundary=true, absent=zero ..."),
    ] = None,
    calibration: Annotated[
        bool, typer.Option("--calibration", help="Also whether confidence means what it says; with --out as a plot.")
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(help="Another model, or its scores.json: is MODEL better, image by image (paired bootstrap)?"),
    ] = None,
    submission: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the predictions as the benchmark's server takes them (ade20k, voc, cityscapes, loveda). "
            "A split without labels is then predicted and not scored."
        ),
    ] = None,
    scores: Annotated[Path | None, typer.Option(help="File (JSON) for all scores, those of each image too.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with all scores, for scripts.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for scores.json, report.txt, confusion.png, comparison.json ...")
    ] = None,
    device: DeviceOption = "auto",
    engine: EngineOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Score a model: mean IoU, accuracies, IoU of each class, with intervals and the protocol's every convention.

    Example: pspnet evaluate camvid-small --data data/camvid --format camvid --split val --scores scores.json

    Is one model better than another: pspnet evaluate new.safetensors --against old.safetensors --data DIR --format voc
    """
    from pspnet.cli.inputs import check_model, inputs_of
    from pspnet.cli.scoring import REPORT_FILES, Scoring, compare_with, printed, saved
    from pspnet.config import EvaluationConfig
    from pspnet.data.catalog import open_dataset
    from pspnet.files import check_output, check_output_folder, check_results_folder
    from pspnet.predict.segmenter import Segmenter

    if earlier is not None:
        if not as_json or scores is not None:
            fail(f"'{earlier}' is one argument too many; write: pspnet evaluate MODEL --data DIR ...")
        if Path(model).suffix.lower() == ".json":  # --json FILE stood before the model
            model, earlier = earlier, model
        scores, as_json = Path(earlier), False
    check_model(model)
    settings = options_of(setting)
    if protocol:
        settings["protocol"] = protocol
    if calibration:
        settings["calibration"] = True
    dataset = open_dataset(format, data, split, **options_of(option))
    inputs = inputs_of(model, data, dataset, against)
    folders = [*([] if data is None else [data]), *dataset.sources()]
    if out is not None:
        check_results_folder(out, folders)
    for target in (scores, *([] if out is None else [out / name for name in REPORT_FILES])):
        if target is not None:
            check_output(target, inputs=inputs, overwrite=overwrite)
    if submission is not None:
        check_output_folder(submission, inputs=folders, overwrite=overwrite)
    segmenter = Segmenter.load(model, device=device, engine=engine)
    config = EvaluationConfig.model_validate(settings)
    scoring = Scoring(dataset, config, f"{data or format} ({split})", format, submission)
    needs_scores = {
        "--against": against,
        "--calibration": calibration,
        "--scores": scores,
        "--json": as_json,
        "--out": out,
    }
    report = scoring.run(segmenter, refused=[name for name, given in needs_scores.items() if given])
    if report is None:
        return
    comparison = compare_with(against, scoring, report, (against, model), device) if against else None
    printed(report, comparison, as_json)
    saved(report, comparison, scores, out, overwrite)


def explore(
    model: ModelArgument,
    data: DataOption = None,
    format: FormatOption = "folder",
    split: SplitOption = "val",
    option: LayoutOption = None,
    protocol: ProtocolOption = None,
    out: Annotated[Path, typer.Option(help="The page.")] = Path("failures.html"),
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
) -> None:
    """Sort a model's errors into the paper's three kinds, with pictures, on one page.

    Mismatched relationships, confusable classes, inconspicuous objects.

    Example: pspnet explore scenes --format scenes --option count=100 --out failures.html
    """
    from pspnet.cli.inputs import check_model, inputs_of
    from pspnet.data.catalog import open_dataset
    from pspnet.explorer import explore as look
    from pspnet.files import check_output
    from pspnet.predict.segmenter import Segmenter

    check_model(model)
    dataset = open_dataset(format, data, split, **options_of(option))
    check_output(out, inputs=inputs_of(model, data, dataset), overwrite=overwrite)
    segmenter = Segmenter.load(model, device=device)
    with progress_bar("exploring", len(dataset)) as advance:
        report = look(
            segmenter,
            dataset,
            out,
            protocol=protocol,
            progress=each(advance),
            title=f"{model} on {data or format} ({split})",
            overwrite=overwrite,
        )
    for kind in report.kinds:
        console.print(f"{kind.name}: {kind.share:.1%} of the errors", highlight=False)
    console.print(f"-> {out}", highlight=False)
