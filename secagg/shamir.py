"""SS.share and SS.recon: Shamir's t-of-n secret sharing (Shamir 1979; Bonawitz et al., section 3.1).

Over the integers modulo a prime above 2^256, so that any 32 bytes are a secret. python-flint does the
field arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from flint import fmpz_mod_ctx, fmpz_mod_poly_ctx

from secagg.crypto import Rng, system_rng
from secagg.errors import LocalProtocolError

PRIME: Final = 2**256 + 297  # the smallest prime above 2^256
SHARE_BYTES: Final = 33


@lru_cache(maxsize=4)
def _polynomials(prime: int) -> Any:
    return fmpz_mod_poly_ctx(fmpz_mod_ctx(prime))


def _uniform(rng: Rng, prime: int) -> int:
    # 128 bits more than the prime has: the remainder is within 2^-128 of uniform.
    return int.from_bytes(rng((prime.bit_length() + 7) // 8 + 16), "big") % prime


def share(
    secret: int, t: int, points: Sequence[int], rng: Rng = system_rng, prime: int = PRIME
) -> dict[int, int]:
    """Point -> share, for distinct points in 1..prime-1; any t shares give the secret, t-1 give nothing.

    secret: in [0, prime). Raises: LocalProtocolError for a secret, threshold or point out of range.
    """
    if not 0 <= secret < prime:
        raise LocalProtocolError("the secret is not an element of the field")
    if not 1 <= t <= len(points):
        raise LocalProtocolError(f"threshold {t} is impossible with {len(points)} shares")
    if len(set(points)) != len(points) or not all(0 < x < prime for x in points):
        raise LocalProtocolError("points must be distinct and not 0 modulo the prime")
    polynomial = _polynomials(prime)([secret, *(_uniform(rng, prime) for _ in range(t - 1))])
    return {x: int(y) for x, y in zip(points, polynomial.multipoint_evaluate(list(points)), strict=True)}


def is_share(value: bytes) -> bool:
    """Whether these bytes, big-endian, are an element of the field of the session's secrets."""
    return int.from_bytes(value, "big") < PRIME


@lru_cache(maxsize=8)
def _weights_at_zero(points: tuple[int, ...], prime: int) -> tuple[int, ...]:
    """Lagrange's coefficients at 0: weight i is the product over j != i of x_j / (x_j - x_i).

    As fractions of integers: points are small, and one division modulo the prime does for all. Cached: on
    the complete graph one unmasking rebuilds every secret from the same t holders.
    """
    above = _product(points, prime)
    below = [x * _product([other - x for other in points if other != x], prime) for x in points]
    return tuple(above * inverse % prime for inverse in _inverses(below, prime))


def _product(factors: Sequence[int], prime: int) -> int:
    """Reduced now and then: the factors are small against the prime."""
    product = 1
    for start in range(0, len(factors), 16):
        product = product * math.prod(factors[start : start + 16]) % prime
    return product


def _inverses(values: Sequence[int], prime: int) -> list[int]:
    """The inverse of each value, none of them 0, modulo the prime; by one inversion (Montgomery's trick)."""
    products = [1]
    for value in values:
        products.append(products[-1] * value % prime)
    inverse, inverses = pow(products[-1], -1, prime), []
    for value, before in zip(reversed(values), reversed(products[:-1]), strict=True):
        inverses.append(inverse * before % prime)
        inverse = inverse * value % prime
    return inverses[::-1]


def recon(shares: Mapping[int, int], prime: int = PRIME) -> int:
    """The secret from exactly t shares, point -> share."""
    points = tuple(sorted(shares))
    weights = _weights_at_zero(points, prime)
    return sum(w * shares[x] for w, x in zip(weights, points, strict=True)) % prime
