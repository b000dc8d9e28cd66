"""Least squares for stitches: what the end anchor would have seen, from the front's.

Paper: arXiv 2302.06586, section 3.2. Deviations from the reference (ziplab/SN-Net):
images stream through the normal equations instead of one pseudo-inverse of them all;
the pairs of blocks that share a stitch are solved for together, where the reference
averages their solutions; in evaluation mode, which the reference forgets.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dist import all_reduce, broadcast, broadcast_object_list, is_main_process
from torch import Tensor, nn

from mmrev.models.stitching.anchors import Anchor, Tokens
from mmrev.models.stitching.routes import Crossing
from mmrev.models.stitching.stitch import Stitch
from mmrev.models.stitching.stitched_backbone import StitchedBackbone, crossing_key


class LeastSquares:
    """The normal equations of ``y = W x + b``, summed in fp64 as samples come.

    Args:
        in_features: of x.
        out_features: of y.
        device: of the sums.
    """

    def __init__(self, in_features: int, out_features: int, device: torch.device):
        # Of (1, x, y), all products of two; grows with neither images nor tokens.
        size = 1 + in_features + out_features
        self.in_features = in_features
        self.products = torch.zeros(size, size, dtype=torch.float64, device=device)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Take samples, (n, in_features) and (n, out_features)."""
        rows = torch.cat([torch.ones_like(x[:, :1]), x, y], dim=1).double()
        self.products += rows.mT @ rows

    @property
    def count(self) -> int:
        """Samples so far."""
        return int(self.products[0, 0])

    def reduce(self) -> None:
        """Sum over the processes of a distributed run."""
        all_reduce(self.products)

    def solve(self, ridge: float) -> tuple[Tensor, Tensor, float]:
        """Solve for the map.

        Args:
            ridge: added to the variances of x, relative to their mean; not on b.

        Returns:
            W, (out_features, in_features); b, (out_features,); R2 of the samples.

        Raises:
            ValueError: without samples.
        """
        if not self.count:
            raise ValueError("LeastSquares: expected samples, got none.")
        mean = self.products[0, 1:] / self.count
        covariance = self.products[1:, 1:] / self.count - mean[:, None] * mean
        size = self.in_features
        within, across = covariance[:size, :size], covariance[:size, size:]
        damped = within + ridge * within.diagonal().mean() * torch.eye(
            size, dtype=within.dtype, device=within.device
        )
        weight = torch.linalg.lstsq(damped.cpu(), across.cpu(), driver="gelsd").solution
        weight = weight.to(within.device).mT
        bias = mean[size:] - weight @ mean[:size]
        total = covariance[size:, size:].trace()
        explained = (
            2 * (weight @ across).trace() - (weight @ within @ weight.mT).trace()
        )
        return weight, bias, float(explained / total.clamp(min=1e-30))


@torch.no_grad()
def fit_stitches(
    model: StitchedBackbone,
    batches: Iterable[Tensor],
    ridge: float = 1e-4,
    tokens: int = 256,
    seed: int = 0,
) -> dict[str, float]:
    """Set every stitch and adapter by least squares on images.

    A stitch learns to turn the feature that the front leaves into the one that the end
    anchor, run alone, has where it is entered; an adapter turns a level of its anchor
    into the largest anchor's. The same images give the same result.

    Args:
        model: is changed.
        batches: of images, (N, 3, H, W), preprocessed; in a distributed run, each
            process may have its own.
        ridge: see `LeastSquares.solve`.
        tokens: positions of each image that are looked at, at most.
        seed: chooses them.

    Returns:
        R2 of every stitch and adapter, on these images, by name.

    Raises:
        ValueError: if there are no images.
    """
    device = next(model.parameters()).device
    problems = {
        name: LeastSquares(layer.in_features, layer.out_features, device)
        for name, layer in _layers(model)
    }
    generator = torch.Generator().manual_seed(seed)
    with evaluating(model):
        for images in batches:
            runs = [features(anchor, images) for anchor in model.runners]
            for name, front, end in _samples(model, runs):
                x, y = _subsample(front, end, tokens, generator)
                problems[name].add(x, y)
    scores = {}
    for name, layer in _layers(model):
        # Of all processes, so that one without images does not leave the others alone.
        problems[name].reduce()
        if not problems[name].count:
            raise ValueError("fit_stitches: expected images, got none.")
        if is_main_process():
            *solution, scores[name] = problems[name].solve(ridge)
            layer.set(*solution)
    share_stitches(model)
    found = [scores]
    broadcast_object_list(found)
    return found[0]


