"""Which stitch takes a step, in one process and in two."""

import copy
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmrev.engine.hooks.stitching import (
    StitchFitHook,
    StitchSamplerHook,
    flops_bins,
)
from mmrev.models.stitching import StitchedBackbone, find_stitched


def backbone():
    torch.manual_seed(0)
    resnet = dict(type="mmdet.ResNet", base_channels=4, stem_channels=4, norm_eval=True)
    return StitchedBackbone(
        anchors=[dict(resnet, depth=18), dict(resnet, depth=34)],
        routes=dict(stages=(1, 2), monotone=True),
    )


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = backbone()
        self.train()  # which sets the batch norms as norm_eval says

    def forward(self, x):
        return sum(level.square().mean() for level in self.backbone(x))


class Training:
    """As much of a runner as the hook sees."""

    def __init__(self, hook, model, **settings):
        self.hook, self.model, self.iter = hook, model, 0
        settings = {"lr": 1e-2, "weight_decay": 0.1, **settings}
        self.optimizer = torch.optim.AdamW(model.parameters(), **settings)
        self.optim_wrapper = SimpleNamespace(
            optimizer=self.optimizer, _accumulative_counts=1
        )
        hook.before_train(self)

    def step(self, image, update=True):
        self.hook.before_train_iter(self)
        self.model(image).backward()
        if update:
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.iter += 1
        return find_stitched(self.model).stitch


def test_uniform_choice_is_fixed_by_seed_and_iteration():
    def chosen(start=0, **settings):
        run = Training(StitchSamplerHook(**settings), Model())
        run.iter = start
        stitches = []
        for _ in range(start, 400):
            run.hook.before_train_iter(run)
            stitches.append(find_stitched(run.model).stitch)
            run.iter += 1
        return stitches

    whole = chosen()
    count = len(backbone().routes)
    assert set(whole) == set(range(count))
    assert max(np.bincount(whole)) < 2.5 * 400 / count
    assert chosen(start=250) == whole[250:]
    assert chosen(seed=1) != whole


def test_probabilities():
    model = backbone()
    count = len(model.routes)
    uniform = StitchSamplerHook().probabilities(model)
    np.testing.assert_allclose(uniform, np.full(count, 1 / count))
    floor = StitchSamplerHook(anchors_share=0.5).probabilities(model)
    assert floor[:2].sum() == pytest.approx(0.5) and floor.sum() == pytest.approx(1)
    assert floor[0] == pytest.approx(floor[1])
    some = StitchSamplerHook(stitches=[1, 3]).probabilities(model)
    assert list(np.flatnonzero(some)) == [1, 3]
    binned = StitchSamplerHook("flops", bins=4, image_size=64).probabilities(model)
    groups = flops_bins(model, range(count), 4, 64)
    assert sorted(i for group in groups for i in group) == list(range(count))
    assert 0 in groups[0] and 1 in groups[-1]
    for group in groups:
        assert binned[group].sum() == pytest.approx(1 / len(groups))


def test_what_no_stitch_used_keeps_its_value():
    run = Training(StitchSamplerHook(), Model())
    image = torch.randn(1, 3, 64, 64)
    for _ in range(12):
        before = copy.deepcopy(run.model)
        stitch = run.step(image)
        used = {id(p) for p in run.model.backbone.parameters_of(stitch)}
        old = dict(before.named_parameters())
        for name, parameter in run.model.named_parameters():
            moved = not torch.equal(parameter, old[name])
            assert moved == (id(parameter) in used and parameter.requires_grad), name


def test_accumulated_steps_keep_the_gradients_of_every_stitch():
    run = Training(StitchSamplerHook(seed=2), Model())
    before = copy.deepcopy(run.model)
    image = torch.randn(1, 3, 64, 64)
    stitches = {run.step(image, update=False) for _ in range(3)}
    stitches.add(run.step(image))
    assert len(stitches) > 1
    used = {
        id(p) for stitch in stitches for p in run.model.backbone.parameters_of(stitch)
    }
    old = dict(before.named_parameters())
    for name, parameter in run.model.named_parameters():
        assert torch.equal(parameter, old[name]) != (id(parameter) in used), name


def test_a_resumed_run_knows_what_the_accumulated_batch_has_used():
    run = Training(StitchSamplerHook(seed=2), Model())
    run.iter, run.optim_wrapper._accumulative_counts = 4, 4
    for _ in range(3):
        run.step(torch.randn(1, 3, 64, 64), update=False)
    used = set(run.hook._pending)
    assert len(used) > 1
    run.hook = StitchSamplerHook(seed=2)
    run.hook.before_train(run)
    assert run.hook._pending == used


