"""A file -> its picture and what it says of itself, in this very process.

Files are known by their content. Each format goes to its own decoder and to no other, so that a
file can't reach a decoder that we did not choose. Whatever is wrong with a file is an ImageError;
but decoders are native code, which a file may crash, hang, or worse: `retrieval.images` has all
this done in processes of its own, and nobody else calls it.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np
import pi_heif
from PIL import AvifImagePlugin, Image, ImageCms
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ContainerIO import ContainerIO
from PIL.GifImagePlugin import GifImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from retrieval.errors import ImageError
from retrieval.exif import Exif, read_exif
from retrieval.formats import SNIFF_BYTES, is_cut_short, sniff
from retrieval.photo import MAX_PIXELS, PhotoInfo, Region
from retrieval.raw import find_preview, is_raw_tiff, read_raw_exif, sensor_size

# Decompression bombs are told by what the header claims, before anything is decoded. The largest
# phone sensors have 200 megapixels; nothing may take more than 1.6 GB.
MAX_BYTES = 6 * MAX_PIXELS
# What a decoder takes at its peak, measured. A JPEG is reduced while it is decoded, but all of a
# progressive one must be held for that.
_BYTES_PER_PIXEL = {"JPEG": 1, "WEBP": 16, "AVIF": 10, "JPEG2000": 20}
_BYTES_PER_PIXEL_PROGRESSIVE = 6
_BYTES_PER_PIXEL_WHOLE = 7  # more, where a JPEG can't be reduced while it is decoded
_BYTES_PER_PIXEL_OTHERWISE = 8
# Pictures that take more are decoded one at a time, whatever the number of workers.
LARGE_BYTES = MAX_BYTES // 4

# As many threads as libheif has by default: with one a core, their stacks alone would fill a
# worker's memory on a large machine.
AvifImagePlugin.DEFAULT_MAX_THREADS = 4
# Pillow has checks of its own inside some decoders. It raises at twice this number.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
# Its warnings are about metadata that we don't use or about files that it reads nevertheless.
warnings.filterwarnings("ignore", module=r"PIL\.")
# The main picture is all we want, and some files carry more of the others than libheif allows.
pi_heif.options.THUMBNAILS = pi_heif.options.DEPTH_IMAGES = pi_heif.options.AUX_IMAGES = False

_DECODERS: dict[str, Callable[[Any], Image.Image]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
    "AVIF": AvifImageFile,
    "HEIF": pi_heif.HeifImageFile,
    "GIF": GifImageFile,
    "TIFF": TiffImageFile,
    "BMP": BmpImageFile,
    "JPEG2000": Jpeg2KImageFile,
}
_UPRIGHT_BY_DECODER = {"HEIF", "TIFF"}  # libheif and Pillow's TIFF reader turn the picture

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Opened:
    """A picture whose header is read and whose pixels are not yet."""

    image: Image.Image
    format: str  # of the file
    coding: str  # of the picture: differs where the file is RAW
    exif: Exif
    turn: int  # EXIF orientation still to be applied, 1..8
    width: int  # of the full photo, as stored
    height: int

    def is_large(self, min_side: int) -> bool:
        """Whether decoding it takes so much memory that it is done alone."""
        return _peak_bytes(self.coding, self.image, min_side) > LARGE_BYTES


@contextmanager
def _decoder(coding: str) -> Iterator[None]:
    """Turn whatever a decoder raises into ImageError. Holds foreign calls only."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(_reason(coding, error)) from error


def _reason(coding: str, error: Exception) -> str:
    text = str(error).lower()
    if isinstance(error, Image.DecompressionBombError) or "security limit" in text:
        return "too many pixels"
    if isinstance(error, OSError) and error.errno:
        return f"can't be read ({error.strerror})"
    if isinstance(error, MemoryError):
        return "too large for this machine's memory"
    if isinstance(error, EOFError) or "truncated" in text or "end of file" in text:
        return "truncated"
    if any(word in text for word in ("unsupported", "unknown", "cannot handle")):
        return f"unsupported {coding}"
    return "damaged"


