"""A file that crashes, hangs or takes over its decoder costs one file, and nothing else."""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from drawn import encode, scene

from indexer import Library
from retrieval import decode_worker, decoding, images, workers
from retrieval.errors import DecoderError, ImageError
from retrieval.images import read_photo
from retrieval.workers import Decoded, Pool, default_command

# A real worker whose decoder of PNG is native code that fails as such code does, by one pixel's
# colour: no such file is known for the decoders themselves, which mend what is found.
FRAIL = """
import ctypes, json, os, sys, time
sys.path[:] = json.loads(sys.argv[1])
from retrieval import decode_worker, decoding

whole = decoding._DECODERS["PNG"]

def frail(file):
    image = whole(file)
    red = image.convert("RGB").getpixel((0, 0))[0]
    file.seek(0)
    if red == 1:
        ctypes.string_at(0)                 # SIGSEGV
    if red == 2:
        ctypes.CDLL(None).abort()           # what the C library does with a corrupted heap
    if red == 3:
        while True:                         # for ever, on a core
            pass
    if red == 4:
        time.sleep(600)                     # for ever, on nothing
    if red == 5:
        ctypes.CDLL(None).malloc.restype = ctypes.c_void_p
        if not ctypes.CDLL(None).malloc(ctypes.c_size_t(4 << 30)):
            raise MemoryError               # the limit of the process
    if red == 6:
        os._exit(0)
    return whole(file)

decoding._DECODERS["PNG"] = frail
decode_worker.CPU_SECONDS = 1.0
decode_worker.run()
"""
# Processes in the hands of a file: they say what they like.
LIAR = """
import json, os, socket, struct, sys, time
wire = socket.socket(fileno=int(sys.argv[-1]))
def say(answer):
    text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    wire.sendall(struct.pack(">I", len(text)) + text)
say({"ready": True})
while socket.recv_fds(wire, 1 << 16, 1)[0]:
    try:
        exec(sys.argv[1])
    except OSError:
        break
"""
INFO = (
    "info = dict(format='JPEG', width=8, height=8, orientation=1, taken_at=None, camera=None, "
    "lens=None, latitude=None, longitude=None); whole = dict(height=8, width=8, thumbnail=0); "
)


def flaw(number: int) -> bytes:
    """A picture at which a frail worker fails in its way; 0: it doesn't."""
    pixels = scene(30, 20)
    pixels[0, 0, 0] = number
    return encode(pixels, "PNG")


def decode(pool: Pool, data: bytes, min_side: int = 256) -> Decoded:
    with images._in_memory(data) as file:
        return pool.decode(file.fileno(), {"min_side": min_side})


def reason(pool: Pool, data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode(pool, data)
    return caught.value.reason


@pytest.fixture
def frail() -> Iterator[Pool]:
    command = default_command()
    pool = Pool([*command[:-2], FRAIL, command[-1]], seconds=20)
    yield pool
    pool.close()


def children() -> set[int]:
    return {
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and parent_of(entry) == os.getpid()
    }


def parent_of(process: Path) -> int | None:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def test_a_crash_a_hang_and_a_bomb_cost_one_file_each(frail: Pool) -> None:
    sound = decode(frail, flaw(0))
    assert sound.info.format == "PNG"
    assert reason(frail, flaw(1)) == workers.CRASHES
    assert reason(frail, flaw(2)) == workers.CRASHES
    assert reason(frail, flaw(3)) == workers.TOO_LONG
    assert reason(frail, flaw(5)) == "too large for this machine's memory"
    assert reason(frail, flaw(6)) == workers.CRASHES
    assert (decode(frail, flaw(0)).pixels == sound.pixels).all()


def test_a_decoder_that_waits_for_ever_is_ended_by_the_clock() -> None:
    command = default_command()
    pool = Pool([*command[:-2], FRAIL, command[-1]], seconds=2)
    assert reason(pool, flaw(4)) == workers.TOO_LONG
    pool.close()


def test_threads_lose_only_the_files_that_crash(frail: Pool) -> None:
    def told(number: int) -> str:
        try:
            return decode(frail, flaw(number)).info.format
        except ImageError as error:
            return error.reason

    numbers = [0, 1, 0, 0, 6, 0, 2, 0] * 3
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(told, numbers))
    assert answers == ["PNG" if number == 0 else workers.CRASHES for number in numbers]


