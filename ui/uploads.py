"""The photos that people dropped on the page, kept in memory while the server runs."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from retrieval.images import read_photo, thumbnail

_ROOM = 200 << 20  # bytes: four of the largest, or forty as cameras make them
_SIDE = 640  # pixels; shown larger than the thumbnails of a library


@dataclass(frozen=True, slots=True)
class Upload:
    """One photo as the browser sent it.

    token: names it in the address bar; the start of its content's sha256, in hex.
    name: the file name that the browser told; never used as a path.
    content: the file.
    picture: an upright JPEG of it, long side at most 640 pixels.
    """

    token: str
    name: str
    content: bytes
    picture: bytes


class Uploads:
    """The latest uploads, so that reloading the page or going back finds them again.

    They are everybody's: with twenty people at once, one's must outlast those of the others.
    Nothing is written to disk. Safe to use from many threads.
    """

    def __init__(self, room: int = _ROOM) -> None:
        """room: bytes of files that are kept at most; the latest is kept in any case."""
        self._room = room
        self._uploads: OrderedDict[str, Upload] = OrderedDict()
        self._lock = Lock()

    def add(self, name: str, content: bytes) -> Upload:
        """Keep an upload, and forget the oldest where there are too many.

        Raises ImageError if it is not a photo that fc7 can read.
        """
        pixels, _ = read_photo(content, min_side=_SIDE)
        token = hashlib.sha256(content).hexdigest()[:20]
        upload = Upload(token, name, content, thumbnail(pixels, _SIDE))
        with self._lock:
            self._uploads[token] = upload
            self._uploads.move_to_end(token)
            taken = sum(len(one.content) for one in self._uploads.values())
            while taken > self._room and len(self._uploads) > 1:
                _, oldest = self._uploads.popitem(last=False)
                taken -= len(oldest.content)
        return upload

    def find(self, token: str) -> Upload | None:
        """Return the upload of this token, or None when it was forgotten."""
        with self._lock:
            return self._uploads.get(token)
