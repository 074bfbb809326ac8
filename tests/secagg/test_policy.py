"""A client takes what its own rules allow, recomputes every number that follows, and refuses any other."""

from __future__ import annotations

import re
import tomllib
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import (
    CKKS,
    Bounded,
    Counts,
    LocalProtocolError,
    Masking,
    Policy,
    RemoteProtocolError,
    Weight,
)
from secagg.params import MAX_NAME
from secagg.policy import MAX_OFFER_BYTES, read_offer
from secagg.session import Scheme
from tests.play import identities
from tests.secagg.helpers import (
    ENDINGS,
    MIXED,
    SCHEMES,
    active,
    keeping,
    plain,
    releasing,
    semi_honest,
    with_another_byte,
)

ONE = Counts(length=1, maximum=1)
SEVEN, _ = identities(range(7))
LAX = Policy(schemes=frozenset({"masking", "plain", "ckks"}), adversary="semi-honest", smallest_cohort=1)
TO_CKKS = Policy(schemes=frozenset({"ckks"}), adversary="semi-honest")
OFFERS = [
    semi_honest(range(5), MIXED),
    semi_honest(range(5), MIXED, threshold=5),
    semi_honest(range(2), ONE, small_cohort=True),
    active(range(7), MIXED),
    active(range(7), ONE, corrupt=2, threshold=6, m_min=7),
    active(range(7), ONE, corrupt=0, dropout=1, graph="sparse", prg="chacha20"),
    semi_honest(range(12), ONE, dropout=2, graph="sparse", batch=4),
    plain(range(5), MIXED),
    plain(range(5), Bounded(length=3, bound=0.5, clip=2.0)),
    keeping(range(7), MIXED),
    releasing(range(7), ONE, m_min=7),
    releasing(range(5), MIXED, roster=None),
]


def accepts(policy: Policy, scheme: Scheme) -> None:
    assert policy.accept(scheme.offer(), SEVEN) == scheme


def refuses(policy: Policy, scheme: Scheme, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words) as caught:
        policy.accept(scheme.offer(), SEVEN)
    assert caught.value.culprits == frozenset()


# schemes


def test_the_default_accepts_masking_against_an_active_server_and_nothing_else() -> None:
    accepts(Policy(), active(range(7), MIXED))
    refuses(Policy(), plain(range(7), MIXED), "offers the scheme plain; this client accepts only masking. If")
    words = "trusts it to follow the protocol; this client does not. If you mean it: --semi-honest"
    refuses(Policy(), semi_honest(range(7), MIXED), words)


def test_plain_is_accepted_by_a_client_that_means_it_and_masking_is_not_then() -> None:
    only_plain = Policy(schemes=frozenset({"plain"}))
    accepts(only_plain, plain(range(7), ONE))
    words = "offers the scheme masking; this client accepts only plain. If you mean it: --allow masking"
    refuses(only_plain, active(range(7), ONE), words)
    refuses(Policy(schemes=frozenset()), active(range(7), ONE), "offers the scheme masking")


def test_whoever_accepts_both_schemes_still_insists_on_the_adversary() -> None:
    both = Policy(schemes=frozenset({"masking", "plain"}))
    for make in (plain, active):
        accepts(both, make(range(7), ONE))
    refuses(both, semi_honest(range(7), ONE), "trusts it to follow the protocol")


# CKKS


@pytest.mark.parametrize("make", ENDINGS.values(), ids=ENDINGS)
def test_ckks_is_not_accepted_unless_it_is_allowed_and_the_server_trusted(make: Any) -> None:
    offered = make(range(7), MIXED)
    accepts(TO_CKKS, offered)
    words = "offers the scheme ckks; this client accepts only masking. If you mean it: --allow ckks"
    for policy in (Policy(), Policy(adversary="semi-honest")):
        refuses(policy, offered, words)
    refuses(Policy(schemes=frozenset({"plain", "masking"})), offered, "accepts only masking, plain")
    words = "trusts it to follow the protocol; this client does not. If you mean it: --semi-honest"
    refuses(Policy(schemes=frozenset({"ckks"}), adversary="active"), offered, words)


@pytest.mark.parametrize("make", ENDINGS.values(), ids=ENDINGS)
def test_the_keys_of_ckks_are_signed_under_the_roster_a_client_has_and_under_no_other(make: Any) -> None:
    signed, unsigned = make(range(7), MIXED), make(range(7), MIXED, roster=None)
    accepts(TO_CKKS, signed)
    assert TO_CKKS.accept(unsigned.offer()) == unsigned
    refuses(TO_CKKS, unsigned, "bound to another roster than this client holds")
    with pytest.raises(RemoteProtocolError, match="another roster than this client holds"):
        TO_CKKS.accept(signed.offer(), identities(range(8))[0])
    words = (
        r"a session in which keys are signed; for that a client needs its own copy of the roster \(--roster\)"
    )
    with pytest.raises(RemoteProtocolError, match=words):
        TO_CKKS.accept(signed.offer())


