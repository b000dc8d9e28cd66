"""DINO and Mask2Former around the backbones: steps, predictions, cost."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import mmrev
from mmrev.datasets.batches import seeded
from mmrev.datasets.synthetic import detection_batch, segmentation_batch
from mmrev.measure.costs import paired_costs
from mmrev.registry import MODELS
from mmrev.runs.config import load_config
from mmrev.studies.gpu_check.correctness import SCALER_START, growth
from mmrev.studies.gpu_check.costs import expensive_kernels, host_syncs
from mmrev.studies.gpu_check.models import CHANNELS, FAMILIES, stitched
from mmrev.studies.gpu_check.place import Place
from mmrev.studies.gpu_check.report import NEEDS_GPU
from mmrev.studies.gpu_check.worker import Row, compared
from mmrev.studies.memory_modes.networks import awake

HEADS = ("dino", "mask2former")
_DINO = "{}_dino-4scale_8xb2-12e_coco.py"
_MASK2FORMER = "{}_mask2former_8xb2-160k_ade20k-512x512.py"
LEAVES = {
    "revcol": ("revcol", "revcol-t"),
    "swinv2": ("swin_v2", "swinv2-t"),
    "nfnet": ("nfnet", "nfnet-f0"),
    "vanillanet": ("vanillanet", "vanillanet-5"),
    "reducenet": ("reducenet", "reducenet-18"),
    "stitched": ("stitched", "stitched-revcol-t-s-b"),
}
"""Folder and name of each family's configs."""

# What makes a detector of full size one that a CPU trains in a second. Types, losses
# and the optimizer stay the config's own.
SMALL_SIZES = {
    "num_queries": 20,
    "num_dn_queries": 5,
    "num_layers": 1,
    "feedforward_channels": 64,
    "max_per_img": 16,
    "num_points": 64,
    "size": (64, 64),
}
# Single precision, of a loss that was computed from the same random numbers.
FIRST_LOSS, LATER_LOSS, PREDICTIONS = 2e-4, 2e-3, 5e-3
HALF_LOSS = 0.05
PIXELS = {"dino": (800, 1216), "mask2former": (512, 512)}
SMALL_PIXELS = {"dino": (96, 128), "mask2former": (64, 64)}


class SameRandomNumbers(TorchFunctionMode):
    """Draws on the CPU what a model draws on its device, so that both can be compared.

    Not in a backward pass, which on a GPU has a thread of its own.
    """

    ALONE = (torch.rand, torch.randn, torch.randint, torch.randperm)
    LIKE = (torch.rand_like, torch.randn_like, torch.randint_like)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Call a function of torch, those that draw on the CPU."""
        kwargs = dict(kwargs or {})
        if func in self.ALONE:
            device = kwargs.pop("device", None)
            return func(*args, **kwargs).to(device or "cpu")
        if func in self.LIKE:
            like, *rest = args
            return func(like.cpu(), *rest, **kwargs).to(like.device)
        return func(*args, **kwargs)


def steps_and_predictions(place: Place, family: str, head: str) -> Iterator[Row]:
    """Two steps and a prediction of a small model, against the CPU's."""
    cfg = small_config(family, head)
    with _scope(cfg):
        sample = batch_of(head, SMALL_PIXELS[head])
        here, there = (
            _train_and_predict(cfg, device, sample, {})
            for device in (torch.device("cpu"), place.device)
        )
        for step, bound in enumerate((FIRST_LOSS, LATER_LOSS)):
            error = _loss_error(there["losses"][step], here["losses"][step])
            total = here["losses"][step]["loss"]
            yield {
                **compared(f"losses of step {step + 1}", error, bound),
                "loss": total,
            }
        error = _relative(there["predicted"], here["predicted"])
        yield compared("prediction", error, PREDICTIONS)
        halves = {
            "bf16": {"type": "mmrev.BFloat16OptimWrapper"},
            "fp16, GradScaler": {"type": "AmpOptimWrapper", "dtype": "float16"},
        }
        for name, settings in halves.items():
            if "Amp" in settings["type"] and not place.is_gpu:
                yield {"what": name, "note": NEEDS_GPU}
                continue
            half = _train_and_predict(cfg, place.device, sample, settings)
            one, other = (run["losses"][0]["loss"] for run in (half, here))
            yield compared(f"loss, {name}", abs(one - other) / abs(other), HALF_LOSS)
            yield {
                "what": f"moved, {name}",
                "largest update": half["moved"],
                "passed": 0 < half["moved"] < float("inf"),
            }


