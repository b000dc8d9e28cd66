"""SimMIM's head: the target that Swin-V2's authors normalise, and bad input."""

import pytest
import torch
import torch.nn.functional as F
from tolerances import assert_close

from mmrev.models.pretraining import SimMIMHead

LOSS = dict(type="mmpretrain.PixelReconstructionLoss", criterion="L1", channel=3)


def reference(images, window):
    """What norm_targets computes in microsoft/Swin-Transformer @f82860b, by loops.

    models/simmim.py: mean and unbiased variance of the part of the window inside the
    image; the variance clamped at 0, 1e-6 added.
    """
    result = torch.empty_like(images)
    reach = window // 2
    for row in range(images.shape[2]):
        for column in range(images.shape[3]):
            top, left = max(row - reach, 0), max(column - reach, 0)
            part = images[:, :, top : row + reach + 1, left : column + reach + 1]
            variance, mean = torch.var_mean(part.flatten(2).double(), -1)
            pixel = images[:, :, row, column].double()
            result[:, :, row, column] = (pixel - mean) / (variance + 1e-6).sqrt()
    return result


@pytest.mark.parametrize("window", [3, 47])
def test_the_normalised_target(window):
    images = torch.randn(2, 3, 20, 28, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(2, 5, 7, dtype=torch.long)
    mask[0, 1, 2] = mask[1, 4, 6] = 1
    pixels = mask.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
    pred = torch.randn_like(images)
    target = reference(images, window)
    expected = (F.l1_loss(pred, target, reduction="none") * pixels).sum()
    head = SimMIMHead(4, LOSS, target_window=window)
    assert_close(head.loss(pred, images, mask), expected / pixels.sum() / 3)
    plain = (F.l1_loss(pred, images, reduction="none") * pixels).sum()
    head = SimMIMHead(4, LOSS)
    assert_close(head.loss(pred, images, mask), plain / pixels.sum() / 3)


def test_a_flat_image_and_half_precision():
    head = SimMIMHead(4, LOSS, target_window=47)
    images, mask = torch.full((1, 3, 64, 64), 2.0), torch.ones(1, 16, 16)
    assert head.loss(torch.zeros_like(images), images, mask) < 1
    images = torch.randn(1, 3, 64, 64) + 100
    pred = torch.zeros_like(images)
    with torch.autocast("cpu", torch.bfloat16):
        half = head.loss(pred, images, mask)
    assert_close(half, head.loss(pred, images, mask))


@pytest.mark.parametrize("window", [0, 1, 46, -3])
def test_a_window_that_is_none(window):
    with pytest.raises(ValueError, match=f"odd number from 3 on, got {window}"):
        SimMIMHead(4, LOSS, target_window=window)


@pytest.mark.parametrize(
    ("pred", "cells", "got"),
    [
        ((64, 64), 8, "prediction of 64 x 64 and a mask of 8 x 8 cells of 4 pixels"),
        ((96, 96), 16, "prediction of 96 x 96 and a mask of 16 x 16 cells"),
    ],
)
def test_shapes_that_do_not_fit(pred, cells, got):
    head = SimMIMHead(4, LOSS)
    images, mask = torch.zeros(2, 3, 64, 64), torch.zeros(2, cells, cells)
    with pytest.raises(ValueError, match=f"images' 64 x 64 pixels, got a {got}"):
        head.loss(torch.zeros(2, 3, *pred), images, mask)
