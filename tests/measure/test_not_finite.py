"""The first place in a step that is not finite, against faults put there."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmrev.measure.not_finite import Watch
from mmrev.models.backbones import RevCol


class Attention(nn.Module):
    def forward(self, x, mask):
        return (x + mask).softmax(-1)


class Net(nn.Module):
    """A stem whose output is changed in place, a sum, and a mask of infinities."""

    def __init__(self, fault="none"):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True))
        self.branch = nn.Linear(4, 4)
        self.attention = Attention()
        self.head = nn.Linear(4, 2)
        self.fault = fault

    def forward(self, x):
        x = self.stem(x)
        x = x + self.branch(x)
        if self.fault == "code":
            x = x / 0
        x = self.attention(x, mask=torch.tensor([0, 0, -torch.inf, 0]))
        x = self.head(x)
        nothing = x - x.detach()
        if self.fault == "gradient":
            x = x + nothing.sqrt()
        if self.fault == "gradients":
            x = x + nothing * 3e38 + nothing * 3e38
        return {"loss": [x.sum()]}


def found(model, inputs=None):
    watch = Watch(model)
    with watch.forward():
        (loss,) = model(torch.ones(2, 3) if inputs is None else inputs)["loss"]
    if watch.found is None:
        watch.backward(loss)
    assert not model._forward_hooks and not model.stem._forward_pre_hooks
    return watch.found


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("none", None),
        ("code", "the code of Net before attention (Attention)"),
        ("gradient", "Net, going back (SqrtBackward0)"),
        ("gradients", "the sum of the gradients that come back to Net"),
    ],
)
def test_faults_of_code(fault, expected):
    assert found(Net(fault)) == expected


def test_what_the_model_was_given():
    assert found(Net(), torch.full((2, 3), torch.nan)) == "what the model was given"


def test_a_weight():
    model = Net()
    model.branch.bias.data[1] = torch.inf
    assert found(model) == "branch (Linear), whose bias is not finite itself"


def test_a_module():
    model = Net()
    model.stem[0].weight.data.fill_(3e38)
    assert found(model) == "stem.0 (Linear)"


def test_a_gradient_inside_of_another_module():
    """It passes the code before and after, which is not blamed."""

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.net = nn.Linear(3, 3), Net("gradient")

        def forward(self, x):
            (loss,) = self.net(self.stem(x) * 2)["loss"]
            return {"loss": [loss * 3]}

    assert found(Outer()) == "net (Net), going back (SqrtBackward0)"


class Spoil(nn.Module):
    """A module with a fault at its end."""

    def __init__(self, inner, kind):
        super().__init__()
        self.inner, self.kind = inner, kind

    def forward(self, x):
        x = self.inner(x)
        return x * torch.inf if self.kind == "value" else x + (x - x.detach()).sqrt()


@pytest.mark.parametrize("memory", ["store", "recompute", "reverse"])
@pytest.mark.parametrize("kind", ["value", "gradient"])
def test_blocks_of_a_column(memory, kind):
    """Nothing that is looked at is kept for the backward pass."""
    torch.manual_seed(0)
    arch = {"channels": [4, 8, 8, 8], "depths": [1, 1, 1, 1], "num_columns": 2}
    model = RevCol(arch=arch, memory=memory)
    blocks = model.columns[1].levels[2].blocks
    blocks[0] = Spoil(blocks[0], kind)
    (name,) = (name for name, module in model.named_modules() if module is blocks[0])
    watch = Watch(model)
    with watch.forward():
        levels = model(torch.rand(1, 3, 32, 32))
    assert watch.found == (f"{name} (Spoil)" if kind == "value" else None)
    if kind == "gradient":
        watch.backward(sum(level.mean() for level in levels))
        assert watch.found == f"{name} (Spoil), going back (SqrtBackward0)"


def test_a_module_that_torch_runs_again():
    net = Net("gradient")
    net.forward, forward = (
        lambda x: checkpoint(forward, x, use_reentrant=False),
        net.forward,
    )
    assert found(net) == "Net, going back (SqrtBackward0)"
