"""The tests of search, with the catalogue on a real PostgreSQL."""

from on_postgres import *  # noqa: F403
from test_finder import *  # noqa: F403
