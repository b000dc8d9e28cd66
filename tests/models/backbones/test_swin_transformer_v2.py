"""Swin-V2: equality with timm, mmpretrain and brute force; caches; memory; settings."""

import copy
import math
from types import SimpleNamespace

import pytest
import timm
import torch
from mmengine.hooks import EMAHook
from mmengine.optim import build_optim_wrapper
from mmpretrain.models import SwinTransformerV2 as MMPretrainSwin
from tolerances import assert_close
from torch import nn

from mmrev.checkpoints import convert_state_dict, save_state_dict
from mmrev.errors import one_line_errors
from mmrev.measure.flops import count_flops
from mmrev.measure.memory import peak_memory
from mmrev.models.backbones.swin_transformer_v2 import (
    ARCHITECTURES,
    Block,
    PostNorm,
    ShiftedWindows,
    SwinTransformerV2,
    WindowAttention,
    _Attend,
    _axis,
    _mask,
)
from mmrev.models.layers.moe import activated_parameters

SMALL = {"embed_dims": 16, "depths": [2, 2, 3, 2], "num_heads": [1, 2, 2, 4]}
TINY = {"embed_dims": 8, "depths": [2, 1, 2, 1], "num_heads": [1, 1, 2, 2]}

# Counted in the reference, microsoft/Swin-Transformer @f82860b, and for H and G in
# mmpretrain 1.3.6, without heads and norms of levels.
PARAMETERS = {
    "tiny": 27_576_618,
    "small": 48_957_882,
    "base": 86_891_768,
    "large": 195_199_860,
    "huge": 655_069_072,
    "giant": 2_997_835_488,
}


def small(**settings):
    torch.manual_seed(0)
    model = SwinTransformerV2(**{"arch": SMALL, "window_size": 4, **settings})
    return awake(model)


def awake(model):
    """Give every branch a weight: they start at 0."""
    for name, value in model.named_parameters():
        if value.ndim == 1 and name.endswith("weight"):
            nn.init.uniform_(value, 0.5, 1.5)
        elif "logit_scale" not in name:
            nn.init.normal_(value, std=0.1)
    return model


def fill_from(model, reference):
    """Fill a model with a reference's weights, through the converter."""
    weights = convert_state_dict(reference.state_dict())
    own = model.state_dict()
    weights = {k: v for k, v in weights.items() if k in own}
    model.load_state_dict(weights, strict=True)
    return model.eval()


@pytest.mark.parametrize("arch", PARAMETERS)
def test_parameters(arch):
    with torch.device("meta"):
        model = SwinTransformerV2(arch)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[arch]


def test_flops_count_attention_and_position_bias():
    """Everything but the elementwise work, for one map of one stage."""
    attention = ShiftedWindows(
        WindowAttention(32, 2, 4), 4, True, "seen", "shrink", None, "store"
    )
    counted = count_flops(attention, torch.randn(2, 10, 7, 32))
    tokens = 2 * 12 * 8
    linear = tokens * 32 * (3 * 32 + 32)
    products = 2 * tokens * 16 * 32
    bias = 7 * 7 * (2 * 512 + 512 * 2)
    assert counted == linear + products + bias


