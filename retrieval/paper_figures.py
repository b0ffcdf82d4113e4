"""AlexNet's figures, drawn for any network: its kernels (3), top-5 bars and neighbours (4).

And training curves. Each function returns a whole SVG file, photos inside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.figures import PANELS_A_ROW, Line, Panel, draw_panels
from retrieval.images import encode_png
from retrieval.labels import Prediction
from retrieval.svg import END, bar, begin, picture, text
from retrieval.training_log import EpochFigures

NEIGHBOURS = 6  # of a query, as in the paper
_MARGIN = 16
_KERNELS_A_ROW = 16
_KERNEL, _KERNEL_GAP = 60, 6  # pixels, about
_TILE, _TILE_GAP = 132, 6
_CARD, _CARD_GAP, _CARDS_A_ROW = 200, 20, 4
_CARD_PHOTO, _BAR = 150, 20
_RIGHT, _WRONG = "#e8a0b4", "#9dbfe0"  # the paper's red and blue, light enough to read words on


@dataclass(frozen=True, slots=True)
class LabelledPhoto:
    """A photo, what a network sees in it, and what it shows."""

    jpeg: bytes
    caption: str  # the true class, or else the file's name
    predictions: tuple[Prediction, ...]  # likeliest first
    true_class: str | None  # as the predictions name it; None: unknown


def draw_kernels(kernels: NDArray[np.float32], title: str, a_row: int = _KERNELS_A_ROW) -> str:
    """Draw the kernels of a first layer as a grid (AlexNet, figure 3).

    kernels: (n, 3, k, k). Grey is 0; of each kernel the number farthest from that is at the end of
    the scale.
    """
    size = kernels.shape[-1]
    most = np.abs(kernels).max(axis=(1, 2, 3), keepdims=True)
    colours = np.rint(127.5 + 127.5 * kernels / np.where(most > 0, most, 1)).astype(np.uint8)
    larger = max(1, _KERNEL // size)  # whole pixels, so that nothing smooths them
    tiles = colours.transpose(0, 2, 3, 1).repeat(larger, axis=1).repeat(larger, axis=2)
    columns = min(len(tiles), a_row)
    rows = math.ceil(len(tiles) / columns)
    step = size * larger + _KERNEL_GAP
    height, width = rows * step - _KERNEL_GAP, columns * step - _KERNEL_GAP
    page = np.full((height, width, 3), 255, np.uint8)
    for place, tile in enumerate(tiles):
        y, x = place // columns * step, place % columns * step
        page[y : y + len(tile), x : x + len(tile)] = tile
    parts = begin(width + 2 * _MARGIN, height + 2 * _MARGIN + 24)
    parts.append(picture(_MARGIN, _MARGIN, width, height, encode_png(page), "png"))
    below = height + 2 * _MARGIN + 8
    parts.append(text(_MARGIN + width / 2, below, title, 'text-anchor="middle" font-size="14"'))
    return "\n".join([*parts, END])


def draw_top_five(photos: Sequence[LabelledPhoto]) -> str:
    """Draw photos with the five likeliest classes as bars below, the true one red (figure 4).

    A bar's length is relative to the photo's longest; its number is the probability.
    """
    columns = min(len(photos), _CARDS_A_ROW)
    rows = math.ceil(len(photos) / columns)
    across, down = _CARD + _CARD_GAP, _CARD_PHOTO + 28 + 5 * _BAR + _CARD_GAP
    parts = begin(columns * across - _CARD_GAP + 2 * _MARGIN, rows * down - _CARD_GAP + 2 * _MARGIN)
    for place, photo in enumerate(photos):
        x, y = _MARGIN + place % columns * across, _MARGIN + place // columns * down
        parts.append(picture(x, y, _CARD, _CARD_PHOTO, photo.jpeg, "jpeg"))
        caption = _shortened(photo.caption, 27)
        look = 'text-anchor="middle" font-weight="bold" font-size="13"'
        parts.append(text(x + _CARD / 2, y + _CARD_PHOTO + 18, caption, look))
        for rank, one in enumerate(photo.predictions):
            top = y + _CARD_PHOTO + 26 + rank * _BAR
            colour = _RIGHT if one.label == photo.true_class else _WRONG
            parts.append(bar(x, top, _CARD, _BAR - 3, "#f4f4f4"))
            length = _CARD * one.probability / photo.predictions[0].probability
            parts.append(bar(x, top, length, _BAR - 3, colour))
            parts.append(text(x + 6, top + 13, _shortened(one.label, 24)))
            share = f"{one.probability:.1%}"
            parts.append(text(x + _CARD - 5, top + 13, share, 'text-anchor="end" fill="#555"'))
    return "\n".join([*parts, END])


def draw_neighbours(rows: Sequence[tuple[bytes, Sequence[bytes]]]) -> str:
    """Draw queries, each followed by the photos nearest to it, nearest first (figure 4, right).

    rows: JPEG files: a query, and its answers.
    """
    step, gap = _TILE + _TILE_GAP, 3 * _TILE_GAP
    columns = 1 + max(len(answers) for _, answers in rows)
    width = columns * step - _TILE_GAP + gap + 2 * _MARGIN
    parts = begin(width, len(rows) * step - _TILE_GAP + 2 * _MARGIN + 22)
    top = _MARGIN + 22
    middle = _MARGIN + _TILE + _TILE_GAP + gap + ((columns - 1) * step - _TILE_GAP) / 2
    look = 'text-anchor="middle" font-size="14"'
    parts.append(text(_MARGIN + _TILE / 2, _MARGIN + 8, "query", look))
    parts.append(text(middle, _MARGIN + 8, "nearest by FC7, from the left", look))
    for row, (query, answers) in enumerate(rows):
        y = top + row * step
        parts.append(picture(_MARGIN, y, _TILE, _TILE, query, "jpeg"))
        for place, answer in enumerate(answers, start=1):
            parts.append(picture(_MARGIN + place * step + gap, y, _TILE, _TILE, answer, "jpeg"))
    return "\n".join([*parts, END])


def draw_curves(runs: Mapping[str, Sequence[EpochFigures]], a_row: int = PANELS_A_ROW) -> str:
    """Draw how runs learned: loss, top-1 and top-5 error on validation and, dashed, on training.

    runs: of each its name and at least one epoch. Top-5 is left out where nothing can fail it.
    """
    kinds = [("loss", "cross-entropy", "loss"), ("top-1 error", "top-1 error", "top1_error")]
    every = [epoch for epochs in runs.values() for epoch in epochs]
    if any(e.training.top5_error or e.validation.top5_error for e in every):
        kinds.append(("top-5 error", "top-5 error", "top5_error"))
    panels = []
    for title, label, field in kinds:
        lines = []
        for name, epochs in runs.items():
            x = tuple(float(epoch.epoch) for epoch in epochs)
            for dashed, part in ((False, "validation"), (True, "training")):
                y = tuple(getattr(getattr(epoch, part), field) for epoch in epochs)
                lines.append(Line(name, x, y, dashed))
        label_x = "epoch (dashed: training)"
        panels.append(Panel(title, label_x, label, tuple(lines), x_logarithmic=False))
    return draw_panels(panels, a_row)


def _shortened(words: str, most: int) -> str:
    return words if len(words) <= most else words[: most - 1].rstrip() + "…"
