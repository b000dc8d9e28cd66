"""Every route trains in the memory modes of its anchors, with the same gradients."""

import copy
from functools import partial

import pytest
import torch
from test_stitched_backbone import PYRAMID, resnet, revcol, swin, swin_v2, timm, vit
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile

from mmrev.models.stitching import StitchedBackbone, stitched_backbone
from mmrev.models.stitching.counts import count_stitch_params, stitch_flops
from mmrev.models.stitching.fit import features
from mmrev.models.stitching.routes import segments

START, MOVED = (1.0, 0.0), (0.6, 0.4)
DROPS = dict(drop_path_rate=0.3)
IN_STAGE_2 = dict(stages=(2,), monotone=True)
PLAIN = dict(routes=dict(stages=(0,), monotone=True), pyramid=PYRAMID)


def mae(dims):
    sizes = dict(img_size=(32, 32), patch_size=8, embed_dims=dims, mlp_ratio=2)
    return dict(type="mmseg.MAE", num_layers=4, num_heads=2, **sizes, **DROPS)


def swin_with_drops(place, dims):
    arch = swin(place, dims, 4)
    return arch | DROPS | {"with_cp": place == "mmseg"}


def batch_norm(place, **settings):
    return [resnet(place, 34) | settings, resnet(place, 50) | settings]


def nfnet(width):
    arch = dict(channels=[width] * 4, depths=[1, 1, 4, 1], group_width=8)
    return dict(type="mmrev.NFNet", arch=arch, skip_gain_init_value=0.5, **DROPS)


def reducenet(width):
    arch = dict(channels=[width] * 4, depths=[1, 1, 5, 1], expansion=1)
    return dict(type="mmrev.ReduceNet", arch=arch, **DROPS)


def basic(stages):
    """A ResNet of timm that has five blocks in stage 2."""
    return timm("resnet18", layers=stages, channels=(8, 8, 16, 16), **DROPS)


OTHERS = {
    "mmdet swin": dict(
        anchors=[swin_with_drops("mmdet", dims) for dims in (8, 16)], routes=IN_STAGE_2
    ),
    "mmseg swin": dict(
        anchors=[swin_with_drops("mmseg", dims) for dims in (8, 16)], routes=IN_STAGE_2
    ),
    "mmpretrain swin": dict(
        anchors=[swin_with_drops("mmpretrain", dims) for dims in (8, 16)],
        routes=IN_STAGE_2,
    ),
    "mmdet resnet": dict(
        anchors=batch_norm("mmdet", norm_eval=False), routes=IN_STAGE_2
    ),
    "mmseg resnet": dict(
        anchors=batch_norm("mmseg", norm_eval=True, frozen_stages=1), routes=IN_STAGE_2
    ),
    "mmpretrain resnet": dict(
        anchors=batch_norm("mmpretrain", **DROPS), routes=IN_STAGE_2
    ),
    "vit": dict(
        anchors=[
            vit(dims, **DROPS) | {"arch": arch}
            for dims in (8, 16)
            for arch in [vit(dims)["arch"] | {"num_layers": 4}]
        ],
        **PLAIN,
    ),
    "mae": dict(anchors=[mae(8), mae(16)], **PLAIN),
    "timm resnet": dict(
        anchors=[basic((1, 1, 5, 1)), basic((2, 1, 5, 1))], routes=IN_STAGE_2
    ),
    "timm efficientnet": dict(
        anchors=[timm(f"tf_efficientnet_lite{i}", **DROPS) for i in (0, 1)],
        routes=dict(stages=(5,), monotone=True),
    ),
}
OWN = {
    "swin v2": [swin_v2(dims, 4) | DROPS | {"coupling": "dual"} for dims in (8, 16)],
    "swin v2, two streams": [
        swin_v2(dims, 4) | DROPS | {"coupling": "two-stream"} for dims in (8, 16)
    ],
    "nfnet": [nfnet(width) | {"coupling": "dual"} for width in (16, 24)],
    "reducenet": [reducenet(width) | {"coupling": "dual"} for width in (8, 16)],
    "revcol": [revcol(width, 4) | DROPS for width in (4, 8)],
}
QUICK = ("mmdet swin", "mmdet resnet", "vit", "mae", "timm resnet", "timm efficientnet")
each_kind = pytest.mark.parametrize(
    "name",
    [
        name
        if name in QUICK
        else pytest.param(name, marks=[pytest.mark.slow, pytest.mark.ci])
        for name in OTHERS
    ],
)
each_family = pytest.mark.parametrize("name", OWN)


