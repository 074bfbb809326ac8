"""Any t shares give the secret; t - 1 give nothing; the field is the one it says it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations, product

import pytest
from flint import fmpz
from hypothesis import given
from hypothesis import strategies as st

from secagg import LocalProtocolError
from secagg.crypto import Rng
from secagg.shamir import PRIME, SHARE_BYTES, recon, share
from tests.play import seeded

POINTS = st.lists(st.integers(1, 2**31), min_size=1, max_size=12, unique=True)


def coefficients(values: tuple[int, ...]) -> Rng:
    """An rng that makes these the coefficients: its bytes, as a big-endian number, are congruent to them."""
    left: Iterator[int] = iter(values)
    return lambda n: next(left).to_bytes(n, "big")


def test_the_field_is_the_smallest_above_every_secret_of_32_bytes() -> None:
    assert fmpz(PRIME).is_prime()
    assert not any(fmpz(x).is_prime() for x in range(2**256 + 1, PRIME))
    assert (PRIME - 1).bit_length() <= 8 * SHARE_BYTES


# federated-compute (Google), fcp/secagg/shared/shamir_secret_sharing_test.cc: p = 2^31 + 11, t = 3, the
# points 1..5; a share is two elements, and the secret 00000021 is the elements 0 and 33.
FCP_PRIME = 2**31 + 11
FCP_SHARES = [
    "70cf762e6ed4aa1c",
    "30a0c5ac26eb91cc",
    "3f73ee902844b747",
    "1d48f0cf72e01a8d",
    "4a1fcc7406bdbb88",
]


@pytest.mark.parametrize("holders", list(combinations(range(5), 3)))
def test_three_of_five_published_shares_give_the_published_secret(holders: tuple[int, ...]) -> None:
    high = {x + 1: int(FCP_SHARES[x][:8], 16) for x in holders}
    low = {x + 1: int(FCP_SHARES[x][8:], 16) for x in holders}
    assert (recon(high, FCP_PRIME), recon(low, FCP_PRIME)) == (0, 33)


@given(st.integers(0, PRIME - 1), POINTS, st.data())
def test_any_t_shares_give_the_secret(secret: int, points: list[int], data: st.DataObject) -> None:
    t = data.draw(st.integers(1, len(points)))
    shares = share(secret, t, points, seeded(data.draw(st.integers(0, 2**32))))
    assert list(shares) == points
    assert all(0 <= y < PRIME for y in shares.values())
    holders = data.draw(st.permutations(points))[:t]
    assert recon({x: shares[x] for x in holders}) == secret


def test_the_largest_secret_survives() -> None:
    shares = share(PRIME - 1, 3, [1, 2, 3])
    assert recon(shares) == PRIME - 1


def test_a_share_is_the_polynomial_at_its_point() -> None:
    # By hand: 4 + 3 x + 2 x^2 modulo 7 at 1, 2, 6.
    assert share(4, 3, [1, 2, 6], coefficients((3, 2)), 7) == {1: 2, 2: 4, 6: 3}


@pytest.mark.parametrize(("prime", "t"), [(5, 1), (5, 2), (5, 3), (5, 4), (7, 2), (7, 3)])
def test_fewer_than_t_shares_are_as_likely_under_every_secret(prime: int, t: int) -> None:
    """Exhaustively: over all polynomials, t - 1 shares take every value exactly once, whatever the secret."""
    points = list(range(1, prime))
    for secret in range(prime):
        dealt = [
            share(secret, t, points, coefficients(values), prime)
            for values in product(range(prime), repeat=t - 1)
        ]
        for holders in combinations(points, t - 1):
            seen = Counter(tuple(shares[x] for x in holders) for shares in dealt)
            assert seen == Counter(product(range(prime), repeat=t - 1))


def test_coefficients_are_fresh_by_default() -> None:
    assert share(7, 2, [1, 2]) != share(7, 2, [1, 2])


def test_coefficients_are_drawn_from_enough_bytes_to_be_uniform() -> None:
    asked: list[int] = []
    share(0, 4, [1, 2, 3, 4], lambda n: asked.append(n) or bytes(n))
    assert asked == [SHARE_BYTES + 16] * 3  # 128 bits beyond the prime: within 2^-128 of uniform


def test_one_share_too_few_gives_another_secret() -> None:
    shares = share(7, 3, [1, 2, 3], seeded(0))
    assert recon({x: shares[x] for x in (1, 2)}) != 7


@pytest.mark.parametrize("secret", [-1, PRIME])
def test_a_secret_outside_the_field_is_refused(secret: int) -> None:
    with pytest.raises(LocalProtocolError, match="the secret is not an element"):
        share(secret, 2, [1, 2, 3])


@pytest.mark.parametrize("t", [0, 4])
def test_an_impossible_threshold_is_refused(t: int) -> None:
    with pytest.raises(LocalProtocolError, match=f"threshold {t} is impossible with 3 shares"):
        share(1, t, [1, 2, 3])


@pytest.mark.parametrize("points", [[0, 1, 2], [1, 2, 2], [1, 2, PRIME], [-1, 1, 2]])
def test_a_point_that_is_zero_or_repeated_or_outside_the_field_is_refused(points: list[int]) -> None:
    with pytest.raises(LocalProtocolError, match="points must be distinct"):
        share(1, 2, points)
