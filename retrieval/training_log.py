"""What a training run wrote of its epochs: log.csv, read back."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from retrieval.errors import EvaluationError

LOG = "log.csv"


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
    return EpochFigures(int(row["epoch"]), _part(row, "train"), _part(row, "val"))


def _part(row: dict[str, str], part: str) -> PartFigures:
    return PartFigures(
        loss=float(row[f"{part}_loss"]),
        top1_error=1 - float(row[f"{part}_top1"]),
        top5_error=1 - float(row[f"{part}_top5"]),
    )
