"""Which routes lead through two or more networks: pure Python.

Papers: Stitchable Neural Networks, arXiv 2302.06586; SN-Netv2, arXiv 2307.00154.
Reference code: ziplab/SN-Net, ziplab/SN-Netv2. A route runs the front blocks of one
network, crosses a stitch, a linear map, and runs the end blocks of the next.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple


class Crossing(NamedTuple):
    """Where a route changes from one anchor to another.

    Attributes:
        stage: stage in which it happens.
        front: anchor that is left.
        end: anchor that is entered.
        after: last block of the front's stage that runs.
        before: first block of the end's stage that runs; the stage's depth if none.
        layer: which of the stitches between the two in this stage is taken.
    """

    stage: int
    front: int
    end: int
    after: int
    before: int
    layer: int


class Route(NamedTuple):
    """A way from the image to the levels.

    Attributes:
        anchors: anchors in the order in which they run.
        crossings: one fewer.
    """

    anchors: tuple[int, ...]
    crossings: tuple[Crossing, ...] = ()

    def __str__(self) -> str:
        """As in ``0 >(s2: 3>5)> 1``: stage 2, after block 3, before block 5."""
        text = str(self.anchors[0])
        for crossing in self.crossings:
            where = f"s{crossing.stage}: {crossing.after}>{crossing.before}"
            text += f" >({where})> {crossing.end}"
        return text


def enumerate_routes(
    depths: Sequence[Sequence[int]],
    *,
    stages: Sequence[int],
    window: int = 2,
    stride: int = 1,
    monotone: bool = False,
    two_way: bool = False,
    nearest: bool = True,
    sharing: str = "reference",
) -> list[Route]:
    """All routes; the index of a route is its id.

    The anchors come first, then routes of one crossing, by stage, then by pair of
    anchors, then, without `nearest`, those of more. Where a stage of both anchors has
    the same depth, a window slides over the blocks, and any block of the front may be
    followed by any of the end in the same window; the pairs that a position of the
    window adds share a stitch. Where depths differ, block i of the end follows block
    ``floor(i * front / end)`` of the front.

    Args:
        depths: blocks of every stage, for each anchor, small to large.
        stages: stages in which to cross.
        window: blocks in the window.
        stride: blocks by which it slides.
        monotone: the end must go on at a higher block number than the front left, as
            it must where the first block of a stage changes the resolution. Where
            depths differ it always must.
        two_way: also from large to small, and there and back (SN-Netv2); small block i
            is followed by what is as deep in the large one and the other way round, so
            that there is no window. Ids: anchors, small to large, large to small, large
            to small to large, small to large to small; pair by pair of neighbours.
        nearest: only neighbours are stitched, and only once.
        sharing: where depths differ, 'aligned' gives one stitch to the pairs that leave
            at the same block; 'reference' gives each the stitch that is the aligned
            one of the block before, as released checkpoints need.

    Returns:
        The routes.

    Raises:
        ValueError: on settings that make no sense together.
    """
    _check(depths, stages, window, stride, two_way, nearest, sharing)
    count = len(depths)
    routes = [Route((anchor,)) for anchor in range(count)]
    if two_way:
        for small in range(count - 1):
            routes += _two_way(depths, small, sorted(stages))
        return routes

    def cross(front: int, end: int, stage: int) -> list[Crossing]:
        sizes = depths[front][stage], depths[end][stage]
        if sizes[0] == sizes[1]:
            pairs = _paired(sizes[0], window, stride, monotone)
        else:
            pairs = _unpaired(*sizes, sharing)
        return [Crossing(stage, front, end, *pair) for pair in pairs]

    pairs = list(pairwise(range(count)) if nearest else combinations(range(count), 2))
    for stage in sorted(stages):
        for pair in pairs:
            routes += [Route(pair, (crossing,)) for crossing in cross(*pair, stage)]
    if not nearest:
        for size in range(3, count + 1):
            for anchors in combinations(range(count), size):
                options = [
                    [c for stage in sorted(stages) for c in cross(*pair, stage)]
                    for pair in pairwise(anchors)
                ]
                routes += [Route(anchors, chain) for chain in _chains(options)]
    return routes


class Segment(NamedTuple):
    """Blocks that run one after the other.

    Attributes:
        anchor: whose they are.
        stage: in which they are.
        start: the first.
        stop: one past the last; `start` if there are none.
        crossing: what follows them; None if the stage is over.
    """

    anchor: int
    stage: int
    start: int
    stop: int
    crossing: Crossing | None


def segments(route: Route, depths: Sequence[Sequence[int]]) -> Iterator[Segment]:
    """What runs along a route, in order.

    Args:
        route: of `enumerate_routes`.
        depths: blocks of every stage, for each anchor.
    """
    crossings = list(route.crossings)
    anchor = route.anchors[0]
    for stage in range(len(depths[anchor])):
        start = 0
        while crossings and crossings[0].stage == stage:
            crossing = crossings.pop(0)
            yield Segment(anchor, stage, start, crossing.after + 1, crossing)
            anchor, start = crossing.end, crossing.before
        yield Segment(anchor, stage, start, depths[anchor][stage], None)


def count_layers(routes: Sequence[Route]) -> dict[tuple[int, int, int], int]:
    """How many stitches there are between two anchors in a stage.

    Returns:
        By (stage, front, end), the highest layer of any crossing plus one.
    """
    counts: dict[tuple[int, int, int], int] = {}
    for crossing in (c for route in routes for c in route.crossings):
        key = crossing.stage, crossing.front, crossing.end
        counts[key] = max(counts.get(key, 0), crossing.layer + 1)
    return counts


def _paired(
    depth: int, window: int, stride: int, monotone: bool
) -> list[tuple[int, int, int]]:
    """Pairs of blocks in a common window, and their layer."""
    layers: dict[tuple[int, int], int] = {}
    layer = 0
    for start in range(0, depth, stride):
        blocks = range(start, min(start + window, depth))
        new = [
            (after, before)
            for after in blocks
            for before in blocks
            if (after, before) not in layers and not (monotone and after >= before)
        ]
        layers.update(dict.fromkeys(new, layer))
        layer += bool(new)
    return [(*pair, layer) for pair, layer in layers.items()]


def _unpaired(front: int, end: int, sharing: str) -> list[tuple[int, int, int]]:
    """Pairs of blocks as deep as each other, and their layer."""
    match = [block * front // end for block in range(end)]
    kept = [block for block in range(end) if match[block] < block]
    if sharing == "aligned":
        return [(match[block], block, match[block]) for block in kept]
    # The reference pairs the k-th kept block with the k-th of all matches.
    return [(match[block], block, match[k]) for k, block in enumerate(kept)]


def _two_way(
    depths: Sequence[Sequence[int]], small: int, stages: Sequence[int]
) -> list[Route]:
    large = small + 1
    up, down = [], []
    for stage in stages:
        few, many = depths[small][stage], depths[large][stage]
        for block in range(few):
            after = max(1, (block + 1) * many // few)
            up.append(Crossing(stage, small, large, block, after, block))
            if block < few - 1:
                down.append(Crossing(stage, large, small, after - 1, block + 1, block))
    ends = {stage: depths[large][stage] for stage in stages}
    # Back up after the last block would run nothing more of the stage.
    useful = [c for c in up if c.before < ends[c.stage]]
    routes = [Route((small, large), (c,)) for c in up]
    routes += [Route((large, small), (c,)) for c in down]
    routes += [Route((large, small, large), c) for c in _chains([down, useful])]
    routes += [Route((small, large, small), c) for c in _chains([up, down])]
    return routes


def _chains(options: Sequence[Sequence[Crossing]]) -> Iterator[tuple[Crossing, ...]]:
    """One of each option, none of which leaves before the one before it has entered."""
    firsts, *others = options
    for first in firsts:
        if not others:
            yield (first,)
            continue
        entered = first.stage, first.before
        following = [c for c in others[0] if (c.stage, c.after) >= entered]
        for chain in _chains([following, *others[1:]]):
            yield first, *chain


def _check(depths, stages, window, stride, two_way, nearest, sharing) -> None:
    if len(depths) < 2:
        raise ValueError(
            f"enumerate_routes: depths must be of two or more anchors, got {depths}."
        )
    if len({len(anchor) for anchor in depths}) > 1:
        raise ValueError(
            "enumerate_routes: all anchors must have the same number of stages, got "
            f"depths {[list(anchor) for anchor in depths]}."
        )
    if any(depth < 1 for anchor in depths for depth in anchor):
        raise ValueError(f"enumerate_routes: depths must be >= 1, got {depths}.")
    last = len(depths[0]) - 1
    if (
        not stages
        or len(set(stages)) < len(stages)
        or not all(0 <= stage <= last for stage in stages)
    ):
        raise ValueError(
            f"enumerate_routes: stages must be different numbers of 0..{last}, got "
            f"{tuple(stages)}."
        )
    for name, value in (("window", window), ("stride", stride)):
        if value < 1:
            raise ValueError(f"enumerate_routes: {name} must be >= 1, got {value}.")
    if sharing not in ("reference", "aligned"):
        raise ValueError(
            "enumerate_routes: sharing must be 'reference' or 'aligned', got "
            f"{sharing!r}."
        )
    if two_way and not nearest:
        raise ValueError(
            "enumerate_routes: two_way stitches neighbours; set nearest=True."
        )