def build(name, coefficients=None, **settings):
    """A model in training mode of which every weight counts."""
    torch.manual_seed(0)
    routes = IN_STAGE_2 | ({"stages": (0,)} if name == "revcol" else {})
    whole = OTHERS.get(name) or dict(anchors=OWN[name], routes=routes)
    model = StitchedBackbone(**copy.deepcopy(whole), **settings)
    for parameter in model.parameters():
        if parameter.ndim < 2:
            nn.init.normal_(parameter, 1.0 if parameter.ndim else 0.5, 0.1)
    if coefficients:
        move(model, coefficients)
    return model.train()


def move(model, coefficients):
    """As `mmrev.CouplingHook` does."""
    moved = [m for m in model.modules() if getattr(m, "coupling", None) == "dual"]
    for module in moved:
        module.coefficients.copy_(torch.tensor(coefficients))
    return moved


def image(model, batch=2):
    side = 32 if type(model.anchors[0]).__name__ == "MAE" else 64
    return torch.randn(batch, 3, side, side)


def autocast(enabled):
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled)


def gradients(model, x, amp=False, between=None):
    """Levels, gradients of the image and of all parameters, and buffers after."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    x = x.clone().requires_grad_()
    model.zero_grad()
    torch.manual_seed(3)
    with autocast(amp):
        levels = model(x)
    if between:
        between(model)
    sum((level.float() ** 3).mean() for level in levels).backward()
    found = {f"level {i}": level.detach() for i, level in enumerate(levels)}
    found |= {"image": x.grad, "random": torch.rand(1)}
    found |= {name: parameter.grad for name, parameter in model.named_parameters()}
    for name, buffer in model.named_buffers():
        found[f"{name} after"] = buffer.clone()
        buffer.copy_(buffers[name])
    return found


def differing(found, expected):
    assert found.keys() == expected.keys()
    return [
        name
        for name, value in expected.items()
        if (found[name] is None) != (value is None)
        or (value is not None and not torch.equal(found[name], value))
    ]


def held(model, x):
    """Bytes that are there between the two passes and were not before."""
    model = copy.deepcopy(model)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        levels = model(x)
    assert levels
    return sum(event.nbytes() for event in profiler.profiler.kineto_results.events())


@each_kind
@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("coefficients", [START, MOVED])
def test_every_mode_has_the_gradients_of_store(name, amp, coefficients):
    plain = build(name)
    model = build(name, coefficients, coupling="dual")
    x = image(model)
    for stitch in (len(model.routes) - 2, 1):
        for one in (plain, model):
            one.set_stitch(stitch)
        model.memory = "store"
        expected = gradients(model, x, amp)
        torch.manual_seed(3)
        with autocast(amp), torch.no_grad():
            ordinary = copy.deepcopy(plain)(x)
        same = [
            torch.equal(level, expected[f"level {i}"])
            for i, level in enumerate(ordinary)
        ]
        # The ordinary network, and, when coefficients have moved, another one.
        assert all(same) if coefficients == START else not same[-1]
        for memory in ("recompute", "reverse"):
            model.memory = memory
            assert not differing(gradients(model, x, amp), expected)


@each_kind
def test_recomputing_needs_no_coupling(name):
    models = [build(name), build(name, memory="recompute")]
    x = image(models[0])
    for model in models:
        model.set_stitch(len(model.routes) - 1)
    assert not differing(*(gradients(model, x) for model in models))
    assert held(models[1], x) < held(models[0], x)


@each_family
@pytest.mark.parametrize("amp", [False, True])
def test_anchors_of_mmrev_train_in_modes_of_their_own(name, amp):
    model = build(name, MOVED)
    x = image(model)
    assert model.memory == "store" and not hasattr(model, "coefficients")
    for stitch in model.stitch_ids:
        model.set_stitch(stitch)
        expected, sizes = None, {}
        for memory in ("store", "recompute", "reverse"):
            for anchor in model.anchors:
                anchor.set_memory(memory)
            found = gradients(model, x, amp)
            assert not differing(found, expected or found)
            expected = found
            sizes[memory] = held(model, x)
        assert sizes["recompute"] < sizes["store"]


def test_anchors_of_mmrev_beside_others():
    anchors = [OTHERS["mmdet resnet"]["anchors"][1], OWN["swin v2"][1]]
    anchors[1] = anchors[1] | {"memory": "reverse"}
    torch.manual_seed(0)
    settings = dict(routes=IN_STAGE_2, memory="recompute", coupling="dual")
    model = StitchedBackbone(copy.deepcopy(anchors), **settings).train()
    assert move(model, MOVED) == [model, model.anchors[1]]
    model.set_stitch(len(model.routes) - 1)
    x = image(model)
    found = gradients(model, x)
    model.memory = "store"
    model.anchors[1].set_memory("store")
    assert not differing(found, gradients(model, x))


def deep(name):
    """A stage of many blocks."""
    if name == "swin":
        arch = swin("mmdet", 8, 12)
        return dict(anchors=[arch] * 2, routes=IN_STAGE_2)
    if name == "vit":
        arch = vit(8)["arch"] | {"num_layers": 12}
        return dict(anchors=[vit(8) | {"arch": arch}] * 2, **PLAIN)
    return dict(anchors=[basic((1, 1, 12, 1))] * 2, routes=IN_STAGE_2)


@pytest.mark.parametrize("name", ["swin", "vit", "resnet"])
def test_reversal_keeps_least(name):
    model = StitchedBackbone(**copy.deepcopy(deep(name)), coupling="dual").train()
    move(model, (0.5, 0.5))
    x = torch.randn(2, 3, 128, 128)
    # The front's first block, and all but two of the end's.
    model.set_stitch(2)
    sizes = {}
    for memory in ("store", "recompute", "reverse"):
        model.memory = memory
        sizes[memory] = held(model, x)
    assert sizes["reverse"] < sizes["recompute"] < sizes["store"]


def test_a_copy_has_modes_of_its_own():
    model = build("vit", MOVED, coupling="dual")
    twin = copy.deepcopy(model)
    twin.coefficients.copy_(torch.tensor(START))
    twin.memory = "reverse"
    assert model.memory == "store"
    assert all(runner.modes.owner is twin for runner in twin.runners)
    x = image(model)
    assert differing(gradients(twin, x), gradients(model, x))


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit", "mmdet resnet"])
def test_a_chain_starts_anew_behind_a_stitch(name):
    model = build(name, MOVED, coupling="dual").eval()
    model.pyramid = None
    last = len(model.runners[0].channels) - 1
    model.out_indices = (last,)
    (a, b), x = MOVED, image(model)
    for stitch in range(1, len(model.routes)):
        model.set_stitch(stitch)
        route = model.routes[stitch]
        state = model.runners[route.anchors[0]].stem(x)
        for index, stage, start, stop, crossing in segments(route, model.depths):
            anchor = model.runners[index]
            value, *size = state if isinstance(state, tuple) else (state,)
            older = value
            for block in list(anchor.blocks(stage))[start:stop]:
                if anchor.couples(block):
                    new = block(value) + (a - 1) * value + b * older
                    older, value = value, new
                else:
                    older = value = block(value)
            state = (value, *size) if size else value
            if crossing is not None:
                state = model._cross(crossing, anchor.leave(state), x)
        expected = model._level(route.anchors[-1], last, state)
        torch.testing.assert_close(model(x)[0], expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit", "mmpretrain resnet", *OWN])
def test_the_features_to_fit_to_are_those_of_whole_stages(name):
    """Which blocks run one by one do not have, where coefficients have moved."""
    model = build(name, MOVED, coupling=None if name in OWN else "dual").eval()
    x = image(model)
    for anchor in model.runners:
        after, _ = features(anchor, x)
        state = anchor.stem(x)
        for stage, depth in enumerate(anchor.depths):
            state = anchor.run(state, stage, 0, depth)
            for found, expected in zip(
                after[stage, depth - 1], anchor.leave(state), strict=True
            ):
                assert torch.equal(found.values, expected.values)


def test_another_stitch_may_be_chosen_before_the_backward_pass():
    model = build("mmdet swin", MOVED, coupling="dual", memory="reverse")
    x = image(model)
    model.set_stitch(2)
    expected = gradients(model, x)
    for other in model.stitch_ids:
        model.set_stitch(2)
        change = partial(StitchedBackbone.set_stitch, stitch=other)
        found = gradients(model, x, between=change)
        assert not differing(found, expected)


def test_two_stitches_before_one_backward_pass():
    model = build("vit", MOVED, coupling="dual")
    x, found = image(model), []
    for memory in ("store", "reverse"):
        twin = copy.deepcopy(model)
        twin.memory = memory
        torch.manual_seed(0)
        loss = 0
        for stitch in (1, 3):
            twin.set_stitch(stitch)
            loss += sum(level.square().mean() for level in twin(x))
        loss.backward()
        found.append({name: p.grad for name, p in twin.named_parameters()})
    assert not differing(*found)


def test_coefficients_must_not_move_before_the_backward_pass():
    model = build("vit", MOVED, coupling="dual", memory="reverse")
    with pytest.raises(RuntimeError, match="gain was replaced or changed in place"):
        gradients(model, image(model), between=partial(move, coefficients=START))


@pytest.mark.parametrize("name", ["mmdet swin", "mmdet resnet", "vit"])
def test_frozen_anchors(name):
    model = build(name, MOVED, coupling="dual")
    model.anchors.requires_grad_(False)
    model.anchors.eval()
    model.set_stitch(3)
    x = image(model)
    expected = gradients(model, x)
    trained = [key for key, value in expected.items() if ".weight" in key]
    trained = [key for key in trained if expected[key] is not None]
    assert any("stitches" in key for key in trained)
    assert not any("anchors" in key and "running" not in key for key in trained)
    model.memory = "reverse"
    assert not differing(gradients(model, x), expected)


def test_a_checkpoint_keeps_the_coefficients():
    source, x = build("vit", MOVED, coupling="dual"), torch.randn(2, 3, 64, 64)
    weights = source.state_dict()
    target = build("vit", coupling="dual")
    target.load_state_dict(weights)
    assert torch.equal(target.coefficients, torch.tensor(MOVED))
    assert not differing(gradients(target, x), gradients(source, x))
    # One from before, or of an ordinary network, is the start.
    del weights["coefficients"]
    target.load_state_dict(weights)
    assert torch.equal(target.coefficients, torch.tensor(START))


def test_an_ordinary_network_takes_no_moved_coefficients():
    weights = build("vit", coupling="dual").state_dict()
    build("vit").load_state_dict(weights)
    weights["coefficients"] = torch.tensor(MOVED)
    with pytest.raises(ValueError, match=r"StitchedBackbone: .*a, b = .*'dual'"):
        build("vit").load_state_dict(weights)


@torch.no_grad()
@pytest.mark.parametrize("name", ["mmdet swin", "timm resnet"])
def test_a_stitch_alone_keeps_the_coefficients(name):
    settings = dict(coupling="dual", memory="reverse")
    whole = build(name, MOVED, **settings).eval()
    x = image(whole)
    for stitch in whole.stitch_ids:
        alone = build(name, **settings, only=stitch)
        weights = whole.state_dict()
        alone.load_state_dict({key: weights[key] for key in alone.state_dict()})
        whole.set_stitch(stitch)
        assert all(map(torch.equal, alone.eval()(x), whole(x)))


@pytest.mark.parametrize("name", ["mmdet swin", "timm efficientnet"])
def test_a_coupling_costs_no_parameters_and_no_operations(name):
    plain = build(name)
    coupled = build(name, MOVED, coupling="dual", memory="reverse")
    ids = list(plain.stitch_ids)
    for model in (plain, coupled):
        model.counts = [count_stitch_params(model, stitch) for stitch in ids]
    assert coupled.counts == plain.counts
    assert stitch_flops(coupled, ids, 64) == stitch_flops(plain, ids, 64)
    assert torch.equal(coupled.coefficients, torch.tensor(MOVED))


def test_what_is_too_short_is_said(monkeypatch):
    said = []
    monkeypatch.setattr(
        stitched_backbone, "print_log", lambda message, logger: said.append(message)
    )
    build("mmdet resnet", coupling="dual", memory="recompute")
    assert not said
    build("mmdet resnet", coupling="dual", memory="reverse")
    (message,) = said
    # Blocks of ResNet-34: 3, 4, 6, 3; the first of stages 1 to 3 does not couple.
    stages = "3 of anchor 0 and 0, 3 of anchor 1"
    assert f"nothing in stage {stages}, whose chains have less than 3" in message


def work(rank, memory):
    model = DistributedDataParallel(build("timm resnet", MOVED, coupling="dual"))
    model.module.memory = memory
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    torch.manual_seed(rank)
    for stitch in (2, 0):
        model.module.set_stitch(stitch)
        optimizer.zero_grad()
        x = torch.randn(2, 3, 64, 64)
        sum(level.square().mean() for level in model(x)).backward()
        optimizer.step()
    return model.module.state_dict()


def test_two_processes_train_alike_in_every_mode(process_pair):
    expected = process_pair.run(work, "store")
    for memory in ("recompute", "reverse"):
        for found, store in zip(process_pair.run(work, memory), expected, strict=True):
            assert not differing(found, store)


@pytest.mark.parametrize(
    ("anchors", "settings", "message"),
    [
        ("mmdet swin", dict(memory="disk"), "one of store, recompute, .* got 'disk'"),
        ("mmdet swin", dict(memory=["store"] * 4), "one of store, recompute, reverse"),
        (
            "mmdet swin",
            dict(memory="reverse"),
            "needs coupling='dual'.*got None.*'recompute' does without",
        ),
        ("mmdet swin", dict(coupling="triple"), "None or 'dual', got 'triple'"),
        (
            "mmdet swin",
            dict(coupling="two-stream", memory="reverse"),
            "got 'two-stream': anchors are pretrained",
        ),
        (
            "nfnet",
            dict(memory="recompute"),
            "for anchors of other toolboxes, got memory='recompute', coupling=None and "
            "NFNet, NFNet of mmrev. Set both in each",
        ),
        ("revcol", dict(coupling="dual"), "of other toolboxes, got .* RevCol, RevCol"),
    ],
)
def test_modes_that_anchors_do_not_have(anchors, settings, message):
    with pytest.raises(ValueError, match=message):
        build(anchors, **settings)


def test_anchors_that_would_plan_for_themselves():
    planned = nfnet(16) | {"memory": "auto", "memory_budget_mb": 100}
    anchors = [copy.deepcopy(planned) for _ in range(2)]
    with pytest.raises(ValueError, match=r"NFNet has memory='auto'.*Set one of store"):
        StitchedBackbone(anchors, IN_STAGE_2)


def test_anchors_without_an_invertible_form():
    shallow = timm("resnet18", layers=(1, 1, 1, 1), channels=(8, 16, 16, 16))
    whole = dict(anchors=[shallow] * 2, routes=dict(stages=(), monotone=True))
    with pytest.raises(ValueError, match=r"blocks that add .*got TIMMBackbone.*recomp"):
        StitchedBackbone(**copy.deepcopy(whole), coupling="dual")
