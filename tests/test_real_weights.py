"""Real ImageNet weights under the demo's heads: known by what they see."""

import pytest
import skimage.data
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from real_weights import SOURCES, convert, install
from resolved import CONFIGS, use_scope

from mmrev.runs.config import load_config

pytestmark = pytest.mark.slow

ESPRESSO = 967


@pytest.fixture(scope="module", params=SOURCES)
def found(request, tmp_path_factory):
    """Name, classifier, and the file that dense configs start from."""
    folder = tmp_path_factory.mktemp(request.param)
    network = install(request.param, folder / "package")
    path = folder / "weights.pth"
    torch.save(convert(network, request.param), path)
    return request.param, network, path


def resolved(name, head, path, track):
    config = CONFIGS / f"demo/{name}-in1k_{head}_scenes.py"
    options = {"model.backbone.init_cfg.checkpoint": str(path), "track": track}
    return load_config(config, options)


@torch.no_grad()
def test_a_cup_of_coffee_is_an_espresso(found):
    name, network, path = found
    pixels = resolved(name, "mask2former", path, "tuned").model.data_preprocessor
    image = torch.tensor(skimage.data.coffee()).permute(2, 0, 1)[None].float()
    image = F.interpolate(image[..., 100:500], (224, 224), mode="bilinear")
    mean, std = (torch.tensor(pixels[key]).view(3, 1, 1) for key in ("mean", "std"))
    scores = network((image - mean) / std).softmax(1)
    assert int(scores.argmax()) == ESPRESSO
    assert scores[0, ESPRESSO] > 0.5


@pytest.mark.parametrize("head", ["dino-3scale", "mask2former"])
def test_dense_models_start_from_all_of_them(found, head):
    name, _, path = found
    weights = torch.load(path, weights_only=True)
    for track in ("tuned", "frozen", "scratch"):
        cfg = resolved(name, head, path, track)
        use_scope(cfg.default_scope)
        model = MODELS.build(cfg.model)
        model.init_weights()
        state = model.backbone.state_dict()
        assert state.keys() == weights.keys()
        same = all(torch.equal(state[key], weights[key]) for key in state)
        assert same == (track != "scratch")
        trained = any(p.requires_grad for p in model.backbone.parameters())
        assert trained == (track != "frozen")
