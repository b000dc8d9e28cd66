"""Mask2Former over a stitched backbone, 160k steps of ADE20K at batch 16, crop 512."""

_base_ = ["./mask2former_160k_ade20k-512x512.py", "../stitching.py"]

optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(
            _delete_=True,  # the rate of the whole backbone
            query_embed=_base_.without_decay,
            query_feat=_base_.without_decay,
            level_embed=_base_.without_decay,
            **_base_.stitch_keys,
        )
    )
)
custom_hooks = _base_.stitch_hooks
test_cfg = _base_.stitch_test
