"""From files to descriptors: photos are decoded in threads while the network works."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import ImageError
from retrieval.images import frame, read_photo

if TYPE_CHECKING:
    from retrieval.extractor import Descriptors, Extractor

S = TypeVar("S")
T = TypeVar("T")
PhotoProgress = Callable[[int, int], None]  # photos so far, photos in all

_NOT_REDUCED = 1 << 28  # pixels: no photo's side is longer

_Framed = NDArray[np.uint8] | ImageError


def describe_files(
    paths: Sequence[Path],
    extractor: Extractor,
    *,
    workers: int | None = None,
    progress: PhotoProgress | None = None,
) -> Iterator[tuple[int, Descriptors | ImageError]]:
    """Describe photos, giving (index into paths, descriptors of that one photo) in their order.

    A file that gives no picture gives its ImageError instead, and costs only itself. At most two
    passes of the network are decoded ahead, so memory doesn't grow with the number of paths.

    workers: decoding threads; as many as there are processors unless said otherwise.
    """
    batch: list[tuple[int, _Framed]] = []
    read = partial(_read, framing=extractor.framing, side=extractor.side)
    for index, framed in enumerate(read_ahead(paths, read, 2 * extractor.batch_size, workers)):
        batch.append((index, framed))
        if len(batch) == extractor.batch_size or index == len(paths) - 1:
            yield from _describe(batch, extractor)
            batch.clear()
            if progress:
                progress(index + 1, len(paths))


def describe_part(
    path: Path, box: tuple[float, float, float, float], extractor: Extractor
) -> Descriptors:
    """Describe the part of a photo inside a box: left, top, right, bottom.

    box: in pixels of the full upright photo; what lies beyond its edges is cut off.

    Raises ImageError if the file gives no picture, or none of the box lies in it.
    """
    pixels, info = read_photo(path, min_side=_NOT_REDUCED)
    height, width = pixels.shape[:2]  # of a RAW file these are its preview's
    left, right = (min(max(round(x * width / info.width), 0), width) for x in box[::2])
    top, bottom = (min(max(round(y * height / info.height), 0), height) for y in box[1::2])
    if left == right or top == bottom:
        raise ImageError("the box lies outside the photo")
    part = frame(pixels[top:bottom, left:right], extractor.framing, extractor.side)
    return extractor.describe(part[np.newaxis])


def read_ahead(
    paths: Sequence[S], read: Callable[[S], T], ahead: int, workers: int | None = None
) -> Iterator[T]:
    """Call `read` with each path, or what else says what to read, in threads.

    Gives the results in order, and reads at most so many ahead.

    workers: threads; as many as there are processors unless said otherwise.
    """
    waiting: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1, thread_name_prefix="decode")
    try:
        for path in paths:
            waiting.append(pool.submit(read, path))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # also when the caller stops halfway
        pool.shutdown(cancel_futures=True)


def _read(path: Path, framing: str, side: int) -> _Framed:
    try:
        pixels, _ = read_photo(path)
    except ImageError as error:
        return error
    return frame(pixels, framing, side)


def _describe(
    batch: list[tuple[int, _Framed]], extractor: Extractor
) -> Iterator[tuple[int, Descriptors | ImageError]]:
    """Run the network over the photos of a batch and put its bad files back in their places."""
    photos = [framed for _, framed in batch if not isinstance(framed, ImageError)]
    rows = extractor.describe(np.stack(photos)).rows() if photos else iter(())
    for index, framed in batch:
        yield index, framed if isinstance(framed, ImageError) else next(rows)
