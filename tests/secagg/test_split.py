"""Split: sums that are exact whoever drops out, sizes on the wire, and shares that say nothing to all relays
but one.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Collection, Mapping
from itertools import chain, combinations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import (
    Bounded,
    Counts,
    Identity,
    Private,
    Recorded,
    Split,
    TooFewClients,
    run,
    throwaway_identities,
)
from secagg.alike import OWN_INPUT, Alike, in_memory
from secagg.crypto import SecretKey, SigningKey, unseal
from secagg.errors import RelayLost
from secagg.inputs import encode_inputs
from secagg.split.derived import dummy_key, seal_data, seal_key, session_id
from secagg.split.messages import (
    SeedShare,
    Shares,
    SplitTask,
    VectorShare,
    holder_of,
    traffic_of_client,
    traffic_of_relay,
)
from secagg.wire import MAX_ID, context_of, decode, encode, relay_party
from tests.play import TASK, Play, assert_same_codes, rounding_seed
from tests.secagg.helpers import MIXED, SPLIT, codes_of, credentials, mixed_inputs, split

FIVE = split(range(5), Counts(length=1, maximum=1))
every_make = pytest.mark.parametrize("make", SPLIT.values(), ids=SPLIT)


# Sums


def played(scheme: Split, ids: Collection[int], keys: Mapping[int, Identity], drop: Any = None) -> Any:
    return run(
        scheme,
        mixed_inputs(ids),
        task=TASK,
        drop=drop,
        rounding_seeds={u: rounding_seed(u) for u in ids},
        identities=keys,
    )


def expected(
    scheme: Split, ids: Collection[int], drop: Mapping[str, Collection[int]]
) -> tuple[Any, set[int]]:
    """(the error and its round, or None; who is in the sum)."""
    clients, relays = set(ids), {relay_party(j) for j in range(scheme.relays)}
    for round in scheme.rounds:
        relays -= set(drop.get(round, ()))
        if round in ("join", "relay-keys", "shares"):
            clients -= set(drop.get(round, ()))
        if round != "shares" and len(relays) < scheme.relays:
            return (RelayLost, round), clients
        if round in ("join", "shares") and len(clients) < scheme.m_min:
            return (TooFewClients, round), clients
    return None, clients


@settings(max_examples=60)
@given(st.data())
def test_the_sum_is_to_the_bit_the_one_without_dummies_whoever_drops_out(
    data: st.DataObject,
) -> None:
    """A lost client costs its own vector, a lost relay the sum; weights, counts and reals are all summed."""
    ids = data.draw(st.lists(st.integers(0, MAX_ID), min_size=3, max_size=6, unique=True), label="ids")
    M = data.draw(st.integers(2, 4), label="relays")
    signed = data.draw(st.booleans(), label="signed")
    roster, keys = throwaway_identities(ids, relays=M) if signed else (None, {})
    numbers = data.draw(st.sampled_from([{}, {"corrupt": 0, "dropout": 0.9}, {"prg": "chacha20"}]))
    scheme = Split.for_cohort(len(ids), MIXED, relays=M, roster=roster, **numbers)
    some = st.sampled_from([*scheme.rounds, *[None] * 5])
    drop: dict[str, set[int]] = {}
    for party in (*ids, *(relay_party(j) for j in range(M))):
        if (round := data.draw(some, label=f"{party} is lost in")) is not None:
            drop.setdefault(round, set()).add(party)
    error, survivors = expected(scheme, ids, drop)
    if error is not None:
        with pytest.raises(TooFewClients, match="no sum, nothing revealed") as caught:
            played(scheme, ids, keys, drop)
        assert (type(caught.value), caught.value.round) == error
        return
    total = played(scheme, ids, keys, drop)
    assert total.survivors == survivors
    assert_same_codes(total.codes, codes_of(scheme, mixed_inputs(ids), survivors))


@every_make
@pytest.mark.parametrize("round", FIVE.rounds)
def test_without_a_relay_there_is_no_sum_and_the_server_has_no_more_than_all_columns_but_one(
    make: Any, round: str
) -> None:
    scheme, ids = make(range(5), MIXED), range(5)
    views: list[Recorded] = []

    def record(server: Any) -> Any:
        views.append(Recorded(server))
        return views[0]

    words = "relay 1 is gone in round {}, and a sum takes all 2: no sum, nothing revealed"
    with pytest.raises(RelayLost, match=words.format("deliver" if round == "shares" else round)) as caught:
        run(
            scheme,
            mixed_inputs(ids),
            drop={round: {relay_party(1)}},
            instrument=record,
            **credentials(scheme, ids),
        )
    assert (caught.value.relays, caught.value.alive, caught.value.needed) == ({1}, 1, 2)
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own, as it crosses processes
    assert (str(again), again.relays) == (str(caught.value), {1})
    columns = [u for at, u, _ in views[0].view.received if at == "columns"]
    assert columns == [relay_party(0)] * (round == "columns")
    assert views[0].result is None


def test_of_several_lost_relays_all_are_named() -> None:
    scheme = Split.for_cohort(3, Counts(length=1, maximum=1), relays=3)
    drop = {"join": {relay_party(0), relay_party(2)}}
    with pytest.raises(RelayLost, match="relays 0, 2 are gone in round join, and a sum takes all 3"):
        run(scheme, {u: [1] for u in range(3)}, drop=drop)


def test_a_private_sum_is_that_of_the_noised_codes() -> None:
    """Each client's noise is in its codes before they are cut: drawn again, it gives the same codes."""
    specs = {"a": Private(length=5, clip=1.0, multiplier=1.0), "b": Private(length=3, clip=2.0)}
    scheme, ids = split(range(5), specs), range(5)
    inputs = {u: {"a": np.sin(u + np.arange(5)), "b": [u / 5, 0.0, -1.0]} for u in ids}
    drawn: dict[int, list[bytes]] = {u: [] for u in ids}

    def recording(u: int) -> Any:
        def rng(n: int) -> bytes:
            raw = np.random.default_rng([u, len(drawn.get(u, ()))]).bytes(n)
            drawn.get(u, []).append(raw)
            return raw

        return rng

    play = Play(scheme, inputs, rng=recording, server_rng=lambda n: bytes(range(n)))
    total = play.finish()
    sums = {name: np.zeros(spec.length, np.int64) for name, spec in specs.items()}
    for u in ids:
        again = iter(drawn[u])
        x_u, _ = encode_inputs(
            scheme,
            inputs[u],
            context_of(TASK),
            rounding_seed(u),
            readings=scheme.readings(context_of(TASK), bytes(range(32))),
            rng=lambda n, again=again: next(again),
        )
        for name, codes in x_u.items():
            sums[name] += codes
    for name, codes in sums.items():
        half = 2 ** (specs[name].bits - 1)
        assert total.codes[name].tolist() == ((codes + half) % (2 * half) - half).tolist()
    assert total.noise.keys() == specs.keys()
    honest = scheme.m_min - scheme.corrupt
    assert scheme.calibration("a").honest == honest == 3


