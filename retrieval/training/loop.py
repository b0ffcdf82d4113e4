"""The loop: from a prepared run to its best network, from wherever its checkpoint stands.

All that is left to chance is decided by the run's seed, the epoch and the step: order, crops and
colours by `draw_epoch`, dropout by torch's generator, seeded anew for each step. So a run that was
killed and goes on gives the same network, to the bit on the same processor, as one that was not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retrieval.download import Progress
from retrieval.errors import TrainingError
from retrieval.extractor import has_bfloat16
from retrieval.networks import input_side, normalisation, usual_framing
from retrieval.training.augment import Draws, colour_shifts, draw_epoch
from retrieval.training.curves import Events, draw_curves
from retrieval.training.photos import Batch, Photos, View, augmented, training_view
from retrieval.training.prepare import Asked, prepare
from retrieval.training.ranks import Ranks, join
from retrieval.training.recipes import Recipe, is_finished, learning_rate
from retrieval.training.runs import (
    Checkpoint,
    EpochRow,
    read_checkpoint,
    read_run,
    write_best,
    write_checkpoint,
    write_log,
)
from retrieval.training.split import Listed
from retrieval.training.start import begin, freeze_conv, set_dropout

_SAVE_SECONDS = 300  # between two within an epoch
_CHECK_STEPS = {"cpu": 1, "cuda": 16}  # between two looks at the loss: a card would wait for each
_VAL_BATCH = 64
_TOP = 5
# Batches that are read ahead. Where photos are decoded by the cores that train, doing both at once
# is no faster and often slower, since each waits for the other's threads.
_AHEAD = {"cpu": 0, "cuda": 2}


@dataclass(frozen=True, slots=True)
class StepNote:
    """Where a run is, for people."""

    step: int  # of all epochs
    steps: int  # at most
    epoch: int  # from 1 on
    loss: float  # mean of this epoch so far


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What came of a run."""

    folder: Path
    epochs: int
    best: EpochRow
    photos: tuple[int, int]  # that train, that validate
    broken: tuple[tuple[Path, str], ...]  # that could not be used, and why
    seconds: float  # of all epochs


@dataclass(frozen=True, slots=True)
class Listeners:
    """Who is told of what."""

    step: Callable[[StepNote], None] = lambda note: None
    epoch: Callable[[EpochRow], None] = lambda row: None
    download: Progress | None = None  # bytes of weights to begin with


def train(asked: Asked, device: str = "auto", tell: Listeners | None = None) -> TrainReport:
    """Begin a run and train until its recipe ends it.

    Under torchrun every process calls this; together they are one run. device: auto, cpu or cuda.

    Raises TrainingError, WeightsError or DeviceError.
    """
    with join(device) as ranks:
        if ranks.is_first:
            prepare(asked)
        ranks.wait()
        return _Trainer(asked.out, ranks, tell or Listeners()).run()


def resume(folder: Path, device: str = "auto", tell: Listeners | None = None) -> TrainReport:
    """Go on with the run in a folder, as `train` would have done."""
    with join(device) as ranks:
        return _Trainer(folder, ranks, tell or Listeners()).run()


