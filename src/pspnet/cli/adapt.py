"""Commands that fit a finished model to other data without training it: adapt, calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pspnet.cli.console import console, options_of
from pspnet.cli.options import DataOption, DeviceOption, FormatOption, LayoutOption, ModelArgument, OverwriteOption

OutArgument = Annotated[Path, typer.Argument(help="The new checkpoint, .safetensors.")]


def add_to(app: typer.Typer) -> None:
    """Adds this file's commands."""
    app.command(no_args_is_help=True)(adapt)
    app.command(no_args_is_help=True)(calibrate)


def adapt(
    model: ModelArgument,
    images: Annotated[Path, typer.Argument(help="Folder of images from the new camera, season or sensor; no labels.")],
    out: OutArgument,
    prior: Annotated[
        float, typer.Option(help="How many images the old statistics are worth; 0: only the new ones count.", min=0)
    ] = 16.0,
    passes: Annotated[int, typer.Option(help="Times that all images are looked at.", min=1)] = 2,
    limit: Annotated[int, typer.Option(help="Greatest number of images used.", min=1)] = 200,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
) -> None:
    """Move a model's batch-norm statistics towards unlabelled images of a shifted domain. The weights stay.

    It may help and it may harm: score both models on a few labelled images of that domain.

    Example: pspnet adapt camvid-small night/ camvid-night.safetensors
    Then: pspnet evaluate camvid-night.safetensors --against camvid-small --data night-labelled
    """
    from pspnet.adaptation import adapt_batch_norm
    from pspnet.cli.inputs import check_model, images_in, model_files
    from pspnet.files import check_output
    from pspnet.predict.folders import Unlabelled
    from pspnet.predict.segmenter import Segmenter

    check_model(model)
    files = images_in([images]).files[:limit]
    check_output(out, inputs=[*model_files(model), *(file.path for file in files)], overwrite=overwrite)
    segmenter = Segmenter.load(model, device=device)
    adapted = adapt_batch_norm(segmenter, Unlabelled(segmenter, files), prior=prior, passes=passes)
    adapted.save(out, overwrite=overwrite)
    console.print(
        f"statistics moved towards {len(files)} images, the old ones worth {prior:g} -> {out}", highlight=False
    )


def calibrate(
    model: ModelArgument,
    out: OutArgument,
    data: DataOption = None,
    format: FormatOption = "folder",
    split: Annotated[str, typer.Option(help="Part of the data set, not the one that was trained on.")] = "val",
    option: LayoutOption = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
) -> None:
    """Fit a temperature to labelled images, so that confidence is the probability of being right. Labels stay.

    Example: pspnet calibrate camvid-small calibrated.safetensors --data data/camvid --format camvid
    Then: pspnet evaluate calibrated.safetensors --calibration --data data/camvid --format camvid --split test
    """
    from pspnet.adaptation import calibrate as fit
    from pspnet.cli.inputs import check_model, inputs_of
    from pspnet.data.catalog import open_dataset
    from pspnet.files import check_output
    from pspnet.predict.segmenter import Segmenter

    check_model(model)
    dataset = open_dataset(format, data, split, **options_of(option))
    check_output(out, inputs=inputs_of(model, data, dataset), overwrite=overwrite)
    segmenter = Segmenter.load(model, device=device)
    calibrated = fit(segmenter, dataset)
    calibrated.save(out, overwrite=overwrite)
    before, after = segmenter.card.temperature, calibrated.card.temperature
    console.print(f"temperature {before:.3g} -> {after:.3g}, fitted to {len(dataset)} images -> {out}", highlight=False)
