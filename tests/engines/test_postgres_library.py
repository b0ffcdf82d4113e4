"""The tests of the library, with the catalogue on a real PostgreSQL."""

from on_postgres import *  # noqa: F403
from test_library import *  # noqa: F403

del test_a_library_that_may_not_be_written_is_told  # noqa: F821  # by a trigger of SQLite's
