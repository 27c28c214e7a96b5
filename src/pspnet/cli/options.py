"""Options that several commands share, each with one wording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ModelArgument = Annotated[
    str, typer.Argument(help="A checkpoint (.safetensors), or the name of a model that comes along.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")]
EngineOption = Annotated[
    str | None,
    typer.Option(
        help="torch, compile, openvino, onnxruntime, or auto: the fastest here that gives PyTorch's labels. All but torch "
        "take up to a minute the first time. Default: torch, or what an exported model was made for."
    ),
]
DataOption = Annotated[Path | None, typer.Option(help="Folder of the data set; left out for generated scenes.")]
FormatOption = Annotated[
    str, typer.Option("--format", help="Layout: camvid, folder, ade20k, scenes ... A wrong name lists all.")
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace files that exist. An input is never replaced.")
]
LayoutOption = Annotated[
    list[str] | None, typer.Option("--option", help="A setting of the layout, as name=value; may be repeated.")
]
SplitOption = Annotated[str, typer.Option(help="Part of the data set.")]
ProtocolOption = Annotated[
    str | None, typer.Option(help="whole, slide, semseg-ss, semseg-ms, mmseg-slide ... Default: the model's own.")
]
AboutOption = Annotated[
    list[str] | None,
    typer.Option(
        help="For an .onnx file of another project: what it does not say itself, as name=value (classes, bands, divide, mean, "
        "std, output), or a YAML file with them; may be repeated. Default: the YAML file of the same name beside it."
    ),
]
