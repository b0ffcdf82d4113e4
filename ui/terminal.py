"""What commands print: answers on stdout, progress on stderr, every name on one line."""

from __future__ import annotations

import json
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from indexer.bench.indexing import IndexingFigures
    from indexer.bench.search import SearchRow
    from indexer.bench.start import StartFigures
    from indexer.catalog import Skip
    from indexer.finder import Effort, Hit, Labelled
    from indexer.pipeline import Pace
    from indexer.run import IndexReport
    from indexer.status import Status
    from retrieval.album_evaluation import AlbumFigures
    from retrieval.evaluation import Comparison, LearnedOn, RetrievalFigures
    from retrieval.map_evaluation import MapFigures
    from retrieval.training.claims import Claims
    from ui.looking import BrowserFigures

_SHOWN_SKIPS = 20  # paths listed by `fc7 index`; `fc7 status` lists them all


def print_report(report: IndexReport, library: Path, *, as_json: bool) -> None:
    counts = report.counts()
    reasons = Counter(kind_of(skip) for skip in report.skipped)
    missing = [str(folder) for folder in report.missing_folders]
    if as_json:
        print(json.dumps(counts | {"skipped_reasons": reasons, "missing_folders": missing}))
        return
    for folder in missing:
        print(
            f"fc7: {shown(folder)} is missing or empty: its photos are kept (--prune forgets them)",
            file=sys.stderr,
        )
    print(", ".join(f"{count:,} {name}" for name, count in counts.items()))
    print_reasons(reasons)
    print_skips(report.skipped, _SHOWN_SKIPS)
    print(f"library: {shown(library)}")


def print_reasons(reasons: Mapping[str, int]) -> None:
    for reason, count in Counter(reasons).most_common():
        print(f"  skipped {count:,}: {shown(reason)}")


def print_skips(skipped: Sequence[Skip], most: int) -> None:
    for skip in skipped[:most]:
        print(f"    {shown(skip.path)}: {skip.reason}")
    if len(skipped) > most:
        print(f"    ... and {len(skipped) - most:,} more: fc7 status lists them all")


def print_codes_status(status: Status) -> None:
    """How photos are found here, and what would make that better."""
    codes = status.codes
    if codes is None:
        print("search     exact; no codes yet")
        return
    whose = "photos of this library" if codes.own else "other photos: they came with fc7"
    print(f"codes      {codes.bits} bits, learned from {codes.learned_from:,} {whose}")
    recall = "not measured yet"
    if codes.recall is not None:
        recall = f"{codes.recall:.1%} of the ten nearest, measured on {codes.measured_on:,} photos"
    print(
        f"search     exact up to {status.exact_up_to:,} photos, by codes beyond: the nearest "
        f"{codes.shortlist:,} compared exactly ({recall})"
    )
    for line in status.advice:
        print(f"better     {line}")


def print_hits(hits: Sequence[Hit], *, as_json: bool = False) -> None:
    if as_json:
        _print_json(hits)
        return
    print(f"{'rank':>4}  {'distance':>8}  path")
    for hit in hits:
        print(f"{hit.rank:4}  {hit.distance:8.4f}  {shown(hit.photo.path)}")


def print_evaluation(figures: RetrievalFigures, data: Path) -> None:
    exact = figures.exact
    print(f"{figures.network}, {figures.weights} weights, {shown(data)}")
    own = "each left out of its answer (not in N-S)"
    if figures.parts:
        own = "parts of photos that stay in the gallery"
    print(
        f"{figures.photos:,} photos of {figures.labels:,} labels; {figures.queries:,} queries, "
        f"{own}; unit FC7, Euclidean distance"
    )
    if figures.parts:
        print("AP is uninterpolated; the published compute_ap takes the trapezoid rule: a bit less")
    print(f"mAP over all relevant  {exact.mean_average_precision:.4f}")
    print(f"mAP@1000               {exact.mean_average_precision_at_1000:.4f}")
    print(f"precision@10           {exact.precision_at_10:.4f}")
    print(f"recall@10              {exact.recall_at_10:.4f}")
    print(f"N-S score (of 4)       {exact.n_s:.4f}")
    if figures.skipped:
        print(f"skipped                {len(figures.skipped):,} (--json lists them)")
    if figures.learned_on:
        _print_codes(figures, figures.learned_on)