def brute_force(module, x, shift):
    """Attention over all tokens of the padded map at once, by what the paper says.

    A token sees those in its window, a cell of a grid that starts ``shift`` before the
    map; a window that the map's border cuts is not completed from the other side.
    """
    attention, side = module.attention, module.window_size
    batch, *sides, channels = x.shape
    padded = [length + -length % side for length in sides]
    full = x.new_zeros(batch, *padded, channels)
    full[:, : sides[0], : sides[1]] = x
    rows, columns = torch.meshgrid(*map(torch.arange, padded), indexing="ij")
    rows, columns = rows.flatten(), columns.flatten()
    cell = (rows - shift) // side * 1000 + (columns - shift) // side
    seen = cell[:, None] == cell
    if module.padded_keys == "masked":
        real = (rows < sides[0]) & (columns < sides[1])
        seen &= real | ~real[:, None]

    heads = len(attention.logit_scale)
    tokens = full.flatten(1, 2)
    q, k, v = (
        (tokens @ weight.T + bias).unflatten(2, (heads, -1)).transpose(1, 2)
        for weight, bias in zip(
            attention.qkv.weight.chunk(3),
            (attention.q_bias, 0, attention.v_bias),
            strict=True,
        )
    )
    cosine = torch.cosine_similarity(q[:, :, :, None], k[:, :, None], dim=-1)
    scale = attention.logit_scale.exp().clamp(max=100)
    offsets = torch.stack(
        [rows[:, None] - rows, columns[:, None] - columns], -1
    ).double()
    offsets = 8 * offsets / (attention.pretrained_window - 1)
    logged = offsets.sign() * torch.log(1 + offsets.abs()) / math.log(8)
    first, _, second = attention.cpb_mlp
    hidden = (logged @ first.weight.T + first.bias).relu()
    bias = 16 * (hidden @ second.weight.T).sigmoid().permute(2, 0, 1)
    logits = (cosine * scale + bias).masked_fill(~seen, -math.inf)
    result = (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)
    result = attention.proj(result).unflatten(1, padded)
    return result[:, : sides[0], : sides[1]]


@pytest.mark.parametrize(
    ("size", "padded_keys", "shifted", "windows_at_once"),
    [  # every pair of settings
        ((8, 12), "seen", False, None),
        ((8, 12), "masked", True, 3),
        ((9, 5), "seen", True, None),
        ((9, 5), "masked", False, 3),
        ((13, 7), "seen", False, 3),
        ((13, 7), "masked", True, None),
        ((6, 10), "seen", True, 3),
        ((6, 10), "masked", False, None),
        ((11, 17), "seen", True, None),
        ((11, 17), "masked", False, 3),
    ],
)
def test_odd_sizes_against_brute_force(padded_keys, shifted, size, windows_at_once):
    """All remainders of the window, and padding that the roll moves to 2 windows."""
    torch.manual_seed(0)
    module = ShiftedWindows(
        WindowAttention(8, 2, 3), 4, shifted, padded_keys, "pad", windows_at_once,
        "store",
    )  # fmt: skip
    awake(module).double()
    # Some beyond ln 100; but there the reference's mask, -100, lets something through.
    largest = 3.0 if shifted else 4.9
    nn.init.uniform_(module.attention.logit_scale, 2.0, largest)
    x = torch.randn(2, *size, 8, dtype=torch.double, requires_grad=True)
    expected = brute_force(module, x, 2 if shifted else 0)
    direction = torch.randn_like(expected)
    weights = [x, *module.parameters()]
    expected_gradients = torch.autograd.grad((expected * direction).sum(), weights)
    actual = module(x)
    assert_close(actual, expected)
    gradients = torch.autograd.grad((actual * direction).sum(), weights)
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        assert_close(gradient, expected)
    with torch.no_grad():
        assert_close(module(x), actual)


@pytest.fixture
def padded_windows():
    torch.manual_seed(0)
    module = ShiftedWindows(
        WindowAttention(8, 2, 3), 4, True, "masked", "pad", None, "store"
    )
    return awake(module)


@pytest.mark.parametrize("autocast", [False, True])
def test_compiles_as_one_graph_with_equal_gradients(padded_windows, autocast):
    x = torch.randn(2, 7, 9, 8, requires_grad=True)
    weights = [x, *padded_windows.parameters()]

    def gradients(function):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return torch.autograd.grad(function(x).float().square().sum(), weights)

    expected = gradients(padded_windows)
    compiled = torch.compile(padded_windows, backend="eager", fullgraph=True)
    for own, other in zip(gradients(compiled), expected, strict=True):
        assert_close(own, other, torch.bfloat16 if autocast else None)


