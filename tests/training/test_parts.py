"""Schedule, batches, parameter groups, averages, checkpointed activations: the parts of training, each alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pspnet.config import AugmentConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from pspnet.config.train import EarlyStopConfig
from pspnet.data.transforms import Augmentation
from pspnet.errors import ConfigError, DataError, ImageError
from pspnet.losses import build_loss
from pspnet.nn import PSPNet, TrainOutputs
from pspnet.nn.pspnet import PointOutputs
from pspnet.training import train
from pspnet.training.activation_checkpointing import blocks, checkpoint_blocks
from pspnet.training.batches import Batch, BatchPlan, PlanSampler, TrainingSamples, training_loader
from pspnet.training.distributed import SharedBatchNorm, share_batch_norm
from pspnet.training.ema import AveragedModel
from pspnet.training.optimizer import build_optimizer, encoder_stages, parameter_groups, rate_factor
from pspnet.training.state import BestScore, TrainingState
from pspnet.training.step import to_tensors, total_loss
from pspnet.weights.checkpoint import read_header
from support.toys import NAMES, Toys, ended, in_child, toy_model, toy_run


class TestSchedule:
    def test_poly_is_semsegs(self) -> None:
        """Recorded from hszhao/semseg 4f274c3f, util.util.poly_learning_rate: base 0.01, power 0.9, every 100th of 1000."""
        recorded = [
            0.01,
            0.009095325760829623,
            0.008180521460508584,
            0.007254178469372199,
            0.006314458674893553,
            0.005358867312681466,
            0.0043838329055408696,
            0.0033838346190164987,
            0.0023492378861760376,
            0.001258925411794167,
            0.0,
        ]
        ours = [0.01 * rate_factor(ScheduleConfig(), step, 1000) for step in range(0, 1001, 100)]
        np.testing.assert_allclose(ours, recorded, rtol=1e-12)

    def test_first_step_uses_the_base_rate_and_step_k_the_kth(self, tmp_path: Path) -> None:
        config = toy_run(tmp_path, steps=4, optimizer={"learning_rate": 0.1, "momentum": 0.0, "head_lr_factor": 2.0})
        state = TrainingState(PSPNet(toy_model(num_classes=3)), config, torch.device("cpu"))
        used = []
        for _ in range(4):
            state.update_weights()
            used.append([group["lr"] for group in state.optimizer.param_groups])
        np.testing.assert_allclose(used, [[f * (1 - k / 4) ** 0.9 for f in (0.1, 0.2)] for k in range(4)], rtol=1e-12)

    @given(
        name=st.sampled_from(["poly", "one_cycle", "cosine", "constant"]),
        steps=st.integers(1, 3000),
        warmup=st.integers(0, 50),
        final=st.floats(0, 0.5),
    )
    @settings(max_examples=60, deadline=None)
    def test_a_rate_is_never_negative_or_above_the_base(self, name: str, steps: int, warmup: int, final: float) -> None:
        config = ScheduleConfig(name=name, warmup_steps=warmup, final_factor=final)
        factors = [rate_factor(config, step, steps) for step in range(0, steps + 1, max(1, steps // 50))]
        assert all(0 <= factor <= 1 + 1e-12 for factor in factors)

    def test_one_cycle_goes_up_then_down(self) -> None:
        factors = [rate_factor(ScheduleConfig(name="one_cycle"), step, 200) for step in range(200)]
        assert np.argmax(factors) == 50
        assert factors[50] == pytest.approx(1)
        assert factors[0] == pytest.approx(1 / 25)
        assert all(np.diff(factors[:51]) > 0)
        assert all(np.diff(factors[50:]) < 0)

    def test_warm_up_is_a_line(self) -> None:
        config = ScheduleConfig(name="constant", warmup_steps=3)
        assert [rate_factor(config, step, 10) for step in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1, 1])


class TestBatches:
    @given(samples=st.integers(1, 40), each=st.integers(1, 5), world=st.integers(1, 3), seed=st.integers(0, 9))
    @settings(max_examples=80, deadline=None)
    def test_every_sample_once_per_epoch_on_one_device(self, samples: int, each: int, world: int, seed: int) -> None:
        batch_size = each * world
        steps = -(-3 * samples // batch_size)
        plans = [BatchPlan(samples, batch_size, steps, seed, rank, world) for rank in range(world)]
        looked_at = [position for step in range(steps) for plan in plans for position in plan.batch(step)]
        for epoch in range(3):
            assert sorted(index for e, index in looked_at if e == epoch) == list(range(samples))
        assert all(len(plan.batch(step)) == each for plan in plans for step in range(steps))

    def test_epochs_differ_and_seeds_differ(self) -> None:
        plan = BatchPlan(30, 30, 2, seed=0)
        orders = [
            [i for _, i in plan.batch(0)],
            [i for _, i in plan.batch(1)],
            [i for _, i in BatchPlan(30, 30, 2, 1).batch(0)],
        ]
        assert len({tuple(order) for order in orders}) == 3

    def test_a_later_start_gives_the_rest(self) -> None:
        plan = BatchPlan(7, 3, 9, seed=5)
        assert list(PlanSampler(plan, 4)) == list(PlanSampler(plan))[4:]
        assert len(PlanSampler(plan, 4)) == 5

    def test_unequal_shares_are_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"batch_size = 5 with 2 devices"):
            BatchPlan(10, 5, 1, 0, world_size=2)

    def test_pictures_do_not_depend_on_the_number_of_workers(self) -> None:
        samples = TrainingSamples(Toys(), Augmentation(AugmentConfig(crop=33), (80, 80, 80)), seed=3)
        plan = BatchPlan(12, 4, 6, seed=3)
        alone = list(training_loader(samples, plan, 2, 0, False))
        helped = list(training_loader(samples, plan, 2, 2, False))
        assert len(alone) == len(helped) == 4
        for a, b in zip(alone, helped, strict=True):
            assert torch.equal(a.images, b.images)
            assert torch.equal(a.labels, b.labels)

    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_broken_file_is_one_clear_error(self, workers: int) -> None:
        def fail(reads: int) -> None:
            raise ImageError("'toy.png' is cut off")

        samples = TrainingSamples(Toys(on_read=fail), Augmentation(AugmentConfig(crop=33), (80, 80, 80)), seed=0)
        with pytest.raises(ImageError, match=r"^'toy.png' is cut off$"):
            next(iter(training_loader(samples, BatchPlan(12, 2, 1, 0), 0, workers, False)))

    @pytest.mark.slow
    def test_unlike_sizes_name_the_setting(self) -> None:
        vary = Augmentation(AugmentConfig.none(crop=None), (80, 80, 80))
        loader = training_loader(TrainingSamples(Toys(uneven=True), vary, 0), BatchPlan(12, 6, 1, 0), 0, 0, False)
        with pytest.raises(DataError, match=r"unlike sizes, .*: set augmentation.crop"):
            next(iter(loader))

    @pytest.mark.wrong_types  # the first check of a type takes seconds
    def test_waiting_is_measured(self) -> None:
        import time

        samples = TrainingSamples(
            Toys(on_read=lambda _: time.sleep(0.02)), Augmentation(AugmentConfig(crop=33), (8, 8, 8)), 0
        )
        loader = training_loader(samples, BatchPlan(12, 2, 2, 0), 0, 0, False)
        list(loader)
        assert 0.08 <= loader.waited_s < 1

    def test_images_become_floats_in_their_own_range(self) -> None:
        batch = Batch(
            torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).reshape(2, 3, 4, 5),
            torch.full((2, 3, 4), 255, dtype=torch.uint8),
        )
        images, labels = to_tensors(batch, channels_last=True)
        assert images.shape == (2, 5, 3, 4)
        assert images.dtype == torch.float32
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert images[1, 2, 1, 3] == batch.images[1, 1, 3, 2]
        assert labels.dtype == torch.int64


class TestGroups:
    def model(self) -> PSPNet:
        return PSPNet(toy_model(num_classes=3))

    def test_the_head_learns_ten_times_as_fast(self) -> None:
        model = self.model()
        groups = parameter_groups(model, OptimizerConfig())
        assert [(g["name"], g["lr"], g["weight_decay"]) for g in groups] == [
            ("encoder", 0.01, 1e-4),
            ("head", 0.1, 1e-4),
        ]
        encoder = {id(p) for p in model.encoder.parameters()}
        assert {id(p) for p in groups[0]["params"]} == encoder
        assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))

    def test_adamw_spares_norms_and_biases(self) -> None:
        groups = parameter_groups(self.model(), OptimizerConfig(name="adamw"))
        for group in groups:
            assert all((p.ndim > 1) == (group["weight_decay"] > 0) for p in group["params"])

    def test_each_stage_has_its_rate(self) -> None:
        model = self.model()
        optimizer = build_optimizer(model, OptimizerConfig(layer_decay=0.5))
        rates = {g["name"]: g["lr"] for g in optimizer.param_groups}
        assert rates == {"encoder stage 0": 0.0025, "encoder stage 1": 0.005, "encoder stage 2": 0.01, "head": 0.1}

    @pytest.mark.parametrize("name", ["sgd", "adamw"])
    def test_the_fused_update_is_the_usual_one(self, name: str) -> None:
        weights = []
        for fused in (True, False):
            torch.manual_seed(0)
            model = self.model()
            optimizer = build_optimizer(model, OptimizerConfig(name=name, learning_rate=1e-3, fused=fused))
            assert {group["fused"] for group in optimizer.param_groups} == {fused}
            for step in range(3):
                generator = torch.Generator().manual_seed(step)
                for parameter in model.parameters():
                    parameter.grad = torch.randn(parameter.shape, generator=generator)
                optimizer.step()
            weights.append([parameter.detach().clone() for parameter in model.parameters()])
        for first, second in zip(*weights, strict=True):
            torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize(
        ("encoder", "first", "last"),
        [("resnet18", "conv1.weight", "layer4.1.conv2.weight"), ("mobilenetv2", "conv_stem.weight", "")],
    )
    def test_stages_are_found_by_gradients(self, encoder: str, first: str, last: str) -> None:
        net = PSPNet(toy_model(encoder=encoder, encoder_options={}, bins=(1,))).encoder
        before = {name: value.clone() for name, value in net.state_dict().items()}
        stages = encoder_stages(net, 3)
        names = dict(net.named_parameters())
        assert stages[id(names[first])] == 0
        assert max(stages.values()) == len(net.channels) - 1
        if last:
            assert stages[id(names[last])] == 4
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_average_is_the_formula() -> None:
    torch.manual_seed(0)
    model = PSPNet(toy_model())
    averaged = AveragedModel(model, 0.9)
    expected = {name: value.clone().double() for name, value in model.state_dict().items() if value.is_floating_point()}
    for n in range(30):
        with torch.no_grad():
            for value in model.state_dict().values():
                value.add_(1)
        averaged.update(model)
        decay = min(0.9, (1 + n) / (10 + n))
        for name in expected:
            expected[name] = decay * expected[name] + (1 - decay) * model.state_dict()[name]
    for name, value in averaged.model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-4)
        else:
            assert torch.equal(value, model.state_dict()[name])
    averaged.train()
    assert not averaged.model.training


def test_total_loss_is_the_weighted_sum() -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (2, 6, 8))
    labels[0, 0] = 255
    loss = build_loss(TrainConfig().loss, 3)
    logits, auxiliary = torch.randn(2, 3, 6, 8), torch.randn(2, 3, 6, 8)
    image_logits, points = torch.randn(2, 3), PointOutputs(torch.rand(2, 5, 2), torch.randn(2, 3, 5))
    config = TrainConfig(auxiliary_weight=0.3, points_weight=0.7)
    total, parts = total_loss(TrainOutputs(logits, auxiliary, image_logits, points), labels, loss, config, False)
    there = torch.stack(
        [torch.stack([labels[b, int(y * 6), int(x * 8)] for x, y in points.coordinates[b]]) for b in range(2)]
    )
    ce = nn.CrossEntropyLoss(ignore_index=255)
    present = torch.stack(
        [(labels[:, None] == torch.arange(3)[None, :, None, None]).flatten(2).any(2)[b] for b in range(2)]
    )
    image = nn.BCEWithLogitsLoss()(image_logits, present.float())
    expected = ce(logits, labels) + 0.3 * ce(auxiliary, labels) + 0.3 * image + 0.7 * ce(points.logits, there)
    torch.testing.assert_close(total, expected)
    assert set(parts) == {"loss_pixel", "loss_auxiliary", "loss_image", "loss_points"}


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenetv2"])
def test_recomputed_activations_change_nothing(encoder: str) -> None:
    results = []
    for again in (False, True):
        torch.manual_seed(0)
        model = PSPNet(toy_model(encoder=encoder, encoder_options={"drop_path_rate": 0.2}, dropout=0.0)).train()
        if again:
            assert len(blocks(model.encoder)) > 5
            checkpoint_blocks(model.encoder)
        torch.manual_seed(1)
        outputs = model.forward_train(torch.rand(2, 3, 33, 33) * 255)
        outputs.logits.square().mean().backward()
        gradients = [p.grad for p in model.encoder.parameters()]
        results.append((outputs.logits.detach(), gradients, model.state_dict()))
    (logits, gradients, state), (logits2, gradients2, state2) = results
    torch.testing.assert_close(logits, logits2)
    for a, b in zip(gradients, gradients2, strict=True):
        torch.testing.assert_close(a, b)
    for name, value in state.items():  # running statistics moved once, not twice
        torch.testing.assert_close(value, state2[name])


class _Small(nn.Module):
    """A norm, and a norm of timm's that ends with an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 1)
        self.first = nn.BatchNorm2d(3)
        self.second = BatchNormAct2d(3, act_layer=nn.ReLU)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(self.conv(x)))