def test_validation_and_the_end_take_the_largest_anchor():
    run = Training(StitchSamplerHook(stitches=[0]), Model())
    run.hook.before_train_iter(run)
    assert run.model.backbone.stitch == 0
    run.hook.before_val(run)
    assert run.model.backbone.stitch == 1
    run.hook.before_train_iter(run)
    run.hook.after_train(run)
    assert run.model.backbone.stitch == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(strategy="greedy"), "strategy must be 'uniform' or 'flops'"),
        (dict(bins=0), "bins must be >= 1, got 0"),
        (dict(anchors_share=1.5), r"must lie in 0\.\.1, got 1\.5"),
        (dict(stitches=[99]), r"ids of 0\.\.\d+, got \[99\]"),
        (dict(stitches=[]), "must be ids"),
        (dict(stitches=[0, 1], anchors_share=0.5), "anchors and others"),
    ],
)
def test_settings_outside_their_range(settings, message):
    with pytest.raises(ValueError, match=message):
        StitchSamplerHook(**settings).probabilities(backbone())


def test_a_model_without_stitches():
    with pytest.raises(ValueError, match=r"mmrev\.StitchedBackbone, got Linear"):
        find_stitched(nn.Linear(2, 2))


class Images(torch.utils.data.Dataset):
    """Ten images, with an augmentation from each library."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        image = torch.full((3, 64, 64), float(index)) + torch.randn(3, 64, 64)
        return image * (1 + random.random()) + np.random.rand()


class Fitted:
    """As much of a runner as the hook sees."""

    def __init__(self, iteration=0, load_from=None):
        self.model = Model()
        self.model.data_preprocessor = lambda batch, training: {"inputs": batch}
        self.train_dataloader = torch.utils.data.DataLoader(Images())
        self.iter, self._load_from, self.log = iteration, load_from, []
        self.logger = SimpleNamespace(info=self.log.append)


def test_stitches_are_fitted_before_the_first_step_alone(monkeypatch):
    seeds = []  # of the GPUs' generators, here or not
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    start = Model().state_dict()
    runs = [Fitted(), Fitted(), Fitted(iteration=7), Fitted(load_from="some.pth")]
    for seed, run in enumerate(runs):
        torch.manual_seed(seed)
        expected = torch.Generator().manual_seed(seed)
        seeds.clear()
        StitchFitHook(num_images=4, tokens=16).before_train(run)
        assert torch.equal(torch.rand(2), torch.rand(2, generator=expected))
        assert not seeds
    first, second, *kept = (run.model.state_dict() for run in runs)
    for name, value in start.items():
        assert torch.equal(first[name], second[name]), name
        fitted = "stitches." in name or "adapters." in name
        assert torch.equal(first[name], value) != fitted, name
        assert all(torch.equal(state[name], value) for state in kept), name
    assert "R2" in runs[0].log[0] and "stitches.stage1_0to1.0.0: " in runs[0].log[0]
    assert not runs[2].log


def test_least_squares_are_followed_by_later_steps_if_asked_for():
    runs = [Fitted() for _ in range(3)]
    for seed, (run, steps) in enumerate(zip(runs, (0, 5, 5), strict=True)):
        torch.manual_seed(seed)
        expected = torch.Generator().manual_seed(seed)
        StitchFitHook(num_images=4, tokens=16, later_steps=steps).before_train(run)
        assert torch.equal(torch.rand(2), torch.rand(2, generator=expected))
    fitted, first, second = (run.model.state_dict() for run in runs)
    moved = {name for name, v in fitted.items() if not torch.equal(v, first[name])}
    assert moved and all("stitches." in name for name in moved)
    assert all(torch.equal(v, second[name]) for name, v in first.items())
    assert len(runs[0].log) == 1 and len(runs[1].log) == 2
    title, *lines = runs[1].log[1].splitlines()
    assert title == "Error of the later levels:"
    errors = [tuple(map(float, line.split(": ")[1].split(" -> "))) for line in lines]
    assert errors and all(after <= before for before, after in errors)
    assert lines[0].startswith("stitches.stage1_0to1.0: ")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(num_images=0), "num_images must be >= 1, got 0"),
        (dict(later_steps=-1), "later_steps must be >= 0, got -1"),
    ],
)
def test_no_way_to_fit(settings, message):
    with pytest.raises(ValueError, match=message):
        StitchFitHook(**settings)


STEPS, WORLD_SIZE = 5, 2


def images(rank):
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(STEPS, 1, 3, 64, 64, generator=generator)


def work(rank):
    model = DistributedDataParallel(Model())
    run = Training(StitchSamplerHook(), model)
    stitches = [run.step(image) for image in images(rank)]
    return stitches, model.module.state_dict()


def test_two_processes_train_as_one(process_pair):
    (stitches, weights), (others, same) = process_pair.run(work)
    assert stitches == others
    for name, value in weights.items():
        assert torch.equal(value, same[name]), name

    # The same in this process: both losses, averaged, one update.
    run = Training(StitchSamplerHook(), Model())
    for step in range(STEPS):
        run.hook.before_train_iter(run)
        assert run.model.backbone.stitch == stitches[step]
        for rank in range(WORLD_SIZE):
            (run.model(images(rank)[step]) / WORLD_SIZE).backward()
        run.optimizer.step()
        run.optimizer.zero_grad()
        run.iter += 1
    for name, value in run.model.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-5)
