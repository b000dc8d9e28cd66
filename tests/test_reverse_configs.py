"""The configs in reverse mode: their base's but for memory, and a schedule in time."""

import pytest
from resolved import CONFIGS, resolve
from shrink import inner_model, on_meta

from mmrev.engine import CouplingHook
from mmrev.models.backbones.base import SHORTEST
from mmrev.registry import MODELS

LEAVES = sorted(CONFIGS.glob("*/*-revers*_*.py"))
MINE = ("coupled", "coupling", "custom_hooks")


def test_sizes_and_heads():
    """Three sizes of RevCol and Swin-V2, two of NFNet; each under DINO, Mask2Former."""
    names = {tuple(p.stem.split("_")[:2]) for p in LEAVES if p.parent.name != "demo"}
    sizes = {model for model, _ in names}
    assert len(sizes) == 8 and len(names) == 2 * len(sizes)


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
def test_differs_from_its_base_in_memory_alone(path):
    name = path.name.replace("-reversible_", "_").replace("-reverse_", "_")
    cfg, base = resolve(path).to_dict(), resolve(path.with_name(name)).to_dict()
    backbones = [inner_model(one["model"])["backbone"] for one in (cfg, base)]
    assert backbones[0].pop("memory") == "reverse"
    coupling = backbones[0].pop("coupling", None)
    assert coupling == (None if "revcol" in path.stem else "dual")
    backbones[1].pop("memory", None)
    hooks = cfg.get("custom_hooks", [])
    for key in MINE:
        cfg.pop(key, None)
    assert cfg == base
    assert len(hooks) == (coupling is not None)
    for hook in hooks:
        assert hook.pop("type") == "mmrev.CouplingHook"
        assert not CouplingHook(**hook).by_epoch
        # About half of the training; an epoch of COCO is 7330 steps at batch 16.
        steps = cfg["train_cfg"].get("max_iters") or (
            cfg["train_cfg"]["max_epochs"] * (250 if "demo" in path.stem else 7330)
        )
        assert 0.49 <= hook["end"] / steps <= 0.51


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
def test_there_are_states_to_be_found_again(path):
    backbone = inner_model(resolve(path).model).backbone
    with on_meta():
        model = MODELS.build(backbone)
    if path.stem.startswith("revcol"):
        assert len(model.columns) >= 8
        return
    links = [[link for m in stage for link in model.links(m)] for stage in model.stages]
    assert sum(len(chain) >= SHORTEST for chain in links) >= 3
