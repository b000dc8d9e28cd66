"""Layers that run again: in a training, in several processes, whole or sharded."""

import pytest
import scheduled
import torch
from mmdet.models.layers.transformer import DetrTransformerEncoderLayer
from mmengine.model import BaseModel
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from mmrev.engine import RecomputeHook
from mmrev.engine.strategies import FSDP2Strategy
from mmrev.registry import HOOKS

HOOK = dict(type="mmrev.RecomputeHook")


def assert_same(actual, expected):
    assert len(actual) == len(expected)
    assert all(map(torch.equal, actual, expected))


class Net(BaseModel):
    """Layers as mmdet calls them, their positions learned, too."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.position = nn.Parameter(torch.randn(1, 4, 8))
        self.layers = nn.ModuleList(
            DetrTransformerEncoderLayer(
                dict(embed_dims=8, num_heads=2, dropout=0.1),
                dict(embed_dims=8, feedforward_channels=16, num_fcs=2, ffn_drop=0.1),
            )
            for _ in range(3)
        )
        self.calls = []
        for layer in self.layers:
            layer.ffn.register_forward_pre_hook(lambda *_: self.calls.append(1))

    def forward(self, inputs, data_samples=None, mode="tensor"):
        query = inputs.float().repeat(1, 16).view(-1, 4, 8)
        for layer in self.layers:
            query = layer(query, query_pos=self.position, key_padding_mask=None)
        return {"loss": query.square().mean()}


def test_a_training_is_the_same(tmp_path):
    def trained(name, *hooks):
        average, seed = dict(type="EMAHook"), dict(seed=3)
        settings = dict(epochs=1, hooks=hooks, randomness=seed)
        runner = scheduled.train(tmp_path / name, Net(), average, **settings)
        path = tmp_path / name / "epoch_1.pth"
        return runner.model, torch.load(path, weights_only=False)["state_dict"]

    plain, expected = trained("plain")
    model, actual = trained("again", HOOK)
    assert len(plain.calls) == 3 * scheduled.LENGTH
    assert len(model.calls) == 2 * len(plain.calls)
    assert list(actual) == list(expected)
    assert_same(list(actual.values()), list(expected.values()))


def gradients(rank, shard, again):
    """Of two steps that add up, the second one alone shared."""
    if shard:
        strategy = FSDP2Strategy()
        with strategy.building():
            net = Net()
        model = strategy.shard(net)
    else:
        model = DistributedDataParallel(Net())
        net = model.module
    if again:
        RecomputeHook().apply(net)
    torch.manual_seed(rank)
    for _ in range(2):
        model(torch.randn(3, 2))["loss"].backward()
    grads = [p.grad for p in net.parameters()]
    return [g.full_tensor() if isinstance(g, DTensor) else g for g in grads]


@pytest.mark.parametrize("shard", [False, True])
def test_gradients_of_several_processes(process_pair, shard):
    plain, _ = process_pair.run(gradients, shard, False)
    for found in process_pair.run(gradients, shard, True):
        assert_same(found, plain)


@pytest.mark.parametrize("patterns", ["layers.*", [], [1], {"layers.0"}])
def test_patterns_are_words(patterns):
    with pytest.raises(ValueError, match=r"expected patterns .* got "):
        HOOKS.build(dict(HOOK, patterns=patterns))


def test_a_pattern_that_matches_nothing_ends_the_training(tmp_path):
    hook = dict(HOOK, patterns=["encoder.*"])
    with pytest.raises(ValueError, match=r"as layers\.0, .* got 'encoder\.\*', which"):
        scheduled.train(tmp_path, Net(), hook, epochs=1)