@pytest.mark.parametrize("make", ENDINGS.values(), ids=ENDINGS)
def test_m_min_of_ckks_is_the_one_that_is_due(make: Any) -> None:
    for m_min in (1, 3, 5, 7):
        offered = make(range(7), MIXED, m_min=m_min)
        refuses(TO_CKKS, offered, f"the server offers m_min {m_min}; by this client's policy it is 4")
        accepts(msgspec.structs.replace(TO_CKKS, m_min=m_min), offered)
    words = "the server offers m_min 4; by this client's policy it is 5"
    refuses(msgspec.structs.replace(TO_CKKS, m_min=5), make(range(7), MIXED), words)


@pytest.mark.parametrize("make", ENDINGS.values(), ids=ENDINGS)
def test_what_a_policy_says_of_any_scheme_it_says_of_ckks(make: Any) -> None:
    offered = make(range(7), MIXED)
    eight = msgspec.structs.replace(TO_CKKS, smallest_cohort=8)
    refuses(eight, offered, "a cohort of 7; this client takes part from 8")
    other = msgspec.structs.replace(TO_CKKS, vectors=MIXED | {"counts": ONE})
    refuses(other, offered, r"policy says of the vectors 'counts' \(length 3, not 1, maximum 9, not 1\)$")
    two = CKKS.for_cohort(2, ONE, small_cohort=True, roster=SEVEN)
    refuses(TO_CKKS, two, "a cohort of 2; this client takes part from 3")


# adversary, roster


def test_a_client_content_with_a_semi_honest_server_accepts_protection_from_an_active_one() -> None:
    content = Policy(adversary="semi-honest")
    for make in (semi_honest, active):
        accepts(content, make(range(7), MIXED))
    assert content.accept(semi_honest(range(7), MIXED).offer()) == semi_honest(range(7), MIXED)  # no roster


@pytest.mark.parametrize("policy", [Policy(), Policy(adversary="semi-honest")])
def test_an_active_session_needs_the_clients_own_copy_of_the_same_roster(policy: Policy) -> None:
    offer = active(range(7), MIXED).offer()
    words = r"against an active adversary; for that a client needs its own copy of the roster \(--roster\)"
    with pytest.raises(RemoteProtocolError, match=words):
        policy.accept(offer)
    with pytest.raises(RemoteProtocolError, match="bound to another roster than this client holds"):
        policy.accept(offer, identities(range(8))[0])
    assert policy.accept(offer, SEVEN) == active(range(7), MIXED)


def test_a_cohort_is_no_larger_than_the_roster() -> None:
    def of(clients: int) -> Masking:
        return Masking.for_cohort(clients, MIXED, adversary="active", roster=SEVEN)

    for clients in (3, 6, 7):
        accepts(Policy(), of(clients))
    refuses(Policy(), of(8), "a cohort of 8 from a roster of 7 clients")


# smallest_cohort


def test_a_small_cohort_is_refused_whatever_the_server_says_of_experiments() -> None:
    for make in (plain, semi_honest):
        words = r"a cohort of 2; this client takes part from 3 on \(--smallest-cohort\)"
        lax = msgspec.structs.replace(LAX, smallest_cohort=3)
        refuses(lax, make(range(2), ONE, small_cohort=True), words)
        accepts(lax, make(range(3), ONE))
        accepts(lax, make(range(3), ONE, small_cohort=True))
        accepts(LAX, make(range(2), ONE, small_cohort=True))
        six = msgspec.structs.replace(LAX, smallest_cohort=6)
        refuses(six, make(range(5), ONE), "a cohort of 5; this client takes part from 6")
        accepts(six, make(range(6), ONE))
    two = Masking.for_cohort(2, ONE, adversary="active", roster=SEVEN, small_cohort=True)
    refuses(Policy(), two, "a cohort of 2; this client takes part from 3")
    accepts(Policy(smallest_cohort=2), two)


# corrupt, threshold, m_min


@pytest.mark.parametrize(
    ("policy", "numbers"),
    [
        ({}, {}),
        ({}, {"corrupt": 1, "threshold": 5, "m_min": 5}),
        ({"corrupt": 2}, {"corrupt": 2}),
        ({"corrupt": 0}, {"corrupt": 0}),
        ({"threshold": 6}, {"threshold": 6}),
        ({"m_min": 7}, {"m_min": 7}),
        ({"corrupt": 2, "threshold": 6, "m_min": 7}, {"corrupt": 2, "threshold": 6, "m_min": 7}),
    ],
)
def test_the_numbers_that_follow_from_the_policy_are_accepted(policy: Any, numbers: Any) -> None:
    accepts(Policy(**policy), active(range(7), MIXED, **numbers))


