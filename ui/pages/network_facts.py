"""What the Network page shows of networks and weights; each is computed once, until a file changes.

Torch is imported when the first of these is asked for, not before.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from retrieval.errors import WeightsError
from retrieval.labels import Prediction

if TYPE_CHECKING:
    from retrieval.extractor import Extractor
    from retrieval.weights import WeightsInfo

KERNELS_A_ROW = 8  # wide enough to be seen on a telephone


def kernels_drawn(network: str, weights: str) -> tuple[str, int, int]:
    """The first layer's kernels as an image's address, how many, and their side in pixels.

    Raises WeightsError. Downloads nothing.
    """
    return _kernels_drawn(network, weights, _state(weights_of(network, weights).path))


@st.cache_data(max_entries=8, show_spinner=False)
def _kernels_drawn(network: str, weights: str, state: str) -> tuple[str, int, int]:
    from retrieval.paper_figures import draw_kernels
    from retrieval.training.classifier import first_kernels

    kernels = first_kernels(network, weights)
    title = f"{network}: {len(kernels)} × {kernels.shape[-1]} × {kernels.shape[-1]} × 3"
    return (
        svg_address(draw_kernels(kernels, title, KERNELS_A_ROW)),
        len(kernels),
        kernels.shape[-1],
    )


def weights_here(
    network: str, weights: str
) -> tuple[list[WeightsInfo], WeightsInfo | None, str | None]:
    """All weights that have names, and before them these, if they are a file.

    And which of them these are; None if they are gone, with a sentence that says so.
    """
    table = _table(_shipped_state())
    try:
        own = weights_of(network, weights)
    except WeightsError as error:
        return table, None, str(error)
    return (table if own in table else [own, *table]), own, None


def weights_of(network: str, weights: str) -> WeightsInfo:
    """What is known of these weights. Raises WeightsError if they are not on this machine."""
    from retrieval.weights import NAMED

    if weights not in NAMED:
        return _described(network, weights, _state(Path(weights)))
    for info in _table(_shipped_state()):
        if (info.network, info.name) == (network, weights) and info.path and info.path.is_file():
            return info
    raise WeightsError(f"the {weights} weights of {network} are not on this machine")


@st.cache_data(max_entries=8, show_spinner=False)
def _described(network: str, weights: str, state: str) -> WeightsInfo:
    from retrieval.weights import describe_file

    return describe_file(network, weights)


@st.cache_data(max_entries=2, ttl=60, show_spinner=False)
def _table(state: str) -> list[WeightsInfo]:
    from retrieval.weights import weights_table

    return weights_table()


def describe(content: bytes) -> list[Prediction]:
    """The five likeliest classes of a photo by the bundled AlexNet: no library is needed."""
    import numpy as np

    from retrieval.images import frame, read_photo
    from retrieval.labels import top_labels

    extractor = _bundled()
    pixels, _ = read_photo(content)
    framed = frame(pixels, extractor.framing, extractor.side)
    said = extractor.describe(framed[np.newaxis]).probabilities
    return top_labels(said, extractor.classes)[0]


@st.cache_resource(show_spinner=False)
def _bundled() -> Extractor:
    from retrieval.extractor import Extractor

    return Extractor()


def svg_address(drawing: str) -> str:
    """An SVG file as the address of an image; inside one, nothing in it can run."""
    return "data:image/svg+xml;base64," + base64.b64encode(drawing.encode()).decode("ascii")


def _shipped_state() -> str:
    from retrieval.networks import NETWORKS
    from retrieval.shipped import shipped

    return " ".join(_state(shipped(f"{network}.safetensors")) for network in NETWORKS)


def _state(path: Path | None) -> str:
    """Another text when a file, or what is right in a folder, has changed."""
    try:
        files = [] if path is None else [path, *([*path.iterdir()] if path.is_dir() else [])]
        return " ".join(sorted(f"{one} {one.stat().st_mtime_ns}" for one in files))
    except OSError:
        return ""
