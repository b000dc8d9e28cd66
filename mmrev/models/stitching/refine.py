"""Refines stitches by what they lead to: the levels that the end anchor gives later.

Paper: arXiv 2603.12433: trained to match the target's feature before its head, a stitch
is better than one that matches the feature where it is, most of all at shallow stages.
Deviations: heads for dense prediction see all levels, so that all which the end anchor
gives after the crossing are matched, as heads see them; the last alone would leave the
finer ones to chance. The start is least squares.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from torch import Tensor, nn

from mmrev.models.stitching.anchors import Anchor, Tokens
from mmrev.models.stitching.fit import (
    crossings_by_layer,
    evaluating,
    features,
    levels_after,
    share_stitches,
)
from mmrev.models.stitching.routes import Crossing
from mmrev.models.stitching.stitched_backbone import StitchedBackbone


def refine_stitches(
    model: StitchedBackbone,
    batches: Iterable[Tensor],
    steps: int = 200,
    lr: float = 0.01,
) -> dict[str, tuple[float, float]]:
    """Train the stitches, and nothing else, to lead to the end anchor's own levels.

    The error of a layer of stitches is that of the levels which the end anchor gives
    from the stitched feature on, against those it gives alone: squared, relative to the
    variance of each level over all images, the mean over levels and over the crossings
    that share the layer. 0 is perfect, 1 no better than a constant. A layer whose error
    does not fall stays as it was. The same images give the same result.

    Args:
        model: is changed; see `fit_stitches` for a start. Where stitches are trained by
            updates of low rank, the solution includes the update, which starts anew.
        batches: of images, (N, 3, H, W), preprocessed, that can be gone through again,
            as a list or a DataLoader; in a distributed run, each process may have its
            own, and a step takes one of each.
        steps: updates of every layer, by Adam.
        lr: of the first step, about the change of the feature relative to its standard
            deviation; falls to 0.

    Returns:
        Error before and after of every layer, on these images, by name.

    Raises:
        ValueError: on a setting outside its range; if there are no images, or they
            can be gone through only once.
    """
    _check(batches, steps, lr)
    with _frozen(model):
        problem = _Refinement(model, batches)
        start = problem.start()
        maps = problem.descend(start, steps, lr)
        before, after = problem.errors(start), problem.errors(maps)
    for name, solution in maps.items():
        if not after[name] < before[name]:  # nor where it is not a number
            after[name] = before[name]
            continue
        for stitch, map_ in zip(model.get_submodule(name), solution, strict=True):
            stitch.set(map_.weight, map_.bias - map_.weight @ map_.centre)
    share_stitches(model)
    return {name: (before[name], after[name]) for name in maps}


class _Map(NamedTuple):
    """A stitch as it is trained: ``weight @ (x - centre) + bias``.

    Off centre, a small change of the weights shifts the whole feature.
    """

    weight: Tensor
    bias: Tensor
    centre: Tensor


class _Moments:
    """Mean and variance of channels, summed in fp64 as samples come."""

    def __init__(self, width: int, device: torch.device):
        self.sums = torch.zeros(3, width, dtype=torch.float64, device=device)

    def add(self, rows: Tensor) -> None:
        """Take samples, (..., width)."""
        rows = rows.flatten(0, -2).double()
        powers = torch.ones_like(rows), rows, rows.square()
        self.sums += torch.stack([power.sum(0) for power in powers])

    def reduce(self) -> None:
        """Sum over processes, and finish: `mean`, (width,), and mean `variance`."""
        all_reduce(self.sums)
        count, total, squares = self.sums
        if not count.any():
            raise ValueError("refine_stitches: expected images, got none.")
        self.mean = total / count
        variance = (squares / count - self.mean.square()).mean()
        self.variance = max(float(variance), 1e-12)


class _Refinement:
    """All layers of stitches of a model, and images to train them on."""

    def __init__(self, model: StitchedBackbone, batches: Iterable[Tensor]):
        self.model = model
        self.layers = crossings_by_layer(model)
        self.batches = batches
        self.device = next(model.parameters()).device
        self._measure()

    @torch.no_grad()
    def _measure(self) -> None:
        """Find the moments of what the anchors alone have, over all images."""
        self.levels = [
            [_Moments(width, self.device) for width in anchor.channels]
            for anchor in self.model.runners
        ]
        self.places: dict[tuple[int, int, int], list[_Moments]] = {}
        for crossing in (c for shared in self.layers.values() for c in shared):
            for anchor, stage, block in (_front(crossing), _end(crossing)):
                self.places[anchor, stage, block] = [
                    _Moments(width, self.device)
                    for width in self.model.runners[anchor].widths[stage]
                ]
        for images in self.batches:
            runs = self._runs(images)
            for moments, (_, levels) in zip(self.levels, runs, strict=True):
                for level, value in levels.items():
                    moments[level].add(value.flatten(2).mT)
            for (anchor, *place), moments in self.places.items():
                feature = runs[anchor][0][tuple(place)]
                for one, tokens in zip(moments, feature, strict=True):
                    one.add(tokens.values)
        for moments in (*self.levels, *self.places.values()):
            for one in moments:
                one.reduce()

    def start(self) -> dict[str, list[_Map]]:
        """The stitches as they are, by layer."""
        maps = {}
        for name, crossings in self.layers.items():
            maps[name] = []
            for index, stitch in enumerate(self.model.get_submodule(name)):
                weight = stitch.matrix().detach()
                means = [self.places[_front(c)][index].mean for c in crossings]
                centre = torch.stack(means).mean(0).to(weight)
                bias = stitch.bias.detach() + weight @ centre
                maps[name].append(_Map(weight, bias, centre))
        return maps

    @torch.no_grad()
    def errors(self, maps: dict[str, list[_Map]]) -> dict[str, float]:
        """Of every layer, over all images of all processes."""
        totals = torch.zeros(1 + len(maps), dtype=torch.float64, device=self.device)
        places = {name: place for place, name in enumerate(maps, 1)}
        for images in self.batches:
            totals[0] += len(images)
            for name, error in self._errors(images, maps):
                totals[places[name]] += len(images) * error
        all_reduce(totals)
        return dict(zip(maps, (totals[1:] / totals[0]).tolist(), strict=True))

    def descend(
        self, start: dict[str, list[_Map]], steps: int, lr: float
    ) -> dict[str, list[_Map]]:
        """Maps of lower error, by gradient steps."""
        maps: dict[str, list[_Map]] = {}
        groups = []
        for name, solution in start.items():
            maps[name] = []
            for index, (weight, bias, centre) in enumerate(solution):
                weight, bias = (v.clone().requires_grad_() for v in (weight, bias))
                maps[name].append(_Map(weight, bias, centre))
                x, y = (
                    sum(self.places[side(c)][index].variance for c in self.layers[name])
                    for side in (_front, _end)
                )
                scale = lr * (y / x / weight.shape[1]) ** 0.5
                groups.append({"params": [weight], "lr": scale})
                scale = lr * (y / len(self.layers[name])) ** 0.5
                groups.append({"params": [bias], "lr": scale})
        optimizer = torch.optim.Adam(groups)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
        for images in islice(_again(self.batches), steps):
            optimizer.zero_grad()
            count = 0 if images is None else len(images)
            if count:
                for _, error in self._errors(images, maps):
                    (count * error).backward()
            _average([group["params"][0] for group in groups], count)
            optimizer.step()
            schedule.step()
        return {
            name: [_Map(*(v.detach() for v in one)) for one in solution]
            for name, solution in maps.items()
        }

    def _errors(
        self, images: Tensor, maps: dict[str, list[_Map]]
    ) -> Iterator[tuple[str, Tensor]]:
        """What each crossing adds to the error of its layer, one after the other."""
        runs = self._runs(images)
        for name, crossings in self.layers.items():
            for crossing in crossings:
                feature = [
                    Tokens(F.linear(values - centre, weight, bias), size)
                    for (values, size), (weight, bias, centre) in zip(
                        runs[crossing.front][0][crossing.stage, crossing.after],
                        maps[name],
                        strict=True,
                    )
                ]
                end = self.model.runners[crossing.end]
                levels = _levels(end, crossing, feature, images)
                target = runs[crossing.end][1]
                moments = self.levels[crossing.end]
                errors = [
                    (value - target[level]).square().mean() / moments[level].variance
                    for level, value in levels.items()
                ]
                yield name, sum(errors) / len(errors) / len(crossings)

    @torch.no_grad()
    def _runs(self, images: Tensor) -> list[tuple[dict, dict]]:
        return [features(anchor, images) for anchor in self.model.runners]


def _front(crossing: Crossing) -> tuple[int, int, int]:
    """Where the feature to stitch is: anchor, stage, block before."""
    return crossing.front, crossing.stage, crossing.after


def _end(crossing: Crossing) -> tuple[int, int, int]:
    """Where the feature to become is: anchor, stage, block before."""
    return crossing.end, crossing.stage, crossing.before - 1


def _levels(
    end: Anchor, crossing: Crossing, feature: list[Tokens], images: Tensor
) -> dict[int, Tensor]:
    """The levels of an anchor that is entered with a feature, by index."""
    levels = {}
    state, start = end.enter(feature, images), crossing.before
    for stage in range(crossing.stage, len(end.depths)):
        state = end.run(state, stage, start, end.depths[stage])
        levels |= levels_after(end, state, stage)
        start = 0
    return levels


def _again(batches: Iterable[Tensor]) -> Iterator[Tensor | None]:
    """The batches again and again; None for ever if there are none."""
    while True:
        batch = None
        for batch in batches:
            yield batch
        if batch is None:
            yield None


def _average(values: list[Tensor], count: int) -> None:
    """Make gradients summed over images their mean over all images of all processes."""
    grads = [torch.zeros_like(v) if v.grad is None else v.grad for v in values]
    flat = torch.cat(
        [*(grad.flatten() for grad in grads), grads[0].new_full((1,), count)]
    )
    all_reduce(flat)
    sizes = [grad.numel() for grad in grads]
    for v, part in zip(values, (flat[:-1] / flat[-1]).split(sizes), strict=True):
        v.grad = part.view_as(v)


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    # Not autograd.grad for the stitches alone: reentrant checkpoints refuse it.
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        with evaluating(model):
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _check(batches: Iterable[Tensor], steps: int, lr: float) -> None:
    if isinstance(batches, Iterator):
        raise ValueError(
            "refine_stitches: batches are gone through again and again, got a "
            f"{type(batches).__name__}, which ends. Give a list or a DataLoader."
        )
    if steps < 1:
        raise ValueError(f"refine_stitches: steps must be >= 1, got {steps}.")
    if not 0 < lr < float("inf"):
        raise ValueError(f"refine_stitches: lr must be > 0 and finite, got {lr}.")
