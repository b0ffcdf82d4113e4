"""The tests of codes, with the catalogue on a real PostgreSQL."""

from on_postgres import *  # noqa: F403
from test_coding import *  # noqa: F403
