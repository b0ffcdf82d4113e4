"""Witnesses, without a server: that they are what the cluster tests rely on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils import murmurhash3_32

from indexer.engines.witnesses import Witnesses, far_vector, rare_code, shards_of, until_whole


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20), st.integers(1, 16))
def test_the_shard_of_an_id_is_its_murmur3_as_another_library_counts_it(
    ids: list[int], shards: int
) -> None:
    oracle = [
        (murmurhash3_32(np.int64(id_).tobytes(), positive=True) & 0x7FFFFFFF) % shards
        for id_ in ids
    ]
    assert shards_of(np.array(ids, np.int64), shards).tolist() == oracle


@pytest.mark.parametrize("shards", [1, 2, 3, 8, 16])
def test_each_write_begins_and_ends_with_a_witness_in_every_shard(shards: int) -> None:
    for number in range(200):
        first, last = Witnesses(0, shards).of_write(number)
        assert shards_of(np.array(first), shards).tolist() == list(range(shards))
        assert shards_of(np.array(last), shards).tolist() == list(range(shards))


def test_no_two_witnesses_share_an_id_and_none_has_a_photo_s() -> None:
    ids = [id_ for ids in Witnesses(3000, 2).classes() for id_ in ids]
    assert len(set(ids)) == len(ids) == 3000 * 4
    assert max(ids) < 0


def test_a_write_puts_its_witnesses_where_a_search_for_its_class_looks() -> None:
    witnesses = Witnesses(3000, 2)
    classes = witnesses.classes()
    assert len(classes) > 1
    for number in range(3000):
        first, last = witnesses.of_write(number)
        assert {*first, *last} <= set(classes[witnesses.class_of(number)])


def test_an_answer_is_whole_only_with_every_witness() -> None:
    witnesses = Witnesses(2, 2)
    (ids,) = witnesses.classes()
    assert witnesses.missing([[*ids, 5, 6]]) == 0
    assert witnesses.missing([ids[1:]]) == 1
    assert witnesses.missing([[]]) == len(ids) == 8


def test_a_collection_nobody_wrote_to_is_whole_without_witnesses() -> None:
    assert Witnesses(0, 2).classes() == []
    assert Witnesses(0, 2).missing([]) == 0


def test_unit_rows_are_nearer_to_each_other_than_to_any_witness() -> None:
    rows = np.random.default_rng(0).standard_normal((100, 64))
    rows = np.concatenate([rows / np.linalg.norm(rows, axis=1, keepdims=True), np.eye(64)])
    apart = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
    far = ((rows - far_vector(3, 64)) ** 2).sum(axis=1)
    assert apart.max() <= 4 + 1e-9 < far.min()


def test_a_code_is_as_long_as_asked_and_differs_from_class_to_class() -> None:
    codes = [rare_code(number, 256) for number in range(50)]
    assert {len(code) for code in codes} == {32}
    assert len(set(codes)) == 50
    assert codes == [rare_code(number, 256) for number in range(50)]


class GoneError(Exception):
    pass


def test_it_asks_again_while_errors_come_and_parts_are_missing() -> None:
    answers = iter([GoneError(), [], [1], [1, 2], [1]])
    asked = []

    def ask() -> list[int]:
        answer = next(answers)
        asked.append(answer)
        if isinstance(answer, Exception):
            raise answer
        return answer

    whole = until_whole(ask, lambda answer: len(answer) == 2, (GoneError,), 60, pause=0)
    assert whole == [1, 2]
    assert len(asked) == 4


def test_when_patience_ends_it_says_so_and_gives_no_part() -> None:
    assert until_whole(lambda: [1], lambda answer: False, (GoneError,), 0.05, pause=0.01) is None


def test_when_nothing_but_errors_came_the_last_one_is_told() -> None:
    def ask() -> list[int]:
        raise GoneError("node 3")

    with pytest.raises(GoneError, match="node 3"):
        until_whole(ask, lambda answer: True, (GoneError,), 0.05, pause=0.01)


def test_an_error_that_does_not_pass_is_told_at_once() -> None:
    def ask() -> list[int]:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        until_whole(ask, lambda answer: True, (GoneError,), 60)
