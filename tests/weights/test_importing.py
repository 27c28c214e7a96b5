"""Importing: every name is accounted for, pickles run nothing, classes come along, and an import ends with a check."""

from __future__ import annotations

import json
import logging
import math
import os
import pickle
import re
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import pspnet
from pspnet.config import ModelConfig
from pspnet.config.protocol import find_protocol
from pspnet.errors import CheckpointError, ConfigError
from pspnet.labels import LabelSpace
from pspnet.nn import PSPNet
from pspnet.weights import mmseg, smp
from pspnet.weights.checkpoint import load_checkpoint, save_checkpoint
from pspnet.weights.importing import SOURCES, import_checkpoint
from pspnet.weights.protocol_sizes import with_sizes
from pspnet.weights.rename_table import Foreign, unique_names
from pspnet.weights.torch_files import read_file
from support.peers import save

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def small() -> State:
    """smp's PSPNet around resnet18, small in the head: random numbers under smp's names."""
    config = ModelConfig(
        encoder="resnet18",
        encoder_options={"depth": 3},
        num_classes=4,
        decoder_channels=8,
        concat="pooled_first",
        classifier_kernel=3,
        auxiliary="none",
        pyramid_options={"branch_norm": "except_global", "fusion_kernel": 1},
    )
    torch.manual_seed(0)
    names = (
        (r"pyramid\.branches\.(\d)\.conv", r"decoder.psp.blocks.\1.pool.1.0"),
        (r"pyramid\.branches\.(\d)\.norm", r"decoder.psp.blocks.\1.pool.1.1"),
        (r"pyramid\.fusion\.conv", "decoder.conv.0"),
        (r"pyramid\.fusion\.norm", "decoder.conv.1"),
        (r"classifier", "segmentation_head.0"),
    )
    state = {}
    for name, value in PSPNet(config).state_dict().items():
        for ours, theirs in names:
            name = re.sub(ours, theirs, name)
        if name not in ("mean", "std"):
            state[name] = value
    return state


# --- both sides of every name ---------------------------------------------------------------------------------------


