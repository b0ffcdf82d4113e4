"""A Milvus that is killed and started again under a library."""

from __future__ import annotations

from pathlib import Path

import pytest
from milvus_server import MilvusServer, skip_where_milvus_cannot_run
from test_milvus import address_of, same_answers

import indexer.engines.milvus_client
from indexer import open_library
from retrieval.errors import LibraryError
from retrieval.extractor import Extractor


def test_a_server_that_comes_back_is_asked_again(
    photos: Path, tmp_path: Path, extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill 2.3.5 needs half a minute, the length of its session's lease."""
    skip_where_milvus_cannot_run()
    with (
        MilvusServer(tmp_path / "server") as server,
        open_library(tmp_path / "local", extractor=extractor) as local,
        open_library(tmp_path / "far", extractor=extractor, store=address_of(server)) as far,
    ):
        for library in (local, far):
            library.index([photos])
        server.kill()
        with pytest.raises(LibraryError, match=r"^Milvus at .* can't be used: .* try again"):
            far.answer(far.photos(limit=1)[0].id, 5)
        server.start()
        monkeypatch.setattr(indexer.engines.milvus_client, "_PATIENCE", 300.0)
        same_answers(local, far)
        with open_library(far.path, extractor=extractor) as again:
            same_answers(local, again)