class _Trainer:
    """One process's share of a run: its network, its optimizer and its photos."""

    def __init__(self, folder: Path, ranks: Ranks, tell: Listeners) -> None:
        self._folder, self._ranks, self._tell = folder, ranks, tell
        self._run, listed = read_run(folder)
        self._recipe, self._device = self._run.recipe, ranks.device
        self._side = input_side(self._run.network)
        framing = usual_framing(self._run.network)
        view = training_view(self._recipe, self._side, framing)
        in_use = View("frame", self._side, framing)
        self._train = self._photos(listed, "train", view)
        self._val = self._photos(listed, "val", in_use)
        self._batch = min(self._recipe.batch, len(self._train))
        ranks.check_batch(self._batch)
        mean, std = normalisation(self._run.network)
        self._mean = torch.tensor(mean, device=self._device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=self._device).view(1, 3, 1, 1)
        self._dtype = _precision(self._device)
        self._begin(read_checkpoint(folder))

    def _photos(self, listed: Sequence[Listed], split: str, view: View) -> Photos:
        mine = [photo for photo in listed if photo.split == split]
        number = {name: index for index, name in enumerate(self._run.classes)}
        labels = np.array([number[photo.label] for photo in mine], np.int64)
        paths, ahead = [photo.path for photo in mine], _AHEAD[self._device.type]
        return Photos(paths, labels, view, fill=split == "train", ahead=ahead)

    def _begin(self, checkpoint: Checkpoint | None) -> None:
        """Make the network and its optimizer, as they were at the checkpoint if there is one."""
        run = self._run
        start = None if checkpoint else run.start
        network = begin(
            run.network, run.classes, seed=run.seed, start=start, progress=self._tell.download
        )
        set_dropout(network, self._recipe.dropout)
        if run.freeze_conv:
            freeze_conv(network)
        if self._device.type == "cuda":  # the same numbers each time, as far as the card can
            torch.backends.cudnn.deterministic = True
        self._network = network.to(self._device).to(memory_format=torch.channels_last)
        self._together = self._ranks.together(self._network)
        self._optimizer = _optimizer(self._network, self._recipe)
        self._scaler = torch.amp.GradScaler("cuda", enabled=self._dtype == torch.float16)
        self._history: list[EpochRow] = []
        self._step, self._seconds = 0, 0.0  # of the epoch that is not finished
        self._sums = torch.zeros(4, dtype=torch.float64, device=self._device)  # see `_score`
        if checkpoint:
            self._network.load_state_dict(checkpoint.network)
            self._optimizer.load_state_dict(checkpoint.optimizer)
            self._scaler.load_state_dict(checkpoint.scaler)
            self._history = list(checkpoint.history)
            self._step, self._seconds = checkpoint.step, checkpoint.seconds
            if self._ranks.is_first:  # the sums of all
                self._sums += torch.tensor(checkpoint.sums, device=self._device)

    def run(self) -> TrainReport:
        """Train epoch after epoch, and write what each gives."""
        first = self._ranks.is_first
        with closing(Events(self._folder, self._history)) if first else nullcontext() as events:
            while not is_finished(self._recipe, self._errors()):
                row = self._epoch()
                self._history.append(row)
                if events:
                    self._write(row)
                    events.add(row)
                self._tell.epoch(row)
        if first:
            self._write_curves()  # one that was killed after its last checkpoint lacks a row
        found = [(photos, self._ranks.union(photos.broken)) for photos in (self._train, self._val)]
        return TrainReport(
            folder=self._folder,
            epochs=len(self._history),
            best=max(self._history, key=lambda row: row.val_top1),
            photos=(len(self._train), len(self._val)),
            broken=tuple((p.paths[i], why) for p, broken in found for i, why in broken.items()),
            seconds=sum(row.seconds for row in self._history),
        )

    def _errors(self) -> list[float]:
        return [1 - row.val_top1 for row in self._history]

    def _epoch(self) -> EpochRow:
        """Go through the training photos, or through what is left of them; then validate."""
        epoch, errors = len(self._history), self._errors()
        order, draws = draw_epoch(self._run.seed, epoch, len(self._train))
        steps = len(order) // self._batch  # what is left over has its turn in another order
        whole = order[: steps * self._batch].reshape(steps, self._batch)
        shares = (self._ranks.share(batch) for batch in whole[self._step :])
        began = saved = time.monotonic()
        rate = 0.0
        self._mode()
        for batch in self._train.batches(shares, draws):
            rate = learning_rate(self._recipe, errors, epoch + self._step / steps)
            self._take_step(batch, draws, rate, [self._run.seed, epoch, self._step])
            self._step += 1
            last = self._step == steps
            if self._step % _CHECK_STEPS[self._device.type] and not last:
                continue
            if self._check(epoch, rate, not last and time.monotonic() - saved > _SAVE_SECONDS):
                saved = time.monotonic()
                self._save(self._ranks.sum(self._sums), self._seconds + saved - began)
            loss, total = float(self._sums[1] / self._sums[0]), self._recipe.epochs * steps
            self._tell.step(StepNote(epoch * steps + self._step, total, epoch + 1, loss))
        learned = _means(self._ranks.sum(self._sums))
        known = _means(self._ranks.sum(self._validate()))
        seconds = self._seconds + time.monotonic() - began
        self._step, self._seconds = 0, 0.0
        self._sums.zero_()
        return EpochRow(epoch + 1, rate, *learned, *known, seconds)

    def _mode(self) -> None:
        self._together.train()
        if self._run.freeze_conv:
            freeze_conv(self._network)

    def _take_step(self, batch: Batch, draws: Draws, rate: float, when: list[int]) -> None:
        """One update of the weights by one batch. when: what decides the chance of dropout."""
        entropy = np.random.SeedSequence([*when, self._ranks.rank])
        torch.manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1)))
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        pixels = augmented(batch, self._recipe, self._side, draws)
        noise = None
        if self._run.colours and self._recipe.colour:
            rows = draws.colours[batch.rows]
            noise = colour_shifts(self._run.colours, rows, self._recipe.colour)
        labels = torch.from_numpy(batch.labels).to(self._device, non_blocking=True)
        with self._cast():
            logits = self._together(self._input(pixels, noise)).float()
        loss = nn.functional.cross_entropy(logits, labels, label_smoothing=self._recipe.smoothing)
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._sums += _score(logits.detach(), labels, loss.detach())

    @torch.no_grad()
    def _validate(self) -> Tensor:
        """Photos, loss, top-1 and top-5 of this process's share of the validation photos."""
        self._network.eval()
        mine = self._ranks.share(np.arange(len(self._val)))
        sums = torch.zeros_like(self._sums)
        with self._cast():
            for batch in self._val.batches(_parts(mine)):
                if not len(batch.labels):
                    continue
                labels = torch.from_numpy(batch.labels).to(self._device, non_blocking=True)
                logits = self._network(self._input(batch.pixels)).float()
                sums += _score(logits, labels, nn.functional.cross_entropy(logits, labels))
        return sums

    def _input(self, pixels: NDArray[np.uint8], noise: NDArray[np.float32] | None = None) -> Tensor:
        """(n, side, side, 3) uint8 -> (n, 3, side, side) float32, normalised, channels last."""
        there = torch.from_numpy(pixels)
        if self._device.type == "cuda":
            there = there.pin_memory().to(self._device, non_blocking=True)
        photos = there.permute(0, 3, 1, 2).float().div_(255)
        if noise is not None:
            photos += torch.from_numpy(noise).to(self._device)[:, :, None, None]
        return photos.sub_(self._mean).div_(self._std)

    def _cast(self) -> AbstractContextManager[None]:
        enabled = self._dtype != torch.float32
        return torch.autocast(self._device.type, self._dtype, enabled=enabled)

    def _check(self, epoch: int, rate: float, due: bool) -> bool:
        """Whether a checkpoint is due: the first process's clock decides for all.

        Raises TrainingError, in all of them, if the loss of any is not finite any more.
        """
        flags = torch.tensor([not self._sums.isfinite().all(), due and self._ranks.is_first])
        overflowed, due = self._ranks.sum(flags.int().to(self._device)).bool().tolist()
        if overflowed:
            raise TrainingError(
                f"the loss of epoch {epoch + 1} is no finite number any more (learning rate "
                f"{rate:g}): begin again with another preset, or from trained weights (--from)"
            )
        return bool(due)

    def _save(self, sums: Tensor, seconds: float) -> None:
        """Write the checkpoint, if this is the first process. sums: of all."""
        if not self._ranks.is_first:
            return
        photos, loss, top1, top5 = sums.tolist()
        checkpoint = Checkpoint(
            network=self._network.state_dict(),
            optimizer=self._optimizer.state_dict(),
            scaler=self._scaler.state_dict(),
            step=self._step,
            sums=(photos, loss, top1, top5),
            seconds=seconds,
            history=tuple(self._history),
        )
        write_checkpoint(self._folder, checkpoint)

    def _write(self, row: EpochRow) -> None:
        """Write all that an epoch changes; the checkpoint after the weights that it vouches for."""
        if row.val_top1 > max((r.val_top1 for r in self._history[:-1]), default=-1.0):
            run = self._run
            metadata = {
                "network": run.network,
                "classes": json.dumps(run.classes),
                "framing": usual_framing(run.network),
                "source": f"fc7 train, preset {run.preset}, {len(self._train)} photos, "
                f"epoch {row.epoch}: {row.val_top1:.1%} of {len(self._val)} others right",
            }
            write_best(self._folder, self._network.state_dict(), metadata)
        self._save(self._sums, 0.0)
        self._write_curves()

    def _write_curves(self) -> None:
        write_log(self._folder, self._history)
        draw_curves(self._folder, self._history)


