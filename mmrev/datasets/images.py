"""What a file of an image must be: whole, and as large as its annotations state."""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmengine.fileio import get
from PIL import Image, ImageFile, UnidentifiedImageError

from mmrev.errors import UserError
from mmrev.text import printable

__all__ = [
    "CheckImage",
    "UnreadableError",
    "fault_of",
    "orientation_of",
    "other_size",
    "remedy",
    "size_of",
    "turned_by",
    "turns",
    "unturned",
]

_ROTATION, _TURNS = 274, (5, 6, 7, 8)  # EXIF's key, and what swaps height and width
_BEGIN, _END = b"\xff\xd8", b"\xff\xd9"  # of a JPEG file
_FAULTS = {
    errno.ENOENT: "no such file",
    errno.EISDIR: "a folder",
    errno.EACCES: "no permission to read it",
}


class UnreadableError(Exception):
    """A file of a data set cannot be read.

    Args:
        path: of the file.
        fault: why, see `fault_of`.
    """

    def __init__(self, path: str, fault: str):
        super().__init__(path, fault)
        # A name may hold what would steer a terminal.
        self.path, self.fault = printable(path), printable(fault)

    def __str__(self) -> str:
        return f"{self.path} ({self.fault})"


class CheckImage:
    """A transform that refuses half an image, and one of another size than annotated.

    Its place is after the loading of the image.

    Attributes:
        other_sizes: 'refused' or 'said', which is somebody else's business then.
    """

    other_sizes = "refused"

    def __init__(self, load: LoadImageFromFile):
        self.load = load

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Check an image.

        Args:
            results: with `img_path`, and with `height` and `width` where annotations
                state them, pixels.

        Returns:
            The results as they are.

        Raises:
            UnreadableError: the file ends in the middle of the image.
            UserError: the size is another one.
        """
        path = results.get("img_path")
        if path is None:
            return results
        if _may_be_cut(path) and (fault := fault_of(path)):
            raise UnreadableError(path, fault)
        if self.other_sizes == "refused":
            size = results["ori_shape"][1::-1]
            if said := other_size(results, size, turned=turns(self.load)):
                raise UserError(
                    f"{path}: expected the size that its annotations state, {said}; "
                    f"{remedy(said)}. tools/check_data.py names all such images."
                )
        return results


def unturned(said: str) -> str:
    """What to do if an image is turned that annotations are of, where it is said."""
    if "EXIF" not in said:
        return ""
    return (
        "set color_type='color_ignore_orientation' in every LoadImageFromFile if the "
        "annotations are of images that are not turned, else "
    )


def remedy(said: str) -> str:
    """What to do about images of other sizes, by what `other_size` said of some."""
    return (
        f"{unturned(said)}mend the images or their annotations; if "
        "only height and width are stated wrongly, other_sizes='said' in the config "
        "lets them pass"
    )


def fault_of(path: str, backend_args: dict | None = None) -> str | None:
    """Why a file is no whole image, in a few words; None if it is one."""
    try:
        content = get(path, backend_args=backend_args)
        if not content:
            return "an empty file"
        with _opened(BytesIO(content)) as image:
            image.load()
    except UnidentifiedImageError:
        return "no image"
    # Storage and decoders raise all kinds on what they cannot read.
    except Exception as error:
        if os.path.islink(path) and not os.path.exists(path):
            return "a link to a file that is not there"
        if number := getattr(error, "errno", None):
            return _FAULTS.get(number) or str(error.strerror)
        return " ".join(f"a damaged one: {error}".split())[:100]
    # What the disk never got; decoders may take it for an image's end.
    padded = content.startswith(_BEGIN) and content.endswith(b"\0\0")
    if padded and not content.rstrip(b"\0").endswith(_END):
        return "a damaged one: it ends in zeros"
    return None


def size_of(path: str, turned: bool = True) -> tuple[int, int]:
    """Width and height of a picture, of which only the header is read.

    Args:
        path: of a local file.
        turned: as its EXIF orientation asks, as most loaders do.
    """
    with _opened(path) as image:
        width, height = image.size
        if turned and image.getexif().get(_ROTATION) in _TURNS:
            return height, width
    return width, height


def turns(load: LoadImageFromFile) -> bool:
    """Whether a loading step turns images as their EXIF orientation asks."""
    unturned = load.color_type.endswith(("unchanged", "ignore_orientation"))
    return not unturned and load.imdecode_backend in ("cv2", "pillow")


def other_size(
    info: Mapping[str, Any], size: tuple[int, int], turned: bool = True
) -> str:
    """Compare the size of an image with the one that its annotations state.

    Args:
        info: with `img_path`, and with `height` and `width` if these are stated.
        size: width and height of the image as it is loaded.
        turned: as of `size_of`.

    Returns:
        The stated and the loaded size, in words; empty if they agree, or if none is
        stated.
    """
    stated = info.get("width"), info.get("height")
    if None in stated or stated == tuple(size):
        return ""
    why = turned_by(info["img_path"], stated, size) if turned else ""
    return f"{stated[0]} x {stated[1]}, got {size[0]} x {size[1]}{why}"


def turned_by(path: str, size: Sequence[int], other: Sequence[int]) -> str:
    """What turns an image between two sizes, in brackets; empty if nothing does."""
    if tuple(size) != tuple(other)[::-1]:
        return ""
    number = orientation_of(path)
    return f" (its EXIF orientation {number} turns it)" if number in _TURNS else ""


def orientation_of(file: str | BytesIO) -> int:
    """The EXIF orientation of a picture, 1 to 8; 0 if there is none."""
    try:
        with _opened(file) as image:
            return image.getexif().get(_ROTATION, 0)
    except OSError:  # as of storage elsewhere
        return 0


@contextmanager
def _opened(file: str | BytesIO) -> Iterator[Image.Image]:
    """A picture that may be large, and must be whole, whatever others have set."""
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = None, False
    try:
        with Image.open(file) as image:
            yield image
    finally:
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


def _may_be_cut(path: str) -> bool:
    """Whether a local JPEG file does not end as one.

    cv2 4.10 fills up what is missing, without a word; 4.12 refuses it, and both refuse
    half a file of other kinds.
    """
    try:
        with open(path, "rb") as file:
            if file.read(2) != _BEGIN:
                return False
            file.seek(-2, os.SEEK_END)
            return file.read() != _END
    except OSError:
        return False