@pytest.mark.parametrize(
    ("policy", "numbers", "words"),
    [
        ({}, {"corrupt": 0}, "corrupt 0; by this client's policy it is 1"),
        ({}, {"corrupt": 2}, "corrupt 2; by this client's policy it is 1"),
        ({"corrupt": 2}, {}, "corrupt 1; by this client's policy it is 2"),
        ({"corrupt": 0}, {}, "corrupt 1; by this client's policy it is 0"),
        ({}, {"threshold": 6}, "threshold 6; by this client's policy it is 5"),
        ({}, {"threshold": 7}, "threshold 7; by this client's policy it is 5"),
        ({"threshold": 6}, {}, "threshold 5; by this client's policy it is 6"),
        ({"corrupt": 3}, {"corrupt": 3, "threshold": 7}, "threshold 7; by this client's policy it is 6"),
        ({}, {"m_min": 6}, "m_min 6; by this client's policy it is 5"),
        ({"m_min": 6}, {}, "m_min 5; by this client's policy it is 6"),
        ({"m_min": 6}, {"m_min": 7}, "m_min 7; by this client's policy it is 6"),
        ({"threshold": 6}, {"threshold": 6, "m_min": 7}, "m_min 7; by this client's policy it is 6"),
    ],
)
def test_any_other_number_is_refused_with_the_one_that_is_due(policy: Any, numbers: Any, words: str) -> None:
    refuses(Policy(**policy), active(range(7), MIXED, **numbers), f"the server offers {words}")


def test_the_numbers_of_a_semi_honest_session_are_recomputed_too() -> None:
    content = Policy(adversary="semi-honest")
    for numbers, words in (
        ({"threshold": 5}, "threshold 5; by this client's policy it is 4"),
        ({"m_min": 5}, "m_min 5; by this client's policy it is 4"),
        ({"corrupt": 0}, "corrupt 0; by this client's policy it is 1"),
        ({"corrupt": 2}, "corrupt 2; by this client's policy it is 1"),
    ):
        refuses(content, semi_honest(range(7), MIXED, **numbers), words)
    accepts(Policy(adversary="semi-honest", corrupt=3), semi_honest(range(7), MIXED, corrupt=3))


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"corrupt": 7}, "corrupt 7: of 7 clients it is 0 to 6"),
        ({"corrupt": 6}, "7 clients of whom 6 are corrupt and 0 drop out: 8 would have to be left"),
        ({"corrupt": 0.9}, "7 clients of whom 6 are corrupt and 0 drop out: 8 would have to be left"),
        ({"dropout": 0.6}, "7 clients of whom 1 are corrupt and 4 drop out: 5 would have to be left"),
        ({"threshold": 4}, r"threshold 4 is impossible: with 7 clients, 1 of them corrupt .* in 5\.\.5"),
        ({"threshold": 8}, r"threshold 8 is impossible: .* in 5\.\.7"),
        ({"m_min": 4}, "m_min 4 is impossible: from t = 5 to n = 7"),
        ({"m_min": 8}, "m_min 8 is impossible: from t = 5 to n = 7"),
    ],
)
def test_a_policy_that_no_session_of_this_cohort_meets_says_why(policy: Any, words: str) -> None:
    refuses(Policy(**policy), active(range(7), MIXED), f"by this client's policy no such session .*: {words}")


def test_nothing_is_recomputed_of_an_unprotected_session() -> None:
    accepts(Policy(schemes=frozenset({"plain"}), corrupt=7, threshold=9, m_min=9), plain(range(7), MIXED))


# dropout, graph, batch, prg


SIXTY, _ = identities(range(60))


def of_sixty(**numbers: Any) -> Masking:
    return active(range(60), ONE, **numbers)


def takes(policy: Policy, offered: Masking) -> None:
    assert policy.accept(offered.offer(), SIXTY) == offered


def turns_down(policy: Policy, offered: Masking, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words) as caught:
        policy.accept(offered.offer(), SIXTY)
    assert caught.value.culprits == frozenset()


