r"""ViT-B after SimMIM, 100 epochs of ImageNet-1k.

Run: torchrun --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/vit/vit-b-simmim_8xb256-100e_in1k.py
Its backbone starts from vit-b_simmim_8xb256-amp-800e_in1k-224x224.py.
Hardware: 8 GPUs, 256 images each. Expected: 83.8 top-1
(published, arXiv 2111.09886; not run here).
"""

_base_ = "mmpretrain::beit/benchmarks/beit-base-p16_8xb128-coslr-100e_in1k.py"

pretrained = "work_dirs/vit-b_simmim_8xb256-amp-800e_in1k-224x224/epoch_800.pth"
model = dict(
    backbone=dict(type="mmpretrain.BEiTViT", init_cfg=dict(checkpoint=pretrained))
)
data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
train_dataloader = dict(batch_size=256)
optim_wrapper = dict(optimizer=dict(lr=5e-3))
auto_scale_lr = dict(base_batch_size=2048)
