"""A coverage-guided fuzzer on the decode road: an hour of atheris, in a process of its own.

It decodes in its own process, so what crashes a decoder ends it, and it is begun again. Lost is
what does more than that where photos are really read: there such a file costs itself.

What it finds is kept in FC7_FUZZ_FINDS, a folder, or in a new one below the temporary folder; a
later run begins with it, and with all that earlier runs found interesting there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from retrieval.errors import ImageError
from retrieval.images import read_photo
from torture.images import REASONS
from torture.photo_mutants import originals
from torture.table import Row

SECONDS = 3600
MEMORY_MB = 2048
FILE_SECONDS = 30
_TARGET = Path(__file__).with_name("fuzz_decoding.py")
_ROOTS = (Path(__file__).parents[2], Path(__file__).parents[1])


def rows(share: float) -> Iterator[Row]:
    named = os.environ.get("FC7_FUZZ_FINDS")
    place = Path(named) if named else Path(tempfile.mkdtemp(prefix="fc7-fuzz-"))
    yield fuzzed(place, max(15, round(SECONDS * share)))


def fuzzed(place: Path, seconds: int) -> Row:
    """Fuzz for so long. A find ends the fuzzer: it is begun again until the time is over."""
    what = "a file that a coverage-guided fuzzer made"
    if find_spec("atheris") is None:
        return Row("fuzzing", what, 0, 1, "not tried: atheris is not installed")
    corpus, finds = place / "corpus", place / "finds"
    corpus.mkdir(parents=True, exist_ok=True)
    finds.mkdir(exist_ok=True)
    for format, files in originals().items():
        for number, data in enumerate(files):
            (corpus / f"{format}-{number}").write_bytes(data)
    old = set(finds.iterdir())
    end, units, coverage, ends, ours = time.monotonic() + seconds, 0, 0, 0, 0
    told = ""
    while (left := round(end - time.monotonic())) > 0 and ends < 100:
        done = _fuzz(corpus, finds, left)
        told = done.stderr
        ran = re.findall(r"number_of_executed_units: (\d+)", told) or re.findall(r"#(\d+)\t", told)
        units += int(ran[-1]) if ran else 0
        coverage = max([coverage, *map(int, re.findall(r"cov: (\d+)", told))])
        # Python's own error is a bug of ours, even where a worker's answer would be refused for it.
        ours += "Uncaught Python exception" in told
        if done.returncode:
            ends += 1
            if not ran:
                break
    found = sorted(set(finds.iterdir()) - old)
    judged = Counter(judge(file) for file in found)
    lost = judged.total() - sum(judged[reason] for reason in ("read", *REASONS))
    note = f"{seconds / 60:.1f} minutes, {coverage:,} branches seen"
    if found:
        note += f"; ended the fuzzer: {len(found)}, by the real road: {dict(judged)}, in {finds}"
    if ends > len(found):  # it ended without a file: the fuzzer itself fell
        note += f"; {_last_error(told)}"
    if ours:
        note += f"; errors of Python: {ours}, the last one {_last_error(told)}"
    return Row("fuzzing", what, units, max(lost, ours) + max(0, ends - len(found)), note)


def judge(file: Path) -> str:
    """What becomes of a find where photos are really read: "read", a reason, or another error."""
    try:
        read_photo(file)
    except ImageError as error:
        return error.reason
    except Exception as error:  # noqa: BLE001  (it is what is looked for)
        return f"{type(error).__name__}: {error}"[:300]
    return "read"


def _fuzz(corpus: Path, finds: Path, seconds: int) -> subprocess.CompletedProcess[str]:
    options = {
        "artifact_prefix": f"{finds}/",
        "detect_leaks": 0,
        "max_len": 1 << 16,
        "max_total_time": seconds,
        "print_final_stats": 1,
        "rss_limit_mb": MEMORY_MB,
        "timeout": FILE_SECONDS,
    }
    command = [sys.executable, str(_TARGET), str(corpus)]
    command += [f"-{name}={value}" for name, value in options.items()]
    path = os.pathsep.join(map(str, _ROOTS))
    environment = os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", env=environment, check=False
    )


def _last_error(told: str) -> str:
    lines = [line for line in told.splitlines() if "Error" in line or "ERROR" in line]
    return " / ".join(lines[-2:])[:300]
