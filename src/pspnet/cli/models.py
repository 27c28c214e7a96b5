"""Commands about models: info, models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pspnet.cli.console import console


def add_to(app: typer.Typer) -> None:
    """Adds this file's commands."""
    app.command(no_args_is_help=True)(info)
    app.command()(models)


def info(
    source: Annotated[str, typer.Argument(help="A model (file or name), or a recipe (file or name).")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="With a recipe: settings that replace its own, as name=value.")
    ] = None,
    height: Annotated[
        int | None, typer.Option(help="Height of the images, in pixels. Without it: the recipe's crop, or 480.", min=1)
    ] = None,
    width: Annotated[
        int | None, typer.Option(help="Width of the images, in pixels. Without it: the recipe's crop, or 480.", min=1)
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Images of a training step. Without it: the recipe's batch, or 1.", min=1)
    ] = None,
) -> None:
    """What a model is and costs: classes, provenance, stages, parameters, FLOPs, estimated memory and time.

    A recipe is counted with the classes and bands of its data.

    Example: pspnet info camvid_resnet18_half model.encoder=resnet50 --batch 8
    """
    from pspnet.config import (
        AugmentConfig,
        ModelConfig,
        PublishedConfig,
        TrainConfig,
        read_recipe,
        recipe_names,
        with_overrides,
    )
    from pspnet.data.catalog import classes_and_bands
    from pspnet.inspection import model_info

    named = source in recipe_names() and not Path(source).exists()
    if named or Path(source).suffix.lower() in (".yaml", ".yml"):
        values = with_overrides(read_recipe(source), settings or [])
        config = ModelConfig.model_validate(values.get("model", values))
        from_data = classes_and_bands(values["data"]) if "data" in values else None
        if from_data is not None:
            config = config.changed(num_classes=from_data[0], in_bands=from_data[1])
        crop = AugmentConfig.model_validate(values.get("augmentation", {})).crop if "data" in values else None
        if crop is not None:
            height, width = height or crop[0], width or crop[1]
        if "data" in values:
            batch = batch or values.get("batch_size") or TrainConfig.model_fields["batch_size"].default
        if "published" in values:
            published = PublishedConfig.model_validate(values["published"])
            console.print(f"published {published}", highlight=False, markup=False)
    else:
        from pspnet.predict.exported import is_exported, open_exported
        from pspnet.weights.bundled import find_model
        from pspnet.weights.checkpoint import read_header

        path = find_model(source)
        config, card = open_exported(path)[1:] if is_exported(path) else read_header(path)
        console.print(f"classes   {', '.join(card.label_space.names)}", highlight=False, markup=False)
        console.print(
            f"bands     {', '.join(card.band_names)}; values {card.value_range[0]:g} to {card.value_range[1]:g}"
        )
        console.print(f"protocol  {card.protocol}", highlight=False)
        for name, value in card.provenance.items():
            console.print(f"{name:9s} {_brief(value)}", highlight=False, markup=False)
    console.print(str(model_info(config, height or 480, width or 480, batch or 1)), highlight=False, markup=False)


def _brief(value: object) -> str:
    """A recipe or a table of scores in a line: its own plain entries, not the nested ones."""
    if not isinstance(value, dict):
        return str(value)
    plain = {k: v for k, v in value.items() if isinstance(v, (str, int, float)) and not isinstance(v, bool) and v != ""}
    shown = [f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in list(plain.items())[:8]]
    return ", ".join(shown)


def models() -> None:
    """List the models that come along, by name, with the terms of the data they learnt from.

    Example: pspnet models
    """
    from rich.table import Table

    from pspnet.weights.bundled import bundled_models

    models_by_name = bundled_models()
    if not models_by_name:
        console.print("no models here; set PSPNET_MODELS to a folder that has an index.json")
        return
    table = Table("name", "MiB", "about", "terms of its data", box=None, pad_edge=False)
    for model in models_by_name.values():
        if file := model.path if model.here else model.int8:
            size = f"{file.stat().st_size / 2**20:.1f}{'' if model.here else ', 8-bit'}"
            table.add_row(model.name, size, model.about, model.terms)
    console.print(table)
    if elsewhere := [model.name for model in models_by_name.values() if not model.here and model.int8 is None]:
        console.print(
            f"not here: {', '.join(elsewhere)}; they lie in the folder models/ of the source repository, since their data are "
            "not free to use: set PSPNET_MODELS to a copy of it",
            soft_wrap=True,
        )
