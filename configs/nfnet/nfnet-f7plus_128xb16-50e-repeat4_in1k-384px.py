r"""NFNet-F7+ as without `-repeat4`, with four copies of each image in a batch.

Run: torchrun --nnodes 16 --nproc-per-node 8 tools/train.py --launcher pytorch \
    configs/nfnet/nfnet-f7plus_128xb16-50e-repeat4_in1k-384px.py
Hardware: 128 GPUs, 16 copies each. Expected: not run.
(90.4 top-1 published, arXiv 2310.16764.) An epoch shows every image four times, so that
it takes four times as long.
"""

_base_ = "./nfnet-f7plus_128xb16-50e_in1k-384px.py"

train_dataloader = dict(
    batch_sampler=dict(type="mmrev.RepeatedAugmentationBatchSampler", num_repeats=4)
)
