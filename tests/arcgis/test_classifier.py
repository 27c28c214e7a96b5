"""The arcgis.learn workflow: prepared, trained, scored, saved, loaded, applied; a stub of ArcGIS runs the package."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from pspnet.arcgis import PSPNetClassifier, classify_pixels, prepare_data, read_package
from pspnet.arcgis.package import FUNCTION, load_package, write_package
from pspnet.config import AugmentConfig
from pspnet.errors import CheckpointError, ConfigError, OutputError, PspnetError
from pspnet.evaluation import evaluate
from pspnet.raster import segment_raster
from support.classified_tiles import export
from support.rasters import SPACE, PixelEngine, make_segmenter, read, scene, write_raster

TINY: dict[str, Any] = {
    "backbone": "resnet18",
    "backbone_weights": "random",
    "pyramid_sizes": (1, 2),
    "model_options": {"decoder_channels": 8, "encoder_options": {"depth": 3}},
}
QUICK: dict[str, Any] = {"workers": 0, "check_data": False, "pictures": 0}


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("arcgis") / "export", 12, columns=4)


@pytest.fixture(scope="module")
def trained(chips: Path) -> PSPNetClassifier:
    """One short training for all tests that only look at its outcome."""
    data = prepare_data(chips, chip_size=32, val_split_pct=0.3, batch_size=4, transforms=False)
    model = PSPNetClassifier(data, **TINY, monitor="valid_loss")
    model.fit(6, lr=slice(1e-3, 1e-2), one_cycle=True, training={**QUICK, "val_every": 4})
    return model


def test_data_is_prepared_by_the_public_names(chips: Path, tmp_path: Path) -> None:
    data = prepare_data(
        str(chips),
        {2: "Lake"},
        chip_size=24,
        val_split_pct=0.3,
        batch_size=3,
        seed=1,
        working_dir=tmp_path,
        extract_bands=[2, 0],
    )
    assert data.classes == ["Lake", "Bare soil"]
    assert data.c == 2
    assert data.train.bands == 2
    np.testing.assert_array_equal(
        data.train[0].image, prepare_data(chips, val_split_pct=0.3, seed=1).train[0].image[..., [2, 0]]
    )
    assert {data.train[i].name for i in range(len(data.train))}.isdisjoint(
        data.valid[i].name for i in range(len(data.valid))
    )
    assert data.augmentation.crop == (24, 24)
    assert sum(data.statistics().class_shares) == pytest.approx(1)
    figure = data.show_batch(rows=2, columns=2)
    assert len(figure.axes) == 4
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["Lake", "Bare soil"]
    assert prepare_data(chips, transforms=AugmentConfig(blur=False)).augmentation.blur is False
    assert not prepare_data(chips, transforms=False).augmentation.scale


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"resize_to": 100}, "own size"),
        ({"collate_fn": print}, "batches are formed"),
        ({"norm_pct": 0.3}, "measured"),
        ({"nonsense": 1}, "no argument 'nonsense'"),
        ({"dataset_type": "RCNN_Masks"}, "Classified_Tiles"),
        ({"transforms": (1, 2)}, "fastai"),
        ({"val_split_pct": 2}, "share"),
        ({"class_mapping": {9: "x"}}, "value 9"),
    ],
)
def test_arguments_without_a_counterpart_say_why(chips: Path, arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        prepare_data(chips, **arguments)


def test_the_classifiers_settings_become_pspnets(chips: Path) -> None:
    data = prepare_data(chips, batch_size=2)
    default = PSPNetClassifier(data)
    assert default.model_config.bins == (1, 3, 5, 6)  # what Esri's guide states
    assert (default.model_config.encoder, default.model_config.decoder) == ("resnet50", "unet")
    assert (default.model_config.auxiliary, default.model_config.output_stride) == ("none", 8)
    assert default.frozen
    other = PSPNetClassifier(
        data,
        "mobilenetv2",
        use_unet=False,
        pyramid_sizes=[1, 2],
        pointrend=True,
        focal_loss=True,
        class_balancing=True,
        dice_loss_fraction=0.25,
        ignore_classes=[5],
        mixup=True,
        keep_dilation=False,
        backbone_weights="random",
    )
    assert (other.model_config.decoder, other.model_config.auxiliary, other.model_config.pointrend) == (
        "bilinear",
        "pixel",
        True,
    )
    assert other.model_config.output_stride == 32
    assert (other.loss.focal, other.loss.dice, other.loss.cross_entropy) == (0.75, 0.25, 0.0)
    assert (other.loss.class_weights, other.loss.ignored_classes) == ("tempered", (1,))
    assert not other.frozen
    other.freeze()
    config = other._config(3, slice(1e-4, 1e-3), one_cycle=False)
    assert (config.freeze_encoder, config.mixup, config.monitor, config.schedule.name) == (
        True,
        0.5,
        "mean_iou",
        "constant",
    )
    assert (config.optimizer.learning_rate, config.optimizer.head_lr_factor) == (1e-4, pytest.approx(10))
    assert "resnet50" in PSPNetClassifier.supported_backbones
    assert PSPNetClassifier.available_metrics[:3] == ["miou", "accuracy", "valid_loss"]
    for arguments, reason in (
        ({"weighted_dice": True}, "Dice"),
        ({"backbon": 1}, "no argument"),
        ({"monitor": "kappa"}, "monitor"),
        ({"ignore_classes": [9]}, "value 9"),
        ({"dice_loss_fraction": 3}, "share"),
    ):
        with pytest.raises(ConfigError, match=reason):
            PSPNetClassifier(data, **arguments)
    with pytest.raises(CheckpointError, match="not trained"):
        default.accuracy()
    with pytest.raises(ConfigError, match="call fit first"):
        default.plot_losses()
    with pytest.raises(ConfigError, match="no data"):
        PSPNetClassifier(None).fit(1)


def test_training_goes_by_what_is_monitored(trained: PSPNetClassifier) -> None:
    run = trained.runs[0]
    with run.metrics.open(newline="") as stream:
        losses = {int(row["step"]): float(row["val_loss"]) for row in csv.DictReader(stream) if row["val_loss"]}
    assert len(losses) >= 2
    best = json.loads(run.scores("best").read_text())
    assert best["step"] == min(losses, key=lambda step: losses[step])
    config = run.read_config()
    assert (config.monitor, config.data.format, config.optimizer.name) == ("loss", "classified_tiles", "adamw")


def test_every_epoch_prints_its_scores(chips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """arcgis.learn's table, a star at what is monitored; of several metrics the first chooses the best model."""
    data = prepare_data(chips, chip_size=32, val_split_pct=0.3, batch_size=4, transforms=False)
    model = PSPNetClassifier(data, **TINY)
    model.fit(2, lr=1e-3, monitor=["miou", "f1", "valid_loss"], training=QUICK)
    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert head == ["epoch", "train_loss", "valid_loss*", "accuracy", "miou*", "dice", "f1*", "time"]
    assert [row[0] for row in rows] == ["1", "2"]
    validated = [row for row in model.runs[0].read_metrics() if "val_loss" in row]
    assert [row[2:7] for row in rows] == [
        [f"{v[f'val_{name}']:.4f}" for name in ("loss", "pixel_accuracy", "mean_iou", "mean_dice", "mean_f1")]
        for v in validated
    ]
    config = model.runs[0].read_config()
    assert (config.monitor, config.also_monitor, config.val_every) == ("mean_iou", ("mean_f1", "loss"), 2)
    with pytest.raises(ConfigError, match="several different ones"):
        model.fit(1, monitor=["miou", "miou"])


