"""A server that offers less than the client's policy asks for: every field, and the form of the offer."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from secagg import (
    CKKS,
    Bounded,
    Counts,
    Masking,
    Plain,
    Policy,
    RemoteProtocolError,
    Roster,
    Weight,
    throwaway_identities,
)
from secagg.schemes import MAX_OFFER_BYTES, accept, read_offer

VECTORS = {"update": Bounded(length=5, bound=1.0, bits=16, clip=2.0), "weight": Weight(maximum=9)}
ROSTER, _ = throwaway_identities(range(12))
OTHER_ROSTER, _ = throwaway_identities(range(12))
LAX = Policy(adversary="semi-honest")


def active(n: int = 10, **numbers: Any) -> Masking:
    vectors = numbers.pop("vectors", VECTORS)
    return Masking.for_cohort(n, vectors, adversary="active", **{"roster": ROSTER, **numbers})


def semi_honest(n: int = 10, **numbers: Any) -> Masking:
    return Masking.for_cohort(n, numbers.pop("vectors", VECTORS), **numbers)


def vector(**numbers: Any) -> dict[str, Any]:
    return {**VECTORS, "update": replace(VECTORS["update"], **numbers)}


def ckks(n: int = 10, **numbers: Any) -> CKKS:
    vectors = numbers.pop("vectors", VECTORS)
    return CKKS.for_cohort(n, vectors, **{"roster": ROSTER, **numbers})


DUE = active()  # t = m_min = 7, A = 1, d = 3, complete
PLAIN = Plain.for_cohort(10, VECTORS)
KEEP, RELEASE = ckks(), ckks(ending="release")  # m_min = 6
TO_CKKS = Policy(schemes=frozenset({"ckks"}), adversary="semi-honest")

REFUSED: dict[str, tuple[Policy, Masking | CKKS | Plain, str]] = {
    "the scheme": (Policy(), PLAIN, "offers the scheme plain; this client accepts only masking"),
    "the scheme, to one that trusts the server": (LAX, PLAIN, "offers the scheme plain"),
    "the only scheme allowed": (Policy(schemes=frozenset({"plain"})), DUE, "offers the scheme masking"),
    "no scheme allowed": (Policy(schemes=frozenset()), DUE, "offers the scheme masking"),
    "the adversary": (Policy(), semi_honest(), 'trusts it to follow the protocol.*adversary="semi-honest"'),
    "the cohort": (Policy(smallest_cohort=11), DUE, "cohort of 10; this client takes part from 11"),
    "the cohort, below three": (
        LAX,
        semi_honest(2, small_cohort=True),
        "cohort of 2; this client takes part from 3",
    ),
    "A": (Policy(), active(corrupt=0, threshold=7), "corrupt 0; by this client's policy it is 1"),
    "A, that the policy raises": (Policy(corrupt=2), DUE, "corrupt 1; by this client's policy it is 2"),
    "A, more than due": (Policy(), active(corrupt=2), "corrupt 2; by this client's policy it is 1"),
    "A, where the server is trusted": (
        replace(LAX, corrupt=2),
        semi_honest(),
        "corrupt 1; by this client's policy it is 2",
    ),
    "A, more than possible": (
        Policy(corrupt=9),
        DUE,
        "no such session is possible: .*11 would have to be left",
    ),
    "t, too low": (Policy(), active(threshold=6, m_min=7), "threshold 6; by this client's policy it is 7"),
    "t, too high": (Policy(), active(threshold=8), "threshold 8; by this client's policy it is 7"),
    "t, that the policy raises": (Policy(threshold=9), DUE, "threshold 7; by this client's policy it is 9"),
    "t, where the server is trusted": (LAX, semi_honest(threshold=7), "threshold 7; .* it is 6"),
    "t, less than possible": (Policy(threshold=2), DUE, "no such session is possible: threshold 2 is impos"),
    "k, of the sparse graph": (
        Policy(),
        active(dropout=3, graph="sparse"),
        "degree 8; by this client's policy it is 9",
    ),
    "k, of the sparse graph, where a threshold is insisted on": (
        Policy(threshold=7, graph="sparse"),
        active(dropout=3, graph="sparse"),
        "no such session is possible: .* none has a threshold of one's own",
    ),
    "d, on the sparse graph": (
        Policy(dropout=2, graph="sparse"),
        active(dropout=3, graph="sparse"),
        "degree 8; by this client's policy it is 6",
    ),
    "d, so many that t falls": (Policy(), active(dropout=4), "threshold 6; by this client's policy it is 7"),
    "A, as a fraction of the roster": (
        Policy(corrupt=0.2),
        DUE,
        "corrupt 1; by this client's policy it is 2",
    ),
    "batches": (Policy(batch=5), DUE, "sums by batches of 0; this client insists on 5"),
    "other batches": (Policy(batch=5), active(12, batch=4), "by batches of 4; this client insists on 5"),
    "batches where none are wanted": (
        Policy(batch=0),
        active(12, batch=4),
        r"by batches of 4; this client insists on 0 \(batch, in its policy\)",
    ),
    "batches of a part of the roster": (
        Policy(batch=5),
        active(batch=5),
        "by batches a cohort of 10 from a roster of 12 clients: by batches it is the whole roster",
    ),
    "m_min, too high": (Policy(), active(m_min=8), "m_min 8; by this client's policy it is 7"),
    "m_min, that the policy raises": (Policy(m_min=9), DUE, "m_min 7; by this client's policy it is 9"),
    "m_min, less than possible": (Policy(m_min=3), DUE, "no such session is possible: m_min 3 is impossible"),
    "m_min, where the server is trusted": (LAX, semi_honest(m_min=7), "m_min 7; .* it is 6"),
    "m_min, more than possible": (Policy(m_min=11), DUE, "no such session is possible: m_min 11 is imposs"),
    "t, more than possible": (Policy(threshold=11), DUE, "no such session is possible: threshold 11 is imp"),
    "d, more than possible": (Policy(dropout=0.6), DUE, "no such session is possible: .* and 6 drop out"),
    "the cipher of the masks": (
        Policy(prg="aes-128-ctr"),
        active(prg="chacha20"),
        "makes masks by chacha20; this client insists on aes-128-ctr",
    ),
    "another roster": (Policy(), active(roster=OTHER_ROSTER), "another roster than this client holds"),
    "a cohort beyond the roster": (Policy(), active(13), "a cohort of 13 from a roster of 12 clients"),
    "a vector's length": (
        Policy(vectors=VECTORS),
        active(vectors=vector(length=6)),
        r"'update' \(length 6, not 5\)$",
    ),
    "a vector's bound": (
        Policy(vectors=VECTORS),
        active(vectors=vector(bound=0.5)),
        r"'update' \(bound 0.5, not 1.0\)$",
    ),
    "a vector's bits": (
        Policy(vectors=VECTORS),
        active(vectors=vector(bits=32)),
        r"'update' \(bits 32, not 16\)$",
    ),
    "a vector's clip": (
        Policy(vectors=VECTORS),
        active(vectors=vector(clip=3.0)),
        r"'update' \(clip 3.0, not 2.0\)$",
    ),
    "no clip": (
        Policy(vectors=VECTORS),
        active(vectors=vector(clip=None)),
        r"'update' \(clip None, not 2.0\)$",
    ),
    "a largest weight": (
        Policy(vectors=VECTORS),
        active(vectors={**VECTORS, "weight": Weight(maximum=2**30)}),
        r"'weight' \(maximum 1073741824, not 9\)$",
    ),
    "a vector of another kind": (
        Policy(vectors=VECTORS),
        active(vectors={**VECTORS, "weight": Counts(length=1, maximum=9)}),
        r"'weight' \(counts, not weight\)$",
    ),
    "a vector more": (
        Policy(vectors=VECTORS),
        active(vectors={**VECTORS, "labels": Counts(length=10, maximum=9)}),
        r"'labels' \(not in the policy\)$",
    ),
    "a vector less": (
        Policy(vectors=VECTORS),
        active(vectors={"update": VECTORS["update"]}),
        r"'weight' \(not asked for\)$",
    ),
    "two other vectors": (
        Policy(vectors=VECTORS),
        active(vectors={**vector(length=6, bits=8), "labels": Counts(length=10, maximum=9)}),
        r"of the vectors 'labels' \(not in the policy\), 'update' \(length 6, not 5, bits 8, not 16\)$",
    ),
    "a vector, where none is wanted": (Policy(vectors={}), DUE, r"of the vectors 'update' \(not in the pol"),
    "other vectors, in plain": (
        Policy(schemes=frozenset({"plain"}), vectors=VECTORS),
        Plain.for_cohort(10, vector(length=6)),
        r"'update' \(length 6, not 5\)$",
    ),
    "CKKS": (Policy(), KEEP, 'offers the scheme ckks; this client accepts only masking. .*{"ckks"}'),
    "CKKS, to one that trusts the server": (LAX, RELEASE, "offers the scheme ckks; this client accepts only"),
    "CKKS, to one that allows it and does not trust the server": (
        Policy(schemes=frozenset({"masking", "ckks"})),
        KEEP,
        'trusts it to follow the protocol.*adversary="semi-honest"',
    ),
    "masking, to one that means CKKS": (TO_CKKS, DUE, "offers the scheme masking; .* accepts only ckks"),
    "no signatures in CKKS": (TO_CKKS, ckks(roster=None), "another roster than this client holds"),
    "another roster, in CKKS": (
        TO_CKKS,
        ckks(roster=OTHER_ROSTER),
        "bound to another roster than this client holds",
    ),
    "m_min, too low in CKKS": (TO_CKKS, ckks(m_min=1), "m_min 1; by this client's policy it is 6"),
    "m_min, too high in CKKS": (
        TO_CKKS,
        ckks(ending="release", m_min=7),
        "m_min 7; by this client's policy it is 6",
    ),
    "m_min, that the policy raises in CKKS": (
        replace(TO_CKKS, m_min=9),
        RELEASE,
        "m_min 6; by this client's policy it is 9",
    ),
    "the ending of CKKS": (
        replace(TO_CKKS, ending="keep"),
        RELEASE,
        "offers that clients release the sum; this client insists that they keep it",
    ),
    "the other ending of CKKS": (
        replace(TO_CKKS, ending="release"),
        KEEP,
        "offers that clients keep the sum; this client insists that they release it",
    ),
    "the cohort, in CKKS": (
        TO_CKKS,
        ckks(2, small_cohort=True),
        "cohort of 2; this client takes part from 3",
    ),
    "other vectors, in CKKS": (
        replace(TO_CKKS, vectors=VECTORS),
        ckks(vectors=vector(bits=32)),
        r"'update' \(bits 32, not 16\)$",
    ),
}


@pytest.mark.parametrize(("policy", "offered", "words"), REFUSED.values(), ids=REFUSED)
def test_a_client_refuses_what_its_policy_does_not_say(policy: Policy, offered: Any, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words) as refusal:
        accept(policy, offered.offer(), ROSTER)
    assert refusal.value.culprits == frozenset()


def test_without_a_roster_no_session_against_an_active_server_is_accepted() -> None:
    for policy in (Policy(), LAX):
        with pytest.raises(
            RemoteProtocolError, match="active adversary; for that a client needs its own copy"
        ):
            accept(policy, DUE.offer())


TAKEN: dict[str, tuple[Policy, Masking | CKKS | Plain]] = {
    "what follows from the defaults": (Policy(), DUE),
    "the vectors it names": (Policy(vectors=VECTORS), DUE),
    "the smallest cohort it takes": (Policy(smallest_cohort=10), DUE),
    "another A": (Policy(corrupt=5), active(corrupt=5)),
    "another t": (Policy(threshold=9), active(threshold=9)),
    "the sparse graph of a small cohort": (Policy(graph="sparse"), active(graph="sparse")),
    "the complete graph instead": (Policy(graph="sparse"), DUE),
    "a fraction of the roster": (Policy(corrupt=0.2), active(corrupt=0.2)),
    "another d": (Policy(dropout=4), active(dropout=4)),
    "batches": (Policy(batch=5), active(12, batch=5)),
    "no batches": (Policy(batch=0), DUE),
    "batches of a part of the roster, where the server is trusted": (LAX, semi_honest(batch=5)),
    "batches it does not ask for": (Policy(), active(12, batch=5)),
    "another PRG": (Policy(), active(prg="chacha20")),
    "the PRG it insists on": (Policy(prg="chacha20"), active(prg="chacha20")),
    "another m_min": (Policy(m_min=9), active(m_min=9)),
    "more protection than it asks for": (LAX, DUE),
    "a trusted server": (LAX, semi_honest()),
    "two clients, for an experiment": (
        Policy(adversary="semi-honest", smallest_cohort=2),
        semi_honest(2, small_cohort=True),
    ),
    "plain, if it says so": (Policy(schemes=frozenset({"plain"})), PLAIN),
    "plain, from whose numbers nothing follows": (
        Policy(schemes=frozenset({"plain"}), corrupt=7, threshold=9, m_min=9),
        PLAIN,
    ),
    "CKKS, if it says so": (TO_CKKS, KEEP),
    "CKKS, either ending": (TO_CKKS, RELEASE),
    "CKKS, the ending it insists on": (replace(TO_CKKS, ending="release"), RELEASE),
    "CKKS with the vectors it names": (replace(TO_CKKS, vectors=VECTORS), KEEP),
    "CKKS with another m_min": (replace(TO_CKKS, m_min=9), ckks(m_min=9)),
}


@pytest.mark.parametrize(("policy", "offered"), TAKEN.values(), ids=TAKEN)
def test_a_client_takes_what_its_policy_says(policy: Policy, offered: Any) -> None:
    assert accept(policy, offered.offer(), ROSTER) == offered


def test_the_smallest_roster_that_holds_the_cohort_is_enough() -> None:
    roster, _ = throwaway_identities(range(10))
    offered = active(roster=roster)
    assert accept(Policy(), offered.offer(), roster) == offered


# Impossible sessions, that no honest server's parameters can be


def raw(scheme: Any, /, **fields: Any) -> bytes:
    """An offer with other fields, past the checks of a server that makes parameters."""
    content = msgspec.msgpack.decode(scheme.offer()) | fields
    return msgspec.msgpack.Encoder(order="sorted").encode(content)


# What no parameters can be is refused as test_params.py has it; and what is no such numbers at all:
IMPOSSIBLE = {
    "t of half the cohort": ({"threshold": 5, "m_min": 5}, "impossible session: threshold 5 is impossible"),
    "no roster": ({"roster": b""}, "impossible session: .* bound to a roster"),
    "no vectors": ({"vectors": {}}, "impossible session: a session has 1..64 vectors"),
    "an unknown adversary": ({"adversary": "none"}, "Invalid enum value"),
    "an unknown scheme": ({"scheme": "rot13"}, "Invalid value 'rot13'"),
    "an unknown PRG": ({"prg": "mt19937"}, "Invalid enum value"),
    "a field of another scheme": ({"scheme": "plain"}, "unknown field"),
    "an unknown field": ({"groupings": 2}, "unknown field"),
    "a vector of an unknown kind": ({"vectors": {"": {"kind": "median", "maximum": 1}}}, "Invalid"),
    "a number that is text": ({"threshold": "7"}, "Expected `int`"),
    "a number that is a float": ({"threshold": 7.0}, "not canonical|Expected `int`"),
    "a truth that is a number": ({"small_cohort": 1}, "Expected `bool`"),
}
IMPOSSIBLE_CKKS = {
    "an active server": ({"adversary": "active"}, "impossible session: CKKS is not for a server that is act"),
    "a large modulus": ({"prime_bits": [60, 60]}, "impossible session: .* not what this session takes"),
    "no list of primes": ({"prime_bits": 22}, "Expected `array`"),
    "an ending that there is not": ({"ending": "both"}, "Invalid enum value"),
    "an unknown field": ({"threshold": 6}, "unknown field"),
}


@pytest.mark.parametrize(("fields", "words"), IMPOSSIBLE_CKKS.values(), ids=IMPOSSIBLE_CKKS)
def test_an_impossible_session_of_ckks_is_refused_whatever_the_policy(fields: Any, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words):
        read_offer(raw(RELEASE, **fields))


@pytest.mark.parametrize(("fields", "words"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_an_impossible_session_is_refused_whatever_the_policy(fields: Any, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words):
        read_offer(raw(DUE, **fields))


VECTOR_FIELDS = {
    "no length": {"length": 0},
    "a bound that is not a number": {"bound": float("nan")},
    "33 bits": {"bits": 33},
    "an unknown kind": {"kind": "free"},
    "a field that there is not": {"noise": 0.0},
}


@pytest.mark.parametrize("fields", VECTOR_FIELDS.values(), ids=VECTOR_FIELDS)
def test_an_impossible_vector_is_refused_whatever_the_policy(fields: Any) -> None:
    vectors = msgspec.msgpack.decode(DUE.offer())["vectors"]
    vectors["update"] |= fields
    with pytest.raises(RemoteProtocolError):
        read_offer(raw(DUE, vectors=vectors))


def test_an_offer_is_the_canonical_bytes_and_no_others() -> None:
    offer = DUE.offer()
    fields = msgspec.msgpack.decode(offer)
    reordered = msgspec.msgpack.encode(dict(reversed(fields.items())))
    wide = offer.replace(b"\xa7clients\x0a", b"\xa7clients\xcc\x0a")
    missing = msgspec.msgpack.Encoder(order="sorted").encode(
        {k: v for k, v in fields.items() if k != "corrupt"}
    )
    for other in (reordered, wide, missing, offer + b"\0"):
        assert other != offer
        with pytest.raises(RemoteProtocolError):
            read_offer(other)
    assert read_offer(offer) == DUE


def test_an_offer_of_any_other_length_is_refused() -> None:
    offer = DUE.offer()
    for end in range(len(offer)):
        with pytest.raises(RemoteProtocolError):
            read_offer(offer[:end])


def test_an_offer_that_is_too_long_is_not_read() -> None:
    with pytest.raises(RemoteProtocolError, match=f"{MAX_OFFER_BYTES + 1} bytes; at most"):
        read_offer(bytes(MAX_OFFER_BYTES + 1))
    with pytest.raises(RemoteProtocolError, match="not the parameters"):
        read_offer(bytes(MAX_OFFER_BYTES))


def test_whatever_bit_of_an_offer_of_ckks_changes_the_policy_refuses_it() -> None:
    """But for `small_cohort`, as below."""
    offer, policy, taken = RELEASE.offer(), replace(TO_CKKS, vectors=VECTORS, smallest_cohort=10), []
    for at, bit in itertools.product(range(len(offer)), range(8)):
        changed = bytearray(offer)
        changed[at] ^= 1 << bit
        try:
            taken.append(accept(policy, bytes(changed), ROSTER))
        except RemoteProtocolError:
            continue
    assert taken == [replace(RELEASE, small_cohort=True)]


def test_whatever_bit_of_an_offer_changes_the_policy_refuses_it() -> None:
    """But for `small_cohort`, which allows nothing that a cohort of three or more does not have; and for d,
    of which nothing follows on the complete graph but t.
    """
    offer, policy = DUE.offer(), Policy(vectors=VECTORS, smallest_cohort=10)
    taken = []
    for at, bit in itertools.product(range(len(offer)), range(8)):
        changed = bytearray(offer)
        changed[at] ^= 1 << bit
        try:
            taken.append(accept(policy, bytes(changed), ROSTER))
        except RemoteProtocolError:
            continue
    harmless = [{"dropout": 1}, {"dropout": 2}, {"small_cohort": True}]
    assert sorted(taken, key=str) == sorted((replace(DUE, **change) for change in harmless), key=str)


def test_a_digest_is_of_everything_that_is_offered() -> None:
    """What is signed: two sessions that differ in any field have two digests."""
    offers = [DUE, *(offered for _, offered, _ in REFUSED.values())]
    assert len({o.digest() for o in offers}) == len({o.offer() for o in offers})


def test_a_policy_is_for_the_roster_it_was_given() -> None:
    emptied = Roster(ROSTER.digest, {})
    with pytest.raises(RemoteProtocolError, match="cohort of 10 from a roster of 0"):
        accept(Policy(), DUE.offer(), emptied)
