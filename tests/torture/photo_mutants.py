"""Broken photos by the thousand: small originals of each format, changed as decoders hate it.

The same number gives the same file, on any machine with the same Pillow.
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
from drawn import HEIC, HEIC_TURNED, encode, exif_block, scene, tiff
from PIL import Image

Mutation = Callable[[random.Random, bytearray, tuple[bytes, ...]], bytes]

_EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@cache
def originals() -> dict[str, tuple[bytes, ...]]:
    """Format -> small files of its kinds, each a whole picture."""
    drawn = scene(96, 64)
    noise = np.random.default_rng(7).integers(0, 256, (40, 56, 3), np.uint8)
    grey = Image.fromarray(drawn).convert("L")
    palette = Image.fromarray(drawn).quantize(64)
    clear = Image.fromarray(drawn).convert("RGBA")
    ink = Image.fromarray(drawn).convert("CMYK")
    exif = exif_block(
        {0x0112: 6, 0x010F: "Box", 0x0110: "One", 0x8769: {0x9003: "2020:01:02 03:04:05"}}
    )
    profile = _profile()
    return {
        "JPEG": (
            encode(drawn, "JPEG", exif=exif, icc_profile=profile),
            encode(drawn, "JPEG", progressive=True, quality=90),
            encode(grey, "JPEG", optimize=True),
            encode(ink, "JPEG"),
            encode(noise, "JPEG", subsampling=0, restart_marker_blocks=2),
        ),
        "PNG": (
            encode(drawn, "PNG", exif=exif, icc_profile=profile),
            encode(palette, "PNG", transparency=3),
            encode(clear, "PNG"),
            encode(Image.fromarray(noise[..., 0].astype(np.uint16) * 257), "PNG"),
            encode(grey.convert("1"), "PNG"),
        ),
        "WEBP": (
            encode(drawn, "WEBP", exif=exif, icc_profile=profile),
            encode(clear, "WEBP", lossless=True),
            encode(noise, "WEBP", quality=40),
            _animation("WEBP"),
        ),
        "HEIF": (HEIC, HEIC_TURNED),
        "TIFF": (
            *(encode(drawn, "TIFF", compression=c) for c in _TIFF_CODINGS),
            encode(ink, "TIFF"),
            encode(grey.convert("1"), "TIFF", compression="group4"),
            encode(Image.fromarray(noise[..., 0].astype(np.float32)), "TIFF"),
        ),
        "AVIF": (encode(drawn, "AVIF", speed=10, exif=exif), encode(clear, "AVIF", speed=10)),
        "GIF": (encode(palette, "GIF"), encode(grey, "GIF", interlace=1), _animation("GIF")),
        "BMP": (encode(drawn, "BMP"), encode(palette, "BMP"), encode(grey.convert("1"), "BMP")),
        "JPEG2000": (
            encode(drawn, "JPEG2000", irreversible=True),
            encode(clear, "JPEG2000"),
            encode(noise, "JPEG2000", no_jp2=True),
        ),
        "RAW": (_raw(drawn),),
    }


_TIFF_CODINGS = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")


def mutant(format: str, number: int) -> bytes:
    """The file of this number: one original, changed in one to four ways."""
    rng = random.Random(f"{format} {number}")
    files = originals()[format]
    data = rng.choice(files)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        change = rng.choice(_MUTATIONS)
        data = change(rng, bytearray(data), files) or data[:1]
    # Almost no changed PNG would get past its checksums, to where the bugs are.
    return _sealed(data) if format == "PNG" and rng.random() < 0.7 else data


# ---- ways to change a file


def _flip_bits(rng: random.Random, data: bytearray, _: tuple[bytes, ...]) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _flip_in_head(rng: random.Random, data: bytearray, _: tuple[bytes, ...]) -> bytes:
    for _ in range(rng.choice((1, 2, 4))):
        data[rng.randrange(min(len(data), 400))] = rng.randrange(256)
    return bytes(data)


def _truncate(rng: random.Random, data: bytearray, _: tuple[bytes, ...]) -> bytes:
    return bytes(data[: rng.randrange(len(data)) + 1])


def _set_extreme(rng: random.Random, data: bytearray, _: tuple[bytes, ...]) -> bytes:
    """A field of a header becomes 0, the most, or the sign's edge, in either byte order."""
    size, code = rng.choice(((1, "B"), (2, "H"), (4, "I")))
    at = rng.randrange(min(len(data), 600))
    value = rng.choice(_EXTREMES) & ((1 << 8 * size) - 1)
    data[at : at + size] = struct.pack(rng.choice("<>") + code, value)
    return bytes(data)


def _swap_chunks(rng: random.Random, data: bytearray, _: tuple[bytes, ...]) -> bytes:
    a, b, c = sorted(rng.randrange(len(data) + 1) for _ in range(3))
    return bytes(data[:a] + data[b:c] + data[a:b] + data[c:])


def _repeat(rng: random.Random, data: bytearray, _: tuple[bytes, ...]) -> bytes:
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return bytes(data[:b] + data[a:b] * rng.choice((1, 3, 20)) + data[b:])[: 1 << 20]


def _remove(rng: random.Random, data: bytearray, _: tuple[bytes, ...]) -> bytes:
    a = rng.randrange(len(data))
    return bytes(data[:a] + data[a + rng.choice((1, 2, 4, 50)) :])


def _insert(rng: random.Random, data: bytearray, _: tuple[bytes, ...]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return bytes(data[:at]) + rng.randbytes(rng.choice((1, 2, 4, 300))) + bytes(data[at:])


def _fill(rng: random.Random, data: bytearray, _: tuple[bytes, ...]) -> bytes:
    at, size = rng.randrange(len(data)), rng.choice((2, 4, 16, 200))
    data[at : at + size] = rng.choice((b"\0", b"\xff", b"\x80")) * len(data[at : at + size])
    return bytes(data)


def _cross(rng: random.Random, data: bytearray, files: tuple[bytes, ...]) -> bytes:
    """The head of one file, and the tail of another of its format."""
    other = rng.choice(files)
    return bytes(data[: rng.randrange(len(data)) + 1]) + other[rng.randrange(len(other)) :]


_MUTATIONS = (
    _flip_bits,
    _flip_in_head,
    _truncate,
    _set_extreme,
    _set_extreme,
    _swap_chunks,
    _repeat,
    _remove,
    _insert,
    _fill,
    _cross,
)


# ---- originals that take some lines


def _sealed(data: bytes) -> bytes:
    """The chunks of a PNG, as far as there are any, with right checksums."""
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        end = at + 8 + int.from_bytes(out[at : at + 4], "big")
        if end + 4 > len(out):
            break
        out[end : end + 4] = zlib.crc32(out[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(out)


def _animation(format: str) -> bytes:
    frames = [Image.fromarray(np.roll(scene(48, 32), shift, axis=1)) for shift in (0, 9, 20)]
    out = io.BytesIO()
    frames[0].save(out, format, save_all=True, append_images=frames[1:])
    return out.getvalue()


def _profile() -> bytes:
    from PIL import ImageCms

    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    return made[:24] + bytes(12) + made[36:]  # no date (ICC.1, 7.2.8): the same each time


def _raw(drawn: np.ndarray) -> bytes:
    """A RAW file as cameras make it: sensor data that nobody reads, and a preview."""
    jpeg = encode(drawn, "JPEG")
    sensor = [(256, 4, [120]), (257, 4, [80]), (258, 3, [14]), (259, 3, [1]), (262, 3, [32803])]
    sensor += [(273, 4, [-1000]), (279, 4, [4000])]
    return tiff([sensor], [bytes(4000)]) + jpeg
