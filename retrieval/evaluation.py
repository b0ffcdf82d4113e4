"""How well do descriptors, and codes made of them, find what belongs together?

Measured on photos with ground truth. All figures are means over the queries that have a relevant
photo; other photos (distractors) only stand in the way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retrieval.codes import BITS, Coder
from retrieval.errors import EvaluationError, ImageError
from retrieval.ground_truth import GroundTruth, Skip, files_below, read_ground_truth
from retrieval.reading import PhotoProgress, describe_files, describe_part
from retrieval.scores import (
    NEAREST,
    SHORTLISTS,
    Asked,
    CodeScores,
    RetrievalScores,
    rank_by_distance,
    score_codes,
    score_exact,
)

if TYPE_CHECKING:
    from retrieval.extractor import Extractor

Progress = Callable[[str, int, int], None]  # what ("photos", "coders"), done, in all

_ASKING = 300
_ROUNDING = 1e-4  # of a descriptor's numbers, between batches


@dataclass(frozen=True, slots=True)
class LearnedOn:
    """What coders were learned on."""

    folder: str | None  # None: the evaluated photos themselves
    photos: int
    skipped: int  # files that give no picture


@dataclass(frozen=True, slots=True)
class CodeFigures:
    """What codes of one method and length do."""

    method: str  # autoencoder, ITQ, PCA signs or random hyperplanes
    bits: int
    scores: CodeScores
    seconds_to_learn: float

    def summary(self) -> dict[str, object]:
        """The same, ready for JSON, the figures under their usual names."""
        return {
            "method": self.method,
            "bits": self.bits,
            "mAP": self.scores.mean_average_precision,
            "mAP@1000": self.scores.mean_average_precision_at_1000,
            "precision@10": self.scores.precision_at_10,
            "recall@10": dict(zip(map(str, SHORTLISTS), self.scores.recalls, strict=True)),
            "rerank_recall@10": self.scores.reranked_recall,
            "seconds_to_learn": self.seconds_to_learn,
            "bytes_per_photo": self.bits // 8,
        }


@dataclass(frozen=True, slots=True)
class RetrievalFigures:
    """What an evaluation found, and on what."""

    photos: int  # described and searched
    queries: int  # with a relevant photo in the gallery: the figures are means over them
    parts: int  # those of them that are a part of a photo, which stays in the gallery
    without_relevant: int  # those without
    labels: int  # groups of photos that belong together
    skipped: tuple[Skip, ...]
    network: str
    weights: str
    exact: RetrievalScores  # unit FC7, Euclidean distance, every photo compared
    learned_on: LearnedOn | None  # None: no codes were asked for
    codes: tuple[CodeFigures, ...]

    def summary(self) -> dict[str, object]:
        """The same, ready for JSON, the figures under their usual names."""
        return {
            "photos": self.photos,
            "queries": self.queries,
            "parts": self.parts,
            "without_relevant": self.without_relevant,
            "labels": self.labels,
            "skipped": [asdict(skip) for skip in self.skipped],
            "network": self.network,
            "weights": self.weights,
            "exact": {
                "mAP": self.exact.mean_average_precision,
                "mAP@1000": self.exact.mean_average_precision_at_1000,
                "precision@10": self.exact.precision_at_10,
                "recall@10": self.exact.recall_at_10,
                "n_s": self.exact.n_s,
            },
            "codes_learned_on": self.learned_on and asdict(self.learned_on),
            "codes": [row.summary() for row in self.codes],
        }


def evaluate_retrieval(
    folder: Path,
    labels: str | Path,
    extractor: Extractor,
    progress: Progress | None = None,
    *,
    bits: Sequence[int] = (),
    learn_from: Path | None = None,
) -> RetrievalFigures:
    """Describe photos and measure how well those that ask find what belongs to them.

    labels: as `read_ground_truth` takes them.
    bits: lengths of the codes to be measured, some of BITS; each by all four methods.
    learn_from: a folder of photos to learn the coders on, but for those of them that are evaluated;
    without it they are learned on the evaluated photos, which flatters them.

    Files that are missing or give no picture are skipped and listed. Memory: 16 KB a photo, those
    of `learn_from` included.
    Raises EvaluationError if the ground truth can't be read or gives no query, or codes can't be
    learned.
    """
    truth = read_ground_truth(folder, labels)
    paths = [folder / path for path in truth.paths]
    others = _others(paths, bits, learn_from)
    tell = progress or (lambda stage, done, total: None)
    described = _describe_truth(paths, truth, extractor, partial(tell, "photos"))
    asked = [query for query in described.asked if query.total]
    if not asked:
        raise EvaluationError(
            f"{folder} holds no two readable photos of one label: there is nothing to measure"
        )
    exact, nearest = score_exact(described.fc7, described.photos, asked)
    learned_on, codes = None, []
    if bits:
        sample, learned_on = described.fc7[: described.photos], LearnedOn(None, described.photos, 0)
        if learn_from is not None:
            sample, failed = _describe(others, extractor, partial(tell, "photos to learn from"))
            learned_on = LearnedOn(str(learn_from), len(sample), len(failed))
        for method, coder, seconds in _learn(sample, sorted({*bits}), extractor.device, tell):
            coded = coder.encode(described.fc7)
            scores = score_codes(coded, described.photos, asked, nearest)
            codes.append(CodeFigures(method, coder.bits, scores, seconds))
    return RetrievalFigures(
        photos=described.photos,
        queries=len(asked),
        parts=sum(query.row >= described.photos for query in asked),
        without_relevant=len(described.asked) - len(asked),
        labels=described.labels,
        skipped=(*truth.skipped, *described.skipped),
        network=extractor.network,
        weights=extractor.weights,
        exact=exact,
        learned_on=learned_on,
        codes=tuple(codes),
    )


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much of exact search codes of one method keep."""

    method: str
    bits: int
    recalls: tuple[float, ...]  # of the ten nearest by FC7, among the first SHORTLISTS by code
    seconds_to_learn: float


