"""Where the parts of a library are that are not in its folder.

LIBRARY/engines.json   their addresses, without passwords; not there while all is in the folder
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from retrieval.errors import LibraryError

FILE = "engines.json"


@dataclass(frozen=True, slots=True)
class Addresses:
    """None: in the library's folder."""

    catalog: str | None = None  # of a PostgreSQL database
    store: str | None = None  # of vectors
    library: str | None = None  # the library's mark there, so that no other is taken for it


def read_addresses(library: Path) -> Addresses:
    """Raises LibraryError if the file is damaged."""
    file = library / FILE
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        values = {field.name: found.get(field.name) for field in fields(Addresses)}
        if not all(value is None or isinstance(value, str) for value in values.values()):
            raise ValueError(values)
        return Addresses(**values)
    except FileNotFoundError:
        return Addresses()
    except OSError as error:
        raise LibraryError(f"{file} can't be read: {error.strerror}") from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise LibraryError(f"{file} is damaged: bring it back from a backup") from error


def write_addresses(library: Path, addresses: Addresses) -> None:
    """Replace the file as a whole. Raises LibraryError if that can't be done."""
    file = library / FILE
    aside = library / f"{FILE}.partial"
    try:
        aside.write_text(json.dumps(asdict(addresses), indent=2) + "\n", encoding="utf-8")
        aside.replace(file)
    except OSError as error:
        raise LibraryError(f"{file} can't be written: {error.strerror}") from error