def _print_codes(figures: RetrievalFigures, learned_on: LearnedOn) -> None:
    from retrieval.codes import SHORTLIST

    print()
    if learned_on.folder is None:
        print("codes learned on the evaluated photos themselves, which flatters them: --learn-from")
        print("takes a folder of others")
    else:
        print(f"codes learned on {learned_on.photos:,} photos of {shown(learned_on.folder)}")
    print("mAP and precision by Hamming distance alone, the mean over orders of equal distance;")
    print("recall@10 of exact FC7: which share of its first ten a shortlist of 100 or 400 photos")
    print(f"holds, and which is answered when one of {SHORTLIST} is re-ranked")
    print()
    lists = (100, 400)
    heads = "".join(f"{f'in {length}':>8}" for length in lists)
    print(
        f"{'method':18} bits     mAP  mAP@1000  precision@10{heads}  re-ranked     learned  bytes"
    )
    for row in (row.summary() for row in figures.codes):
        recalls: Any = row["recall@10"]
        within = "".join(f"{recalls[str(length)]:8.4f}" for length in lists)
        print(
            f"{row['method']:18} {row['bits']:4}  {row['mAP']:.4f}    {row['mAP@1000']:.4f}"
            f"        {row['precision@10']:.4f}{within}     {row['rerank_recall@10']:.4f}"
            f"  {row['seconds_to_learn']:8.1f} s  {row['bytes_per_photo']:5}"
        )


def print_bench_search_head(photos: int, network: str, folder: Path) -> None:
    print(f"libraries of up to {photos:,} descriptors, drawn from {network}'s of {shown(folder)}")
    print("a query in the middle of 50 (p50), ten answers; cold: descriptors read from the disk;")
    print("memory: the peak of a process that asks by codes, pages of mapped files included")
    print()
    print(
        f"{'photos':>10}  {'exact ms':>8}  {'codes ms':>8}  {'faster':>6}  {'cold ms':>7}"
        f"  recall@10  shortlist  {'opening ms':>10}  memory MB"
    )


def print_bench_search_row(row: SearchRow) -> None:
    print(
        f"{row.photos:10,}  {row.exact_ms:8.1f}  {row.codes_ms:8.2f}  "
        f"{row.exact_ms / row.codes_ms:5.1f}x  {row.codes_cold_ms:7.1f}  {row.recall_at_10:9.4f}"
        f"  {row.shortlist:9,}  {row.opening_ms:10,.0f}  {row.codes_bytes / 1e6:9,.0f}",
        flush=True,
    )


def print_labelled(found: Sequence[Labelled], *, as_json: bool) -> None:
    if as_json:
        _print_json(found)
        return
    print(f"{'rank':>4}  {'chance':>8}  path")
    for one in found:
        print(f"{one.rank:4}  {one.probability:8.1%}  {shown(one.photo.path)}  ({one.label})")


def print_effort(effort: Effort) -> None:
    """Say on stderr how an answer was found."""
    rows = f"{effort.compared:,} of {effort.total:,}" if effort.filtered else f"{effort.total:,}"
    if effort.mode == "exact":
        how = f"exact search: {rows} descriptors compared"
    else:
        how = (
            f"search by codes: {rows} codes of {effort.bits} bits compared, "
            f"then the descriptors of the nearest {effort.shortlist:,}"
        )
    print(f"fc7: {how}{'; the filters left out the rest' * effort.filtered}", file=sys.stderr)


def _print_json(found: Sequence[Hit | Labelled]) -> None:
    """An object an answer: rank, distance or label, and path, then all else known of the photo."""
    for one in found:
        fields = asdict(one)
        photo = fields.pop("photo")
        fields["path"] = str(photo.pop("path"))
        known = {name: value for name, value in photo.items() if value is not None}
        print(json.dumps(fields | known))


