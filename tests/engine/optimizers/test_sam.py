"""Sharpness-aware steps against steps written by hand."""

import copy

import numpy as np
import pytest
import torch
from dispatched import Dispatched
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from toy_models import Toy, assert_parameters, batch, toy

from mmrev.engine.optimizers.agc import clip_units_
from mmrev.registry import MODELS

RHO = 0.5


def config(kind="mmrev.SAMOptimWrapper", **settings):
    settings = {"clip_factor": None, "rho": RHO, **settings}
    return {"type": kind, "optimizer": {"type": "SGD", "lr": 0.5}, **settings}


def loss_of(model, data, autocast=False):
    torch.manual_seed(7)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        return model(**data)["loss"].float()


def sharp_gradients(model, data, autocast=False):
    """The gradient at w + rho g / |g|, of weights that stay at w."""
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss_of(model, data, autocast), parameters)
    length = sum(g.double().pow(2).sum() for g in gradients).sqrt().item()
    displaced = copy.deepcopy(model)
    with torch.no_grad():
        for parameter, gradient in zip(displaced.parameters(), gradients, strict=True):
            parameter += RHO * gradient / length
    loss = loss_of(displaced, data, autocast)
    return torch.autograd.grad(loss, list(displaced.parameters()))


def by_hand(model, gradients, clip=False):
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient
        if clip:
            groups = 2 if parameter is model.up.weight else None
            clip_units_(parameter, 0.01, 1e-3, groups)
    torch.optim.SGD(model.parameters(), lr=0.5).step()
    return {name: p.detach() for name, p in model.named_parameters()}


def train_step(model, wrapper, data):
    torch.manual_seed(7)
    return model.train_step(data, wrapper)


@pytest.mark.parametrize("clip", [False, True])
def test_a_step_is_that_by_hand(clip):
    """With dropout: both passes drop the same features."""
    model, reference = toy(dropout=0.5), toy(dropout=0.5)
    wrapper = build_optim_wrapper(model, config(clip_factor=0.01 if clip else None))
    expected = by_hand(reference, sharp_gradients(reference, batch()), clip)
    logged = train_step(model, wrapper, batch())
    assert_parameters(model, expected)
    torch.testing.assert_close(
        torch.as_tensor(logged["loss"]), loss_of(toy(dropout=0.5), batch()).detach()
    )
    plain = toy(dropout=0.5)
    plain_config = config("mmrev.AGCOptimWrapper", clip_factor=None)
    del plain_config["rho"]
    train_step(plain, build_optim_wrapper(plain, plain_config), batch())
    assert not torch.allclose(model.up.weight, plain.up.weight, rtol=1e-2)


def test_without_a_step_the_weights_are_where_they_were():
    """To the last bit: the displacement is taken back by copying."""
    model = toy()
    before = copy.deepcopy(model.state_dict())
    wrapper = build_optim_wrapper(model, config(accumulative_counts=2))
    train_step(model, wrapper, batch())
    for name, value in model.state_dict().items():
        if not name.startswith("norm."):
            assert torch.equal(value, before[name]), name


def test_displacing_weights_takes_a_few_operations_and_one_wait():
    counts = []
    for number in (2, 9):
        model = toy()
        model.more = torch.nn.ParameterList(torch.ones(5) for _ in range(number))
        wrapper = build_optim_wrapper(model, config())
        loss = sum(parameter.square().sum() for parameter in model.parameters())
        with Dispatched() as backward:
            torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
        with Dispatched() as dispatched:
            wrapper._climb(loss)
            wrapper._descend()
        assert dispatched.waits() == 1
        counts.append(dispatched.counts - backward.counts)
    for count in counts:
        assert (count["_foreach_add_"], count["_foreach_copy_"]) == (1, 2)
        # Memory for each parameter, and what autograd copies.
        del count["empty_like"], count["clone"], count["detach"]
    assert counts[0] == counts[1]


def test_displaced_weights_have_other_versions():
    """By them recomputation, and kept tables, know that weights were changed."""
    model = toy()
    wrapper = build_optim_wrapper(model, config())
    versions = []
    for move in (lambda: wrapper._climb(loss_of(model, batch())), wrapper._descend):
        versions.append([parameter._version for parameter in model.parameters()])
        move()
    versions.append([parameter._version for parameter in model.parameters()])
    for before, between, after in zip(*versions, strict=True):
        assert before < between < after


def test_statistics_are_those_of_one_pass():
    model, plain = toy(), toy()
    train_step(model, build_optim_wrapper(model, config()), batch())
    loss_of(plain, batch())
    assert model.norm.num_batches_tracked == 1
    assert torch.equal(model.norm.running_mean, plain.norm.running_mean)


def test_accumulates_the_second_gradients_alone():
    model, reference = toy(), toy()
    wrapper = build_optim_wrapper(model, config(accumulative_counts=2))
    parts = [sharp_gradients(reference, batch(seed)) for seed in (1, 2)]
    expected = by_hand(reference, [sum(g) / 2 for g in zip(*parts, strict=True)])
    for seed in (1, 2):
        train_step(model, wrapper, batch(seed))
    assert_parameters(model, expected)
    assert wrapper.inner_count == 2


@pytest.mark.parametrize("clip", [False, True])
def test_in_bfloat16(clip):
    model, reference = toy(), toy()
    kind = "mmrev.SAMBFloat16OptimWrapper"
    factor = 0.01 if clip else None
    wrapper = build_optim_wrapper(model, config(kind, clip_factor=factor))
    gradients = sharp_gradients(reference, batch(), autocast=True)
    train_step(model, wrapper, batch())
    assert_parameters(model, by_hand(reference, gradients, clip))


