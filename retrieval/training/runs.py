"""A run's folder: what it was asked, what it learns from, how far it is, and its result.

    settings.json     everything that decides the numbers: recipe, classes, seed, versions
    data.csv          split,path,class of every photo
    last.pt           the checkpoint to go on from
    best.safetensors  the network of the epoch that validated best: --weights RUN takes this
    log.csv           a row an epoch
    curves.png        the same as a figure; TensorBoard reads it from events.out.*

Every file is whole at any time: written aside, synced, renamed.
"""

from __future__ import annotations

import csv
import io
import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from torch import Tensor

from retrieval.errors import TrainingError
from retrieval.training.augment import Colours
from retrieval.training.recipes import Recipe
from retrieval.training.split import Listed, list_text, read_list
from retrieval.weights import BEST

SETTINGS, DATA, LAST = "settings.json", "data.csv", "last.pt"
LOG, CURVES = "log.csv", "curves.png"
_LIBRARIES = ("fc7", "torch", "torchvision", "numpy", "pillow", "safetensors")


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that decides what a run learns, apart from the photos."""

    network: str
    preset: str
    recipe: Recipe
    classes: tuple[str, ...]
    seed: int
    start: str | None  # where its first numbers come from, as load_weights takes it; None: chance
    freeze_conv: bool
    colours: Colours | None  # of the training photos; None if the recipe needs none


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One row of the log. Loss: mean cross-entropy, nats; top-1 and top-5: shares, 0..1."""

    epoch: int  # from 1 on
    rate: float  # the learning rate of its last step
    train_loss: float  # while training: of crops, with dropout, of smoothed labels
    train_top1: float
    train_top5: float
    val_loss: float
    val_top1: float
    val_top5: float
    seconds: float  # the whole epoch


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a run stands between two steps. No state of chance: seed, epoch and step decide it."""

    network: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]  # of float16's gradients; empty without
    step: int  # in the epoch after those of the history
    sums: tuple[float, float, float, float]  # of that epoch: photos, loss, top-1, top-5
    seconds: float  # of that epoch
    history: tuple[EpochRow, ...]


def write_run(folder: Path, run: Run, photos: Sequence[Listed]) -> None:
    """Begin a run's folder. Raises TrainingError if a run began there, or it can't be written."""
    if (folder / LAST).exists():
        raise TrainingError(
            f"{folder} holds a run: go on with it by --resume {folder}, or name another by --out"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{folder} can't be made: {error.strerror}") from error
    libraries = {name: version(name) for name in _LIBRARIES} | {"python": platform.python_version()}
    settings = {"format": 1, **asdict(run), "versions": libraries}
    rows = list_text(photos, folder)
    write_whole(folder / DATA, lambda file: file.write(rows.encode("utf-8", "surrogateescape")))
    write_text(folder / SETTINGS, json.dumps(settings, indent=2) + "\n")


def read_run(folder: Path) -> tuple[Run, list[Listed]]:
    """Read what a run was asked, and its photos. Raises TrainingError."""
    try:
        words = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        colours = words["colours"]
        recipe = {name: _frozen(value) for name, value in words["recipe"].items()}
        kept = {field.name: _frozen(words[field.name]) for field in fields(Run)}
        run = Run(**kept | {"recipe": Recipe(**recipe), "colours": colours and _colours(colours)})
    except FileNotFoundError as error:
        raise TrainingError(f"{folder} holds no run: begin one with fc7 train DATA") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{folder / SETTINGS} can't be read: {error}") from error
    photos = read_list(folder / DATA)
    if unknown := {photo.label for photo in photos} - set(run.classes):
        raise TrainingError(f"{folder / DATA} has classes that its run has not: {min(unknown)!r}")
    return run, photos


def read_colours(folder: Path) -> Colours:
    """The principal colours that another run computed. Raises TrainingError if it has none."""
    colours = read_run(folder)[0].colours
    if colours is None:
        raise TrainingError(f"{folder} has no colours: give a run with --preset alexnet or vgg")
    return colours


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint of a run."""
    content = {
        "format": 1,
        "network": checkpoint.network,
        "optimizer": checkpoint.optimizer,
        "scaler": checkpoint.scaler,
        "step": checkpoint.step,
        "sums": list(checkpoint.sums),
        "seconds": checkpoint.seconds,
        "history": [asdict(row) for row in checkpoint.history],
    }
    write_whole(folder / LAST, lambda file: torch.save(content, file))


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """Read where a run stands; None if it has not begun. Nothing in the file can run code."""
    path = folder / LAST
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return Checkpoint(
            network=content["network"],
            optimizer=content["optimizer"],
            scaler=content["scaler"],
            step=content["step"],
            sums=tuple(content["sums"]),
            seconds=content["seconds"],
            history=tuple(EpochRow(**row) for row in content["history"]),
        )
    except Exception as error:  # a damaged file can make torch raise anything
        raise TrainingError(
            f"{path} is damaged; without it the run begins again: delete it, or the folder"
        ) from error


def write_best(folder: Path, network: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Replace the best weights: float32 under torchvision's names, with the words they need."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in network.items()}
    data = safetensors.torch.save(whole, metadata)
    write_whole(folder / BEST, lambda file: file.write(data))


def write_log(folder: Path, history: Sequence[EpochRow]) -> None:
    """Write a CSV row an epoch."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([field.name for field in fields(EpochRow)])
    for row in history:
        writer.writerow([f"{value:.6g}" for value in astuple(row)])
    write_text(folder / LOG, out.getvalue())


def write_text(path: Path, text: str) -> None:
    """Replace a text file."""
    write_whole(path, lambda file: file.write(text.encode()))


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Replace a file in one stroke: whoever is killed here leaves the old one or the new one.

    Raises TrainingError if there is no room or no right to.
    """
    aside = path.with_name(f"{path.name}.partial")
    try:
        with aside.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)  # the new name too
        finally:
            os.close(handle)
    except OSError as error:
        raise TrainingError(f"{path} can't be written: {error.strerror}") from error


def _colours(words: Any) -> Colours:
    return Colours(**{name: _frozen(value) for name, value in words.items()})


def _frozen(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
