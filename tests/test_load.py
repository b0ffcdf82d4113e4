"""Twenty users at once, and whether a long use stays level: short forms of load and soak."""

from __future__ import annotations

from pathlib import Path

import pytest
from torture.load import USERS, WAYS, ask_alone, ask_in_threads, questions_of
from torture.servers import Sample
from torture.soak import growth
from torture.together import make_library, some_photos


def test_twenty_threads_get_what_one_gets(tmp_path: Path) -> None:
    with make_library(tmp_path, some_photos(20)) as library:
        questions = questions_of(library.path, 1)
        alone, right = ask_alone(library, questions)
        load = ask_in_threads(library, questions, right)
    assert alone.errors == load.errors == ()
    assert load.wrong == 0
    assert len(load.seconds) == USERS * len(WAYS)
    assert sum(map(bool, right.values())) > 3


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([100, 180] + [200, 201, 199] * 10, ""),
        ([200 + 3 * at for at in range(40)], "from 236 to 296"),
        ([200 + 30 * (at % 2) for at in range(40)], ""),  # it only swings
        ([200] * 33 + [400] * 7, ""),  # something large is at work
        ([900] + [200] * 39, ""),
    ],
)
def test_what_grows_is_told_and_what_swings_is_not(values: list[int], told: str) -> None:
    samples = [(float(at), Sample(value, 1, 1, 1, 1, 1)) for at, value in enumerate(values)]
    assert growth(samples, "rss") == told
    assert growth(samples, "handles") == ""
