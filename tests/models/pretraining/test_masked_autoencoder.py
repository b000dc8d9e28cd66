"""RevColV2 behind a mask: what is seen, gradients, weights, bad input."""

import pytest
import torch
from mmengine.config import Config
from mmpretrain.structures import DataSample
from tolerances import assert_close
from torch import nn

from mmrev.checkpoints import convert_state_dict
from mmrev.models.pretraining import MaskedAutoencoder
from mmrev.registry import MODELS

ARCH = {"channels": [8, 12, 16, 24], "depths": [1, 1, 1, 1], "num_columns": 2}
REVCOL_V2 = {"type": "mmrev.RevColV2", "arch": ARCH, "layer_scale_init_value": 1.0}


def build(**settings):
    torch.manual_seed(0)
    model = MaskedAutoencoder({**REVCOL_V2, **settings})
    model.init_weights()
    return model


def masked_images():
    """Patches of 16 pixels: of the coarsest cells some are masked in part."""
    torch.manual_seed(1)
    patches = torch.tensor([[1, 1, 0, 1], [1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0]])
    mask = patches.repeat_interleave(4, 0).repeat_interleave(4, 1)[None]
    pixels = mask.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
    return torch.randn(1, 3, 64, 64), mask, pixels


def test_only_visible_patches_are_seen():
    model, (images, mask, pixels) = build().eval(), masked_images()
    levels = model(images, mask)
    other = model(images + pixels * torch.randn(images.shape), mask)
    for level, same in zip(levels, other, strict=True):
        assert torch.equal(level, same)
    seen = model(images + (1 - pixels) * 0.1, mask)
    assert all(not torch.equal(a, b) for a, b in zip(levels, seen, strict=True))


def test_nothing_masked_is_the_plain_backbone():
    model, (images, mask, _) = build().eval(), masked_images()
    for level, same, plain in zip(
        model(images, 0 * mask), model(images), model.model(images), strict=True
    ):
        assert torch.equal(level, plain)
        assert torch.equal(same, plain)


def test_tokens_replace_what_is_masked_whole():
    """What the bottom-up columns give counts in no cell without a visible pixel."""
    model, (images, mask, _) = build().eval(), masked_images()
    found = []
    run = model.model.encode

    def encode(x, between):
        found.append(between([torch.zeros(1, c, s, s) for c, s in sizes]))
        return run(x, between)

    sizes = list(zip(model.model.channels, (16, 8, 4, 2), strict=True))
    model.model.encode = encode
    nn.init.ones_(model.mask_token)
    model(images, mask)
    (states,) = found
    assert torch.equal(states[0][0, 0], mask[0].float())
    assert torch.equal(states[2][0, 0], mask[0, ::4, ::4].float())
    assert torch.equal(states[3][0, 0], torch.tensor([[1.0, 0.0], [0.0, 0.0]]))


@pytest.mark.parametrize("memory", ["recompute", "reverse"])
def test_memory_modes_are_equal(memory):
    images, mask, _ = masked_images()

    def gradients(memory):
        model = build(memory=memory, drop_path_rate=0.3, out_indices=(0,)).train()
        torch.manual_seed(2)
        model(images, mask)[0].square().mean().backward()
        return {n: p.grad for n, p in model.named_parameters() if p.requires_grad}

    expected = gradients("store")
    assert expected["mask_token"].any()
    for name, grad in gradients(memory).items():
        assert torch.equal(grad, expected[name]), name


def test_checkpoint_is_one_of_the_plain_backbone():
    model = build()
    weights = {f"backbone.{key}": value for key, value in model.state_dict().items()}
    plain = MODELS.build(REVCOL_V2)
    plain.load_state_dict(convert_state_dict(weights), strict=True)
    assert model.get_layer_depth("mask_token") == (0, 12)
    assert "mask_token" in model.no_weight_decay


def test_simmim_reconstructs_from_the_finest_level():
    images, mask, pixels = masked_images()
    torch.manual_seed(0)
    model = MODELS.build(
        Config(
            dict(
                type="mmpretrain.SimMIM",
                data_preprocessor=dict(type="mmpretrain.SelfSupDataPreprocessor"),
                backbone=dict(
                    type="mmrev.MaskedAutoencoder",
                    backbone={**REVCOL_V2, "out_indices": (0,)},
                ),
                neck=dict(
                    type="mmpretrain.SimMIMLinearDecoder",
                    in_channels=8,
                    encoder_stride=4,
                ),
                head=dict(
                    type="mmrev.SimMIMHead",
                    patch_size=4,
                    loss=dict(
                        type="mmpretrain.PixelReconstructionLoss",
                        criterion="L1",
                        channel=3,
                    ),
                ),
            )
        )
    )
    model.init_weights()
    sample = DataSample()
    sample.set_field(mask[0], "mask")
    loss = model.loss(images, [sample])["loss"]
    loss.backward()
    prediction = model.neck(model.backbone(images, mask)[0])
    error = (prediction - images).abs() * pixels
    assert_close(loss, error.sum() / (pixels.sum() + 1e-5) / 3)
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


@pytest.mark.parametrize(
    ("backbone", "shape", "message"),
    [
        (
            {**REVCOL_V2, "type": "mmrev.RevCol"},
            None,
            "mmrev.RevColV2, got RevCol. Use mmrev.MaskedBackbone",
        ),
        ({"type": "mmrev.VanillaNet", "arch": "5"}, None, "without BatchNorm"),
        (REVCOL_V2, (1, 5, 5), "sides divide.*16 x 16, got 5 x 5"),
    ],
)
def test_bad_input(backbone, shape, message):
    with pytest.raises(ValueError, match=message):
        MaskedAutoencoder(backbone)(torch.zeros(1, 3, 64, 64), torch.ones(shape))