def _precision(device: torch.device) -> torch.dtype:
    """What the layers compute in; weights, gradients and loss stay in float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if has_bfloat16() else torch.float32


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimizer of all weights that learn; momentum and decay are their papers'.

    AlexNet, section 5:  v = m v - rate (g + decay w)   w = w + v
    torch:               v = m v + (g + decay w)        w = w - rate v

    which is the same as long as the rate stays.
    """
    learning = [weights for weights in network.parameters() if weights.requires_grad]
    if recipe.optimizer == "adam":
        return torch.optim.Adam(learning, lr=recipe.rate, weight_decay=recipe.decay, fused=True)
    return torch.optim.SGD(
        learning,
        lr=recipe.rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.decay,
        fused=True,
    )


def _parts(indices: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    for start in range(0, len(indices), _VAL_BATCH):
        yield indices[start : start + _VAL_BATCH]


def _score(logits: Tensor, labels: Tensor, mean_loss: Tensor) -> Tensor:
    """(4,) float64: photos, sum of their losses, how many are right at once, and within five."""
    best = logits.topk(min(_TOP, logits.shape[1]), dim=1).indices == labels[:, None]
    photos = torch.tensor(float(len(labels)), device=logits.device)
    sums = [photos, mean_loss * photos, best[:, 0].sum(), best.sum()]
    return torch.stack([value.double() for value in sums])


def _means(sums: Tensor) -> tuple[float, float, float]:
    """Loss, top-1 and top-5 of a photo, on average."""
    photos, *others = sums.tolist()
    if not photos:
        raise TrainingError("none of the photos that validate can be read")
    loss, top1, top5 = (value / photos for value in others)
    return loss, top1, top5