def test_scores_are_evaluates(trained: PSPNetClassifier) -> None:
    data = trained.data
    assert data is not None
    scores = evaluate(trained.segmenter, data.valid)
    assert trained.accuracy() == scores.pixel_accuracy
    assert trained.mIOU(mean=True) == scores.mean_iou
    assert trained.mIOU() == {"Water": scores.iou[0], "Bare soil": scores.iou[1]}
    table = trained.per_class_metrics()
    assert list(table.index) == ["precision", "recall", "f1"]
    assert table.loc["recall", "Water"] == scores.recall[0]
    assert list(trained.per_class_metrics(ignore_classes=[2]).columns) == ["Bare soil"]
    assert len(trained.plot_losses().axes[0].lines) == 2
    assert len(trained.show_results(rows=2).axes) == 4


@pytest.mark.slow
def test_a_saved_model_is_read_back_from_each_of_its_files(trained: PSPNetClassifier, tmp_path: Path) -> None:
    emd = trained.save(tmp_path / "landcover")
    folder = emd.parent
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) == sorted(
        [
            FUNCTION,
            "ModelCharacteristics/loss_graph.png",
            "ModelCharacteristics/show_results.png",
            "landcover.dlpk",
            "landcover.emd",
            "landcover.safetensors",
            "model_metrics.html",
        ]
    )
    with zipfile.ZipFile(folder / "landcover.dlpk") as archive:
        assert {"landcover.emd", "landcover.safetensors", FUNCTION} <= set(archive.namelist())
        assert archive.read("landcover.emd") == emd.read_bytes()
    content = json.loads(emd.read_text())
    assert content["Classes"] == [
        {"Value": 2, "Name": "Water", "Color": content["Classes"][0]["Color"]},
        {"Value": 5, "Name": "Bare soil", "Color": content["Classes"][1]["Color"]},
    ]
    assert content["InferenceFunction"] == FUNCTION
    assert float(content["accuracy"]) == pytest.approx(trained.accuracy(), abs=1e-4)
    assert set(json.loads(content["per_class_metrics"])["Water"]) == {"precision", "recall", "f1"}
    image = scene(40, 40).transpose(1, 2, 0)
    expected = trained.predict(image).labels
    for path in (folder, emd, folder / "landcover.dlpk"):
        back = PSPNetClassifier.from_model(path)
        np.testing.assert_array_equal(back.predict(image).labels, expected)
        assert back.model_config.bins == (1, 2)
    assert read_package(emd).classes == ("Water", "Bare soil")
    other = PSPNetClassifier(trained.data, **TINY)
    other.load(folder / "landcover.safetensors")
    np.testing.assert_array_equal(other.predict(image).labels, expected)
    (folder / "landcover.dlpk").write_bytes((folder / "landcover.dlpk").read_bytes()[:500])
    with pytest.raises(CheckpointError, match="no deep learning package"):
        PSPNetClassifier.from_model(folder / "landcover.dlpk")


