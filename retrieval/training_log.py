"""What a training run wrote of its epochs: log.csv, read back."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from retrieval.errors import EvaluationError

LOG = "log.csv"
_MOST_EPOCHS = 1_000_000


@dataclass(frozen=True, slots=True)
class PartFigures:
    """How well a run did on the photos of one part: those that train, or that validate."""

    loss: float  # mean cross-entropy, nats
    top1_error: float  # 0..1
    top5_error: float


@dataclass(frozen=True, slots=True)
class EpochFigures:
    """One row of the log."""

    epoch: int  # from 1 on
    training: PartFigures
    validation: PartFigures


def read_log(run: Path) -> list[EpochFigures]:
    """Read the epochs of a run's folder.

    Raises EvaluationError if there is no log, or it has no epoch or makes no sense.
    """
    file = run / LOG
    try:
        with file.open(encoding="utf-8", newline="") as text:
            epochs = [_epoch(row) for row in csv.DictReader(text, strict=True)]
    except FileNotFoundError as error:
        raise EvaluationError(f"{run} holds no {LOG}: give the folder of a run") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EvaluationError(f"{file} can't be read: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise EvaluationError(f"{file} is not a log of fc7 train: {error}") from error
    if not epochs:
        raise EvaluationError(f"{file} has no epoch yet: wait for the first one's end")
    return epochs


def _epoch(row: dict[str, str]) -> EpochFigures:
    epoch = int(row["epoch"])
    if not 0 < epoch < _MOST_EPOCHS:
        raise ValueError(f"there is no epoch {epoch}")
    return EpochFigures(epoch, _part(row, "train"), _part(row, "val"))


def _part(row: dict[str, str], part: str) -> PartFigures:
    loss, top1, top5 = (float(row[f"{part}_{what}"]) for what in ("loss", "top1", "top5"))
    if not (math.isfinite(loss) and 0 <= top1 <= 1 and 0 <= top5 <= 1):
        raise ValueError(f"epoch {row['epoch']} went astray: {part} loss {loss}, top-1 {top1}")
    return PartFigures(loss=loss, top1_error=1 - top1, top5_error=1 - top5)