def test_the_complete_graph_is_always_accepted() -> None:
    """It withstands more. Of it d decides nothing but t, which is recomputed."""
    complete = of_sixty(corrupt=2, dropout=5, graph="complete")
    for graph in ("auto", "complete", "sparse"):
        for dropout in (None, 5, 19, 0.0):
            takes(Policy(corrupt=2, dropout=dropout, graph=graph), complete)
    turns_down(Policy(corrupt=2, dropout=20), complete, "threshold 41; by this client's policy it is 32")
    takes(Policy(corrupt=2, dropout=0.4), of_sixty(corrupt=2, dropout=24))
    turns_down(Policy(corrupt=2), of_sixty(corrupt=2, dropout=24), "threshold 32; .* policy it is 41")


def test_a_sparse_graph_is_accepted_where_the_clients_own_numbers_give_it() -> None:
    sparse = of_sixty(corrupt=2, dropout=5)
    assert not sparse.complete
    takes(Policy(corrupt=2, dropout=5), sparse)
    takes(Policy(corrupt=2, dropout=5, graph="sparse"), sparse)
    takes(Policy(corrupt=0.034, dropout=0.09), sparse)
    k = sparse.degree
    turns_down(
        Policy(corrupt=2, dropout=5, graph="complete"), sparse, f"degree {k}; by this client.* it is 59"
    )
    turns_down(Policy(corrupt=2, dropout=5, threshold=41), sparse, f"degree {k}; by this client.* it is 59")
    turns_down(Policy(), sparse, "corrupt 2; by this client's policy it is 6")
    turns_down(Policy(corrupt=2), sparse, f"degree {k}; by this client's policy it is 59")
    turns_down(Policy(corrupt=2, dropout=4), sparse, "degree 14; by this client's policy it is 12")
    turns_down(Policy(corrupt=3, dropout=5), sparse, "corrupt 2; by this client's policy it is 3")
    turns_down(Policy(corrupt=1, dropout=5), sparse, "corrupt 2; by this client's policy it is 1")


def test_a_sparse_graph_of_a_small_cohort_is_accepted_by_a_client_that_means_it() -> None:
    sparse = active(range(7), ONE, dropout=1, graph="sparse")
    assert sparse.degree == 4
    accepts(Policy(dropout=1, graph="sparse"), sparse)
    accepts(Policy(graph="sparse", dropout=0.15), sparse)
    for graph in ("auto", "complete"):
        refuses(Policy(dropout=1, graph=graph), sparse, "degree 4; by this client's policy it is 6")
    words = "no such session is possible: 1 corrupt and twice 4 dropped of 7 clients make 1.29 of the cohort"
    refuses(Policy(dropout=0.6, graph="sparse"), sparse, words)


def test_m_min_of_a_sparse_graph_is_recomputed() -> None:
    for m_min in (56, 60):
        offered = of_sixty(corrupt=2, dropout=5, m_min=m_min)
        takes(Policy(corrupt=2, dropout=5, m_min=m_min), offered)
        turns_down(Policy(corrupt=2, dropout=5), offered, f"m_min {m_min}; by this client's policy it is 55")
    turns_down(Policy(corrupt=2, dropout=5, m_min=56), of_sixty(corrupt=2, dropout=5), "m_min 55; .* is 56")


def test_how_many_drop_out_of_a_sparse_graph_is_what_the_policy_says() -> None:
    """Even where degree, threshold and m_min are the same."""
    one, two = (semi_honest(range(60), ONE, corrupt=1, dropout=d, m_min=60) for d in (1, 2))
    assert (one.degree, one.threshold, one.m_min) == (two.degree, two.threshold, two.m_min) == (4, 2, 60)
    policy = Policy(adversary="semi-honest", corrupt=1, dropout=1, m_min=60)
    takes(policy, one)
    turns_down(policy, two, "dropout 2; by this client's policy it is 1")


def test_the_ending_is_that_the_policy_insists_on() -> None:
    keep, release = (CKKS.for_cohort(5, ONE, ending=ending) for ending in ("keep", "release"))
    told = {"schemes": frozenset({"ckks"}), "adversary": "semi-honest"}
    for offered in (keep, release):
        assert Policy(**told).accept(offered.offer()) == offered
        assert Policy(**told, ending=offered.ending).accept(offered.offer()) == offered
    for offered, meant in ((release, "keep"), (keep, "release")):
        with pytest.raises(
            RemoteProtocolError,
            match=f"offers that clients {offered.ending} the sum; this client insists that they {meant} it",
        ):
            Policy(**told, ending=meant).accept(offered.offer())


def test_the_cipher_of_the_masks_is_the_one_the_policy_insists_on() -> None:
    chacha20 = active(range(7), ONE, prg="chacha20")
    accepts(Policy(), chacha20)
    accepts(Policy(prg="chacha20"), chacha20)
    words = "makes masks by chacha20; this client insists on aes-128-ctr"
    refuses(Policy(prg="aes-128-ctr"), chacha20, words)


