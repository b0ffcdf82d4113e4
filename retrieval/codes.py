"""Binary codes: FC7 -> bits, so that Hamming distance stands in for Euclidean distance.

    descriptor - mean -> linear + network of one hidden layer -> sign -> packed bits

Section 6.1 of the AlexNet paper asks for an autoencoder, as in Krizhevsky and Hinton, *Using Very
Deep Autoencoders for Content-Based Image Retrieval* (2011). Its encoder is kept here as arrays, so
encoding needs no torch; `retrieval.training.coders` learns them, and the baselines.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from retrieval.errors import CodesError
from retrieval.shipped import shipped

BITS = (32, 64, 128, 256, 512)
SHORTLIST = 400  # photos that a search by codes re-ranks, where a library has not measured its own
WIDER = 2  # times as many photos does a search by codes take by Hamming distance at first
_BLOCK = 8192  # descriptors at a time


@dataclass(frozen=True, slots=True, eq=False)
class Coder:
    """How descriptors (n, d) become codes (n, bits / 8): the encoder, as arrays.

    bits = signs of linear (x - mean) + correction relu(hidden (x - mean) + hidden_bias) + bias.
    A coder without hidden neurons is linear.
    """

    mean: NDArray[np.float32]  # (d,)
    linear: NDArray[np.float32]  # (bits, d)
    bias: NDArray[np.float32]  # (bits,)
    hidden: NDArray[np.float32]  # (h, d)
    hidden_bias: NDArray[np.float32]  # (h,)
    correction: NDArray[np.float32]  # (bits, h)

    @property
    def bits(self) -> int:
        return len(self.bias)

    def activations(self, descriptors: NDArray[np.floating]) -> NDArray[np.float32]:
        """(n, d) -> (n, bits): what the signs are taken of. Raises CodesError for another d."""
        if descriptors.shape[1] != len(self.mean):
            raise CodesError(
                f"the coder is for descriptors of {len(self.mean):,} numbers, not "
                f"{descriptors.shape[1]:,}: fc7 codes train makes another"
            )
        x = np.asarray(descriptors, np.float32) - self.mean
        hidden = np.maximum(_times(x, self.hidden) + self.hidden_bias, 0)
        soft = _times(x, self.linear) + _times(hidden, self.correction) + self.bias
        return np.asarray(soft, np.float32)

    def encode(self, descriptors: NDArray[np.floating]) -> NDArray[np.uint8]:
        """(n, d) -> codes (n, bits / 8) uint8, the first bit highest."""
        codes = np.empty((len(descriptors), self.bits // 8), np.uint8)
        for start in range(0, len(descriptors), _BLOCK):
            rows = slice(start, start + _BLOCK)
            codes[rows] = np.packbits(self.activations(descriptors[rows]) > 0, axis=1)
        return codes


def _times(rows: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """rows (n, d) times weights (m, d): (n, m)."""
    if len(rows) == 1:  # BLAS would wake its threads for it: 0.1 ms, or 20 on a busy machine
        return np.asarray(np.einsum("nd,md->nm", rows, weights), np.float32)
    return rows @ weights.T


def shorten(
    codes: NDArray[np.uint8], activations: NDArray[np.float32], most: int
) -> NDArray[np.int64]:
    """Choose the codes nearest to a query of which more is known than its signs: which (most,).

    codes: (n, bits / 8). activations: (bits,), the query's. The nearest is the one whose signs have
    the greatest inner product with them; equal ones go by their order. Gordo et al., *Asymmetric
    Distances for Binary Embeddings* (2014): half as many photos then hold the same neighbours.
    """
    if len(codes) <= most:
        return np.arange(len(codes))
    signs = np.unpackbits(codes, axis=1).astype(np.float32)
    alike = _times(activations[np.newaxis].astype(np.float32), signs)[0]
    return np.argsort(-alike, kind="stable")[:most]


def write_coder(path: Path, coder: Coder, about: dict[str, str]) -> None:
    """Write a coder as safetensors, in half precision. about: words that travel with it.

    Raises CodesError if it can't be written.
    """
    arrays = {name: array.astype(np.float16) for name, array in asdict(coder).items()}
    try:
        save_file(arrays, path, about)
    except (OSError, SafetensorError) as error:
        raise CodesError(f"{path} can't be written: {error}") from error


def read_coder(path: Path) -> tuple[Coder, dict[str, str]]:
    """Read what `write_coder` wrote. Raises CodesError if it is missing or damaged."""
    try:
        if not path.is_file():  # a pipe would block
            raise FileNotFoundError(path)
        with safe_open(path, "np") as file:
            arrays = {f.name: file.get_tensor(f.name).astype(np.float32) for f in fields(Coder)}
            about = dict(file.metadata() or {})
        coder = Coder(**arrays)
        _check(coder)
    # TypeError, AttributeError: numbers of a kind that numpy doesn't know
    except (OSError, SafetensorError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise CodesError(f"{path} is missing or damaged: fc7 codes train makes another") from error
    return coder, about


def _check(coder: Coder) -> None:
    """Raises ValueError unless its arrays fit each other and hold numbers."""
    if coder.mean.ndim != 1 or coder.bias.ndim != 1 or coder.hidden_bias.ndim != 1:
        raise ValueError("a vector is none")
    width, bits, hidden = len(coder.mean), len(coder.bias), len(coder.hidden_bias)
    shapes = {"linear": (bits, width), "hidden": (hidden, width), "correction": (bits, hidden)}
    if not bits or bits % 8 or any(getattr(coder, n).shape != shape for n, shape in shapes.items()):
        raise ValueError("shapes that don't fit")
    if not all(np.isfinite(array).all() for array in asdict(coder).values()):
        raise ValueError("no numbers")


def shipped_coder(network: str, stamp: str) -> tuple[Coder, dict[str, str]] | None:
    """The coder that comes with fc7 for descriptors of this stamp; None if there is none."""
    path = shipped(f"{network}.codes.safetensors")
    if path is None:
        return None
    coder, about = read_coder(path)
    return (coder, about) if about.get("stamp") == stamp else None
