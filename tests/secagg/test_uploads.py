"""What the server keeps apart of its uploads, since some may have to be left out: masking/uploads.py."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.bits import pack
from secagg.masking.uploads import Uploads

EARLIER = frozenset({0, 1, 2, 3})


def uploaded(*order: int) -> Uploads:
    """Of each client 10^u, one number of 20 bits; of the earlier sum two may be left out."""
    uploads = Uploads(lambda: {"": np.zeros(1, np.uint32)}, {"": 20}, earlier=[EARLIER], spare=2)
    for u in order:
        uploads.add(u, {"": pack(np.array([10**u], np.uint32), 20)})
    return uploads


@pytest.mark.parametrize("out", [{0}, {1}, {0, 1}, set()])
def test_the_first_who_were_in_the_earlier_sum_can_be_left_out_each(out: set[int]) -> None:
    """Whoever was not takes none of their places."""
    total = uploaded(5, 4, 0, 1, 2, 3).close(frozenset(range(6)) - out)
    assert total[""].tolist() == [111_111 - sum(10**u for u in out)]


def test_no_more_are_kept_apart_than_may_be_left_out() -> None:
    with pytest.raises(AssertionError, match="uploads were summed that are not in U3, or the other way"):
        uploaded(0, 1, 2, 3).close(frozenset({0, 1, 3}))


def test_of_two_earlier_sums_their_regions_are_kept_apart() -> None:
    uploads = Uploads(
        lambda: {"": np.zeros(1, np.uint32)}, {"": 20}, earlier=[EARLIER, frozenset({3, 4, 5})], spare=2
    )
    for u in range(6):
        uploads.add(u, {"": pack(np.array([10**u], np.uint32), 20)})
    assert uploads.close(EARLIER)[""].tolist() == [1111]


@given(st.data())
def test_kept_between_any_two_uploads_they_sum_the_same(data: st.DataObject) -> None:
    """By batches, by earlier sets, or all at once; of two numbers."""
    bits, batches = {"a": 20, "b": 33}, [frozenset({0, 1}), frozenset({2, 3, 4})]
    given_batches = data.draw(st.sampled_from([[], batches]), label="batches")
    earlier = data.draw(st.lists(st.frozensets(st.integers(0, 4), min_size=1), max_size=2), label="earlier")

    def zeros() -> dict[str, np.ndarray]:
        return {"a": np.zeros(1, np.uint32), "b": np.zeros(2, np.uint64)}

    order = data.draw(st.permutations(range(5)), label="order")
    kept_at = data.draw(st.sets(st.integers(0, 5)), label="kept at")
    made = [Uploads(zeros, bits, given_batches, earlier, spare=2) for _ in range(2)]
    for i, u in enumerate([*order, None]):
        if i in kept_at:
            made[1] = Uploads.of(made[1].keep(), zeros, bits, given_batches)
        if u is not None:
            for one in made:
                x = {"a": np.array([10**u], np.uint32), "b": np.array([7**u, 2**33 - 1 - u], np.uint64)}
                one.add(u, {name: bytes(pack(codes, bits[name])) for name, codes in x.items()})
    assert sorted(made[0].arrived) == sorted(made[1].arrived)
    sums = [one.close(frozenset(range(5))) for one in made]
    for name in bits:
        assert (sums[0][name] % 2 ** bits[name]).tolist() == (sums[1][name] % 2 ** bits[name]).tolist()
