"""The JPEG that a camera puts inside its RAW file, and what it wrote beside it.

Each maker hides the preview elsewhere: in a directory, in a maker's note, in a box, at an offset
in the header. But a JPEG can be told from anything else by its first bytes, so one search finds
them all, in the RAW formats of every maker: the file is read once, from end to end, and the largest
picture wins. Nothing here decodes a picture.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from retrieval.exif import Directory, Exif, TiffReader, interpret, read_exif

CHUNK_BYTES = 4 << 20
MAX_SEGMENTS = 100  # before the frame header; a preview has fewer than 20
MAX_CANDIDATES = 1000

_WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC = 0x0100, 0x0101, 0x0103, 0x0106
_TILE_OFFSETS, _DNG_VERSION = 0x0144, 0xC612
_SENSOR_PHOTOMETRICS = {32803, 34892}  # colour filter array; linear sensor data
_SENSOR_COMPRESSIONS = {32767, 32769, 32770, 34713, 65000, 65535}  # Sony, Samsung, Nikon, Kodak...
_JPEG_START = b"\xff\xd8\xff"
_FRAME_HEADERS = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive; 0xC3 holds sensor data


@dataclass(frozen=True, slots=True)
class Preview:
    """Where the largest embedded JPEG begins, and its size in pixels as stored."""

    offset: int
    width: int
    height: int


def is_raw_tiff(file: BinaryIO) -> bool:
    """Tell a TIFF-like RAW file (CR2, NEF, ARW, DNG, PEF, SRW...) from a TIFF picture."""
    file.seek(8)
    if file.read(2) == b"CR":
        return True
    return any(
        _DNG_VERSION in entries
        or entries.get(_PHOTOMETRIC, (0,))[0] in _SENSOR_PHOTOMETRICS
        or entries.get(_COMPRESSION, (0,))[0] in _SENSOR_COMPRESSIONS
        for entries in TiffReader(file).directories()
    )


def read_raw_exif(file: BinaryIO) -> Exif:
    """Read the RAW file's own fields; those that it lacks may be in its preview."""
    file.seek(0)
    head = file.read(1 << 16)
    if head[4:8] != b"ftyp":
        return read_exif(file)
    # CR3 keeps the three directories of EXIF in three boxes, each a TIFF structure of its own.
    main, shot, place = (_boxed_directory(file, head, name) for name in (b"CMT1", b"CMT2", b"CMT4"))
    return interpret(main, shot, place)


def _boxed_directory(file: BinaryIO, head: bytes, name: bytes) -> Directory:
    at = head.find(name)
    if at < 0:
        return {}
    reader = TiffReader(file, at + 4)
    return reader.directory(reader.first)[0]


def sensor_size(file: BinaryIO) -> tuple[int, int]:
    """Width and height, as stored, of the largest picture in the directories; or (0, 0)."""
    sizes = [
        (entries.get(_WIDTH, (0,))[0], entries.get(_HEIGHT, (0,))[0])
        for entries in TiffReader(file).directories()
    ]
    return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))


def find_preview(file: BinaryIO) -> Preview | None:
    """Find the largest JPEG inside, or None. Takes one reading of the file, a chunk at a time."""
    # The tiles of a lossily compressed DNG are JPEGs too, but pieces of a picture.
    tiles = {
        offset
        for entries in TiffReader(file).directories()
        for offset in entries.get(_TILE_OFFSETS, ())
    }
    best: Preview | None = None
    for offset in _jpeg_starts(file):
        size = None if offset in tiles else _jpeg_size(file, offset)
        if size and (best is None or size[0] * size[1] > best.width * best.height):
            best = Preview(offset, *size)
    return best


def _jpeg_starts(file: BinaryIO) -> Iterator[int]:
    """The offsets at which a JPEG may begin, at most MAX_CANDIDATES of them."""
    base, tail, found = 0, b"", 0
    while found < MAX_CANDIDATES:
        file.seek(base + len(tail))
        fresh = file.read(CHUNK_BYTES)
        if not fresh:
            return
        chunk = tail + fresh
        at = chunk.find(_JPEG_START)
        while at >= 0 and found < MAX_CANDIDATES:
            found += 1
            yield base + at
            at = chunk.find(_JPEG_START, at + 1)
        tail = chunk[-2:]
        base += len(chunk) - len(tail)


def _jpeg_size(file: BinaryIO, offset: int) -> tuple[int, int] | None:
    """Width and height of the 8-bit colour JPEG at `offset`; None if there is none."""
    at = offset + 2
    for _ in range(MAX_SEGMENTS):
        file.seek(at)
        segment = file.read(10)
        if len(segment) < 10 or segment[0] != 0xFF:
            return None
        marker, length = segment[1], struct.unpack_from(">H", segment, 2)[0]
        if marker in _FRAME_HEADERS:
            bits, height, width, components = struct.unpack_from(">BHHB", segment, 4)
            sound = bits == 8 and components == 3 and width > 0 and height > 0
            return (width, height) if sound else None
        if marker < 0xC0 or 0xD0 <= marker <= 0xDA or length < 2 or marker == 0xC3:
            return None  # not a segment, or past where the frame header must stand
        at += 2 + length
    return None
