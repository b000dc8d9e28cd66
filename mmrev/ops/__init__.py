"""What computes the ops of `mmcv.ops`: mmcv's compiled extension, or a stand-in.

``mmrev_ops.py`` beside this package puts `mmrev.ops.extension` in the extension's place
where mmcv has none.
"""

from importlib.util import find_spec

__all__ = ["are_compiled", "ran"]


def are_compiled() -> bool:
    """Whether mmcv has its own extension."""
    spec = find_spec("mmcv._ext")
    return spec is not None and not str(spec.origin).endswith(".py")


def ran() -> dict[str, str]:
    """What computed the ops that this process has called.

    Returns:
        ``{"all": "compiled"}`` where mmcv has its extension; else op -> "torchvision"
        or "torch".
    """
    if are_compiled():
        return {"all": "compiled"}
    import mmcv._ext

    names = {name: name.removesuffix("_forward") for name in mmcv._ext.RAN}
    return {
        op: mmcv._ext.RAN[name]
        for name, op in sorted(names.items())
        if "_backward" not in name
    }
