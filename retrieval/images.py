"""Photos in, pixels out: the one way by which gallery, query, evaluation and training see a photo.

Files are known by their content. Each format goes to its own decoder and to no other, so that a
file can't reach a decoder that we did not choose. Whatever is wrong with a file is an ImageError.
All functions may be called from several threads.
"""

from __future__ import annotations

import io
import math
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pi_heif
from numpy.typing import NDArray
from PIL import Image, ImageCms
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
from retrieval.raw import find_preview, is_raw_tiff, read_raw_exif, sensor_size

__all__ = [
    "FRAMINGS",
    "MAX_PIXELS",
    "PhotoInfo",
    "Picture",
    "Region",
    "cut",
    "encode_png",
    "frame",
    "read_photo",
    "read_picture",
    "read_region",
    "rescale",
    "sniff",
    "thumbnail",
]

Region = tuple[float, float, float, float]  # x, y, width, height, from the upper left corner

FRAMINGS = ("crop", "squash")
SIDE = 224  # of a framed photo, unless the network takes another
CROP_SHORT_SIDE = 256  # of the whole photo, before its centre of 224 is cut out
THUMBNAIL_SIDE = 320

_THINNEST = 20  # times its short side may a photo be long that is scaled as a whole

# Decompression bombs are told by what the header claims, before anything is decoded. The largest
# phone sensors have 200 megapixels; nothing may take more than 1.6 GB.
MAX_PIXELS = 1 << 28
MAX_BYTES = 6 * MAX_PIXELS
# What a decoder takes at its peak, measured. A JPEG is reduced while it is decoded, but all of a
# progressive one must be held for that.
_BYTES_PER_PIXEL = {"JPEG": 1, "WEBP": 16, "AVIF": 10, "JPEG2000": 20}
_BYTES_PER_PIXEL_PROGRESSIVE = 6
_BYTES_PER_PIXEL_OTHERWISE = 8
# Pictures that take more are decoded one at a time, whatever the number of threads.
LARGE_BYTES = MAX_BYTES // 4

_LARGE = threading.Lock()
_HAS_MEMFD = hasattr(os, "memfd_create")  # Linux

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
class PhotoInfo:
    """What the file says of itself."""

    format: str  # a key of the decoders, or "RAW"
    width: int  # pixels, upright, of the full photo (not of the reduced pixels)
    height: int
    orientation: int  # EXIF 1..8 as in the file; 1 if absent or invalid
    taken_at: str | None  # ISO 8601, local to the camera; with the offset if the file gives it
    camera: str | None
    lens: str | None
    latitude: float | None  # degrees, north and east positive
    longitude: float | None


@dataclass(frozen=True, slots=True)
class Picture:
    """What a library takes of a photo."""

    pixels: NDArray[np.uint8]  # (side, side, 3), framed: the network's input
    info: PhotoInfo
    thumbnail: bytes  # a JPEG


@dataclass(frozen=True, slots=True)
class _Opened:
    """A picture whose header is read and whose pixels are not yet."""

    image: Image.Image
    format: str  # of the file
    coding: str  # of the picture: differs where the file is RAW
    exif: Exif
    turn: int  # EXIF orientation still to be applied, 1..8
    width: int  # of the full photo, as stored
    height: int


def read_photo(
    source: Path | BinaryIO | bytes, *, min_side: int = CROP_SHORT_SIDE
) -> tuple[NDArray[np.uint8], PhotoInfo]:
    """Decode a photo: its pixels, upright, and what the file says of itself.

    source: a path, the bytes of a file, or a seekable binary file, which stays open.
    min_side: what the short side may be reduced to, in pixels. Photos are never enlarged.

    Returns (h, w, 3) uint8 RGB in sRGB, transparency over white, of an animation the first frame.
    Raises ImageError for any file that gives no whole picture.
    """
    image, info = _read(source, min_side)
    return np.array(image), info


