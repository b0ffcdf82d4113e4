"""The command line as a user meets it: the real program, its output, its exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent


def fc7(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ui.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=HOUSE,
        env=os.environ | environment,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve real photos, two files that are none, and a name that is HTML."""
    folder = tmp_path_factory.mktemp("photos")
    gallery = HOUSE / "data" / "gallery"
    for group in ("sunflowers", "shoes", "mountains"):
        for photo in sorted((gallery / group).iterdir())[:4]:
            (folder / photo.name).write_bytes(photo.read_bytes())
    (folder / "shoe-02.jpg").rename(folder / "<img src=x onerror=alert(1)>.jpg")
    (folder / "notes.txt").write_text("no picture")
    (folder / "empty.jpg").touch()
    return folder


@pytest.fixture(scope="module")
def library(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library made by the command, with what it printed checked on the way."""
    path = tmp_path_factory.mktemp("library")
    made = fc7("index", folder, "--library", path, "--json")
    assert made.returncode == 0, made.stderr
    assert made.stderr == ""  # no terminal: no progress bar
    assert json.loads(made.stdout) == {
        "added": 12,
        "updated": 0,
        "moved": 0,
        "removed": 0,
        "unchanged": 0,
        "skipped": 2,
        "skipped_reasons": {"empty file": 1, "not an image": 1},
        "missing_folders": [],
    }
    return path


def test_index_says_what_it_skipped_and_why(library: Path, folder: Path) -> None:
    again = fc7("index", folder, "--library", library)
    assert again.returncode == 0
    lines = again.stdout.splitlines()
    assert lines[0] == "0 added, 0 updated, 0 moved, 0 removed, 12 unchanged, 2 skipped"
    assert f"    {folder / 'empty.jpg'}: empty file" in lines


def test_search_prints_rank_distance_and_path(library: Path, folder: Path) -> None:
    found = fc7("search", folder / "shoe-01.jpg", "-k", 3, "--library", library)
    assert found.returncode == 0
    head, *rows = found.stdout.splitlines()
    assert head.split() == ["rank", "distance", "path"]
    parsed = [re.fullmatch(r" +(\d+) +(\d\.\d{4})  (.+)", row) for row in rows]
    assert [match and match[1] for match in parsed] == ["1", "2", "3"]
    assert all(match and Path(match[3]).is_file() for match in parsed)


def test_search_as_json_gives_one_object_an_answer(library: Path, folder: Path) -> None:
    found = fc7("search", folder / "shoe-01.jpg", "-k", 50, "--json", FC7_LIBRARY=str(library))
    hits = [json.loads(line) for line in found.stdout.splitlines()]
    assert [hit["rank"] for hit in hits] == list(range(1, 12))
    assert [hit["distance"] for hit in hits] == sorted(hit["distance"] for hit in hits)
    assert {Path(hit["path"]).name for hit in hits} == {
        photo.name for photo in folder.iterdir() if photo.suffix in (".jpg", ".webp")
    } - {"shoe-01.jpg", "empty.jpg"}
    assert {"width", "height", "size", "content_hash", "format"} <= hits[0].keys()


def names(found: subprocess.CompletedProcess[str]) -> list[str]:
    assert found.returncode == 0, found.stderr
    return [Path(json.loads(line)["path"]).name for line in found.stdout.splitlines()]


def test_search_takes_several_photos_counter_examples_and_a_region(
    library: Path, folder: Path
) -> None:
    photos = [folder / "shoe-01.jpg", folder / "shoe-03.jpg"]
    away = sorted(folder.glob("mountain-*"))[:2]
    rest = ("-k", 50, "--json", "--library", library)
    answers = names(fc7("search", *photos, "--not", *away, *rest))
    assert len(answers) == 8
    assert not {photo.name for photo in (*photos, *away)} & set(answers)
    part = fc7("search", photos[0], "--region", "0.25,0.25,0.5,0.5", *rest)
    assert len(names(part)) == 11
    assert part.stdout != fc7("search", photos[0], *rest).stdout


def test_explain_says_on_stderr_what_was_compared(library: Path, folder: Path) -> None:
    search = ("search", folder / "shoe-01.jpg", "--library", library)
    plain, told = fc7(*search), fc7(*search, "--explain")
    assert told.stdout == plain.stdout
    assert (plain.stderr, told.stderr) == ("", "fc7: exact search: 12 descriptors compared\n")
    narrow = fc7(*search, "--explain", "--folder", folder / "nowhere")
    assert narrow.stderr == (
        "fc7: exact search: 0 of 12 descriptors compared; the filters left out the rest\n"
    )
    assert narrow.stdout.splitlines() == ["rank  distance  path"]


def test_filters_narrow_the_answers(library: Path, folder: Path) -> None:
    search = ("search", folder / "shoe-01.jpg", "-k", 50, "--json", "--library", library)
    shown = fc7(*search)
    dated = [hit for hit in map(json.loads, shown.stdout.splitlines()) if "taken_at" in hit]
    assert names(fc7(*search, "--folder", folder)) == names(shown)
    found = names(fc7(*search, "--since", "1990", "--until", "2039"))
    assert found == [Path(hit["path"]).name for hit in dated]
    assert names(fc7(*search, "--box=-90,-180,90,180", "--camera", "no such camera")) == []
    assert 0 < len(names(fc7(*search, "--with-label", "daisy"))) < 11


def test_a_word_finds_the_photos_that_show_it(library: Path) -> None:
    search = ("search", "--label", "daisy", "-k", 2, "--library", library)
    head, *rows = fc7(*search).stdout.splitlines()
    assert head.split() == ["rank", "chance", "path"]
    assert [bool(re.fullmatch(r" +\d  +\d+\.\d%  .+  \(daisy\)", row)) for row in rows] == [
        True
    ] * 2
    hits = [json.loads(line) for line in fc7(*search, "--json").stdout.splitlines()]
    assert [hit["label"] for hit in hits] == ["daisy"] * 2
    assert hits[0]["probability"] >= hits[1]["probability"] > 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "a PHOTO or --label WORD is needed"),
        (("a.jpg", "--label", "daisy"), "--label WORD goes with filters"),
        (("--label", "daisy", "--html", "page.html"), "--label WORD goes with filters"),
        (("a.jpg", "--region", "1,2,3"), "'1,2,3' is not four numbers with commas between"),
        (("a.jpg", "--mode", "quick"), "--mode"),
    ],
)
def test_wrong_usage_of_search_is_told(arguments: tuple[str, ...], line: str) -> None:
    failed = fc7("search", *arguments)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert line in failed.stderr.splitlines()[-1]


class _Page(HTMLParser):
    """What a browser would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_holds_everything_and_runs_nothing(
    library: Path, folder: Path, tmp_path: Path
) -> None:
    query = folder / "<img src=x onerror=alert(1)>.jpg"
    made = fc7("search", query, "-k", 5, "--library", library, "--html", tmp_path / "page.html")
    assert made.returncode == 0, made.stderr
    page = _Page()
    page.feed((tmp_path / "page.html").read_text())
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 6
    assert all((attrs["src"] or "").startswith("data:image/jpeg;base64,") for attrs in images)
    assert images[0]["alt"] == query.name
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "a"}
    assert not any(key.startswith("on") for _, attrs in page.tags for key in attrs)