def test_batches_are_those_the_policy_insists_on() -> None:
    accepts(Policy(), active(range(7), ONE, batch=3))
    accepts(Policy(batch=3), active(range(7), ONE, batch=3))
    accepts(Policy(batch=0), active(range(7), ONE))
    for insisted, offered in ((3, 0), (3, 4), (0, 3)):
        words = rf"by batches of {offered}; this client insists on {insisted} \(--batch\)"
        refuses(Policy(batch=insisted), active(range(7), ONE, batch=offered), words)
    six = Masking.for_cohort(6, ONE, adversary="active", roster=SEVEN, batch=3)
    words = "by batches a cohort of 6 from a roster of 7 clients: by batches it is the whole roster"
    for policy in (Policy(), Policy(batch=3)):
        refuses(policy, six, words)
    accepts(Policy(adversary="semi-honest"), semi_honest(range(6), ONE, batch=3))


def test_either_prg_is_accepted() -> None:
    for make in (semi_honest, active):
        accepts(Policy(adversary="semi-honest"), make(range(7), ONE, prg="chacha20"))


# vectors


@pytest.mark.parametrize("make", SCHEMES.values(), ids=SCHEMES)
def test_exactly_the_vectors_of_the_policy_are_accepted(make: Any) -> None:
    policy = msgspec.structs.replace(LAX, vectors=MIXED)
    accepts(policy, make(range(7), MIXED))
    accepts(policy, make(range(7), dict(reversed(MIXED.items()))))
    accepts(msgspec.structs.replace(LAX, vectors={"": ONE}), make(range(7), ONE))


@pytest.mark.parametrize(
    ("change", "asked", "meant"),
    [
        ({"update": Bounded(length=6, bound=1.0, bits=8)}, "'update' (length 6, not 5)", "(length 5, not 6)"),
        ({"update": Bounded(length=5, bound=1.5, bits=8)}, "'update' (bound 1.5, not 1.0)", "1.0, not 1.5)"),
        ({"update": Bounded(length=5, bound=1.0, bits=9)}, "'update' (bits 9, not 8)", "(bits 8, not 9)"),
        (
            {"update": Bounded(length=5, bound=1.0, bits=8, clip=1.0)},
            "'update' (clip 1.0, not None)",
            "'update' (clip None, not 1.0)",
        ),
        ({"counts": Counts(length=4, maximum=9)}, "'counts' (length 4, not 3)", "(length 3, not 4)"),
        ({"counts": Counts(length=3, maximum=10)}, "'counts' (maximum 10, not 9)", "(maximum 9, not 10)"),
        ({"counts": Bounded(length=3, bound=9.0)}, "'counts' (bounded, not counts)", "(counts, not bounded)"),
        ({"weight": Weight(maximum=5)}, "'weight' (maximum 5, not 4)", "'weight' (maximum 4, not 5)"),
        ({"weight": Counts(length=1, maximum=4)}, "'weight' (counts, not weight)", "(weight, not counts)"),
        ({"label": ONE}, "'label' (not in the policy)", "'label' (not asked for)"),
        (
            {"label": ONE, "counts": ONE},
            "'counts' (length 1, not 3, maximum 1, not 9), 'label' (not in the policy)",
            "'counts' (length 3, not 1, maximum 9, not 1), 'label' (not asked for)",
        ),
    ],
)
def test_another_vector_than_the_policys_is_refused_by_name_and_by_what_differs(
    change: Any, asked: str, meant: str
) -> None:
    """asked: where the server asks for the change; meant: where the policy is the one that has it."""
    for policy, offered, words in ((MIXED, MIXED | change, asked), (MIXED | change, MIXED, meant)):
        refuses(
            Policy(vectors=policy),
            active(range(7), offered),
            f"not ask for what this client's policy says of the vectors .*{re.escape(words)}$",
        )


def test_without_vectors_of_its_own_a_policy_takes_whatever_the_server_asks() -> None:
    for vectors in (MIXED, ONE, {"x": Bounded(length=9, bound=1e30, bits=32)}):
        accepts(Policy(), active(range(7), vectors))
    refuses(Policy(vectors={}), active(range(7), ONE), r"of the vectors '' \(not in the policy\)$")


# A file


