"""Folders of the machine stay on the machine."""

from __future__ import annotations

import json
from pathlib import Path

from pspnet.config import TrainConfig
from pspnet.config.paths import path_fields, without_folders
from pspnet.training.results import shareable


def test_every_path_in_the_schema_is_known() -> None:
    actual = path_fields(TrainConfig)
    assert {"run_dir", "data.root", "data.cache_folder", "init_from"} <= set(actual)
    assert len(actual) == len(set(actual))


def test_a_shared_recipe_names_no_folder() -> None:
    config = TrainConfig.model_validate(
        {
            "init_from": "/home/anna/runs/a/best.safetensors",
            "run_dir": "/home/anna/runs/b",
            "model": {"encoder_weights": "/home/anna/weights/r50.pth"},
            "data": {
                "format": "folder",
                "root": "/home/anna/secret town",
                "cache_folder": "/scratch/anna/cache",
                "options": {"classes": "/home/anna/classes.csv", "images": "images"},
                "val_options": {"classes": "C:\\Users\\anna\\classes.csv"},
            },
        }
    )
    text = json.dumps(shareable(config))
    for word in ("anna", "scratch", "Users", "/home"):
        assert word not in text
    for word in ("secret town", "best.safetensors", "r50.pth", "classes.csv", '"images": "images"'):
        assert word in text


def test_absolute_paths_become_names_and_the_rest_stays() -> None:
    given = {
        "a": ["/x/y.tif", "x/y.tif", "http://a/b", "//", "~/z", Path("/q/r")],
        "b": 3,
        "c": None,
        "d": "D:/e/f.shp",
    }
    assert without_folders(given) == {
        "a": ["y.tif", "x/y.tif", "http://a/b", "//", "z", "r"],
        "b": 3,
        "c": None,
        "d": "f.shp",
    }
