"""Kill query nodes under a library: does it ever answer otherwise than one in a folder?

    python tests/engines/milvus_cluster.py --fetch      # once, with a network
    python tests/engines/namespace.py python tests/engines/milvus_library_faults.py --faults 10

The sample photos are indexed twice, into a folder and into a Milvus cluster of two replicas. While
nodes die and come back, every photo is asked for again and again, exactly and by codes.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from milvus_cluster import MilvusCluster
from milvus_faults import HOUSE, SHARDS, Tally, torment

sys.path.append(str(HOUSE))

from indexer import Library, open_library
from retrieval.errors import LibraryError
from retrieval.extractor import Extractor

GALLERY = HOUSE / "data" / "gallery"
Told = list[tuple[Path, float]]


def told(library: Library, photo: Path, mode: str) -> Told:
    hits = library.answer(photo, 10, mode=mode).hits
    return [(hit.photo.path, round(hit.distance, 4)) for hit in hits]


def ask(
    library: Library, right: dict[tuple[Path, str], Told], tally: Tally, stop: threading.Event
) -> None:
    """Ask for all photos in turn, until stopped."""
    while not stop.is_set():
        for (photo, mode), expected in right.items():
            if stop.is_set():
                return
            began = time.monotonic()
            try:
                same = told(library, photo, mode) == expected
            except LibraryError as error:
                tally.add("refused", f"refused: {str(error)[:150]}")
                continue
            slow = ["took over 5 s"] if time.monotonic() - began > 5 else []
            tally.add("answers", "as the local one" if same else "WRONG", *slow, good=same)


def filled(library: Library, client: Any) -> None:
    """Index the gallery, in parts that Milvus is told to write down: more than one segment."""
    for folder in sorted(one for one in GALLERY.iterdir() if one.is_dir()):
        library.index([folder])
        for name in client.list_collections():
            client.flush(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=10)
    parser.add_argument("--pause", action="store_true", help="stop nodes for a while")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, help="append the report to this file")
    arguments = parser.parse_args()
    extractor = Extractor(device="cpu")
    with tempfile.TemporaryDirectory() as name, MilvusCluster(Path(name)) as cluster:
        from pymilvus import MilvusClient

        client, folder = MilvusClient(cluster.uri), Path(name)
        logging.disable(logging.CRITICAL)  # pymilvus logs each error with its traceback
        address = cluster.uri.replace("http", "milvus") + f"/photos?replicas=2&shards={SHARDS}"
        with (
            open_library(folder / "local", extractor=extractor) as local,
            open_library(folder / "far", extractor=extractor, store=address) as far,
        ):
            local.index([GALLERY])
            filled(far, client)
            photos = [photo.path for photo in local.photos(limit=10_000)]
            right = {
                (photo, mode): told(local, photo, mode)
                for photo in photos
                for mode in ("exact", "codes")
            }
            tally, stop = Tally(), threading.Event()
            threads = [
                threading.Thread(target=ask, args=(far, right, tally, stop), daemon=True)
                for _ in range(2)
            ]
            for thread in threads:
                thread.start()
            names = [one for one in client.list_collections() if one.startswith("photos")]
            rng = np.random.default_rng(arguments.seed)
            torment(cluster, client, names, arguments.faults, arguments.pause, rng, tally)
            stop.set()
            for thread in threads:
                thread.join()
    fault = "pauses" if arguments.pause else "kills"
    lines = [f"## a library of {len(photos)} photos, {arguments.faults} {fault}, two replicas", ""]
    lines += [f"  {count:8,}  {kind}" for kind, count in sorted(tally.counts.items())]
    lines += ["", f"longest time without an answer: {tally.outage:.1f} s", ""]
    text = "\n".join(lines)
    print(text)
    if arguments.log:
        with arguments.log.open("a") as log:
            log.write(text + "\n")


if __name__ == "__main__":
    main()
