"""The map of a library of real photos: drawn once, and then added to without moving anything."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from indexer import Library, open_library
from retrieval.errors import LibraryError
from retrieval.extractor import Extractor
from ui.cli import main

GROUPS = ("bananas", "dandelions", "shoes", "sunsets")


@pytest.fixture(scope="module")
def gallery_copy(tmp_path_factory: pytest.TempPathFactory, gallery: Path) -> Path:
    folder = tmp_path_factory.mktemp("gallery") / "photos"
    for group in GROUPS:
        shutil.copytree(gallery / group, folder / group)
    return folder


@pytest.fixture(scope="module")
def mapped(
    tmp_path_factory: pytest.TempPathFactory, gallery_copy: Path, extractor: Extractor
) -> Path:
    where = tmp_path_factory.mktemp("mapped") / "library"
    with open_library(where, extractor=extractor) as library:
        library.index([gallery_copy])
        library.map.update()
    return where


@pytest.fixture
def own(tmp_path: Path, mapped: Path, extractor: Extractor) -> Iterator[Library]:
    """A library of the groups, with a map."""
    shutil.copytree(mapped, tmp_path / "own")
    with open_library(tmp_path / "own", extractor=extractor) as library:
        yield library


def places_of(library: Library) -> dict[Path, tuple[float, float]]:
    return {point.path: (point.x, point.y) for point in library.map.points()}


def add(library: Library, gallery: Path, into: Path, *groups: str) -> None:
    for group in groups:
        shutil.copytree(gallery / group, into / group)
    library.index([into])


def test_photos_of_one_group_lie_together(own: Library) -> None:
    points = own.map.points()
    assert [point.photo for point in points] == sorted(photo.id for photo in own.photos())
    where = np.array([(point.x, point.y) for point in points])
    groups = np.array([point.path.parent.name for point in points])
    apart = np.linalg.norm(where[:, np.newaxis] - where, axis=2) + np.diag([np.inf] * len(where))
    assert (groups[apart.argmin(axis=1)] == groups).mean() >= 0.9


def test_what_is_known_of_a_photo_goes_with_its_place(own: Library) -> None:
    album = own.albums.create("Two", [photo.id for photo in own.photos(limit=2)])
    inside = {photo.id for photo in own.albums.photos(album.id)}
    for point in own.map.points():
        photo = own.photo(point.photo)
        first = own.labels(point.photo)[0]
        assert (point.path, point.content_hash, point.taken_at) == (
            photo.path,
            photo.content_hash,
            photo.taken_at,
        )
        assert (point.label, point.probability) == (first.label, first.probability)
        assert point.albums == ((album.id,) if point.photo in inside else ())


def test_new_photos_come_among_their_likes_and_move_no_other(
    own: Library, gallery: Path, gallery_copy: Path, tmp_path: Path
) -> None:
    before, version = places_of(own), own.map.version()
    new = tmp_path / "new"
    new.mkdir()
    for photo in sorted((gallery_copy / "shoes").iterdir()):  # other files, so other contents
        (new / photo.name).write_bytes(photo.read_bytes() + b" ")
    own.index([new])
    assert own.map.missing() == len(list(new.iterdir()))
    report = own.map.update()
    assert (report.drawn, report.outgrown, own.map.missing()) == (False, False, 0)
    assert report.placed == report.pictures - len(before) == len(list(new.iterdir()))
    after = places_of(own)
    assert {path: after[path] for path in before} == before
    assert own.map.version() != version
    shoes = np.array([before[path] for path in before if path.parent.name == "shoes"])
    others = np.array([before[path] for path in before if path.parent.name != "shoes"])
    for path in after.keys() - before.keys():
        near, far = (np.linalg.norm(group - after[path], axis=1).min() for group in (shoes, others))
        assert near < far


def test_an_update_without_new_photos_changes_nothing(own: Library) -> None:
    before, version = places_of(own), own.map.version()
    report = own.map.update()
    assert (report.drawn, report.placed, report.pictures) == (False, 0, len(before))
    assert (places_of(own), own.map.version()) == (before, version)


def test_the_same_library_is_drawn_the_same_and_another_seed_otherwise(own: Library) -> None:
    before = places_of(own)
    assert own.map.update(anew=True).drawn
    assert places_of(own) == before
    own.map.update(anew=True, seed=1)
    assert places_of(own) != before


def test_a_renamed_file_and_a_copy_have_the_place_of_their_picture(
    tmp_path: Path, gallery_copy: Path, extractor: Extractor
) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(gallery_copy / "shoes", folder)
    with open_library(tmp_path / "library", extractor=extractor) as library:
        library.index([folder])
        library.map.update()
        before = places_of(library)
        first, second, third, *_ = sorted(before)
        first.rename(first.with_name("renamed.jpg"))
        shutil.copy2(second, folder / "copy.jpg")
        third.unlink()
        library.index()
        assert library.map.missing() == 0
        after = places_of(library)
        assert after[folder / "renamed.jpg"] == before[first]
        assert after[folder / "copy.jpg"] == after[second] == before[second]
        assert third not in after
        assert library.map.update().placed == 0


def test_a_library_that_more_than_doubled_says_so_and_moves_nothing_until_it_is_told(
    tmp_path: Path, gallery: Path, extractor: Extractor, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_library(tmp_path / "library", extractor=extractor) as library:
        add(library, gallery, tmp_path / "photos", "shoes")
        library.map.update()
        before = places_of(library)
        add(library, gallery, tmp_path / "photos", "sunsets", "bananas")
        own = ["--library", str(library.path)]
        assert main(["map", *own]) == 0
        out, err = capsys.readouterr()
        assert (
            out == f"{library.count() - len(before)} new pictures were placed among "
            f"{len(before)}, which stayed\n"
        )
        assert "fc7 map --anew" in err
        assert {path: places_of(library)[path] for path in before} == before
        assert main(["map", *own, "--anew", "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report == {
            "pictures": library.count(),
            "drawn": True,
            "placed": library.count(),
            "drawn_from": library.count(),
            "outgrown": False,
        }


def test_when_all_photos_of_the_map_have_gone_it_is_drawn_anew(
    tmp_path: Path, gallery: Path, extractor: Extractor
) -> None:
    with open_library(tmp_path / "library", extractor=extractor) as library:
        add(library, gallery, tmp_path / "photos", "shoes")
        library.map.update()
        shutil.rmtree(tmp_path / "photos" / "shoes")
        add(library, gallery, tmp_path / "photos", "bananas")
        report = library.map.update()
        assert report.drawn
        assert {path.parent.name for path in places_of(library)} == {"bananas"}


def test_one_that_was_drawn_meanwhile_is_added_to_and_not_overwritten(
    own: Library, gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process draws anew while this one places: its places count."""
    from retrieval import projection

    add(own, gallery, tmp_path / "photos", "cats")
    place, drawn = projection.place, []

    def slowly(*rows: np.ndarray) -> np.ndarray:
        if not drawn:
            with open_library(own.path) as other:
                other.map.update(anew=True, seed=3)
                drawn.append(places_of(other))
        return place(*rows)

    monkeypatch.setattr(projection, "place", slowly)
    assert own.map.update().placed == 0
    assert places_of(own) == drawn[0]