def dino_does_not_leak(place: Place) -> Iterator[Row]:
    """The allocator's peak of a small DINO after 50 steps is that after 10."""
    cfg = small_config("revcol", "dino")
    early, late = (1, 2) if place.is_tiny else (10, 50)
    with _scope(cfg):
        model, step = trainer(cfg, place.device, batch_of("dino", SMALL_PIXELS["dino"]))
        # The number of denoising queries is drawn from nothing: steps are alike.
        yield from growth(place, "DINO with RevCol", step, early, late)
        del model


def full_dino(place: Place) -> Iterator[Row]:
    """RevCol-T under DINO, 800x1216, two images: time, memory, waits, kernels."""
    cfg, sample = _of_size(place, "revcol", "dino")
    with _scope(cfg):
        for name, settings in {
            "fp32 (TF32)": {},
            "bf16": {"type": "mmrev.BFloat16OptimWrapper"},
        }.items():
            model, step = trainer(cfg, place.device, sample, settings)
            row = {"what": f"step, {name}", **_cost(place, step)}
            waits = host_syncs(place, step)
            if waits is None:
                yield {**row, "host waits": NEEDS_GPU}
            else:
                yield {**row, "host waits": waits.total()}
                for line, count in waits.most_common(10):
                    yield {"what": f"waits, {name}: {line}", "host waits": count}
            for kernel, milliseconds, calls in expensive_kernels(place, step):
                yield {
                    "what": f"kernel, {name}: {kernel}",
                    "ms": milliseconds,
                    "calls": calls,
                }
            del model, step
            place.clean()


def full_steps(place: Place, family: str) -> Iterator[Row]:
    """A step of the family's published size under either head, in bf16."""
    for head in HEADS:
        cfg, sample = _of_size(place, family, head)
        with _scope(cfg):
            settings = {"type": "mmrev.BFloat16OptimWrapper"}
            model, step = trainer(cfg, place.device, sample, settings)
            loss = float(step()["loss"])
            row = {"what": f"{head}, bf16", **_cost(place, step)}
            yield {**row, "loss": loss, "passed": bool(np.isfinite(loss))}
            del model, step
            place.clean()


def _cost(place: Place, step: Callable[[], object]) -> dict[str, float]:
    repeats = 1 if place.is_tiny else 5
    cost = paired_costs({"": step}, repeats, place.device)[""]
    return {"ms": 1e3 * cost.seconds.median, "MiB": cost.peak / 2**20}


def _of_size(place: Place, family: str, head: str) -> tuple[Config, dict]:
    if place.is_tiny:
        return small_config(family, head), batch_of(head, SMALL_PIXELS[head])
    return full_config(family, head), batch_of(head, PIXELS[head])


def full_config(family: str, head: str) -> Config:
    """A leaf of ``configs/`` without weights to load."""
    folder, name = LEAVES[family]
    template = _DINO if head == "dino" else _MASK2FORMER
    cfg = load_config(_configs() / folder / template.format(name))
    for anchor in cfg.model.backbone.get("anchors", ()):
        anchor.init_cfg = None
    cfg.model.backbone.init_cfg = None
    return cfg


def small_config(family: str, head: str) -> Config:
    """The same with few queries and layers, around the family's small form."""
    cfg = full_config(family, head)
    _resize(cfg.model, SMALL_SIZES)
    kept = tuple(cfg.model.backbone.get("out_indices", range(4)))
    if family == "stitched":
        backbone = stitched(out_indices=kept)
    else:
        backbone = FAMILIES[family].config("small", out_indices=kept)
        norm = cfg.model.backbone.get("out_norm")
        backbone["out_norm"] = norm
    cfg.model.backbone = backbone
    part = cfg.model.neck if head == "dino" else cfg.model.decode_head
    part.in_channels = [CHANNELS[index] for index in kept]
    return cfg


