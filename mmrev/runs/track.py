"""The track of a config, ``track``: its backbone frozen, tuned or from scratch."""

from mmengine.config import Config, ConfigDict

from mmrev.engine.hooks import CouplingHook
from mmrev.errors import UserError, nearest
from mmrev.leaderboard.tracks import (
    FROZEN,
    TRACKS,
    backbone_path,
    starts_from_weights,
)
from mmrev.models.supervision import SupervisedModel
from mmrev.runs.nodes import components, custom_hooks, walk

__all__ = ["apply_track", "unfreeze", "without_weights"]

# What of a backbone keeps weights as they are, and its value where nothing does.
_KEEPING = {"frozen_stages": -1, "norm_eval": False, "requires_grad": True}


def apply_track(cfg: Config) -> None:
    """Change a config to the track that it states.

    'frozen' puts `mmrev.FrozenBackbone` around the backbone and drops
    `mmrev.CouplingHook`, 'tuned' takes the former away, and both want weights to start
    from; 'scratch' takes these away, too.

    Args:
        cfg: changed in place; one that states no track stays as it is.

    Raises:
        UserError: there is no such track, or the config cannot take it.
    """
    if (track := cfg.get("track")) is None:
        return
    if track not in TRACKS:
        raise UserError(f"track={track!r}: {nearest(str(track), TRACKS)}")
    if not (path := backbone_path(cfg.model)):
        raise UserError(
            f"track={track!r}: expected a model with a backbone, got "
            f"{cfg.model.get('type')} without; leave track out."
        )
    backbone = path[-1]
    if track != "scratch" and not starts_from_weights(cfg):
        raise UserError(
            f"track={track!r}: {backbone.get('of', backbone.type)}, the backbone of "
            f"{cfg.filename}, starts from no weights; give it "
            "init_cfg=dict(type='Pretrained', checkpoint='...'), start the whole model "
            "by load_from, or take track=scratch."
        )
    if track == "frozen":
        _freeze(cfg, backbone)
        return
    unfreeze(cfg)
    if track == "scratch":
        for model in path[:-1]:
            _forget_weights(model)
        without_weights(backbone)
        if not cfg.get("resume"):
            cfg.load_from = None
        _require_training(cfg, backbone)


def unfreeze(cfg: Config) -> None:
    """Let a config build its backbone without `mmrev.FrozenBackbone`."""
    path = backbone_path(cfg.model)
    if path and path[-1].type == FROZEN:
        path[-1].type = path[-1].pop("of")


def without_weights(settings: ConfigDict) -> None:
    """Let what a part of a config builds start from no file of weights."""
    for node in list(walk(settings)):
        if isinstance(node.value, ConfigDict):
            _forget_weights(node.value)


def _forget_weights(settings: ConfigDict) -> None:
    stated = settings.get("init_cfg") or []
    stated = stated if isinstance(stated, list) else [stated]
    if any("Pretrained" in str(one.get("type")) for one in stated):
        settings.init_cfg = None
    if settings.get("pretrained"):  # of timm, and of older mmdet
        settings.pretrained = False if "model_name" in settings else None
    settings.pop("checkpoint_path", None)  # of timm


def _freeze(cfg: Config, backbone: ConfigDict) -> None:
    if backbone.type == FROZEN:
        return
    for wrapper in components(cfg.model, SupervisedModel):
        raise UserError(
            f"track='frozen': {wrapper.type} adds losses that train the backbone, and "
            "a frozen one follows none; leave it out, or take track=tuned."
        )
    # All other keys stay where --cfg-options finds them.
    backbone.of, backbone.type = backbone.type, FROZEN
    if moving := list(custom_hooks(cfg, CouplingHook)):
        # A dual coupling starts as the ordinary network: the one that was pretrained.
        cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook not in moving]


def _require_training(cfg: Config, backbone: ConfigDict) -> None:
    """Refuse settings by which random weights would stay as they are."""
    where = next(n.where for n in walk(cfg.model, "model") if n.value is backbone)
    kept, free = [], []
    for node in walk(backbone, where):
        key = node.where.rpartition(".")[2]
        if key in _KEEPING and node.value not in (_KEEPING[key], None):
            kept.append(f"{node.where}={node.value}")
            free.append(f"{node.where}={_KEEPING[key]}")
    if kept:
        raise UserError(
            f"track='scratch': random weights would stay as they are by "
            f"{', '.join(kept)}; add --cfg-options {' '.join(free)}"
        )