def shown(text: object) -> str:
    """The text on one line: what a terminal would act upon (newlines, escapes) is spelled out."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
        for c in str(text)
    )


def kind_of(skip: Skip) -> str:
    return skip.reason.split(" (")[0]


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


class Progress:
    """A bar on stderr with rate and time left; silent when stderr is no terminal."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._bar: Any = None

    def __enter__(self) -> Callable[[int, int], None]:
        return self.tell

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """What is told after it begins another bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def tell(self, done: int, total: int) -> None:
        if self._bar is None:
            from tqdm import tqdm

            size = self._unit == "bytes"
            self._bar = tqdm(
                total=total,
                unit="B" if size else f" {self._unit}",
                unit_scale=size,
                disable=None,  # off unless stderr is a terminal
                file=sys.stderr,
                dynamic_ncols=True,
            )
        self._bar.update(done - self._bar.n)


def print_comparison(rows: Sequence[Comparison], *, as_json: bool) -> None:
    from retrieval.scores import SHORTLISTS

    lengths = [str(length) for length in SHORTLISTS]
    if as_json:
        for row in rows:
            kept = dict(zip(lengths, row.recalls, strict=True))
            print(json.dumps(asdict(row) | {"recalls": kept, "bytes_per_photo": row.bits // 8}))
        return
    print("recall@10: how many of the ten nearest by FC7 are among the first ... by code")
    columns = " ".join(f"{length:>6}" for length in lengths)
    print(f"{'method':19} bits bytes seconds  {columns}")
    for row in rows:
        recalls = " ".join(f"{value:6.3f}" for value in row.recalls)
        learned = f"{row.seconds_to_learn:7.0f}" if row.seconds_to_learn else "      -"
        print(f"{row.method:19} {row.bits:4} {row.bits // 8:5} {learned}  {recalls}")


class Stages:
    """A bar for each stage of a longer work, in the order in which they begin."""

    def __init__(self) -> None:
        self._bars: dict[str, Progress] = {}

    def __enter__(self) -> Callable[[str, int, int], None]:
        return self.tell

    def __exit__(self, *_: object) -> None:
        for bar in self._bars.values():
            bar.close()

    def tell(self, stage: str, done: int, total: int) -> None:
        self._bars.setdefault(stage, Progress(stage)).tell(done, total)


def print_pace(pace: Pace | None) -> None:
    """Say on stderr what an indexing run's time went to, and what binds."""
    if pace is None:
        print("fc7: no file had to be read", file=sys.stderr)
        return
    stages = {"decoding": pace.reading, "the network": pace.describing, "storing": pace.storing}
    rates = ", ".join(f"{name} {pace.files / max(s, 1e-9):,.0f}" for name, s in stages.items())
    print(f"fc7: {pace.how}", file=sys.stderr)
    print(f"fc7: files/s: {rates}; {max(stages, key=lambda n: stages[n])} binds", file=sys.stderr)


def print_indexing(figures: IndexingFigures, folder: Path, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures.summary()))
        return
    f = figures
    print(f"{f.photos:,} photos of {shown(folder)}, means {f.mean_megapixels:.1f} megapixels and "
          f"{f.mean_megabytes:.2f} MB; {f.left_out:,} left out")  # fmt: skip
    print(f"{f.how}; {f.cores} cores")
    print(f"photos/s, medians of {f.rounds} rounds, loading the network left out:")
    meanings = {
        "plain loop": f"PIL and torchvision, DataLoader of {f.cores} workers, float32, "
        f"batches of {f.batch}, FC7 not stored",
        "fc7": "fc7 index into a new library",
        "decoding only": "reading, decoding and framing",
        "network only": "pixels to descriptors",
        "limit": "the slower of the two, which run at once"
        if f.device == "cuda"
        else "1 / (1 / decoding + 1 / network), which share the cores",
    }
    for (name, rate), meaning in zip(f.rates().items(), meanings.values(), strict=True):
        print(f"  {name:14} {rate:8,.1f}  {meaning}")
    print(f"fc7 is {f.ratio:.2f} times as fast as the plain loop, and reaches {f.efficiency:.2f} "
          f"of the limit; {f.binds} binds")  # fmt: skip
    print(f"descriptors differ by {f.distance:.4f} from the plain loop's, and by {f.reduced:.4f} "
          "from fc7's own of photos decoded whole (Euclidean, unit rows, medians)")  # fmt: skip
    if f.peak_megabytes is not None:
        print(f"peak memory of indexing {f.peak_megabytes:,.0f} MB")


