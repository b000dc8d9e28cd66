"""In the place of ``mmcv._ext``, mmcv's compiled extension, where there is none.

mmcv loads this file under that name (see ``mmrev_ops.py``). The functions have the
extension's names, arguments and conventions, which is why results are written into a
tensor that was handed over. They are computed by torchvision's operators, or in plain
torch, on any device. An op that is not here exists all the same, as importing
`mmcv.ops` asks for the names of all, and refuses to be called.

Source: onedl-mmcv 2.3.6, ``mmcv/ops/csrc/pytorch``: ``pybind.cpp`` for the arguments,
``cpu/*.cpp`` and ``common/cuda/*.cuh`` for what is computed.
"""

import sys
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn import functional as F

RAN: dict[str, str] = {}
"""What computed the functions that were called in this process."""

_LEAST = torch.finfo(torch.float32).tiny  # of a probability whose logarithm is taken
_NAIVE, _LINEAR = 0, 1  # methods of soft_nms; the third is Gaussian


def _computed_by(library: str) -> Callable[[Callable], Callable]:
    def register(function: Callable) -> Callable:
        @wraps(function)
        def op(*args: Any, **kwargs: Any) -> Any:
            RAN[function.__name__] = library
            if library == "torchvision":
                _require_torchvision()
            return function(*args, **kwargs)

        return op

    return register


def __getattr__(name: str) -> Callable[..., NoReturn]:
    """An op that nothing here computes."""
    if name.startswith("__"):
        raise AttributeError(name)

    def refuse(*_: Any, **__: Any) -> NoReturn:
        from mmrev.errors import UserError

        raise UserError(
            f"mmcv.ops: {name} is not computed here, and {_caller()} needs it. Only "
            "mmcv's compiled ops have it: in a clone of mmrev run `make setup "
            "OPS=compiled` (it needs a C++ compiler), elsewhere `pip install "
            "--force-reinstall --no-deps --no-build-isolation onedl-mmcv` beside the "
            "torch in use; or choose another layer."
        )

    refuse.__name__ = name
    return refuse


def get_compiler_version() -> str:
    """What mmengine lists among the versions of an environment."""
    return "none (mmcv's ops are computed by torchvision and torch)"


get_compiling_cuda_version = get_compiler_version


@_computed_by("torchvision")
def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices of the boxes that are kept, (K,), by falling score.

    Args:
        boxes: left, top, right, bottom, (N, 4).
        scores: (N,).
        iou_threshold: a box whose overlap with a better one is above it is dropped.
        offset: 1 where the last pixel belongs to the box, so that it is that much
            wider and higher; else 0.
    """
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    # Equal scores are ordered as mmcv orders them, and overlaps compared in single
    # precision: both decide which boxes stay.
    order = scores.sort(0, descending=True)[1]
    ranks = torch.arange(len(order), 0, -1, device=boxes.device).float()
    threshold = torch.tensor(iou_threshold).item()
    kept = torch.ops.torchvision.nms(boxes[order].float(), ranks, threshold)
    return order[kept]


@_computed_by("torch")
def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Indices of the boxes that are kept, (K,); equal scores in mmcv's order.

    Args:
        boxes: left, top, right, bottom, (N, 4), on the CPU.
        scores: (N,).
        dets: takes boxes and lowered scores, (N, 5), of which K rows are written.
        iou_threshold: overlap from which the first two methods lower a score.
        sigma: of the third method, Gaussian.
        min_score: boxes with less are dropped.
        method: 0, to zero; 1, by the overlap; 2, by a Gaussian of it.
        offset: as of `nms`.
    """
    rows = torch.cat([boxes, scores[:, None]], dim=1)  # in the order of `order`
    sides = boxes[:, 2:] - boxes[:, :2] + offset
    areas, order = sides.prod(dim=1), torch.arange(len(boxes))
    done, left = 0, len(boxes)
    while done < left:
        best = done + int(rows[done:left, 4].argmax())
        for column in (rows, areas, order):
            column[[done, best]] = column[[best, done]]
        first, others = rows[done], rows[done + 1 : left]
        inner = torch.minimum(first[2:4], others[:, 2:4]) + offset
        inner = (inner - torch.maximum(first[:2], others[:, :2])).clamp(min=0)
        inner = inner.prod(dim=1)
        overlap = inner / (areas[done] + areas[done + 1 : left] - inner)
        if method in (_NAIVE, _LINEAR):
            lowered = 0 * overlap if method == _NAIVE else 1 - overlap
            weights = torch.where(overlap >= iou_threshold, lowered, 1)
        else:
            weights = torch.exp(-(overlap**2) / sigma)
        others[:, 4] *= weights
        done += 1
        # The last one takes the place of each that is dropped, from the front.
        low = (rows[:, 4] < min_score).tolist()
        place = done
        while place < left:
            if low[place]:
                left -= 1
                low[place] = low[left]
                for column in (rows, areas, order):
                    column[place] = column[left]
            else:
                place += 1
    dets[:left] = rows[:left]
    return order[:left]


