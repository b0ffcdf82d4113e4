"""Formats of photos, told by their first bytes: names of files are not to be trusted."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

from retrieval.errors import ImageError
from retrieval.exif import TiffReader

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "GIF", "TIFF", "BMP", "JPEG2000", "RAW")
SNIFF_BYTES = 4096  # enough for any list of brands

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"FUJIFILMCCD-RAW", "RAW"),
    (b"FOVb", "RAW"),  # Sigma
    (b"IIRO", "RAW"),  # Olympus, as the next two
    (b"IIRS", "RAW"),
    (b"MMOR", "RAW"),
    (b"IIU\0", "RAW"),  # Panasonic, Leica
    (b"\0MRM", "RAW"),  # Minolta
    (b"II\x1a\0\0\0HEAPCCDR", "RAW"),  # Canon before CR2
)
_BMP_HEADER_SIZES = {12, 16, 40, 52, 56, 64, 108, 124}
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"heif"}


def sniff(head: bytes) -> str | None:
    """Name the format of a file from its first 64 bytes or more; None if it is none that we read.

    A RAW file that is a TIFF in disguise (CR2, NEF, ARW, DNG...) is "TIFF" here.
    """
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return "BMP"
    if head[4:8] == b"ftyp":
        return _sniff_brands(head)
    return None


def open_picture(path: Path) -> BinaryIO:
    """Open a file that begins as a picture does that we read.

    A library from elsewhere may name any file as its photo: what is none is not handed out.

    Raises ImageError if it is none, OSError if it can't be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise ImageError("not a file")  # a pipe would block
        file = path.open("rb")
    except ValueError as error:
        raise ImageError("not a name of a file") from error
    if sniff(file.read(SNIFF_BYTES)) is None:
        file.close()
        raise ImageError("not an image")
    file.seek(0)
    return file


def _sniff_brands(head: bytes) -> str | None:
    """Tell AVIF, HEIF and CR3 by the brands of the first box; the first brand is the main one."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))]
    if brands[0] == b"crx ":
        return "RAW"
    for brand in sorted(brands, key=lambda brand: brand in {b"mif1", b"msf1"}):
        if brand in _AVIF_BRANDS:
            return "AVIF"
        if brand in _HEIF_BRANDS:
            return "HEIF"
    return None


def is_cut_short(kind: str, file: BinaryIO) -> bool:
    """Tell a file that ends too early, for formats whose decoders call that something else."""
    end = file.seek(0, io.SEEK_END)
    if kind == "WEBP":
        file.seek(4)
        return end < 8 + int.from_bytes(file.read(4), "little")
    return kind == "TIFF" and not TiffReader(file).is_first_directory_whole()