@pytest.mark.parametrize("clip", [False, True])
def test_with_loss_scaling(amp_on_cpu, clip):
    model, plain = toy(), toy()
    factor = 0.01 if clip else None
    amp = config("mmrev.SAMAmpOptimWrapper", loss_scale=1024.0, clip_factor=factor)
    train_step(model, build_optim_wrapper(model, amp), batch())
    bf16 = config("mmrev.SAMBFloat16OptimWrapper", clip_factor=factor)
    train_step(plain, build_optim_wrapper(plain, bf16), batch())
    assert_parameters(model, dict(plain.named_parameters()), rtol=1e-5, atol=1e-7)


def test_a_step_that_overflows_moves_nothing(amp_on_cpu):
    model = toy()
    before = copy.deepcopy(model.state_dict())
    amp = config("mmrev.SAMAmpOptimWrapper", loss_scale="dynamic")
    data = batch()
    data["inputs"][0] = float("inf")
    wrapper = build_optim_wrapper(model, amp)
    train_step(model, wrapper, data)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
    assert wrapper.loss_scaler.get_scale() == 2.0**15


def test_the_second_pass_sees_the_same_mixed_images():
    """Augmentation in the data preprocessor draws once; its result is used twice."""

    class Seen(Toy):
        def forward(self, inputs, labels, mode="loss"):
            self.inputs = [*getattr(self, "inputs", []), inputs]
            return super().forward(inputs, labels, mode)

    class Mixing(torch.nn.Module):
        def forward(self, data, training):
            return data | {"inputs": data["inputs"] * float(np.random.rand())}

    model = Seen()
    model.data_preprocessor = Mixing()
    train_step(model, build_optim_wrapper(model, config()), batch())
    first, second = model.inputs
    assert torch.equal(first, second)


def test_recomputed_blocks_see_the_displaced_weights():
    """The backward pass runs blocks again before the weights are put back."""

    class Dense(Toy):
        def __init__(self, memory):
            super().__init__()
            self.backbone = MODELS.build(
                {
                    "type": "mmrev.NFNet",
                    "arch": {
                        "channels": [16, 16, 16, 16],
                        "depths": [1, 1, 1, 1],
                        "group_width": 8,
                    },
                    "skip_gain_init_value": 1.0,
                    "drop_path_rate": 0.3,
                    "memory": memory,
                }
            )
            del self.up, self.norm
            self.head.fc = torch.nn.Linear(16, 5)

        def forward(self, inputs, labels, mode="loss"):
            x = self.head.fc(self.backbone(inputs)[-1].mean((2, 3)))
            return {"loss": torch.nn.functional.cross_entropy(x, labels)}

    models = []
    for memory in ("store", "recompute"):
        torch.manual_seed(0)
        model = Dense(memory)
        train_step(model, build_optim_wrapper(model, config()), batch())
        models.append(model)
    stored, recomputed = models
    assert_parameters(recomputed, dict(stored.named_parameters()), rtol=1e-5, atol=1e-7)


def work(rank):
    model = MMDistributedDataParallel(toy(), broadcast_buffers=False)
    wrapper = build_optim_wrapper(model, config(accumulative_counts=2))
    for part in range(2):
        train_step(model, wrapper, batch(2 * part + rank))
    return {name: p.detach() for name, p in model.module.named_parameters()}


def test_every_process_climbs_by_its_own_gradient(process_pair):
    trained, _ = process_pair.run(work)
    reference = toy()
    parts = [sharp_gradients(reference, batch(seed)) for seed in range(4)]
    expected = by_hand(reference, [sum(g) / 4 for g in zip(*parts, strict=True)])
    assert trained.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(trained[name], value)


def test_needs_the_call_of_the_model():
    model = toy()
    wrapper = build_optim_wrapper(model, config())
    with pytest.raises(RuntimeError, match="expected one call of the model in"):
        wrapper.update_params(model(**batch())["loss"])


@pytest.mark.parametrize("failing", [1, 2])
def test_what_fails_on_the_way_leaves_weights_and_gradients(failing):
    """In the first backward pass, or in the second forward pass."""
    model, reference = toy(), toy()
    settings = config(accumulative_counts=2)
    wrapper = build_optim_wrapper(model, settings)
    untroubled = build_optim_wrapper(reference, settings)
    train_step(model, wrapper, batch())
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    gradients = [p.grad.clone() for p in model.parameters()]

    def fail(*_):
        raise torch.OutOfMemoryError("of the test")

    def fail_again(*_):
        calls.append(0)
        if len(calls) == 2:
            fail()

    calls = []
    hook = (
        model.norm.register_full_backward_hook(fail)
        if failing == 1
        else model.norm.register_forward_pre_hook(fail_again)
    )
    with pytest.raises(torch.OutOfMemoryError):
        train_step(model, wrapper, batch(2))
    hook.remove()
    assert_parameters(model, before, rtol=0, atol=0)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert torch.equal(parameter.grad, gradient)
    # And the batch can be tried again.
    train_step(model, wrapper, batch(2))
    for seed in (1, 2):
        train_step(reference, untroubled, batch(seed))
    assert_parameters(model, dict(reference.named_parameters()), rtol=0, atol=0)
