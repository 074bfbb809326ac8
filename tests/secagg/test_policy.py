"""A client takes what its own rules allow, recomputes every number that follows, and refuses any other."""

from __future__ import annotations

import tomllib
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import (
    Bounded,
    Counts,
    LocalProtocolError,
    Masking,
    Policy,
    Private,
    RemoteProtocolError,
    Weight,
)
from secagg.params import MAX_NAME
from secagg.schemes import SCHEMES, accept, read_offer
from secagg.session import Scheme
from tests.play import identities
from tests.secagg.helpers import (
    ENDINGS,
    MIXED,
    active,
    keeping,
    plain,
    releasing,
    semi_honest,
    split,
    split_semi_honest,
    with_another_byte,
)

ONE = Counts(length=1, maximum=1)
SEVEN, _ = identities(range(7))
LAX = Policy(schemes=frozenset(SCHEMES), adversary="semi-honest", smallest_cohort=1)
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
    semi_honest(range(10), {"a": Private(length=100, clip=0.5), "b": Private(length=1, clip=1.0, bits=8)}),
    keeping(range(7), MIXED),
    releasing(range(7), ONE, m_min=7),
    releasing(range(5), MIXED, roster=None),
    split(range(7), MIXED),
    split(range(7), Private(length=100, clip=0.5), corrupt=2, m_min=5, prg="chacha20"),
    split_semi_honest(range(5), ONE, relays=16),
]


def accepts(policy: Policy, scheme: Scheme) -> None:
    assert accept(policy, scheme.offer(), SEVEN) == scheme


def refuses(policy: Policy, scheme: Scheme, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words) as caught:
        accept(policy, scheme.offer(), SEVEN)
    assert caught.value.culprits == frozenset()


UPDATE = Private(length=100, clip=0.5, multiplier=1.2)
NOISY = semi_honest(range(10), UPDATE)


def noised(**vectors: Private) -> Scheme:
    return semi_honest(range(10), vectors)


def test_a_client_takes_the_least_noise_it_insists_on_and_no_less() -> None:
    insisting = msgspec.structs.replace(LAX, noise=1.2)
    accepts(insisting, NOISY)
    accepts(insisting, noised(a=UPDATE))
    refuses(
        msgspec.structs.replace(LAX, noise=1.21), NOISY, "offers noise of 1.2 x the clip in the sum; this"
    )
    for scheme in (plain(range(5), MIXED), semi_honest(range(5), MIXED), keeping(range(7), MIXED)):
        refuses(
            insisting,
            scheme,
            r"the vector 'counts' without noise in its sum; this client insists on noise of 1.2 x the clip "
            r"\(noise, in its policy\), and counts none that clients add to their own vectors or in training",
        )


def test_two_vectors_that_are_seen_together_need_more_noise_each() -> None:
    """What z and z tell together is what z / sqrt(2) would."""
    both = noised(a=UPDATE, b=Private(length=3, clip=9.0, multiplier=1.2))
    accepts(msgspec.structs.replace(LAX, noise=1.2 / 2**0.5), both)
    refuses(msgspec.structs.replace(LAX, noise=0.86), both, "offers noise of 0.848528 x the clip")
    one = noised(a=UPDATE, b=Private(length=3, clip=9.0, multiplier=100.0))
    accepts(msgspec.structs.replace(LAX, noise=1.199), one)


@pytest.mark.parametrize("noise", ["skellam", "discrete-gaussian"])
def test_a_ring_of_few_bits_does_not_take_the_noise_away(noise: Any) -> None:
    """The multiplier is as large as is asked for, and beside what rounding adds there is nothing of it."""
    insisting = msgspec.structs.replace(LAX, noise=1.0)

    def offered(bits: int) -> Scheme:
        spec = Private(length=2**16, clip=1.0, bits=bits, noise=noise, multiplier=1.0)
        return semi_honest(range(20), {"a": spec})

    accepts(insisting, offered(14))
    refuses(
        insisting,
        offered(9),
        r"so few bits that rounding leaves noise of 0\.\d+ x the clip; this client insi",
    )
    accepts(LAX, offered(9))
    loud = Private(length=2**16, clip=1.0, bits=8, noise=noise, multiplier=1e6)
    refuses(insisting, semi_honest(range(20), loud), "rounding leaves noise of 0")