@pytest.mark.slow
def test_training_goes_on_from_a_saved_model(trained: PSPNetClassifier, tmp_path: Path) -> None:
    again = PSPNetClassifier(
        trained.data, pretrained_path=trained.save(tmp_path / "first", compute_metrics=False), **TINY
    )
    before = {name: value.clone() for name, value in again.segmenter.model.state_dict().items()}
    again.freeze()
    again.fit(1, lr=1e-3, training={**QUICK, "steps": 2, "epochs": None})
    after = again.segmenter.model.state_dict()
    encoder = [
        name for name in before if name.startswith("encoder") and "running" not in name and "num_batches" not in name
    ]
    assert all(before[name].equal(after[name]) for name in encoder)
    assert any(not before[name].equal(after[name]) for name in before if name.startswith("classifier"))
    assert again.lr_find(steps=8) > 0


def test_other_peoples_packages_tell_what_can_be_read(tmp_path: Path) -> None:
    """The keys of a U-Net that arcgis.learn 1.8.4 saved, as they were published."""
    emd = tmp_path / "buildings.emd"
    emd.write_text(
        json.dumps(
            {
                "Framework": "arcgis.learn.models._inferencing",
                "ModelConfiguration": "_unet",
                "ModelType": "ImageClassification",
                "InferenceFunction": "ArcGISImageClassifier.py",
                "ExtractBands": [0, 1, 2],
                "SupportsVariableTileSize": True,
                "Classes": [
                    {"Value": 0, "Name": "NoData", "Color": [-1, -1, -1]},
                    {"Value": 1, "Name": "1", "Color": [130, 34, 1]},
                ],
                "ArcGISLearnVersion": "1.8.4",
                "ModelFile": "buildings.pth",
                "ModelName": "UnetClassifier",
                "ImageHeight": 400,
            }
        )
    )
    info = read_package(emd)
    assert (info.ours, info.classes, info.extract_bands) == (False, ("NoData", "1"), (0, 1, 2))
    assert info.label_space.colours[1] == (130, 34, 1)
    with pytest.raises(
        CheckpointError, match=r"UnetClassifier with the classes NoData, 1 .*buildings.pth.*Train a model"
    ):
        PSPNetClassifier.from_model(emd)
    emd.write_text("{}")
    with pytest.raises(CheckpointError, match="names no classes"):
        read_package(emd)
    with pytest.raises(CheckpointError, match="does not exist"):
        read_package(tmp_path / "none.emd")
    with zipfile.ZipFile(tmp_path / "empty.dlpk", "w"):
        pass
    with pytest.raises(CheckpointError, match=r"holds no \.emd"):
        read_package(tmp_path / "empty.dlpk")


