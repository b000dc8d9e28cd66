"""Heads that compute again: equal losses and gradients, less memory, any head."""

import copy
import warnings

import pytest
import torch
from mmcv.cnn.bricks.transformer import BaseTransformerLayer
from mmdet.models.layers.transformer import DetrTransformerEncoderLayer
from mmengine.registry import MODELS
from resolved import resolve, use_scope
from shrink import shrink
from torch import nn

from mmrev.datasets.batches import seeded
from mmrev.measure.memory import peak_memory
from mmrev.models.head_memory import recompute_head, store_head
from mmrev.runs.typical import training_batch

HEADS = {
    "dino": "vanillanet/vanillanet-5_dino-4scale_8xb2-12e_coco",
    "mask2former": "vanillanet/vanillanet-5_mask2former_8xb2-160k_ade20k-512x512",
    "masks": "swin_v2/swinv2-t_mask2former_8xb2-lsj-50e_coco",
}
SIZE = 96, 128


@pytest.fixture(scope="module")
def built():
    """A model of each head, and the batch of a step."""
    found = {}

    def build(head):
        cfg = shrink(resolve(HEADS[head]))
        use_scope(cfg.default_scope)
        if head not in found:
            several_layers(cfg.model)
            with seeded(0):
                model = MODELS.build(cfg.model)
                model.init_weights()
            model.data_preprocessor.batch_augments = None
            found[head] = model.train(), training_batch(cfg, SIZE, 2)
        model, data = found[head]
        return copy.deepcopy(model), data

    return build


def several_layers(settings):
    """As the heads have them, and with dropout, whose numbers must come again."""
    for key, value in settings.items():
        if isinstance(value, dict):
            several_layers(value)
        elif key == "num_layers":
            settings[key] = 2
        elif key in ("dropout", "ffn_drop"):
            settings[key] = 0.1


def step(model, data, precision=torch.float32):
    """Losses, gradients by name, and what is drawn next."""
    model.zero_grad()
    found = run(model, data, precision)
    return *found, {name: p.grad for name, p in model.named_parameters()}


def run_forward(model, data):
    samples = [sample.clone() for sample in data["data_samples"]]
    data = model.data_preprocessor({**data, "data_samples": samples}, True)
    return model(**data, mode="loss")


def run(model, data, precision=torch.float32):
    with seeded(1):
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            losses = run_forward(model, data)
        model.parse_losses(losses)[0].backward()
        return losses, torch.rand(1)


