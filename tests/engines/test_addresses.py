"""What an address may be, and what filters become for Milvus; no server is needed."""

from __future__ import annotations

from datetime import date
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer import Library, open_library
from indexer.catalog import NewContent
from indexer.engines.expressions import day_of, expression_of, facts_of
from indexer.engines.stores import TOKEN, parse_address
from indexer.filters import Filters
from retrieval.errors import LibraryError

pytestmark = pytest.mark.light


def test_an_address_has_a_server_a_name_and_options() -> None:
    address = parse_address("milvus://example.org/holidays?replicas=2&shards=4")
    assert (address.uri, address.name) == ("http://example.org:19530", "holidays")
    assert (address.replicas, address.shards, address.token) == (2, 4, "")
    assert address.shown == "Milvus at example.org:19530"


def test_what_is_secret_comes_with_the_address_or_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert parse_address("milvus://me:secret@host:1/a").token == "me:secret"
    monkeypatch.setenv(TOKEN, "them:hidden")
    assert parse_address("milvus://host:1/a").token == "them:hidden"
    with pytest.raises(LibraryError) as told:
        parse_address("http://me:secret@host:1/a")
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("host:19530", "like milvus://HOST:PORT"),
        ("milvus://", "like milvus://HOST:PORT"),
        ("milvus://host:99999999/a", "like milvus://HOST:PORT"),
        ("milvus://host/1a", "can't name a library"),
        ("milvus://host/a-b", "can't name a library"),
        ("milvus://host/a?replicas=0", "replicas=1 to 8"),
        ("milvus://host/a?replica=2", "replicas=1 to 8"),
        ("milvus://host/a?shards=", "shards=1 to 64"),
    ],
)
def test_what_is_no_address_is_told(address: str, said: str) -> None:
    with pytest.raises(LibraryError, match=said):
        parse_address(address)


def test_a_file_needs_milvus_lite_of_a_version_that_has_codes(tmp_path: Path) -> None:
    pytest.importorskip("pymilvus", reason='pip install ".[cluster]"')
    if find_spec("milvus_lite") is not None:
        pytest.skip("milvus-lite is installed here")
    with pytest.raises(LibraryError, match=r'not installed: pip install "milvus-lite<3"'):
        open_library(tmp_path / "library", store=str(tmp_path / "vectors.db"))


days = st.dates(date(1900, 1, 1), date(2099, 12, 31)).map(str)
parts = st.tuples(days, st.sampled_from([4, 7, 10])).map(lambda both: both[0][: both[1]])


@given(taken=days, since=parts, until=parts)
def test_dates_as_numbers_compare_as_the_catalogue_compares_their_text(
    taken: str, since: str, until: str
) -> None:
    day = day_of(taken + "T10:11:12+02:00")
    assert (day >= day_of(since)) == (taken >= since)
    assert (day <= day_of(until, 99)) == (taken[: len(until)] <= until)


@pytest.mark.parametrize("columns", [{}, {"taken_at": None, "camera": None, "latitude": None}])
def test_what_says_nothing_of_itself_passes_no_filter(
    library: Library, columns: dict[str, None]
) -> None:
    facts = facts_of(NewContent("00", columns, ()))
    for filters in (
        Filters(since="1900"),
        Filters(until="2099"),
        Filters(box=(-90, -180, 90, 180)),
        Filters(box=(-90, 100, 90, -100)),
        Filters(camera="a"),
        Filters(label="a"),
    ):
        expression = expression_of(filters, library._catalog)
        assert expression
        assert not eval(expression, {"id": 1, **facts})  # it is Python too
