"""Work in the server's background: once for all windows, one at a time, with its errors."""

from __future__ import annotations

from threading import Event

import pytest

from retrieval.errors import LibraryError
from ui.tasks import Tasks, Tell


def test_work_is_begun_once_a_key_and_one_at_a_time() -> None:
    tasks: Tasks[str] = Tasks()
    go_on, begun = Event(), []

    def work(tell: Tell) -> str:
        begun.append(len(begun))
        tell("photos", 3, 7)
        assert go_on.wait(60)
        return f"work {len(begun)}"

    first = tasks.begin("a", work)
    assert tasks.begin("a", work) is first
    assert tasks.begin("b", work) is first  # it is at work: nothing else is begun
    assert tasks.at_work() is first
    assert not first.ended(within=0.05)
    assert (first.stage, first.done, first.total) == ("photos", 3, 7)
    go_on.set()
    assert first.ended(within=60)
    assert tasks.at_work() is None
    assert tasks.begin("a", work) is first  # its result is there
    assert first.result() == "work 1"
    second = tasks.begin("b", work)
    assert second.ended(within=60)
    assert second.result() == "work 2"
    assert first.result() == "work 1"
    assert begun == [0, 1]


def test_an_error_comes_where_the_result_is_asked_for_and_the_same_can_be_tried_again() -> None:
    tasks: Tasks[str] = Tasks()

    def work(tell: Tell) -> str:
        raise LibraryError("no room on the disk")

    task = tasks.begin("a", work)
    assert task.ended(within=60)
    with pytest.raises(LibraryError, match="no room on the disk"):
        task.result()
    assert tasks.begin("a", work) is task  # not by itself: it would fail again and again
    tasks.forget()
    again = tasks.begin("a", lambda tell: "there is room now")
    assert again.ended(within=60)
    assert again.result() == "there is room now"
