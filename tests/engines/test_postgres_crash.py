"""The tests of killed runs, with the catalogue on a real PostgreSQL."""

from on_postgres import *  # noqa: F403
from test_crash import *  # noqa: F403