def test_exports_for_any_batch_of_one_size(padded_windows):
    example = (torch.randn(2, 7, 9, 8),)
    batch, height = torch.export.Dim("batch"), torch.export.Dim("height")
    module = torch.export.export(
        padded_windows, example, dynamic_shapes=({0: batch},)
    ).module()
    x = torch.randn(3, 7, 9, 8)
    assert_close(module(x), padded_windows(x))
    with pytest.raises(ValueError, match="one size to export, got dynamic sides"):
        torch.export.export(padded_windows, example, dynamic_shapes=({1: height},))


def test_masked_padding_is_not_seen():
    module = ShiftedWindows(
        WindowAttention(8, 2, 4), 4, True, "masked", "pad", None, "store"
    )
    awake(module)
    x = torch.randn(1, 7, 5, 8)
    expected = module(x)
    nn.init.normal_(module.attention.v_bias)  # what padding would add
    changed = module(x) - expected
    # Attention weights sum to 1, so that the bias of real keys adds itself.
    by_bias = module.attention.v_bias @ module.attention.proj.weight.T
    before = expected.new_zeros(8) + by_bias
    assert changed.std(dim=(0, 1, 2)).max() < 1e-5 * before.abs().max()


@pytest.mark.parametrize(
    ("size", "window", "pretrained"),
    [
        ((128, 128), (4, 4, 4, 4), (0, 0, 0, 0)),
        ((64, 64), (4, 4, 4, 2), (4, 4, 4, 2)),  # stages 3 and 4 are one window
        ((64, 64), (8, 8, 4, 2), (6, 6, 6, 3)),
        ((96, 192), (6, 3, 2, 3), (0, 0, 0, 0)),
        ((64, 192), (8, 4, 8, 2), (5, 5, 5, 5)),  # stage 3 shrinks to 4 x 8
    ],
)
def test_equals_timm(size, window, pretrained):
    """Where no map is padded: timm's mask is wrong where one is."""
    reference = awake(
        timm.models.swin_transformer_v2.SwinTransformerV2(
            img_size=size, window_size=window, pretrained_window_sizes=pretrained,
            embed_dim=16, depths=SMALL["depths"], num_heads=SMALL["num_heads"],
        )
    ).eval()  # fmt: skip
    model = small(window_size=window, pretrained_window_sizes=pretrained)
    fill_from(model, reference)
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = reference.forward_intermediates(x, intermediates_only=True)
        for level, other in zip(model(x), expected, strict=True):
            assert_close(level, other)


@pytest.mark.parametrize(
    ("size", "window", "pretrained", "extra_norm", "small_maps"),
    [
        ((160, 192), (4, 4, 4, 4), (0, 0, 0, 0), 0, "shrink"),
        ((131, 165), (4, 4, 4, 4), (8, 8, 8, 4), 2, "shrink"),
        ((201, 150), (8, 8, 4, 4), (12, 12, 12, 6), 3, "pad"),
        ((128, 128), (4, 4, 4, 4), (0, 0, 0, 0), 2, "pad"),  # stage 4 is one window
        ((67, 93), (9, 8, 5, 4), (0, 0, 0, 0), 0, "pad"),  # or less, all but stage 1
    ],
)
def test_equals_mmpretrain(size, window, pretrained, extra_norm, small_maps):
    """Gradients, too. Of small maps it has the one form only."""
    arch = SMALL | {"extra_norm_every_n_blocks": extra_norm}
    reference = MMPretrainSwin(
        arch=arch, window_size=window, pretrained_window_sizes=pretrained,
        pad_small_map=small_maps == "pad", drop_path_rate=0.0,
        out_indices=(0, 1, 2, 3), norm_cfg=None,
    )  # fmt: skip
    awake(reference)
    reference.eval()
    model = small(
        arch=arch,
        window_size=window,
        pretrained_window_sizes=pretrained,
        small_maps=small_maps,
    )
    fill_from(model, reference)
    x = torch.randn(2, 3, *size)
    levels, expected = model(x), reference(x)
    for level, other in zip(levels, expected, strict=True):
        assert_close(level, other)
    for outputs in (levels, expected):
        sum((level**2).mean() for level in outputs).backward()
    gradients = {
        name: p.grad for name, p in reference.named_parameters() if p.grad is not None
    }
    own = dict(model.named_parameters())
    for name, other in convert_state_dict(gradients).items():
        if name != "pretrained_windows":
            assert_close(own[name].grad, other)


