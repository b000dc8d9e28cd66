"""Swin-V2: shifted windows, post-norm, cosine attention, log-spaced position bias.

Paper: Swin Transformer V2: Scaling Up Capacity and Resolution, arXiv 2111.09883.
Reference: microsoft/Swin-Transformer @f82860b, MIT (models/swin_transformer_v2.py);
the norms of H and G, which it lacks, and their numbers of heads: open-mmlab/mmpretrain,
Apache-2.0. Written anew; same parameters and values.
Deviations: any input size (maps are padded at the right and bottom, then rolled); a map
that is not larger than the window shrinks the window axis by axis, where the reference
takes the shorter side for both (`small_maps='pad'` is mmpretrain's
``pad_small_map=True``); normalisation, logits and softmax in fp32 under autocast, too;
an exactly zero query or key, as of padding, gets no gradient (the reference's is 1e12
times the others', infinite in fp16); patches are merged at the start of a stage;
normalised levels, `out_norm`, have one norm each, of eps 1e-6 (there 1e-5).
Experts are those of SwinV2-MoE, see `mmrev.models.layers.moe`. The reference's Swin-MoE
(models/swin_transformer_moe.py) is another network, with norms before its branches and
attention by dot products; its weights do not fit. Here the expert's probability scales
what the branch's norm gives: before it, the norm would undo that.
"""

import logging
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmrev.models.backbones.base import (
    StagedBackbone,
    drop_path_rates,
    init_trunc_normal,
    resolve_arch,
)
from mmrev.models.layers.keeping import is_traced, kept
from mmrev.models.layers.linear import Linear
from mmrev.models.layers.moe import Experts
from mmrev.models.layers.padding import pad_to_multiple
from mmrev.models.layers.parameter_cache import ParameterCache
from mmrev.models.layers.precision import at_least_fp32, without_autocast
from mmrev.registry import MODELS
from mmrev.reversible import recompute

NUM_STAGES = 4
PATCH_SIZE = 4
CPB_HIDDEN = 512
MAX_LOGIT_SCALE = math.log(100)
# As the reference's: a pair of tokens that only the roll has made neighbours.
APART = -100.0


def _arch(embed_dims: int, depths: list[int], heads: int, extra_norm: int = 0) -> dict:
    return {
        "embed_dims": embed_dims,
        "depths": depths,
        "num_heads": [heads * 2**index for index in range(NUM_STAGES)],
        "extra_norm_every_n_blocks": extra_norm,
    }


ARCHITECTURES = {
    "tiny": _arch(96, [2, 2, 6, 2], 3),
    "small": _arch(96, [2, 2, 18, 2], 3),
    "base": _arch(128, [2, 2, 18, 2], 4),
    "large": _arch(192, [2, 2, 18, 2], 6),
    "huge": _arch(352, [2, 2, 18, 2], 8, extra_norm=6),
    "giant": _arch(512, [2, 2, 42, 4], 16, extra_norm=6),
}


class Pattern(NamedTuple):
    """How the rows or columns of a window belong together.

    Attributes:
        wrapped: whether the roll brought a position here from the map's other end.
        hidden: whether it is padding that no real query may see.
    """

    wrapped: tuple[bool, ...]
    hidden: tuple[bool, ...]

    @property
    def is_plain(self) -> bool:
        """Whether all positions are alike."""
        return len(set(self.wrapped)) == len(set(self.hidden)) == 1


class Plan(NamedTuple):
    """Where the tokens of a padded map go.

    Attributes:
        order: source of each token in windows; windows with the same mask are
            neighbours.
        inverse: of `order`.
        groups: for each mask, the windows from the one before up to a stop, and the
            mask, (N, N), or None.
    """

    order: Tensor
    inverse: Tensor
    groups: tuple[tuple[int, Tensor | None], ...]


class Axis(NamedTuple):
    """The windows along one axis of a padded map that was rolled.

    Attributes:
        sources: where their rows or columns were before the roll, (windows, w).
        runs: neighbouring windows that are alike: their pattern and how many.
    """

    sources: Tensor
    runs: tuple[tuple[Pattern, int], ...]


