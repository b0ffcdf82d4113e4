"""The tests of duplicates, with the catalogue on a real PostgreSQL."""

from on_postgres import *  # noqa: F403
from test_duplicates import *  # noqa: F403