def test_a_clip_may_adapt_within_the_limits_of_a_policy() -> None:
    def with_clips(least: float, largest: float, name: str = "") -> Policy:
        return msgspec.structs.replace(LAX, clips={name: (least, largest)})

    for least, largest in ((0.5, 0.5), (0.1, 1.0)):
        accepts(with_clips(least, largest), NOISY)
    with pytest.raises(LocalProtocolError, match="clips of the vector '' go from 2 to 1: turn them round"):
        Policy(clips={"": (2.0, 1.0)})
    for least, largest in ((0.51, 1.0), (0.1, 0.49)):
        refuses(
            with_clips(least, largest),
            NOISY,
            f"clip of 0.5 for the vector ''; this client takes {least:g} to",
        )
    accepts(with_clips(1.0, 2.0), semi_honest(range(5), Bounded(length=1, bound=1.0, clip=0.5)))


def test_a_client_says_in_how_fine_steps_it_is_summed() -> None:
    """A bound just above its numbers, many bits, and no weight above its own: each makes steps finer."""
    update = Bounded(length=3, bound=0.5, bits=16)
    offered = semi_honest(range(5), {"update": update, "examples": Weight(maximum=8)})

    def insisting(**numbers: Any) -> Policy:
        return msgspec.structs.replace(LAX, **numbers)

    accepts(insisting(bounds={"update": (0.5, 0.5)}, bits=16, heaviest=8), offered)
    for least, largest in ((0.51, 3.0), (0.1, 0.49)):
        refuses(
            insisting(bounds={"update": (least, largest)}),
            offered,
            f"bound of 0.5 for the vector 'update'; this client takes {least:g} to {largest:g}",
        )
    refuses(
        insisting(bits=15), offered, "16 bits of each number of the vector 'update'; this client sends 15"
    )
    refuses(insisting(heaviest=9), offered, "weights up to 8; this client takes part where they may be 9 at")
    without = semi_honest(range(5), {"update": update})
    refuses(insisting(heaviest=2), without, "weights up to 1; this client takes part where they may be 2 at")
    accepts(insisting(heaviest=1), without)
    accepts(insisting(bounds={"": (9.0, 9.0)}, bits=2, heaviest=9), NOISY)
    with pytest.raises(LocalProtocolError, match="bounds of the vector '' go from 2 to 1: turn them round"):
        Policy(bounds={"": (2.0, 1.0)})
    with pytest.raises(LocalProtocolError, match="bits 1 of a policy"):
        Policy(bits=1)


def test_limits_under_a_wrong_name_are_an_error_and_those_of_another_session_are_not() -> None:
    one, wide = Bounded(length=1, bound=0.5), (0.1, 1.0)
    policy = msgspec.structs.replace(LAX, bounds={"update": wide, "other": wide}, clips={"update": wide})
    accepts(policy, semi_honest(range(5), {"update": one}))
    accepts(policy, semi_honest(range(5), {"update": one, "other": one, "more": one}))
    accepts(policy, semi_honest(range(5), {"more": Weight(maximum=8)}))
    accepts(policy, noised(update=UPDATE, more=UPDATE))
    words = "offers a bound for the vector 'more', for which this client has no limits, and none for 'other'"
    refuses(policy, semi_honest(range(5), {"update": one, "more": one}), words)
    refuses(policy, semi_honest(range(5), {"update": one, "more": one, "other": Weight(maximum=8)}), words)
    refuses(
        policy, NOISY, "offers a clip for the vector '', for which this client has no limits, and none for"
    )


def test_the_share_of_noise_is_by_the_clients_own_numbers() -> None:
    """A server that says that more survive would have each add less."""
    offered = semi_honest(range(10), UPDATE, m_min=9)
    assert offered.calibration("").variance < NOISY.calibration("").variance
    refuses(LAX, offered, "offers m_min 9; by this client's policy it is 7")
    trusting = semi_honest(range(10), UPDATE, corrupt=0)
    assert trusting.calibration("").variance < NOISY.calibration("").variance
    refuses(LAX, trusting, "offers corrupt 0; by this client's policy it is 1")