@kept(maxsize=512)
def _axis(
    length: int, window: int, shift: int, hide: bool, device: torch.device
) -> Axis:
    """Plan one axis.

    Args:
        length: of the axis before padding.
        window: of the windows.
        shift: positions that the map is rolled towards its start.
        hide: whether padding is hidden.
        device: of the result.
    """
    number = -(-length // window)
    padded = number * window
    plain = Pattern((False,) * window, (False,) * window)
    # Padding and shift are less than a window each.
    last = [
        Pattern(
            tuple(p >= padded - shift for p in range(start, start + window)),
            tuple(
                hide and (p + shift) % padded >= length
                for p in range(start, start + window)
            ),
        )
        for start in range(max(number - 2, 0) * window, padded, window)
    ]
    sources = (torch.arange(padded, device=device) + shift) % padded
    return Axis(sources.view(-1, window), _runs([plain] * (number - 2) + last))


@kept(maxsize=64)
def _mask(rows: Pattern, columns: Pattern, device: torch.device) -> Tensor | None:
    """What is added to a window's logits: (N, N) of queries and keys, or None."""
    if rows.is_plain and columns.is_plain:
        return None
    wrapped, hidden = (
        [_filled(axis, device) for axis in pair]
        for pair in zip(rows, columns, strict=True)
    )
    region = (2 * wrapped[0][:, None] + wrapped[1]).flatten()
    hidden = (hidden[0][:, None] + hidden[1]).flatten() > 0
    # Whatever the default dtype is: the next caller's may be another.
    mask = APART * (region[:, None] != region).float()
    return mask.masked_fill(~hidden[:, None] & hidden, -math.inf)


def _filled(flags: tuple[bool, ...], device: torch.device) -> Tensor:
    """Flags as 0 and 1, (n,).

    A copy from the host would make a GPU wait, and cannot be part of a CUDA graph.
    """
    runs = [torch.full((n,), int(flag), device=device) for flag, n in _runs(flags)]
    return torch.cat(runs)


def _runs(values: Sequence) -> tuple[tuple, ...]:
    """Each value, and how often it follows itself; torch.compile knows no groupby."""
    runs = []
    for value in values:
        if runs and runs[-1][0] == value:
            runs[-1] = (value, runs[-1][1] + 1)
        else:
            runs.append((value, 1))
    return tuple(runs)


@kept(maxsize=32)
def _plan(
    batch: int,
    size: tuple[int, int],
    window: tuple[int, int],
    shift: tuple[int, int],
    hide: bool,
    device: torch.device,
) -> Plan:
    """Plan the attention of a map from its axes; see `_axis` for the arguments.

    Training at many sizes seldom meets a pair of sides again, but soon knows each side.
    """
    rows, columns = (
        _axis(*axis, hide, device) for axis in zip(size, window, shift, strict=True)
    )
    width = columns.sources.numel()
    area = rows.sources.numel() * width
    images = area * torch.arange(batch, device=device)[:, None, None]
    across = columns.sources[:, None, None, None] + images
    order, groups, stop = [], [], 0
    bands = rows.sources.split([count for _, count in rows.runs])
    for band, (row, count) in zip(bands, rows.runs, strict=True):
        # (columns, rows of the band, batch, h, w)
        order.append((width * band[:, None, :, None] + across).flatten())
        for column, number in columns.runs:
            stop = stop + batch * count * number  # in jit.trace a tensor, kept below
            groups.append((stop, _mask(row, column, device)))
    order = torch.cat(order)
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(order.numel(), device=device)
    return Plan(order, inverse, tuple(groups))


def _rearrange(x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """Permute rows."""
    if is_traced():
        return x.index_select(0, order)
    return _Rearrange.apply(x, order, inverse)


class _Rearrange(torch.autograd.Function):
    """Permute rows; the backward pass is a gathering again, not a scattering."""

    @staticmethod
    def forward(ctx, x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.order, ctx.inverse = order, inverse
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _Rearrange.apply(gradient, ctx.inverse, ctx.order), None, None


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, groups: Sequence) -> Tensor:
    """``softmax(q k^T + bias + mask) v``.

    Args:
        q: queries, (n, heads, N, C / heads).
        k: keys, of the same shape.
        v: values, of the same shape.
        bias: (heads, N, N).
        groups: of windows with the same mask, as of `Plan`.

    Returns:
        (n, N, heads, C / heads).
    """
    results, start = [], 0
    for stop, mask in groups:
        part = slice(start, stop)
        added = bias if mask is None else bias + mask
        result = F.scaled_dot_product_attention(
            q[part], k[part], v[part], added[None], scale=1.0
        )
        results.append(result.transpose(1, 2))
        start = stop
    # Where this is recorded, attention may give another memory order.
    if len(results) > 1 or is_traced():
        return torch.cat(results)
    return results[0].contiguous()


class _Attend(torch.autograd.Function):
    """`_attend`, of which no attention weight is kept.

    The backward pass computes them again, some windows at a time. torch's own attention
    keeps all of them as soon as its mask wants a gradient.
    """

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, groups) -> Tensor:
        ctx.groups = groups
        # A mask that wants a gradient is what the fused kernels refuse.
        result = _attend(q, k, v, bias.detach(), groups)
        ctx.save_for_backward(q, k, v, bias, result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with without_autocast(gradient.device):
            return *_Attend._gradients(ctx, gradient), None

    @staticmethod
    def _gradients(ctx, gradient: Tensor) -> tuple[Tensor, ...]:
        q, k, v, bias, result = ctx.saved_tensors
        gradient, result = gradient.transpose(1, 2), result.transpose(1, 2)
        to_q, to_k, to_v = (torch.empty_like(i) for i in (q, k, v))
        to_bias = torch.zeros_like(bias)
        # Weights of as many elements at a time as q has.
        step = max(1, q.numel() // bias.numel())
        start = 0
        for stop, mask in ctx.groups:
            added = bias if mask is None else bias + mask
            for first in range(start, stop, step):
                part = slice(first, min(first + step, stop))
                query, key, value, above = (
                    i[part].contiguous() for i in (q, k, v, gradient)
                )
                weights = (query @ key.mT).add_(added).softmax(-1)
                to_v[part] = weights.mT @ above
                inner = (above * result[part]).sum(-1, keepdim=True)
                to_logits = (above @ value.mT).sub_(inner).mul_(weights)
                to_q[part] = to_logits @ key
                to_k[part] = to_logits.mT @ query
                to_bias += to_logits.sum(0)
            start = stop
        return to_q, to_k, to_v, to_bias


@kept(maxsize=64)
def _coordinates(side: int, pretrained_window: int, device: torch.device) -> Tensor:
    """Log-spaced offsets of a query from a key, (2 n - 1, 2 n - 1, 2), in fp64.

    Args:
        side: of the window, n.
        pretrained_window: side of the window whose largest offset becomes 8.
        device: of the result.
    """
    axis = torch.arange(1 - side, side, dtype=torch.float64, device=device)
    offsets = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
    offsets = 8 * offsets / max(pretrained_window - 1, 1)
    return offsets.sign() * offsets.abs().add(1).log2() / 3


def _middle(table: Tensor, window: tuple[int, int], first: int) -> Tensor:
    """The offsets that occur in a smaller window, on an axis and the next.

    (..., 2 n - 1, 2 n - 1, ...) to (..., 2 H - 1, 2 W - 1, ...).
    """
    for axis, length in enumerate(window, first):
        spare = (table.shape[axis] + 1) // 2 - length
        table = table.narrow(axis, spare, 2 * length - 1)
    return table


class WindowAttention(nn.Module):
    """Scaled cosine attention inside windows, with a continuous position bias.

    Args:
        channels: C.
        num_heads: must divide C.
        pretrained_window: side of the window for which the bias was trained.
        sharing: whose network of the position bias it has, None for its own.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        pretrained_window: int,
        sharing: "WindowAttention | None" = None,
    ):
        super().__init__()
        self.pretrained_window = pretrained_window
        self.logit_scale = nn.Parameter(torch.full((num_heads, 1, 1), math.log(10)))
        self.cpb_mlp = nn.Sequential(
            nn.Linear(2, CPB_HIDDEN),
            nn.ReLU(inplace=True),
            nn.Linear(CPB_HIDDEN, num_heads, bias=False),
        )
        self.qkv = Linear(channels, 3 * channels, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(channels))
        self.v_bias = nn.Parameter(torch.zeros(channels))
        self.proj = Linear(channels, channels)
        self._table = ParameterCache()
        if sharing is not None:
            self.cpb_mlp, self._table = sharing.cpb_mlp, sharing._table

    def train(self, mode: bool = True) -> "WindowAttention":
        """Set the mode and forget the table; return self."""
        self._table.clear()
        return super().train(mode)

    def position_bias(self, window: tuple[int, int], side: int) -> Tensor:
        """The bias of queries and keys, (heads, N, N), N the tokens of a window.

        Args:
            window: H and W.
            side: of the largest window there is.
        """
        height, width = window
        weights = list(self.cpb_mlp.parameters())
        # The largest window's table, once kept, holds every smaller one's.
        largest = (side, side) if self._table.keeps(weights) else window
        table = self._table.get(weights, partial(self._bias_table, largest, side))
        # A query's biases are a piece of it; the last query's is the first.
        pieces = _middle(table, window, 1).unfold(1, height, 1).unfold(2, width, 1)
        return pieces.flip(1, 2).reshape(-1, height * width, height * width)

    def _bias_table(self, window: tuple[int, int], side: int) -> Tensor:
        """The bias of each offset of a key, (heads, 2 H - 1, 2 W - 1), in fp32."""
        weight = self.cpb_mlp[0].weight
        with without_autocast(weight.device):
            offsets = _coordinates(side, self.pretrained_window, weight.device)
            # Of a query from its key; negative ones are its of the query.
            offsets = -_middle(offsets, window, 0).to(weight.dtype)
            bias = 16 * at_least_fp32(self.cpb_mlp(offsets)).sigmoid()
            return bias.permute(2, 0, 1).contiguous()

    def forward(self, windows: Tensor, bias: Tensor, groups: Sequence) -> Tensor:
        """Attend inside each window.

        Args:
            windows: (n, N, C).
            bias: (heads, N, N).
            groups: of windows with the same mask, as of `Plan`.

        Returns:
            (n, N, C).
        """
        count, tokens, _ = windows.shape
        k_bias = torch.zeros_like(self.v_bias)
        qkv_bias = torch.cat([self.q_bias, k_bias, self.v_bias])
        qkv = self.qkv(windows, qkv_bias)
        with without_autocast(windows.device):
            full = at_least_fp32(qkv).view(count, tokens, 3, len(bias), -1)
            scale = at_least_fp32(self.logit_scale).clamp(max=MAX_LOGIT_SCALE)
            scale = scale.exp().view(-1, 1)
            scale = torch.stack([scale, torch.ones_like(scale)])
            unit, v = full.split((2, 1), 2)
            length = torch.linalg.vector_norm(unit, dim=-1, keepdim=True)
            scale = scale / length.masked_fill(length == 0, math.inf)
            # In place where no gradient needs them: new memory takes time.
            fresh = torch.is_grad_enabled() or is_traced()
            unit = unit * scale if fresh else unit.mul_(scale)
            q, k, v = (i.transpose(1, 2) for i in (*unit.unbind(2), v.squeeze(2)))
            attend = _attend if is_traced() else _Attend.apply
            attended = attend(q, k, v, bias, groups)
        return self.proj(attended.view(windows.shape).to(qkv.dtype))


class ShiftedWindows(nn.Module):
    """Attention inside the windows of a map.

    Args:
        attention: what attends.
        window_size: side of the windows.
        shifted: whether the windows start half a window further.
        padded_keys: 'seen' or 'masked'.
        small_maps: 'shrink' or 'pad'.
        windows_at_once: how many are computed together, None for all.
        memory: 'store' keeps only the windows of those and computes them again; in
            other modes the whole map is computed again.
    """

    def __init__(
        self,
        attention: WindowAttention,
        window_size: int,
        shifted: bool,
        padded_keys: str,
        small_maps: str,
        windows_at_once: int | None,
        memory: str,
    ):
        super().__init__()
        self.attention = attention
        self.window_size = window_size
        self.shift = window_size // 2 if shifted else 0
        self.padded_keys = padded_keys
        self.small_maps = small_maps
        self.windows_at_once = windows_at_once
        self.memory = memory

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to (N, H, W, C)."""
        batch, *sides, channels = x.shape
        # In torch.compile, which calls itself an export, too, they become fixed.
        exporting = torch.compiler.is_exporting()
        exporting = exporting and not torch.compiler.is_dynamo_compiling()
        if exporting and any(isinstance(side, torch.SymInt) for side in sides):
            raise ValueError(
                "SwinTransformerV2: expected images of one size to export, got dynamic "
                "sides, from which windows cannot follow. Leave only the batch dynamic."
            )
        # In torch.jit.trace sides are tensors; the windows follow from their values.
        height, width = map(int, sides)
        window, shift = zip(*map(self._window_and_shift, (height, width)), strict=True)
        hide = self.padded_keys == "masked"
        plan = _plan(batch, (height, width), window, shift, hide, x.device)
        x = _pad_to(x, window)
        padded = x.shape
        windows = _rearrange(x.reshape(-1, channels), plan.order, plan.inverse)
        windows = windows.view(-1, math.prod(window), channels)
        bias = self.attention.position_bias(window, self.window_size)
        x = self._attend(windows, bias, plan.groups).view(-1, channels)
        x = _rearrange(x, plan.inverse, plan.order).view(padded)
        return x[:, :height, :width]

    def _attend(self, windows: Tensor, bias: Tensor, groups: Sequence) -> Tensor:
        if self.windows_at_once is None:
            return self.attention(windows, bias, groups)
        parts, start = [], 0
        for part in windows.split(self.windows_at_once):
            stops = [(min(stop - start, len(part)), mask) for stop, mask in groups]
            own = [
                (stop, mask)
                for (before, _), (stop, mask) in pairwise([(0, None), *stops])
                if stop > max(before, 0)
            ]
            if self.memory == "store":
                parts.append(recompute(self.attention, part, bias, groups=own))
            else:
                parts.append(self.attention(part, bias, own))
            start += len(part)
        return torch.cat(parts)

    def _window_and_shift(self, length: int) -> tuple[int, int]:
        if length <= self.window_size and self.small_maps == "shrink":
            return length, 0
        return self.window_size, self.shift


class PostNorm(nn.Module):
    """A residual branch with its norm at the end: ``x + drop_path(norm(layer(x)))``.

    Args:
        layer: (N, H, W, C) to (N, H, W, C).
        channels: C.
        drop_path_rate: probability of leaving out the branch of a sample.
    """

    def __init__(self, layer: nn.Module, channels: int, drop_path_rate: float):
        super().__init__()
        self.layer = layer
        self.norm = nn.LayerNorm(channels)
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to (N, H, W, C)."""
        # In place: autograd needs the norm's input, not what it gave.
        return self.drop_path(self.norm(self.layer(x))).add_(x)


class SparsePostNorm(PostNorm):
    """As `PostNorm`, of `Experts`: ``x + drop_path(factor * norm(layer(x)))``.

    The branch of a dropped token is 0.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to (N, H, W, C)."""
        branch, factor = self.layer(x)
        return self.drop_path(self.norm(branch) * factor).add_(x)


def _mlp(channels: int, dropout: float = 0.0) -> nn.Module:
    """Two layers, (..., C) to (..., C); dropout is between them."""
    parts = OrderedDict(fc1=Linear(channels, 4 * channels, activation="gelu"))
    if dropout:
        parts["dropout"] = nn.Dropout(dropout)
    parts["fc2"] = Linear(4 * channels, channels)
    return nn.Sequential(parts)


class Block(nn.Sequential):
    """Attention branch, MLP branch and, in some of H and G, a norm of the main branch.

    Args:
        channels: C.
        attention: of the first branch.
        drop_path_rate: of both branches.
        extra_norm: whether the norm is there.
        moe: of `_moe_settings` if the MLP is one of several experts, else None.
    """

    def __init__(
        self,
        channels: int,
        attention: nn.Module,
        drop_path_rate: float,
        extra_norm: bool,
        moe: dict | None,
    ):
        parts = OrderedDict(attn=PostNorm(attention, channels, drop_path_rate))
        if moe is None:
            parts["mlp"] = PostNorm(_mlp(channels), channels, drop_path_rate)
        else:
            experts = [
                _mlp(channels, moe["dropout"]) for _ in range(moe["num_experts"])
            ]
            layer = Experts(experts, channels, moe["capacity_factor"], moe["noise"])
            parts["mlp"] = SparsePostNorm(layer, channels, drop_path_rate)
        if extra_norm:
            parts["norm"] = nn.LayerNorm(channels)
        super().__init__(parts)


class PatchEmbed(nn.Module):
    """Patches of 4 x 4 pixels to tokens.

    Args:
        in_channels: of the image.
        channels: C.
    """

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, channels, PATCH_SIZE, PATCH_SIZE)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, ceil(H / 4), ceil(W / 4), C)."""
        x = self.proj(pad_to_multiple(x, PATCH_SIZE))
        return self.norm(x.permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """Merge 2 x 2 tokens to one of twice the channels.

    Args:
        channels: C, of the input.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.reduction = Linear(4 * channels, 2 * channels, bias=False)
        self.norm = nn.LayerNorm(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to (N, ceil(H / 2), ceil(W / 2), 2 C)."""
        x = _pad_to(x, (2, 2))
        batch, height, width, channels = x.shape
        x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
        x = x.permute(0, 1, 3, 4, 2, 5).flatten(3)
        return self.norm(self.reduction(x))


@MODELS.register_module()
class SwinTransformerV2(StagedBackbone):
    """Swin Transformer V2 with levels at strides 4, 8, 16 and 32.

    Args:
        arch: 'tiny', 'small', 'base', 'large', 'huge', 'giant', or a dict with
            ``embed_dims`` (channels of the first level, doubled at each further one),
            ``depths`` (blocks a stage, 4 numbers), ``num_heads`` (4 numbers) and,
            optionally, ``extra_norm_every_n_blocks`` (a norm of the main branch after
            every so many blocks of a stage, 6 in 'huge' and 'giant'; 0: none).
        in_channels: channels of the image.
        window_size: side of the windows, one number or one a stage.
        pretrained_window_sizes: side of the windows for which the position bias is, or
            was, trained, one number or one a stage; 0 is `window_size`. It is part of
            the state dict, and loading weights that belong to another one is an error:
            the position bias would be wrong without a sign. In released models the
            window of stage 4 has shrunk to its map: 16, 16, 16, 8 at 256 px, 12, 12,
            12, 6 for all that began on ImageNet-22k at 192 px.
        position_bias: which blocks have one network of the position bias: 'block',
            each its own; 'stage', those of a stage, as of feature distillation's
            students (arXiv 2205.14141, section 3.2), whose weights fit 'block', too. It
            counts as part of the stage's first block.
        padded_keys: where the window does not divide the map: 'seen', tokens attend to
            the padding as in every implementation; 'masked', they do not.
        small_maps: where a map is not larger than the window: 'shrink', the window
            becomes the map and is not shifted; 'pad', the map is padded to the window.
        windows_at_once: None, or how many windows are computed together, for less
            memory (the paper's sequential attention); they run again in the backward
            pass.
        drop_path_rate: largest stochastic depth rate; linear from 0 along the blocks.
        moe: None, or a dict by which some blocks have MLPs of several experts, as
            SwinV2-MoE: ``num_experts``; optionally ``capacity_factor`` (1.25) and
            ``noise`` (1.0) of `Experts`, ``dropout`` inside the experts (0.0) and
            ``blocks``, for each stage the indices of such blocks (by default odd ones
            in stage 3, and block 1 of stage 4). `mmrev.BalancedExperts` around the
            model trains them.
        out_indices: levels to return.
        out_norm: 'layer_norm' normalises every returned level; None does not.
        frozen_stages: -1 trains everything, 0 freezes the stem, n also the first n
            stages.
        memory: 'store', 'recompute' or 'reverse', one of these a stage, or 'auto', see
            `StagedBackbone`; 'recompute' keeps the input of every branch in stage 1.
        memory_budget_mb: of memory='auto', see `Backbone`.
        with_cp: True is ``memory='recompute'``.
        coupling: None, 'dual' or, without norms of the main branch, 'two-stream',
            see `StagedBackbone`. The links of a chain are branches.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)``; the official files, and
            those of timm and mmpretrain, load as they are.

    Raises:
        ValueError: on a setting that does not exist.
    """

    no_weight_decay = ("cpb_mlp", "logit_scale")
    channels_last = True
    couplings = ("dual", "two-stream")

    def __init__(
        self,
        arch: str | dict = "tiny",
        in_channels: int = 3,
        window_size: int | Sequence[int] = 8,
        pretrained_window_sizes: int | Sequence[int] = 0,
        position_bias: str = "block",
        padded_keys: str = "seen",
        small_maps: str = "shrink",
        windows_at_once: int | None = None,
        drop_path_rate: float = 0.0,
        moe: dict | None = None,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        out_norm: str | None = None,
        frozen_stages: int = -1,
        memory: str | Sequence[str] = "store",
        memory_budget_mb: float | None = None,
        with_cp: bool = False,
        coupling: str | None = None,
        init_cfg: dict | None = None,
    ):
        settings = _settings_of(arch)
        super().__init__(
            channels=[settings["embed_dims"] * 2**i for i in range(NUM_STAGES)],
            out_indices=out_indices,
            out_norm=out_norm,
            frozen_stages=frozen_stages,
            num_stages=NUM_STAGES,
            memory=memory,
            memory_budget_mb=memory_budget_mb,
            with_cp=with_cp,
            coupling=coupling,
            init_cfg=init_cfg,
        )
        _check_choice("position_bias", position_bias, ("block", "stage"))
        _check_choice("padded_keys", padded_keys, ("seen", "masked"))
        _check_choice("small_maps", small_maps, ("shrink", "pad"))
        if windows_at_once is not None and windows_at_once < 1:
            raise ValueError(
                "SwinTransformerV2: windows_at_once must be None or >= 1, got "
                f"{windows_at_once}."
            )
        if coupling == "two-stream" and settings["extra_norm_every_n_blocks"]:
            raise ValueError(
                "SwinTransformerV2: coupling='two-stream' needs blocks of two branches "
                "alone, got extra_norm_every_n_blocks="
                f"{settings['extra_norm_every_n_blocks']}. Use coupling='dual'."
            )
        self.depths = list(settings["depths"])
        self.position_bias = position_bias
        self.window_sizes = _one_a_stage("window_size", window_size, 1)
        pretrained = _one_a_stage("pretrained_window_sizes", pretrained_window_sizes, 0)
        self.pretrained_window_sizes = [
            own or size for own, size in zip(pretrained, self.window_sizes, strict=True)
        ]
        self.register_buffer(
            "pretrained_windows", torch.tensor(self.pretrained_window_sizes)
        )

        self.stem = PatchEmbed(in_channels, self.channels[0])
        rates = drop_path_rates(drop_path_rate, self.depths)
        every = settings["extra_norm_every_n_blocks"]
        moe = _moe_settings(moe, self.depths) if moe else None
        self.stages = nn.ModuleList()
        for stage, depth in enumerate(self.depths):
            width = self.channels[stage]
            blocks = OrderedDict()
            if stage:
                blocks["merge"] = PatchMerging(self.channels[stage - 1])
            shared = None
            for index in range(depth):
                inside = WindowAttention(
                    width,
                    settings["num_heads"][stage],
                    self.pretrained_window_sizes[stage],
                    shared,
                )
                if position_bias == "stage":
                    shared = inside
                attention = ShiftedWindows(
                    inside,
                    self.window_sizes[stage],
                    index % 2 == 1,
                    padded_keys,
                    small_maps,
                    windows_at_once,
                    self.memory[stage],
                )
                extra_norm = every > 0 and (index + 1) % every == 0
                blocks[str(index)] = Block(
                    width,
                    attention,
                    rates[stage][index],
                    extra_norm,
                    moe if moe and index in moe["blocks"][stage] else None,
                )
            self.stages.append(nn.Sequential(blocks))
        self._finish()

    def set_memory(self, memory: str | Sequence[str]) -> None:
        """Use a memory mode from now on, see `StagedBackbone.set_memory`."""
        super().set_memory(memory)
        for stage, mode in zip(getattr(self, "stages", ()), self.memory, strict=False):
            for module in stage.modules():
                if isinstance(module, ShiftedWindows):
                    module.memory = mode

    def links(self, module: nn.Module) -> list[nn.Module]:
        """The branches of a block; a norm of the main branch ends the last one."""
        if not isinstance(module, Block):
            return []
        attention, *others = module
        return [attention, others[0] if len(others) == 1 else nn.Sequential(*others)]

    def units(self) -> list[nn.Module]:
        """Branches where these run by themselves, in stage 1 and in chains; blocks.

        Raises:
            ValueError: if blocks share weights.
        """
        if self.position_bias == "stage":
            raise ValueError(
                "SwinTransformerV2: position_bias='stage' gives blocks weights in "
                "common, which FSDP2 cannot shard. Train without --shard, or set "
                "position_bias='block', which takes the same checkpoints."
            )
        found = []
        for module in super().units():
            apart = bool(self.coupling and self.links(module))
            parts = apart or module in self.stages[0]
            found += list(module) if parts else [module]
        return found

    def run(self, block: nn.Module, x: Tensor, stage: int = 0) -> Tensor:
        """Call a block in the memory mode of a stage; in stage 1, branch by branch.

        With the largest maps a branch less to run again lowers the peak; later, one
        more kept input a block would raise it.
        """
        for part in block if block in self.stages[0] else [block]:
            x = super().run(part, x, stage=stage)
        return x

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Layer id of a parameter, for layer-wise learning rate decay.

        As in the reference's fine-tuning: the stem is 0, blocks count from 1, a merging
        of patches belongs to the block before it.

        Args:
            param_name: the parameter's full name.
            prefix: what precedes the backbone's own names, as 'backbone.'.

        Returns:
            The id, and the number of ids (the last one is the head's).
        """
        num_layers = sum(self.depths) + 2
        parts = param_name.removeprefix(prefix).split(".")
        if not param_name.startswith(prefix) or parts[0] not in ("stem", "stages"):
            return num_layers - 1, num_layers
        if parts[0] == "stem":
            return 0, num_layers
        before = sum(self.depths[: int(parts[1])])
        return before + (0 if parts[2] == "merge" else int(parts[2]) + 1), num_layers

    @torch.no_grad()
    def _init_weights(self) -> None:
        self.stem.proj.reset_parameters()
        init_trunc_normal(self.stages)
        for module in self.modules():
            if isinstance(module, PostNorm):
                nn.init.zeros_(module.norm.weight)
                nn.init.zeros_(module.norm.bias)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        """Refuse weights whose position bias belongs to other windows."""
        key = f"{prefix}pretrained_windows"
        if key in state_dict:
            own = self.pretrained_window_sizes
            known = state_dict[key].tolist()
            if 0 in known:
                print_log(
                    "SwinTransformerV2: the checkpoint does not tell for which windows "
                    f"its position bias was trained; pretrained_window_sizes={own} is "
                    "taken for right. If it is not, nothing else will show it.",
                    logger="current",
                    level=logging.WARNING,
                )
                state_dict[key] = torch.tensor(own)
            elif known != own:
                raise ValueError(
                    "SwinTransformerV2: the checkpoint's position bias was trained "
                    f"with pretrained_window_sizes={known}, this model has {own}. Set "
                    f"pretrained_window_sizes={tuple(known)}."
                )
        if self.position_bias == "stage":
            self._check_shared(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _check_shared(self, state_dict: Mapping[str, Tensor], prefix: str) -> None:
        """Refuse weights of which the last block's bias alone would be kept."""
        known: dict[tuple[str, str], tuple[str, Tensor]] = {}
        for key, value in state_dict.items():
            place, found, name = key.partition(".attn.layer.attention.cpb_mlp.")
            if not found or not place.startswith(prefix):
                continue
            stage = place.removeprefix(prefix).rpartition(".")[0]
            first, expected = known.setdefault((stage, name), (key, value))
            if not torch.equal(value, expected):
                raise ValueError(
                    "SwinTransformerV2: expected weights with one network of the "
                    f"position bias a stage, got {first} and {key}, which differ. Set "
                    "position_bias='block'."
                )


def _pad_to(x: Tensor, multiples: tuple[int, int]) -> Tensor:
    """Pad H and W of (N, H, W, C) with zeros at the end, to the next multiples."""
    pad_h, pad_w = (-n % m for n, m in zip(x.shape[1:3], multiples, strict=True))
    return F.pad(x, (0, 0, 0, pad_w, 0, pad_h)) if pad_h or pad_w else x


def _check_choice(name: str, value: str, choices: tuple[str, str]) -> None:
    if value not in choices:
        raise ValueError(
            f"SwinTransformerV2: {name} must be '{choices[0]}' or '{choices[1]}', got "
            f"{value!r}."
        )


def _one_a_stage(name: str, value: int | Sequence[int], least: int) -> list[int]:
    values = [value] * NUM_STAGES if isinstance(value, int) else list(value)
    if len(values) != NUM_STAGES or min(values) < least:
        raise ValueError(
            f"SwinTransformerV2: {name} must be a number >= {least} or {NUM_STAGES} "
            f"of them, got {value}."
        )
    return values


def _settings_of(arch: str | dict) -> dict:
    arch = resolve_arch(
        "SwinTransformerV2",
        arch,
        ARCHITECTURES,
        ("embed_dims", "depths", "num_heads"),
        ("extra_norm_every_n_blocks",),
    )
    for key in ("depths", "num_heads"):
        values = arch[key]
        if len(values) != NUM_STAGES or min(values) < 1:
            raise ValueError(
                f"SwinTransformerV2: arch {key} must be {NUM_STAGES} numbers >= 1, got "
                f"{values}."
            )
    for index, heads in enumerate(arch["num_heads"]):
        width = arch["embed_dims"] * 2**index
        if width % heads:
            raise ValueError(
                f"SwinTransformerV2: num_heads must divide the channels, got {heads} "
                f"heads for {width} channels in stage {index + 1}."
            )
    return {"extra_norm_every_n_blocks": 0, **arch}


def _moe_settings(moe: dict, depths: list[int]) -> dict:
    """The settings of experts with their defaults; `depths` are blocks a stage."""
    usual = [(), (), range(1, depths[2], 2), range(1, min(depths[3], 2))]
    defaults = {"capacity_factor": 1.25, "noise": 1.0, "dropout": 0.0, "blocks": usual}
    known = {"num_experts", *defaults}
    if "num_experts" not in moe or not moe.keys() <= known:
        raise ValueError(
            "SwinTransformerV2: moe takes num_experts and, optionally, "
            f"{', '.join(defaults)}; got {', '.join(map(str, moe)) or 'nothing'}."
        )
    moe = {**defaults, **moe}
    count, blocks = moe["num_experts"], moe["blocks"]
    if count < 1 or not 0 <= moe["dropout"] < 1:
        raise ValueError(
            "SwinTransformerV2: moe must have num_experts >= 1 and 0 <= dropout < 1, "
            f"got {count} and {moe['dropout']}."
        )
    if len(blocks) != NUM_STAGES or any(
        not 0 <= index < depth
        for depth, indices in zip(depths, blocks, strict=False)
        for index in indices
    ):
        raise ValueError(
            f"SwinTransformerV2: moe blocks must be indices for each of {NUM_STAGES} "
            f"stages, of {', '.join(map(str, depths))} blocks, got {blocks}. Block 1 "
            "is the second one."
        )
    return moe