def test_a_name_that_no_rule_knows_is_listed(small: State, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save(tmp_path / "a.pth", small | {"decoder.attention.weight": torch.ones(3)})
    with caplog.at_level(logging.WARNING):
        report = import_checkpoint(path, "smp").report
    assert report.ledger.unmatched == ("decoder.attention.weight",)
    assert "1 UNMATCHED" in str(report)
    assert "decoder.attention.weight" in str(report)
    assert "decoder.attention.weight" in caplog.text


def test_a_missing_tensor_is_an_error_that_names_it(small: State, tmp_path: Path) -> None:
    state = {n: v for n, v in small.items() if n != "encoder.layer2.0.bn2.running_var"}
    with pytest.raises(CheckpointError, match=r"lacks .*1 of \d+.*: encoder\.layer2\.0\.bn2\.running_var"):
        import_checkpoint(save(tmp_path / "a.pth", state), "smp")


def test_a_wrong_shape_is_an_error_with_both_shapes(small: State, tmp_path: Path) -> None:
    state = small | {"encoder.layer2.0.bn2.bias": torch.zeros(5)}
    with pytest.raises(CheckpointError, match=r"encoder\.layer2\.0\.bn2\.bias is \(5,\) instead of \(128,\)"):
        import_checkpoint(save(tmp_path / "a.pth", state), "smp")


def test_what_is_left_out_is_named_with_the_reason(small: State, tmp_path: Path) -> None:
    idle = {f"encoder.layer3.{block}.conv1.weight": torch.ones(1) for block in (0, 1)}
    idle["classification_head.3.weight"] = torch.ones(4, 128)
    report = import_checkpoint(save(tmp_path / "a.pth", small | idle), "smp").report
    assert {name for name, _ in report.ledger.dropped} == idle.keys()
    assert "never runs it: encoder.layer3.0.conv1.weight" in str(report)
    assert "image-level classifier (aux_params): it does not take part in the segmentation" in str(report)
    assert "0 unmatched" in str(report)


def test_files_from_before_batch_counters(small: State, tmp_path: Path) -> None:
    state = {n: v for n, v in small.items() if not n.endswith("num_batches_tracked")}
    report = import_checkpoint(save(tmp_path / "a.pth", state), "smp").report
    assert len(report.ledger.filled) == len(small) - len(state) > 0
    assert "filled with 0: the file has no batch counters" in str(report)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict"])
def test_wrappers_and_prefixes(small: State, tmp_path: Path, prefix: str, wrapper: str | None) -> None:
    state: Any = {prefix + n: v for n, v in small.items()}
    path = save(tmp_path / "a.pth", {wrapper: state, "epoch": 3, "optimizer": {"lr": 0.1}} if wrapper else state)
    assert import_checkpoint(path, "smp").report.ledger.unmatched == ()


def test_weights_arrive_and_are_our_own(small: State, tmp_path: Path) -> None:
    """Half-precision and shared storages become our own float32 tensors; the file may go."""
    path = save(tmp_path / "a.pth", {n: v.half() if v.is_floating_point() else v for n, v in small.items()})
    model = import_checkpoint(path, "smp").model
    path.unlink()
    assert torch.equal(model.encoder.conv1.weight, small["encoder.conv1.weight"].half().float())  # type: ignore[union-attr]
    assert all(p.dtype == torch.float32 and p.requires_grad for p in model.parameters())
    assert not model.training


def test_one_sigmoid_output_becomes_two_classes(small: State, tmp_path: Path) -> None:
    head = {n: v[:1] for n, v in small.items() if n.startswith("segmentation_head")}
    path = save(tmp_path / "a.pth", small | head)
    model = import_checkpoint(path, "smp").model
    four = import_checkpoint(save(tmp_path / "b.pth", small), "smp").model
    images = torch.rand(1, 3, 40, 48) * 255
    with torch.inference_mode():
        probability = model(images).softmax(1)[:, 1]
        torch.testing.assert_close(probability, four(images)[:, 0].sigmoid())


def test_the_source_that_a_file_looks_like_is_named(small: State, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", small)
    wrapped = save(tmp_path / "c.pth", {f"module.{n}": v for n, v in small.items()})
    for source in ("semseg", "mmseg", "torchvision"):
        for file in (path, wrapped):
            with pytest.raises(CheckpointError, match=rf"is no {source} checkpoint; its names are those of smp"):
                import_checkpoint(file, source)
    with pytest.raises(CheckpointError, match=r"is no mmseg checkpoint.*2 tensors: a, b"):
        import_checkpoint(save(tmp_path / "b.pth", {"a": torch.ones(1), "b": torch.ones(1)}), "mmseg")
    with pytest.raises(
        ConfigError, match=r"source = 'paddle'; there are: semseg, mmseg, smp, csail, caffe, torchvision"
    ):
        import_checkpoint(path, "paddle")


def test_settings_change_what_the_source_usually_does(small: State, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", small)
    config = import_checkpoint(
        path, "smp", settings={"mean": (1, 2, 3), "encoder_options": {"drop_path_rate": 0.1}}
    ).model.config
    assert config.mean == (1, 2, 3)
    assert "mean and std" not in str(import_checkpoint(path, "smp", settings={"mean": (1, 2, 3)}).report)
    assert "mean and std" in str(import_checkpoint(path, "smp").report)
    assert config.encoder_options.depth == 3
    assert config.encoder_options.drop_path_rate == 0.1
    with pytest.raises(ConfigError, match="align_corner is not a setting; did you mean 'align_corners'"):
        import_checkpoint(path, "smp", settings={"align_corner": False})


def test_bins_are_asked_for_only_when_shapes_cannot_tell(small: State) -> None:
    three = {n: v for n, v in small.items() if ".blocks.3." not in n}
    with pytest.raises(ConfigError, match=r"has 3 pyramid levels, and weights do not tell their sizes.*bins="):
        smp.plan(Foreign(Path("a.pth"), three))
    foreign = Foreign(Path("a.pth"), three, settings={"bins": [1, 2, 4]})
    assert smp.plan(foreign).config["bins"] == (1, 2, 4)
    assert smp.plan(Foreign(Path("a.pth"), small)).config["bins"] == (1, 2, 3, 6)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ("encoder.layer1.7.conv1.weight", r"has \(3, 2, 0, 0\) basic blocks"),
        ("encoder.layer1.0.conv3.weight", r"has \(2, 2, 0, 0\) bottleneck blocks.*101 \(3, 4, 23, 3\)"),
    ],
)
def test_an_unknown_depth_is_counted_out(small: State, blocks: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        smp.plan(Foreign(Path("a.pth"), small | {blocks: torch.ones(1)}))


def test_public_name_gives_a_segmenter_that_keeps_its_origin(small: State, tmp_path: Path) -> None:
    seg = pspnet.import_weights(save(tmp_path / "a.pth", small), source="smp", classes=["a", "b", "c", "d"])
    assert isinstance(seg, pspnet.Segmenter)
    assert seg.classes == ("a", "b", "c", "d")
    seg.save(tmp_path / "model.safetensors")
    again, card = load_checkpoint(tmp_path / "model.safetensors")
    assert card.provenance["imported_from"] == "a.pth"
    assert card.provenance["source"] == "smp"
    images = torch.rand(1, 3, 33, 40) * 255
    with torch.inference_mode():
        torch.testing.assert_close(again(images), seg.model(images))


# --- pickles run nothing --------------------------------------------------------------------------------------------


class Payload:
    """Pickled, this asks the reader to create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, (f"touch '{self.path}'",)


class Execution(Payload):
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


@pytest.mark.parametrize("payload", [Payload, Execution])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("position", ["beside", "inside"])
def test_a_malicious_pickle_is_refused_and_did_not_run(
    small: State, tmp_path: Path, payload: type[Payload], zipped: bool, position: str
) -> None:
    harm = payload(tmp_path / "harm")
    content: Any = {"state_dict": small, "meta": harm} if position == "beside" else small | {"weight": harm}
    path = save(tmp_path / "a.pth", content, _use_new_zipfile_serialization=zipped)
    for source in ("semseg", "mmseg", "smp", "torchvision"):
        with pytest.raises(CheckpointError, match=r"was refused: .*'(posix\.system|exec)'.*Nothing of it was run"):
            import_checkpoint(path, source)
    assert not (tmp_path / "harm").exists()
    with open(tmp_path / "trial", "wb") as file:  # the payload is real: Python's own reader does run it
        pickle.dump(harm, file)
    with open(tmp_path / "trial", "rb") as file:
        pickle.load(file)
    assert (tmp_path / "harm").exists()


def test_a_plain_pickle_is_not_read_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(pickle.dumps(Payload(tmp_path / "harm")))
    with pytest.raises(CheckpointError):
        import_checkpoint(tmp_path / "a.pth", "semseg")
    assert not (tmp_path / "harm").exists()


def test_a_pickled_model_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", torch.nn.Conv2d(1, 1, 1))
    with pytest.raises(CheckpointError, match=r"torch\.save\(model\.state_dict\(\)"):
        import_checkpoint(path, "smp")


@pytest.fixture
def mmengine(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module that pickles as mmengine's training curves do, methods by getattr included."""
    module = types.ModuleType("mmengine.logging.history_buffer")
    exec(
        "import numpy as np\n"
        "class HistoryBuffer:\n"
        "    def __init__(self):\n"
        "        self._log_history, self._count_history = np.arange(3.0), np.ones(3, np.int64)\n"
        "        self.statistics_methods = {'mean': HistoryBuffer.mean}\n"
        "    def mean(self): return 1.0\n",
        module.__dict__,
    )
    module.HistoryBuffer.__module__ = module.HistoryBuffer.mean.__module__ = module.__name__  # type: ignore[attr-defined]
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_mmengines_metadata_is_read_as_nothing(
    mmengine: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {
        "meta": {"seed": np.int64(3), "epoch": 2, "dataset_meta": {"classes": ("a", "b")}},
        "message_hub": {
            "log_scalars": OrderedDict(loss=mmengine.HistoryBuffer()),
            "runtime_info": OrderedDict(lr=np.float32(0.1)),
        },
        "state_dict": OrderedDict(weight=torch.ones(2)),
    }
    path = save(tmp_path / "a.pth", content)
    assert b"history_buffer" in path.read_bytes()
    assert b"getattr" in path.read_bytes()
    for name in list(sys.modules):  # whoever imports has no mmengine
        if name.startswith("mmengine"):
            monkeypatch.delitem(sys.modules, name)
    actual = read_file(path)
    assert torch.equal(actual["state_dict"]["weight"], torch.ones(2))
    assert actual["meta"]["dataset_meta"] == {"classes": ("a", "b")}
    assert vars(actual["message_hub"]["log_scalars"]["loss"]) == {}


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b"hello", lambda b: b[: len(b) // 2], lambda b: b[:-1000]])
def test_damaged_files(small: State, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = save(tmp_path / "a.pth", small)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"a\.pth' \([\d,]+ bytes\) is cut off, damaged or no PyTorch file"):
        import_checkpoint(path, "smp")
    path.with_suffix(".safetensors").write_bytes(path.read_bytes())
    with pytest.raises(CheckpointError, match=r"a\.safetensors' \([\d,]+ bytes\) is cut off or damaged"):
        import_checkpoint(path.with_suffix(".safetensors"), "smp")


def test_files_without_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing\.pth' does not exist"):
        import_checkpoint(tmp_path / "nothing.pth", "mmseg")
    with pytest.raises(CheckpointError, match="holds no tensors; it has: epoch"):
        import_checkpoint(save(tmp_path / "a.pth", {"epoch": 3}), "mmseg")
    with pytest.raises(CheckpointError, match="holds list, not a state dict"):
        import_checkpoint(save(tmp_path / "b.pth", [torch.ones(1)]), "mmseg")


# --- classes --------------------------------------------------------------------------------------------------------


def test_classes_of_the_user(small: State, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", small)
    table = tmp_path / "classes.csv"
    table.write_text("code,name,red,green,blue\n0,sea,0,0,9\n1,land,1,1,1\n2,sky,2,2,2\n3,ice,3,3,3\n")
    assert import_checkpoint(path, "smp", classes=table).card.label_space.names == ("sea", "land", "sky", "ice")
    assert import_checkpoint(path, "smp", classes=str(table)).card.label_space.colours[0] == (0, 0, 9)
    with pytest.raises(ConfigError, match=r"classes: 19 given; '.*a\.pth' tells 4 apart"):
        import_checkpoint(path, "smp", classes="cityscapes")
    with pytest.raises(ConfigError, match=r"no class table is called 'moon'; there are: .*ade20k"):
        import_checkpoint(path, "smp", classes="moon")
    unnamed = import_checkpoint(path, "smp")
    assert unnamed.card.label_space.names == ("class_0", "class_1", "class_2", "class_3")
    assert "the file names no classes" in str(unnamed.report)
    table.write_text("code,name,red,green,blue\n3,ice,3,3,3\n0,sea,0,0,9\n2,sky,2,2,2\n1,land,1,1,1\n")
    shuffled = import_checkpoint(path, "smp", classes=table)
    assert shuffled.card.label_space.names == ("sea", "land", "sky", "ice")  # the order of the codes, not of the rows
    assert "rows are not in the order of their codes" in str(shuffled.report)


@pytest.mark.parametrize(
    "meta",
    [
        {"CLASSES": ("road", "tree", "tree"), "PALETTE": [[1, 2, 3], [4, 5, 6], [7, 8, 9]]},
        {"dataset_meta": {"classes": ["road", "tree", "tree"], "palette": [(1, 2, 3), (4, 5, 6), (7, 8, 9)]}},
    ],
    ids=["0.x", "1.x"],
)
def test_classes_and_palette_of_mmseg(meta: dict[str, Any]) -> None:
    space = mmseg.label_space(meta)
    assert space is not None
    assert space.names == ("road", "tree", "tree (2)")
    assert space.colours == ((1, 2, 3), (4, 5, 6), (7, 8, 9))
    assert mmseg.label_space({"CLASSES": ("a", "b"), "PALETTE": None}) == LabelSpace(("a", "b"))
    assert mmseg.label_space({"epoch": 3}) is None


def test_repeated_names_get_numbers() -> None:
    assert unique_names(["a", "b", "a", "a"]) == ("a", "b", "a (2)", "a (3)")


# --- the self-check and the recording -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: {"encoder.conv1.weight": torch.full_like(s["encoder.conv1.weight"], float("nan"))},
            r"logits are not finite: encoder\.conv1\.weight holds",
        ),
        (
            lambda s: {
                "encoder.bn1.running_var": torch.full_like(s["encoder.bn1.running_var"], float("inf")),
                "segmentation_head.0.bias": torch.full((4,), float("inf")),
            },
            r"logits are not finite",
        ),
        (lambda s: {n: v * 0 for n, v in s.items() if "head" in n}, r"logits vary by 0 over the fixed check images"),
        (lambda s: {"segmentation_head.0.weight": s["segmentation_head.0.weight"] * 1e9}, r"logits vary by .*e\+0"),
        (
            lambda s: {"segmentation_head.0.bias": torch.tensor([0.0, 0, 1e6, 0])},
            r"class 2 wins every pixel of the fixed check images, \d+ spreads ahead",
        ),
    ],
)
def test_the_self_check_refuses_dead_networks(
    small: State, tmp_path: Path, change: Callable[[State], State], message: str
) -> None:
    path = save(tmp_path / "a.pth", small | change(small))
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(path, "smp")
    assert "no self-check was made" in str(import_checkpoint(path, "smp", check=False).report)


def test_the_self_check_is_reported(small: State, tmp_path: Path) -> None:
    report = import_checkpoint(save(tmp_path / "a.pth", small), "smp").report
    assert report.check is not None
    assert "self-check passed: logits finite" in str(report)
    assert 0 < report.check.spread < 100
    assert json.loads(json.dumps(report.provenance()))["self_check"]["classes_seen"] == report.check.classes_seen


@pytest.mark.parametrize("kind", ["images", "inputs"])
@pytest.mark.parametrize("coarse", [False, True])
def test_verify_compares_with_a_recording(small: State, tmp_path: Path, kind: str, coarse: bool) -> None:
    path = save(tmp_path / "a.pth", small)
    model = import_checkpoint(path, "smp").model
    images = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, 3, 40, 48)).astype(np.float32))
    with torch.inference_mode():
        logits = (model.coarse_logits if coarse else model.forward)(images).numpy()
        given = model.normalise(images).numpy() if kind == "inputs" else images.numpy().astype(np.uint8)
    np.savez(tmp_path / "right.npz", **{kind: given, "logits": logits})
    imported = import_checkpoint(path, "smp", verify=tmp_path / "right.npz")
    assert imported.report.verified is not None
    assert imported.report.verified < 1e-4
    assert "verified against the recording" in str(imported.report)
    np.savez(tmp_path / "wrong.npz", **{kind: given, "logits": logits + np.ptp(logits) / 50})
    with pytest.raises(
        CheckpointError, match=r"differs from '.*wrong\.npz' by up to .* of the pixels have the same class"
    ):
        import_checkpoint(path, "smp", verify=tmp_path / "wrong.npz")
    np.savez(tmp_path / "loose.npz", **{kind: given, "logits": logits + np.ptp(logits) / 50, "atol": np.ptp(logits)})
    import_checkpoint(path, "smp", verify=tmp_path / "loose.npz")


