"""Decoding, checked against pictures that the tests draw and against formulas written out."""

from __future__ import annotations

import io
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from drawn import (
    HEIC,
    HEIC_TURNED,
    LOSSLESS,
    LOSSY,
    Pixels,
    difference,
    encode,
    exif_block,
    png,
    png_chunk,
    scene,
    stored,
    tiff,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from retrieval import decoding, images
from retrieval.errors import ImageError
from retrieval.images import MAX_PIXELS, Region, frame, read_photo, read_region, sniff

# Pillow warns about files that it reads nevertheless.
pytestmark = pytest.mark.filterwarnings(r"ignore::UserWarning:PIL\.")


def refusal(source: Path | bytes) -> str:
    with pytest.raises(ImageError) as caught:
        read_photo(source)
    assert caught.value.reason == str(caught.value)
    return caught.value.reason


# ---- formats


@pytest.mark.parametrize("format", LOSSLESS)
def test_a_lossless_file_gives_back_the_drawn_pixels(format: str) -> None:
    drawn = scene(50, 40)
    pixels, info = read_photo(encode(drawn, format, **LOSSLESS[format]))
    assert (pixels == drawn).all()
    assert (info.format, info.width, info.height, info.orientation) == (format, 50, 40, 1)


@pytest.mark.parametrize("format", LOSSY)
def test_a_lossy_file_comes_close_to_the_drawn_pixels(format: str) -> None:
    drawn = scene(50, 40)
    pixels, info = read_photo(encode(drawn, format, **LOSSY[format]))
    assert difference(pixels, drawn) < 3
    assert (info.format, info.width, info.height) == (format, 50, 40)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_compressed_tiffs_are_read(compression: str) -> None:
    drawn = scene(50, 40)
    pixels, _ = read_photo(encode(drawn, "TIFF", compression=compression))
    assert difference(pixels, drawn) < (6 if compression == "jpeg" else 0.001)


def test_a_raw_jpeg_2000_codestream_is_read() -> None:
    drawn = scene(50, 40)
    codestream = encode(drawn, "JPEG2000", no_jp2=True)
    assert codestream.startswith(b"\xff\x4f\xff\x51")
    assert (read_photo(codestream)[0] == drawn).all()


def test_only_the_first_frame_of_a_moving_or_many_paged_picture_counts() -> None:
    first, second = (Image.fromarray(a) for a in (scene(40, 30), 255 - scene(40, 30)))
    for format in ("GIF", "PNG", "WEBP", "TIFF", "MPO", "AVIF"):
        data = encode(first, format, save_all=True, append_images=[second] * 3, quality=95)
        pixels, _ = read_photo(data)
        assert difference(pixels, np.asarray(first)) < 8, format


def test_a_heif_file_is_turned_by_its_structure_and_never_by_its_exif() -> None:
    corners = [(220, 30, 30), (30, 200, 40), (30, 40, 210), (240, 240, 240)]
    pixels, info = read_photo(HEIC_TURNED)
    assert pixels.shape == (64, 96, 3)
    seen = [pixels[10, 10], pixels[10, 80], pixels[50, 10], pixels[50, 80]]
    assert np.abs(np.array(seen, int) - corners).max() < 8
    assert (info.format, info.width, info.height, info.orientation) == ("HEIF", 96, 64, 6)
    assert info.camera == "Test Camera"
    unturned, info = read_photo(HEIC)
    assert (unturned == stored(pixels, 6)).all()
    assert (info.width, info.height, info.orientation) == (64, 96, 6)


def test_a_heic_with_an_orientation_that_is_none_has_none() -> None:
    """Found by the fuzzer: libheif passes on whatever number EXIF has."""
    number = HEIC.index(b"\x01\x12\0\3\0\0\0\1") + 8
    pixels, info = read_photo(HEIC[:number] + b"\x33\x6a" + HEIC[number + 2 :])
    assert info.orientation == 1
    assert (pixels == read_photo(HEIC)[0]).all()


def test_a_photo_is_told_by_its_content_and_not_by_its_name(tmp_path: Path) -> None:
    drawn = scene(50, 40)
    (tmp_path / "photo.HEIC").write_bytes(encode(drawn, "JPEG"))
    (tmp_path / ".jpeg").write_bytes(encode(drawn, "PNG"))
    assert read_photo(tmp_path / "photo.HEIC")[1].format == "JPEG"
    assert read_photo(tmp_path / ".jpeg")[1].format == "PNG"


def test_path_bytes_and_open_file_are_the_same_and_the_file_stays_open(tmp_path: Path) -> None:
    data = encode(scene(300, 600), "JPEG", exif=exif_block({0x0112: 6}))
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    pixels, info = read_photo(path)
    assert pixels.flags.writeable
    with path.open("rb") as file:
        for source in (data, file, file):
            again, same = read_photo(source)
            assert (again == pixels).all()
            assert same == info
        assert not file.closed


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (encode(scene(8, 8), "JPEG"), "JPEG"),
        (encode(scene(8, 8), "GIF"), "GIF"),
        (encode(scene(8, 8), "AVIF"), "AVIF"),
        (HEIC, "HEIF"),
        (struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"mif1", 0, b"avif", b"miaf"), "AVIF"),
        (struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"mif1", 0, b"mif1", b"heic"), "HEIF"),
        (struct.pack(">I4s4sI4s", 20, b"ftyp", b"crx ", 1, b"isom"), "RAW"),
        (b"FUJIFILMCCD-RAW 0201", "RAW"),
        (b"IIRO\x08\0\0\0", "RAW"),
        (b"IIU\0\x18\0\0\0", "RAW"),
        (struct.pack(">I4s4sI4s", 20, b"ftyp", b"isom", 0, b"mp42"), None),
        (struct.pack(">I4s4s", 20, b"ftyp", b"qt  "), None),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", None),
        (b"8BPS\0\1", None),
        (b"%PDF-1.7", None),
        (b"<svg xmlns=", None),
        (b"RIFF\0\0\0\0WAVE", None),
        (b"BMW is a maker of cars and not a bitmap at all", None),
        (b"P6\n2 2\n255\n", None),
        (b"", None),
        (b"\xff", None),
    ],
)
def test_formats_are_told_by_their_first_bytes(head: bytes, name: str | None) -> None:
    assert sniff(head[:64]) == name


