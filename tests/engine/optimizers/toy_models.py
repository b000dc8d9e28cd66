"""Models of a few hundred parameters in the form that mmengine trains."""

import torch
from mmengine.model import BaseModel
from torch import nn


class Toy(BaseModel):
    """A linear layer as backbone, a convolution, a transposed one and a classifier."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.backbone = nn.Conv2d(3, 6, 3, padding=1)
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2, groups=2)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Module()
        self.head.fc = nn.Linear(4, 5)

    def forward(self, inputs, labels, mode="loss"):
        x = self.norm(self.up(self.backbone(inputs).tanh()))
        x = self.head.fc(self.dropout(x.mean((2, 3))))
        return {"loss": nn.functional.cross_entropy(x, labels)}


def toy(seed=0, **settings):
    torch.manual_seed(seed)
    return Toy(**settings)


def batch(seed=1, size=4):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 3, 6, 6, generator=generator)
    return {
        "inputs": inputs,
        "labels": torch.randint(5, (size,), generator=generator),
    }


def assert_parameters(model, expected, **tolerance):
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], **tolerance)