@pytest.mark.parametrize("make", ENDINGS.values(), ids=ENDINGS)
def test_the_keys_of_ckks_are_signed_under_the_roster_a_client_has_and_under_no_other(make: Any) -> None:
    signed, unsigned = make(range(7), MIXED), make(range(7), MIXED, roster=None)
    accepts(TO_CKKS, signed)
    assert accept(TO_CKKS, unsigned.offer()) == unsigned
    refuses(TO_CKKS, unsigned, "bound to another roster than this client holds")
    with pytest.raises(RemoteProtocolError, match="another roster than this client holds"):
        accept(TO_CKKS, signed.offer(), identities(range(8))[0])
    words = (
        r"a session in which keys are signed; for that a client needs its own copy of the roster \(roster=\)"
    )
    with pytest.raises(RemoteProtocolError, match=words):
        accept(TO_CKKS, signed.offer())


# adversary, roster


@pytest.mark.parametrize("policy", [Policy(), Policy(adversary="semi-honest")])
def test_an_active_session_needs_the_clients_own_copy_of_the_same_roster(policy: Policy) -> None:
    offer = active(range(7), MIXED).offer()
    words = r"against an active adversary; for that a client needs its own copy of the roster \(roster=\)"
    with pytest.raises(RemoteProtocolError, match=words):
        accept(policy, offer)
    with pytest.raises(RemoteProtocolError, match="bound to another roster than this client holds"):
        accept(policy, offer, identities(range(8))[0])
    assert accept(policy, offer, SEVEN) == active(range(7), MIXED)


# dropout, graph, batch, prg


SIXTY, _ = identities(range(60))


def of_sixty(**numbers: Any) -> Masking:
    return active(range(60), ONE, **numbers)


def takes(policy: Policy, offered: Masking) -> None:
    assert accept(policy, offered.offer(), SIXTY) == offered


def turns_down(policy: Policy, offered: Masking, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words) as caught:
        accept(policy, offered.offer(), SIXTY)
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


FIELDS_WITH_DEFAULTS = ["small_cohort", "adversary", "corrupt", "dropout", "batch", "prg", "roster"]


@pytest.mark.parametrize("field", FIELDS_WITH_DEFAULTS)
def test_an_offer_without_a_field_is_refused_even_where_it_has_a_default(field: str) -> None:
    fields = msgspec.msgpack.decode(semi_honest(range(5), ONE, corrupt=0, dropout=0).offer())
    del fields[field]
    with pytest.raises(RemoteProtocolError, match="the parameters are in a form that is not canonical"):
        read_offer(msgspec.msgpack.encode(fields, order="sorted"))


def test_an_offer_of_ckks_without_a_field_is_refused_even_where_it_has_a_default() -> None:
    fields = msgspec.msgpack.decode(keeping(range(7), ONE, roster=None).offer())
    for field in ("ending", "flood_bits", "adversary", "roster", "small_cohort"):
        less = {name: value for name, value in fields.items() if name != field}
        with pytest.raises(RemoteProtocolError, match="the parameters are in a form that is not canonical"):
            read_offer(msgspec.msgpack.encode(less, order="sorted"))


def test_the_longest_possible_offer_is_short_enough() -> None:
    names = {f"{i:0{MAX_NAME}}": Bounded(length=99_999, bound=1 / 3, bits=32, clip=1 / 3) for i in range(64)}
    scheme = Masking.for_cohort(1000, names, adversary="active", roster=SEVEN)
    assert read_offer(scheme.offer()).names == sorted(names)


@given(st.binary())
def test_whatever_the_bytes_an_offer_is_read_or_refused(data: bytes) -> None:
    with suppress(RemoteProtocolError):
        assert read_offer(data).offer() == data
    with pytest.raises(RemoteProtocolError):
        accept(Policy(), data, SEVEN)


@given(st.sampled_from(OFFERS), st.data())
def test_whatever_byte_of_an_offer_changes_it_is_read_or_refused(scheme: Scheme, data: st.DataObject) -> None:
    offer = with_another_byte(scheme.offer(), data)
    with suppress(RemoteProtocolError):
        assert read_offer(offer).offer() == offer


def due(n: int) -> int:
    """t and m_min of the default policy: floor(2n / 3) + 1, above (n + 1) / 2, and A + 2 for A = 1."""
    return max(2 * n // 3 + 1, (n + 1) // 2 + 1, 3)


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
        insists(accept(Policy(), offer, SEVEN))
    else:
        with pytest.raises(RemoteProtocolError):
            accept(Policy(), offer, SEVEN)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (
            {"adversary": "Semi-honest"},
            "adversary 'Semi-honest' of a policy: give one of semi-honest, active",
        ),
        ({"alike": "nevver"}, "alike 'nevver' of a policy: give one of auto, always, any, never"),
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
