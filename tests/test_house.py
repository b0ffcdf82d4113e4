"""The house keeps its own rules: which way imports point, where heavy libraries live."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent
ROOMS = {"retrieval": {"retrieval"}, "indexer": {"retrieval", "indexer"}}
HOMES = {
    "torch": {
        "networks",
        "papers",
        "weights",
        "extractor",
        "codes",
        "compact",
        "training",
        "bench",
    },
    "torchvision": {"networks", "papers", "weights", "extractor", "training", "bench"},
    "faiss": {"search", "hamming", "neighbours", "clustering"},
    "sqlalchemy": {
        "conditions",
        "database",
        "postgres",
        "catalog",
        "schema",
        "album_rows",
        "content_rows",
        "copy_rows",
        "facets",
        "label_rows",
        "map_rows",
        "repair_rows",
    },
    "psycopg": {"postgres"},
    "sklearn": {"clustering"},
    "openTSNE": {"projection"},
    "imagehash": {"copies_evaluation"},
    "watchfiles": {"watching"},
    "PIL": {"decoding", "decode_worker", "framing", "bench", "attacks", "copies_evaluation"},
    "pymilvus": {"milvus_client"},
    "grpc": {"milvus_client"},
    "streamlit": {"app", "browser", "pages", "parts"},
    "openvino": {"training"},
    "matplotlib": {"training"},
    "tensorboardX": {"training"},
    "ray": {"engines"},
    "pyarrow": {"engines"},
    "fsspec": {"engines"},
}
FILES = sorted(
    file for room in ("retrieval", "indexer", "ui") for file in (HOUSE / room).rglob("*.py")
)


def imports_of(file: Path) -> set[str]:
    """The top-level packages that a file imports, anywhere but under `if TYPE_CHECKING`."""
    names: set[str] = set()
    tree = ast.parse(file.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(HOUSE)))
def test_imports_point_from_ui_to_indexer_to_retrieval(file: Path) -> None:
    room = file.relative_to(HOUSE).parts[0]
    ours = imports_of(file) & {"retrieval", "indexer", "ui", "tests"}
    assert ours <= ROOMS.get(room, {"retrieval", "indexer", "ui"})


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(HOUSE)))
def test_heavy_libraries_stay_at_home(file: Path) -> None:
    places = {file.stem, *file.relative_to(HOUSE).parent.parts}
    strays = {name for name in imports_of(file) & HOMES.keys() if not places & HOMES[name]}
    assert not strays


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(HOUSE)))
def test_only_ui_prints_or_exits(file: Path) -> None:
    if file.relative_to(HOUSE).parts[0] == "ui":
        return
    calls = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
    }
    assert not calls & {"print", "exit", "quit", "sys.exit", "os._exit"}


def test_help_loads_no_heavy_library() -> None:
    heavy = sorted({*HOMES, "numpy"})
    code = (
        "import sys, contextlib, io\n"
        "from ui.cli import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    main(['--help'])\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HOUSE
    )
    assert out.stdout.strip() == "[]"


def test_no_file_outgrows_its_reader() -> None:
    long = {
        str(file.relative_to(HOUSE)): lines
        for file in FILES
        if (lines := len(file.read_text().splitlines())) > 500
    }
    assert not long
