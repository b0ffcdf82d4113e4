"""The tests of duplicates, with the catalogue on a real PostgreSQL."""

from postgres_server import *  # noqa: F403
from test_duplicates import *  # noqa: F403
