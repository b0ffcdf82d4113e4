"""Files from elsewhere: mutated, and read in processes of their own, which may die of it.

python -m torture.mutants KIND FOLDER FIRST END

reads the mutants of these numbers, made of the files that FOLDER holds, and says of each how it
went: a line "ok", or what was wrong with it. Whoever began it sees from the lines which one it was
that killed the process, or never ended.
"""

from __future__ import annotations

import random
import re
import resource
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from retrieval.errors import Fc7Error
from torture.processes import HOUSE, environment

MEMORY = 2 << 30  # bytes that a process may have
_PATIENCE = 60.0  # seconds for one file
_NUMBERS = (0, 1, 2, 7, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1)


def mutate(data: bytes, rng: random.Random, head: int) -> bytes:
    """Change it here and there, mostly among its first `head` bytes and its last few."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        near = rng.random()
        size = len(out)
        at = (
            rng.randrange(min(head, size)) if near < 0.8 else rng.randrange(max(0, size - 64), size)
        )
        kind = rng.randrange(6)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.randrange(256)
        elif kind in (2, 3):
            number = struct.pack("<Q", rng.choice(_NUMBERS))[: rng.choice((4, 8))]
            out[at : at + len(number)] = number
        elif kind == 4:
            del out[at : at + rng.choice((1, 4, 8, size))]
        else:
            out[at:at] = rng.randbytes(rng.choice((1, 4, 8, 64)))
        if not out:
            return b""
    return bytes(out)


_TOKEN = re.compile(rb'"[^"]*"|-?\d+(?:\.\d+)?|true|false|null')
_ODD = (
    b"null", b"true", b"-1", b"0", b"3", b"1e999", b"NaN", b"1.5", b'""', b'"x"', b'"\\ud800"',
    b"[]", b"{}", b'["a"]', b"[" * 100_000, b"9" * 20, b"9" * 10_000, b'"F64"', b'"BF16"', b'"I32"',
    b'"F8_E4M3"', b'"BOOL"', b"[0,0]", b"[1000000000,0]", b"[16]", b"1000000000000",
)  # fmt: skip


def mutate_words(text: bytes, rng: random.Random) -> bytes:
    """Change values, or names, of JSON into others that JSON has too."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        tokens = list(_TOKEN.finditer(text))
        if tokens:
            one = rng.choice(tokens)
            text = text[: one.start()] + rng.choice(_ODD) + text[one.end() :]
    return text


def mutant_of(file: Path, rng: random.Random, head: int) -> bytes:
    """Mutate a file's bytes, or half of the time its words where it has some."""
    data = file.read_bytes()
    if rng.random() < 0.5 and file.suffix in (".json", ".safetensors"):
        if file.suffix == ".json":
            return mutate_words(data, rng)
        end = 8 + int.from_bytes(data[:8], "little")
        words = mutate_words(data[8:end], rng)
        return len(words).to_bytes(8, "little") + words + data[end:]
    return mutate(data, rng, head)


# --- what is read, and how


def read_rows(path: Path) -> None:
    from retrieval.search import Search

    search = Search([path], np.empty(0, np.int64))
    query = np.full((1, 16), 0.25, np.float32)
    distances, ids = search.exact(query, 3)
    assert distances.shape == ids.shape
    search.descriptors(ids[0].tolist())


def read_codes(path: Path) -> None:
    from retrieval.layout import read_codes

    assert read_codes(path).ndim == 2


def read_coder(path: Path) -> None:
    from retrieval.codes import read_coder

    coder, _ = read_coder(path)
    codes = coder.encode(np.ones((2, 16), np.float32))
    assert codes.shape == (2, coder.bits // 8)


def read_weights(path: Path) -> None:
    from retrieval.weights import load_weights

    load_weights("alexnet-cifar", str(path))


def read_run(path: Path) -> None:
    from indexer.work import read_work

    path.rename(path.with_name("run.json"))
    work = read_work(path.parent)
    if work is not None:
        work.seconds_left()


def read_engines(path: Path) -> None:
    from indexer.engines.addresses import read_addresses

    path.rename(path.with_name("engines.json"))
    found = read_addresses(path.parent)
    assert all(value is None or isinstance(value, str) for value in (found.catalog, found.store))


def read_backup(path: Path) -> None:
    import shutil

    from indexer.backup import restore

    target = path.with_name("restored")
    restore(path, target)
    shutil.rmtree(target)


READERS: dict[str, tuple[Callable[[Path], None], int]] = {  # with the length of what is the head
    "rows": (read_rows, 126),
    "codes": (read_codes, 40),
    "coder": (read_coder, 600),
    "weights": (read_weights, 1200),
    "run": (read_run, 1000),
    "engines": (read_engines, 1000),
    "backup": (read_backup, 3000),
}


def try_one(kind: str, number: int, files: list[Path], work: Path) -> str:
    """Read the mutant of this number: "ok", or what is wrong with how that went."""
    read, head = READERS[kind]
    rng = random.Random(f"{kind} {number}")
    file = rng.choice(files)
    mutant = work / f"mutant{file.suffix}"
    mutant.write_bytes(mutant_of(file, rng, head))
    try:
        read(mutant)
    except Fc7Error as error:
        return "ok" if "\n" not in str(error) else f"more than one line: {error!r}"
    except Exception as error:  # noqa: BLE001  # whatever it is, it is a fault of ours
        return f"{file.name}: {error!r}"
    return "ok"


def main(kind: str, folder: Path, first: int, end: int) -> None:
    files = sorted(file for file in folder.iterdir() if file.is_file())
    work = folder / "work"
    work.mkdir(exist_ok=True)
    for number in range(first, end):
        if number == first + 1:  # by then all is imported that is needed
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        said = try_one(kind, number, files, work)
        print(said.replace("\n", " ")[:300], flush=True)


def troubles(kind: str, folder: Path, count: int) -> list[str]:
    """Have so many mutants read; what went wrong, a line each."""
    found: list[str] = []
    done = 0
    while done < count:
        process = subprocess.Popen(
            [sys.executable, "-m", "torture.mutants", kind, str(folder), str(done), str(count)],
            cwd=HOUSE, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
        )  # fmt: skip
        lines, why = _lines_of(process)
        found += [f"{kind} {done + at}: {line}" for at, line in enumerate(lines) if line != "ok"]
        done += len(lines)
        if done < count:
            found.append(f"{kind} {done}: {why}")
            done += 1
    return found


def _lines_of(process: subprocess.Popen[str]) -> tuple[list[str], str]:
    """What a process says, and how it ended; it is killed when it says nothing for too long."""
    lines: list[str] = []
    heard = threading.Event()
    assert process.stdout is not None and process.stderr is not None

    def watch() -> None:
        while process.poll() is None:
            heard.clear()
            if not heard.wait(_PATIENCE):
                process.kill()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    with process:
        for line in process.stdout:
            heard.set()
            lines.append(line.rstrip("\n"))
        said = process.stderr.read()
    ended = process.returncode
    heard.set()
    watcher.join()
    return lines, f"ended with {ended}: {said[-300:]}"


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