def test_a_worker_killed_in_the_middle_is_no_fault_of_the_file() -> None:
    pool = Pool()
    drawn = np.tile(scene(500, 500), (4, 4, 1))
    slow = encode(drawn, "JPEG2000")
    decode(pool, flaw(0))
    (pid,) = pids(pool)
    begun = spent(pid)
    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(decode, pool, slow, 2000)
        while spent(pid) < begun + 5:  # hundredths of a second
            time.sleep(0.002)
        os.kill(pid, signal.SIGSEGV)
        pixels = future.result().pixels
    assert (pixels == drawn).all()
    assert pids(pool) != [pid]
    pool.close()


def pids(pool: Pool) -> list[int]:
    return [worker.pid for worker in pool._idle]


def spent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])


def test_nothing_is_left_of_workers_that_fell_or_were_let_go(frail: Pool) -> None:
    before = children()
    for number in (0, 1, 6, 0):
        with suppress(ImageError):
            decode(frail, flaw(number))
    assert len(children() - before) == 1
    frail.close()
    assert children() == before


def test_what_an_idle_worker_died_of_is_no_fault_of_the_next_file(frail: Pool) -> None:
    decode(frail, flaw(0))
    (pid,) = pids(frail)
    os.kill(pid, signal.SIGKILL)
    assert decode(frail, flaw(0)).info.format == "PNG"


def test_a_crash_while_indexing_costs_one_file(
    frail: Pool, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_POOL", frail)
    folder = tmp_path / "flawed"
    folder.mkdir()
    for number, name in enumerate(["good", "crash", "abort"]):
        (folder / f"{name}.png").write_bytes(flaw(number))
    report = library.index([folder])
    assert report.added == 1
    skipped = {skip.path.stem: skip.reason for skip in report.skipped}
    assert skipped == dict.fromkeys(("crash", "abort"), workers.CRASHES)


# ---- limits


def test_a_worker_has_limits_of_memory_and_time_and_leaves_no_core() -> None:
    pool = Pool()
    decode(pool, flaw(0))
    (pid,) = pids(pool)
    memory, _ = resource.prlimit(pid, resource.RLIMIT_AS)
    seconds, _ = resource.prlimit(pid, resource.RLIMIT_CPU)
    assert decoding.MAX_BYTES < memory <= 2 * decoding.MAX_BYTES
    assert 0 < seconds <= decode_worker.CPU_SECONDS + 5
    assert resource.prlimit(pid, resource.RLIMIT_CORE)[0] == 0
    pool.close()


def test_large_pictures_are_decoded_one_at_a_time_over_all_workers(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    program = (
        f"say(dict(large=True)); wire.recv(1); log = open({str(log)!r}, 'ab', 0); "
        "log.write(b'<'); time.sleep(.05); log.write(b'>'); say(dict(refused='enough'))"
    )
    pool = Pool([sys.executable, "-c", LIAR, program])
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: reason(pool, b"x"), range(8)))
    assert log.read_bytes() == b"<>" * 8
    assert pids(pool) == []  # nor is their memory kept
    pool.close()


@pytest.mark.parametrize(
    ("format", "side", "min_side", "large"),
    [
        ("JPEG", 8000, 256, False),
        ("JPEG", 8000, 8000, True),
        ("PNG", 6000, 256, False),
        ("PNG", 8000, 256, True),
    ],
)
def test_what_takes_much_memory_is_large(
    format: str, side: int, min_side: int, large: bool
) -> None:
    data = encode(np.zeros((side, side), np.uint8), format)
    assert decoding.open_photo(io.BytesIO(data)).is_large(min_side) == large


# ---- a worker in the hands of a file


