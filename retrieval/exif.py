"""What a camera wrote beside the picture: when, with what, where, and which side is up.

EXIF is a TIFF structure without a picture, whether it comes in a segment of a JPEG, in a chunk of a
PNG, or as the head of a RAW file. It is read here, in plain Python with every size bounded, since
the files of the world hold it broken in every way: what can't be read is left out, and nothing here
raises on what a file holds.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import BinaryIO

MAX_DIRECTORIES = 32  # a RAW file has about ten; a loop of links has no end
MAX_VALUE_BYTES = 1 << 18  # the longest value that we use: the offsets of a RAW file's tiles

_MAKE, _MODEL, _ORIENTATION, _DATE_TIME = 0x010F, 0x0110, 0x0112, 0x0132
_EXIF_DIRECTORY, _GPS_DIRECTORY, _SUB_DIRECTORIES = 0x8769, 0x8825, 0x014A
_DATE_TIME_ORIGINAL, _DATE_TIME_DIGITIZED = 0x9003, 0x9004
_OFFSET_TIME, _OFFSET_TIME_ORIGINAL, _OFFSET_TIME_DIGITIZED = 0x9010, 0x9011, 0x9012
_LENS_MODEL = 0xA434
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE = 1, 2, 3, 4

# TIFF type -> struct code of one item; rationals are two items long.
_TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 5: "II", 7: "B", 9: "i", 10: "ii", 13: "I"}

_TIME = re.compile(r"(\d{4})[:/.-](\d\d)[:/.-](\d\d)[ T](\d\d):(\d\d)(?::(\d\d))?")
_ZONE = re.compile(r"([+-])(\d\d):?(\d\d)")

Directory = dict[int, tuple[int, ...]]
"""Tag -> its items as integers: a text is its bytes, a rational its numerator and denominator."""


@dataclass(frozen=True, slots=True)
class Exif:
    """The fields that we keep; None where absent or invalid."""

    orientation: int | None = None  # 1..8
    taken_at: str | None = None  # ISO 8601, with the zone where the file gives it
    camera: str | None = None
    lens: str | None = None
    latitude: float | None = None  # degrees, north and east positive; both or none
    longitude: float | None = None


class TiffReader:
    """Directories of the TIFF structure that begins at `start` in a seekable file."""

    def __init__(self, file: BinaryIO, start: int = 0) -> None:
        self._file = file
        self._start = start
        head = self._read(0, 8)
        # After the byte order comes 42, in RAW files anything; 43 means 64-bit offsets, not for us.
        known = len(head) == 8 and head[2:4] not in (b"+\0", b"\0+")
        self._order = {b"II": "<", b"MM": ">"}.get(head[:2], "") if known else ""
        self.first = struct.unpack(self._order + "I", head[4:])[0] if self._order else 0

    def _read(self, offset: int, size: int) -> bytes:
        self._file.seek(self._start + offset)
        return self._file.read(size)

    def directory(self, offset: int) -> tuple[Directory, int]:
        """Read the directory at `offset`: its sound entries; the next one's offset, 0 if none."""
        if not self._order or offset < 8:
            return {}, 0
        head = self._read(offset, 2)
        if len(head) < 2:
            return {}, 0
        count = struct.unpack(self._order + "H", head)[0]
        body = self._read(offset + 2, count * 12 + 4)
        entries: Directory = {}
        for at in range(0, min(count * 12, len(body) - 11), 12):
            tag, kind, items = struct.unpack_from(self._order + "HHI", body, at)
            value = self._value(kind, items, body[at + 8 : at + 12])
            if value:
                entries.setdefault(tag, value)
        following = body[count * 12 :]
        return entries, struct.unpack(self._order + "I", following)[0] if len(following) == 4 else 0

    def _value(self, kind: int, items: int, inline: bytes) -> tuple[int, ...]:
        code = _TYPES.get(kind)
        if code is None:
            return ()
        size = items * struct.calcsize("<" + code)
        if size > MAX_VALUE_BYTES:
            return ()
        data = (
            inline[:size]
            if size <= 4
            else self._read(struct.unpack(self._order + "I", inline)[0], size)
        )
        return (
            struct.unpack(f"{self._order}{items * len(code)}{code[0]}", data)
            if len(data) == size
            else ()
        )

    def is_first_directory_whole(self) -> bool:
        """Whether the file reaches to the end of its first directory; True if we can't tell."""
        if not self._order:
            return True
        head = self._read(self.first, 2)
        if len(head) < 2:
            return False
        size: int = 12 * struct.unpack(self._order + "H", head)[0]
        return len(self._read(self.first + 2, size)) == size

    def directories(self) -> list[Directory]:
        """All picture directories: the main chain, and below each its sub-directories."""
        found: list[Directory] = []
        seen: set[int] = set()
        ahead = [self.first]
        while ahead and len(found) < MAX_DIRECTORIES:
            offset = ahead.pop(0)
            if offset in seen or offset < 8:
                continue
            seen.add(offset)
            entries, following = self.directory(offset)
            found.append(entries)
            ahead += [following, *entries.get(_SUB_DIRECTORIES, ())]
        return found