def print_start(figures: StartFigures, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(figures)))
        return
    print(f"seconds, medians of {figures.rounds} fresh processes; {figures.photos:,} photos")
    print(f"  {figures.help:6.2f}  fc7 --help")
    print(f"  {figures.opening:6.2f}  opening the library, and its search")
    print(f"  {figures.known:6.2f}  fc7 search with a photo of the library")
    print(f"  {figures.new:6.2f}  fc7 search with a photo that is new to it")


def print_looks(figures: BrowserFigures, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures.summary()))
        return
    print(f"{figures.photos:,} drawn photos in {figures.albums:,} albums, {figures.network}; "
          "a Chromium of 1280 x 800, until what is in view is drawn")  # fmt: skip
    print(f"{'median s':>8}  {'slowest':>7}  {'times':>5}")
    for look in figures.looks:
        if look.median is None:
            print(f"{'-':>8}  {'-':>7}  {0:5}  {look.what}: no picture came")
        else:
            slowest = max(look.seconds)
            print(f"{look.median:8.2f}  {slowest:7.2f}  {len(look.seconds):5}  {look.what}")


def print_album_figures(figures: AlbumFigures, folder: Path) -> None:
    f = figures
    print(f"{f.photos:,} photos of {shown(folder)}, {f.labels:,} labels; {f.network}, {f.weights} "
          f"weights; {len(f.skipped):,} skipped")  # fmt: skip
    print(f"k-means is told that there are {f.labels:,} groups; density is not (granularity "
          f"{f.granularity:g})")  # fmt: skip
    print(f"{'':11} {'':8} groups    NMI    ARI purity left out")
    for name, ways in f.by.items():
        for way, g in ways.items():
            print(f"{name:11} {way:8} {g.groups:6,} {g.nmi:6.3f} {g.ari:6.3f} {g.purity:6.3f} "
                  f"{g.left_out:8.3f}")  # fmt: skip
    print("NMI and ARI over all photos, those left out as one more group; purity of the others")


def print_map_figures(figures: MapFigures, folder: Path) -> None:
    f = figures
    print(f"{f.photos:,} photos of {shown(folder)}, {f.labels:,} labels; {f.network}, {f.weights} "
          f"weights; {len(f.skipped):,} skipped")  # fmt: skip
    print(f"{'':22} own label of the ten nearest  trustworthiness")
    for name, found in f.by.items():
        print(f"{name:22} {found.label_accuracy:28.3f}  {found.trustworthiness:15.3f}")


def print_claims(claims: Claims, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(claims)))
        return
    print(f"{claims.photos:,} photos, {claims.seeds} seeds; mean, lowest to highest")
    print("steps of 128 photos to 25 % training error, each at its fastest rate, unregularised:")
    for one in claims.speeds:
        steps, low, high = statistics.fmean(one.steps), min(one.steps), max(one.steps)
        print(f"  {one.name:24} {steps:8,.0f}  {low:,.0f} to {high:,.0f}  (rate {one.rate})")
    print(f"errors on other photos after {claims.epochs} epochs:")
    for error in claims.errors:
        mean, low, high = statistics.fmean(error.top1), min(error.top1), max(error.top1)
        print(f"  {error.name:24} {mean:8.4f}  {low:.4f} to {high:.4f}")
