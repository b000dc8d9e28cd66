"""Adaptive gradient clipping: the rule, its exceptions, and what it composes with."""

import pytest
import torch
from dispatched import Dispatched
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import OPTIM_WRAPPERS, DefaultScope
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from toy_models import assert_parameters, batch, toy

import mmrev  # noqa: F401  (makes mmseg:: bases resolve)
from mmrev.engine.optimizers.agc import clip_all_units_, clip_units_


def units(x, groups=None):
    """The weights of each output, as views; `groups` is of a transposed convolution."""
    if x.squeeze().ndim <= 1:
        return [x]
    if groups is None:
        return list(x)
    parts = x.unflatten(0, (groups, -1))
    return [part[:, output] for part in parts for output in range(x.shape[1])]


def by_the_paper(weight, gradient, groups=None):
    """The clipped gradient, unit by unit in fp64, lambda .01 and eps .001."""
    clipped = gradient.double()
    for own, its in zip(units(weight, groups), units(clipped, groups), strict=True):
        largest = 0.01 * max(own.double().norm().item(), 1e-3)
        if its.norm() > largest:
            its *= largest / its.norm()
    return clipped


@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (5, 7), (4, 1, 3, 3), (3, 2, 4)])
def test_every_output_is_a_unit(shape):
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(shape))
    with torch.no_grad():
        weight[0] *= 1e-6  # shorter than eps
    weight.grad = torch.randn(shape) * 0.02
    weight.grad[-1] *= 1e-4  # short enough
    gradient = weight.grad.clone()
    expected = by_the_paper(weight.detach(), gradient)
    clip_units_(weight, 0.01, 1e-3)
    torch.testing.assert_close(weight.grad.double(), expected)
    assert torch.equal(weight.grad[-1], gradient[-1])
    assert not torch.isclose(weight.grad[0], gradient[0]).any()


