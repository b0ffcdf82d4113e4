"""The tests of the catalogue, on a real PostgreSQL."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from on_postgres import *  # noqa: F403
from postgres_server import Server
from test_catalog import *  # noqa: F403

from indexer.engines.postgres import PostgresServer

pytestmark = pytest.mark.light

del test_a_file_that_is_no_database_is_refused  # noqa: F821


@pytest.fixture(scope="module")
def new_place(postgres: Server) -> Callable[[], PostgresServer]:
    return lambda: PostgresServer(postgres.new_database())


@pytest.fixture(scope="module")
def engine_of() -> Callable[[PostgresServer], sa.Engine]:
    return lambda place: sa.create_engine(place.address)
