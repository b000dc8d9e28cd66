"""Feature distillation on the images of the embedded scenes, for two CPU cores.

The teacher is NFNet-large-demo, trained before on single digits. Three levels learn, as
the last one of such small images has few cells.
"""

_base_ = ["../schedules/demo_400.py", "../datasets/scenes_images.py"]

data_preprocessor = dict(
    type="SelfSupDataPreprocessor",
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)
model = dict(
    type="mmrev.FeatureDistillation",
    model=dict(type="mmrev.BareModel"),
    teacher=dict(
        type="mmrev.NFNet",
        arch=dict(channels=[96, 192, 384, 768], depths=[1, 2, 3, 2], group_width=32),
        out_indices=(1, 2, 3),
        init_cfg=dict(
            type="Pretrained",
            checkpoint="work_dirs/demo-nfnet-large/crops/iter_400.pth",
        ),
    ),
    levels=(0, 1, 2),
    out_channels=[192, 384, 768],
)
