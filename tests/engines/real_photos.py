"""Many real photos on real servers: a library on Milvus and PostgreSQL beside one in a folder.

    python tests/engines/namespace.py python tests/engines/real_photos.py SHARDS

SHARDS: what `fc7 index FOLDER --engine ray --shards SHARDS` made of the photos; they stay as they
are. Both libraries are loaded from them, asked the same, changed alike and asked again, also after
both servers were started anew. Prints what was compared; ends with an AssertionError where they
differ.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from milvus_server import MilvusServer

HOUSE = Path(__file__).parent.parent.parent
sys.path[:0] = [str(HOUSE), str(HOUSE / "tests")]  # this checkout, whatever is installed

from postgres_server import PASSWORD, running_postgres  # noqa: E402

from indexer import Library, open_library  # noqa: E402
from indexer.filters import NO_FILTERS, Filters  # noqa: E402
from indexer.finder import Answer  # noqa: E402
from retrieval.extractor import Extractor  # noqa: E402

QUESTIONS = 100
NEAR = 1e-4  # distances that differ by less may come in either order
T = TypeVar("T")


def main() -> None:
    shards = sys.argv[1]
    os.environ["PGPASSWORD"] = PASSWORD
    extractor = Extractor(device="cpu")
    with tempfile.TemporaryDirectory(prefix="fc7") as name, running_postgres() as postgres:
        scratch = Path(name)
        with MilvusServer(scratch / "milvus") as milvus:
            address = f"milvus://127.0.0.1:{milvus.port}/photos?shards=2"
            with (
                open_library(scratch / "local", extractor=extractor) as local,
                open_library(
                    scratch / "far",
                    extractor=extractor,
                    catalog=postgres.new_database(),
                    store=address,
                ) as far,
            ):
                for library, where in ((local, "in a folder"), (far, "on servers")):
                    report = took(f"loaded {where}", lambda one=library: one.load(shards))
                    print(f"  {report.added:,} photos, {report.skipped} skipped")
                assert local.count() == far.count()
                compare(local, far)
                change(local, far, scratch / "pictures")
                compare(local, far)
                print(f"Milvus holds {milvus.resident / 1e9:.1f} GB")
            took("Milvus started anew", milvus.restart)
            postgres.stop("immediate")
            took("PostgreSQL started anew", postgres.start)
            with (
                open_library(scratch / "local", extractor=extractor) as local,
                open_library(scratch / "far", extractor=extractor) as far,
            ):
                took("first answer after that", lambda: far.answer(some(far, 1)[0], 1))
                compare(local, far)


def took(what: str, work: Callable[[], T]) -> T:
    began = time.monotonic()
    result = work()
    print(f"{what}: {time.monotonic() - began:.1f} s", flush=True)
    return result


def some(library: Library, count: int) -> list[Path]:
    every = sorted(photo.path for photo in library.photos(limit=1_000_000))
    chosen = np.random.default_rng(0).choice(len(every), count, replace=False)
    return [every[at] for at in chosen]


def filters_of(library: Library) -> list[Filters]:
    """Some of each kind that these photos have."""
    facets = library.facets()
    folders = list(dict(facets.folders))
    folder, label = folders[len(folders) // 2], next(iter(dict(facets.labels)))
    return [
        NO_FILTERS,
        replace(NO_FILTERS, folder=folder),
        replace(NO_FILTERS, label=label),
        replace(NO_FILTERS, folder=folder, label=label),
        replace(NO_FILTERS, since="2000"),
    ]


def compare(local: Library, far: Library) -> None:
    """Ask both the same: exactly and by codes, with filters."""
    asked = some(local, QUESTIONS)
    for filters in filters_of(local):
        for mode in ("exact", "codes"):
            questions = asked if filters == NO_FILTERS else asked[:10]
            times, moved = np.zeros((2, len(questions))), 0
            for at, photo in enumerate(questions):
                answers = []
                for side, library in enumerate((local, far)):
                    began = time.monotonic()
                    answers.append(library.answer(photo, 10, mode=mode, filters=filters))
                    times[side, at] = time.monotonic() - began
                moved += check(*answers)
            here, there = np.median(times, axis=1)
            said = {
                name: Path(str(getattr(filters, name))).name
                for name in ("folder", "label", "since")
                if getattr(filters, name) is not None
            }
            print(
                f"  {mode:5} {said or 'no filter'}: {len(questions)} answers alike"
                f"{f', {moved} near-ties in another order' if moved else ''}; median "
                f"{here:.2f} s and {there:.2f} s",
                flush=True,
            )


def check(here: Answer, there: Answer) -> int:
    """Assert that two answers say the same; return how many hits came in another order."""
    assert there.effort == here.effort, (here.effort, there.effort)
    assert there.labels == here.labels
    ours, theirs = ([(h.distance, h.photo.path) for h in one.hits] for one in (here, there))
    assert np.allclose([d for d, _ in ours], [d for d, _ in theirs], atol=NEAR), (ours, theirs)
    last = ours[-1][0] if ours else 0.0
    differ = {path for _, path in ours} ^ {path for _, path in theirs}
    ends = [d for d, path in (*ours, *theirs) if path in differ]
    assert all(abs(d - last) < NEAR for d in ends), (ours, theirs)  # only at the end of the ten
    return sum(a != b for (_, a), (_, b) in zip(ours, theirs, strict=True))


def change(local: Library, far: Library, pictures: Path) -> None:
    """Change both alike: photos come, go, move, become others; those of a large folder leave."""
    shutil.copytree(HOUSE / "data" / "gallery", pictures)
    for library in (local, far):
        library.index([pictures])
    every = sorted(pictures.rglob("*.jpg"))
    for photo in every[:20]:
        photo.unlink()
    for photo in every[20:40]:
        photo.rename(photo.with_name(f"moved-{photo.name}"))
    for photo, other in zip(every[40:60], every[60:80], strict=True):
        shutil.copy2(other, photo)
    for library in (local, far):
        report = library.index([pictures])
        assert (report.removed, report.moved, report.updated) == (20, 20, 20), report
    gone = next(
        folder for folder, photos in dict(local.facets().folders).items() if 50 < photos < 2000
    )
    for library in (local, far):
        known = [photo for photo in library.photos(limit=1_000_000) if gone in photo.path.parents]
        with library._catalog.write() as writer:  # as a run does that finds the files gone
            writer.remove_photos([str(photo.path) for photo in known])
        library._thumbnails.remove(library._vectors.drop_hidden(library._catalog))
    print(
        f"{len(every)} photos came; 20 of them left, 20 moved, 20 became others; {len(known):,} of "
        "another folder left",
        flush=True,
    )


if __name__ == "__main__":
    main()
