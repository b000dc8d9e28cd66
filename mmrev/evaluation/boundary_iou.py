"""Boundary IoU (Cheng et al., arXiv 2103.16562), matched by faster-coco-eval.

The boundary of a mask is what of it lies no further from its contour than 0.02 of the
image's diagonal. Two masks overlap by their IoU or that of their boundaries,
whichever is less; a crowd by the part of the detection that it covers.

Reference: bowenc0221/boundary-iou-api, commit 37d2558, which lets an annotation's
`ignore` stand where pycocotools overwrites it by `iscrowd`; here it is overwritten.
faster-coco-eval finds boundaries, too, but 1.8.0 finds other ones where the distance
falls between two pixels (an image of 345 x 460) or exceeds the image (one of 4 x 94).
"""

import math

import cv2
import numpy as np
from faster_coco_eval import COCOeval_faster
from pycocotools import mask as rle

from mmrev.evaluation.coco import BOUNDARY_DILATION

__all__ = ["COCOeval", "boundary"]


class COCOeval(COCOeval_faster):
    """faster-coco-eval's, with the boundaries of `boundary`."""

    def _prepare(self) -> None:
        self.params.compute_boundary = False
        super()._prepare()
        self.params.compute_boundary = True
        for coco in (self.cocoGt, self.cocoDt):
            for one in coco.anns.values():
                category = one["category_id"] if self.params.useCats else -1
                matched = (one["image_id"], category) in self._nonempty_iou_pairs
                # Classes that are not evaluated have no code.
                if matched and "rle" in one:
                    one["boundary"] = boundary(one["rle"])


def boundary(code: dict) -> dict:
    """Leave of a mask what lies near its contour; the image's border is one.

    Args:
        code: run-length code as pycocotools encodes it.

    Returns:
        The code of the boundary.
    """
    height, width = code["size"]
    distance = max(1, round(BOUNDARY_DILATION * math.sqrt(height**2 + width**2)))
    left, top, columns, rows = rle.toBbox(code).astype(int)
    bits = rle.decode(code)
    # Outside of its box there is nothing to erode.
    part = bits[top : top + rows, left : left + columns]
    if part.size:
        kernel = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
        part -= cv2.erode(part, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return rle.encode(bits)
