"""Several augmented copies of an image in one batch.

Papers: Augment your batch, arXiv 1901.09335; Drawing multiple augmentation samples per
image during training efficiently decreases test error, arXiv 2105.13343, which applies
it to NFNet, as arXiv 2310.16764 does with four copies in fine-tuning.
"""

from collections.abc import Iterator
from itertools import islice

from torch.utils.data import BatchSampler, Sampler

from mmrev.registry import DATA_SAMPLERS

__all__ = ["RepeatedAugmentationBatchSampler"]


@DATA_SAMPLERS.register_module()
class RepeatedAugmentationBatchSampler(BatchSampler):
    """Fills a batch with copies of few images, each of which is augmented by itself.

    The copies of an image lie side by side in a batch of one process. An epoch still
    shows every image that the sampler gives, now ``num_repeats`` times, and so has that
    many times the steps: a schedule that counts epochs is that much longer, and is to
    be shortened where the compute should stay equal. `batch_size` counts copies, as
    ``auto_scale_lr`` and `tools/plan.py` do.

    mmpretrain's ``RepeatAugSampler``, which is DeiT's, keeps the length of an epoch
    instead, so that one shows a third of the images at three copies, and gives the
    copies of an image to different processes.

    Args:
        sampler: of any kind that gives an image once a pass, as mmengine's
            DefaultSampler, which shares images out to processes.
        batch_size: copies in a batch of one process; the last one of an epoch may have
            fewer.
        num_repeats: copies of an image, n.

    Raises:
        ValueError: n does not divide the batch, or the sampler repeats images itself.
    """

    def __init__(self, sampler: Sampler, batch_size: int, num_repeats: int = 4):
        super().__init__(sampler, batch_size, drop_last=False)
        name = type(self).__name__
        if num_repeats < 1:
            raise ValueError(f"{name}: num_repeats must be >= 1, got {num_repeats}.")
        if batch_size % num_repeats:
            below = batch_size - batch_size % num_repeats
            fitting = f"{below} or {below + num_repeats}" if below else f"{num_repeats}"
            raise ValueError(
                f"{name}: batch_size must be a multiple of num_repeats={num_repeats}, "
                "so that all copies of an image lie in one batch, got "
                f"{batch_size}. Set batch_size to {fitting}."
            )
        if getattr(sampler, "num_repeats", 1) > 1:
            raise ValueError(
                f"{name}: expected a sampler that gives every image once, got "
                f"{type(sampler).__name__}, which repeats {sampler.num_repeats} times "
                "itself. Use sampler=dict(type='DefaultSampler', shuffle=True)."
            )
        self.num_repeats = num_repeats

    def __iter__(self) -> Iterator[list[int]]:
        images = iter(self.sampler)
        while some := list(islice(images, self._images)):
            yield [image for image in some for _ in range(self.num_repeats)]

    def __len__(self) -> int:
        return -(-len(self.sampler) // self._images)

    @property
    def _images(self) -> int:
        """Different ones in a batch."""
        return self.batch_size // self.num_repeats
