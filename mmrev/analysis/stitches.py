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
    left_out: list[nn.Module | nn.Parameter] = []
    if as_reference:
        left_out.append(model.adapters)
        for anchor in model.routes[stitch].anchors[:-1]:
            left_out += model.runners[anchor].uncounted_parts()
    excluded = {id(p) for part in left_out for p in _parameters(part)}
    used = model.parameters_of(stitch)
    return sum(p.numel() for p in used if id(p) not in excluded)


def _parameters(part: nn.Module | nn.Parameter) -> list[nn.Parameter]:
    return [part] if isinstance(part, nn.Parameter) else list(part.parameters())
