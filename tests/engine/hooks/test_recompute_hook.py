"""Layers that run again: in a training, in several processes, whole or sharded."""

import pytest
import scheduled
import torch
from mmdet.models.layers.transformer import DetrTransformerEncoderLayer
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from resolved import resolve, use_scope
from shrink import shrink
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from mmrev.engine import RecomputeHook
from mmrev.engine.strategies import FSDP2Strategy
from mmrev.registry import HOOKS
from mmrev.runs.typical import training_batch

HOOK = dict(type="mmrev.RecomputeHook")
MASKS = "vanillanet/vanillanet-5_mask2former_8xb2-160k_ade20k-512x512"


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


def whole_gradients(rank, again):
    """Of Mask2Former, whose losses take means over processes as they run again."""
    cfg = shrink(resolve(MASKS))
    use_scope(cfg.default_scope)
    torch.manual_seed(0)
    net = MODELS.build(cfg.model)
    net.init_weights()
    if again:
        RecomputeHook().apply(net)
    model = DistributedDataParallel(net.train(), broadcast_buffers=False)
    data = training_batch(cfg, (64, 64), 2)
    # Not as many objects in one process as in the other.
    data = {key: values[: 1 + rank] for key, values in data.items()}
    data = net.data_preprocessor(data, True)
    torch.manual_seed(rank)
    losses = model(**data, mode="loss")
    net.parse_losses(losses)[0].backward()
    return [p.grad for p in net.parameters() if p.grad is not None]


@pytest.mark.slow
@pytest.mark.ci
def test_losses_over_several_processes(process_pair):
    plain, _ = process_pair.run(whole_gradients, False)
    assert len(plain) > 100
    for found in process_pair.run(whole_gradients, True):
        assert_same(found, plain)


@pytest.mark.parametrize("patterns", ["layers.*", [], [1], {"layers.0"}])
def test_patterns_are_words(patterns):
    with pytest.raises(ValueError, match=r"expected patterns .* got "):
        HOOKS.build(dict(HOOK, patterns=patterns))


def test_a_pattern_that_matches_nothing_ends_the_training(tmp_path):
    hook = dict(HOOK, patterns=["encoder.*"])
    with pytest.raises(ValueError, match=r"as layers\.0, .* got 'encoder\.\*', which"):
        scheduled.train(tmp_path, Net(), hook, epochs=1)