def test_every_field_of_a_policy_can_stand_in_a_file() -> None:
    text = """
        schemes = ["masking", "plain", "ckks"]
        adversary = "semi-honest"
        corrupt = 2
        dropout = 0.25
        graph = "sparse"
        smallest_cohort = 10
        threshold = 8
        m_min = 9
        batch = 5
        ending = "keep"
        [vectors.update]
        kind = "bounded"
        length = 5
        bound = 1
        bits = 8
        [vectors.weight]
        kind = "weight"
        maximum = 4
    """
    assert msgspec.convert(tomllib.loads(text), Policy) == Policy(
        schemes=frozenset({"masking", "plain", "ckks"}),
        adversary="semi-honest",
        corrupt=2,
        dropout=0.25,
        graph="sparse",
        smallest_cohort=10,
        threshold=8,
        m_min=9,
        batch=5,
        ending="keep",
        vectors={"update": MIXED["update"], "weight": MIXED["weight"]},
    )
    assert msgspec.convert({}, Policy) == Policy()


@pytest.mark.parametrize(
    "fields",
    [
        {"scheme": "masking"},
        {"schemes": "masking"},
        {"schemes": [1]},
        {"adversary": "Active"},
        {"adversary": None},
        *(
            {field: value}
            for field in ("corrupt", "dropout", "threshold", "m_min", "batch")
            for value in (-1, 10**6 + 1, "3", 1.5)
        ),
        *({field: value} for field in ("corrupt", "dropout") for value in (-0.1, float("nan"))),
        *({field: 0.5} for field in ("threshold", "m_min", "batch")),
        {"graph": "ring"},
        {"graph": None},
        {"ending": "both"},
        {"ending": 1},
        *({"smallest_cohort": value} for value in (-1, 10**6 + 1, None)),
        {"vectors": {"": {"kind": "bounded", "length": 1}}},
        {"vectors": {"": {"kind": "median", "length": 1}}},
        {"vectors": {"": {"kind": "counts", "length": 1, "maximum": 0}}},
        {"vectors": [1]},
    ],
    ids=str,
)
def test_a_policy_with_an_unknown_or_impossible_field_is_refused(fields: Any) -> None:
    with pytest.raises((msgspec.ValidationError, LocalProtocolError)):
        msgspec.convert(fields, Policy)


# Offers


@pytest.mark.parametrize("scheme", OFFERS, ids=str)
def test_an_offer_is_read_back_as_the_parameters_it_was_made_from(scheme: Scheme) -> None:
    assert read_offer(scheme.offer()) == scheme
    assert read_offer(scheme.offer()).digest() == scheme.digest()


@pytest.mark.parametrize(
    "numbers", [{"bound": 1}, {"bound": 1.0, "clip": 2}, {"bound": 1.0, "bits": True + 7}]
)
def test_a_whole_number_as_a_bound_is_offered_as_any_other(numbers: dict[str, Any]) -> None:
    scheme = active(range(7), Bounded(length=3, **numbers))
    assert read_offer(scheme.offer()) == scheme


def forged(scheme: Scheme, /, **changes: Any) -> bytes:
    """An offer no `Parameters` object can be made for."""
    return msgspec.msgpack.encode(msgspec.msgpack.decode(scheme.offer()) | changes, order="sorted")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"clients": 0}, "impossible session: 0 clients"),
        ({"threshold": 2}, "impossible session: threshold 2"),
        ({"degree": 4}, "impossible session: degree 4 is impossible: .*, only the complete .* 6 neighbours"),
        ({"degree": 7}, "impossible session: degree 7 is impossible: .*, only the complete .* 6 neighbours"),
        ({"dropout": 3}, "impossible session: 7 clients of whom 1 are corrupt and 3 drop out: 5 would"),
        ({"dropout": -1}, "impossible session: -1 dropouts"),
        ({"batch": 2}, "impossible session: a batch of 2"),
        ({"batch": 8}, "impossible session: a batch of 8"),
        ({"prg": "rc4"}, "not the parameters of a session: Invalid"),
        ({"m_min": 4}, "impossible session: m_min 4"),
        ({"corrupt": 9}, "impossible session: 9 corrupt clients"),
        ({"roster": b""}, "impossible session: against an active server a session is bound to a roster"),
        ({"adversary": "semi-honest"}, "impossible session: against an active server a session is bound"),
        ({"adversary": "none"}, "not the parameters of a session: Invalid"),
        ({"clients": 2}, "impossible session: with 2 clients"),
        ({"vectors": {}}, "impossible session: a session has"),
        ({"vectors": {"": {"kind": "weight", "maximum": 0}}}, "impossible session: maximum weight 0"),
        ({"vectors": {"": {"kind": "median", "maximum": 1}}}, "not the parameters of a session: Invalid"),
        ({"scheme": "none"}, "not the parameters of a session: Invalid"),
        ({"scheme": "plain"}, "not the parameters of a session: Object contains unknown field"),
        ({"clients": "7"}, "not the parameters of a session: Expected `int`"),
        ({"clients": 7.0}, "."),
        ({"roster": "r" * 32}, "not the parameters|not canonical"),
        ({"extra": 1}, "not the parameters of a session: Object contains unknown field"),
    ],
)
def test_an_impossible_offer_is_refused(changes: dict[str, Any], words: str) -> None:
    scheme = active(range(7), ONE)
    assert forged(scheme) == scheme.offer()
    with pytest.raises(RemoteProtocolError, match=words) as caught:
        read_offer(forged(scheme, **changes))
    assert caught.value.culprits == frozenset()