def _small() -> _Small:
    torch.manual_seed(0)
    model = _Small()
    nn.init.uniform_(model.first.weight)
    nn.init.uniform_(model.second.bias)
    return model


def test_norm_over_two_processes_is_the_norm_of_one_large_batch(tmp_path) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(1)
    images, weights = torch.randn(4, 2, 5, 6), torch.randn(4, 3, 5, 6)
    whole = _small().train()
    out = whole(images)
    (out * weights).sum().backward()

    def work(rank: int) -> None:
        import torch.distributed as dist

        dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=rank, world_size=2)
        model = share_batch_norm(_small(), gpu=False).train()
        assert list(model.state_dict()) == list(whole.state_dict())
        part = slice(2 * rank, 2 * rank + 2)
        actual = model(images[part])
        (actual * weights[part]).sum().backward()
        for parameter in model.parameters():
            dist.all_reduce(parameter.grad)
        torch.testing.assert_close(actual, out[part].detach())
        for mine, theirs in zip(model.parameters(), whole.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)
        for name, value in whole.state_dict().items():
            torch.testing.assert_close(model.state_dict()[name], value)
        dist.destroy_process_group()

    children = [in_child(lambda rank=rank: work(rank)) for rank in range(2)]
    assert [ended(child) for child in children] == [0, 0]


