"""Pictures drawn for the tests, and files of them that Pillow can't write."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


LOSSLESS: dict[str, dict[str, object]] = {
    "PNG": {},
    "BMP": {},
    "TIFF": {},
    "WEBP": {"lossless": True},
    "JPEG2000": {},
}
LOSSY: dict[str, dict[str, object]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
    "AVIF": {"quality": 95, "subsampling": "4:4:4", "speed": 10},
}


def scene(width: int, height: int) -> Pixels:
    """A smooth picture without any symmetry: (height, width, 3)."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    x, y = x / max(width - 1, 1), y / max(height - 1, 1)
    red = 230 * x * (1 - y / 2) + 10
    green = 120 + 110 * np.sin(5 * x + 2 * y)
    blue = 240 * y * y
    return np.rint(np.stack([red, green, blue], axis=2)).astype(np.uint8)


def difference(a: Pixels, b: Pixels) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def encode(pixels: Pixels | Image.Image, format: str, **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    out = io.BytesIO()
    image.save(out, format, **options)  # type: ignore[arg-type]
    return out.getvalue()


def stored(upright: Pixels, orientation: int) -> Pixels:
    """What a camera stores which then asks for this EXIF orientation (written out by hand)."""
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }
    return np.ascontiguousarray(turned[orientation])


def exif_block(entries: dict[int, object]) -> bytes:
    """EXIF bytes by Pillow, with 0x8769 and 0x8825 as nested directories."""
    exif = Image.Exif()
    for tag, value in entries.items():
        exif[tag] = value
    return exif.tobytes()


def png(ihdr: bytes, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG by hand; extra: whole chunks before the pixels."""
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            png_chunk(b"IHDR", ihdr),
            extra,
            png_chunk(b"IDAT", zlib.compress(rows)),
            png_chunk(b"IEND", b""),
        )
    )


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def tiff(directories: list[list[tuple[int, int, list[int]]]], blobs: list[bytes]) -> bytes:
    """A TIFF structure by hand: directories in a chain, then the blobs.

    An entry is (tag, type, values) with type 1 (byte), 3 (short) or 4 (long). The value -1 - i
    stands for the offset of directory i, and -1000 - i for that of blob i.
    """
    widths, codes = {1: 1, 3: 2, 4: 4}, {1: "B", 3: "H", 4: "I"}
    starts, at = [], 8
    for entries in directories:
        starts.append(at)
        at += 2 + 12 * len(entries) + 4
        at += sum(len(v) * widths[k] for _, k, v in entries if len(v) * widths[k] > 4)
    places = []
    for blob in blobs:
        places.append(at)
        at += len(blob)

    def real(value: int) -> int:
        if value <= -1000:
            return places[-1000 - value]
        return starts[-1 - value] if value < 0 else value

    out = bytearray(b"II*\0" + struct.pack("<I", 8))
    for index, entries in enumerate(directories):
        beyond = starts[index] + 2 + 12 * len(entries) + 4
        tail = b""
        out += struct.pack("<H", len(entries))
        for tag, kind, values in entries:
            data = struct.pack(f"<{len(values)}{codes[kind]}", *map(real, values))
            if len(data) > 4:
                place = struct.pack("<I", beyond + len(tail))
                tail += data
            else:
                place = data.ljust(4, b"\0")
            out += struct.pack("<HHI", tag, kind, len(values)) + place
        chained = index + 1 < len(directories)
        out += struct.pack("<I", starts[index + 1] if chained else 0) + tail
    return bytes(out) + b"".join(blobs)


# Four squares of colour, drawn for this test and coded by libheif: stored 64 x 96, EXIF asks for
# orientation 6, and the HEIF structure itself asks for no turn.
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAZdtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAA"
    "AAAAAAAAADRpbG9jAAAAAERAAAIAAQAAAAABuwABAAAAAAAAAD4AAgAAAAAB+QABAAAAAAAAAEoAAAA4aWluZgAAAAAA"
    "AgAAABVpbmZlAgAAAAABAABodmMxAAAAABVpbmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAAA1mlwcnAAAAC3"
    "aXBjbwAAAHhodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAr"
    "QgEBA3AAAAMAkAAAAwAAAwAeoCCBhZbqSSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAiQAAAABNjb2xybmNseAAB"
    "AA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAYAAAABBwaXhpAAAAAAMICAgAAAAXaXBtYQAAAAAAAAABAAEEgQIDBAAAABpp"
    "cmVmAAAAAAAAAA5jZHNjAAIAAQABAAAAkG1kYXQAAAA6KAGvGYDGaAUmN+q+RJ9f+VCH/YBneF+kzx3lqnnqhtbwwP+3"
    "Xx0f+dK3RMap5qH/Y3I7f/e0NL7T+AAAAAZFeGlmAABNTQAqAAAACAADAQ8AAgAAAAUAAAAyARAAAgAAAAcAAAA4ARIA"
    "AwAAAAEABgAAAAAAAFRlc3QAAENhbWVyYQAA"
)
_COLOUR = b"\0\0\0\x13colrnclx\0\1\0\x0d\0\6\x80"
# The same with a turn in the structure, in the place of the colour space: 96 x 64 upright.
HEIC_TURNED = HEIC.replace(_COLOUR, b"\0\0\0\x09irot\3" + b"\0\0\0\x0afree\0\0").replace(
    b"\4\x81\2\3\4", b"\4\x81\x82\4\5"
)