def open_photo(file: BinaryIO) -> Opened:
    """Read headers and metadata; refuse what can't or mustn't be decoded.

    file: seekable, and open for as long as the picture is not decoded. Raises ImageError.
    """
    file.seek(0)
    head = file.read(SNIFF_BYTES)
    if not head:
        raise ImageError("empty file")
    kind = sniff(head)
    if kind is None:
        raise ImageError("not an image")
    if kind == "RAW" or (kind == "TIFF" and is_raw_tiff(file)):
        return _open_raw(file)
    if is_cut_short(kind, file):
        raise ImageError("truncated")
    image = _construct(kind, file)
    width, height = image.size
    exif = read_exif(file) if kind == "TIFF" else _embedded_exif(image)
    turn = 1 if kind in _UPRIGHT_BY_DECODER else exif.orientation or 1
    if kind == "HEIF":
        turned = image.info.get("original_orientation")  # whatever number the file has
        exif = replace(exif, orientation=turned if turned in range(1, 9) else None)
    return Opened(image, kind, kind, exif, turn, width, height)


def _open_raw(file: BinaryIO) -> Opened:
    preview = find_preview(file)
    if preview is None:
        raise ImageError("unsupported RAW (no preview inside)")
    image = _construct("JPEG", ContainerIO(file, preview.offset, 1 << 62))
    own, inner = read_raw_exif(file), _embedded_exif(image)
    exif = Exif(
        orientation=own.orientation or inner.orientation,
        taken_at=own.taken_at or inner.taken_at,
        camera=own.camera or inner.camera,
        lens=own.lens or inner.lens,
        latitude=inner.latitude if own.latitude is None else own.latitude,
        longitude=inner.longitude if own.longitude is None else own.longitude,
    )
    width, height = sensor_size(file)
    turn = exif.orientation or 1
    if turn >= 5 and width > height and preview.height > preview.width:
        turn = 1  # the camera turned the preview already
        width, height = height, width
    if min(width, height) < 1 or width * height < preview.width * preview.height:
        width, height = preview.width, preview.height
    return Opened(image, "RAW", "JPEG", exif, turn, width, height)


def _construct(coding: str, file: Any) -> Image.Image:
    """Let the format's own decoder read the header, and check how many pixels that claims."""
    file.seek(0)
    with _decoder(coding):
        image = _DECODERS[coding](file)
    width, height = image.size
    if width * height > MAX_PIXELS or _peak_bytes(coding, image, 1) > MAX_BYTES:
        raise ImageError(f"too many pixels ({width}x{height})")
    return image


def _peak_bytes(coding: str, image: Image.Image, min_side: int) -> int:
    cost = _BYTES_PER_PIXEL.get(coding, _BYTES_PER_PIXEL_OTHERWISE)
    if coding == "JPEG" and "progressive" in image.info:
        cost = _BYTES_PER_PIXEL_PROGRESSIVE
    if coding == "JPEG" and min(image.size) < 2 * min_side:
        cost += _BYTES_PER_PIXEL_WHOLE
    return image.size[0] * image.size[1] * cost


def _embedded_exif(image: Image.Image) -> Exif:
    data = image.info.get("exif")
    if not isinstance(data, bytes):
        return Exif()
    return read_exif(io.BytesIO(data.removeprefix(b"Exif\0\0")))


def describe(opened: Opened) -> PhotoInfo:
    """What the file says of itself."""
    swapped = opened.turn >= 5
    return PhotoInfo(
        format=opened.format,
        width=opened.height if swapped else opened.width,
        height=opened.width if swapped else opened.height,
        orientation=opened.exif.orientation or 1,
        taken_at=opened.exif.taken_at,
        camera=opened.exif.camera,
        lens=opened.exif.lens,
        latitude=opened.exif.latitude,
        longitude=opened.exif.longitude,
    )