@pytest.mark.parametrize(
    "program",
    [
        "say(b'[1, 2]')",
        "say(b'not JSON')",
        "say(b'[' * 60_000)",
        "say({})",
        "wire.sendall(struct.pack('>I', 1 << 31))",
        "wire.sendall(b'\\0'); sys.exit()",
        "sys.exit()",
        "say({'large': True}); say({'large': True})",
        INFO + "say(whole | dict(info=info | dict(format='EXE')))",
        INFO + "say(whole | dict(info=info | dict(camera='\\ud800')))",
        INFO + "say(whole | dict(info=info | dict(camera='a\\nb')))",
        INFO + "say(whole | dict(info=info | dict(camera=['a'])))",
        INFO + "say(whole | dict(info=info | dict(width=-1)))",
        INFO + "say(whole | dict(info=info | dict(width=True)))",
        INFO + "say(whole | dict(info=info | dict(latitude=float('nan'))))",
        INFO + "say(whole | dict(info=info | dict(more=1)))",
        INFO + "say(whole | dict(info=info, height=1 << 20, width=1 << 20))",
        INFO + "say(whole | dict(info=info, height=8.0))",
        INFO + "say(whole | dict(info=info, height=9)); wire.sendall(bytes(192)); sys.exit()",
        INFO + "say(whole | dict(info=info, thumbnail=1 << 40))",
        INFO + "say(whole | dict(info=info, thumbnail=-1))",
    ],
)
def test_what_a_worker_says_is_not_believed_unless_it_makes_sense(program: str) -> None:
    before = children()
    pool = Pool([sys.executable, "-c", LIAR, program], seconds=20)
    assert reason(pool, b"x") == workers.CRASHES
    pool.close()
    assert children() == before


def test_a_sound_answer_is_taken_and_its_words_are_made_safe() -> None:
    program = INFO + "say(whole | dict(info=info)); wire.sendall(bytes(192))"
    pool = Pool([sys.executable, "-c", LIAR, program])
    assert decode(pool, b"x").pixels.shape == (8, 8, 3)
    pool.close()
    pool = Pool([sys.executable, "-c", LIAR, "say({'refused': 'a\\x1b[2J\\n' + 'b' * 999})"])
    assert reason(pool, b"x") == "a?[2J?" + "b" * 194
    pool.close()


def test_a_bug_of_ours_is_not_taken_for_a_damaged_file() -> None:
    command = default_command()
    program = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1])\n"
        "from retrieval import decode_worker, decoding\n"
        "decoding.describe = lambda opened: 1 / 0\n"
        "decode_worker.run()"
    )
    pool = Pool([*command[:-2], program, command[-1]])
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        decode(pool, flaw(0))
    pool.close()


# ---- processes


@pytest.mark.parametrize("command", [["/nowhere/python"], [sys.executable, "-c", "exit(3)"]])
def test_where_no_worker_starts_no_photo_is_blamed(command: list[str]) -> None:
    before = children()
    with pytest.raises(DecoderError, match=r"can be started here \(.*\): free some memory"):
        decode(Pool(command), flaw(0))
    assert children() == before


READER = """
import sys, time
from pathlib import Path
from retrieval import images
images.read_photo(Path(sys.argv[1]))
print(images._POOL._idle[0].pid, flush=True)
"""


@pytest.mark.parametrize("end", ["time.sleep(600)", "import os; os._exit(0)", "pass"])
def test_workers_end_when_their_parent_does_however_it_ends(end: str, gallery: Path) -> None:
    photo = next((gallery / "cats").iterdir())
    command = [sys.executable, "-W", "error", "-c", READER + end, str(photo)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as one:
        assert one.stdout is not None
        assert one.stderr is not None
        worker = int(one.stdout.readline())
        if "sleep" in end:
            one.kill()
        told = one.stderr.read()
    assert told == ""
    while Path(f"/proc/{worker}").exists() and state(worker) != "Z":
        time.sleep(0.01)


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_ctrl_c_in_a_terminal_reaches_no_worker() -> None:
    pool = Pool()
    decode(pool, flaw(0))
    (pid,) = pids(pool)
    assert os.getsid(pid) == pid != os.getsid(0)
    pool.close()


def test_a_forked_child_has_workers_of_its_own(gallery: Path) -> None:
    photo = next((gallery / "cats").iterdir())
    code = READER + (
        "import os, warnings\n"
        "child = os.fork()\n"
        "assert not child or os.waitpid(child, 0)[1] == 0\n"
        "images.read_photo(Path(sys.argv[1]))\n"
        "print(images._POOL._idle[0].pid)\n"
    )
    command = [sys.executable, "-c", code, str(photo)]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    first, *later = out.stdout.split()
    assert sorted(later).count(first) == 1  # the parent's is still there
    assert len(set(later)) == 2


def test_an_open_file_stands_where_it_stood(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(flaw(0))
    with path.open("rb") as file:
        head = file.read(10)
        pixels, _ = read_photo(file)
        assert (pixels == scene(30, 20))[1:].all()
        assert head + file.read() == path.read_bytes()
