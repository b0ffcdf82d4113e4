"""Downloading a file whose checksum is known: it comes whole and right, or not at all."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from http.client import HTTPException, IncompleteRead
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from retrieval.errors import WeightsError

Progress = Callable[[int, int], None]  # bytes so far, bytes in all (0 where the host doesn't say)

_PIECE = 1 << 20  # bytes
_TIMEOUT = 30.0  # seconds without a byte


def download(url: str, target: Path, sha256: str, progress: Progress | None = None) -> None:
    """Fetch `url` into `target`.

    sha256: the first digits (hex) that the file's sha256 must have.

    The file is written under another name and renamed when its checksum is right: `target` never
    holds half of it, and two processes may fetch it at once. Raises WeightsError saying why it
    failed and what can be done instead.
    """
    part = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("xb") as file:
                digest = _fetch(url, file, progress)
            _check(url, digest, sha256)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except (URLError, ConnectionError, TimeoutError, HTTPException) as error:
        raise WeightsError(
            f"could not reach {urlsplit(url).netloc}: {_why(error)}. Use --weights bundled (works "
            f"offline), or put the file at {target}"
        ) from error
    except OSError as error:
        raise WeightsError(f"could not write {target}: {error.strerror or error}") from error


def _fetch(url: str, file: BinaryIO, progress: Progress | None) -> str:
    """Copy what the host sends to `file`, piece by piece, and return its sha256 (hex)."""
    digest, done = hashlib.sha256(), 0
    with urlopen(url, timeout=_TIMEOUT) as answer:
        total = int(answer.headers.get("Content-Length") or 0)
        while piece := answer.read(_PIECE):
            file.write(piece)
            digest.update(piece)
            done += len(piece)
            if progress:
                progress(done, total)
    if done < total:  # reading by pieces, http.client takes a broken connection for the end
        raise IncompleteRead(b"", total - done)
    return digest.hexdigest()


def _check(url: str, digest: str, expected: str) -> None:
    """Raise WeightsError unless `digest` begins as expected."""
    if not digest.startswith(expected):
        raise WeightsError(
            f"{url} is not the file it should be: its sha256 begins {digest[: len(expected)]}, "
            f"expected {expected}. Try again, or use --weights bundled (works offline)"
        )


def _why(error: OSError | HTTPException) -> str:
    """Say in a few words why a download failed."""
    if isinstance(error, HTTPError):
        return f"it answered {error.code} {error.reason}"
    if isinstance(error, IncompleteRead):
        return f"the connection broke off {error.expected} bytes before the end"
    reason = error.reason if isinstance(error, URLError) else error
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
