"""Tracks: what a training does to the weights that its backbone starts from."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from mmrev.leaderboard.tasks import Track

__all__ = ["FROZEN", "TRACKS", "backbone_path", "starts_from_weights", "track_of"]

TRACKS = get_args(Track)
"""Values of a config's ``track``: backbones that keep their pretrained weights, go on
from them, or start from none."""
FROZEN = "mmrev.FrozenBackbone"


def track_of(config: Mapping[str, Any]) -> str | None:
    """The track of a config's training, stated or not; None if it has no backbone.

    Args:
        config: Resolved, of no resumed training unless it states the track: such a one
            has forgotten what it once started from.
    """
    path = backbone_path(config.get("model"))
    if not path:
        return None
    if path[-1].get("type") == FROZEN:
        return "frozen"
    derived = "tuned" if starts_from_weights(config) else "scratch"
    return config.get("track") or derived


def backbone_path(model: Any) -> list[Mapping[str, Any]]:
    """The settings of a model, of what it wraps, and last of the backbone in it.

    Supervision keeps the model as ``model``, semi-supervised detectors as ``detector``.
    Empty if there is no backbone.
    """
    if not isinstance(model, Mapping):
        return []
    if isinstance(backbone := model.get("backbone"), Mapping):
        return [model, backbone]
    inner = backbone_path(model.get("model") or model.get("detector"))
    return [model, *inner] if inner else []


def starts_from_weights(config: Mapping[str, Any]) -> bool:
    """Whether a config's backbone starts from a file; of several in one, each of them.

    Args:
        config: Resolved.
    """
    return bool(config.get("load_from")) or any(
        map(_is_pretrained, backbone_path(config.get("model")))
    )


def _is_pretrained(settings: Mapping[str, Any]) -> bool:
    anchors = settings.get("anchors") or []
    stated = settings.get("init_cfg") or []  # one, or a list of them
    return (
        bool(settings.get("pretrained") or settings.get("checkpoint_path"))
        or any("checkpoint" in one for one in _listed(stated))
        or (bool(anchors) and all(map(_is_pretrained, anchors)))
    )


def _listed(stated: Mapping | list) -> Iterator[Mapping[str, Any]]:
    yield from [stated] if isinstance(stated, Mapping) else stated
