"""What each stitch of a stitched backbone costs."""

from torch import nn

from mmrev.models.stitching import StitchedBackbone


def count_stitch_params(
    model: StitchedBackbone, stitch: int, as_reference: bool = False
) -> int:
    """Parameters that a stitch uses, each once.

    Args:
        model: with the stitch.
        stitch: id.
        as_reference: leave out what the code of SN-Net leaves out: adapters, and of a
            front anchor the class token and position embedding (DeiT) and the merging
            of patches (Swin).

    Returns:
        The number.
    """
    left_out: set[int] = set()
    if as_reference:
        parts = [model.adapters]
        for anchor in model.routes[stitch].anchors[:-1]:
            parts += model.runners[anchor].uncounted_parts()
        left_out = {id(p) for part in parts for p in _parameters(part)}
    used = {
        id(parameter): parameter.numel()
        for part in model.parts(stitch)
        for parameter in _parameters(part)
    }
    return sum(count for key, count in used.items() if key not in left_out)


def _parameters(part: nn.Module | nn.Parameter) -> list[nn.Parameter]:
    return [part] if isinstance(part, nn.Parameter) else list(part.parameters())