# ---- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_exif_orientation_is_applied_exactly_once(format: str, orientation: int) -> None:
    upright = scene(48, 32)
    options = {**LOSSLESS, **LOSSY}[format]
    exif = exif_block({0x0112: orientation, 0x0110: "Box"})
    pixels, info = read_photo(encode(stored(upright, orientation), format, exif=exif, **options))
    assert difference(pixels, upright) < 3
    assert (info.width, info.height, info.orientation) == (48, 32, orientation)


def test_an_orientation_outside_1_to_8_is_none() -> None:
    drawn = scene(48, 32)
    for orientation in (0, 9, 65535):
        pixels, info = read_photo(encode(drawn, "PNG", exif=exif_block({0x0112: orientation})))
        assert (pixels == drawn).all()
        assert info.orientation == 1


# ---- reduced decoding


@pytest.mark.parametrize(
    "size",
    [(256, 256), (511, 700), (512, 512), (700, 1023), (1025, 1300), (2000, 300), (100, 2000)],
)
@pytest.mark.parametrize("format", ["JPEG", "BMP"])
def test_the_short_side_never_gets_below_what_is_asked(format: str, size: tuple[int, int]) -> None:
    width, height = size
    pixels, info = read_photo(encode(scene(width, height), format), min_side=256)
    short = min(pixels.shape[:2])
    assert (info.width, info.height) == size
    assert short >= min(256, width, height)
    assert short < 1024
    assert abs(pixels.shape[1] / pixels.shape[0] - width / height) < 0.02 * width / height


@pytest.mark.parametrize("format", ["JPEG", "BMP", "WEBP"])
def test_a_reduced_photo_frames_as_the_whole_one_does(format: str) -> None:
    drawn = scene(1200, 1040)
    pixels, _ = read_photo(encode(drawn, format, quality=95))
    assert pixels.shape[1] < 1200
    assert difference(frame(pixels), frame(drawn)) < 2


# ---- regions