def assert_same(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("head", HEADS)
def test_a_step_is_bit_for_bit_the_same(built, head, precision):
    model, data = built(head)
    expected = step(model, data, precision)
    assert any(gradient is not None for gradient in expected[-1].values())
    recompute_head(model)
    assert_same(step(model, data, precision), expected)


@pytest.mark.parametrize("head", HEADS)
def test_what_runs_again(built, head):
    model, _ = built(head)
    names = list(model.state_dict())
    parts = recompute_head(model)
    if head == "dino":
        assert parts == [f"{c}coder.layers.{i}" for c in ("en", "de") for i in (0, 1)]
    else:
        name = "decode_head" if head == "mask2former" else "panoptic_head"
        assert parts == [
            f"{name}._loss_by_feat_single",
            *(f"{name}.pixel_decoder.encoder.layers.{i}" for i in (0, 1)),
            *(f"{name}.transformer_decoder.layers.{i}" for i in (0, 1)),
        ]
    assert list(model.state_dict()) == names
    forward = dict(model.named_modules())[parts[-1]].forward
    assert recompute_head(model) == parts
    assert dict(model.named_modules())[parts[-1]].forward is forward
    store_head(model)
    own = {"forward", "_forward_head", "_loss_by_feat_single"}
    assert not any(own & set(vars(module)) for module in model.modules())


@pytest.mark.parametrize("head", ["dino", "mask2former"])
def test_takes_less_memory(built, head):
    model, data = built(head)
    step(model, data)  # leaves gradients, to which the next ones are added

    def peak():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return peak_memory(lambda: run(model, data))

    stored = peak()
    recompute_head(model)
    assert peak() < 0.75 * stored


@pytest.mark.parametrize("head", ["mask2former", "masks"])
def test_losses_in_evaluation_mode(built, head):
    """As somebody validates; with gradients, so that what is given are masks."""
    model, data = built(head)
    expected = step(model.eval(), data)
    recompute_head(model)
    assert_same(step(model, data), expected)


def test_masks_are_kept_as_factors(built):
    model, data = built("mask2former")
    recompute_head(model)
    given = []
    model.decode_head.loss_by_feat = lambda *args: given.append(args[1]) or {}
    run_forward(model, data)
    (masks,) = given
    assert len(masks) == 3
    assert {mask.feature.shape for mask in masks} == {(2, 256, 24, 32)}
    assert {mask.embedding.shape for mask in masks} == {(2, 20, 256)}


def test_evaluation_is_as_before(built):
    model, data = built("dino")
    model.eval()

    @torch.no_grad()
    def predict():
        samples = [sample.clone() for sample in data["data_samples"]]
        return model.test_step({**data, "data_samples": samples})[0].pred_instances

    expected = predict()
    recompute_head(model)
    for key, value in predict().items():
        assert torch.equal(value, expected[key])


class Toy(nn.Module):
    """Layers of two kinds, in lists and not, and a backbone that has one, too."""

    def __init__(self):
        super().__init__()
        attention = dict(embed_dims=8, num_heads=2)
        ffn = dict(embed_dims=8, feedforward_channels=16, num_fcs=2, ffn_drop=0.1)

        def layer():
            return DetrTransformerEncoderLayer(dict(attention), ffn)

        self.backbone = nn.Sequential(layer())
        self.neck = nn.Linear(8, 8)
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(layer() for _ in range(2))
        self.last = BaseTransformerLayer(
            attn_cfgs=dict(type="MultiheadAttention", batch_first=True, **attention),
            ffn_cfgs=dict(type="FFN", **ffn),
            operation_order=("self_attn", "norm", "ffn", "norm"),
            batch_first=True,
        )

    def forward(self, query, query_pos):
        for layer in self.encoder.layers:
            query = layer(self.neck(query), query_pos=query_pos, key_padding_mask=None)
        return self.last(query, query_pos=query_pos)


@pytest.fixture
def toy():
    use_scope("mmdet")
    torch.manual_seed(0)
    return Toy()


def toy_step(toy):
    torch.manual_seed(1)
    inputs = torch.randn(2, 3, 5, 8, requires_grad=True)
    toy(*inputs).square().sum().backward()
    found = [inputs.grad, *(p.grad for p in toy.parameters() if p.grad is not None)]
    toy.zero_grad()
    return found


LAYERS = ["encoder.layers.0", "encoder.layers.1"]
CHOICES = {
    "all": (None, [*LAYERS, "last"]),
    "a pattern": (["encoder.layers.*"], LAYERS),  # and not what lies in these
    "names": (["neck", "encoder.layers.1"], ["neck", LAYERS[1]]),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_patterns(toy, choice):
    patterns, parts = CHOICES[choice]
    expected = toy_step(toy)
    assert recompute_head(toy, patterns) == parts
    assert_same(toy_step(toy), expected)
    changed = [name for name, one in toy.named_modules() if "forward" in vars(one)]
    assert changed == parts


def test_a_copy_runs_by_itself(toy):
    recompute_head(toy)
    twin = copy.deepcopy(toy)
    nn.init.zeros_(toy.last.norms[1].weight)
    expected, actual = toy_step(toy), toy_step(twin)
    assert not torch.equal(expected[0], actual[0])
    twin.load_state_dict(toy.state_dict())
    assert_same(toy_step(twin), expected)


def test_compiles_without_a_break(toy):
    toy.eval()  # without dropout, whose numbers a compiler draws otherwise
    expected = toy_step(toy)
    recompute_head(toy)
    compiled = torch.compile(toy, backend="aot_eager", fullgraph=True)
    for one, other in zip(toy_step(compiled), expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["encoder.layers"], r"as encoder.layers.0, .*got 'encoder.layers', which"),
        (["last", "lost.*"], r"can run again in Toy, as .*got 'lost\.\*', which"),
    ],
)
def test_a_pattern_must_match(toy, patterns, message):
    with pytest.raises(ValueError, match=message):
        recompute_head(toy, patterns)
    assert "forward" not in vars(toy.last)


def test_a_model_must_have_layers():
    with pytest.raises(ValueError, match=r"got Linear, which has none; leave out head"):
        recompute_head(nn.Linear(2, 2))