def compare_coders(
    fc7: NDArray[np.floating],
    bits: int,
    *,
    own: Coder | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    seed: int = 0,
) -> list[Comparison]:
    """Learn a coder of each method from descriptors (n, d), and see which neighbours they keep.

    own: a coder that is there already, to stand beside them as "in use".
    All of the descriptors are learned from and searched; 300 of them ask.
    Raises EvaluationError if they are too few for so many bits, or all the same.
    """
    rows = np.asarray(fc7, np.float32)
    rng = np.random.default_rng(seed)
    asking = np.sort(rng.choice(len(rows), min(_ASKING, len(rows)), replace=False))
    ranked = rank_by_distance(rows, len(rows), asking)
    nearest = [order[order != row][:NEAREST] for order, row in zip(ranked, asking, strict=True)]
    asked = [
        Asked(int(row), near, np.array([row])) for row, near in zip(asking, nearest, strict=True)
    ]
    coders = _learn(rows, [bits], device, progress or (lambda stage, done, total: None))
    found = [] if own is None else [("in use", own, 0.0)]
    return [
        Comparison(
            method,
            coder.bits,
            score_codes(coder.encode(rows), len(rows), asked, nearest).recalls,
            seconds,
        )
        for method, coder, seconds in (*found, *coders)
    ]


# Photos


@dataclass(frozen=True, slots=True, eq=False)
class _Described:
    """Ground truth, with descriptors in place of photos."""

    fc7: NDArray[np.float32]  # (r, d) first the photos, then the parts of them that ask
    photos: int
    labels: int
    asked: tuple[Asked, ...]
    skipped: tuple[Skip, ...]


