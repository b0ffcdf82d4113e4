"""Libraries, weights and backups from elsewhere: mutated by the thousand, and made to deceive."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from indexer.backup import back_up
from retrieval.codes import Coder, write_coder
from retrieval.search import write_codes, write_rows
from torture import hostile
from torture.backups import small_library
from torture.mutants import troubles
from torture.table import Row, times

WHOLE = {  # mutants in a whole run
    "rows": 20_000,
    "codes": 20_000,
    "coder": 5000,
    "weights": 2000,
    "run": 5000,
    "engines": 5000,
    "backup": 5000,
}
NAMES = {
    "rows": "descriptors (FAISS files), mutated",
    "codes": "codes (FAISS files), mutated",
    "coder": "coders (safetensors), mutated",
    "weights": "weights (safetensors, torch files), mutated",
    "run": "what a run tells of itself (JSON), mutated",
    "engines": "addresses of servers (JSON), mutated",
    "backup": "backups, mutated",
}


def rows(share: float) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="elsewhere-") as folder:
        place = Path(folder)
        yield trapped(place / "traps", share)
        for kind, most in WHOLE.items():
            yield mutated(kind, place / kind, times(most, share))


def trapped(place: Path, share: float) -> Row:
    """All that people do with libraries that are made to deceive (or with a share of them)."""
    library = small_library(place / "small")
    traps = list(hostile.TRAPS)[:: max(1, round(1 / share))]
    found = []
    for number, trap in enumerate(traps):
        found += hostile.troubles_of(trap, place / str(number), library)
    return Row("elsewhere", "libraries made to deceive: nothing outside is read or changed",
               len(traps), len(found), "; ".join(found[:3]))  # fmt: skip


def mutated(kind: str, place: Path, count: int) -> Row:
    """Read so many mutants: none may crash, hang, or take memory; each costs a line at most."""
    place.mkdir(parents=True)
    MAKERS[kind](place)
    found = troubles(kind, place, count)
    return Row("elsewhere", f"{NAMES[kind]}: read, or one line", count, len(found),
               "; ".join(found[:3]))  # fmt: skip


# --- what is mutated


def _rows(place: Path) -> None:
    """Ours, and other kinds of index, which faiss would read."""
    import faiss

    drawn = np.random.default_rng(0).random((20, 16)).astype(np.float32)
    for count in (1, 3, 20):
        write_rows(place / f"{count}.faiss", np.arange(count) + 5, drawn[:count])
    for name in ("Flat", "SQfp16", "PCA8,Flat", "HNSW8", "IVF2,Flat", "IDMap2,SQ8", "LSH"):
        index = faiss.index_factory(16, name)
        index.train(drawn)
        if "IDMap" in name:
            index.add_with_ids(drawn, np.arange(20))
        else:
            index.add(drawn)
        faiss.write_index(index, str(place / f"other {name}.faiss"))


def _codes(place: Path) -> None:
    import faiss

    drawn = np.random.default_rng(0).integers(0, 256, (20, 4), np.uint8)
    for count in (1, 20):
        write_codes(place / f"{count}.codes", drawn[:count])
    for name in ("BHash4", "BIVF2", "BHNSW4"):
        index = faiss.index_binary_factory(32, name)
        index.train(drawn)
        index.add(drawn)
        faiss.write_index_binary(index, str(place / f"other {name}.codes"))


def _coder(place: Path) -> None:
    rng = np.random.default_rng(0)
    for hidden in (0, 8):
        sizes = {"mean": (16,), "linear": (32, 16), "bias": (32,), "hidden": (hidden, 16),
                 "hidden_bias": (hidden,), "correction": (32, hidden)}  # fmt: skip
        arrays = {name: rng.random(size).astype(np.float32) for name, size in sizes.items()}
        write_coder(place / f"{hidden}.safetensors", Coder(**arrays), {"bits": "32"})


def _weights(place: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from retrieval.compact import Block, Matrix, pack
    from retrieval.networks import build

    network = "alexnet-cifar"
    shapes = {name: one.shape for name, one in build(network, 4).state_dict().items()}
    light = {name: torch.tensor(0.5).expand(shape) for name, shape in shapes.items()}
    for number in range(4):  # small ones, so that most mutants are of these
        torch.save(light, place / f"light {number}.pth")
    torch.save(light, place / "old.pth", _use_new_zipfile_serialization=False)
    whole = {name: torch.zeros(shape, dtype=torch.float16) for name, shape in shapes.items()}
    about = {"network": network, "classes": json.dumps(["a", "b", "c", "d"]), "top1": "50"}
    save_file(whole, place / "whole.safetensors", about)
    compact = dict(whole)
    for name, shape in shapes.items():
        if len(shape) == 2:
            factors = (torch.ones(shape[0], 2), torch.ones(2, shape[1]))
            compact[name] = Matrix(tuple(shape), (Block(0, 0, factors),))
    tensors, words = pack(compact, network=network, framing="squash")
    save_file(tensors, place / "compact.safetensors", {**words, "classes": about["classes"]})


def _run(place: Path) -> None:
    from indexer.work import Journal

    journal = Journal(place, "index")
    journal.tell("photos", 3, 7)
    journal.conclude(added=3)
    (place / "run.json").rename(place / "going.json")
    journal.finish("failed", "a line")
    (place / "run.json").rename(place / "ended.json")


def _engines(place: Path) -> None:
    from indexer.engines.addresses import Addresses, write_addresses

    write_addresses(place, Addresses("postgresql+psycopg://host/x", "milvus://host:1/x", "0" * 32))
    (place / "engines.json").rename(place / "both.json")


def _backup(place: Path) -> None:
    library = small_library(place / "small")
    back_up(library, place / "whole.fc7")


MAKERS: dict[str, Callable[[Path], None]] = {
    "rows": _rows,
    "codes": _codes,
    "coder": _coder,
    "weights": _weights,
    "run": _run,
    "engines": _engines,
    "backup": _backup,
}
