"""Which training runs there are, and what they were asked, read without loading anything heavy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from retrieval.errors import EvaluationError
from retrieval.training_log import LOG

SETTINGS, BEST, LAST = "settings.json", "best.safetensors", "last.pt"  # as fc7 train names them


@dataclass(frozen=True, slots=True)
class RunAbout:
    """What a run was asked."""

    network: str
    preset: str
    classes: int
    epochs: int  # at most
    start: str | None  # weights that it began with; None: chance


def is_run(folder: Path) -> bool:
    """Whether `fc7 train` left something in this folder."""
    return any((folder / name).is_file() for name in (SETTINGS, LOG, BEST))


def find_runs(parent: Path) -> list[Path]:
    """The runs right below a folder, by name; none if it isn't there or can't be read."""
    try:
        return sorted(one for one in parent.iterdir() if one.is_dir() and is_run(one))
    except OSError:
        return []


def read_about(run: Path) -> RunAbout:
    """Read what a run was asked. Raises EvaluationError if its settings are missing or no sense."""
    file = run / SETTINGS
    try:
        words = json.loads(file.read_text(encoding="utf-8"))
        return RunAbout(
            network=str(words["network"]),
            preset=str(words["preset"]),
            classes=len(words["classes"]),
            epochs=int(words["recipe"]["epochs"]),
            start=None if words["start"] is None else str(words["start"]),
        )
    except FileNotFoundError as error:
        raise EvaluationError(f"{run} holds no {SETTINGS}") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise EvaluationError(f"{file} can't be read: {error}") from error