def test_attention_gradients_in_fp64():
    torch.manual_seed(0)
    inputs = [torch.randn(5, 2, 4, 3, dtype=torch.double) for _ in range(3)]
    inputs.append(torch.randn(2, 4, 4, dtype=torch.double))
    mask = torch.zeros(4, 4, dtype=torch.double)
    mask[0, 1:] = -math.inf
    groups = ((3, None), (5, mask))

    def attend(*inputs):
        return _Attend.apply(*inputs, groups)

    for tensor in inputs:
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(attend, inputs)


def test_no_gradient_from_padding():
    """Zero queries and keys: fp16 would make NaN of the reference's gradients."""
    module = ShiftedWindows(
        WindowAttention(8, 2, 4), 4, False, "seen", "pad", None, "store"
    )
    x = torch.randn(1, 5, 5, 8)
    x[:, 2] = 0  # and of zero tokens; the biases start at 0
    x.requires_grad_()
    module(x).sum().backward()
    for tensor in (x, *module.parameters()):
        assert tensor.grad.abs().max() < 1e3


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(
    "mode",
    [
        {"memory": "recompute"},
        {"with_cp": True},
        {"windows_at_once": 1},
        {"windows_at_once": 3, "memory": "recompute"},
    ],
    ids=str,
)
def test_memory_modes_agree(mode, autocast):
    image = torch.randn(2, 3, 61, 70)
    settings = {
        "arch": {**TINY, "extra_norm_every_n_blocks": 2},
        "drop_path_rate": 0.3,
        "out_norm": "layer_norm",
    }

    def gradients(**mode):
        model = small(**settings, **mode)
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            levels = model(image)
        sum((level.float() ** 2).mean() for level in levels).backward()
        return {name: p.grad for name, p in model.named_parameters()}

    expected = gradients()
    for name, gradient in gradients(**mode).items():
        if autocast:
            # The sum over windows runs in another order.
            assert_close(gradient, expected[name], torch.bfloat16)
        else:
            assert_close(gradient, expected[name])


SHARED = {"arch": SMALL, "position_bias": "stage"}


def bias_networks(model):
    """Each attention's, stage by stage."""
    return [
        [m.cpb_mlp for m in stage.modules() if isinstance(m, WindowAttention)]
        for stage in model.stages
    ]


def test_a_bias_that_blocks_share_counts_once():
    model, apart = small(**SHARED), small(**{**SHARED, "position_bias": "block"})
    networks = bias_networks(model)
    assert [len(set(stage)) for stage in networks] == [1, 1, 1, 1]
    sizes = [sum(p.numel() for p in stage[0].parameters()) for stage in networks]
    spared = sum((len(s) - 1) * size for s, size in zip(networks, sizes, strict=True))
    counts = [sum(p.numel() for p in m.parameters()) for m in (apart, model)]
    assert counts[0] - counts[1] == spared
    names = [name for name, _ in model.named_parameters() if "stages.2." in name]
    assert {name.split(".")[2] for name in names if "cpb_mlp" in name} == {"0"}


@pytest.mark.parametrize(
    "mode",
    [
        {"memory": "store"},
        {"memory": "recompute"},
        {"memory": "store", "coupling": "dual"},
        {"memory": "reverse", "coupling": "dual"},
    ],
    ids=str,
)
def test_gradients_of_a_shared_bias_are_those_of_its_blocks_together(mode):
    image = torch.randn(2, 3, 40, 40)

    def gradients(position_bias, weights=None):
        model = small(**{**SHARED, "position_bias": position_bias}, **mode)
        if mode.get("coupling"):
            model.coefficients.copy_(torch.tensor([0.8, 0.2]))
        if weights is not None:
            model.load_state_dict(weights)
        sum((level**2).mean() for level in model(image)).backward()
        return model

    shared = gradients("stage")
    apart = gradients("block", shared.state_dict())
    for own, others in zip(bias_networks(shared), bias_networks(apart), strict=True):
        for name, parameter in own[0].named_parameters():
            parts = [network.get_parameter(name).grad for network in others]
            assert_close(parameter.grad, sum(parts))


