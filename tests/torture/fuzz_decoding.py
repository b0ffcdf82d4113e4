"""What the fuzzer calls, millions of times: one file, decoded in this very process.

    python fuzz_decoding.py FOLDER_OF_FILES -max_total_time=60 ...     as libFuzzer's options are

Anything but a picture or an ImageError is a find. Pillow's Python and ours are instrumented, so the
fuzzer sees which branches a file takes there; the decoders' native code it can't see into.
"""

from __future__ import annotations

import io
import sys

import atheris

with atheris.instrument_imports(include=["PIL", "pi_heif", "retrieval"]):
    from retrieval import decoding, framing
    from retrieval.errors import ImageError

# A header may claim up to the cap, which is legal, and takes long to fill.
decoding.MAX_PIXELS = 1 << 20


def decode(data: bytes) -> None:
    try:
        opened = decoding.open_photo(io.BytesIO(data))
        image, info = decoding.decode(opened, 256), decoding.describe(opened)
        framing.frame_image(image, "crop", 224)
        framing.thumbnail_of(image, 320)
    except ImageError:
        return
    assert info.orientation in range(1, 9)
    assert min(info.width, info.height) > 0
    for text in (info.taken_at, info.camera, info.lens):
        assert text is None or (text.isprintable() and len(text) <= 500)


if __name__ == "__main__":
    atheris.Setup(sys.argv, decode)
    atheris.Fuzz()