def decode(opened: Opened, min_side: int) -> Image.Image:
    """Decode the pixels: upright RGB in sRGB, the short side not reduced below `min_side`.

    Raises ImageError.
    """
    with _decoder(opened.coding):
        image = opened.image
        if opened.coding == "JPEG":
            image.draft(None, (min_side, min_side))
        image.load()
        image = _to_rgb(image, min_side)
        if opened.turn in _TURNS:
            image = image.transpose(_TURNS[opened.turn])
        return image


def _to_rgb(image: Image.Image, min_side: int) -> Image.Image:
    """Any mode -> RGB, 8 bits, in sRGB, over white; large pictures reduced on the way."""
    profile = image.info.get("icc_profile")
    deep = image.mode
    if deep.startswith("I;16"):
        image = image.convert("I")
    elif "transparency" in image.info or image.mode in ("PA", "LA", "La", "RGBa"):
        image = image.convert("RGBA")
    elif image.mode in ("P", "1"):
        image = image.convert("RGB")
    image = reduced(image, min_side)
    if image.mode in ("I", "F"):
        image = _to_grey(image, deep)
    if image.mode == "RGBA":
        image = _over_white(image)
    return _to_srgb(image, profile)


def reduced(image: Image.Image, min_side: int) -> Image.Image:
    factor = min(image.size) // (2 * min_side)
    return image.reduce(factor) if factor > 1 else image


def _to_grey(image: Image.Image, mode: str) -> Image.Image:
    """Deep grey of the given original mode -> 8 bits.

    Where the mode leaves the white point open, it is the least usual one that no pixel exceeds.
    """
    values = np.nan_to_num(np.asarray(image), nan=0.0, posinf=0.0, neginf=0.0)
    brightest = float(values.max())
    whites = {"I": (255.0, 65535.0, brightest), "F": (1.0, 255.0, 65535.0, brightest)}
    white = next(top for top in whites.get(mode, (65535.0,)) if brightest <= top)
    grey = np.clip(values.astype(np.float32) * (255 / white), 0, 255)
    return Image.fromarray(np.rint(grey).astype(np.uint8))


def _over_white(image: Image.Image) -> Image.Image:
    alpha = image.getchannel("A")
    if alpha.getextrema() == (0, 0):
        return image.convert("RGB")  # nothing at all to see: an alpha that was never meant
    paper = Image.new("RGB", image.size, "white")
    paper.paste(image, mask=alpha)
    return paper


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert by the colour profile, if the file has one other than sRGB and it makes sense."""
    if image.mode == "LAB":
        source: Any = ImageCms.createProfile("LAB")
    elif profile and b"sRGB" not in profile.replace(b"\0", b""):
        source = io.BytesIO(profile)
    else:
        return image if image.mode == "RGB" else image.convert("RGB")  # which would copy
    try:
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except ImageCms.PyCMSError:  # a broken profile, or of another kind of picture
        return image.convert("RGB")
    assert converted is not None
    return converted


def cut_region(image: Image.Image, info: PhotoInfo, region: Region, min_side: int) -> Image.Image:
    """Cut a region, as `retrieval.images.read_region` says, out of a photo that was decoded whole.

    Raises ImageError for a region that is empty or not inside the photo.
    """
    width, height = image.size
    x, y, across, down = region
    # A RAW file's preview may be smaller than the photo, so pixels are made shares too.
    unit = (1.0, 1.0) if max(region) <= 1 else (float(info.width), float(info.height))
    left, right = round(x / unit[0] * width), round((x + across) / unit[0] * width)
    top, bottom = round(y / unit[1] * height), round((y + down) / unit[1] * height)
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        asked = ",".join(f"{number:g}" for number in region)
        raise ImageError(f"the region {asked} is not inside the photo ({info.width}x{info.height})")
    return reduced(image.crop((left, top, right, bottom)), min_side)
