"""mmcv's ops on the device, compiled or replaced, against the CPU or definitions."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from mmrev.ops import are_compiled
from mmrev.studies.gpu_check.models import level_error
from mmrev.studies.gpu_check.place import Place
from mmrev.studies.gpu_check.report import NEEDS_GPU
from mmrev.studies.gpu_check.worker import Row, compared

BOUND = 1e-4

_Results = Sequence[Tensor]
_Op = Callable[[torch.device, torch.Generator], _Results]


def mmcv_ops(place: Place) -> Iterator[Row]:
    """Outputs and gradients of the ops that the suite's configs call."""
    cpu = torch.device("cpu")
    for name, (op, definition) in _ops().items():
        if definition is not None and not place.is_gpu and are_compiled():
            yield {"what": name, "note": NEEDS_GPU}  # mmcv compiles it for no CPU
            continue
        there = op(place.device, torch.Generator().manual_seed(0))
        here = (definition or op)(cpu, torch.Generator().manual_seed(0))
        pairs = [[one.detach().cpu().double() for one in run] for run in (there, here)]
        same = [one.shape for one in pairs[0]] == [one.shape for one in pairs[1]]
        yield compared(name, level_error(*pairs) if same else float("inf"), BOUND)


def _ops() -> dict[str, tuple[_Op, _Op | None]]:
    return {
        "nms": (_nms, None),
        "nms, batched": (_batched_nms, None),
        "soft_nms": (_soft_nms, None),
        "roi_align": (_roi_align, None),
        "deform_conv2d": (_deform_conv, None),
        "modulated_deform_conv2d": (_modulated_deform_conv, None),
        "ms_deform_attn": (_attention, _defined_attention),
        "sigmoid_focal_loss": (_focal_loss, _defined_focal_loss),
    }


def _boxes(generator: torch.Generator, count: int = 200) -> tuple[Tensor, Tensor]:
    corners = 100 * torch.rand(count, 2, generator=generator)
    sides = 5 + 40 * torch.rand(count, 2, generator=generator)
    scores = torch.rand(count, generator=generator)
    return torch.cat([corners, corners + sides], 1), scores


def _nms(device: torch.device, generator: torch.Generator) -> _Results:
    from mmcv.ops import nms

    boxes, scores = (one.to(device) for one in _boxes(generator))
    return nms(boxes, scores, iou_threshold=0.5)


def _batched_nms(device: torch.device, generator: torch.Generator) -> _Results:
    from mmcv.ops import batched_nms

    boxes, scores = (one.to(device) for one in _boxes(generator))
    labels = torch.arange(len(boxes), device=device) % 3
    return batched_nms(boxes, scores, labels, {"type": "nms", "iou_threshold": 0.5})


def _soft_nms(device: torch.device, generator: torch.Generator) -> _Results:
    from mmcv.ops import soft_nms

    boxes, scores = (one.to(device) for one in _boxes(generator))
    return soft_nms(boxes, scores, iou_threshold=0.5, method="linear")


def _roi_align(device: torch.device, generator: torch.Generator) -> _Results:
    from mmcv.ops import roi_align

    image = torch.randn(2, 8, 32, 32, generator=generator)
    boxes, _ = _boxes(generator, 20)
    rois = torch.cat([(torch.arange(20.0) % 2)[:, None], boxes], 1).to(device)
    return _with_gradients(
        device, [image], lambda x: roi_align(x, rois, (7, 7), 0.25, 2, "avg", True)
    )


def _deform_conv(device: torch.device, generator: torch.Generator) -> _Results:
    from mmcv.ops import deform_conv2d

    image = torch.randn(2, 8, 16, 16, generator=generator)
    offset = torch.randn(2, 18, 16, 16, generator=generator)
    weight = torch.randn(4, 8, 3, 3, generator=generator)
    return _with_gradients(
        device, [image, offset, weight], lambda x, o, w: deform_conv2d(x, o, w, 1, 1)
    )


def _modulated_deform_conv(
    device: torch.device, generator: torch.Generator
) -> _Results:
    from mmcv.ops import modulated_deform_conv2d

    shapes = ((2, 8, 16, 16), (2, 18, 16, 16), (2, 9, 16, 16), (4, 8, 3, 3), (4,))
    inputs = [torch.randn(shape, generator=generator) for shape in shapes]
    return _with_gradients(
        device,
        inputs,
        lambda x, o, m, w, b: modulated_deform_conv2d(x, o, m.sigmoid(), w, b, 1, 1),
    )


_SIDES = ((16, 12), (8, 6))


def _attention_inputs(generator: torch.Generator) -> list[Tensor]:
    cells = sum(height * width for height, width in _SIDES)
    value = torch.randn(2, cells, 4, 8, generator=generator)
    places = torch.rand(2, 30, 4, len(_SIDES), 3, 2, generator=generator)
    weights = torch.rand(2, 30, 4, len(_SIDES), 3, generator=generator)
    return [value, places, weights]


def _attention(device: torch.device, generator: torch.Generator) -> _Results:
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

    shapes = torch.tensor(_SIDES, device=device)
    starts = torch.tensor([0, _SIDES[0][0] * _SIDES[0][1]], device=device)

    def attend(value: Tensor, places: Tensor, weights: Tensor) -> Tensor:
        return MultiScaleDeformableAttnFunction.apply(
            value, shapes, starts, places, weights, 64
        )

    return _with_gradients(device, _attention_inputs(generator), attend)


def _defined_attention(device: torch.device, generator: torch.Generator) -> _Results:
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    shapes = torch.tensor(_SIDES, device=device)
    return _with_gradients(
        device,
        _attention_inputs(generator),
        lambda value, *rest: multi_scale_deformable_attn_pytorch(value, shapes, *rest),
    )


def _focal_inputs(generator: torch.Generator) -> tuple[list[Tensor], Tensor]:
    logits = 3 * torch.randn(50, 7, generator=generator)
    return [logits], torch.randint(0, 8, (50,), generator=generator)  # 7: background


def _focal_loss(device: torch.device, generator: torch.Generator) -> _Results:
    from mmcv.ops import sigmoid_focal_loss

    inputs, target = _focal_inputs(generator)
    target = target.to(device)
    return _with_gradients(
        device,
        inputs,
        lambda x: sigmoid_focal_loss(x, target, 2.0, 0.25, None, "none"),
    )


def _defined_focal_loss(device: torch.device, generator: torch.Generator) -> _Results:
    from torchvision.ops import sigmoid_focal_loss

    inputs, target = _focal_inputs(generator)
    hot = torch.nn.functional.one_hot(target, 8)[:, :7].float().to(device)
    return _with_gradients(
        device, inputs, lambda x: sigmoid_focal_loss(x, hot, 0.25, 2.0, "none")
    )


def _with_gradients(
    device: torch.device, inputs: Sequence[Tensor], op: Callable[..., Tensor]
) -> _Results:
    inputs = [one.to(device).requires_grad_() for one in inputs]
    output = op(*inputs)
    weights = torch.linspace(-1, 2, output.numel()).view(output.shape).to(device)
    (output * weights).sum().backward()
    return [output, *(one.grad for one in inputs)]
