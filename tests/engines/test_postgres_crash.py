"""The tests of killed runs, with the catalogue on a real PostgreSQL."""

from postgres_server import *  # noqa: F403
from test_crash import *  # noqa: F403
