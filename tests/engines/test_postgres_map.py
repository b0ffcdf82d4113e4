"""The tests of the map, with the catalogue on a real PostgreSQL."""

from on_postgres import *  # noqa: F403
from test_map import *  # noqa: F403
