r"""DeiT-Ti, S and B stitched, 50 epochs of ImageNet-1k, the recipe of SN-Net.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/stitched/stitched-deit-ti-s-b_8xb128-50e_in1k.py
Hardware: 8 GPUs, 128 images each. Expected: not run.
"""

_base_ = [
    "../_base_/classifiers/stitched_50e_in1k.py",
    "../_base_/backbones/stitched-deit-ti-s-b.py",
]

backbone = dict(_base_.backbone, pyramid=None, out_indices=(0,))
model = dict(model=dict(backbone=backbone, head=dict(in_channels=768)))
train_dataloader = dict(sampler=dict(type="RepeatAugSampler"))
optim_wrapper = dict(clip_grad=None)
average = dict(type="EMAHook", momentum=4e-5, priority="ABOVE_NORMAL")
custom_hooks = [_base_.stitch_hooks[0], _base_.stitch_hooks[1], average]
