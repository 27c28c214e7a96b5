"""Commands that make models: demo, train, ablate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pspnet.cli.console import console, fail, options_of
from pspnet.cli.options import OverwriteOption


def add_to(app: typer.Typer) -> None:
    app.command()(demo)
    app.command(no_args_is_help=True)(train)
    app.command(no_args_is_help=True)(ablate)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the page and the models.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of scenes, weights and order.")] = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Show what pyramid pooling changes: three networks trained on generated scenes, in minutes, and a page.

    Trains the FCN baseline, one global bin and PSPNet with the same seed and steps; prints their scores and writes
    index.html with curves and pictures.

    Example: pspnet demo --out demo
    """
    from pspnet.demo import run_demo

    run_demo(out, seed, overwrite=overwrite)


def train(
    recipe: Annotated[
        Path | None, typer.Argument(help="A recipe: a YAML file, or the name of one that comes along.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Argument(help="Settings that replace the recipe's: data.root=DIR model.encoder=resnet50 steps=200 ..."),
    ] = None,
    find_rate: Annotated[
        Path | None,
        typer.Option(help="Do not train: try growing learning rates, plot the loss into this PNG, suggest one."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a run to go on with, bit for bit where it stopped. data.root=DIR beside it: the data moved."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Train a network as a recipe says, in a folder of its own.

    The folder holds settings, curves, pictures and checkpoints; best.safetensors is the result.

    Ctrl-C leaves a checkpoint to go on from (exit code 130; SIGTERM: 143).

    Example: pspnet train camvid_resnet18_half data.root=data/camvid
    """
    import pspnet.training as training
    from pspnet.config import TrainConfig
    from pspnet.files import check_output

    if resume is not None:
        words = [*([] if recipe is None else [str(recipe)]), *(settings or [])]
        if any("=" not in word for word in words):
            fail("--resume goes on with a run as it was set up; give no recipe with it")
        best = training.resume(resume, settings=words, quiet=quiet)
    elif recipe is None:
        fail("no recipe given. Write: pspnet train RECIPE.yaml [name=value ...], or pspnet train --resume RUN")
    elif find_rate is not None:
        check_output(find_rate, inputs=[recipe], overwrite=overwrite)
        search = training.find_learning_rate(TrainConfig.from_yaml(recipe, settings or []), plot=find_rate)
        console.print(
            f"suggested: optimizer.learning_rate={search.suggestion:.3g}   (curve: {find_rate})", highlight=False
        )
        return
    else:
        config = TrainConfig.from_yaml(recipe, settings or [])
        if config.published is not None and not quiet:
            console.print(f"published, with the recipe as it is: {config.published}", highlight=False, markup=False)
        best = training.train(config, quiet=quiet)
    console.print(f"best checkpoint: {best}", highlight=False)


def ablate(
    recipe: Annotated[Path, typer.Argument(help="The recipe that every run has in common.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="Settings that replace the recipe's, as name=value.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for runs and tables; an earlier one is gone on with.")] = Path(
        "ablation"
    ),
    tables: Annotated[str, typer.Option(help="The paper's tables to make: T1,T2,T3,T4.")] = "T1,T2,T3,T4",
    seeds: Annotated[int, typer.Option(help="Runs of each row.", min=1)] = 5,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the grid, as name=value: encoders=[resnet18] ...")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bars.")] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Make the paper's tables again over any data set, with the paper's numbers beside ours. Goes on where it stopped.

    tables.md also holds the paper's tables 5 (VOC 2012) and 6 (Cityscapes) with the other methods' rows, ours beside them where
    the data is theirs. pictures.png: the baseline beside PSPNet. depth.png: the curve of T3.

    Example: pspnet ablate scenes_resnet18_bilinear --tables T1,T2 --out ablation
    """
    from pspnet.ablation import ablate as run
    from pspnet.config import AblationConfig, TrainConfig

    grid = options_of(setting) | {"out": out, "tables": tables.split(","), "seeds": seeds}
    grid["recipe"] = TrainConfig.from_yaml(recipe, settings or [])
    outcome = run(AblationConfig.model_validate(grid), quiet=quiet, inputs=[recipe], overwrite=overwrite)
    console.print(outcome.read_text(encoding="utf-8"), highlight=False, markup=False)
    console.print(f"-> {outcome}", highlight=False)