def read_exif(file: BinaryIO, start: int = 0) -> Exif:
    """Read the fields that we keep from the TIFF structure at `start`."""
    reader = TiffReader(file, start)
    main, _ = reader.directory(reader.first)
    shot, _ = reader.directory(main.get(_EXIF_DIRECTORY, (0,))[0])
    place, _ = reader.directory(main.get(_GPS_DIRECTORY, (0,))[0])
    return interpret(main, shot, place)


def interpret(main: Directory, shot: Directory, place: Directory) -> Exif:
    """Interpret the three directories of EXIF: of the picture, of the shot, of the place."""
    orientation = main.get(_ORIENTATION, (0,))[0]
    latitude = _degrees(place.get(_LATITUDE), place.get(_LATITUDE_REF), "NS", 90)
    longitude = _degrees(place.get(_LONGITUDE), place.get(_LONGITUDE_REF), "EW", 180)
    if latitude is None or longitude is None or (latitude == 0 and longitude == 0):
        latitude = longitude = (
            None  # half a place is none, and 0, 0 is what a device without a fix writes
        )
    return Exif(
        orientation=orientation if 1 <= orientation <= 8 else None,
        taken_at=_taken_at(main, shot),
        camera=_camera(_text(main.get(_MAKE)), _text(main.get(_MODEL))),
        lens=_text(shot.get(_LENS_MODEL)),
        latitude=latitude,
        longitude=longitude,
    )


def _text(value: tuple[int, ...] | None) -> str | None:
    """Bytes -> one clean line up to the first NUL, without control characters; None if empty."""
    if not value or min(value) < 0 or max(value) > 255:
        return None
    raw = bytes(value).split(b"\0", 1)[0]
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200] or None


def _camera(make: str | None, model: str | None) -> str | None:
    """Make and model in one, the make not said twice: "Canon", "Canon EOS 5D" -> the latter."""
    if make is None or model is None:
        return model or make
    if model.casefold().startswith(make.split()[0].casefold()):
        return model
    return f"{make} {model}"


def _taken_at(main: Directory, shot: Directory) -> str | None:
    """The first valid of: taken, digitised, changed; each with its own zone."""
    candidates = (
        (shot.get(_DATE_TIME_ORIGINAL), shot.get(_OFFSET_TIME_ORIGINAL) or shot.get(_OFFSET_TIME)),
        (shot.get(_DATE_TIME_DIGITIZED), shot.get(_OFFSET_TIME_DIGITIZED)),
        (main.get(_DATE_TIME), shot.get(_OFFSET_TIME)),
    )
    for time, zone in candidates:
        found = _TIME.match(_text(time) or "")
        if found:
            try:
                year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
                moment = datetime(year, month, day, hour, minute, second)
            except ValueError:  # "0000:00:00 00:00:00" and the like
                continue
            return moment.isoformat() + _zone(_text(zone))
    return None


def _zone(text: str | None) -> str:
    """ "+02:00" as it is, "Z" as "+00:00"; "" for what is no time zone."""
    if text == "Z":
        return "+00:00"
    found = _ZONE.fullmatch(text or "")
    if not found:
        return ""
    sign, hours, minutes = found.groups()
    valid = (
        timedelta(hours=int(hours), minutes=int(minutes)) <= timedelta(hours=14)
        and int(minutes) < 60
    )
    return f"{sign}{hours}:{minutes}" if valid else ""


def _degrees(
    value: tuple[int, ...] | None, ref: tuple[int, ...] | None, letters: str, limit: int
) -> float | None:
    """Rational degrees, minutes, seconds -> signed degrees; None unless all of it makes sense."""
    side = (_text(ref) or " ")[0].upper()
    if value is None or len(value) not in (2, 4, 6) or side not in letters or 0 in value[1::2]:
        return None
    parts = [top / bottom for top, bottom in zip(value[::2], value[1::2], strict=True)]
    degrees = math.fsum(part / 60**place for place, part in enumerate(parts))
    if not 0 <= degrees <= limit:
        return None
    return -degrees if side in "SW" else degrees