@pytest.mark.parametrize("shape", [(6,), (), (6, 1, 1, 1), (1, 6, 1, 1), (1, 6)])
def test_a_vector_is_one_unit(shape):
    """Gains and biases, also where they are stored with axes of length 1."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(shape))
    weight.grad = torch.randn(shape)
    direction = weight.grad / weight.grad.norm()
    clip_units_(weight, 0.01, 1e-3)
    torch.testing.assert_close(
        weight.grad, 0.01 * direction * weight.detach().norm().clamp(min=1e-3)
    )


@pytest.mark.parametrize("groups", [1, 2])
def test_outputs_of_a_transposed_convolution(groups):
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(6, 4 // groups, 2, 2))
    weight.grad = torch.randn_like(weight)
    expected = by_the_paper(weight.detach(), weight.grad, groups)
    clip_units_(weight, 0.01, 1e-3, groups)
    assert len(units(weight.grad, groups)) == 4
    torch.testing.assert_close(weight.grad.double(), expected)


def test_zero_gradients_stay_zero():
    weight = nn.Parameter(torch.zeros(3, 3))
    weight.grad = torch.zeros(3, 3)
    clip_units_(weight, 0.01, 1e-3)
    assert torch.equal(weight.grad, torch.zeros(3, 3))


KINDS = [  # shapes, and groups of a transposed convolution
    ((6, 4, 3, 3), None), ((6, 2, 2, 2), 2), ((6, 2, 2, 2), None),
    ((1, 6, 1, 1), None), ((6,), None), ((), None), ((0,), None),
]  # fmt: skip


def parameters_of_all_kinds(number):
    """So many of each, with gradients, each with its groups."""
    torch.manual_seed(0)
    made = []
    for index in range(number):
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            for shape, groups in KINDS:
                weight, gradient = torch.randn(2, *shape, dtype=dtype)
                if weight.ndim == 4 and index % 2:
                    weight = weight.contiguous(memory_format=torch.channels_last)
                    gradient = gradient.clone(memory_format=torch.channels_last)
                parameter = nn.Parameter(weight)
                parameter.grad = gradient
                made.append((parameter, groups))
    return made


def test_many_are_clipped_as_each_alone():
    together, alone = parameters_of_all_kinds(5), parameters_of_all_kinds(5)
    kept = [parameter.grad for parameter, _ in together]
    clip_all_units_(together, 0.01, 1e-3)
    for (one, groups), (other, _), gradient in zip(alone, together, kept, strict=True):
        before = one.grad.clone()
        clip_units_(one, 0.01, 1e-3, groups)
        assert torch.equal(one, other)
        assert other.grad is gradient
        assert other.grad.stride() == one.grad.stride()
        if one.grad.is_contiguous():
            assert torch.equal(other.grad, one.grad)
        else:  # the sum runs in another order
            torch.testing.assert_close(other.grad, one.grad)
        assert one.numel() == 0 or not torch.equal(other.grad, before)


def test_layers_of_one_shape_take_no_further_operations():
    """On a GPU launching them is what clipping costs."""
    counts = []
    for number in (3, 12):
        with Dispatched() as dispatched:
            clip_all_units_(parameters_of_all_kinds(number), 0.01, 1e-3)
        making = Dispatched()
        with making:
            parameters_of_all_kinds(number)
        counts.append(dispatched.counts - making.counts)
        assert dispatched.waits() == making.waits()
    assert counts[0] == counts[1]
    assert counts[0]["linalg_vector_norm"] == 2 * 3 * len(KINDS)


def test_of_large_layers_no_more_than_some_are_copied(monkeypatch):
    copied = []
    stack = torch.stack
    monkeypatch.setattr(torch, "stack", lambda x: copied.append(len(x)) or stack(x))
    large = [nn.Parameter(torch.ones(2**14)) for _ in range(5)]
    large += [nn.Parameter(torch.ones(2**17)) for _ in range(3)]
    for parameter in large:
        parameter.grad = torch.ones_like(parameter)
    clip_all_units_([(parameter, None) for parameter in large], 0.01, 1e-3)
    assert copied == [4, 4]  # 4 weights and their gradients
    for parameter in large:
        torch.testing.assert_close(parameter.grad, torch.full_like(parameter, 0.01))


def sgd(**settings):
    optimizer = {"type": "SGD", "lr": 0.5, "weight_decay": 0.1}
    optimizer |= {"momentum": 0.9, "nesterov": True}
    return {"type": "mmrev.AGCOptimWrapper", "optimizer": optimizer, **settings}


def expected_step(model, gradients, excluded=()):
    """Clipping by the paper's rule, then torch's SGD."""
    for name, parameter in model.named_parameters():
        gradient = gradients[name]
        if name not in excluded:
            groups = 2 if name == "up.weight" else None
            gradient = by_the_paper(parameter.detach(), gradient, groups)
        parameter.grad = gradient.to(parameter)
    torch.optim.SGD(
        model.parameters(), lr=0.5, weight_decay=0.1, momentum=0.9, nesterov=True
    ).step()
    return {name: p.detach() for name, p in model.named_parameters()}


def gradients_of(model, *batches):
    loss = sum(model(**each)["loss"] for each in batches) / len(batches)
    return {
        name: g.detach()
        for (name, _), g in zip(
            model.named_parameters(),
            torch.autograd.grad(loss, list(model.parameters())),
            strict=True,
        )
    }


def test_clips_before_weight_decay_and_momentum():
    model, reference = toy(), toy()
    wrapper = build_optim_wrapper(model, sgd(exclude=["head.fc.weight"]))
    gradients = gradients_of(reference, batch())
    model.train_step(batch(), wrapper)
    expected = expected_step(reference, gradients, ["head.fc.weight"])
    assert_parameters(model, expected)
    # and it made a difference
    plain = toy()
    plain.train_step(
        batch(), build_optim_wrapper(plain, sgd() | {"type": "OptimWrapper"})
    )
    assert not torch.allclose(plain.backbone.weight, model.backbone.weight)


def test_clips_the_whole_accumulated_batch():
    model, reference = toy(), toy()
    wrapper = build_optim_wrapper(model, sgd(accumulative_counts=2))
    gradients = gradients_of(reference, batch(1), batch(2))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.train_step(batch(1), wrapper)
    assert_parameters(model, before, rtol=0, atol=0)
    model.train_step(batch(2), wrapper)
    assert_parameters(model, expected_step(reference, gradients))


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("loss_scale", [1024.0, "dynamic"])
def test_clips_unscaled_gradients(amp_on_cpu, loss_scale, parts):
    model, plain = toy(), toy()
    config = sgd(exclude=["head.fc.weight"], accumulative_counts=parts)
    amp = config | {"type": "mmrev.AGCAmpOptimWrapper", "loss_scale": loss_scale}
    bf16 = config | {"type": "mmrev.AGCBFloat16OptimWrapper"}
    before = model.up.weight.detach().clone()
    scaled = build_optim_wrapper(model, amp)
    # The same without loss scaling: scaling by powers of 2 changes no bit.
    unscaled = build_optim_wrapper(plain, bf16)
    for part in range(parts):
        model.train_step(batch(part), scaled)
        plain.train_step(batch(part), unscaled)
    assert not torch.equal(model.up.weight, before)
    assert_parameters(model, dict(plain.named_parameters()), rtol=1e-6, atol=0)


def test_a_step_that_overflows_is_left_out(amp_on_cpu):
    model = toy()
    config = sgd() | {"type": "mmrev.AGCAmpOptimWrapper", "loss_scale": "dynamic"}
    wrapper = build_optim_wrapper(model, config)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    data = batch()
    data["inputs"][0] = float("inf")
    model.train_step(data, wrapper)
    assert_parameters(model, before, rtol=0, atol=0)
    assert wrapper.loss_scaler.get_scale() == 2.0**15
    model.train_step(batch(), wrapper)
    assert not torch.equal(model.up.weight, before["up.weight"])


def test_clipping_by_the_total_norm_may_follow():
    model = toy()
    config = sgd(clip_grad={"max_norm": 1e-4}, clip_factor=0.01)
    wrapper = build_optim_wrapper(model, config)
    with wrapper.optim_context(model):
        model(**batch())["loss"].backward()
    wrapper._clip_grad()
    total = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
    assert total.item() == pytest.approx(1e-4, rel=1e-3)


def test_without_a_factor_it_clips_nothing():
    model, plain = toy(), toy()
    wrapper = build_optim_wrapper(model, sgd(clip_factor=None))
    model.train_step(batch(), wrapper)
    config = sgd() | {"type": "OptimWrapper"}
    plain.train_step(batch(), build_optim_wrapper(plain, config))
    assert_parameters(model, dict(plain.named_parameters()), rtol=0, atol=0)


def test_inside_a_detector():
    """Names decide, not positions: DINO's classifiers are not its last parameters."""
    channels, arch = [16, 16, 16, 16], {"depths": [1, 1, 1, 1], "group_width": 8}
    config = {
        "type": "RetinaNet",
        "backbone": {"type": "mmrev.NFNet", "arch": {"channels": channels, **arch}},
        "neck": {
            "type": "FPN",
            "in_channels": channels,
            "out_channels": 8,
            "num_outs": 4,
        },
        "bbox_head": {
            "type": "RetinaHead",
            "num_classes": 3,
            "in_channels": 8,
            "feat_channels": 8,
            "stacked_convs": 1,
        },
    }
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = ROOT_MODELS.build(config)
    config = sgd(exclude=["bbox_head.retina_cls.weight"])
    wrapper = build_optim_wrapper(model, config)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    with wrapper.optim_context(model):
        pass
    wrapper._clip_grad()
    left = [n for n, p in model.named_parameters() if (p.grad == 1).all()]
    assert left == ["bbox_head.retina_cls.weight"]
    block = model.backbone.stages[0][0]
    assert block.conv2.gain.grad.unique().numel() == 1  # one unit, not one a channel
    rows = block.conv2.weight.flatten(1).norm(dim=1).clamp(min=1e-3)
    torch.testing.assert_close(
        block.conv2.weight.grad.flatten(1).norm(dim=1), 0.01 * rows
    )