def test_status_lists_every_skipped_file(library: Path, folder: Path) -> None:
    told = fc7("status", "--library", library)
    assert told.returncode == 0
    assert "photos     12" in told.stdout
    assert f"{folder / 'notes.txt'}: not an image" in told.stdout
    as_json = json.loads(fc7("status", "--library", library, "--json").stdout)
    assert (as_json["photos"], as_json["network"]) == (12, "alexnet")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("search", "{folder}/nowhere.jpg"), "nowhere.jpg can't be read"),
        (("search", "{folder}/empty.jpg"), "empty.jpg can't be used: empty file"),
        (("search", "{folder}/shoe-01.jpg", "-k", "0"), "ask for 1 or more"),
        (("codes", "train"), "are too few to learn codes from: index 1,000 or more"),
        (("search", "{folder}/shoe-01.jpg", "--region", "0,0,2000,1"), "is not inside the photo"),
        (("search", "{folder}/shoe-01.jpg", "--since", "May"), "give 2023, 2023-05 or 2023-05-17"),
        (("search", "{folder}/shoe-01.jpg", "--box", "0,0,99,0"), "is no part of the earth"),
        (("search", "--label", "daysy"), "the nearest labels: daisy"),
        (("index", "{folder}/nowhere"), "is not there"),
        (("index", "{folder}/notes.txt"), "is a file, not a folder"),
        (("index", "{folder}", "--network", "vgg16"), "--library"),
    ],
)
def test_bad_input_costs_one_clear_line(
    library: Path, folder: Path, arguments: tuple[str, ...], line: str
) -> None:
    words = [word.format(folder=folder) for word in arguments]
    failed = fc7(*words, "--library", library)
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert line in failed.stderr
    assert failed.stderr.startswith("fc7: ")
    assert failed.stderr.count("\n") == 1


