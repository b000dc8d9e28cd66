"""Segmentors of mmseg with what they lack; registered if mmseg is installed."""

from importlib.util import find_spec

from mmrev.console import hushed

__all__ = []

if find_spec("mmseg"):
    with hushed():
        from mmrev.models.segmentors.encoder_decoder import EncoderDecoder
        from mmrev.models.segmentors.linear_head import LinearHead

    __all__ += ["EncoderDecoder", "LinearHead"]