def test_shared_norm_alone_is_the_plain_one() -> None:
    plain, shared = _small(), share_batch_norm(_small(), gpu=False)
    assert isinstance(shared.second, SharedBatchNorm)
    images = torch.randn(3, 2, 4, 4)
    assert torch.equal(plain(images), shared(images))
    assert torch.equal(plain.eval()(images), shared.eval()(images))


class TestConfig:
    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"steps": 5, "epochs": 1}, ["steps = 5", "epochs = 1"]),
            ({"unfreeze_step": 5}, ["unfreeze_step = 5", "freeze_encoder"]),
            ({"optimizer": {"name": "adamw", "nesterov": True}}, ["optimizer.nesterov", "adamw"]),
            ({"batch_size": 5, "devices": 2}, ["batch_size = 5", "devices = 2"]),
            ({"lerning_rate": 5}, ["lerning_rate", "is not a setting"]),
            ({"optimizer": {"learning_rat": 5}}, ["optimizer.learning_rat", "learning_rate"]),
            ({"batch_size": "many"}, ["batch_size", "many"]),
        ],
    )
    def test_contradictions_are_named(self, values: dict[str, object], words: list[str]) -> None:
        with pytest.raises(ConfigError) as caught:
            TrainConfig(**values)
        assert all(word in str(caught.value) for word in words), str(caught.value)

    def test_steps_follow_from_epochs(self) -> None:
        assert TrainConfig(epochs=2, batch_size=4).total_steps(10) == 5
        assert TrainConfig(epochs=2, batch_size=4, accumulate=2).total_steps(10) == 3
        assert TrainConfig(batch_size=10).total_steps(100) == 500
        assert TrainConfig(steps=7).total_steps(100) == 7

    def test_a_config_survives_its_file(self, tmp_path) -> None:  # type: ignore[no-untyped-def]
        config = toy_run(tmp_path / "run", ema=0.99, early_stopping={"patience": 3})
        path = tmp_path / "config.yaml"
        path.write_text(config.to_yaml())
        assert TrainConfig.from_yaml(path, ["name=x", "seed=4"]) == config.changed(name="x", seed=4)