def read_picture(source: Path | BinaryIO | bytes, framing: str, side: int = SIDE) -> Picture:
    """Take of a photo all that indexing needs: `read_photo`, `frame` and `thumbnail` in one.

    Raises ImageError as `read_photo` does.
    """
    image, info = _read(source, CROP_SHORT_SIDE)
    return Picture(_frame(image, framing, side), info, _thumbnail(image, THUMBNAIL_SIDE))


def read_region(
    source: Path | BinaryIO | bytes, region: Region, *, min_side: int = CROP_SHORT_SIDE
) -> NDArray[np.uint8]:
    """Decode a part of a photo, as if a file held that part and nothing else.

    region: of the upright photo: shares of its sides if no number is above 1, else pixels of the
    full photo.
    min_side: as in `read_photo`, of the part.

    Returns (h, w, 3) uint8. Raises ImageError as `read_photo` does, and for a region that is empty
    or not inside the photo.
    """
    if not all(math.isfinite(number) for number in region):
        raise ImageError("a region is four numbers: x, y, width, height")
    pixels, info = read_photo(source, min_side=MAX_PIXELS)  # the whole photo, not reduced
    height, width = pixels.shape[:2]
    x, y, across, down = region
    # A RAW file's preview may be smaller than the photo, so pixels are made shares too.
    unit = (1.0, 1.0) if max(region) <= 1 else (float(info.width), float(info.height))
    left, right = round(x / unit[0] * width), round((x + across) / unit[0] * width)
    top, bottom = round(y / unit[1] * height), round((y + down) / unit[1] * height)
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        asked = ",".join(f"{number:g}" for number in region)
        raise ImageError(f"the region {asked} is not inside the photo ({info.width}x{info.height})")
    part = Image.fromarray(pixels[top:bottom, left:right])
    return np.array(_reduced(part, min_side))


def _read(source: Path | BinaryIO | bytes, min_side: int) -> tuple[Image.Image, PhotoInfo]:
    with _file_of(source) as file:
        opened = _open(file)
        with _LARGE if _peak_bytes(opened.coding, opened.image) > LARGE_BYTES else nullcontext():
            return _decode(opened, min_side), _describe(opened)


@contextmanager
def _file_of(source: Path | BinaryIO | bytes) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    elif isinstance(source, Path):
        try:
            if not source.is_file() and source.exists():
                raise ImageError("not a file")  # a pipe would block
            file = source.open("rb")
        except OSError as error:
            raise ImageError(f"can't be read ({error.strerror})") from error
        with file:
            yield file
    else:
        yield source


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


def _open(file: BinaryIO) -> _Opened:
    """Read headers and metadata; refuse what can't or mustn't be decoded."""
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
        exif = replace(exif, orientation=image.info.get("original_orientation"))
    return _Opened(image, kind, kind, exif, turn, width, height)


def _open_raw(file: BinaryIO) -> _Opened:
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
    if width * height < preview.width * preview.height:
        width, height = preview.width, preview.height
    return _Opened(image, "RAW", "JPEG", exif, turn, width, height)


def _construct(coding: str, file: Any) -> Image.Image:
    """Let the format's own decoder read the header, and check how many pixels that claims."""
    file.seek(0)
    with _decoder(coding):
        image = _DECODERS[coding](file)
    width, height = image.size
    if width * height > MAX_PIXELS or _peak_bytes(coding, image) > MAX_BYTES:
        raise ImageError(f"too many pixels ({width}x{height})")
    return image


def _peak_bytes(coding: str, image: Image.Image) -> int:
    cost = _BYTES_PER_PIXEL.get(coding, _BYTES_PER_PIXEL_OTHERWISE)
    if coding == "JPEG" and "progressive" in image.info:
        cost = _BYTES_PER_PIXEL_PROGRESSIVE
    return image.size[0] * image.size[1] * cost


