"""Time and memory of the backbones' training steps, of others', and compiled."""

import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import nn
from torch._dynamo.utils import counters

from mmrev.measure.costs import paired_costs
from mmrev.measure.speed import paired_times
from mmrev.measure.training_step import training_step
from mmrev.registry import MODELS
from mmrev.studies.gpu_check.costs import host_syncs
from mmrev.studies.gpu_check.models import (
    FAMILIES,
    build,
    couple_evenly,
    distance,
    gradients_of,
)
from mmrev.studies.gpu_check.place import Place
from mmrev.studies.gpu_check.report import NEEDS_GPU
from mmrev.studies.gpu_check.worker import Row
from mmrev.studies.memory_modes.networks import STOCK, use_memory

SIZES = {
    "RevCol-T": ("revcol", {"arch": "tiny"}),
    "RevCol-S": ("revcol", {"arch": "small"}),
    "RevCol-B": ("revcol", {"arch": "base"}),
    "Swin-V2-T": ("swinv2", {"arch": "tiny", "window_size": 16}),
    "Swin-V2-B": ("swinv2", {"arch": "base", "window_size": 16}),
    "NFNet-F0": ("nfnet", {"arch": "F0"}),
    "NFNet-F1": ("nfnet", {"arch": "F1"}),
}
"""Family and settings by name."""
SHAPES = ((1, 800, 1216), (2, 800, 1216), (8, 512, 512))
TINY_SHAPES = ((2, 64, 96),)
PRECISIONS = {"fp32 (TF32)": None, "bf16": torch.bfloat16}


def references(name: str, height: int, width: int) -> dict[str, dict]:
    """What others have of the same architecture, for images of this size."""
    timm = {"type": "mmpretrain.TIMMBackbone", "features_only": True}
    if name == "Swin-V2-T":
        return {
            "timm": {
                **timm,
                "model_name": "swinv2_tiny_window16_256",
                "img_size": (height, width),
            },
            "mmpretrain": {
                "type": "mmpretrain.SwinTransformerV2",
                "arch": "tiny",
                "window_size": 16,
                "img_size": (height, width),
                "pad_small_map": True,
                "drop_path_rate": 0.0,
                "out_indices": (0, 1, 2, 3),
            },
        }
    if name == "NFNet-F0":
        # Of timm without the stem's feature and the classifier's convolution.
        return {
            "timm": {
                **timm,
                "model_name": "dm_nfnet_f0",
                "num_features": 0,
                "out_indices": (1, 2, 3, 4),
            }
        }
    return {}


def backbone_costs(place: Place, name: str) -> Iterator[Row]:
    """A training step of every memory mode and reference, in turn.

    In 'reverse' the blocks of a backbone with stages are coupled, in the other modes
    the same weights are those of the ordinary network.
    """
    family, settings = SIZES[name]
    form = "small" if place.is_tiny else "full"
    config = FAMILIES[family].coupled(form)
    model = _built(place, config if place.is_tiny else {**config, **settings})
    couple_evenly(model)
    memories = [*FAMILIES[family].memories, STOCK]
    for batch, height, width in TINY_SHAPES if place.is_tiny else SHAPES:
        others = {
            other: _built(place, config)
            for other, config in references(name, height, width).items()
        }
        image = torch.randn(batch, 3, height, width, device=place.device)
        for precision, dtype in PRECISIONS.items():
            own = training_step(model, image, dtype)
            steps = {
                memory: partial(_step_in, model, memory, own) for memory in memories
            }
            for other, backbone in others.items():
                steps[other] = training_step(backbone, image, dtype)
            what = f"{batch} x {height}x{width}, {precision}"
            yield from _costs(place, steps, what)
        del others, image, own, steps
        place.clean()


def _built(place: Place, config: dict) -> nn.Module:
    # Made where it runs: drawing large weights on the CPU takes longer than the steps.
    with torch.device(place.device):
        return MODELS.build(dict(config))


def _step_in(model: nn.Module, memory: str, step: Callable[[], None]) -> None:
    if hasattr(model, "coefficients"):
        model.coupling = "dual" if memory == "reverse" else None
    use_memory(model, memory)
    step()


def _costs(place: Place, steps: dict[str, Callable], what: str) -> Iterator[Row]:
    rows, fitting = {}, {}
    for name, step in steps.items():
        row = rows[name] = {"what": what, "mode": name}
        try:
            step()
            waits = host_syncs(place, step)
            row["host waits"] = NEEDS_GPU if waits is None else waits.total()
            fitting[name] = step
        except torch.OutOfMemoryError:
            row["note"] = "out of memory"
            place.clean()
    repeats = 1 if place.is_tiny else 5
    for name, cost in paired_costs(fitting, repeats, place.device).items():
        rows[name]["ms"] = 1e3 * cost.seconds.median
        rows[name]["MiB"] = cost.peak / 2**20
    yield from rows.values()


def compiled(place: Place, family: str, form: str) -> Iterator[Row]:
    """Whether torch.compile takes a backbone whole, and what it gains.

    Single precision for the small form, bf16 for the full one. On a CPU, where a
    compiler may be missing, torch's tracing and no code generation.
    """
    backend = "inductor" if place.is_gpu else "aot_eager"
    batch, height, width = (2, 64, 96) if form == "small" else (8, 512, 512)
    dtype = None if form == "small" else torch.bfloat16
    model = build(FAMILIES[family].config(form, memory="store")).to(place.device)
    image = torch.randn(batch, 3, height, width, device=place.device)
    torch._dynamo.reset()
    counters.clear()
    try:
        faster = torch.compile(model, backend=backend)
        start = time.perf_counter()
        gradients = gradients_of(faster, image, dtype)
        place.wait()
        first = time.perf_counter() - start
        gradients = {
            name.removeprefix("_orig_mod."): one for name, one in gradients.items()
        }
        row = {
            "what": f"{backend}, {batch} x {height}x{width}, {dtype or 'fp32 (TF32)'}",
            "graphs": counters["stats"]["unique_graphs"],
            "breaks": sum(counters["graph_break"].values()),
            "first step s": first,
            "gradient error": distance(gradients, gradients_of(model, image, dtype)),
        }
        # Known by now, and not lost if the time is over.
        yield row
        steps = {
            "eager": training_step(model, image, dtype),
            "compiled": training_step(faster, image, dtype),
        }
        times = paired_times(steps, 1 if place.is_tiny else 5, place.device)
        yield {
            "what": "steps",
            **{f"{name} ms": 1e3 * seconds for name, seconds in times.items()},
            "note": "; ".join(str(one)[:200] for one in counters["graph_break"]),
        }
    finally:
        torch._dynamo.reset()
