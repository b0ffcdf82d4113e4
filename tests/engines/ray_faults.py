"""Kill an actor, a node and the driver of runs on two Ray nodes; each photo must be there once.

    python tests/engines/namespace.py python tests/engines/ray_faults.py FOLDER [COPIES]

FOLDER: photos. COPIES (default 4): how many times they are put into the folder that is indexed,
each with a few bytes at its end that make it another content. Prints what happened; fails with an
AssertionError where a run differs from `fc7 index` on this machine, row by row.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HOUSE = Path(__file__).parent.parent.parent
sys.path.insert(0, str(HOUSE))  # this checkout, whatever is installed

from comparing import check_exactly_once, check_same  # noqa: E402
from ray_nodes import Nodes, actors, wait_for, words_of  # noqa: E402

from indexer import open_library  # noqa: E402

PER_SHARD = 8
Fault = Callable[[Nodes, Path, Path], str]


def main() -> None:
    photos, copies = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 4
    with tempfile.TemporaryDirectory(prefix="fc7") as name:
        scratch = Path(name)
        folder = scratch / "photos"
        files = make_copies(photos, folder, copies)
        with open_library(scratch / "local") as library:
            report = library.index([folder])
        print(f"{files} files: {report.added} photos, {len(report.skipped)} skipped; "
              f"shards of {PER_SHARD}; two nodes of 2 CPUs")  # fmt: skip
        for what, fault in FAULTS.items():
            run(what, fault, scratch, folder)


def make_copies(photos: Path, folder: Path, copies: int) -> int:
    """Fill a folder with photos, broken ones and exact copies; return how many files it has."""
    sources = sorted(file for file in photos.rglob("*") if file.is_file())
    for copy in range(copies):
        for number, source in enumerate(sources):
            target = folder / f"copy{copy}" / f"{number:04}{source.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            data = source.read_bytes()
            if number % 20 == 7:  # a broken file: cut off
                target.write_bytes(data[: len(data) // 2])
            elif number % 20 == 13:  # the same content in every copy
                target.write_bytes(data)
            else:
                target.write_bytes(data + b"copy %d" % copy)
    return len(sources) * copies


def run(what: str, fault: Fault, scratch: Path, folder: Path) -> None:
    """One run with its fault, on fresh nodes, compared with the local library."""
    shards, library = scratch / "shards", scratch / "library"
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as ray, Nodes(Path(ray)) as nodes:
        begun = time.monotonic()
        told = fault(nodes, folder, shards)
        seconds = time.monotonic() - begun
    files = check_exactly_once(shards)
    with open_library(library) as loaded:
        report = loaded.load(str(shards))
        assert report.missing == 0
        again = loaded.index([folder])
        assert again.pace is None, "a file was read again"
    same = check_same(scratch / "local", library)
    words = words_of(shards)
    print(f"{what}: {told}; {seconds:.0f} s in all; Ray put "
          f"{len(words.read_bytes().splitlines())} lines on the terminal")  # fmt: skip
    print(f"    {files} files, each once; {same['photos']} photos as `fc7 index` has them, "
          f"FC7 at most {same['largest distance']:.2g} apart; fc7 index afterwards read none",
          flush=True)  # fmt: skip
    shutil.rmtree(shards)
    shutil.rmtree(library)
    words.unlink()


# --- faults


def none(nodes: Nodes, folder: Path, shards: Path) -> str:
    finish(nodes, folder, shards)
    return "all went well"


def kill_an_actor(nodes: Nodes, folder: Path, shards: Path) -> str:
    driver = nodes.drive(folder, shards, PER_SHARD)
    at = midway(shards)
    had = len(actors())
    nodes.kill_actor()
    assert driver.wait() == 0
    return f"one of {had} killed with {at}"


def kill_a_node(nodes: Nodes, folder: Path, shards: Path) -> str:
    driver = nodes.drive(folder, shards, PER_SHARD)
    at = midway(shards)
    nodes.kill_second()
    assert driver.wait() == 0
    return f"the second killed with {at}"


def kill_the_driver(nodes: Nodes, folder: Path, shards: Path) -> str:
    driver = nodes.drive(folder, shards, PER_SHARD)
    at = midway(shards)
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL
    wait_for(lambda: not actors(), "Ray to end the dead driver's actors")
    kept = count(shards)
    finish(nodes, folder, shards)
    return f"killed with {at}; {kept} were kept by the run that went on"


def finish(nodes: Nodes, folder: Path, shards: Path) -> None:
    assert nodes.drive(folder, shards, PER_SHARD).wait() == 0


def midway(shards: Path) -> str:
    """Wait until a third of the shards is committed; say how many are."""
    wait_for((shards / "run.json").exists, "the plan")
    total = int(json.loads((shards / "run.json").read_text())["shards"])
    wait_for(lambda: count(shards) >= total // 3, "a third of the shards")
    done = count(shards)
    assert done < total, "too late to be in the middle"
    return f"{done} of {total} shards committed"


def count(shards: Path) -> int:
    return len(list((shards / "commits").glob("0*.json")))


FAULTS: dict[str, Fault] = {
    "no fault": none,
    "an actor": kill_an_actor,
    "a node": kill_a_node,
    "the driver": kill_the_driver,
}

if __name__ == "__main__":
    main()
