"""The command that measures: bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pspnet.cli.console import console, sides_of


def add_to(app: typer.Typer) -> None:
    app.command()(bench)


def bench(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Checkpoints, exported models, models by name; or encoders: random weights. Default: resnet50."
        ),
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(help="torch, compile, openvino, onnxruntime; may be repeated. Default: all but compile."),
    ] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="fp32, bf16; may be repeated. Default: what the machine has.")
    ] = None,
    size: Annotated[
        list[str] | None, typer.Option(help="Side of the images in px, or HEIGHTxWIDTH; may be repeated. Default: 480.")
    ] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Images at once; may be repeated. Default: 1.", min=1)] = None,
    rounds: Annotated[int, typer.Option(help="Measured rounds; medians are shown.", min=1)] = 7,
    threads: Annotated[int | None, typer.Option(help="Processor threads. Default: PyTorch's choice.", min=1)] = None,
    classes: Annotated[int, typer.Option(help="Classes of a network with random weights.", min=1)] = 150,
    starts: Annotated[bool, typer.Option(help="Also time import, help and first image.")] = True,
    out: Annotated[Path, typer.Option(help="Folder for bench-HARDWARE-DATE-COMMIT.json.")] = Path("."),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto",
) -> None:
    """Measure this machine: its matrix rates, then models by engine, precision and size, from images to labels.

    ms: by the clock; proc. ms: of the processor over all threads, which other programs do not change. of roof: the
    network's operations per processor second over those of a matrix product or a
    3x3 convolution, whichever runs faster here.

    Example: pspnet bench resnet50 camvid-small --size 480 --size 1024x2048 --engine torch --engine openvino
    """
    from rich.text import Text

    from pspnet.bench.run import bench as measure
    from pspnet.files import check_folder

    check_folder(out)  # before minutes of work
    with console.status("matrix products") as status:
        report = measure(
            models or ["resnet50"],
            engine or ["torch", "openvino", "onnxruntime"],
            precision or ["fp32", "bf16"],
            [sides_of(text) for text in size or ["480"]],
            batch or [1],
            rounds=rounds,
            threads=threads,
            device=device,
            classes=classes,
            starts=starts,
            report_line=lambda text: status.update(Text(text)),
        )
    console.print(str(report), highlight=False, markup=False)
    console.print(f"-> {report.save(out)}", highlight=False)