FIELDS_WITH_DEFAULTS = ["small_cohort", "adversary", "corrupt", "dropout", "batch", "prg", "roster"]


@pytest.mark.parametrize("field", FIELDS_WITH_DEFAULTS)
def test_an_offer_without_a_field_is_refused_even_where_it_has_a_default(field: str) -> None:
    fields = msgspec.msgpack.decode(semi_honest(range(5), ONE, corrupt=0, dropout=0).offer())
    del fields[field]
    with pytest.raises(RemoteProtocolError, match="the parameters are in a form that is not canonical"):
        read_offer(msgspec.msgpack.encode(fields, order="sorted"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"degree": 16384}, "impossible session: degree 16384 with primes of .* is not what this session"),
        ({"degree": -1}, "impossible session: degree -1"),
        ({"prime_bits": [60, 60]}, "impossible session: degree .* is not what this session takes"),
        ({"prime_bits": []}, "impossible session: degree .* is not what this session takes"),
        ({"prime_bits": 22}, "not the parameters of a session: Expected `array`"),
        ({"scale": 2**30}, "impossible session: .* is not what this session takes"),
        ({"scale": 0}, "impossible session: .* is not what this session takes"),
        ({"m_min": 0}, "impossible session: m_min 0"),
        ({"m_min": 8}, "impossible session: m_min 8"),
        ({"flood_bits": 20}, "impossible session: a sum that clients keep is flooded with 0 bits"),
        ({"ending": "release"}, "impossible session: a sum that clients release is flooded with 40 bits"),
        ({"ending": "publish"}, "not the parameters of a session: Invalid"),
        ({"adversary": "active"}, "impossible session: CKKS is not for a server that is active"),
        ({"adversary": "none"}, "not the parameters of a session: Invalid"),
        ({"roster": bytes(33)}, "impossible session: the digest of a roster"),
        ({"clients": 10**6}, "impossible session: degree"),
        ({"clients": 10**6 + 1}, "impossible session: 1000001 clients"),
        ({"threshold": 4}, "not the parameters of a session: Object contains unknown field"),
        ({"scheme": "masking"}, "not the parameters of a session: Object contains unknown field"),
    ],
    ids=str,
)
def test_an_impossible_offer_of_ckks_is_refused(changes: dict[str, Any], words: str) -> None:
    scheme = keeping(range(7), ONE)
    assert forged(scheme) == scheme.offer()
    with pytest.raises(RemoteProtocolError, match=words):
        read_offer(forged(scheme, **changes))


def test_an_offer_of_ckks_without_a_field_is_refused_even_where_it_has_a_default() -> None:
    fields = msgspec.msgpack.decode(keeping(range(7), ONE, roster=None).offer())
    for field in ("ending", "flood_bits", "adversary", "roster", "small_cohort"):
        less = {name: value for name, value in fields.items() if name != field}
        with pytest.raises(RemoteProtocolError, match="the parameters are in a form that is not canonical"):
            read_offer(msgspec.msgpack.encode(less, order="sorted"))


def test_an_offer_in_another_order_is_refused() -> None:
    fields = msgspec.msgpack.decode(active(range(7), ONE).offer())
    with pytest.raises(RemoteProtocolError, match="the parameters are in a form that is not canonical"):
        read_offer(msgspec.msgpack.encode(dict(reversed(fields.items()))))


def test_an_offer_that_is_too_long_is_not_even_read() -> None:
    with pytest.raises(RemoteProtocolError, match=f"{MAX_OFFER_BYTES + 1} bytes; at most {MAX_OFFER_BYTES}"):
        read_offer(bytes(MAX_OFFER_BYTES + 1))
    with pytest.raises(RemoteProtocolError, match="not the parameters"):
        read_offer(bytes(MAX_OFFER_BYTES))


def test_the_longest_possible_offer_is_short_enough() -> None:
    names = {f"{i:0{MAX_NAME}}": Bounded(length=99_999, bound=1 / 3, bits=32, clip=1 / 3) for i in range(64)}
    scheme = Masking.for_cohort(1000, names, adversary="active", roster=SEVEN)
    assert read_offer(scheme.offer()).names == sorted(names)


