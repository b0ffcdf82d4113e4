"""fc7 bench browser: a drawn library like a person's, and when a page counts as drawn."""

from __future__ import annotations

import io
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page

from indexer import Filters, open_library
from indexer.bench.drawn import DressedLibrary
from retrieval.errors import BenchError
from retrieval.extractor import Extractor
from ui.chromium import chromium
from ui.looking import Look, bench_browser, until_drawn

PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="


def test_a_dressed_library_is_one_of_photos_with_dates_cameras_folders_classes_and_thumbnails(
    tmp_path: Path, extractor: Extractor
) -> None:
    seeds = np.abs(np.random.default_rng(0).standard_normal((40, 4096))).astype(np.float32)
    (tmp_path / "library").mkdir()
    drawn = DressedLibrary(tmp_path / "library", extractor, seeds)
    for count in (150, 50):
        drawn.add(count)
    drawn.catalog.close()
    with open_library(tmp_path / "library", extractor=extractor) as library:
        photos = library.photos(limit=1000)
        assert len(photos) == library.count() == 200
        assert all(photo.path.is_file() for photo in photos)
        assert sum(photo.taken_at is None for photo in photos) == 20
        for photo in photos[::20]:
            with Image.open(io.BytesIO(library.thumbnail(photo.id) or b"")) as thumbnail:
                assert max(thumbnail.size) == 320
                ratio = thumbnail.width / thumbnail.height
            assert ratio == pytest.approx(photo.width / photo.height, rel=0.01)
            assert photo.taken_at is None or photo.path.parts[-3] == photo.taken_at[:4]
        facets = library.facets()
        assert facets.first is not None
        assert facets.last is not None
        assert "2014" <= facets.first[:4] < facets.last[:4] <= "2023"
        assert dict(facets.cameras) == Counter(photo.camera for photo in photos if photo.camera)
        assert len({place.parent for place, _ in facets.folders}) > 10
        chances = [sum(one.probability for one in library.labels(photo.id)) for photo in photos]
        assert chances == pytest.approx([1.0] * 200)
        assert len(library.map.points()) == 200
        assert library.map.missing() == 0
        asked = photos[0]
        assert asked.id not in {hit.photo.id for hit in library.search(asked.id, 200)}
        assert library.answer(asked.id, 5, filters=Filters(camera="Canon")).hits


def test_a_page_is_drawn_when_its_program_rests_and_what_is_in_view_is_there(page: Page) -> None:
    page.goto("about:blank")
    page.set_content(
        f"""<div data-testid=stApp data-test-script-state=running><img src="{PIXEL}" width=9>
        <img src="data:," width=9 style="position:absolute;top:9000px">
        <script>
          setTimeout(() => location.hash = "page=2", 100);
          setTimeout(() => {{
            const late = new Image(9, 9);
            document.body.append(late);
            setTimeout(() => late.src = "{PIXEL}", 300);
            document.querySelector("div").dataset.testScriptState = "notRunning";
            window.rested = true;
          }}, 300);
          window.begun = performance.now();
        </script></div>"""
    )
    seen = until_drawn(page, "page=2")
    assert seen is not None
    assert abs(seen - time.perf_counter()) < 5
    assert page.evaluate("window.rested && [...document.images].at(-1).complete")
    assert page.evaluate("performance.now() - window.begun") >= 600


def test_the_figure_is_the_middle_one_and_none_where_nothing_came() -> None:
    assert Look("x", (3.0, 1.0, 2.0)).median == 2.0
    assert Look("x", ()).median is None


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BenchError, match="999 photos are too few to measure: 1,000 or more"):
        bench_browser(999, rounds=1, progress=lambda *_: None)
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    with pytest.raises(BenchError, match="pip install playwright, and Chromium"), chromium():
        pass
    monkeypatch.undo()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BenchError, match="Chromium is not installed"), chromium():
        pass