def test_a_library_that_is_not_there_is_not_made_by_asking(tmp_path: Path) -> None:
    for command in (("status",), ("search", HOUSE / "data/gallery/shoes/shoe-01.jpg")):
        failed = fc7(*command, "--library", tmp_path / "absent")
        assert failed.returncode == 1
        assert "fc7 index FOLDER makes one" in failed.stderr
    assert not (tmp_path / "absent").exists()


def test_labels_are_the_five_likeliest_classes(folder: Path) -> None:
    told = fc7("labels", folder / "mountain-02.jpg", folder / "empty.jpg", "--json")
    assert told.returncode == 1  # one of the two failed
    assert told.stderr == f"fc7: {folder / 'empty.jpg'} can't be used: empty file\n"
    (line,) = told.stdout.splitlines()
    labels = json.loads(line)["labels"]
    chances = [label["probability"] for label in labels]
    assert len(chances) == 5
    assert chances == sorted(chances, reverse=True)


def test_evaluation_prints_a_table_of_codes_and_draws_them(tmp_path: Path) -> None:
    gallery = HOUSE / "data" / "gallery"
    figure = tmp_path / "codes.svg"
    told = fc7("evaluate", "retrieval", "--data", gallery, "--bits", "32", "--plot", figure)
    assert told.returncode == 0, told.stderr
    assert "codes learned on the evaluated photos themselves" in told.stdout
    head, *rows = told.stdout.splitlines()[-5:]
    assert head.split()[:4] == ["method", "bits", "mAP", "mAP@1000"]
    assert all(re.search(r" 32  0\.\d{4} ", row) for row in rows)
    assert figure.read_text().startswith("<svg ")


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (("--bits", "48"), 1, "codes have 32, 64, 128, 256, 512 bits, not 48"),
        (("--bits", "many"), 2, "many is not numbers like 64,128"),
        (("--plot", "codes.svg"), 1, "say how long with --bits"),
        (("--plot", "codes.png", "--bits", "32"), 2, "codes.png is not a name like figure.svg"),
        (("--labels", "nowhere.csv"), 1, "nowhere.csv is not there: labels are folder, ukbench"),
        (("--labels", "holidays"), 1, "nothing to measure"),
    ],
)
def test_evaluation_refuses_bad_input_in_one_line(
    arguments: tuple[str, ...], code: int, line: str, tmp_path: Path
) -> None:
    failed = fc7("evaluate", "retrieval", "--data", tmp_path, *arguments)
    assert (failed.returncode, failed.stdout) == (code, "")
    assert line in failed.stderr.splitlines()[-1]
    assert "Traceback" not in failed.stderr


def test_networks_lists_the_bundled_and_the_published_weights() -> None:
    rows = [json.loads(line) for line in fc7("networks", "--json").stdout.splitlines()]
    known = {(row["network"], row["name"]) for row in rows}
    assert {("alexnet", "bundled"), ("alexnet", "imagenet"), ("vgg16", "imagenet")} <= known
    (published,) = [r for r in rows if (r["network"], r["name"]) == ("alexnet", "imagenet")]
    assert (published["top1"], published["top5"]) == (56.522, 79.066)


def test_a_closed_pipe_is_no_error(library: Path, folder: Path) -> None:
    command = f'"{sys.executable}" -m ui.cli search "{folder}/shoe-01.jpg" --library "{library}"'
    closed = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | true"],
        capture_output=True,
        text=True,
        check=False,
        cwd=HOUSE,
    )
    assert (closed.returncode, closed.stderr) == (0, "")


def test_two_builds_of_faiss_in_one_environment_are_told(library: Path, tmp_path: Path) -> None:
    """What pip leaves behind when faiss-gpu was put beside faiss-cpu."""
    record = tmp_path / "faiss_gpu-1.12.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: faiss-gpu\nVersion: 1.12.0\n")
    failed = fc7("status", "--library", library, PYTHONPATH=str(tmp_path))
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "pip uninstall -y faiss-cpu faiss-gpu" in failed.stderr
    assert failed.stderr.count("\n") == 1
