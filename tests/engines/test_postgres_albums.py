"""The tests of albums, with the catalogue on a real PostgreSQL."""

from on_postgres import *  # noqa: F403
from test_albums import *  # noqa: F403
