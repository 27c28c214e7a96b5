"""Data sets that come from Python: what is no data set, no sample or no label is named before a step is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pspnet.config import DataConfig, ModelConfig
from pspnet.data.dataset import Sample
from pspnet.errors import ConfigError, DataError, OutputError
from pspnet.labels import LabelSpace
from pspnet.training import find_learning_rate, train
from pspnet.training.resolve import DataSets, data_of, normalises_by_data, resolve
from support import fakes
from support.toys import Toys, toy_run


class Odd(Toys):
    """Toys of which one sample is something else."""

    def __init__(self, odd: Any, at: int = 7) -> None:
        super().__init__()
        self.odd, self.at = odd, at

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return self.odd(sample) if index == self.at else sample


ODD = {
    "a tuple": (lambda s: (s.image, s.labels), "sample 7: it is a tuple and no Sample"),
    "bands first": (
        lambda s: Sample(s.image.transpose(2, 0, 1), s.labels, "x"),
        r"sample 7: its image is uint8 of shape \(3, 40, 40\), the data set says 3 bands, and its bands seem to come first",
    ),
    "a list": (lambda s: Sample(s.image.tolist(), s.labels, "x"), "sample 7: its image is a list"),
    "NaN": (lambda s: Sample(s.image + np.float32("nan"), s.labels, "x"), "sample 7: its image holds NaN"),
    "one-hot": (lambda s: Sample(s.image, np.eye(3)[s.labels % 3], "x"), "sample 7: its labels are float64 of shape"),
    "from 1": (
        lambda s: Sample(s.image, s.labels + 1, "x"),
        "sample 7: its labels hold 3; there are 3 classes, from 0",
    ),
    "-1": (lambda s: Sample(s.image, s.labels.astype(int) - 1, "x"), "sample 7: its labels hold -1"),
    "another size": (
        lambda s: Sample(s.image, s.labels[::2], "x"),
        "sample 7: its labels are 20 x 40, its image 40 x 40",
    ),
}


@pytest.mark.wrong_types
@pytest.mark.parametrize("name", ODD)
def test_what_is_no_sample_is_named(name: str, tmp_path: Path) -> None:
    odd, words = ODD[name]
    run = toy_run(tmp_path / "run", check_data=True)
    with pytest.raises(DataError, match=rf"{words}[\s\S]*Give Sample\(image, labels, name\)"):
        train(run, train_data=Odd(odd), quiet=True)
    assert not (tmp_path / "run").exists()
    with pytest.raises(DataError, match=words):
        find_learning_rate(run, train_data=Odd(odd))


def test_the_one_check_is_run(tmp_path: Path) -> None:
    """One class alone, and validation on what is trained on, as for data sets of files."""
    run = toy_run(tmp_path / "run", check_data=True)
    flat = Odd(None, at=-1)
    flat.label_space = LabelSpace(("ground",))
    empty = type(
        "Empty", (Toys,), {"__getitem__": lambda self, i: Sample(np.zeros((9, 9, 3), np.uint8), None, str(i))}
    )()
    with pytest.raises(DataError, match="no image has labels"):
        data_of(run, DataSets.given(empty, None))
    with pytest.warns(UserWarning, match=r"the same picture as|9 more of this kind \(duplicate\)"):
        data_of(run, DataSets.given(Toys(), Toys()))
    assert data_of(run.changed(check_data=False), DataSets.given(Toys(), Toys())).val is not None
    big = Toys(5000)
    data_of(run, DataSets.given(big, None))
    assert big.reads <= 100


@pytest.mark.wrong_types
@pytest.mark.parametrize("given", [[(np.zeros((9, 9, 3)), np.zeros((9, 9)))], {"image": 1}, object()])
def test_what_is_no_data_set_is_named(given: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no data set: it has no label_space, bands.*pspnet\.data\.Dataset"):
        train(toy_run(tmp_path / "run"), train_data=given, quiet=True)


@pytest.mark.parametrize(("top", "by_data"), [(255.0, False), (1.0, True), (10_000.0, True)])
def test_the_means_of_photographs_are_not_put_on_other_values(top: float, by_data: bool, tmp_path: Path) -> None:
    """With ImageNet's weights reflectance would be divided by 58, and fractions of 1 would all be black."""

    class Scaled(Toys):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return Sample((sample.image * (top / 255)).astype(np.float32), sample.labels, sample.name)

    model = ModelConfig(encoder="resnet18", encoder_weights="imagenet")
    assert normalises_by_data(model, Scaled()) == by_data
    results = resolve(
        toy_run(tmp_path / "run", model=model.changed(num_classes=3)), DataSets.given(Scaled(), None)
    ).model
    assert results.mean is not None
    assert (abs(results.mean[0] - 123.675) > 1) == by_data
    assert 0.1 * top < max(results.mean) < top


def test_a_run_never_lies_among_its_data(tmp_path: Path) -> None:
    fakes.write_folder(tmp_path / "data")
    before = sorted(tmp_path.rglob("*"))
    data = DataConfig(format="folder", root=tmp_path / "data")
    for folder in (tmp_path / "data", tmp_path / "data" / "train" / "images"):
        with pytest.raises(OutputError, match="among the inputs"):
            train(toy_run(folder, data=data), quiet=True)
    table = tmp_path / "data" / "classes.csv"
    with pytest.raises(OutputError, match="is an input"):
        find_learning_rate(toy_run(tmp_path / "run", data=data), plot=table)
    assert sorted(tmp_path.rglob("*")) == before