@_computed_by("torchvision")
def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Average of the bilinear samples in each bin of each region.

    Args:
        input: (N, C, H, W).
        rois: number of the image, left, top, right, bottom, (R, 5).
        output: takes the result, (R, C, aligned_height, aligned_width).
        argmax_y: of the other mode.
        argmax_x: of the other mode.
        aligned_height: bins of a region.
        aligned_width: bins of a region.
        spatial_scale: of the rois, which are in pixels of the image.
        sampling_ratio: samples of a bin along each side; 0 for as many as pixels.
        pool_mode: 1; 0, the maximum, is not computed here.
        aligned: whether half a pixel is taken off, as in detectron2.

    Raises:
        UserError: of ``pool_mode`` 0.
    """
    if not pool_mode:
        __getattr__("roi_align with pool_mode='max'")()
    size = aligned_height, aligned_width
    output.copy_(
        torch.ops.torchvision.roi_align(
            input, rois, spatial_scale, *size, sampling_ratio, aligned
        )
    )


@_computed_by("torchvision")
def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient of `roi_align_forward` for its input, written to ``grad_input``."""
    size = aligned_height, aligned_width
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad_output,
            rois,
            spatial_scale,
            *size,
            *grad_input.shape,
            sampling_ratio,
            aligned,
        )
    )


@_computed_by("torchvision")
def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **shape: int,
) -> None:
    """Convolution whose kernel's points are displaced, without a bias.

    Args:
        input: (N, C, H, W).
        weight: (D, C / group, kH, kW).
        offset: y and x in turn, (N, 2 deformable_group kH kW, H', W').
        output: takes the result, (N, D, H', W').
        columns: a buffer of mmcv's.
        ones: a buffer of mmcv's.
        **shape: ``kW``, ``kH``, ``dW``, ``dH`` (strides), ``padW``, ``padH``,
            ``dilationW``, ``dilationH``, ``group``, ``deformable_group``, and
            ``im2col_step``, which is mmcv's business.
    """
    mask, bias = _no_mask_and_bias(input, weight)
    output.copy_(
        torch.ops.torchvision.deform_conv2d(
            input, weight, offset, mask, bias, *_plain_shape(shape), False
        )
    )


@_computed_by("torchvision")
def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **shape: int,
) -> None:
    """Gradients of `deform_conv_forward` for input and offset."""
    mask, bias = _no_mask_and_bias(input, weight)
    found = torch.ops.torchvision._deform_conv2d_backward(
        grad_output, input, weight, offset, mask, bias, *_plain_shape(shape), False
    )
    grad_input.copy_(found[0])
    grad_offset.copy_(found[2])


@_computed_by("torchvision")
def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float = 1.0,
    **shape: int,
) -> None:
    """Gradient of `deform_conv_forward` for the weight, times ``scale``."""
    mask, bias = _no_mask_and_bias(input, grad_weight)
    # The weight itself has no part in it.
    found = torch.ops.torchvision._deform_conv2d_backward(
        grad_output, input, grad_weight, offset, mask, bias, *_plain_shape(shape), False
    )
    grad_weight.copy_(scale * found[1])


@_computed_by("torchvision")
def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    with_bias: bool,
    **shape: int,
) -> None:
    """As `deform_conv_forward`, with a weight for each displaced point.

    Args:
        input: (N, C, H, W).
        weight: (D, C / group, kernel_h, kernel_w).
        bias: (D,), if ``with_bias``.
        ones: a buffer of mmcv's.
        offset: y and x in turn, (N, 2 deformable_group kernel_h kernel_w, H', W').
        mask: (N, deformable_group kernel_h kernel_w, H', W').
        output: takes the result, (N, D, H', W').
        columns: a buffer of mmcv's.
        with_bias: whether there is a bias.
        **shape: ``kernel_h``, ``kernel_w``, ``stride_h``, ``stride_w``, ``pad_h``,
            ``pad_w``, ``dilation_h``, ``dilation_w``, ``group``, ``deformable_group``.
    """
    if not with_bias:
        _, bias = _no_mask_and_bias(input, weight)
    output.copy_(
        torch.ops.torchvision.deform_conv2d(
            input, weight, offset, mask, bias, *_modulated_shape(shape), True
        )
    )


