"""Processes of ours that the parts begin."""

from __future__ import annotations

import os
from pathlib import Path

HOUSE = Path(__file__).parent.parent.parent


def environment() -> dict[str, str]:
    """In which a process finds these parts and the product."""
    return os.environ | {"PYTHONPATH": f"{HOUSE}{os.pathsep}{HOUSE / 'tests'}"}
