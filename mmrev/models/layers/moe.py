"""Sparse MLPs: of several experts each token gets the one that a router chooses.

Paper: Tutel, arXiv 2206.03382 (SwinV2-MoE).
Reference: microsoft/tutel @82af7aa, MIT (impls/moe_layer.py, impls/fast_dispatch.py,
impls/losses.py, gates/top.py), with what Swin-MoE sets (microsoft/Swin-Transformer
@f82860b, models/swin_transformer_moe.py and configs/swinmoe): top-1, a linear router,
batch-prioritised routing, importance and load loss. Written anew; same values.
Deviations: the probability is returned beside the output, to be multiplied by whoever
norms it; an expert's capacity is not larger than the number of tokens; a single expert
has nothing to balance (there NaN) and gets no noise.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_to_all_single

from mmrev.models.layers.precision import at_least_fp32, without_autocast


class Routing(NamedTuple):
    """Where the tokens of one pass go.

    Attributes:
        place: row of each token, (T,), in a table of experts times capacity rows.
        kept: whether the expert has room for it, (T,); what has not is dropped.
        probability: of the chosen expert, (T,), of the dropped 0; in fp32 at least.
        balance: auxiliary loss, 0-d: the more even the use of experts, the nearer to 0.
    """

    place: Tensor
    kept: Tensor
    probability: Tensor
    balance: Tensor

    @property
    def dropped(self) -> Tensor:
        """How many tokens were dropped, 0-d."""
        return (~self.kept).sum()


class Router(nn.Module):
    """Chooses one expert for each token.

    Where an expert is chosen by more tokens than it has room for, those stay whose
    choice is clearest, over the whole batch.

    Args:
        channels: C.
        num_experts: E.
        noise: in training, standard deviation of what is added to the logits, times E.
    """

    def __init__(self, channels: int, num_experts: int, noise: float):
        super().__init__()
        self.gate = nn.Linear(channels, num_experts, bias=False)
        self.noise = noise

    def forward(self, tokens: Tensor, capacity: int) -> Routing:
        """Route.

        Args:
            tokens: (T, C).
            capacity: tokens that an expert takes.
        """
        with without_autocast(tokens.device):
            clean = F.linear(at_least_fp32(tokens), at_least_fp32(self.gate.weight))
            num_experts = clean.shape[1]
            logits = clean
            if self.training and num_experts > 1:
                noise = torch.randn_like(clean)
                logits = clean + self.noise / num_experts * noise
            scores = logits.softmax(1)
            probability, expert = scores.max(1)
            balance = clean.new_zeros(())
            if num_experts > 1:
                chosen = logits.gather(1, expert[:, None])
                balance = balance_loss(clean.softmax(1), chosen, self.noise)
            place, kept = _places(expert, probability.detach(), num_experts, capacity)
            return Routing(place, kept, probability * kept, balance)


def balance_loss(probabilities: Tensor, chosen: Tensor, noise: float) -> Tensor:
    """Mean of the importance and the load loss of arXiv 1701.06538, as Tutel's.

    Load there is the probability that an expert would be chosen with fresh noise, from
    how far its logit is from the chosen one's; Tutel compares its *probability* with
    that logit, and so does this.

    Args:
        probabilities: without noise, (T, E).
        chosen: logit of the chosen expert, with noise, (T, 1).
        noise: as of `Router`.
    """
    deviation = noise / probabilities.shape[1]
    below = (chosen - probabilities) / (deviation * math.sqrt(2))
    load = (0.5 * torch.erfc(below)).sum(0)
    return (_variation(probabilities.sum(0)) + _variation(load)) / 2


def _variation(amounts: Tensor) -> Tensor:
    """Squared coefficient of variation."""
    return amounts.var() / (amounts.mean().square() + 1e-10)


def _places(
    expert: Tensor, priority: Tensor, num_experts: int, capacity: int
) -> tuple[Tensor, Tensor]:
    """The row of each token in the experts' table, and whether it gets one.

    An expert's tokens keep their order: a single one sees what a dense layer would.

    Args:
        expert: of each token, (T,).
        priority: of each token, (T,); the highest are seated first.
        num_experts: E.
        capacity: rows of each expert.
    """
    chosen = F.one_hot(expert, num_experts)
    order = priority.argsort(descending=True, stable=True)
    seat = torch.empty_like(expert)
    seat[order] = _counted(chosen[order])
    kept = seat < capacity
    row = _counted(chosen * kept[:, None])
    return expert * capacity + row.clamp(0, capacity - 1), kept


def _counted(chosen: Tensor) -> Tensor:
    """How many tokens before each one chose the same expert: (T, E) to (T,)."""
    return (chosen.cumsum(0) * chosen).sum(1) - 1


class Experts(nn.Module):
    """An MLP of several experts, of which each token gets one.

    Every expert takes ``capacity_factor * T / E`` of T tokens at most, in evaluation,
    too, as the reference; its unused rows are computed as zeros. So the sizes of all
    products follow from the size of the map.

    With a `group`, experts are divided over its processes: tokens go to the one that
    has their expert, and back. Every process routes its own tokens, by its own
    capacity.

    Args:
        experts: E modules, (..., C) to (..., C).
        channels: C.
        capacity_factor: 1 is room for as many tokens as evenly chosen experts get.
        noise: of the router.

    Attributes:
        group: None, or the processes that have an equal share of the experts each, in
            order; see `mmrev.ExpertParallelStrategy`, which sets it.

    Raises:
        ValueError: on settings without a meaning.
    """

    def __init__(
        self,
        experts: Sequence[nn.Module],
        channels: int,
        capacity_factor: float,
        noise: float,
    ):
        super().__init__()
        if not experts or capacity_factor <= 0 or noise <= 0:
            raise ValueError(
                "Experts: expected experts, capacity_factor > 0 and noise > 0, got "
                f"{len(experts)}, {capacity_factor} and {noise}."
            )
        self.router = Router(channels, len(experts), noise)
        self.experts = nn.ModuleList(experts)
        self.capacity_factor = capacity_factor
        self.group: dist.ProcessGroup | None = None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute each token by its expert.

        Args:
            x: (..., C).

        Returns:
            (..., C), of a dropped token anything finite; and what it is to be
            multiplied by, (..., 1): the expert's probability, or 0.
        """
        tokens = x.reshape(-1, x.shape[-1])
        capacity = self.capacity(len(tokens))
        place, kept, probability, _ = self.router(tokens, capacity)
        rows = len(self.experts) * capacity
        # The row after the last one takes what is dropped.
        table = tokens.new_zeros(rows + 1, tokens.shape[1])
        row = place.where(kept, rows)
        table = table.index_copy(0, row, tokens)[:rows].view(-1, capacity, x.shape[-1])
        if self.group is None:
            computed = self._compute(table)
        else:
            computed = _elsewhere(table, self._compute, self.group)
        result = computed.flatten(0, 1).index_select(0, place)
        factor = probability.to(x.dtype).view(*x.shape[:-1], 1)
        return result.view(x.shape), factor

    def capacity(self, tokens: int) -> int:
        """How many of so many tokens an expert takes."""
        even = -(-tokens // len(self.experts))
        return max(1, min(tokens, int(self.capacity_factor * even)))

    @property
    def own(self) -> list[nn.Module]:
        """The experts that this process has."""
        if self.group is None:
            return list(self.experts)
        size = len(self.experts) // self.group.size()
        first = self.group.rank() * size
        return list(self.experts)[first : first + size]

    def _compute(self, table: Tensor) -> Tensor:
        """(own experts, rows, C) to the same."""
        pairs = zip(self.own, table, strict=True)
        return torch.stack([expert(rows) for expert, rows in pairs])


def _elsewhere(
    table: Tensor, compute: Callable[[Tensor], Tensor], group: dist.ProcessGroup
) -> Tensor:
    """Compute rows where their experts are.

    Args:
        table: of this process, (E, capacity, C); each process may have a capacity of
            its own.
        compute: (own experts, rows, C) to the same.
        group: of `Experts`.

    Returns:
        As `table`.
    """
    shares = group.size()
    num_experts, capacity, channels = table.shape
    own = num_experts // shares
    capacities = [torch.tensor([0], device=table.device) for _ in range(shares)]
    mine = torch.tensor([capacity], device=table.device)
    dist.all_gather(capacities, mine, group=group)
    capacities = torch.cat(capacities).tolist()
    sent, received = [own * capacity] * shares, [own * n for n in capacities]
    inbox = table.new_empty(sum(received), channels)
    inbox = all_to_all_single(inbox, table.flatten(0, 1), received, sent, group)
    parts = [part.view(own, -1, channels) for part in inbox.split(received)]
    parts = compute(torch.cat(parts, 1)).split(capacities, 1)
    outbox = torch.cat([part.flatten(0, 1) for part in parts])
    home = outbox.new_empty(sum(sent), channels)
    return all_to_all_single(home, outbox, sent, received, group).view(table.shape)


@contextmanager
def routings(model: nn.Module) -> Iterator[dict[str, list[Routing]]]:
    """What every router of a model decides inside, by its name, a pass each.

    What runs again in the backward pass, after this was left, is not counted again.
    """
    found: dict[str, list[Routing]] = {}
    handles = [
        module.register_forward_hook(
            lambda _, __, routing, name=name: found.setdefault(name, []).append(routing)
        )
        for name, module in model.named_modules()
        if isinstance(module, Router)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def activated_parameters(model: nn.Module) -> int:
    """How many parameters a token meets: of several experts those of one."""
    parameters = {id(p): p.numel() for p in model.parameters()}
    for module in model.modules():
        if isinstance(module, Experts):
            for expert in list(module.experts)[1:]:
                for parameter in expert.parameters():
                    parameters.pop(id(parameter), None)
    return sum(parameters.values())