class StubArcGIS:
    """Calls a Python raster function the way ArcGIS documents: tile by tile, with padding, masks, and its own file name."""

    def __init__(self, package: Path) -> None:
        with zipfile.ZipFile(package) as archive:
            archive.extractall(package.parent / "opened")
        folder = package.parent / "opened"
        self.emd = next(folder.glob("*.emd"))
        name = json.loads(self.emd.read_text())["InferenceFunction"]
        spec = importlib.util.spec_from_file_location(Path(name).stem, folder / name)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.function = getattr(module, Path(name).stem)()

    def classify(self, pixels: np.ndarray, mask: np.ndarray | None, **scalars: Any) -> np.ndarray:
        function, (bands, height, width) = self.function, pixels.shape
        function.initialize(model=str(self.emd))
        parameters = function.getParameterInfo()
        assert [p["name"] for p in parameters[:2]] == ["raster", "model"]
        scalars = {p["name"]: p["value"] for p in parameters if "value" in p} | scalars
        config = function.getConfiguration(**scalars)
        info = function.updateRasterInfo(output_info={"bandCount": bands, "pixelType": "u1"}, raster_info={})[
            "output_info"
        ]
        assert info["bandCount"] == 1
        padding, tx, ty = config["padding"], config["tx"], config["ty"]
        source = pixels[list(config["extractBands"])]
        mask = np.ones(source.shape, np.uint8) if mask is None else np.broadcast_to(mask, source.shape).astype(np.uint8)
        around = ((0, 0), (padding, padding + ty), (padding, padding + tx))
        source, mask = np.pad(source, around), np.pad(mask, around)
        actual = np.zeros((height + ty, width + tx), info["pixelType"])
        for top in range(0, height, ty):
            for left in range(0, width, tx):
                part = np.s_[:, top : top + ty + 2 * padding, left : left + tx + 2 * padding]
                blocks = function.updatePixels(
                    (left, top),
                    (ty, tx),
                    {"pixelType": info["pixelType"]},
                    raster_pixels=source[part].copy(),
                    raster_mask=mask[part].copy(),
                )
                assert blocks["output_pixels"].shape == (1, ty, tx)
                actual[top : top + ty, left : left + tx] = np.where(blocks["output_mask"], blocks["output_pixels"], 0)[
                    0
                ]
        assert function.updateKeyMetadata((), -1) == {"datatype": "Thematic"}
        return actual[:height, :width]


def test_arcgis_gets_the_map_that_segment_raster_writes(trained: PSPNetClassifier, tmp_path: Path) -> None:
    """Whole tiles without overlap: the network sees the same windows in both, so every pixel is equal."""
    trained.save(tmp_path / "landcover", compute_metrics=False)
    pixels = scene(96, 64)
    source = write_raster(tmp_path / "in.tif", pixels)
    trained.predict(source, tmp_path / "out.tif", tile_px=32, overlap_px=0)
    actual = StubArcGIS(tmp_path / "landcover" / "landcover.dlpk").classify(pixels, None, padding=0)
    np.testing.assert_array_equal(actual, read(tmp_path / "out.tif"))
    assert set(np.unique(actual)) <= {2, 5}
    with rasterio.open(tmp_path / "out.tif") as file:
        assert json.loads(file.tags()["CLASSES"]) == {"2": "Water", "5": "Bare soil"}


