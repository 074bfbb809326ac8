"""A cohort that is cut into groups, each of which is summed apart, so that a rule can hold the sums against
each other: how large a group has to be, and who is in it.

Masks are shared within a group alone; shares of secrets are with whoever holds them in the whole cohort, so
that a group which loses many is not lost for want of shares.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final

import msgspec

from secagg.crypto import DIGEST_BYTES, Tag, digest
from secagg.errors import ClientId, LocalProtocolError, counted
from secagg.graph import ln_above, shuffled
from secagg.policy import Adversary
from secagg.specs import set_exactly
from secagg.wire import MAX_ID

_EXACT: Final = 1000
"""Clients for which every number of groups is tried, in a few hundredths of a second."""

CUT_SIGMA: Final = 128
"""Security in bits of A_g, against every adversary: the cut is a hash of keys, or of a seed and a cohort of
the server's choice, which can be tried offline until it suits, and it may stand for many sessions."""


class Groups(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a cohort is cut.

    number: G. m_g: a group of fewer survivors, or against an active server of fewer who signed, is not
    opened. cohort: who is cut, n ids in order, whoever of them comes; empty: those who advertise keys. seed:
    32 bytes, by which an earlier session cut the same cohort, and this one does again; empty: the session's
    id. public_weights: the sums of weights of each group may be known. unsafe: m_g may be too small.
    """

    number: int
    m_g: int
    cohort: tuple[int, ...] = ()
    seed: bytes = b""
    public_weights: bool = False
    unsafe: bool = False

    def check(self, clients: int, corrupt: int, adversary: Adversary) -> None:
        """Raises: LocalProtocolError unless such groups of n clients, A of them corrupt, are possible."""
        for number in ("number", "m_g"):
            set_exactly(self, number, int)
        for flag in ("public_weights", "unsafe"):
            _check(isinstance(getattr(self, flag), bool), f"a flag of groups, {flag}, is a bool")
        _check(
            2 <= self.number <= clients,
            f"{counted(self.number, 'group')} of {counted(clients, 'client')} cannot be: from 2 to {clients} "
            "(groups=)",
        )
        self._check_m_g(clients, corrupt, adversary)
        _check(
            isinstance(self.cohort, tuple)
            and all(type(u) is int and 0 <= u <= MAX_ID for u in self.cohort)
            and list(self.cohort) == sorted(set(self.cohort))
            and len(self.cohort) in (0, clients),
            f"the cohort that is cut is {clients} different ids in order",
        )
        _check(
            isinstance(self.seed, bytes) and len(self.seed) in (0, DIGEST_BYTES),
            f"a cut is drawn from {DIGEST_BYTES} bytes",
        )
        _check(
            bool(self.cohort) or not self.seed,
            "an earlier session's cut is one of its cohort: name that, too (cohort)",
        )

    def _check_m_g(self, clients: int, corrupt: int, adversary: Adversary) -> None:
        least, smallest = least_of_group(clients, corrupt, self.number, adversary), clients // self.number
        if not self.unsafe and least > smallest:
            A_g, most = (
                corrupt_in_group(clients, corrupt, self.number),
                most_groups(clients, corrupt, adversary),
            )
            instead = f"{most} at most (groups={most})" if most else "one sum of all (groups=0)"
            raise LocalProtocolError(
                f"{self.number} groups of {clients} clients have {smallest} each, and {least} of each would "
                f"have to be left: of the {corrupt} corrupt up to {A_g} may be in one, and the server is "
                f"{adversary}. Use {instead}, or for an experiment unsafe_groups=True"
            )
        lowest = 1 if self.unsafe else least
        _check(
            lowest <= self.m_g <= smallest,
            f"m_g {self.m_g} is impossible: of groups of {smallest} clients it is in {lowest}..{smallest}",
        )


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise LocalProtocolError(message)


def largest_group(clients: int, number: int) -> int:
    return -(-clients // number)


@lru_cache(maxsize=64)
def corrupt_in_group(clients: int, corrupt: int, number: int) -> int:
    """A_g: that more of A corrupt clients are in any of the groups has a chance below 2^-CUT_SIGMA."""
    size, rarely = largest_group(clients, number), -CUT_SIGMA * math.log(2) - math.log(number)
    numbers = range(min(corrupt, size))
    # By halves, as in `most_groups`: both are reckoned of an offer, whose numbers are a stranger's.
    return bisect_left(numbers, True, key=lambda most: ln_above(clients, corrupt, size, most) <= rarely)


def least_of_group(clients: int, corrupt: int, number: int, adversary: Adversary) -> int:
    """The smallest m_g that holds: A_g + 2, so that two honest inputs are in every sum; and against an active
    server above (g + A_g) / 2.

    It can show each client another U2, of which this one signs nothing that counts. Of U2 and U3, both m_g of
    a group at least, then more than A_g are the same: one that is honest, whose mask is not taken off.
    """
    A_g, g = corrupt_in_group(clients, corrupt, number), largest_group(clients, number)
    return max(A_g + 2, (g + A_g) // 2 + 1 if adversary == "active" else 0)


def most_groups(clients: int, corrupt: int, adversary: Adversary) -> int:
    """The largest number of groups that are not unsafe; 0 where any are. Of very many clients one that is
    near it: it is all but sure, and looked for as if it were, that more groups are the less safe.
    """

    def unsafe(number: int) -> bool:
        return least_of_group(clients, corrupt, number, adversary) > clients // number

    numbers = range(2, clients // 2 + 1)
    if clients <= _EXACT:
        return next((number for number in reversed(numbers) if not unsafe(number)), 0)
    safe = bisect_left(numbers, True, key=unsafe)
    return numbers[safe - 1] if safe else 0


def default_of_group(clients: int, corrupt: int, number: int, adversary: Adversary, *, unsafe: bool) -> int:
    """m_g where none is given: the least; where groups are unsafe, most of a group."""
    least, smallest = least_of_group(clients, corrupt, number, adversary), clients // number
    return smallest // 2 + 1 if unsafe and least > smallest else least


@lru_cache(maxsize=8)
def cut(
    members: tuple[ClientId, ...], places: int, number: int, base: bytes
) -> Sequence[frozenset[ClientId]]:
    """The members on n places in an order that follows from the base, cut into groups of places that differ
    by one at most. Cached: of one session it is the same for all, and it is public.

    The order is of a hash of whom it cuts, too: a server that has chosen the base could else choose from the
    roster, between those on its side, as many others as bring these to places of one group.
    """
    ids = b"".join(v.to_bytes(4, "big") for v in members)
    order = shuffled(members, places, digest(Tag.GROUPS, base, number, ids))
    ends = [i * places // number for i in range(number + 1)]
    return [frozenset(u for u in order[start:end] if u is not None) for start, end in pairwise(ends)]


def of(u: ClientId, groups: Collection[frozenset[ClientId]]) -> frozenset[ClientId]:
    """That in which u is."""
    return next(group for group in groups if u in group)