@_computed_by("torchvision")
def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    with_bias: bool,
    **shape: int,
) -> None:
    """Gradients of `modulated_deform_conv_forward` for all of its tensors."""
    if not with_bias:
        _, bias = _no_mask_and_bias(input, weight)
    found = torch.ops.torchvision._deform_conv2d_backward(
        grad_output, input, weight, offset, mask, bias, *_modulated_shape(shape), True
    )
    targets = grad_input, grad_weight, grad_offset, grad_mask, grad_bias
    for target, gradient in zip(targets, found, strict=True):
        if target is not grad_bias or with_bias:
            target.copy_(gradient)


@_computed_by("torch")
def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Sums of bilinear samples over several levels (Deformable DETR, section 4.1).

    Args:
        value: of all levels' cells, (N, S, heads, C).
        spatial_shapes: height and width of each level, (L, 2).
        level_start_index: where each level begins among the S cells, (L,).
        sampling_locations: x and y in 0..1, (N, Q, heads, L, points, 2).
        attention_weights: (N, Q, heads, L, points).
        im2col_step: mmcv's business.

    Returns:
        (N, Q, heads C).
    """
    levels = _levels(value, spatial_shapes, sampling_locations, attention_weights)
    return sum(_sampled(*level) for level in levels).contiguous()


def _levels(
    value: Tensor, spatial_shapes: Tensor, locations: Tensor, weights: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor, tuple[int, int]]]:
    """What belongs to each level, as views: of many queries one fills the memory."""
    sizes = _sizes_of(spatial_shapes)
    cells = value.split([height * width for height, width in sizes], dim=1)
    yield from zip(cells, locations.unbind(3), weights.unbind(3), sizes, strict=True)


def _sampled(
    value: Tensor, locations: Tensor, weights: Tensor, size: tuple[int, int]
) -> Tensor:
    """Sums of bilinear samples of one level, (N, Q, heads C).

    Args:
        value: of its cells, (N, H W, heads, C).
        locations: x and y in 0..1, (N, Q, heads, points, 2).
        weights: (N, Q, heads, points).
        size: H and W.
    """
    # Of a head as of an image: (N heads, C, H, W) and (N heads, Q, points, 2).
    cells = value.permute(0, 2, 3, 1).flatten(0, 1).unflatten(2, size)
    places = (2 * locations - 1).transpose(1, 2).flatten(0, 1)
    samples = F.grid_sample(cells, places, align_corners=False)
    summed = (samples * weights.transpose(1, 2).flatten(0, 1)[:, None]).sum(3)
    return summed.unflatten(0, (len(value), -1)).flatten(1, 2).transpose(1, 2)


def _sizes_of(spatial_shapes: Tensor) -> list[tuple[int, int]]:
    """The rows as numbers, for which a host waits for its GPU: once for all layers."""
    if spatial_shapes.is_inference():  # which has no version to tell a change by
        return [tuple(one) for one in spatial_shapes.tolist()]
    version, sizes = getattr(spatial_shapes, "_mmrev_sizes", (None, []))
    if version != spatial_shapes._version:
        sizes = [tuple(one) for one in spatial_shapes.tolist()]
        spatial_shapes._mmrev_sizes = spatial_shapes._version, sizes
    return sizes


@_computed_by("torch")
def ms_deform_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Gradients of `ms_deform_attn_forward`, which is computed once more."""
    tensors = value, sampling_locations, attention_weights
    targets = grad_value, grad_sampling_loc, grad_attn_weight
    for level, into in zip(
        _levels(tensors[0], spatial_shapes, *tensors[1:]),
        _levels(targets[0], spatial_shapes, *targets[1:]),
        strict=True,
    ):
        *inputs, size = level
        inputs = [one.detach().requires_grad_() for one in inputs]
        with torch.enable_grad():
            output = _sampled(*inputs, size)
        found = torch.autograd.grad(output, inputs, grad_output)
        for target, gradient in zip(into[:3], found, strict=True):
            target.copy_(gradient)


