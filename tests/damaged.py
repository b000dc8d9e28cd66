"""Files that are no whole image, each in its own way."""

from io import BytesIO
from pathlib import Path

from PIL import Image

TURNED = 6  # by a quarter, in the EXIF field of the orientation
_ORIENTATION = 0x0112


def damage(path: Path, how: str) -> None:
    """Leave something else in the place of an image."""
    whole = path.read_bytes()
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "link":
        path.symlink_to("nowhere.jpg")
    elif how == "forbidden":
        path.write_bytes(whole)
        path.chmod(0)
    elif how != "missing":
        content = {
            "empty": b"",
            "truncated": whole[: len(whole) // 2],
            "without end": whole[:-2],
            "zeroed": whole[:-60] + bytes(60),
            "text": b"<html>not found</html>",
            "no pixels": _bmp_without_pixels(),
        }
        path.write_bytes(content[how])


FAULTS = {
    "missing": "no such file",
    "link": "a link to a file that is not there",
    "folder": "a folder",
    "empty": "an empty file",
    "truncated": "a damaged one: image file is truncated",
    "without end": "a damaged one: image file is truncated",
    "zeroed": "a damaged one: it ends in zeros",
    "text": "no image",
    "no pixels": "",  # in Pillow's words, or as cv2 gives up
}


def turn(path: Path) -> None:
    """Ask by EXIF that an image be turned by a quarter."""
    with Image.open(path) as image:
        image.load()
        exif = image.getexif()
        exif[_ORIENTATION] = TURNED
        image.save(path, format="JPEG", exif=exif)


def _bmp_without_pixels() -> bytes:
    file = BytesIO()
    Image.new("RGB", (1, 1)).save(file, format="BMP")
    content = bytearray(file.getvalue())
    content[22:26] = bytes(4)  # the height
    return bytes(content)
