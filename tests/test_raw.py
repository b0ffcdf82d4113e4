"""RAW files, built by hand after the layouts of their makers, with a drawn preview inside."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from drawn import Pixels, encode, exif_block, scene, stored, tiff

from retrieval.errors import ImageError
from retrieval.images import read_photo
from retrieval.raw import CHUNK_BYTES, find_preview

SENSOR = bytes(range(256)) * 8  # stands for the sensor's data


def jpeg(pixels: Pixels, **options: object) -> bytes:
    return encode(pixels, "JPEG", quality=95, subsampling=0, **options)


def text(value: str) -> list[int]:
    return [*value.encode(), 0]


def camera_file(preview: bytes, orientation: int, sensor: tuple[int, int], *more: bytes) -> bytes:
    """As NEF, ARW and others: a small picture first, the sensor's data in the next directory."""
    return tiff(
        [
            [
                (0x0100, 4, [160]),
                (0x0101, 4, [120]),
                (0x010F, 1, text("NIKON CORPORATION")),
                (0x0110, 1, text("NIKON D90")),
                (0x0112, 3, [orientation]),
                (0x0132, 1, text("2011:02:03 04:05:06")),
                (0x014A, 4, [-2]),
            ],
            [
                (0x0100, 4, [sensor[0]]),
                (0x0101, 4, [sensor[1]]),
                (0x0103, 3, [34713]),
                (0x0106, 3, [32803]),
                (0x0111, 4, [-1000]),
            ],
        ],
        [SENSOR, *more, preview],
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_preview_is_turned_once_as_the_raw_file_says(orientation: int) -> None:
    upright = scene(320, 200) if orientation < 5 else scene(200, 320)
    preview = stored(upright, orientation)
    own = exif_block({0x0112: orientation})
    for data in (jpeg(preview), jpeg(preview, exif=own)):
        pixels, info = read_photo(camera_file(data, orientation, (3200, 2000)))
        assert pixels.shape == upright.shape
        assert np.abs(pixels.astype(int) - upright).mean() < 3
        assert (info.format, info.orientation) == ("RAW", orientation)
        assert {info.width, info.height} == {3200, 2000}
        assert (info.width > info.height) == (orientation < 5)
        assert info.camera == "NIKON D90"
        assert info.taken_at == "2011-02-03T04:05:06"


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_preview_that_the_camera_turned_already_is_left_as_it_is(orientation: int) -> None:
    upright = scene(200, 320)
    pixels, info = read_photo(camera_file(jpeg(upright), orientation, (3200, 2000)))
    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).mean() < 3
    assert (info.width, info.height) == (2000, 3200)


def test_the_largest_preview_wins_wherever_it_stands() -> None:
    large, small = scene(320, 200), 255 - scene(64, 40)
    for pair in ((jpeg(small), jpeg(large)), (jpeg(large), jpeg(small))):
        pixels, _ = read_photo(camera_file(pair[0], 1, (3200, 2000), pair[1]))
        assert np.abs(pixels.astype(int) - large).mean() < 3


def test_sensor_data_coded_as_lossless_jpeg_is_no_preview() -> None:
    lossless = b"\xff\xd8\xff\xc3" + struct.pack(">HBHHB", 17, 8, 2000, 3000, 3) + bytes(9)
    pixels, _ = read_photo(camera_file(jpeg(scene(320, 200)), 1, (3200, 2000), lossless))
    assert pixels.shape == (200, 320, 3)


def test_the_tiles_of_a_lossy_dng_are_no_preview() -> None:
    tile, preview = jpeg(255 - scene(512, 512)), jpeg(scene(320, 200))
    data = tiff(
        [
            [(0x0100, 4, [3200]), (0x0101, 4, [2000]), (0x0106, 3, [34892]),
             (0x0144, 4, [-1000, -1001]), (0xC612, 1, [1, 4, 0, 0])]
        ],
        [tile, tile, preview],
    )  # fmt: skip
    pixels, _ = read_photo(data)
    assert np.abs(pixels.astype(int) - scene(320, 200)).mean() < 3


