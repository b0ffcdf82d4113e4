"""The tests of albums, with the catalogue on a real PostgreSQL."""

from postgres_server import *  # noqa: F403
from test_albums import *  # noqa: F403
