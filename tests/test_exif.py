"""The fields of EXIF, written by Pillow or by hand, and read back."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest
from drawn import encode, exif_block, scene, tiff
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL.TiffImagePlugin import IFDRational

from retrieval.exif import Exif, TiffReader, read_exif
from retrieval.images import PhotoInfo, read_photo

pytestmark = pytest.mark.filterwarnings(r"ignore::UserWarning:PIL\.")

SHOT, PLACE = 0x8769, 0x8825


def exif_of(entries: dict[int, Any]) -> Exif:
    return read_exif(io.BytesIO(exif_block(entries).removeprefix(b"Exif\0\0")))


def taken(original: str, **zones: str) -> str | None:
    tags = {"OffsetTime": 0x9010, "OffsetTimeOriginal": 0x9011}
    return exif_of(
        {SHOT: {0x9003: original, **{tags[name]: zone for name, zone in zones.items()}}}
    ).taken_at


FULL = {
    0x010F: "Canon",
    0x0110: "Canon EOS 5D",
    0x0112: 6,
    SHOT: {0x9003: "2023:05:01 12:30:00", 0x9011: "+02:00", 0xA434: "EF 50mm f/1.8"},
    PLACE: {1: "S", 2: (33.0, 30.0, 36.0), 3: "W", 4: (70.0, 15.0, 0.0)},
}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_all_fields_are_read_from_every_format(format: str) -> None:
    _, info = read_photo(encode(scene(32, 24), format, exif=exif_block(FULL)))
    assert info == PhotoInfo(
        format=format,
        width=24,
        height=32,
        orientation=6,
        taken_at="2023-05-01T12:30:00+02:00",
        camera="Canon EOS 5D",
        lens="EF 50mm f/1.8",
        latitude=pytest.approx(-33.51),
        longitude=pytest.approx(-70.25),
    )


def test_the_fields_of_a_tiff_are_in_its_own_directory() -> None:
    _, info = read_photo(encode(scene(32, 24), "TIFF", tiffinfo={0x010F: "Box", 0x0110: "One"}))
    assert info.camera == "Box One"


def test_the_time_taken_comes_before_digitised_before_changed() -> None:
    times = {0x9003: "2001:01:01 01:01:01", 0x9004: "2002:02:02 02:02:02"}
    changed = {0x0132: "2003:03:03 03:03:03"}
    assert exif_of({**changed, SHOT: times}).taken_at == "2001-01-01T01:01:01"
    times[0x9003] = "0000:00:00 00:00:00"
    assert exif_of({**changed, SHOT: times}).taken_at == "2002-02-02T02:02:02"
    times[0x9004] = "    :  :     :  :  "
    assert exif_of({**changed, SHOT: times}).taken_at == "2003-03-03T03:03:03"
    assert exif_of({SHOT: times}).taken_at is None


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2023:05:01 12:30:00", "2023-05-01T12:30:00"),
        ("2023-05-01T12:30:00.25", "2023-05-01T12:30:00"),
        ("2023:05:01 12:30", "2023-05-01T12:30:00"),
        ("2023:05:01 12:30:00\0\0", "2023-05-01T12:30:00"),
        ("2023:13:01 12:30:00", None),
        ("2023:02:30 12:30:00", None),
        ("2023:05:01 24:00:00", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_a_time_is_iso_8601_or_nothing(written: str, read: str | None) -> None:
    assert taken(written) == read


def test_a_time_zone_is_kept_if_it_is_one() -> None:
    time = "2023:05:01 12:30:00"
    assert taken(time, OffsetTimeOriginal="-03:30") == "2023-05-01T12:30:00-03:30"
    assert taken(time, OffsetTime="+09:00") == "2023-05-01T12:30:00+09:00"
    assert taken(time, OffsetTime="+09:00", OffsetTimeOriginal="Z") == "2023-05-01T12:30:00+00:00"
    for zone in ("   :  ", "+25:00", "+02:75", "CEST"):
        assert taken(time, OffsetTimeOriginal=zone) == "2023-05-01T12:30:00"


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("NIKON CORPORATION", "NIKON D90", "NIKON D90"),
        ("Apple", "iPhone 8", "Apple iPhone 8"),
        ("SONY\0\0\0", "  ILCE-7\tM3 \0junk", "SONY ILCE-7 M3"),
        ("", "Box", "Box"),
        ("Kodak", "\0", "Kodak"),
        ("\x01\x02", " ", None),
    ],
)
def test_a_camera_is_make_and_model_without_saying_the_make_twice(
    make: str, model: str, camera: str | None
) -> None:
    assert exif_of({0x010F: make, 0x0110: model}).camera == camera


def place(latitude: Any, longitude: Any, north: str = "N", east: str = "E") -> Any:
    exif = exif_of({PLACE: {1: north, 2: latitude, 3: east, 4: longitude}})
    return exif.latitude, exif.longitude


def test_a_place_is_two_sound_angles_or_nothing() -> None:
    sound = (10.0, 30.0, 0.0)
    assert place(sound, sound) == (10.5, 10.5)
    assert place(sound, sound, "S", "W") == (-10.5, -10.5)
    nothing = (None, None)
    unknown = IFDRational(0, 0)
    assert place(sound, (10.0, 30.0, unknown)) == nothing
    assert place((91.0, 0.0, 0.0), sound) == nothing
    assert place(sound, (180.0, 0.0, 1.0)) == nothing
    assert place(sound, sound, north="") == nothing
    assert place(sound, sound, east="X") == nothing
    assert place((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)) == nothing
    assert exif_of({PLACE: {1: "N", 2: sound}}).latitude is None


def test_directories_that_link_in_a_circle_have_an_end() -> None:
    looped = tiff([[(0x014A, 4, [-1, -2])], [(0x014A, 4, [-1, -2, -1])]], [])
    assert len(TiffReader(io.BytesIO(looped)).directories()) == 2


def test_a_value_that_claims_gigabytes_is_left_out() -> None:
    entry = struct.pack("<HHII", 0x0110, 2, 0xFFFFFFF0, 8)
    data = b"II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    assert read_exif(io.BytesIO(data)) == Exif()


def test_no_exif_is_no_fields() -> None:
    for data in (b"", b"II", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08", bytes(100)):
        assert read_exif(io.BytesIO(data)) == Exif()


BLOCK = exif_block(FULL)


@given(
    st.lists(
        st.tuples(st.integers(0, len(BLOCK) - 1), st.integers(0, 255)), min_size=1, max_size=20
    ),
    st.integers(8, len(BLOCK)),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_broken_exif_never_costs_the_picture(changes: list[tuple[int, int]], kept: int) -> None:
    block = bytearray(BLOCK)
    for at, value in changes:
        block[at] = value
    for exif in (bytes(block), bytes(block[:kept])):
        pixels, info = read_photo(encode(scene(16, 12), "JPEG", exif=b"Exif\0\0" + exif[6:]))
        assert pixels.shape in ((12, 16, 3), (16, 12, 3))
        assert 1 <= info.orientation <= 8
