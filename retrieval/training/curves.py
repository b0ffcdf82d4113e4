"""A run's curves: a PNG, and events for TensorBoard."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from tensorboardX import SummaryWriter

from retrieval.training.runs import CURVES, EpochRow, write_whole

_EVENTS = "events.out.*"
_TRAINING, _VALIDATION = "#d55e00", "#0072b2"  # told apart by most eyes


def draw_curves(folder: Path, history: Sequence[EpochRow]) -> None:
    """Draw loss, top-1 and top-5 error over the epochs: curves.png in the run's folder.

    history: at least one epoch.
    """
    epochs = [row.epoch for row in history]
    figure = Figure(figsize=(12, 4), layout="constrained")
    panels = (
        ("loss", [r.train_loss for r in history], [r.val_loss for r in history]),
        ("top-1 error", [1 - r.train_top1 for r in history], [1 - r.val_top1 for r in history]),
        ("top-5 error", [1 - r.train_top5 for r in history], [1 - r.val_top5 for r in history]),
    )
    for axes, (name, training, validation) in zip(figure.subplots(1, 3), panels, strict=True):
        axes.plot(epochs, training, ".-", color=_TRAINING, label="training")
        axes.plot(epochs, validation, ".-", color=_VALIDATION, label="validation")
        axes.set(title=name, xlabel="epoch")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=100)
    write_whole(folder / CURVES, lambda file: file.write(out.getvalue()))


class Events:
    """TensorBoard's file of a run. Begun anew each time: the checkpoint's history is the truth."""

    def __init__(self, folder: Path, history: Sequence[EpochRow]) -> None:
        for old in folder.glob(_EVENTS):
            old.unlink()
        self._writer = SummaryWriter(str(folder))
        for row in history:
            self.add(row)

    def add(self, row: EpochRow) -> None:
        """Append an epoch."""
        for name, value in (
            ("loss/training", row.train_loss),
            ("loss/validation", row.val_loss),
            ("top1/training", row.train_top1),
            ("top1/validation", row.val_top1),
            ("top5/training", row.train_top5),
            ("top5/validation", row.val_top5),
            ("learning rate", row.rate),
        ):
            self._writer.add_scalar(name, value, row.epoch)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