@torch.no_grad()
def share_stitches(model: StitchedBackbone) -> None:
    """Give the stitches and adapters of process 0 to all.

    Each could compute them alike, but on unlike machines not to the last bit, and then
    replicas drift apart.
    """
    for _, layer in _layers(model):
        for parameter in layer.parameters():
            broadcast(parameter.data)


def _layers(model: StitchedBackbone) -> Iterator[tuple[str, Stitch]]:
    for part in ("stitches", "adapters"):
        for name, layer in getattr(model, part).named_modules():
            if isinstance(layer, Stitch):
                yield f"{part}.{name}", layer


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for a while."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        # Not train(), which would put frozen parts into a mode of their own choice.
        for module, training in modes:
            module.training = training


def features(anchor: Anchor, images: Tensor) -> tuple[dict, dict]:
    """What an anchor alone has.

    Returns:
        Features by (stage, block) that they follow, lists of `Tokens`; levels by index,
        as `levels_after`.
    """
    after: dict[tuple[int, int], list[Tokens]] = {}
    levels: dict[int, Tensor] = {}
    state = anchor.stem(images)
    if 0 in anchor.open_stages:
        after[0, -1] = anchor.leave(state)
    for stage, depth in enumerate(anchor.depths):
        # Where blocks are chained, one alone does not know the states before.
        chained, before = anchor.is_chained, state
        for block in range(depth):
            done = (before, stage, 0) if chained else (state, stage, block)
            state = anchor.run(*done, block + 1)
            after[stage, block] = anchor.leave(state)
        levels |= levels_after(anchor, state, stage)
    return after, levels


def levels_after(anchor: Anchor, state: Any, stage: int) -> dict[int, Tensor]:
    """The levels that a stage's end gives, normalised, (N, C, H, W), by index."""
    levels = {}
    for level in anchor.levels[stage]:
        value, norm = anchor.level(state, level), anchor.norm(level)
        levels[level] = norm(value) if norm else value
    return levels


def crossings_by_layer(model: StitchedBackbone) -> dict[str, list[Crossing]]:
    """The crossings that share a layer of stitches, by the layer's name."""
    found = defaultdict(set)
    for crossing in (c for route in model.routes for c in route.crossings):
        found[f"stitches.{crossing_key(crossing)}.{crossing.layer}"].add(crossing)
    return {name: sorted(crossings) for name, crossings in found.items()}


def _samples(
    model: StitchedBackbone, runs: list[tuple[dict, dict]]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """For every stitch and adapter, inputs and targets, (N, L, C)."""
    for name, crossings in crossings_by_layer(model).items():
        for crossing in crossings:
            front = runs[crossing.front][0][crossing.stage, crossing.after]
            end = runs[crossing.end][0][crossing.stage, crossing.before - 1]
            for index, (x, y) in enumerate(zip(front, end, strict=True)):
                yield f"{name}.{index}", x.values, y.values
    target = runs[-1][1]
    for anchor, adapters in enumerate(model.adapters):
        for level, adapter in enumerate(adapters):
            if isinstance(adapter, Stitch):
                own = runs[anchor][1][level].flatten(2).mT
                yield f"adapters.{anchor}.{level}", own, target[level].flatten(2).mT


def _subsample(
    x: Tensor, y: Tensor, tokens: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The same positions of both, (n, C)."""
    order = torch.randperm(x.shape[1], generator=generator)[:tokens].to(x.device)
    return x[:, order].flatten(0, 1), y[:, order].flatten(0, 1)
