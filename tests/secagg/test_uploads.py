"""What the server keeps apart of its uploads, since some may have to be left out: masking/uploads.py."""

from __future__ import annotations

import numpy as np
import pytest

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
