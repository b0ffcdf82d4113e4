"""`fc7 distill`: weights for torchvision's AlexNet or VGG-16, from unlabelled photos.

    photos -> views -> convolutional layers (given, frozen) -> averages of pool5 -> student
              views -> teacher -> scores of the 1000 ImageNet classes -> student learns them
    student -> fc6, fc7, fc8 -> one compact file (`retrieval.compact`)

Everything slow is kept in `shards/` beside the result, so that a run that was cut off goes on and
a second network reuses the teacher's scores. Beside the result lie its settings with figures
(`.json`) and the list of its photos (`.photos.tsv`).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from retrieval.compact import pack
from retrieval.errors import DistillError
from retrieval.extractor import choose_device
from retrieval.training.convlayers import conv_network, read_conv_layers
from retrieval.training.features import (
    PhotoRecord,
    Shard,
    Values,
    compute,
    conv_input,
    load,
    plan,
    pyramid,
    sample_views,
)
from retrieval.training.head import GEOMETRIES, classifier
from retrieval.training.runner import make_runner
from retrieval.training.student import Lesson, StudentSettings, linear_start, train
from retrieval.training.teacher import teacher_input, teacher_network

Progress = Callable[[str, int, int], None]
_SCALE_SAMPLE = 288  # views by which the 8-bit scales are set
_HELD_OUT = 50  # one photo in so many is kept out of training, to see what was learned


@dataclass(frozen=True, slots=True)
class DistillSettings:
    """What may be chosen; the defaults made the bundled AlexNet."""

    views: int = 5  # of each photo: as the user's photos are framed, then random crops
    most: int | None = None  # photos of each folder; None: all
    student: StudentSettings = field(default_factory=StudentSettings)

    @property
    def seed(self) -> int:
        return self.student.seed


@dataclass(frozen=True, slots=True)
class DistillReport:
    """What came out."""

    network: str
    weights: Path
    bytes: int
    photos: int
    skipped: int
    agreement: float  # share of held-out photos whose first class is the teacher's
    agreement5: float  # share of them where it is among the student's first five
    seconds: float


@dataclass(frozen=True, slots=True)
class NamedTeacher:
    """A teacher as `distill` uses it: (n, 224, 224, 3) views -> (n, classes) scores."""

    name: str
    sha256: str
    scores: Values


def distill(
    folders: Sequence[Path],
    out: Path,
    *,
    network: str,
    conv: Path,
    teacher: str | NamedTeacher = "efficientnet-lite2",
    settings: DistillSettings | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> DistillReport:
    """Learn fc6, fc7 and fc8 from the photos in `folders`, and write them with `conv` to `out`.

    out: a .safetensors file. conv: where the convolutional layers are read (`read_conv_layers`).
    folders: one that is named twice counts twice.
    Raises DistillError (nothing to learn from, teacher not installed), DeviceError.
    """
    started, settings = time.monotonic(), settings or DistillSettings()
    place = choose_device(device)[0].type
    out.parent.mkdir(parents=True, exist_ok=True)
    layers = read_conv_layers(conv, network)
    shards = plan(folders, views=settings.views, seed=settings.seed, most=settings.most)
    work = out.parent / "shards"
    named = _teacher(teacher, shards, work, place) if isinstance(teacher, str) else teacher
    first = plan(folders, views=1, seed=settings.seed, most=settings.most)
    told = compute(first, work, named.name, named.scores, progress)
    seen = compute(shards, work, network, _averages(network, layers, shards, work, place), progress)
    lesson, records = _lesson(seen, told)
    return _learn(
        lesson,
        records,
        layers,
        out,
        network=network,
        settings=settings,
        device=place,
        teacher=named,
        started=started,
        progress=progress,
    )


def _learn(
    lesson: Lesson,
    records: Sequence[PhotoRecord],
    layers: dict[str, Tensor],
    out: Path,
    *,
    network: str,
    settings: DistillSettings,
    device: str,
    teacher: NamedTeacher,
    started: float,
    progress: Progress | None,
) -> DistillReport:
    kept, held = _split(lesson, [r for r in records if not r.skipped])
    checkpoint = out.parent / "shards" / f"{network}-{_digest(lesson, settings)}.training.pt"
    student = linear_start(kept, settings.student)
    student = train(
        student, kept, settings.student, device=device, checkpoint=checkpoint, progress=progress
    )
    typical = torch.from_numpy(held.averages[:, 0]).float()
    head = classifier(network, student, _bias(kept), typical, GEOMETRIES[network])
    tensors, metadata = pack(layers | head, network=network, framing="crop")
    metadata["source"] = f"fc7 distill: {len(lesson.scores):,} photos, teacher {teacher.name}"
    aside = out.with_suffix(".part")
    save_file(tensors, aside, metadata)
    _sort_header(aside)
    aside.chmod(0o644)  # safetensors leaves it to its owner alone
    aside.replace(out)
    once, five = _agreement(student, held)
    skipped = sum(bool(r.skipped) for r in records)
    report = DistillReport(
        network,
        out,
        out.stat().st_size,
        len(records) - skipped,
        skipped,
        once,
        five,
        time.monotonic() - started,
    )
    _write_beside(out, report, records, layers, settings, teacher, device)
    return report


def _sort_header(file: Path) -> None:
    """Put a safetensors file's header in order, so that the same weights give the same bytes."""
    with file.open("r+b") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
        text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        stream.seek(8)
        stream.write(text.encode().ljust(size))