@given(st.binary())
def test_whatever_the_bytes_an_offer_is_read_or_refused(data: bytes) -> None:
    with suppress(RemoteProtocolError):
        assert read_offer(data).offer() == data
    with pytest.raises(RemoteProtocolError):
        Policy().accept(data, SEVEN)


@given(st.sampled_from(OFFERS), st.data())
def test_whatever_byte_of_an_offer_changes_it_is_read_or_refused(scheme: Scheme, data: st.DataObject) -> None:
    offer = with_another_byte(scheme.offer(), data)
    with suppress(RemoteProtocolError):
        assert read_offer(offer).offer() == offer


def due(n: int) -> int:
    """t and m_min of the default policy: floor(2n / 3) + 1, above (n + 1) / 2, and A + 2 for A = 1."""
    return max(2 * n // 3 + 1, (n + 1) // 2 + 1, 3)


@settings(max_examples=300)
@given(st.sampled_from([*OFFERS, *[active(range(7), MIXED)] * 5]), st.data())
def test_whatever_byte_of_an_offer_changes_the_default_policy_insists_on_its_numbers(
    scheme: Scheme, data: st.DataObject
) -> None:
    with suppress(RemoteProtocolError):
        insists(Policy().accept(with_another_byte(scheme.offer(), data), SEVEN))


def insists(accepted: Any) -> None:
    assert isinstance(accepted, Masking)
    assert accepted.adversary == "active"
    assert accepted.roster == SEVEN.digest
    assert 3 <= accepted.clients <= 7
    assert accepted.corrupt == 1
    assert accepted.threshold == accepted.m_min == due(accepted.clients)
    assert accepted.complete


FIELDS = {
    "clients": st.integers(-1, 9),
    "degree": st.integers(-1, 9),
    "dropout": st.integers(-1, 9),
    "batch": st.integers(-1, 9),
    "prg": st.sampled_from(["aes-128-ctr", "chacha20", "aes-256-ctr"]),
    "threshold": st.integers(-1, 9),
    "m_min": st.integers(-1, 9),
    "corrupt": st.integers(-1, 9),
    "adversary": st.sampled_from(["active", "semi-honest"]),
    "roster": st.sampled_from([SEVEN.digest, identities(range(8))[0].digest, b""]),
    "small_cohort": st.booleans(),
    "scheme": st.sampled_from(["masking", "plain", "ckks"]),
}


@settings(max_examples=300)
@given(st.integers(3, 7), st.sets(st.sampled_from(sorted(FIELDS)), max_size=3), st.data())
def test_an_offer_with_any_fields_changed_is_accepted_exactly_if_its_numbers_follow(
    n: int, changed: set[str], data: st.DataObject
) -> None:
    honest = Masking.for_cohort(n, ONE, adversary="active", roster=SEVEN)
    changes = {field: data.draw(FIELDS[field], label=field) for field in sorted(changed)}
    offered = msgspec.msgpack.decode(honest.offer()) | changes
    clients = offered["clients"]
    expected = offered | {
        "adversary": "active",
        "corrupt": 1,
        "degree": clients - 1,
        "roster": SEVEN.digest,
        "scheme": "masking",
        "threshold": due(clients),
        "m_min": due(clients),
    }
    # How many drop out changes nothing on the complete graph, and batches, of the whole roster, only refuse
    # more: both may be any.
    possible = (
        3 <= clients <= 7
        and 0 <= offered["dropout"] <= clients - due(clients)
        and (offered["batch"] == 0 or 3 <= offered["batch"] <= clients == 7)
        and offered["prg"] != "aes-256-ctr"
    )
    offer = forged(honest, **changes)
    if offered == expected and possible:
        insists(Policy().accept(offer, SEVEN))
    else:
        with pytest.raises(RemoteProtocolError):
            Policy().accept(offer, SEVEN)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (
            {"adversary": "Semi-honest"},
            "adversary 'Semi-honest' of a policy: give one of semi-honest, active",
        ),
        ({"alike": "nevver"}, "alike 'nevver' of a policy: give one of auto, always, never"),
        ({"adversary": None}, "adversary None of a policy: give one of semi-honest, active"),
        ({"prg": "aes"}, "prg 'aes' of a policy: give one of aes-128-ctr, chacha20"),
        ({"corrupt": float("nan")}, "corrupt nan of a policy: give "),
        ({"dropout": 1.7e308}, "dropout 1.7e[+]308 of a policy: give "),
        ({"smallest_cohort": -1}, "smallest_cohort -1 of a policy: give int >= 0"),
        ({"schemes": "masking"}, "schemes 'masking' of a policy: give array"),
    ],
)
def test_a_policy_made_in_python_has_the_limits_of_one_in_a_file(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(LocalProtocolError, match=says):
        Policy(**fields)