def _embedded_exif(image: Image.Image) -> Exif:
    data = image.info.get("exif")
    if not isinstance(data, bytes):
        return Exif()
    return read_exif(io.BytesIO(data.removeprefix(b"Exif\0\0")))


def _describe(opened: _Opened) -> PhotoInfo:
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


def _decode(opened: _Opened, min_side: int) -> Image.Image:
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
    image = _reduced(image, min_side)
    if image.mode in ("I", "F"):
        image = _to_grey(image, deep)
    if image.mode == "RGBA":
        image = _over_white(image)
    return _to_srgb(image, profile)


def _reduced(image: Image.Image, min_side: int) -> Image.Image:
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


def frame(pixels: NDArray[np.uint8], framing: str = "crop", side: int = SIDE) -> NDArray[np.uint8]:
    """Fit a photo of any shape into the network's square.

    pixels: (h, w, 3) uint8. Returns (side, side, 3) uint8, bilinear with antialiasing.

    "crop" is torchvision's Resize(256) and CenterCrop(224), "squash" its Resize((224, 224)); at
    another side the share that is cut off is the same.
    """
    return _frame(Image.fromarray(pixels), framing, side)


def _frame(image: Image.Image, framing: str, side: int) -> NDArray[np.uint8]:
    width, height = image.size
    if framing == "squash":
        box = (0.0, 0.0, float(width), float(height))
    elif framing == "crop":
        left, right = _central_span(width, min(width, height), side)
        top, bottom = _central_span(height, min(width, height), side)
        box = (left, top, right, bottom)
    else:
        raise ValueError(f"framing is one of {', '.join(FRAMINGS)}, not {framing!r}")
    return np.array(image.resize((side, side), Image.Resampling.BILINEAR, box=box))


def cut(
    pixels: NDArray[np.uint8], box: tuple[float, float, float, float], side: int
) -> NDArray[np.uint8]:
    """Scale a part of a photo to a square: (h, w, 3) -> (side, side, 3), as `frame` does.

    box: left, top, right, bottom in pixels, fractions too, inside the photo and not empty.
    """
    image = Image.fromarray(pixels)
    return np.array(image.resize((side, side), Image.Resampling.BILINEAR, box=box))


def _central_span(length: int, short: int, side: int) -> tuple[float, float]:
    """The part of a side that the centre crop keeps, in pixels of the unscaled photo.

    The whole photo is never scaled: a panorama of 1 x 5000 would take 1.3 million pixels' width.
    """
    scaled = (CROP_SHORT_SIDE * side // SIDE) * length // short
    start = round((scaled - side) / 2)
    return start * length / scaled, (start + side) * length / scaled


def rescale(pixels: NDArray[np.uint8], short_side: int) -> NDArray[np.uint8]:
    """Scale a photo, in its own shape, until its short side has so many pixels.

    pixels: (h, w, 3) uint8. Returns (h', w', 3) uint8, bilinear with antialiasing: torchvision's
    Resize(short_side). Raises ImageError for a photo so thin that the result would be huge.
    """
    height, width = pixels.shape[:2]
    short, long = min(width, height), max(width, height)
    if long > _THINNEST * short:
        raise ImageError(f"too thin ({width}x{height})")
    size = (short_side * width // short, short_side * height // short)
    return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of (h, w, 3) uint8 pixels: each stays what it is."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def thumbnail(pixels: NDArray[np.uint8], side: int = THUMBNAIL_SIDE) -> bytes:
    """A JPEG of the photo for people to look at: long side at most `side`, never enlarged."""
    return _thumbnail(Image.fromarray(pixels), side)


def _thumbnail(image: Image.Image, side: int) -> bytes:
    """Reduces the image itself."""
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    # Only into a real file does Pillow let other threads compute meanwhile.
    with os.fdopen(os.memfd_create("thumbnail"), "w+b") if _HAS_MEMFD else io.BytesIO() as out:
        image.save(out, "JPEG", quality=85)
        out.seek(0)
        return out.read()