def test_recordings_that_cannot_be_used(small: State, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", small)
    np.savez(tmp_path / "half.npz", images=np.zeros((1, 3, 32, 32)))
    np.savez(tmp_path / "other.npz", images=np.zeros((1, 3, 32, 32)), logits=np.zeros((1, 7, 32, 32)))
    np.savez(tmp_path / "evil.npz", images=np.array([Payload(tmp_path / "harm")], dtype=object), logits=np.zeros(1))
    (tmp_path / "no.npz").write_bytes(b"no")
    for name, message in (
        ("half", "has images; a recording has"),
        ("other", r"has logits \(1, 7, 32, 32\); the model gives \(1, 4, 32, 32\)"),
        ("evil", "is no .npz recording"),
        ("no", "is no .npz recording"),
        ("none", "is no .npz recording"),
    ):
        with pytest.raises(CheckpointError, match=message):
            import_checkpoint(path, "smp", verify=tmp_path / f"{name}.npz")
    assert not (tmp_path / "harm").exists()


# --- smp's folders and the hub --------------------------------------------------------------------------------------


def test_a_folder_of_save_pretrained(small: State, tmp_path: Path) -> None:
    save_file(small, tmp_path / "model.safetensors")
    config = {"_model_class": "PSPNet", "encoder_name": "resnet18", "psp_dropout": 0.35, "activation": "softmax2d"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model, _, report = import_checkpoint(tmp_path, "smp")
    assert model.config.dropout == 0.35
    assert "activation 'softmax2d' is left out" in str(report)
    for precision, dtype in (
        ("fp32", torch.float32),
        ("bf16", torch.bfloat16),
    ):  # "auto" is one of them on any processor
        opened = pspnet.Segmenter.from_pretrained(tmp_path, device="cpu", precision=precision)
        assert (opened.config.dropout, opened.engine.dtype) == (0.35, dtype)
    (tmp_path / "config.json").write_text(json.dumps(config | {"_model_class": "Unet"}))
    with pytest.raises(CheckpointError, match=r"describes smp's Unet; only its PSPNet"):
        import_checkpoint(tmp_path, "smp")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json' is damaged"):
        import_checkpoint(tmp_path, "smp")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has none of model\.safetensors, pytorch_model\.bin"):
        import_checkpoint(tmp_path, "smp")


def test_a_hub_id_without_a_network_says_so() -> None:
    with pytest.raises(
        CheckpointError, match=r"'someone/psp' is no file here, and could not be fetched .*give their folder"
    ):
        import_checkpoint("someone/psp", "smp")


def test_decoders_of_another_form_are_refused(small: State, tmp_path: Path) -> None:
    without = {n: v for n, v in small.items() if not n.startswith("decoder.conv.1")}
    with pytest.raises(CheckpointError, match="another norm than smp's default"):
        import_checkpoint(save(tmp_path / "a.pth", without), "smp")
    other = {n.replace("encoder.layer", "encoder.dense"): v for n, v in small.items()}
    with pytest.raises(CheckpointError, match=r"has an encoder \(encoder\.conv1.*\) that is not imported; resnet18"):
        import_checkpoint(save(tmp_path / "a.pth", other), "smp")


def test_our_own_checkpoint_is_not_imported(small: State, tmp_path: Path) -> None:
    imported = import_checkpoint(save(tmp_path / "a.pth", small), "smp")
    ours = save_checkpoint(tmp_path / "m.safetensors", imported.model, imported.card)
    for source in SOURCES:
        with pytest.raises(CheckpointError, match=r"caffemodel|two files|is a pspnet checkpoint already"):
            import_checkpoint(ours, source)


# --- what mmseg writes about itself ---------------------------------------------------------------------------------

CONFIG_0X = """
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(backbone=dict(type='ResNetV1c', contract_dilation=False, style='pytorch'),
    decode_head=dict(type='PSPHead', pool_scales=(1, 2, 4), align_corners=True), auxiliary_head=dict(align_corners=True))
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
test_pipeline = [dict(type='Normalize', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)]
"""


def test_conventions_are_read_from_mmsegs_config_text() -> None:
    assert mmseg.said(CONFIG_0X, "align_corners") is True
    assert mmseg.said(CONFIG_0X, "contract_dilation") is False
    assert mmseg.said(CONFIG_0X, "pool_scales") == (1, 2, 4)
    assert mmseg.said(CONFIG_0X, "mean") == [123.675, 116.28, 103.53]
    assert mmseg.said("'align_corners': True, \"align_corners\": True", "align_corners") is True
    assert mmseg.said(CONFIG_0X + "align_corners=False", "align_corners") is None, "heads that disagree tell nothing"
    assert mmseg.said(CONFIG_0X, "dropout_ratio") is None
    assert mmseg.said("mean=[cfg.mean]", "mean") is None


def mmseg_names(classes: int, branches: int) -> State:
    """The names and shapes of an mmseg PSPNet-18 that a plan looks at."""
    state = {f"backbone.layer{s}.{b}.conv1.weight": torch.zeros(1) for s in (1, 2, 3, 4) for b in (0, 1)}
    state["backbone.stem.0.weight"] = torch.arange(3.0).view(1, 3, 1, 1)
    state |= {f"decode_head.psp_modules.{i}.1.conv.weight": torch.zeros(128, 512, 1, 1) for i in range(branches)}
    state["decode_head.bottleneck.conv.weight"] = torch.zeros(128, 1024, 3, 3)
    state["decode_head.conv_seg.weight"] = torch.zeros(classes, 128, 1, 1)
    return state


def test_an_mmseg_plan_follows_the_text() -> None:
    foreign = Foreign(Path("a.pth"), mmseg_names(19, 3), {"meta": {"config": CONFIG_0X}})
    config = mmseg.plan(foreign).config
    assert (config["align_corners"], config["dilation"], config["bins"]) == (True, "uniform", (1, 2, 4))
    assert config["encoder"] == "resnet18c"
    assert config["encoder_options"] == {"dilate_second_conv": False}
    assert config["auxiliary"] == "none"
    bgr = CONFIG_0X.replace("to_rgb=True", "to_rgb=False")
    plan = mmseg.plan(Foreign(Path("a.pth"), mmseg_names(19, 3), {"meta": {"cfg": bgr}}))
    assert plan.config["mean"] == (103.53, 116.28, 123.675)
    assert plan.tensors["backbone.stem.0.weight"].flatten().tolist() == [2, 1, 0]
    silent = mmseg.plan(Foreign(Path("a.pth"), mmseg_names(19, 4)))
    assert (silent.config["align_corners"], silent.config["dilation"]) == (False, "contracted")
    assert any("769" in note for note in silent.notes)


def test_other_heads_and_encoders_of_mmseg_are_refused() -> None:
    head = {"decode_head.lateral_convs.0.conv.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="another head than PSPHead"):
        mmseg.plan(Foreign(Path("a.pth"), mmseg_names(19, 4) | head))
    swin = {n.replace("layer", "stages."): v for n, v in mmseg_names(19, 4).items()}
    with pytest.raises(CheckpointError, match="another encoder than ResNet or MobileNetV2"):
        mmseg.plan(Foreign(Path("a.pth"), swin))


# --- what lies beside the weights -----------------------------------------------------------------------------------


def test_protocols_have_the_sizes_of_the_classes_data_set() -> None:
    """A model of Cityscapes was evaluated at ADE20K's sizes."""
    city = LabelSpace.named("cityscapes")
    assert with_sizes("semseg-ss", city) == "semseg-ss@cityscapes"
    assert with_sizes("mmseg-whole", LabelSpace.named("isprs")) == "mmseg-whole@potsdam"
    assert with_sizes("semseg-ss", LabelSpace.named("ade20k")) == "semseg-ss"  # the protocol's own
    assert with_sizes("whole", city) == "whole"
    assert with_sizes("semseg-ss", LabelSpace(("a", "b"))) == "semseg-ss"
    assert find_protocol("semseg-ss@cityscapes").base_px == (2048,)


def test_a_wrappers_own_normalisation(small: State, tmp_path: Path) -> None:
    """smp's Lightning examples keep mean and std beside the network; ImageNet's would be another network."""
    ours = {
        "mean": torch.tensor([0.31, 0.35, 0.29]).view(1, 3, 1, 1),
        "std": torch.tensor([0.21, 0.2, 0.22]).view(1, 3, 1, 1),
    }
    wrapped = ours | {f"model.{name}": value for name, value in small.items()}
    actual = import_checkpoint(save(tmp_path / "a.ckpt", {"state_dict": wrapped}), "smp", check=False)
    torch.testing.assert_close(actual.model.mean.flatten(), torch.tensor([0.31, 0.35, 0.29]) * 255)
    assert "of the file itself" in str(actual.report)
    assert actual.report.ledger.unmatched == ()


@pytest.mark.parametrize(
    ("text", "threshold"), [("", 0.3), ("threshold=0.5", 0.5), ("'threshold': .25, threshold=0.25", 0.25)]
)
def test_a_binary_heads_threshold(text: str, threshold: float) -> None:
    tensors = {"decode_head.conv_seg.bias": torch.tensor([0.0])}
    notes: list[str] = []
    mmseg._apply_threshold(tensors, text, notes)
    exactly = torch.tensor(math.log(threshold / (1 - threshold)))  # the logit whose sigmoid is the threshold
    torch.testing.assert_close(exactly + tensors["decode_head.conv_seg.bias"], torch.zeros(1), atol=1e-6, rtol=0)
    assert f"threshold {threshold:g}" in notes[0]


@pytest.mark.parametrize(
    ("text", "protocol", "words"),
    [
        ("test_cfg=dict(mode='whole')", "mmseg-whole", ""),
        ("test_cfg=dict(mode='slide', crop_size=(769, 769), stride=(513, 513))", "mmseg-slide", "769 px every 513"),
        ('"mode": "slide", "crop_size": [1024, 1024]', "mmseg-slide", "crop_size [1024, 1024], stride not told"),
    ],
)
def test_mmsegs_way_of_testing_is_the_cards(text: str, protocol: str, words: str) -> None:
    notes: list[str] = []
    assert mmseg._protocol(text, notes) == protocol
    assert words in " ".join(notes)


def test_averaged_weights_beside_are_named(small: State, tmp_path: Path) -> None:
    """timm and others save both; the one that was not taken is told."""
    path = save(tmp_path / "a.pth", {"state_dict": small, "state_dict_ema": small, "schema": {}})
    report = import_checkpoint(path, "smp", check=False).report
    assert [note for note in report.notes if "state_dict_ema, which is not taken" in note]
