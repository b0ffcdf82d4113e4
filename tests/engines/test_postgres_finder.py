"""The tests of search, with the catalogue on a real PostgreSQL."""

from postgres_server import *  # noqa: F403
from test_finder import *  # noqa: F403