def test_no_photos_are_a_sentence(library: Library, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LibraryError, match="no photos to map yet"):
        library.map.update()
    assert main(["map", "--library", str(library.path)]) == 1
    assert "fc7 index FOLDER" in capsys.readouterr().err
    assert main(["map", "--library", str(library.path / "nowhere")]) == 1


def test_one_photo_has_a_place(tmp_path: Path, gallery: Path, extractor: Extractor) -> None:
    with open_library(tmp_path / "library", extractor=extractor) as library:
        (tmp_path / "one").mkdir()
        shutil.copy2(gallery / "shoes" / "shoe-01.jpg", tmp_path / "one")
        library.index([tmp_path / "one"])
        assert library.map.update().placed == 1
        assert list(places_of(library).values()) == [(0.0, 0.0)]


def test_the_figures_of_a_map_are_those_of_scikit_learn() -> None:
    from sklearn.manifold import trustworthiness as theirs

    from retrieval.map_evaluation import NEAREST, label_accuracy, trustworthiness

    rng = np.random.default_rng(0)
    rows = rng.standard_normal((600, 20)).astype(np.float32)
    places = (rows[:, :2] + 0.3 * rng.standard_normal((600, 2))).astype(np.float32)
    expected = theirs(rows, places, n_neighbors=NEAREST)
    assert trustworthiness(rows, places) == pytest.approx(expected, abs=1e-6)
    labels = (rows[:, 0] > 0).astype(np.intp)
    right = 0
    for at in range(600):  # the slow road
        near = np.argsort(((places - places[at]) ** 2).sum(axis=1))[1 : NEAREST + 1]
        right += (labels[near].sum() > NEAREST / 2) == labels[at]
    assert label_accuracy(places, labels) == right / 600


def test_a_map_shows_labels_that_two_directions_do_not(
    gallery: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["evaluate", "map", "--data", str(gallery), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    by = figures["by"]
    for name in ("label_accuracy", "trustworthiness"):
        assert by["map"][name] > by["two directions"][name] + 0.05
    assert by["FC7"]["trustworthiness"] == 1
    assert [skip["path"] for skip in figures["skipped"]] == ["SOURCES.md"]
    (tmp_path / "few").mkdir()
    assert main(["evaluate", "map", "--data", str(tmp_path / "few")]) == 1
