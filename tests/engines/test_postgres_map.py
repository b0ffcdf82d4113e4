"""The tests of the map, with the catalogue on a real PostgreSQL."""

from postgres_server import *  # noqa: F403
from test_map import *  # noqa: F403