def _write_beside(
    out: Path,
    report: DistillReport,
    records: Sequence[PhotoRecord],
    layers: dict[str, Tensor],
    settings: DistillSettings,
    teacher: NamedTeacher,
    device: str,
) -> None:
    """The settings with figures as .json, the photos as .photos.tsv."""
    arrays = hashlib.sha256()
    for name in sorted(layers):
        arrays.update(np.ascontiguousarray(layers[name].numpy()).tobytes())
    lines = ["path\tbytes\tsha256\tskipped"]
    lines += [f"{r.path}\t{r.bytes}\t{r.sha256}\t{r.skipped}" for r in records]
    text = "\n".join(lines) + "\n"
    out.with_suffix(".photos.tsv").write_text(text, encoding="utf-8")
    about = asdict(report) | {
        "weights": out.name,
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        "conv_float32_sha256": arrays.hexdigest(),
        "teacher": teacher.name,
        "teacher_sha256": teacher.sha256,
        "photos_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "settings": asdict(settings),
        "geometry": asdict(GEOMETRIES[report.network]),
        "device": device,
        "torch": torch.__version__,
    }
    out.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _lesson(seen: Sequence[Path], told: Sequence[Path]) -> tuple[Lesson, list[PhotoRecord]]:
    averages, records = load(seen)
    scores, others = load(told)
    if [r.sha256 for r in records] != [r.sha256 for r in others]:
        raise DistillError("photos changed while they were read; run distill again")
    flat = scores[:, 0].astype(np.float32)
    mean = flat.mean(axis=0)
    return Lesson(averages, (flat - mean).astype(np.float16), mean), records


def _split(lesson: Lesson, used: Sequence[PhotoRecord]) -> tuple[Lesson, Lesson]:
    """Keep some photos out of training, by their content: a photo named twice stays on its side."""
    held = np.array([int(record.sha256[:8], 16) % _HELD_OUT == 0 for record in used])
    if not held.any():  # a handful of photos: look back at what was learned from
        return lesson, lesson
    kept = Lesson(lesson.averages[~held], lesson.scores[~held], lesson.mean)
    return kept, Lesson(lesson.averages[held], lesson.scores[held], lesson.mean)


def _bias(lesson: Lesson) -> Tensor:
    """(classes,) what fc8 adds to the student's scores: as if no class were likelier than another.

    The photos learned from show some classes often and others never. So that photos to come are
    not taken for the frequent ones, the logarithm of how likely each class was is taken off.
    """
    likely = torch.zeros(len(lesson.mean))
    mean = torch.from_numpy(lesson.mean)
    for i in range(0, len(lesson.scores), 4096):
        scores = torch.from_numpy(lesson.scores[i : i + 4096]).float() + mean
        likely += scores.softmax(dim=1).sum(dim=0)
    return mean - (likely / len(lesson.scores)).log()


@torch.no_grad()
def _agreement(student: torch.nn.Module, held: Lesson) -> tuple[float, float]:
    """How often the teacher's first class is the student's first, and among its first five."""
    mean = torch.from_numpy(held.mean)
    answer = student(torch.from_numpy(held.averages[:, 0]).float()) + mean
    target = (torch.from_numpy(held.scores).float() + mean).argmax(dim=1, keepdim=True)
    ranked = answer.topk(5, dim=1)[1] == target
    return ranked[:, 0].float().mean().item(), ranked.any(dim=1).float().mean().item()


def _digest(lesson: Lesson, settings: DistillSettings) -> str:
    """What a training checkpoint belongs to."""
    text = hashlib.sha256(json.dumps(asdict(settings)).encode())
    text.update(np.ascontiguousarray(lesson.scores).tobytes())
    text.update(repr(lesson.averages.shape).encode())
    return text.hexdigest()[:16]


def _teacher(name: str, shards: Sequence[Shard], work: Path, device: str) -> NamedTeacher:
    module, sha256 = teacher_network(name)
    sample = teacher_input(sample_views(shards, _SCALE_SAMPLE))
    run = make_runner(module, sample, device, work / f"{name}-int8.xml")
    return NamedTeacher(name, sha256, lambda views: run(teacher_input(views)))


def _averages(
    network: str, layers: dict[str, Tensor], shards: Sequence[Shard], work: Path, device: str
) -> Values:
    sample = conv_input(sample_views(shards, _SCALE_SAMPLE))
    module = conv_network(network, layers)
    run = make_runner(module, sample, device, work / f"{network}-int8.xml")

    def averages(views: NDArray[np.uint8]) -> NDArray[np.float32]:
        pool5 = torch.from_numpy(run(conv_input(views)))
        return np.asarray(pyramid(pool5).numpy(), np.float32)

    return averages
