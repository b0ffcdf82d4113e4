"""What a process does that decodes photos for another: one request, one answer, until that is gone.

It is run by `retrieval.workers`, which alone knows it. Over a socket come four bytes of length,
a request in JSON, and with its first byte the open file; back go four bytes of length, an answer in
JSON, and the bytes that it announces. Nothing is ever unpickled: this process may fall into the
hands of a file, and the other must not.

ready      {"ready": true}                      once, when it can begin
request    {"min_side", "region" | "framing" and "side"}
answer     {"large": true}                      and waits for a byte: its turn to decode
           {"refused": reason}                  an ImageError
           {"bug": traceback}                   a fault of ours
           {"info", "height", "width", "thumbnail"}   then (height, width, 3) pixels, then so many
                                                bytes of a JPEG
"""

from __future__ import annotations

import json
import os
import resource
import socket
import struct
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any, BinaryIO

from PIL import Image

from retrieval import decoding, framing
from retrieval.errors import ImageError
from retrieval.photo import MAX_PIXELS, PhotoInfo

_LENGTH = struct.Struct(">I")
# Measured: a progressive JPEG of 268 million pixels takes 2.7 GB decoded whole; to index takes 1.6
# GB for any photo (retrieval/decoding.py). Of addresses, a tenth of a gigabyte is never used.
MEMORY_BYTES = 3 << 30
CPU_SECONDS = 60.0  # of the files that we read, the slowest take 6 on an AMD EPYC
_BAND_BYTES = 1 << 24  # of a picture, to be sent at once


def main(connection: socket.socket) -> None:
    """Answer requests until the other side is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)  # most answers, at once
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, MEMORY_BYTES)
    with suppress(ConnectionError):
        _send(connection, {"ready": True})
        # Decoders write to the terminal when they fall, and files can choose what.
        nowhere = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(nowhere, standard)
        while serve(connection):
            pass


def serve(connection: socket.socket) -> bool:
    """Answer one request. Returns whether there was one."""
    request, file = _receive(connection)
    if file is None:
        return False
    with file:
        answer, bodies = _answer(connection, request, file)
    _send(connection, answer, bodies)
    return True


def _answer(
    connection: socket.socket, request: dict[str, Any], file: BinaryIO
) -> tuple[dict[str, Any], Iterable[bytes]]:
    try:
        return _read(connection, request, file)
    except ImageError as error:
        return {"refused": error.reason}, []
    except MemoryError:
        return {"refused": "too large for this machine's memory"}, []
    except ConnectionError:
        raise
    except OSError as error:  # of the file: the decoders' own are ImageErrors
        return {"refused": f"can't be read ({error.strerror or type(error).__name__})"}, []
    except Exception:  # noqa: BLE001  (the other process raises it)
        return {"bug": traceback.format_exc()[-20_000:]}, []


def _read(
    connection: socket.socket, request: dict[str, Any], file: BinaryIO
) -> tuple[dict[str, Any], Iterable[bytes]]:
    _limit(resource.RLIMIT_CPU, int(time.process_time() + CPU_SECONDS) + 1)
    opened = decoding.open_photo(file)
    region = request.get("region")
    min_side = request["min_side"] if region is None else MAX_PIXELS
    if opened.is_large(min_side):
        _send(connection, {"large": True})
        if not connection.recv(1):
            raise ConnectionError("nobody waits any more")
    image, info = decoding.decode(opened, min_side), decoding.describe(opened)
    if region is not None:
        image = decoding.cut_region(image, info, region, request["min_side"])
    if "framing" in request:
        pixels = framing.frame_image(image, request["framing"], request["side"])
        thumbnail = framing.thumbnail_of(image, framing.THUMBNAIL_SIDE)
        answer = _answer_of(info, (request["side"], request["side"]), thumbnail)
        return answer, [pixels.tobytes() + thumbnail]
    return _answer_of(info, image.size, b""), _bands(image)


def _answer_of(info: PhotoInfo, size: tuple[int, int], thumbnail: bytes) -> dict[str, Any]:
    width, height = size
    told = asdict(info)
    return {"info": told, "height": height, "width": width, "thumbnail": len(thumbnail)}


def _bands(image: Image.Image) -> Iterator[bytes]:
    """The pixels of an RGB image, some rows at a time: as a whole they would be there twice."""
    width, height = image.size
    rows = max(1, _BAND_BYTES // (3 * width))
    for top in range(0, height, rows):
        yield image.crop((0, top, width, min(top + rows, height))).tobytes()


def _limit(what: int, most: int) -> None:
    """Lower a limit of this process for itself; where a system has none, there is none."""
    with suppress(ValueError, OSError):
        hard = resource.getrlimit(what)[1]
        soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (soft, hard))


def _receive(connection: socket.socket) -> tuple[dict[str, Any], BinaryIO | None]:
    """The next request and its file; no file: there is none."""
    data, files, _, _ = socket.recv_fds(connection, 1 << 16, 1)
    if not data or not files:
        return {}, None
    while len(data) < _LENGTH.size or len(data) < _LENGTH.size + _LENGTH.unpack_from(data)[0]:
        more = connection.recv(1 << 16)
        if not more:
            return {}, None
        data += more
    request: dict[str, Any] = json.loads(data[_LENGTH.size :])
    return request, os.fdopen(files[0], "rb")


def _send(connection: socket.socket, answer: dict[str, Any], bodies: Iterable[bytes] = ()) -> None:
    text = json.dumps(answer).encode()
    ahead = _LENGTH.pack(len(text)) + text
    for body in bodies:
        connection.sendall(ahead + body)
        ahead = b""
    if ahead:
        connection.sendall(ahead)


def run() -> None:
    """What `retrieval.workers` starts: the socket's number is the last argument."""
    main(socket.socket(fileno=int(sys.argv[-1])))