def test_weights_of_a_shared_bias_fit_blocks_and_not_the_other_way(tmp_path):
    shared, image = small(**SHARED).eval(), torch.randn(1, 3, 40, 40)
    path = tmp_path / "shared.pth"
    save_state_dict(shared.state_dict(), path)
    init = {"type": "Pretrained", "checkpoint": str(path)}
    for position_bias in ("block", "stage"):
        other = SwinTransformerV2(
            SMALL, window_size=4, position_bias=position_bias, init_cfg=init
        )
        other.init_weights()
        for level, expected in zip(other.eval()(image), shared(image), strict=True):
            assert torch.equal(level, expected)
    apart = small(arch=SMALL)
    message = r"one network of .* a stage, got stages\.0\.0.* and stages\.0\.1.*'block'"
    with pytest.raises(ValueError, match=message):
        shared.load_state_dict(apart.state_dict())


def test_blocks_that_share_weights_are_not_sharded(capsys):
    with pytest.raises(ValueError, match=r"which FSDP2 cannot shard\. .*='block'"):
        small(**SHARED).units()
    with pytest.raises(SystemExit):  # a tool says it in one line
        one_line_errors(small(**SHARED).units)()
    assert capsys.readouterr().err.startswith("error: SwinTransformerV2: position_bias")


@pytest.mark.ci
@pytest.mark.slow
def test_memory_modes_need_less():
    def peak(**mode):
        model = small(
            arch={"embed_dims": 32, "depths": [2, 2, 6, 2], "num_heads": [1, 2, 4, 8]},
            window_size=8,
            **mode,
        )
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        image = torch.randn(1, 3, 256, 256)
        return peak_memory(lambda: sum(i.mean() for i in model(image)).backward())

    store = peak()
    assert peak(memory="recompute") < 0.3 * store
    assert peak(windows_at_once=4) < 0.8 * store


def test_autocast_computes_the_attention_in_fp32(monkeypatch):
    seen = []
    attend = nn.functional.scaled_dot_product_attention

    def spy(*args, **kwargs):
        seen.extend(tensor.dtype for tensor in args)
        return attend(*args, **kwargs)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", spy)
    model = small(arch=TINY)
    with torch.autocast("cpu", torch.bfloat16):
        levels = model(torch.randn(1, 3, 32, 32))
        sum(level.mean() for level in levels).backward()  # in there or not
    assert set(seen) == {torch.float32}


def test_half_precision_weights():
    model, image = small(arch=TINY, out_norm="layer_norm"), torch.randn(1, 3, 64, 48)
    with torch.no_grad():
        expected = model(image)
        model.to(torch.bfloat16)
        for level, other in zip(model(image.bfloat16()), expected, strict=True):
            assert level.dtype == torch.bfloat16
            assert (level - other).abs().mean() < 0.05 * other.abs().mean()


class Counter:
    """How often position tables are computed."""

    def __init__(self, model):
        self.count = 0
        self.attentions = [m for m in model.modules() if isinstance(m, WindowAttention)]
        for attention in self.attentions:
            attention.cpb_mlp.register_forward_hook(self.add)

    def add(self, *_):
        self.count += 1

    def __call__(self):
        """How many attentions computed theirs since the last call."""
        count, self.count = self.count, 0
        return count


def test_position_tables_are_kept_while_not_training():
    model, image = small().eval(), torch.randn(1, 3, 64, 64)
    computed = Counter(model)
    number = len(computed.attentions)
    with torch.no_grad():
        model(image)
        assert computed() == number
        model(image)
        assert computed() == 0
        for size in ((80, 75), (33, 40), (1, 96), (7, 7)):
            model(torch.randn(2, 3, *size))  # new windows, shrunken ones
        assert computed() == 0
    model(image)  # gradients are wanted
    assert computed() == number
    model.train()
    model(image)
    assert computed() == number


