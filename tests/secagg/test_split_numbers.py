"""The numbers of split, which are checked once, and what a client's or a relay's own rules make of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from secagg import (
    Counts,
    LocalProtocolError,
    Policy,
    Private,
    RemoteProtocolError,
    Split,
)
from secagg.schemes import accept
from secagg.wire import relay_party
from tests.play import identities
from tests.secagg.helpers import MIXED, split

ONE = Counts(length=1, maximum=1)
ROSTER, _ = identities(range(5))
FIVE = split(range(5), ONE)


# Numbers

IMPOSSIBLE: dict[str, tuple[Callable[[], Any], str]] = {
    "no clients": (lambda: Split.for_cohort(0, ONE), "0 clients is not in"),
    "two clients": (lambda: Split.for_cohort(2, ONE), "2 clients the sum tells .* small_cohort=True"),
    "one relay": (lambda: Split.for_cohort(5, ONE, relays=1), "split takes 2 to 16 relays, not 1"),
    "seventeen relays": (lambda: Split.for_cohort(5, ONE, relays=17), "split takes 2 to 16 relays, not 17"),
    "relays of no number": (lambda: Split.for_cohort(5, ONE, relays=2.0), "relays 2.0 is not an integer"),
    "relays of no number, changed": (lambda: replace(FIVE, relays=2.0), "relays 2.0 is not an integer"),
    "other relays than the roster's": (
        lambda: Split.for_cohort(5, ONE, relays=3, roster=ROSTER),
        "3 relays, and the roster lists 2: all of its relays take part in every session",
    ),
    "an adversary": (lambda: replace(FIVE, adversary="Active"), "no adversary is called 'Active'"),
    "a PRG": (lambda: replace(FIVE, prg="rc4"), "no PRG is called 'rc4': there are aes-128-ctr and chacha20"),
    "A below none": (lambda: replace(FIVE, corrupt=-1), "-1 corrupt clients of 5 is impossible: from 0 to 4"),
    "A of all": (lambda: replace(FIVE, corrupt=5), "5 corrupt clients of 5 is impossible"),
    "A of no number": (lambda: replace(FIVE, corrupt=1.0), "corrupt 1.0 is not an integer"),
    "m_min below A + 2": (
        lambda: split(range(5), ONE, m_min=2),
        "m_min 2 is impossible: with 1 of 5 clients corrupt it is 3 to 5",
    ),
    "A that leaves one honest client": (
        lambda: split(range(5), ONE, corrupt=4),
        "5 clients of whom 4 are corrupt: 6 would have to be left, or a sum is one client's",
    ),
    "A of a roster that leaves one of this cohort": (
        lambda: Split.for_cohort(3, ONE, roster=identities(range(20))[0]),
        "3 clients of whom 2 are corrupt: 4 would have to be left",
    ),
    "m_min above n": (lambda: split(range(5), ONE, m_min=6), "m_min 6 is impossible"),
    "m_min of text": (lambda: split(range(5), ONE, m_min="4"), "m_min '4' is not an integer"),
    "no roster": (lambda: Split.for_cohort(5, ONE, adversary="active"), "bound to a roster, and only then"),
    "half a roster": (lambda: replace(FIVE, roster=bytes(31)), "bound to a roster, and only then"),
    "a roster, and nothing signed": (lambda: replace(FIVE, adversary="semi-honest"), "and only then"),
    "a ring too small for noise": (
        lambda: split(range(100), Private(length=9, clip=1.0, bits=6)),
        "a ring of 6 bits holds no noised sum of 100 clients: use more bits",
    ),
    "a relay that is none": (lambda: FIVE.relay(2), "there is no relay 2: they are 0 to 1"),
    "a relay below none": (lambda: FIVE.relay(-1), "there is no relay -1"),
    "a relay without the roster": (lambda: FIVE.relay(0), "a roster of one's own is needed"),
    "a relay of another roster": (
        lambda: FIVE.relay(0, identity=identities(range(6))[1][relay_party(0)]),
        "the session is bound to another roster than this one",
    ),
    "a relay with another's key": (
        lambda: FIVE.relay(0, identity=identities(range(5))[1][relay_party(1)]),
        "the identity given to relay 0 is another's",
    ),
    "a server without the roster": (lambda: FIVE.server(range(5)), "a roster of one's own is needed"),
    "a server of another roster": (
        lambda: FIVE.server(range(5), roster=identities(range(6))[0]),
        "the session is bound to another roster than this one",
    ),
}


@pytest.mark.parametrize(("make", "words"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_impossible_numbers_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(LocalProtocolError, match=words):
        make()


def test_three_tenths_may_be_lost_and_two_honest_clients_are_always_left() -> None:
    assert [split(range(n), ONE).m_min for n in (3, 4, 5, 10, 100)] == [3, 3, 4, 7, 70]
    assert [split(range(n), ONE, small_cohort=True).m_min for n in (1, 2)] == [1, 2]
    assert split(range(10), ONE, dropout=0).m_min == 10
    assert split(range(10), ONE, dropout=0.5).m_min == 5
    assert split(range(10), ONE, dropout=9).m_min == 3
    assert split(range(10), ONE, corrupt=6).m_min == 8
    scheme = split(range(9), ONE, corrupt=2, m_min=np.int64(4))
    assert (scheme.m_min, type(scheme.m_min), scheme.corrupt) == (4, int, 2)


def test_against_whom_follows_from_the_roster() -> None:
    assert (FIVE.adversary, FIVE.roster) == ("active", ROSTER.digest)
    for scheme in (
        Split.for_cohort(5, ONE),
        Split.for_cohort(5, ONE, relays=3, adversary="semi-honest", roster=ROSTER),
    ):
        assert (scheme.adversary, scheme.roster) == ("semi-honest", b"")
    assert Split.for_cohort(20, ONE, roster=identities(range(60))[0]).corrupt == 6  # a tenth of the roster
    assert Split.for_cohort(5, ONE) == Split.for_cohort(5, {"": ONE})


def test_every_number_is_in_the_digest() -> None:
    schemes = [
        FIVE,
        Split.for_cohort(5, ONE),
        Split.for_cohort(5, ONE, relays=3),
        Split.for_cohort(5, ONE, corrupt=0),
        Split.for_cohort(5, ONE, m_min=5),
        Split.for_cohort(5, ONE, prg="chacha20"),
        Split.for_cohort(5, ONE, small_cohort=True),
        Split.for_cohort(6, ONE, m_min=4),
        Split.for_cohort(5, {"name": ONE}),
        Split.for_cohort(5, ONE, roster=identities(range(6))[0]),
    ]
    assert len({scheme.digest() for scheme in schemes}) == len(schemes)
    assert Split.for_cohort(5, dict(reversed(MIXED.items()))).digest() == Split.for_cohort(5, MIXED).digest()


def test_the_explanation_says_what_is_sent_and_what_it_rests_on() -> None:
    text = split(range(9), MIXED, corrupt=2, m_min=8, prg="chacha20").explain()
    for words in (
        "split, 9 clients, 2 relays, active server, 2 corrupt clients assumed",
        "counts: 3 integers up to 9, exact; summed in Z_2^7",
        "its vector less 1 dummy to one relay, and to each other relay a dummy's seed",
        "up to 1 client may vanish; no relay may, or there is no sum",
        "1 relay and the server together see uniform numbers and the sum; all 2 and the server together see",
        "dummies are streams of chacha20",
        "not promised: a right sum where a client or a relay lies; anything where all relays collude",
    ):
        assert words in text
    assert "streams" not in FIVE.explain()
    assert "active server, and 1 of 2 relays with it: whatever they do, they learn sums of 4" in FIVE.against
    trusting = Split.for_cohort(5, ONE, relays=3)
    assert "honest-but-curious server, and 2 of 3 relays with it: they learn the sum" in trusting.against
    assert "its vector less 2 dummies to one relay" in trusting.explain()


# Policies, of clients and of relays

TO_SPLIT = Policy(schemes=frozenset({"split"}))
TRUSTING = Policy(schemes=frozenset({"split"}), adversary="semi-honest")
SEVEN = split(range(5), MIXED, roster=identities(range(7))[0])  # A = 1, m_min = 4
REFUSED: dict[str, tuple[Policy, Split, str]] = {
    "by default": (Policy(), SEVEN, "offers the scheme split; this client accepts only masking"),
    "the adversary": (TO_SPLIT, Split.for_cohort(5, MIXED), "trusts it to follow the protocol"),
    "A": (TO_SPLIT, replace(SEVEN, corrupt=0), "corrupt 0; by this client's policy it is 1"),
    "A, that the policy raises": (
        replace(TO_SPLIT, corrupt=2),
        SEVEN,
        "corrupt 1; by this client's policy it is 2",
    ),
    "m_min": (TO_SPLIT, replace(SEVEN, m_min=3), "m_min 3; by this client's policy it is 4"),
    "m_min, that the policy raises": (replace(TO_SPLIT, m_min=5), SEVEN, "m_min 4; .* it is 5"),
    "m_min, by the policy's dropouts": (replace(TO_SPLIT, dropout=0), SEVEN, "m_min 4; .* it is 5"),
    "m_min, less than possible": (replace(TO_SPLIT, m_min=2), SEVEN, "no such session is possible: m_min 2"),
    "fewer relays than the roster's": (
        TO_SPLIT,
        replace(SEVEN, relays=3),
        "no such session is possible: 3 relays, and the roster lists 2",
    ),
    "batches": (replace(TO_SPLIT, batch=3), SEVEN, "which sums no batches; this client insists on 3"),
    "the PRG": (replace(TO_SPLIT, prg="chacha20"), SEVEN, "makes masks by aes-128-ctr; this client insists"),
    "another roster": (TO_SPLIT, split(range(5), MIXED), "bound to another roster than this client holds"),
    "more clients than listed": (
        TO_SPLIT,
        replace(SEVEN, clients=8, m_min=5),
        "a cohort of 8 from a roster of 7 clients",
    ),
    "no noise": (replace(TO_SPLIT, noise=1.0), SEVEN, "the vector 'counts' without noise in its sum"),
}


@pytest.mark.parametrize(("policy", "scheme", "words"), REFUSED.values(), ids=REFUSED)
def test_a_policy_refuses_other_numbers_than_its_own(policy: Policy, scheme: Split, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words):
        accept(policy, scheme.offer(), identities(range(7))[0])


def test_a_policy_takes_the_numbers_that_follow_from_it() -> None:
    for policy, scheme in (
        (TO_SPLIT, SEVEN),
        (replace(TO_SPLIT, batch=0, prg="aes-128-ctr"), SEVEN),
        (replace(TO_SPLIT, corrupt=2, m_min=5), replace(SEVEN, corrupt=2, m_min=5)),
        (TRUSTING, Split.for_cohort(5, MIXED, relays=16, prg="chacha20")),
        (TRUSTING, SEVEN),
        (replace(TO_SPLIT, noise=1.0), split(range(7), Private(length=9, clip=1.0, multiplier=1.0))),
    ):
        assert accept(policy, scheme.offer(), identities(range(7))[0]) == scheme
    with pytest.raises(RemoteProtocolError, match="its own copy of the roster"):
        accept(TO_SPLIT, SEVEN.offer(), None)
