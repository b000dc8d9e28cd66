"""NFNet-F7+ fine-tuned on ImageNet-1k: 50 epochs at 384 px with SAM, tested at 480 px.

Paper: arXiv 2310.16764, section 3. It says epochs, sizes, SAM and stochastic depth; the
augmentation is that of the large models trained from scratch, learning rate (.1 for
2048 images), warm-up and batch are ours.
"""

_base_ = ["./nfnet-f4_in1k.py", "../schedules/sgd-agc_360e.py"]

model = dict(
    neck=dict(in_channels=2048),
    head=dict(in_channels=4096),
)
test_pipeline = [
    _base_.test_pipeline[0],
    dict(_base_.test_pipeline[1], scale=(512, 512)),
    dict(_base_.test_pipeline[2], crop_size=480),
    _base_.test_pipeline[3],
]
train_dataloader = dict(batch_size=16)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
max_epochs = 50
train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(
    type="mmrev.SAMBFloat16OptimWrapper", rho=0.05, optimizer=dict(lr=0.1)
)
cosine = dict(
    _base_.param_scheduler[1],
    end=max_epochs,
    T_max=max_epochs - _base_.warmup_epochs,
)
param_scheduler = [_base_.param_scheduler[0], cosine]
auto_scale_lr = dict(base_batch_size=2048)