def test_many_sizes_share_what_follows_from_a_side():
    """Pairs of sides seldom recur in training at many scales; sides do."""
    attention = WindowAttention(8, 2, 4)
    modules = [
        ShiftedWindows(attention, 4, shifted, "seen", "shrink", None, "store")
        for shifted in (False, True)
    ]
    sides = range(2, 22)
    sizes = [(a, b) for a in sides for b in sides if (a + b) % 7 == 0]
    assert len(sizes) == 57
    _axis.cache_clear(), _mask.cache_clear()
    with torch.no_grad():
        for size in sizes:
            for module in modules:
                module(torch.zeros(1, *size, 8))
    # Two shifts of every side; sides of up to 4 are not shifted.
    assert _axis.cache_info().misses == len(sides) + len(range(5, 22))
    # Windows of 4 x 4, 2 x 4, 3 x 4 and the other way round; 7 kinds with a wrapped
    # side: both of 4, or one beside 2, 3 or 4.
    assert _mask.cache_info().misses == 5 + 7


def optimizer_step(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def fused_step(model):
    """It does not count as writing; the forward pass before it tells."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    sum((level**2).mean() for level in model(torch.randn(1, 3, 64, 64))).backward()
    optimizer.step()


def load(model):
    model.load_state_dict({k: v * 2 for k, v in small().state_dict().items()
                           if k != "pretrained_windows"}, strict=False)  # fmt: skip


def replace(model):
    for attention in (m for m in model.modules() if isinstance(m, WindowAttention)):
        attention.cpb_mlp[2].weight = nn.Parameter(-attention.cpb_mlp[2].weight)


def move(model):
    load(model)
    model.to("meta").to_empty(device="cpu")
    load(model)
    model.pretrained_windows.copy_(torch.tensor([4, 4, 4, 4]))


def swap_in_the_average(model):
    """What mmengine does before it evaluates: it writes through ``.data``."""
    hook = EMAHook(momentum=0.5)
    runner = SimpleNamespace(model=model)
    hook.before_run(runner)
    for parameter in hook.ema_model.module.parameters():
        parameter.data.mul_(2)
    hook.before_val_epoch(runner)
    model.eval()  # the loop


@pytest.mark.parametrize(
    "change", [optimizer_step, fused_step, load, replace, move, swap_in_the_average]
)
def test_no_table_outlives_its_weights(change):
    model, image = small().eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = model(image)
    change(model)
    with torch.no_grad():
        after = model(image)
    expected = copy.deepcopy(model).train()(image)
    assert not torch.allclose(before[-1], after[-1])
    for level, other in zip(after, expected, strict=True):
        assert_close(level, other)


def test_training_after_inference_mode():
    """Tables, plans and masks that were made in inference mode serve training, too."""
    model, image = small(window_size=3, padded_keys="masked"), torch.randn(1, 3, 90, 52)
    with torch.inference_mode():
        expected = model.eval()(image)
    for attention in (m for m in model.modules() if isinstance(m, WindowAttention)):
        attention.cpb_mlp.requires_grad_(False)
    levels = model(image)
    sum(level.mean() for level in levels).backward()
    for level, other in zip(levels, expected, strict=True):
        assert_close(level, other)


def test_starts_as_its_stem_and_merges():
    """Post-norms start at 0: no block changes its input."""
    model = SwinTransformerV2(SMALL, window_size=4)
    model.init_weights()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        feature = model.stem(x)
        assert torch.equal(model(x)[0], feature.permute(0, 3, 1, 2))
        merged = model.stages[1].merge(feature)
        assert torch.equal(model(x)[1], merged.permute(0, 3, 1, 2))
    for module in model.modules():
        if isinstance(module, PostNorm):
            assert not module.norm.weight.any()
            assert not module.norm.bias.any()
        elif isinstance(module, WindowAttention):
            assert torch.allclose(module.logit_scale, torch.tensor(math.log(10)))
            assert 0.019 < module.qkv.weight.std() < 0.021


def test_first_step_wakes_the_blocks():
    model = SwinTransformerV2(SMALL, window_size=4)
    model.init_weights()
    sum((level**2).mean() for level in model(torch.randn(1, 3, 64, 64))).backward()
    for module in model.modules():
        if isinstance(module, PostNorm):
            assert module.norm.weight.grad.any()


def test_drop_path_comes_after_the_norm():
    """A dropped branch leaves the input as it was; a kept one grows by 1 / keep."""
    torch.manual_seed(0)
    branch = PostNorm(nn.Linear(8, 8), 8, drop_path_rate=0.5)
    branch.train()
    x = torch.randn(64, 3, 3, 8)
    change = branch(x) - x
    whole = branch.norm(branch.layer(x))
    dropped = change.flatten(1).abs().max(1).values == 0
    assert 10 < dropped.sum() < 54
    torch.testing.assert_close(change[~dropped], 2 * whole[~dropped])


@pytest.mark.parametrize("arch", ["huge", "giant"])
def test_norms_of_the_main_branch(arch):
    with torch.device("meta"):
        model = SwinTransformerV2(arch)
    every = ARCHITECTURES[arch]["extra_norm_every_n_blocks"]
    assert every == 6
    for depth, stage in zip(model.depths, model.stages, strict=True):
        blocks = [block for block in stage if isinstance(block, Block)]
        assert len(blocks) == depth
        with_norm = [i for i, block in enumerate(blocks) if hasattr(block, "norm")]
        assert with_norm == list(range(5, depth, 6))


def test_no_weight_decay_on_position_bias_and_scale():
    model = nn.ModuleDict({"backbone": small()})
    wrapper = build_optim_wrapper(
        model,
        {
            "type": "OptimWrapper",
            "optimizer": {"type": "AdamW", "lr": 1e-4, "weight_decay": 0.05},
            "constructor": "mmrev.LayerDecayOptimWrapperConstructor",
            "paramwise_cfg": {"decay_rate": 0.9},
        },
    )
    decay = {
        id(p): group["weight_decay"]
        for group in wrapper.optimizer.param_groups
        for p in group["params"]
    }
    for name, parameter in model.named_parameters():
        spared = parameter.ndim == 1 or "cpb_mlp" in name or "logit_scale" in name
        assert decay[id(parameter)] == (0 if spared else 0.05), name


def test_blocks_can_be_run_one_by_one():
    model, image = small().eval(), torch.randn(1, 3, 70, 50)
    with torch.no_grad():
        expected = model(image)
        x = model.stem(image)
        for index, stage in enumerate(model.stages):
            for block in stage:
                x = block(x)
            assert torch.equal(model.level(x), expected[index])


def test_own_windows_are_the_default():
    assert small(window_size=(4, 4, 2, 2)).pretrained_window_sizes == [4, 4, 2, 2]
    settings = {"window_size": 8, "pretrained_window_sizes": (6, 6, 0, 3)}
    model = small(**settings)
    assert model.pretrained_windows.tolist() == [6, 6, 8, 3]


def test_weights_for_other_windows_are_refused_even_when_not_strict():
    weights = small(window_size=4).state_dict()
    small(window_size=8, pretrained_window_sizes=4).load_state_dict(weights)
    with pytest.raises(ValueError, match=r"Set pretrained_window_sizes=\(4, 4, 4, 4\)"):
        small(window_size=8).load_state_dict(weights, strict=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arch": "nano"}, "arch must be one of tiny, .*, got 'nano'"),
        ({"arch": {"depths": [1] * 4}}, "has the keys embed_dims, depths, num_heads"),
        ({"arch": {**SMALL, "depths": [1, 1]}}, "depths must be 4 numbers"),
        ({"arch": {**SMALL, "num_heads": [1, 2, 3, 4]}}, "3 heads for 64 channels"),
        ({"window_size": 0}, "window_size must be a number >= 1 or 4 of them, got 0"),
        ({"window_size": (7, 7)}, r"window_size must .* 4 of them, got \(7, 7\)"),
        ({"pretrained_window_sizes": -1}, "pretrained_window_sizes must .* got -1"),
        ({"position_bias": "all"}, "must be 'block' or 'stage', got 'all'"),
        ({"padded_keys": "hidden"}, "must be 'seen' or 'masked', got 'hidden'"),
        ({"small_maps": "crop"}, "must be 'shrink' or 'pad', got 'crop'"),
        ({"windows_at_once": 0}, "windows_at_once must be None or >= 1, got 0"),
    ],
)
def test_unknown_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        SwinTransformerV2(**{"arch": SMALL, **settings})


def dense_name(name):
    """Of a parameter of a model with one expert, that of the dense one."""
    return name.replace(".experts.0.", ".")


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_one_expert_is_the_dense_block_bit_for_bit(training, autocast):
    settings = {"drop_path_rate": 0.3, "out_norm": "layer_norm"}
    dense = small(**settings).train(training)
    sparse = small(moe={"num_experts": 1}, **settings).train(training)
    weights = dense.state_dict()
    own = sparse.state_dict()
    for name in [name for name in own if "router" not in name]:
        own[name] = weights.pop(dense_name(name))
    assert not weights
    sparse.load_state_dict(own)
    image = torch.randn(2, 3, 61, 70)

    def results(model):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            levels = model(image)
        if training:
            sum(level.float().square().mean() for level in levels).backward()
        gradients = {dense_name(name): p.grad for name, p in model.named_parameters()}
        return gradients | {f"level {i}": level for i, level in enumerate(levels)}

    with torch.set_grad_enabled(training):
        expected, actual = results(dense), results(sparse)
    routers = {name for name in actual if "router" in name}
    assert len(routers) == 2
    assert actual.keys() - expected.keys() == routers
    for name, tensor in expected.items():
        assert tensor is actual[name] is None or torch.equal(tensor, actual[name]), name


# Millions with the classifier of 21841 classes. Dense: 65.8 and 109.3.
SPARSE = {
    ("small", 8): (173.28, 65.79),
    ("small", 16): (296.17, 65.82),
    ("small", 32): (541.94, 65.89),
    ("base", 8): (300.36, 109.33),
    ("base", 16): (518.74, 109.37),
    ("base", 32): (955.49, 109.46),
}


@pytest.mark.parametrize(("arch", "count"), SPARSE)
def test_parameters_with_experts(arch, count):
    """As many more as other experts and routers have; activated are routers alone."""
    with torch.device("meta"):
        model = SwinTransformerV2(arch, moe={"num_experts": count})
    width = model.channels[-1]
    classifier = 2 * width + (width + 1) * 21841
    total, activated = (
        number + classifier
        for number in (
            sum(p.numel() for p in model.parameters()),
            activated_parameters(model),
        )
    )
    assert (round(total / 1e6, 2), round(activated / 1e6, 2)) == SPARSE[arch, count]
    routers = count * (9 * width // 2 + width)
    assert activated == PARAMETERS[arch] + routers + classifier


@pytest.mark.parametrize(
    ("moe", "message"),
    [
        ({"experts": 8}, "moe takes num_experts and, optionally, capacity_factor, noi"),
        ({"num_experts": 8, "top_k": 2}, "got num_experts, top_k"),
        ({"num_experts": 0}, "num_experts >= 1 and 0 <= dropout < 1, got 0 and 0.0"),
        ({"num_experts": 2, "dropout": 1}, "got 2 and 1"),
        ({"num_experts": 2, "blocks": [[], [], [3], []]}, "of 2, 2, 3, 2 blocks, got"),
        ({"num_experts": 2, "blocks": [[1]]}, "indices for each of 4 stages"),
        ({"num_experts": 2, "capacity_factor": -1}, "capacity_factor > 0"),
    ],
)
def test_refused_settings_of_experts(moe, message):
    with pytest.raises(ValueError, match=message):
        small(moe=moe)