def _describe_truth(
    paths: Sequence[Path], truth: GroundTruth, extractor: Extractor, progress: PhotoProgress
) -> _Described:
    """Describe photos and queries; what can't be read is skipped, as if it were not there."""
    fc7, unreadable = _describe(paths, extractor, progress)
    row = np.full(len(paths), -1)
    row[[index for index in range(len(paths)) if index not in unreadable]] = np.arange(len(fc7))
    skipped = [Skip(truth.paths[index].as_posix(), why) for index, why in unreadable.items()]
    groups = [_readable(row[group]) for group in truth.groups]
    asked: list[Asked] = []
    parts: list[NDArray[np.float32]] = []
    for query in truth.queries:
        left_out = _readable(row[np.array(query.junk, np.intp)])
        own = int(row[query.photo])
        if own < 0:
            continue
        if query.box is None:
            asked.append(Asked(own, groups[query.group], np.append(left_out, own)))
            continue
        try:
            part = describe_part(paths[query.photo], query.box, extractor)
        except ImageError as error:
            skipped.append(Skip(truth.paths[query.photo].as_posix(), error.reason))
            continue
        asked.append(Asked(len(fc7) + len(parts), groups[query.group], left_out))
        parts.append(part.fc7)
    labels = sum(group.size > 0 for group in groups)
    rows = np.concatenate([fc7, *parts]) if parts else fc7
    return _Described(rows, len(fc7), labels, tuple(asked), tuple(skipped))


def _readable(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    return rows[rows >= 0]


def _describe(
    paths: Sequence[Path], extractor: Extractor, progress: PhotoProgress
) -> tuple[NDArray[np.float32], dict[int, str]]:
    """Descriptors (n, d) of the files that give a picture, and why each of the others doesn't."""
    fc7 = np.empty((len(paths), extractor.fc7_size), np.float32)
    unreadable: dict[int, str] = {}
    for index, described in describe_files(paths, extractor, progress=progress):
        if isinstance(described, ImageError):
            unreadable[index] = described.reason
        else:
            fc7[index - len(unreadable)] = described.fc7[0]
    return fc7[: len(paths) - len(unreadable)], unreadable


# Coders


def _others(evaluated: Sequence[Path], bits: Sequence[int], learn_from: Path | None) -> list[Path]:
    """The files to learn coders from, without those that are evaluated."""
    if not {*bits} <= {*BITS}:
        raise EvaluationError(
            f"codes have {', '.join(map(str, BITS))} bits, not {', '.join(map(str, bits))}"
        )
    if learn_from is None:
        return []
    if not bits:
        raise EvaluationError("photos to learn from are given, but no lengths of codes: add --bits")
    if not learn_from.is_dir():
        raise EvaluationError(f"no folder {learn_from}: give a folder of photos to learn from")
    seen = {path.resolve() for path in evaluated}
    files = (learn_from / path for path in files_below(learn_from))
    return [path for path in files if path.resolve() not in seen]


def _learn(
    sample: NDArray[np.float32], bits: Sequence[int], device: str, progress: Progress
) -> Iterator[tuple[str, Coder, float]]:
    """Learn a coder of each method and length: its method, itself, and the seconds it took."""
    if len(sample) <= max(bits):
        raise EvaluationError(
            f"{len(sample):,} photos are too few to learn {max(bits)} bits: --learn-from takes a "
            "folder of more"
        )
    if np.ptp(sample, axis=0).max() < _ROUNDING:
        raise EvaluationError("codes can't be learned from photos that are all the same picture")
    from retrieval.training.coders import (
        AutoencoderSettings,
        learn_autoencoder,
        learn_itq,
        learn_pca_signs,
        random_hyperplanes,
    )

    autoencoder = partial(learn_autoencoder, settings=AutoencoderSettings(), device=device)
    methods: dict[str, Callable[[NDArray[np.float32], int], Coder]] = {
        "autoencoder": autoencoder,
        "ITQ": learn_itq,
        "PCA signs": learn_pca_signs,
        "random hyperplanes": random_hyperplanes,
    }
    for done, (count, method) in enumerate(product(bits, methods)):
        progress("coders", done, len(bits) * len(methods))
        start = time.perf_counter()
        coder = methods[method](sample, count)
        yield method, coder, time.perf_counter() - start
    progress("coders", len(bits) * len(methods), len(bits) * len(methods))
