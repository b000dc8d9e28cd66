"""How stitched backbones are trained and tested, whatever the head.

mmengine refuses two bases that set the same key, and detectors and segmentors come with
an optimizer and loops. So this file sets keys of its own, and the configs beside it
apply them.
"""

stitch_hooks = [
    dict(type="mmrev.StitchFitHook"),
    dict(type="mmrev.StitchSamplerHook"),
]
stitch_test = dict(type="mmrev.StitchTestLoop")

# Anchors are pretrained and learn at a tenth of the rate, as in SN-Net's Swin and as
# the toolboxes' backbones under these heads; stitches, adapters and pyramid are new and
# learn at the head's. The longest key that is part of a parameter's name decides alone.
anchor_without_decay = dict(lr_mult=0.1, decay_mult=0.0)
stitch_keys = dict(
    anchors=dict(lr_mult=0.1),
    relative_position_bias_table=anchor_without_decay,
    pos_embed=anchor_without_decay,
    cls_token=anchor_without_decay,
)