@pytest.mark.parametrize("orientation", [1, 6, 7])
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
@pytest.mark.parametrize("scale", [1, 5])
def test_a_region_is_what_a_lossless_file_of_that_crop_would_be(
    format: str, orientation: int, scale: int
) -> None:
    """Of the upright photo; also where the photo is so large that it is reduced when it is read."""
    width, height = 300 * scale, 400 * scale
    exif = exif_block({0x0112: orientation})
    photo = encode(stored(scene(width, height), orientation), format, exif=exif, **LOSSY["JPEG"])
    whole, _ = read_photo(photo, min_side=MAX_PIXELS)
    assert whole.shape == (height, width, 3)
    crop = whole[100 * scale : 380 * scale, 30 * scale : 300 * scale]
    expected, _ = read_photo(encode(crop, "PNG"))
    pixels: Region = (30.0 * scale, 100.0 * scale, 270.0 * scale, 280.0 * scale)
    for region in (pixels, (0.1, 0.25, 0.9, 0.7)):
        assert np.array_equal(read_region(photo, region), expected)


def test_the_whole_photo_is_a_region_of_it() -> None:
    photo = encode(scene(64, 48), "PNG")
    assert np.array_equal(read_region(photo, (0, 0, 1, 1)), scene(64, 48))
    assert np.array_equal(read_region(photo, (0, 0, 64, 48)), scene(64, 48))


@pytest.mark.parametrize(
    "region",
    [
        (0.5, 0.5, 0.6, 0.2),
        (-0.1, 0.0, 0.5, 0.5),
        (0.2, 0.2, 0.0, 0.5),
        (0.2, 0.2, 0.5, -0.1),
        (10, 10, 55, 20),
        (10, 10, 20, 39),
        (70, 10, 20, 20),
    ],
)
def test_a_region_that_is_not_inside_the_photo_is_refused(region: Region) -> None:
    with pytest.raises(ImageError, match=r"is not inside the photo \(64x48\)"):
        read_region(encode(scene(64, 48), "PNG"), region)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_region_that_is_no_number_is_refused(number: float) -> None:
    with pytest.raises(ImageError, match="four numbers"):
        read_region(encode(scene(64, 48), "PNG"), (0.1, 0.1, number, 0.5))


# ---- what is refused