def test_early_stopping_waits_for_every_score_that_is_monitored() -> None:
    best, stop = BestScore(), EarlyStopConfig(patience=2, min_gain=0.05)
    assert best.update(0.5, 0.5, 1, stop, {"loss": -1.0})
    assert not best.update(0.4, 0.4, 2, stop, {"loss": -0.8})  # no better model, but the loss still falls
    assert best.without_gain == 0
    assert not best.update(0.4, 0.4, 3, stop, {"loss": -0.9})
    assert best.update(0.51, 0.5, 4, stop, {"loss": -0.78})  # better, by less than what counts
    assert (best.without_gain, best.others) == (2, {"loss": (-0.78, 4)})


def test_default_loader_has_the_samples_of_a_plain_one() -> None:
    """The stream is a plain DataLoader's batches when that is given the same order."""
    samples = TrainingSamples(Toys(), Augmentation(AugmentConfig(crop=33), (80, 80, 80)), seed=1)
    plan = BatchPlan(12, 3, 4, seed=1)
    plain = DataLoader(samples, batch_sampler=[plan.batch(step) for step in range(4)])
    for ours, theirs in zip(training_loader(samples, plan, 0, 0, False), plain, strict=True):
        assert torch.equal(ours.images, theirs[0])
    assert len(NAMES) == 3


def test_the_card_names_the_protocol_that_a_model_was_validated_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pspnet.training.validation.WHOLE_PIXELS", 41 * 41)  # two of the three are larger
    run = toy_run(tmp_path / "run", steps=1, val_every=1)
    path = train(run, train_data=Toys(), val_data=Toys(3, seed=9, uneven=True), quiet=True)
    assert read_header(path)[1].protocol == "slide"
    assert json.loads((tmp_path / "run" / "scores_best.json").read_text())["protocol"] == "slide"