def test_padding_and_masks_in_arcgis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that looks at single pixels: padding must be cut off exactly, and what is masked is not classified."""
    segmenter = make_segmenter()
    write_package(tmp_path / "pixel", segmenter, tile_px=40, padding_px=8)
    with pytest.raises(OutputError, match=r"pixel.safetensors' exists"):
        write_package(tmp_path / "pixel", segmenter, tile_px=40, padding_px=8)
    pixels = scene(70, 90)
    hole = np.zeros((70, 90), bool)
    hole[20:50, 30:60] = True
    source = write_raster(tmp_path / "in.tif", np.where(hole, 0, pixels).astype(np.uint8), nodata=0)
    segment_raster(segmenter, source, tmp_path / "out.tif", codes=True, tile_px=48, overlap_px=12)
    host = StubArcGIS(tmp_path / "pixel" / "pixel.dlpk")
    load = type(host.function).initialize

    def with_pixel_engine(self: Any, **kwargs: Any) -> None:
        load(self, **kwargs)
        self.segmenter = make_segmenter(engine=PixelEngine())

    monkeypatch.setattr(type(host.function), "initialize", with_pixel_engine)
    actual = host.classify(pixels, ~hole)
    np.testing.assert_array_equal(np.where(hole, 255, actual), read(tmp_path / "out.tif"))
    assert (actual[hole] == 0).all()
    with pytest.raises(ValueError, match="padding = 20"):
        host.function.getConfiguration(padding=20)
    assert load_package(tmp_path / "pixel" / "pixel.emd").classes == SPACE.names


@pytest.mark.parametrize("ending", [".emd", ".dlpk"])
def test_packages_of_strangers_are_refused_in_words(tmp_path: Path, ending: str) -> None:
    """Bits flipped anywhere, and texts that are JSON but no model."""
    good = json.dumps({"Classes": [{"Value": 1, "Name": "a", "Color": [1, 2, 3]}], "ModelFile": "m.pth"}).encode()
    texts = [
        b"",
        b"[]",
        b"[" * 50_000,
        b'{"Classes": [{"Value": 1, "Name": "a", "Color": ["x", 1, 2]}]}',
        b"\xff\xfe",
        good,
    ]
    random = np.random.default_rng(3)
    for text in texts:
        data = text
        if ending == ".dlpk":
            stream = io.BytesIO()
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("m.emd", text)
            data = stream.getvalue()
        for flips in range(20):
            altered = bytearray(data)
            for _ in range(flips if altered else 0):
                altered[int(random.integers(len(altered)))] ^= 1 << int(random.integers(8))
            path = tmp_path / f"x{ending}"
            path.write_bytes(altered)
            try:
                read_package(path)
            except PspnetError as error:
                assert "x" in str(error)  # noqa: PT017  read by chance, or refused in words


def test_documented_arguments_of_scores_losses_and_saving(trained: PSPNetClassifier, tmp_path: Path) -> None:
    assert trained.mIOU(mean=True, show_progress=True) == trained.mIOU(mean=True, show_progress=False)
    assert len(trained.plot_losses(show=True).axes) == 1
    emd = trained.save(tmp_path / "plain", compute_metrics=False, save_optimizer=True, save_inference_file=False)
    assert (emd.parent / "plain_checkpoint.ckpt").stat().st_size > 0
    assert not (emd.parent / FUNCTION).exists()
    with zipfile.ZipFile(emd.with_suffix(".dlpk")) as archive:
        assert sorted(archive.namelist()) == ["plain.emd", "plain.safetensors", "plain_checkpoint.ckpt"]
    used = PSPNetClassifier.from_model(emd)
    with pytest.raises(ConfigError, match="no optimizer to save"):
        used.save(tmp_path / "other", save_optimizer=True)


def test_pixels_are_classified_by_the_documented_function(tmp_path: Path) -> None:
    emd = write_package(tmp_path / "m", make_segmenter(), tile_px=64)
    source = write_raster(tmp_path / "a.tif", scene(96, 80))
    segment_raster(load_package(emd), source, tmp_path / "same.tif", tile_px=64, overlap_px=16, codes=True)
    target = classify_pixels(source, emd, {"padding": 8, "tile_size": 64, "batch_size": 2})
    assert target == tmp_path / "a_classified.tif"
    np.testing.assert_array_equal(read(target), read(tmp_path / "same.tif"))
    box = {"xmin": 500_020, "ymin": 5_599_900, "xmax": 500_100, "ymax": 5_599_960}
    part = classify_pixels(
        source, emd, output_name=tmp_path / "part.tif", context={"extent": box, "processorType": "CPU"}
    )
    assert isinstance(part, Path)
    assert read(part).shape == (30, 40)
    many = classify_pixels([source], emd, output_name=tmp_path / "maps", process_all_raster_items=True)
    assert many == [tmp_path / "maps" / "a.tif"]
    for arguments, said in (
        ({"model_arguments": {"threshold": 1}}, "no entry 'threshold'"),
        ({"context": {"outSR": 4326}}, "no entry 'outSR'"),
    ):
        with pytest.raises(ConfigError, match=said):
            classify_pixels(source, emd, **arguments)  # type: ignore[arg-type]


@pytest.mark.wrong_types
def test_there_is_no_image_service(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no image service"):
        classify_pixels(tmp_path / "a.tif", tmp_path / "m.emd", gis=object())  # type: ignore[arg-type]