def test_mistakes():
    model = toy()
    wrapper = build_optim_wrapper(model, sgd(exclude=["head.cls"]))
    with pytest.raises(ValueError, match=r"got 'head.cls', which is in no name"):
        model.train_step(batch(), wrapper)
    with pytest.raises(ValueError, match=r"exclude must be a list .*got 'head'"):
        build_optim_wrapper(model, sgd(exclude="head"))
    wrapper = build_optim_wrapper(model, sgd())
    with pytest.raises(RuntimeError, match=r"expected optim_context\(model\)"):
        wrapper.update_params(model(**batch())["loss"])


def test_names_are_registered():
    for kind in ("AGC", "SAM"):
        for wrapper in ("OptimWrapper", "AmpOptimWrapper", "BFloat16OptimWrapper"):
            assert OPTIM_WRAPPERS.get(f"mmrev.{kind}{wrapper}") is not None


# Of a layer's weight, bias and the like; groups of a transposed convolution.
SHARDED = [
    ((5, 3, 3, 3), None),
    ((3, 6), None),
    ((1, 4, 3, 3), None),
    ((7,), None),
    ((1,), None),
    ((1, 5, 1, 1), None),
    ((6, 2, 3, 3), 2),
    ((3, 4, 2, 2), 1),
]


def parameters_to_shard():
    generator = torch.Generator().manual_seed(0)
    for shape, _ in SHARDED:
        parameter = nn.Parameter(torch.randn(shape, generator=generator))
        parameter.grad = torch.randn(shape, generator=generator)
        yield parameter


def clipped_in_parts(rank):
    mesh = init_device_mesh("cpu", (2,))
    parts = []
    for whole in parameters_to_shard():
        part = nn.Parameter(distribute_tensor(whole.detach(), mesh, [Shard(0)]))
        part.grad = distribute_tensor(whole.grad, mesh, [Shard(0)])
        parts.append(part)
    groups = [groups for _, groups in SHARDED]
    clip_all_units_(zip(parts, groups, strict=True), 0.01, 1e-3)
    return [part.grad.full_tensor() for part in parts]


def test_units_of_sharded_weights_are_those_of_whole_ones(process_pair):
    wholes = list(parameters_to_shard())
    before = [whole.grad.clone() for whole in wholes]
    for whole, (_, groups) in zip(wholes, SHARDED, strict=True):
        clip_units_(whole, 0.01, 1e-3, groups)
    for found in process_pair.run(clipped_in_parts):
        for one, whole, was in zip(found, wholes, before, strict=True):
            torch.testing.assert_close(one, whole.grad)
            assert not torch.allclose(one, was)
