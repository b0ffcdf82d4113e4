"""fc7 index --engine ray, with a real Ray: the same rows as fc7 index, whatever dies meanwhile.

The runs on two nodes with killed actors, nodes and drivers take minutes and are asked for:
FC7_RAY_FAULTS=1 python -m pytest tests/engines/test_ray.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray.data", reason='pip install ".[cluster]"')

from comparing import check_exactly_once, check_same
from ray_faults import make_copies
from ray_nodes import why_not

from indexer import open_library
from retrieval.extractor import Extractor

HERE = Path(__file__).parent
HOUSE = HERE.parent.parent
PER_SHARD = 16


def python(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=HOUSE,
        env=os.environ | {"PYTHONPATH": str(HOUSE), "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def fc7(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return python("-m", "ui.cli", *map(str, arguments))


@pytest.fixture(scope="module")
def folder(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 files: photos, exact copies, broken ones."""
    root = tmp_path_factory.mktemp("ray")
    chosen = root / "chosen"
    chosen.mkdir()
    for source in sorted(gallery.rglob("*.jpg"))[:30]:
        os.link(source, chosen / source.name)
    assert make_copies(chosen, root / "photos", 2) == 60
    return root / "photos"


@pytest.fixture(scope="module")
def local(folder: Path, extractor: Extractor) -> Path:
    with open_library(folder.parent / "local", extractor=extractor) as library:
        report = library.index([folder])
    assert (report.added, len(report.skipped)) == (56, 4)
    return folder.parent / "local"


@pytest.fixture(scope="module")
def shards(folder: Path) -> Path:
    """What a run on a Ray of this machine alone makes."""
    where = folder.parent / "shards"
    ran = python(str(HERE / "ray_driver.py"), str(folder), str(where), str(PER_SHARD))
    assert ran.returncode == 0, ran.stderr
    return where


@pytest.mark.light
def test_what_ray_makes_is_what_one_process_makes_row_by_row(
    shards: Path, local: Path, tmp_path: Path
) -> None:
    assert len(list((shards / "commits").iterdir())) == len(list((shards / "data").iterdir())) == 4
    assert check_exactly_once(shards) == 60
    with open_library(tmp_path / "loaded") as library:
        library.load(str(shards))
    assert check_same(local, tmp_path / "loaded")["photos"] == 56


@pytest.mark.light
def test_a_run_goes_on_and_is_loaded_and_then_nothing_is_left_to_index(
    shards: Path, folder: Path, local: Path, tmp_path: Path
) -> None:
    for record in ("00000001.json", "00000003.json"):
        (shards / "commits" / record).unlink()
    ran = fc7("index", folder, "--engine", "ray", "--shards", shards, "--json")
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["shards"], told["made_now"], told["files"], told["skipped"]) == (4, 2, 60, 4)

    loaded = fc7("load", shards, "--library", tmp_path / "loaded")
    assert loaded.stdout.startswith("56 added, 0 updated, 0 unchanged, 4 skipped\n")
    again = fc7("index", folder, "--library", tmp_path / "loaded", "--explain")
    assert again.stdout.startswith("0 added, 0 updated, 0 moved, 0 removed, 56 unchanged, 4 skip")
    assert again.stderr == "fc7: no file had to be read\n"
    check_same(local, tmp_path / "loaded")


def test_a_run_that_is_complete_needs_no_ray(shards: Path) -> None:
    ran = fc7("index", "--engine", "ray", "--shards", shards)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("56 photos, 4 skipped; shards: 4, 0 of them made now\n")


def test_what_goes_wrong_on_another_machine_is_one_line_here(
    shards: Path, folder: Path, tmp_path: Path
) -> None:
    """Its weights are not those that the run began with."""
    header = json.loads((shards / "run.json").read_text())
    other = tmp_path / "shards"
    other.mkdir()
    (other / header["plan"]).symlink_to(shards / header["plan"])
    (other / "run.json").write_text(json.dumps(header | {"stamp": "0" * 64, "coder": None}))
    ran = fc7("index", folder, "--engine", "ray", "--shards", other)
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert "Traceback" not in ran.stderr
    assert ran.stderr.splitlines()[-1].startswith("fc7: ")
    assert "has other weights or codes of alexnet than the run began with" in ran.stderr
    assert not (other / "commits").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--address", "127.0.0.1:1"], 1, "no Ray cluster answers at 127.0.0.1:1: start one"),
        (["--address", "somewhere"], 1, "somewhere is no address of a Ray cluster: give HOST"),
        (["--library", "x"], 2, "--library, --catalog and --store go with fc7 load"),
    ],
)
def test_wrong_usage_is_one_line(
    folder: Path, tmp_path: Path, arguments: list[str], code: int, told: str
) -> None:
    ran = fc7("index", folder, "--engine", "ray", "--shards", tmp_path / "shards", *arguments)
    assert ran.returncode == code
    assert told in ran.stderr.splitlines()[-1]
    assert not (tmp_path / "shards").exists()


def test_what_belongs_to_ray_alone_is_refused_without_it(folder: Path, tmp_path: Path) -> None:
    for arguments, told in (
        ([folder, "--shards", "x"], "--shards and --address go with --engine ray"),
        (["s3://bucket/photos"], "s3://bucket/photos is no folder of this machine"),
        ([folder, "--engine", "ray"], "--engine ray needs --shards DIR"),
    ):
        ran = fc7("index", *arguments, "--library", tmp_path / "library")
        assert ran.returncode == 2
        assert told in ran.stderr
    assert not (tmp_path / "library").exists()


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("ray", ["index", "FOLDER", "--engine", "ray", "--shards", "SHARDS"]),
        ("pyarrow", ["index", "FOLDER", "--engine", "ray", "--shards", "SHARDS"]),
        ("pyarrow", ["load", "SHARDS", "--library", "LIBRARY"]),
    ],
)
def test_without_the_cluster_extra_one_line_says_what_to_install(
    folder: Path, tmp_path: Path, package: str, arguments: list[str]
) -> None:
    places = {"FOLDER": str(folder)} | {
        name: str(tmp_path / name) for name in ("SHARDS", "LIBRARY")
    }
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"  # as if it were not installed
        "from ui.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    ran = python("-c", code, *(places.get(word, word) for word in arguments))
    assert ran.returncode == 1
    assert len(ran.stderr.splitlines()) == 1
    assert f'needs {package} and more: pip install "fc7[cluster]"' in ran.stderr


@pytest.mark.skipif(
    os.environ.get("FC7_RAY_FAULTS") != "1", reason="takes minutes: FC7_RAY_FAULTS=1 asks for it"
)
def test_killed_actors_nodes_and_drivers_cost_no_photo(gallery: Path) -> None:
    if (trouble := why_not()) is not None:
        pytest.skip(trouble)
    ran = python(
        str(HERE / "namespace.py"), sys.executable, str(HERE / "ray_faults.py"), str(gallery)
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("each once") == 4
