"""What of Mask2Former learns slower or without weight decay, whatever the data.

mmengine refuses two bases that set the same key, and segmentors come with an optimizer.
So this file sets keys of its own, and the configs beside it apply them.
"""

without_decay = dict(decay_mult=0.0)
mask2former_keys = dict(
    backbone=dict(lr_mult=0.1),
    query_embed=without_decay,
    query_feat=without_decay,
    level_embed=without_decay,
)