def _configs() -> Path:
    package = Path(mmrev.__file__).parent
    places = package.parent / "configs", package / ".mim" / "configs"
    return next((place for place in places if place.is_dir()), places[0])


def _resize(node: Any, sizes: Mapping[str, Any]) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in sizes and value is not None:
                node[key] = sizes[key]
            else:
                _resize(value, sizes)
    elif isinstance(node, list | tuple):
        for value in node:
            _resize(value, sizes)


@contextmanager
def _scope(cfg: Config) -> Iterator[None]:
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        yield


def batch_of(head: str, size: tuple[int, int]) -> dict:
    """Two images and what is in them, as a loader would give them, on the CPU."""
    make = detection_batch if head == "dino" else segmentation_batch
    return make(size, 2)


def trainer(
    cfg: Config,
    device: torch.device,
    sample: dict,
    settings: Mapping[str, Any] | None = None,
) -> tuple[nn.Module, Callable[[], dict[str, Tensor]]]:
    """A model on its device, and what trains it one step and gives its losses.

    Args:
        cfg: config.
        device: where.
        sample: of `batch_of`.
        settings: of the optimizer's wrapper, beyond the config's.
    """
    with seeded(0):
        model = MODELS.build(copy.deepcopy(cfg.model))  # which mmdet writes into
        model.init_weights()
        awake(model.backbone)
    model = model.to(device).train()
    wrapper = build_optim_wrapper(model, {**cfg.optim_wrapper, **(settings or {})})
    if hasattr(wrapper, "loss_scaler"):  # or the first steps only find the scale
        wrapper.loss_scaler = torch.amp.GradScaler("cuda", init_scale=SCALER_START)

    def step() -> dict[str, Tensor]:
        # The data preprocessor changes samples.
        batch = {
            "inputs": list(sample["inputs"]),
            "data_samples": [one.clone() for one in sample["data_samples"]],
        }
        # Not as numbers: reading them would wait for the GPU, time and again.
        return model.train_step(batch, wrapper)

    return model, step


def _train_and_predict(
    cfg: Config, device: torch.device, sample: dict, settings: Mapping[str, Any]
) -> dict:
    model, step = trainer(cfg, device, sample, settings)
    before = [p.detach().clone() for p in model.backbone.parameters()]
    with seeded(1), SameRandomNumbers():
        losses = [
            {name: float(value) for name, value in step().items()} for _ in range(2)
        ]
    changes = zip(model.backbone.parameters(), before, strict=True)
    moved = max((p.detach() - b).abs().max().item() for p, b in changes)
    model.eval()
    batch = {
        "inputs": list(sample["inputs"]),
        "data_samples": [one.clone() for one in sample["data_samples"]],
    }
    with torch.no_grad():
        results = model.val_step(batch)
    predicted = [_predicted(result) for result in results]
    return {"losses": losses, "moved": moved, "predicted": torch.cat(predicted)}


def _predicted(result: BaseDataElement) -> Tensor:
    """Scores by rank, or logits of pixels."""
    if "seg_logits" in result:
        found = result.seg_logits.data.flatten()
    else:
        found = result.pred_instances.scores.sort(descending=True).values
    return found.to("cpu", torch.float64)


def _loss_error(found: Mapping[str, float], expected: Mapping[str, float]) -> float:
    if found.keys() != expected.keys():
        return float("inf")
    least = 0.01 * abs(expected["loss"])
    errors = (
        abs(found[name] - value) / max(abs(value), least)
        for name, value in expected.items()
    )
    return max(error if error == error else float("inf") for error in errors)


def _relative(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        return float("inf")
    error = ((found - expected).abs().max() / expected.abs().max()).item()
    return error if error == error else float("inf")


WHOLE = [
    (f"{head} with {family}", partial(steps_and_predictions, family=family, head=head))
    for family in LEAVES
    for head in HEADS
]
"""Names and rows of the comparisons with the CPU."""