def test_what_is_not_a_whole_picture_is_refused_with_its_reason(tmp_path: Path) -> None:
    assert refusal(b"") == "empty file"
    assert refusal(b"Dear diary, today I took no photos.") == "not an image"
    assert refusal(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage") == "not an image"
    assert refusal(b"\xff\xd8\xff\xe0") == "damaged"
    assert refusal(tmp_path / "none.jpg") == "can't be read (No such file or directory)"
    assert refusal(tmp_path) == "not a file"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP"])
def test_a_file_that_was_cut_short_is_refused(format: str) -> None:
    data = encode(scene(300, 200), format)
    for kept in (0.3, 0.7, 0.95):
        assert refusal(data[: int(len(data) * kept)]) in ("truncated", "damaged")
    assert refusal(data[: int(len(data) * 0.95)]) == "truncated" or format == "AVIF"


def test_a_jpeg_without_its_last_two_bytes_is_truncated() -> None:
    for options in ({}, {"progressive": True}):
        assert refusal(encode(scene(300, 200), "JPEG", **options)[:-2]) == "truncated"


def test_bytes_after_the_end_of_a_jpeg_are_no_matter() -> None:
    drawn = scene(60, 40)
    data = encode(drawn, "JPEG", quality=95)
    assert (read_photo(data + b"\0" * 1000 + data)[0] == read_photo(data)[0]).all()


def _bombs() -> dict[str, bytes]:
    """Small files that claim to be huge."""
    jpeg = bytearray(encode(scene(16, 16), "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 60000, 60000)
    gif = bytearray(encode(scene(16, 16), "GIF"))
    gif[6:10] = struct.pack("<HH", 60000, 60000)
    bmp = bytearray(encode(scene(16, 16), "BMP"))
    bmp[18:26] = struct.pack("<ii", 60000, 60000)
    claim = [(256, 4, [60000]), (257, 4, [60000]), (258, 3, [8]), (262, 3, [1])]
    claim += [(273, 4, [-1000]), (279, 4, [9])]
    jp2 = encode(scene(16, 16), "JPEG2000", no_jp2=True)
    size = struct.pack(">II", 16, 16)
    return {
        "JPEG": bytes(jpeg),
        "PNG": png(struct.pack(">IIBBBBB", 50000, 50000, 8, 2, 0, 0, 0), bytes(1000)),
        "GIF": bytes(gif),
        "BMP": bytes(bmp),
        "TIFF": tiff([claim], [bytes(9)]),
        "JPEG2000": jp2.replace(size, struct.pack(">II", 60000, 60000)),
        "HEIF": HEIC.replace(struct.pack(">II", 64, 96), struct.pack(">II", 20000, 20000)),
    }


@pytest.mark.parametrize("format", _bombs())
def test_a_decompression_bomb_is_refused_before_it_is_decoded(format: str) -> None:
    data = _bombs()[format]
    assert sniff(data[:64]) == format
    assert refusal(data).startswith("too many pixels (")


def test_a_picture_within_the_cap_is_refused_if_its_decoder_needs_too_much_memory() -> None:
    wide = png(struct.pack(">IIBBBBB", 20000, 12000, 8, 2, 0, 0, 0), bytes(1000))
    codestream = encode(scene(16, 16), "JPEG2000", no_jp2=True)
    codestream = codestream.replace(struct.pack(">II", 16, 16), struct.pack(">II", 12000, 12000))
    assert MAX_PIXELS > 20000 * 12000
    assert refusal(wide) == "too many pixels (20000x12000)"
    assert refusal(codestream) == "too many pixels (12000x12000)"


def test_the_cap_leaves_room_for_the_largest_phone_sensors() -> None:
    assert MAX_PIXELS > 16320 * 12240  # 200 megapixels
    assert decoding.MAX_BYTES < 2e9
    assert Image.MAX_IMAGE_PIXELS == MAX_PIXELS // 2


def test_a_gif_frame_larger_than_its_screen_is_refused() -> None:
    gif = bytearray(encode(scene(16, 16), "GIF"))
    at = gif.index(b"\x2c\0\0\0\0\x10\0\x10\0")
    gif[at + 5 : at + 9] = struct.pack("<HH", 60000, 60000)
    assert refusal(bytes(gif)) == "too many pixels"


def test_a_text_that_unpacks_to_far_more_does_not_fill_the_memory() -> None:
    bomb = b"Comment\0\0" + zlib.compress(bytes(PngImagePlugin.MAX_TEXT_CHUNK + 1))
    data = png(
        struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0), b"\0\0", extra=png_chunk(b"zTXt", bomb)
    )
    assert refusal(data) == "damaged"


SEEDS = {
    "JPEG": encode(scene(24, 16), "JPEG", exif=exif_block({0x0112: 6, 0x0110: "Box"})),
    "PNG": encode(scene(24, 16), "PNG", exif=exif_block({0x0112: 6})),
    "WEBP": encode(scene(24, 16), "WEBP"),
    "GIF": encode(scene(24, 16), "GIF"),
    "TIFF": encode(scene(24, 16), "TIFF", compression="tiff_lzw"),
    "BMP": encode(scene(24, 16), "BMP"),
    "AVIF": encode(scene(24, 16), "AVIF"),
    "HEIF": HEIC,
}
SMALL_PIXELS = 1 << 22  # a mutated header may claim up to the cap, which is slow to fill


@given(
    st.sampled_from(sorted(SEEDS)),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=12),
    st.floats(0.2, 1),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_damaged_bytes_give_a_picture_or_an_image_error(
    format: str, changes: list[tuple[float, int]], kept: float
) -> None:
    data = bytearray(SEEDS[format])
    for where, value in changes:
        data[int(where * len(data))] = value
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "MAX_PIXELS", SMALL_PIXELS)
        try:
            opened = decoding.open_photo(io.BytesIO(data[: max(1, int(kept * len(data)))]))
            pixels, info = np.asarray(decoding.decode(opened, 256)), decoding.describe(opened)
        except ImageError as error:
            assert error.reason
        else:
            assert pixels.dtype == np.uint8
            assert pixels.shape[2] == 3
            assert info.format in SEEDS


# ---- threads


def test_threads_read_what_one_reader_reads() -> None:
    files = [*SEEDS.values(), HEIC_TURNED] * 6
    alone = [read_photo(data) for data in files]
    barrier = threading.Barrier(4)

    def share(start: int) -> list[tuple[Pixels, images.PhotoInfo]]:
        barrier.wait()
        return [read_photo(data) for data in files[start::4]]

    with ThreadPoolExecutor(4) as pool:
        for start, results in enumerate(pool.map(share, range(4))):
            for (pixels, info), (expected, same) in zip(results, alone[start::4], strict=True):
                assert (pixels == expected).all()
                assert info == same
