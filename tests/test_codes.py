"""Coders: encoding against a slow loop, learning against what linear codes can do."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.codes import Coder, read_coder, write_coder
from retrieval.errors import CodesError
from retrieval.training.coders import (
    AutoencoderSettings,
    learn_autoencoder,
    learn_itq,
    learn_pca_signs,
    random_hyperplanes,
)


def drawn_coder(bits: int = 16, width: int = 12, seed: int = 0) -> Coder:
    rng = np.random.default_rng(seed)

    def numbers(*shape: int) -> NDArray[np.float32]:
        return rng.normal(size=shape).astype(np.float16).astype(np.float32)

    return Coder(
        mean=numbers(width),
        linear=numbers(bits, width),
        bias=numbers(bits),
        hidden=numbers(5, width),
        hidden_bias=numbers(5),
        correction=numbers(bits, 5),
    )


def clusters(count: int = 3000, width: int = 64, seed: int = 0) -> NDArray[np.float32]:
    """Unit rows around 40 places on curved sheets, as photos of 40 kinds of things."""
    rng = np.random.default_rng(seed)
    places = rng.normal(size=(40, 8))
    rows = places[rng.integers(40, size=count)] + 0.4 * rng.normal(size=(count, 8))
    lifted = np.maximum(rows @ rng.normal(size=(8, width)), 0)
    return (lifted / np.linalg.norm(lifted, axis=1, keepdims=True)).astype(np.float32)


def dot(left: Iterable[float], right: Iterable[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def kept_neighbours(rows: NDArray[np.float32], codes: NDArray[np.uint8], shortlist: int) -> float:
    """How many of the ten nearest rows are among the nearest codes, by plain counting."""
    bits = np.unpackbits(codes, axis=1).astype(np.int32)
    hits = 0
    for query in range(0, len(rows), 30):
        near = np.argsort(((rows - rows[query]) ** 2).sum(axis=1))[1:11]
        listed = np.argsort((bits != bits[query]).sum(axis=1), kind="stable")[: shortlist + 1]
        hits += len(set(near) & set(listed))
    return hits / (10 * len(range(0, len(rows), 30)))


def test_codes_are_the_signs_that_a_slow_loop_finds() -> None:
    coder = drawn_coder()
    rows = np.random.default_rng(1).normal(size=(9, 12)).astype(np.float32)
    codes = coder.encode(rows)
    assert codes.shape == (9, 2)
    assert codes.dtype == np.uint8
    for row, code in zip(rows, codes, strict=True):
        centred = [x - m for x, m in zip(row, coder.mean, strict=True)]
        neurons = [
            max(0.0, dot(weights, centred) + b)
            for weights, b in zip(coder.hidden, coder.hidden_bias, strict=True)
        ]
        for at in range(16):
            activation = dot(coder.linear[at], centred) + coder.bias[at]
            activation += dot(coder.correction[at], neurons)
            assert bool(code[at // 8] >> (7 - at % 8) & 1) == (activation > 0)


def test_a_code_does_not_depend_on_its_batch() -> None:
    coder = drawn_coder()
    rows = np.random.default_rng(2).normal(size=(50, 12)).astype(np.float32)
    assert np.array_equal(coder.encode(rows[7:8]), coder.encode(rows)[7:8])
    assert coder.encode(rows[:0]).shape == (0, 2)


def test_a_coder_is_read_as_it_was_written(tmp_path: Path) -> None:
    coder = drawn_coder()  # its numbers fit into half precision
    write_coder(tmp_path / "c.safetensors", coder, {"source": "drawn"})
    again, about = read_coder(tmp_path / "c.safetensors")
    rows = np.random.default_rng(3).normal(size=(20, 12)).astype(np.float32)
    assert np.array_equal(again.encode(rows), coder.encode(rows))
    assert about == {"source": "drawn"}


@pytest.mark.parametrize("content", [b"", b"\0" * 100, None])
def test_a_damaged_coder_is_one_clear_line(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "c.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CodesError, match=r"c.safetensors is missing or damaged: fc7 codes train"):
        read_coder(file)


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3", "F8_E5M2"])
def test_a_coder_of_numbers_that_numpy_does_not_know_is_one_clear_line(
    tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "c.safetensors"
    none = {
        "hidden": np.empty((0, 12)),
        "hidden_bias": np.empty(0),
        "correction": np.empty((16, 0)),
    }
    write_coder(file, replace(drawn_coder(), **none), {})
    whole = file.read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    head = json.loads(whole[8:end])
    head["hidden"]["dtype"] = kind  # none of them: they take no bytes
    words = json.dumps(head).encode()
    file.write_bytes(len(words).to_bytes(8, "little") + words + whole[end:])
    with pytest.raises(CodesError, match=r"c.safetensors is missing or damaged: fc7 codes train"):
        read_coder(file)


def test_pca_signs_are_those_of_the_covariances_eigenvectors() -> None:
    rows = clusters()
    spread = np.cov(rows.astype(np.float64).T)
    leading = np.linalg.eigh(spread)[1][:, ::-1][:, :8]
    expected = (rows - rows.mean(axis=0)) @ leading > 0
    found = np.unpackbits(learn_pca_signs(rows, 8).encode(rows), axis=1).astype(bool)
    agreement = (found == expected).mean(axis=0)
    assert (np.maximum(agreement, 1 - agreement) > 0.98).all()  # an eigenvector has no sign


def test_itq_brings_rows_nearer_to_their_signs_than_pca() -> None:
    rows = clusters()
    losses = []
    for coder in (learn_itq(rows, 16), learn_pca_signs(rows, 16)):
        values = coder.activations(rows)
        losses.append(((values - np.abs(values).mean() * np.sign(values)) ** 2).sum())
    assert losses[0] < 0.9 * losses[1]


def test_random_hyperplanes_pass_through_the_mean_at_right_angles() -> None:
    rows = clusters()
    coder = random_hyperplanes(rows, 32, seed=5)
    assert coder.mean == pytest.approx(rows.mean(axis=0), abs=1e-6)
    assert coder.linear @ coder.linear.T == pytest.approx(np.eye(32), abs=1e-5)
    other = random_hyperplanes(rows, 32, seed=6)
    assert not np.allclose(coder.linear, other.linear)


def test_the_autoencoder_keeps_more_neighbours_than_itq_and_itq_than_chance() -> None:
    rows = clusters(6000)
    learned, unseen = rows[:5000], rows[5000:]
    settings = AutoencoderSettings(directions=48, hidden=64, epochs=15, batch=256)
    ours = learn_autoencoder(learned, 32, settings)
    kept = [
        kept_neighbours(unseen, coder.encode(unseen), 30)
        for coder in (ours, learn_itq(learned, 32), random_hyperplanes(learned, 32))
    ]
    assert kept[0] > kept[1] > kept[2] > 0.1  # 30 of 1000 by chance: 0.03


def test_the_same_seed_gives_the_same_coder() -> None:
    rows = clusters(1200)
    settings = AutoencoderSettings(directions=40, hidden=16, epochs=2)
    first, again, other = (
        learn_autoencoder(rows, 32, settings, seed=seed).encode(rows) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_odd_number_of_bits_is_refused() -> None:
    with pytest.raises(CodesError, match="48 bits: choose one of 32, 64, 128, 256, 512"):
        learn_autoencoder(clusters(50), 48)
