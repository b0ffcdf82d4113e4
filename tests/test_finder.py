"""Answers by examples, by codes, through filters, and by a word, against plain loops."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray
from PIL import Image

import indexer.finder
from indexer import Filters, Library, Photo, open_library
from indexer import schema as t
from indexer.coding import CoderStore
from indexer.engines.catalogs import open_catalog
from indexer.segments import SegmentStore
from retrieval.codes import SHORTLIST, read_coder, write_coder
from retrieval.errors import Fc7Error, ImageError, LibraryError
from retrieval.extractor import Extractor
from retrieval.images import frame, read_photo
from retrieval.search import stored_rows, write_codes
from retrieval.training.coders import random_hyperplanes

GROUPS = ("sunflowers", "shoes", "mountains", "cats", "sunsets")
CAMERAS = ("Canon EOS 7D", "NIKON E775", "Ünïcam Ä1", None)


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, gallery: Path, extractor: Extractor
) -> Iterator[Library]:
    """15 photos of five groups and 2 copies in a folder of their own, with drawn metadata."""
    home = tmp_path_factory.mktemp("finder")
    for group in GROUPS:
        (home / "photos" / group).mkdir(parents=True)
        for photo in sorted((gallery / group).iterdir())[:3]:
            shutil.copy(photo, home / "photos" / group)
    (home / "photos" / "sun").mkdir()  # its name begins that of others
    for name in ("sunflowers/sunflower-01.jpg", "shoes/shoe-01.jpg"):
        shutil.copy(gallery / name, home / "photos" / "sun")
    with open_library(home / "library", extractor=extractor) as library:
        library.index([home / "photos"])
        _draw_metadata(home / "library")
        _take_codes_away(home / "library")
        yield library


def _draw_metadata(library: Path) -> None:
    """Dates of four years, some with an offset, cameras and places; some photos have none."""
    rng = np.random.default_rng(0)
    c = t.contents.c
    with closing(open_catalog(library)) as catalog, catalog.write() as writer:
        for row in catalog.rows(sa.select(c.id).order_by(c.hash)):
            day = f"{rng.integers(2020, 2024)}-{rng.integers(1, 13):02}-{rng.integers(1, 29):02}"
            time = f"{day}T{rng.integers(24):02}:10:00" + ("+02:00" if rng.random() < 0.5 else "")
            drawn = {
                "taken_at": time if rng.random() < 0.8 else None,
                "camera": CAMERAS[rng.integers(len(CAMERAS))],
                "latitude": rng.uniform(-60, 60) if (placed := rng.random() < 0.8) else None,
                "longitude": rng.uniform(-180, 180) if placed else None,
            }
            writer.execute(sa.update(t.contents).where(c.id == row.id).values(drawn))


def _take_codes_away(library: Path) -> None:
    """As if it were made before there were codes."""
    with closing(open_catalog(library)) as catalog, catalog.write() as writer:
        writer.execute(sa.delete(t.settings).where(t.settings.c.key.startswith("coder")))
    for codes in library.rglob("*.codes"):
        codes.unlink()


@pytest.fixture
def coded(made: Library, tmp_path: Path, extractor: Extractor) -> Iterator[Library]:
    """The same library with codes of 64 bits, made by hand."""
    made.close()  # so that all is in the file; it opens again by itself
    path = tmp_path / "coded"
    shutil.copytree(made.path, path)
    with open_library(path, extractor=extractor) as library:
        give_codes(path, shortlist=None)
        yield library


def give_codes(library: Path, shortlist: int | None) -> None:
    """Put a coder and codes where a library has them."""
    catalog, store = open_catalog(library), SegmentStore(library / "segments")
    names = [one.name for one in catalog.segments()]
    rows = np.concatenate([stored_rows(store.path(name)) for name in names])
    path = CoderStore(library / "coders").path("planes")
    path.parent.mkdir(exist_ok=True)
    write_coder(path, random_hyperplanes(rows, 64), {"method": "random hyperplanes"})
    coder, _ = read_coder(path)
    for name in names:
        write_codes(store.codes_path(name, "planes"), coder.encode(stored_rows(store.path(name))))
    with catalog.write() as writer:
        writer.set(coder="planes")
        if shortlist is not None:
            writer.set(shortlist=str(shortlist))
    catalog.close()


def photos_of(library: Library) -> list[Photo]:
    return library.photos(limit=1000)


def id_of(library: Library, name: str) -> int:
    return min(photo.id for photo in photos_of(library) if photo.path.name == name)


def describe(extractor: Extractor, path: Path) -> NDArray[np.float32]:
    pixels, _ = read_photo(path)
    return extractor.describe(frame(pixels, extractor.framing)[np.newaxis]).fc7[0]


# --- exact, or by codes


def test_codes_with_a_shortlist_of_all_give_the_exact_answers(coded: Library) -> None:
    assert coded.count() < SHORTLIST
    for photo in photos_of(coded):
        exact = coded.answer(photo.id, 8, mode="exact")
        by_codes = coded.answer(photo.id, 8, mode="codes")
        assert by_codes.hits == exact.hits
        assert (exact.effort.mode, exact.effort.compared, exact.effort.shortlist) == (
            "exact",
            15,
            0,
        )
        effort = by_codes.effort
        assert (effort.mode, effort.compared, effort.shortlist, effort.bits) == (
            "codes",
            15,
            15,
            64,
        )


def test_auto_is_exact_for_few_rows_and_by_codes_for_many(
    coded: Library, made: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = id_of(coded, "shoe-01.jpg")
    cats = Filters(folder=photos_of(coded)[0].path.parents[1] / "cats")
    assert coded.answer(photo).effort.mode == "exact"
    monkeypatch.setattr(indexer.finder, "EXACT_ROWS", 3)
    assert coded.answer(photo).effort.mode == "codes"
    assert coded.answer(photo, filters=cats).effort.mode == "exact"
    assert made.answer(photo).effort.mode == "exact"  # it has no codes


def test_the_measured_shortlist_is_used_and_never_less_than_k(coded: Library) -> None:
    give_codes(coded.path, shortlist=6)
    photo = id_of(coded, "shoe-01.jpg")
    assert coded.answer(photo, 2, mode="codes").effort.shortlist == 6
    answer = coded.answer(photo, 12, mode="codes")
    assert (len(answer.hits), answer.effort.shortlist) == (12, 13)  # itself is asked for too


def test_a_removed_photo_is_no_answer_by_codes(coded: Library) -> None:
    gone = id_of(coded, "cat-02.jpg")
    with closing(open_catalog(coded.path)) as catalog, catalog.write() as writer:
        writer.execute(sa.delete(t.photos).where(t.photos.c.id == gone))
    answer = coded.answer(id_of(coded, "cat-01.png"), 50, mode="codes")
    assert answer.effort.total == 14
    assert gone not in {hit.photo.id for hit in answer.hits}
    assert len(answer.hits) == coded.count() - 1


def test_codes_that_are_asked_for_and_not_there_are_told_in_one_line(
    coded: Library, made: Library
) -> None:
    with pytest.raises(LibraryError, match=r"has no codes: fc7 codes train makes them") as caught:
        made.answer(1, mode="codes")
    assert "\n" not in str(caught.value)
    (codes,) = coded.path.rglob("*.codes")
    codes.write_bytes(codes.read_bytes()[:-9])
    with pytest.raises(LibraryError, match=r"codes is missing or damaged: fc7 codes train"):
        coded.answer(1, mode="codes")
    assert coded.answer(1, mode="exact").hits
    coder_file = CoderStore(coded.path / "coders").path("planes")
    give_codes(coded.path, shortlist=None)
    write_coder(coder_file, random_hyperplanes(np.eye(40, 4096, dtype=np.float32), 32), {})
    with pytest.raises(LibraryError, match=r"makes 32 bits, the .* have 64: fc7 codes train"):
        coded.answer(1, mode="codes")
    coder_file.unlink()
    with pytest.raises(Fc7Error, match=r"planes\.safetensors is missing or damaged: fc7 codes"):
        coded.answer(1, mode="codes")
    with pytest.raises(LibraryError, match="auto, exact or codes"):
        coded.answer(1, mode="quick")  # type: ignore[arg-type]


# --- filters


def folder_of(library: Library, group: str) -> Path:
    return next(p.path.parent for p in photos_of(library) if p.path.parent.name == group)


def passes(library: Library, photo: Photo, filters: Filters) -> bool:
    """What the filters say, photo by photo."""
    taken, camera = photo.taken_at or "", (photo.camera or "").lower()
    south, west, north, east = filters.box or (0, 0, 0, 0)
    at = (photo.latitude, photo.longitude)
    return all(
        (
            filters.folder is None or filters.folder in photo.path.parents,
            filters.since is None or (bool(taken) and taken >= filters.since),
            filters.until is None or (bool(taken) and taken[: len(filters.until)] <= filters.until),
            filters.camera is None or (bool(camera) and filters.camera.lower() in camera),
            filters.label is None
            or any(filters.label.lower() in one.label.lower() for one in library.labels(photo.id)),
            filters.box is None
            or (
                at[0] is not None
                and at[1] is not None
                and south <= at[0] <= north
                and (west <= at[1] <= east if west <= east else not east < at[1] < west)
            ),
        )
    )


def filter_cases(library: Library) -> list[Filters]:
    return [
        Filters(),
        Filters(folder=folder_of(library, "sun")),
        Filters(folder=folder_of(library, "sunflowers").parent),
        Filters(since="2022"),
        Filters(until="2021"),
        Filters(since="2021-06", until="2022-03"),
        Filters(since="2020-01-01", until="2022-12-31"),
        Filters(camera="canon"),
        Filters(camera="ÜNÏCAM"),
        Filters(label="CAT"),
        Filters(label="loafer"),
        Filters(box=(-60, -90, 60, 90)),
        Filters(box=(-60, 90, 60, -90)),
        Filters(since="2021", camera="n", box=(-60, -180, 60, 180)),
        Filters(folder=Path("/nowhere")),
    ]


@pytest.mark.parametrize("mode", ["exact", "codes"])
def test_filters_are_what_a_loop_over_the_photos_makes_of_them(
    coded: Library, mode: indexer.finder.Mode
) -> None:
    query = id_of(coded, "mountain-02.jpg")
    everything = coded.answer(query, 50, mode="exact").hits
    sizes = set()
    for filters in filter_cases(coded):
        expected = [
            (hit.photo, hit.distance) for hit in everything if passes(coded, hit.photo, filters)
        ]
        answer = coded.answer(query, 50, mode=mode, filters=filters)
        assert [(hit.photo, hit.distance) for hit in answer.hits] == expected
        assert [hit.rank for hit in answer.hits] == list(range(1, len(expected) + 1))
        assert answer.effort.filtered == (filters != Filters())
        sizes.add(len(expected))
    assert len(sizes) > 6


@pytest.mark.parametrize("mode", ["exact", "codes"])
def test_a_filter_still_gives_k_answers_if_there_are_so_many(
    coded: Library, mode: indexer.finder.Mode
) -> None:
    give_codes(coded.path, shortlist=1)
    query = id_of(coded, "cat-01.png")
    for filters in filter_cases(coded):
        there = sum(p.id != query and passes(coded, p, filters) for p in photos_of(coded))
        for k in (1, 3):
            found = coded.answer(query, k, mode=mode, filters=filters).hits
            assert len(found) == min(k, there)
            assert all(passes(coded, hit.photo, filters) for hit in found)


def test_of_a_photo_and_its_copy_only_the_one_in_the_folder_is_answered(made: Library) -> None:
    inside = Filters(folder=folder_of(made, "sun"))
    hits = made.answer(id_of(made, "shoe-02.jpg"), 10, filters=inside).hits
    assert [hit.photo.path.parent.name for hit in hits] == ["sun", "sun"]


@pytest.mark.parametrize(
    "date", ["2023-13", "2023-02-30", "23", "2023-5", "yesterday", "", "2023-"]
)
def test_what_is_no_date_is_told(date: str) -> None:
    for name in ("since", "until"):
        with pytest.raises(LibraryError, match="is no date: give 2023, 2023-05 or 2023-05-17"):
            Filters(**{name: date})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "box", [(10, 0, 5, 1), (-91, 0, 5, 1), (0, -181, 5, 1), (0, 0, 5, float("nan"))]
)
def test_what_is_no_place_is_told(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(LibraryError, match="is no part of the earth"):
        Filters(box=box)


# --- several examples


def by_loop(
    library: Library, extractor: Extractor, like: Sequence[Path], unlike: Sequence[Path]
) -> list[tuple[Path, float]]:
    """The answer by a loop over descriptors made anew."""
    query = np.mean([describe(extractor, path) for path in like], axis=0, dtype=np.float64)
    if unlike:
        query -= 0.5 * np.mean([describe(extractor, path) for path in unlike], axis=0)
    query = np.maximum(query, 0)
    query /= np.sqrt((query**2).sum())
    pairs = [
        (float(np.sqrt(((describe(extractor, photo.path) - query) ** 2).sum())), photo.path)
        for photo in photos_of(library)
        if photo.path not in {*like, *unlike}
    ]
    return [(path, distance) for distance, path in sorted(pairs)]


def test_several_examples_and_counter_examples_are_what_a_loop_makes_of_them(
    made: Library, extractor: Extractor, gallery: Path
) -> None:
    sunflowers, cats = folder_of(made, "sunflowers"), folder_of(made, "cats")
    first, second = sunflowers / "sunflower-02.jpg", sunflowers / "sunflower-03.jpg"
    outside, cat = gallery / "sunsets" / "sunset-04.jpg", cats / "cat-02.jpg"
    for like, unlike in (
        ([first, second], []),
        ([first, outside], [cat]),
        ([second], [cat, first]),
    ):
        answer = made.answer(like[0], 50, like=like[1:], unlike=unlike)
        expected = by_loop(made, extractor, like, unlike)
        assert {hit.photo.path for hit in answer.hits} == {path for path, _ in expected}
        np.testing.assert_allclose(
            [hit.distance for hit in answer.hits], [d for _, d in expected], atol=2e-3
        )
        assert len(answer.labels) == (5 if len(like) == 1 else 0)


def test_a_counter_example_sends_its_kind_down(made: Library) -> None:
    photo, cat = id_of(made, "sunset-01.jpg"), id_of(made, "cat-01.png")

    def mean_rank_of_cats(unlike: Sequence[int]) -> float:
        hits = made.answer(photo, 50, unlike=unlike).hits
        return float(
            np.mean([h.rank for h in hits if h.photo.path.name in {"cat-02.jpg", "cat-03.jpg"}])
        )

    assert mean_rank_of_cats([cat]) > mean_rank_of_cats([])


def test_no_example_is_answered_but_k_others_are(made: Library) -> None:
    every = [photo.id for photo in photos_of(made)]
    for mode in ("auto", "exact"):
        answer = made.answer(every[0], 5, like=every[1:4], unlike=every[4:9], mode=mode)
        assert len(answer.hits) == 5
        assert not {hit.photo.id for hit in answer.hits} & set(every[:9])
    with pytest.raises(LibraryError, match="no photo 999"):
        made.answer(every[0], unlike=[999])


# --- a region


def test_a_region_is_searched_as_a_file_of_that_crop(
    made: Library, tmp_path: Path, gallery: Path
) -> None:
    for photo in (gallery / "cats" / "cat-03.jpg", folder_of(made, "cats") / "cat-01.png"):
        pixels, info = read_photo(photo, min_side=10_000)
        x, y, width, height = info.width // 4, info.height // 3, info.width // 2, info.height // 2
        crop = Image.fromarray(pixels[y : y + height, x : x + width])
        crop.save(tmp_path / "crop.png")
        answer = made.answer(photo, 50, region=(x, y, width, height))
        expected = made.answer(tmp_path / "crop.png", 50)
        assert answer.labels == expected.labels
        known = {p.id for p in photos_of(made) if p.path == photo}
        assert [(hit.photo, hit.distance) for hit in answer.hits] == [
            (hit.photo, hit.distance) for hit in expected.hits if hit.photo.id not in known
        ]


def test_a_region_of_an_indexed_photo_is_described_anew(made: Library) -> None:
    photo = id_of(made, "shoe-01.jpg")
    assert made.answer(photo, 1).hits[0].distance == 0  # its copy
    assert made.answer(photo, 1, region=(0.3, 0.3, 0.4, 0.4)).hits[0].distance > 0.1


def test_a_bad_region_is_told(made: Library) -> None:
    photo = id_of(made, "shoe-01.jpg")
    with pytest.raises(
        ImageError, match=r"shoe-01\.jpg can't be used: the region 0,0,2,900 is not"
    ):
        made.answer(photo, region=(0, 0, 2, 900))
    with pytest.raises(LibraryError, match="a region is of one photo"):
        made.answer(photo, like=[photo + 1], region=(0, 0, 1, 1))


# --- by a word


def labelled_by_loop(library: Library, words: set[str]) -> list[tuple[float, Path, str]]:
    found = []
    for photo in photos_of(library):
        chances = [(-p.probability, p.label) for p in library.labels(photo.id) if p.label in words]
        if chances:
            found.append((min(chances)[0], photo.path, min(chances)[1]))
    return sorted(found)


def test_a_word_gives_the_photos_that_likeliest_show_it(made: Library) -> None:
    known = {one.label for photo in photos_of(made) for one in made.labels(photo.id)}
    cats = {label for label in known if "cat" in label.lower()}
    assert len(cats) > 1
    for word, words in (
        ("PERSIAN CAT", {"Persian cat"}),
        ("cat", cats),
        ("A", {label for label in known if "a" in label.lower()}),
    ):
        expected = labelled_by_loop(made, words)
        for k in (2, 50):
            found = made.labelled(word, k)
            assert [(-one.probability, one.photo.path, one.label) for one in found] == expected[:k]
            assert [one.rank for one in found] == list(range(1, len(found) + 1))


def test_a_word_goes_with_filters(made: Library) -> None:
    only = Filters(folder=folder_of(made, "cats"))
    found = made.labelled("a", 50, filters=only)
    assert found
    assert [one.photo.path for one in found] == [
        one.photo.path for one in made.labelled("a", 50) if passes(made, one.photo, only)
    ]


def test_an_unknown_word_is_told_with_the_nearest_labels(made: Library) -> None:
    for word, near in (("Persain Cat", "Persian cat"), ("loaferr", "Loafer")):
        with pytest.raises(LibraryError, match=rf"labelled '{word}'; the nearest labels: {near}"):
            made.labelled(word)
    for word in ("qqqqqqqqq", "", " "):
        with pytest.raises(LibraryError, match=r"; nor nearly so$"):
            made.labelled(word)
    with pytest.raises(LibraryError, match="ask for 1 or more"):
        made.labelled("a", 0)