@_computed_by("torch")
def sigmoid_focal_loss_forward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    output: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Focal loss of independent classes (arXiv 1708.02002, section 3).

    Args:
        input: logits, (N, C).
        target: classes, (N,); any number beyond them is the background.
        weight: of the classes, (C,); empty for none.
        output: takes the loss, (N, C).
        gamma: exponent.
        alpha: weight of the right class; the others have ``1 - alpha``.
    """
    p, right = input.sigmoid(), _one_hot(target, input)
    positive = -alpha * (1 - p) ** gamma * p.clamp(min=_LEAST).log()
    negative = -(1 - alpha) * p**gamma * (1 - p).clamp(min=_LEAST).log()
    output.copy_(_weighted(torch.where(right, positive, negative), weight, target))


@_computed_by("torch")
def sigmoid_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Gradient of `sigmoid_focal_loss_forward` for the logits."""
    p, right = input.sigmoid(), _one_hot(target, input)
    log_p, log_q = p.clamp(min=_LEAST).log(), (1 - p).clamp(min=_LEAST).log()
    positive = -alpha * (1 - p) ** gamma * (1 - p - gamma * p * log_p)
    negative = -(1 - alpha) * p**gamma * (gamma * (1 - p) * log_q - p)
    gradient = torch.where(right, positive, negative)
    grad_input.copy_(_weighted(gradient, weight, target))


@_computed_by("torch")
def softmax_focal_loss_forward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    output: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Focal loss of classes that exclude each other.

    Args:
        input: probabilities after softmax, (N, C).
        target: classes, (N,); none below 0.
        weight: of the classes, (C,); empty for none.
        output: takes the loss, (N,).
        gamma: exponent.
        alpha: factor.
    """
    p = input.gather(1, target.clamp(min=0)[:, None])[:, 0]
    loss = -alpha * (1 - p) ** gamma * p.clamp(min=_LEAST).log()
    loss = torch.where(target >= 0, loss, 0)
    output.copy_(_weighted(loss[:, None], weight, target)[:, 0])


@_computed_by("torch")
def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Gradient of `softmax_focal_loss_forward` for the logits; ``buff`` is mmcv's."""
    p = input.gather(1, target.clamp(min=0)[:, None])[:, 0]
    rise = gamma * (1 - p) ** (gamma - 1) * p * p.clamp(min=_LEAST).log()
    slope = torch.where(target >= 0, alpha * (rise - (1 - p) ** gamma), 0)
    slope = _weighted(slope[:, None], weight, target)
    grad_input.copy_(slope * (_one_hot(target, input).to(input.dtype) - input))


def _one_hot(target: Tensor, input: Tensor) -> Tensor:
    return target[:, None] == torch.arange(input.shape[1], device=input.device)


def _weighted(values: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """Times the weight of each row's class; the background has none, so 1."""
    if not weight.numel():
        return values
    known = (target >= 0) & (target < len(weight))
    factors = weight[torch.where(known, target, 0)]
    return values * torch.where(known, factors, 1)[:, None]


def _no_mask_and_bias(input: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """What torchvision takes where there is neither."""
    return input.new_zeros(len(input), 1), input.new_zeros(len(weight))


def _plain_shape(shape: dict[str, int]) -> list[int]:
    keys = "dH dW padH padW dilationH dilationW group deformable_group"
    return [shape[key] for key in keys.split()]


def _modulated_shape(shape: dict[str, int]) -> list[int]:
    keys = "stride_h stride_w pad_h pad_w dilation_h dilation_w group deformable_group"
    return [shape[key] for key in keys.split()]


def _require_torchvision() -> None:
    """Load torchvision's operators, or say what is wrong with it."""
    try:
        import torchvision.extension

        torchvision.extension._assert_has_ops()
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        from mmrev.errors import UserError

        raise UserError(
            "mmcv.ops are computed by torchvision, which does not work beside torch "
            f"{torch.__version__} ({error}); install the torchvision of that torch "
            "(2.10 has 0.25, 2.14 has 0.29)."
        ) from error


def _caller() -> str:
    """The module outside of mmcv and torch that is about to use an op."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] not in ("mmcv", "torch"):
            return name
        frame = frame.f_back
    return "mmcv"
