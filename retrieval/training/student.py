"""Learn to say from pool5 what the teacher says from the photo.

The student sees pool5 through averages over regions (`Regions`): fewer numbers to memorise photos
with than pool5 itself. It starts as the best linear answer (ridge regression, in closed form) and
is then trained with AdamW on views drawn anew each epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retrieval.extractor import has_bfloat16

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class StudentSettings:
    """How the student is trained; the defaults are those of the bundled AlexNet."""

    rank: int = 768  # of the first layer
    hidden: int = 2560  # neurons after it
    epochs: int = 40
    batch: int = 512
    rate: float = 6e-4  # AdamW's, at its highest
    decay: float = 0.05
    dropout: float = 0.3
    mixing: float = 0.3  # how far two photos of a batch are mixed (Beta distribution)
    temperature: float = 2.0  # of the probabilities
    squares: float = 5.0  # weight of the scores' squared error beside the probabilities
    ridge: float = 0.3  # of the linear start, relative to the mean variance
    balance: float = 0.0  # 0: each photo alike; 1: each class that the teacher sees alike
    seed: int = 0


class Student(nn.Module):
    """(n, regions) -> (n, classes): the teacher's scores less their mean over photos."""

    def __init__(self, inputs: int, rank: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(inputs, rank, bias=False)
        self.expand = nn.Linear(rank, hidden)
        self.scores = nn.Linear(hidden, classes)

    def forward(self, averages: Tensor, dropout: float = 0.0) -> Tensor:
        hidden = torch.relu(self.expand(self.reduce(averages)))
        return self.scores(nn.functional.dropout(hidden, dropout, self.training))  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What is learned from: of n photos, v views each."""

    averages: NDArray[np.float16]  # (n, v, regions)
    scores: NDArray[np.float16]  # (n, classes), the teacher's, less `mean`
    mean: NDArray[np.float32]  # (classes,)


def linear_start(lesson: Lesson, settings: StudentSettings) -> Student:
    """The student that gives the ridge regression of the teacher's scores, cut to half `rank`.

    Half of the first layer's rank and as many pairs of neurons (+u, -u) carry it; the other
    neurons start at random and are not listened to yet.
    """
    views, inputs = lesson.averages.shape[1], lesson.averages.shape[2]
    gram, cross = torch.zeros(inputs, inputs), torch.zeros(inputs, lesson.scores.shape[1])
    total, count = torch.zeros(inputs), 0
    for i in range(0, len(lesson.scores), 4096):
        target = torch.from_numpy(lesson.scores[i : i + 4096]).float()
        for v in range(views):
            x = torch.from_numpy(lesson.averages[i : i + 4096, v]).float()
            gram += x.T @ x
            cross += x.T @ target
            total += x.sum(0)
            count += len(x)
    mean = total / count
    gram = gram / count - torch.outer(mean, mean)
    cross = cross / count  # the target's mean is zero
    gram.diagonal().add_(settings.ridge * gram.diagonal().mean())
    solution = torch.linalg.solve(gram, cross, left=True)  # (inputs, classes)
    # The directions that matter for the answers, not for the solution's own size.
    basis = torch.linalg.eigh(solution.T @ gram @ solution)[1].flip(1)
    return _start_from(solution, basis, mean, gram, settings)


def _start_from(
    solution: Tensor, basis: Tensor, mean: Tensor, gram: Tensor, settings: StudentSettings
) -> Student:
    inputs, classes = solution.shape
    half = min(settings.rank // 2, settings.hidden // 4, classes)
    student = Student(inputs, settings.rank, settings.hidden, classes)
    directions = basis[:, :half]  # (classes, half)
    reduce = solution @ directions  # (inputs, half)
    deviation = ((gram @ reduce) * reduce).sum(0).clamp(min=0).sqrt()
    deviation = deviation.clamp(min=1e-3 * float(deviation.max()))  # of few photos many are zero
    with torch.no_grad():
        generator = torch.Generator().manual_seed(settings.seed)
        random = torch.randn(settings.rank - half, inputs, generator=generator)
        random /= (gram.diagonal().sum()).sqrt()
        student.reduce.weight.copy_(torch.cat([(reduce / deviation).T, random]))
        weight = torch.randn(settings.hidden, settings.rank, generator=generator)
        weight *= (2 / settings.rank) ** 0.5
        weight[: 2 * half] = 0
        weight[:half, :half].fill_diagonal_(1)
        weight[half : 2 * half, :half].fill_diagonal_(-1)
        student.expand.weight.copy_(weight)
        student.expand.bias.copy_(-weight @ (student.reduce.weight @ mean))
        read = directions * deviation  # (classes, half)
        student.scores.weight.zero_()
        student.scores.weight[:, :half] = read
        student.scores.weight[:, half : 2 * half] = -read
        student.scores.bias.zero_()
    return student


def train(
    student: Student,
    lesson: Lesson,
    settings: StudentSettings,
    *,
    device: str,
    checkpoint: Path,
    progress: Progress | None = None,
) -> Student:
    """Train the student; the moving average of its weights is what comes back.

    checkpoint: written after each epoch, gone on from when it is there.
    """
    student = student.to(device).train()
    average = {k: v.detach().clone() for k, v in student.state_dict().items()}
    steps = settings.epochs * max(1, len(lesson.scores) // settings.batch)
    decayed = [p for p in student.parameters() if p.dim() == 2]
    plain = [p for p in student.parameters() if p.dim() != 2]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=settings.rate, weight_decay=settings.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.rate, total_steps=max(steps, 2), pct_start=0.1
    )
    first = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        student.load_state_dict(saved["student"])
        average, first = saved["average"], saved["epoch"]
        optimiser.load_state_dict(saved["optimiser"])
        schedule.load_state_dict(saved["schedule"])
    for epoch in range(first, settings.epochs):
        _epoch(student, average, lesson, settings, optimiser, schedule, epoch)
        state = {"student": student.state_dict(), "average": average, "epoch": epoch + 1}
        state |= {"optimiser": optimiser.state_dict(), "schedule": schedule.state_dict()}
        torch.save(state, checkpoint.with_suffix(".part"))
        checkpoint.with_suffix(".part").replace(checkpoint)
        if progress:
            progress("training", epoch + 1, settings.epochs)
    student.load_state_dict(average)
    return student.cpu().eval()


def _epoch(
    student: Student,
    average: dict[str, Tensor],
    lesson: Lesson,
    settings: StudentSettings,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    epoch: int,
) -> None:
    """As many photos as there are, drawn by their shares; one view of each, drawn at random."""
    rng = np.random.default_rng([settings.seed, epoch])
    torch.manual_seed(settings.seed * 1000 + epoch)  # dropout
    count, views = lesson.averages.shape[:2]
    order = np.asarray(rng.choice(count, count, p=shares(lesson, settings.balance)), np.intp)
    view = np.asarray(rng.integers(views, size=count), np.intp)
    device = next(student.parameters()).device
    fast = device.type == "cuda" or has_bfloat16()
    mean = torch.from_numpy(lesson.mean).to(device)
    batch = min(settings.batch, count)
    for i in range(0, count - batch + 1, batch):
        rows = order[i : i + batch]
        x = torch.from_numpy(lesson.averages[rows, view[rows]]).to(device).float()
        y = torch.from_numpy(lesson.scores[rows]).to(device).float()
        share = rng.beta(settings.mixing, settings.mixing) if settings.mixing else 1.0
        x, y = share * x + (1 - share) * x.flip(0), share * y + (1 - share) * y.flip(0)
        with torch.autocast(device.type, torch.bfloat16, enabled=fast):
            answer = student(x, settings.dropout)
        loss = distance(answer.float(), y, mean, settings)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            for name, value in student.state_dict().items():
                average[name].lerp_(value, 0.01)


def shares(lesson: Lesson, balance: float) -> NDArray[np.float64]:
    """(n,) how likely each photo is drawn, less where the teacher sees many of its first class."""
    first = np.argmax(lesson.scores + lesson.mean, axis=1)
    weights = np.bincount(first)[first] ** -balance
    return np.asarray(weights / weights.sum(), np.float64)


def distance(answer: Tensor, target: Tensor, mean: Tensor, settings: StudentSettings) -> Tensor:
    """How far answers are from the teacher: squared error of scores, and KL of probabilities."""
    squares = nn.functional.mse_loss(answer, target)
    hot = settings.temperature
    log_p = ((answer + mean) / hot).log_softmax(dim=1)
    log_q = ((target + mean) / hot).log_softmax(dim=1)
    kl = nn.functional.kl_div(log_p, log_q, reduction="batchmean", log_target=True)
    return settings.squares * squares + kl * hot**2