def test_a_fuji_file_is_read_through_its_preview_with_the_previews_exif() -> None:
    upright = scene(200, 320)
    exif = exif_block({0x0112: 8, 0x010F: "FUJIFILM", 0x0110: "X-E1"})
    preview = jpeg(stored(upright, 8), exif=exif)
    header = b"FUJIFILMCCD-RAW 0201FF000000X-E1".ljust(84, b"\0")
    header += struct.pack(">II", 160, len(preview))
    pixels, info = read_photo(header.ljust(160, b"\0") + preview + SENSOR)
    assert np.abs(pixels.astype(int) - upright).mean() < 3
    assert (info.format, info.camera, info.orientation) == ("RAW", "FUJIFILM X-E1", 8)
    assert (info.width, info.height) == (200, 320)


def box(name: bytes, *contents: bytes) -> bytes:
    data = b"".join(contents)
    return struct.pack(">I4s", 8 + len(data), name) + data


def test_a_cr3_file_is_read_with_the_exif_of_its_boxes() -> None:
    upright = scene(200, 320)
    main = tiff([[(0x0110, 1, text("Canon EOS R6")), (0x0112, 3, [6])]], [])
    shot = tiff([[(0x9003, 1, text("2021:05:12 12:21:21")), (0x9011, 1, text("+02:00"))]], [])
    data = box(b"ftyp", b"crx ", bytes(4), b"crx isom")
    data += box(b"moov", box(b"uuid", bytes(16), box(b"CMT1", main), box(b"CMT2", shot)))
    data += box(b"mdat", SENSOR, jpeg(stored(upright, 6)), SENSOR)
    pixels, info = read_photo(data)
    assert np.abs(pixels.astype(int) - upright).mean() < 3
    assert (info.format, info.camera, info.orientation) == ("RAW", "Canon EOS R6", 6)
    assert info.taken_at == "2021-05-12T12:21:21+02:00"


@pytest.mark.parametrize("magic", [b"IIRO", b"IIRS", b"IIU\0", b"II*\0"])
def test_the_tiff_like_formats_of_other_makers_are_raw(magic: bytes) -> None:
    data = magic + camera_file(jpeg(scene(320, 200)), 1, (3200, 2000))[4:]
    pixels, info = read_photo(data)
    assert pixels.shape == (200, 320, 3)
    assert (info.format, info.camera) == ("RAW", "NIKON D90")


def test_a_raw_file_without_a_preview_is_refused() -> None:
    with pytest.raises(ImageError) as caught:
        read_photo(camera_file(b"", 1, (3200, 2000)))
    assert caught.value.reason == "unsupported RAW (no preview inside)"


def test_a_raw_file_whose_preview_is_cut_is_truncated() -> None:
    data = camera_file(jpeg(scene(320, 200)), 1, (3200, 2000))
    with pytest.raises(ImageError) as caught:
        read_photo(data[:-500])
    assert caught.value.reason == "truncated"


def test_a_preview_that_claims_too_many_pixels_is_refused() -> None:
    preview = bytearray(jpeg(scene(320, 200)))
    at = preview.index(b"\xff\xc0") + 5
    preview[at : at + 4] = struct.pack(">HH", 60000, 60000)
    with pytest.raises(ImageError) as caught:
        read_photo(camera_file(bytes(preview), 1, (3200, 2000)))
    assert caught.value.reason == "too many pixels (60000x60000)"


def test_a_preview_across_the_border_of_two_chunks_is_found() -> None:
    preview = jpeg(scene(32, 20))
    for before in range(CHUNK_BYTES - 3, CHUNK_BYTES + 1):
        found = find_preview(io.BytesIO(bytes(before) + preview))
        assert found is not None
        assert (found.offset, found.width, found.height) == (before, 32, 20)


def test_a_plain_tiff_with_a_jpeg_inside_is_no_raw_file() -> None:
    pixels, info = read_photo(encode(scene(40, 30), "TIFF") + jpeg(scene(320, 200)))
    assert info.format == "TIFF"
    assert pixels.shape == (30, 40, 3)