# The wire


def alike(u: int) -> Alike:
    return Alike(lambda task: OWN_INPUT, in_memory(), SigningKey(u.to_bytes(32, "big")))


@pytest.mark.parametrize("relays", [2, 3, 15, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("task", [0, 255, 65536])
def test_the_traffic_is_the_formula(relays: int, signed: bool, task: int) -> None:
    """To the byte, around the sizes of headers and ids, with tags and without."""
    ids = [0, 5, 127, 128, 255, 256, 65535, 65536, *range(1000, 1007), 999, MAX_ID]
    specs = {"": Counts(length=300, maximum=1), "b": Bounded(length=9, bound=1.0)}
    inputs = {u: {"": [1] * 300, "b": [0.5] * 9} for u in ids}
    roster, keys = throwaway_identities(ids, relays=relays) if signed else (None, {})
    scheme = Split.for_cohort(len(ids), specs, relays=relays, roster=roster)
    lost, tagged = {127, MAX_ID}, {5, 256}
    views: list[Any] = []

    def record(server: Any) -> Any:
        views.append(Recorded(server))
        return views[0]

    rules = {u: alike(u) for u in tagged}
    run(
        scheme,
        inputs,
        task=bytes(task),
        drop={"shares": lost},
        identities=keys,
        alike=rules,
        instrument=record,
    )
    up = {(u, round): len(message) for round, u, message in views[0].view.received}
    down = {(u, round): len(message) for round, u, message in views[0].view.sent}
    for u in ids:
        due = traffic_of_client(scheme, relays, task, u, signed=signed, tags=int(u in tagged))
        for round, (sent, received) in due.items():
            if (u, round) in up:
                assert (up[u, round], down.get((u, round), 0)) == (sent, received)
    left = sorted(set(ids) - lost)
    for j in range(relays):
        tags = dict.fromkeys(tagged, 1)
        due = traffic_of_relay(scheme, relays, j, left, left, signed=signed, tags=tags)
        r = relay_party(j)
        assert {round: (up[r, round], down.get((r, round), 0)) for round in due} == due
    assert max(up.values()) <= scheme.largest_upload
    assert max(size for (_, round), size in down.items() if round != "shares") <= scheme.largest_request


def test_an_upload_is_no_more_than_a_hundredth_longer_than_one_packed_vector() -> None:
    scheme = split(range(10), Bounded(length=100_000, bound=1.0, bits=16))
    sent, _ = traffic_of_client(scheme, 2, 0, 0, signed=True, tags=4)["shares"]
    assert scheme.upload_bytes < sent < 1.01 * scheme.upload_bytes


def test_relays_take_turns_with_the_vectors() -> None:
    holders = Counter(holder_of(u, 3) for u in range(300))
    assert holders == {0: 100, 1: 100, 2: 100}


# What relays see


Cut = list[SeedShare | VectorShare]


def all_proper(relays: int) -> list[tuple[int, ...]]:
    return list(chain.from_iterable(combinations(range(relays), k) for k in range(1, relays)))


@pytest.mark.parametrize("relays", [2, 3])
@pytest.mark.parametrize("u", [0, 1, 2])
def test_the_shares_of_all_relays_but_one_are_uniform_whatever_the_vector(
    relays: int, u: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every dummy there is in Z_4 in the place of the PRG's: each subset but all of the relays sees every
    combination as often, and all of them together see the vector (the control).
    """
    scheme = Split.for_cohort(3, Counts(length=1, maximum=1), relays=relays)
    assert scheme.ring_bits() == {"": 2}
    holder = holder_of(u, relays)
    others = [j for j in range(relays) if j != holder]
    seen: dict[tuple[tuple[int, ...], int], Counter[tuple[int, ...]]] = {}
    for x in range(2):
        for dummies in product(range(4), repeat=relays - 1):
            of_seed = dict(zip(others, dummies, strict=True))

            def subtract(y: Any, plus: Any, minus: Any, prg: str, of_seed: Any = of_seed) -> None:
                assert list(plus) == []
                y -= sum(of_seed[key[1]] for key in minus) % 4

            monkeypatch.setattr("secagg.split.client.add_masks", subtract)
            monkeypatch.setattr("secagg.split.client.dummy_key", lambda seed, sid, u, j, name: (seed, j))
            parts = cut_of(scheme, u, [x])
            values = {
                j: of_seed[j] if isinstance(part, SeedShare) else part.packed[0][0]
                for j, part in enumerate(parts)
            }
            for some in (*all_proper(relays), tuple(range(relays))):
                seen.setdefault((some, x), Counter())[tuple(values[j] for j in some)] += 1
    everybody = tuple(range(relays))
    for some in all_proper(relays):
        assert seen[some, 0] == seen[some, 1]
        assert set(seen[some, 0].values()) == {4 ** (relays - 1 - len(some))}
        assert len(seen[some, 0]) == 4 ** len(some)
    for x in range(2):
        assert {sum(values) % 4 for values in seen[everybody, x]} == {x}


def cut_of(scheme: Split, u: int, x: list[int]) -> Cut:
    """What relays open of a client's one message."""
    keys = {j: SecretKey(bytes([j + 1] * 32)) for j in range(scheme.relays)}
    return opened(scheme, u, x, keys)[1]


def opened(scheme: Split, u: int, x: list[int], keys: Mapping[int, SecretKey]) -> tuple[bytes, Cut]:
    shown = {j: (sk.public, b"") for j, sk in keys.items()}
    client = scheme.client(u, lambda task: x)
    client.start()
    shares = decode(Shares, client.receive(encode(SplitTask(bytes(32), TASK, shown))))
    sid = session_id(bytes(32), scheme.digest(), context_of(TASK), shown)
    parts: Cut = []
    for j, sk in keys.items():
        key = seal_key(sk.agree(shares.c_pk), sid, u, j, shares.c_pk)
        plaintext = unseal(key, bytes(shares.sealed[j]), seal_data(sid, u, j))
        assert plaintext is not None
        parts.append(decode(VectorShare if j == holder_of(u, scheme.relays) else SeedShare, plaintext))
    return sid, parts


def test_no_dummy_is_used_twice() -> None:
    """Another seed for every relay, client and session; of one seed another stream for every vector."""
    scheme = Split.for_cohort(3, Counts(length=1, maximum=1), relays=3)
    seeds = [
        part.seed
        for keys in ([1, 2, 3], [4, 5, 6])
        for u in range(3)
        for part in opened(scheme, u, [1], {j: SecretKey(bytes([k] * 32)) for j, k in enumerate(keys)})[1]
        if isinstance(part, SeedShare)
    ]
    assert len(set(seeds)) == len(seeds) == 12
    keys = {
        dummy_key(seed, sid, u, j, name)
        for seed, sid, u, j, name in product((b"a", b"b"), (b"s", b"t"), (0, 1), (0, 1), ("", "n"))
    }
    assert len(keys) == 32


def test_nothing_secret_is_shown_or_pickled() -> None:
    play = Play(split(range(5), MIXED), mixed_inputs(range(5)))
    relay = play.clients[relay_party(0)]
    for round in play.scheme.rounds[1:]:
        play.to(round)
        state = relay._state
        if round == "columns":
            assert "shares" not in repr(state)
            assert "hidden" in repr(state.shares[0].share)
            assert "share=" not in repr(state.shares[0])
        if round in ("shares", "deliver"):
            assert "sk" not in repr(state)
        with pytest.raises(TypeError, match="never pickled"):
            pickle.dumps(relay)
        if state is not None and round != "relay-keys":
            with pytest.raises(TypeError, match="never pickled"):
                pickle.dumps(state)
