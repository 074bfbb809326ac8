"""What a session of CKKS gives, whoever vanishes; and sessions in which one message is changed: every check
of the client and of the server has a test here that fails when the check is deleted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from secagg import (
    CKKS,
    Bounded,
    Counts,
    Identity,
    LocalProtocolError,
    Recorded,
    RemoteProtocolError,
    Roster,
    TooFewClients,
    Weight,
)
from secagg.ckks.derived import (
    key_statement,
    seal_data,
    seal_key,
    secret_statement,
    session_id,
    upload_digest,
    upload_statement,
)
from secagg.ckks.flooding import as_bytes, of_bytes
from secagg.ckks.messages import (
    AdvertiseCkksKey,
    Ciphertexts,
    CiphertextsRequest,
    Decrypted,
    DecryptRequest,
    ShareCkksKey,
    ShareCkksKeyRequest,
)
from secagg.ckks.packing import pack_residues
from secagg.crypto import SecretKey, SigningKey, Tag, digest, kdf, seal, transcript, unseal
from secagg.schemes import read_offer
from secagg.wire import Message, Task, decode, encode
from tests.play import TASK, Course, Play, changed, identities, rounding_seed, run
from tests.secagg.helpers import (
    ENDINGS,
    MIXED,
    SMALL_ORDER,
    assert_sum_of,
    client_refuses,
    flips,
    mixed_inputs,
    server_refuses,
)

Change = Callable[[Any], Message | bytes]

# Clients 0, 1 and 2 make keys and release the sum; three are enough.
FIVE = {
    f"{ending}, {name}": make(range(5), MIXED, **numbers)
    for ending, make in ENDINGS.items()
    for name, numbers in (("signed", {}), ("unsigned", {"roster": None}))
}
KEEP, KEEP_UNSIGNED, RELEASE, RELEASE_UNSIGNED = FIVE.values()
SIGNED = [name for name, scheme in FIVE.items() if scheme.roster]
INPUTS = mixed_inputs(range(5))
MAKERS, OTHERS = (0, 1, 2), (3, 4)


@pytest.fixture(params=FIVE, scope="session")
def five(request: pytest.FixtureRequest) -> CKKS:
    return FIVE[request.param]


@pytest.fixture(params=SIGNED, scope="session")
def signed(request: pytest.FixtureRequest) -> CKKS:
    return FIVE[request.param]


@pytest.fixture(params=["ckks-keep", "ckks-release"], scope="session")
def either(request: pytest.FixtureRequest) -> CKKS:
    """The endings, where it plays no part whether keys are signed."""
    return {"ckks-keep": KEEP, "ckks-release": RELEASE}[request.param]


def play(scheme: CKKS, **more: Any) -> Play:
    return Play(scheme, mixed_inputs(range(scheme.clients)), **more)


@cache
def _course(offer: bytes) -> Course:
    return Course(play(read_offer(offer)))


def at(scheme: CKKS, round: str, *, answered: bool = False) -> Play:
    return _course(scheme.offer()).at(round, answered=answered)


def without(entries: dict[int, Any], *ids: int) -> dict[int, Any]:
    return {v: entry for v, entry in entries.items() if v not in ids}


def sign(it: Play, u: int, statement: bytes) -> bytes:
    """What a client that lies signs all the same: its roster binds it to its key, not to the truth."""
    return it.identities[u].key.sign(statement) if it.scheme.roster else b""


def advertised(it: Play, u: int, c_pk: bytes) -> AdvertiseCkksKey:
    bound = it.scheme.digest(), it.scheme.roster, digest(Tag.CONTEXT, TASK), it.server._nonce
    return AdvertiseCkksKey(c_pk, sign(it, u, key_statement(*bound, u, c_pk)))


def refuses(scheme: CKKS, round: str, change: Change, words: str, *, u: int = 0) -> None:
    client_refuses(at(scheme, round), round, change, words, u=u)


def is_refused(scheme: CKKS, round: str, change: Change, words: str, *, u: int = 0) -> None:
    server_refuses(at(scheme, round, answered=True), round, change, words, u=u)


# What comes of a session


def test_the_first_client_of_all_makes_the_key_and_where_it_vanishes_the_next_one_does(five: CKKS) -> None:
    for round, maker in (("join", 1), ("advertise-keys", 1), ("share-keys", 1), ("input", 0), ("decrypt", 0)):
        it = play(five, drop={round: {0}}).to("input")
        assert {decode(CiphertextsRequest, m).maker for m in it.requests.values()} == {maker}
        late = {0} if round == "decrypt" else set()
        assert_sum_of(five, INPUTS, it.finish(), {1, 2, 3, 4} | late)
        assert it.server.caught == {}


@pytest.mark.parametrize("make", ENDINGS.values(), ids=ENDINGS)
def test_without_any_maker_there_is_no_sum(make: Any) -> None:
    """Though as many are left as it takes."""
    it = play(make(range(7), MIXED), drop={"share-keys": MAKERS}).to("share-keys").answer()
    with pytest.raises(TooFewClients) as caught:
        it.close()
    assert (caught.value.alive, caught.value.needed, caught.value.round) == (0, 1, "share-keys")
    assert (it.server.round, it.server.result, it.server.waiting_for) == ("done", None, frozenset())


def test_fewer_than_m_min_are_too_few_in_any_round_before_the_sum(either: CKKS) -> None:
    for round in either.rounds[:-1]:
        it = play(either, drop={round: {0, 2, 4}})
        with pytest.raises(TooFewClients) as caught:
            it.finish()
        assert (caught.value.alive, caught.value.needed, caught.value.round) == (2, 3, round)
        assert it.server.result is None
        with pytest.raises(LocalProtocolError, match="this session is over: make a new one"):
            it.server.advance()
        assert not [client.result for client in it.clients.values() if client.result]


def test_every_client_that_hears_the_sum_keeps_it_and_the_server_only_who_is_in_it() -> None:
    it = play(KEEP, drop={"input": {3}, "decrypt": {0, 1}})
    total = it.finish()
    assert {u for u, client in it.clients.items() if client.result is not None} == {2, 4}
    assert {u for u, client in it.clients.items() if client.done} == {2, 4}
    assert it.server.result.survivors == total.survivors == {0, 1, 2, 4}
    assert_sum_of(KEEP, INPUTS, total, {0, 1, 2, 4})
    assert it.server.result is not total


def test_no_client_has_a_result_of_what_is_released(either: CKKS) -> None:
    it = at(either, "decrypt", answered=True)
    assert it.server.result is None
    assert all(client.done for client in it.clients.values())
    assert {client.result is None for client in it.clients.values()} == {either is RELEASE}


def test_of_two_survivors_both_release_and_of_one_that_one() -> None:
    two = CKKS.for_cohort(3, MIXED, ending="release")
    assert_sum_of(two, INPUTS, play(two, drop={"input": {1}}).finish(), {0, 2})
    with pytest.raises(TooFewClients) as caught:
        play(two, drop={"input": {1}, "decrypt": {2}}).finish()
    assert (caught.value.alive, caught.value.needed) == (1, 2)
    one = CKKS.for_cohort(3, MIXED, ending="release", m_min=1)
    assert_sum_of(one, INPUTS, play(one, drop={"input": {0, 1}}).finish(), {2})


# Weights, names, clipping, sizes

WIDE = {
    "": Bounded(length=7, bound=2.0, bits=16, clip=3.0),
    "größe": Counts(length=2, maximum=2**40),
    "last": Bounded(length=9000, bound=0.25, bits=20),
    "n": Weight(maximum=10**6),
}


def wide_inputs(n: int) -> dict[int, dict[str, Any]]:
    rng = np.random.default_rng(5)
    return {
        u: {
            "": rng.uniform(-1, 1, 7),
            "größe": [2**40 - u, u],
            "last": rng.uniform(-0.25, 0.25, 9000),
            "n": int(rng.integers(1, 10**6)),
        }
        for u in range(n)
    }


@pytest.mark.parametrize("make", ENDINGS.values(), ids=ENDINGS)
def test_weighted_means_counts_and_names_over_several_ciphertexts(make: Any) -> None:
    scheme, inputs = make(range(4), WIDE), wide_inputs(4)
    assert scheme.plan.ciphertexts > 1
    seeds = {u: rounding_seed(u) for u in inputs}
    _, keys = identities(range(4))
    total = run(scheme, inputs, task=TASK, drop={"input": {3}}, rounding_seeds=seeds, identities=keys)
    assert_sum_of(scheme, inputs, total, {0, 1, 2})
    weights = [inputs[u]["n"] for u in range(3)]
    assert total.sum["n"].tolist() == [sum(weights)]
    for name in ("", "last"):
        mean = np.average([inputs[u][name] for u in range(3)], axis=0, weights=weights)
        assert np.abs(total.mean[name] - mean).max() <= total.error_bound[name]
        # As near as codes of so many bits are, even where what is summed is no code.
        step = WIDE[name].bound / WIDE[name].levels
        assert total.error_bound[name] <= 3 * step * 10**6 / sum(weights) + 1e-9


@pytest.mark.parametrize("make", ENDINGS.values(), ids=ENDINGS)
def test_a_vector_of_many_ciphertexts(make: Any) -> None:
    spec = Counts(length=20_000, maximum=2**20)
    scheme = make(range(3), spec)
    assert scheme.plan.ciphertexts > 2
    inputs = {u: np.arange(20_000) * (u + 1) for u in range(3)}
    _, keys = identities(range(3))
    assert run(scheme, inputs, identities=keys).sum[""].tolist() == (np.arange(20_000) * 6).tolist()


@pytest.mark.parametrize("make", ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_of_all_is_summed(make: Any, sign: int) -> None:
    specs = {"b": Bounded(length=9, bound=3.0, bits=32), "c": Counts(length=9, maximum=2**53 - 1)}
    scheme = make(range(3), specs)
    inputs = {u: {"b": [sign * 3.0] * 9, "c": [2**53 - 1] * 9} for u in range(3)}
    _, keys = identities(range(3))
    total = run(scheme, inputs, identities=keys)
    assert total.sum["c"].tolist() == [3 * (2**53 - 1)] * 9
    assert np.abs(total.mean["b"] - sign * 3.0).max() <= total.error_bound["b"] < 1e-8


def test_what_is_beyond_its_bound_is_clipped_and_counted(either: CKKS) -> None:
    specs = {"x": Bounded(length=4, bound=1.0, bits=16), "y": Bounded(length=2, bound=9.0, bits=16, clip=5.0)}
    scheme = CKKS.for_cohort(3, specs, ending=either.ending)
    it = Play(scheme, {u: {"x": [3.0, -2.0, 0.5, -0.25], "y": [6.0, -8.0]} for u in range(3)})
    assert it.clients[0].clipping == {}
    total = it.finish()
    assert np.abs(total.mean["x"] - [1.0, -1.0, 0.5, -0.25]).max() <= total.error_bound["x"]
    assert np.abs(total.mean["y"] - [3.0, -4.0]).max() <= total.error_bound["y"]
    clipping = it.clients[0].clipping
    assert (clipping["x"].coordinates, clipping["x"].norm_factor) == (2, 1.0)
    assert (clipping["y"].coordinates, clipping["y"].norm_factor) == (0, 0.5)


# Who takes part


def ours(u: int) -> Identity:
    return identities(range(5))[1][u]


def test_without_tenseal_a_client_promises_nothing(either: CKKS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tenseal", None)
    with pytest.raises(LocalProtocolError, match=r"CKKS needs TenSEAL: pip install 'secagg\[ckks\]'"):
        either.client(0, lambda task: INPUTS[0], identity=ours(0))
    assert either.server(range(5), roster=identities(range(5))[0]).round == "join"  # needs none


def test_a_session_key_or_a_sum_of_a_client_that_says_two_things_is_not_used() -> None:
    it = play(RELEASE, drop={"share-keys": {1}, "decrypt": {1}}).to("share-keys").answer()
    it.server.receive(0, it.answers[0])
    with pytest.raises(RemoteProtocolError):
        it.server.receive(0, it.answers.pop(0) + b"\0")
    it.close()
    assert {decode(CiphertextsRequest, m).maker for m in it.requests.values()} == {2}
    it = play(RELEASE, drop={"decrypt": {1}}).to("decrypt").answer()
    it.server.receive(0, it.answers[0])
    with pytest.raises(RemoteProtocolError):
        it.server.receive(0, it.answers.pop(0) + b"\0")
    with pytest.raises(TooFewClients) as caught:
        it.close()
    assert (caught.value.alive, caught.value.needed) == (1, 2)


# A client's key list


def keys(change: Callable[[dict[int, Any]], dict[int, Any]]) -> Change:
    return lambda request: replace(request, keys=dict(sorted(change(request.keys).items())))


def test_a_client_refuses_a_key_list_without_its_own_key(five: CKKS) -> None:
    words = "the server's key list does not hold this client's own keys"
    for u in (0, 4):
        refuses(five, "share-keys", keys(lambda k, u=u: without(k, u)), words, u=u)
        other = keys(lambda k, u=u: k | {u: (bytes(range(32)), k[u][1])})
        refuses(five, "share-keys", other, words, u=u)


def test_a_client_refuses_a_key_list_of_fewer_than_m_min_or_more_than_n(either: CKKS) -> None:
    words = "clients advertised keys; it takes 3 to 5"
    refuses(either, "share-keys", keys(lambda k: without(k, 2, 3, 4)), f"2 {words}")
    sixth = {9: (bytes(range(32)), b"")}
    refuses(either, "share-keys", keys(lambda k: k | sixth), f"6 {words}")


def test_a_client_goes_on_with_a_key_list_of_m_min(either: CKKS) -> None:
    it = at(either, "share-keys")
    request = changed(ShareCkksKeyRequest, it.requests[0], keys(lambda k: without(k, 3, 4)))
    assert decode(ShareCkksKey, it.clients[0].receive(request)).sealed.keys() == {1, 2}


def test_a_client_refuses_a_key_list_that_repeats_a_key(either: CKKS) -> None:
    for u, v, w in ((0, 1, 2), (0, 4, 0), (4, 4, 0), (4, 2, 1)):
        if v == u:
            v, w = w, v
        repeated = keys(lambda k, v=v, w=w: k | {v: (k[w][0], k[v][1])})
        refuses(either, "share-keys", repeated, "the server's key list holds one key twice", u=u)


@pytest.mark.parametrize("point", SMALL_ORDER[::5], ids=bytes.hex)
def test_a_client_refuses_a_key_of_small_order(five: CKKS, point: bytes) -> None:
    """Of a client that is on the server's side, and signs it: a maker of anybody's, another of a maker's."""
    for u, v in ((0, 4), (1, 0), (4, 2)):
        it = at(five, "share-keys")

        def collude(k: dict[int, Any], it: Play = it, v: int = v) -> dict[int, Any]:
            message = advertised(it, v, point)
            return k | {v: (message.c_pk, message.signature)}

        client_refuses(it, "share-keys", keys(collude), "small order", u=u)


def test_a_client_refuses_a_key_under_any_other_signature(signed: CKKS) -> None:
    """Its own among them; and that of a client whose key it does not use."""
    for u in (0, 4):
        for v in range(5):
            forged = keys(lambda k, v=v: k | {v: (k[v][0], next(flips(k[v][1])))})
            words = f"a key that is not signed by client {v} of this roster for this session"
            refuses(signed, "share-keys", forged, words, u=u)
    for signature in (b"", bytes(63), bytes(64)):
        forged = keys(lambda k, s=signature: k | {1: (k[1][0], s)})
        refuses(signed, "share-keys", forged, "a key that is not signed by client 1 of this roster")


def test_a_client_refuses_a_key_of_the_servers_choice(signed: CKKS) -> None:
    """The man in the middle: the key is the server's own, the signature the client's on the one before."""
    forged = keys(lambda k: k | {1: (bytes(range(32)), k[1][1])})
    refuses(signed, "share-keys", forged, "a key that is not signed by client 1 of this roster")


def test_where_nothing_is_signed_a_key_of_the_servers_choice_opens_the_session() -> None:
    """What a roster is for: nobody refuses, and the server has K, and the secret key with it."""
    for scheme in (KEEP_UNSIGNED, RELEASE_UNSIGNED):
        it, own = play(scheme, drop={"share-keys": {4}}).to("share-keys"), SecretKey.generate()
        shown = keys(lambda k, own=own: k | {4: (own.public, b"")})
        it.requests = {u: changed(ShareCkksKeyRequest, m, shown) for u, m in it.requests.items()}
        listed = decode(ShareCkksKeyRequest, it.requests[0]).keys
        made = decode(ShareCkksKey, it.answer().answers[0])
        sid = session_id(it.server._nonce, scheme.digest(), digest(Tag.CONTEXT, TASK), listed)
        key = seal_key(own.agree(listed[0][0]), sid, 0, 4)
        K = unseal(key, made.sealed[4], seal_data(sid, 0, 4, made.secret))
        assert K == it.clients[0]._state.own.K
        secret = unseal(kdf(Tag.CKKS_SECRET_KEY, K, sid, 0), made.secret, sid)
        assert secret == it.clients[0]._state.own.keys.secret().tobytes()


def test_a_client_refuses_two_clients_keys_in_each_others_place(signed: CKKS) -> None:
    """A signature is for one id."""
    words = "a key that is not signed by client 1"
    refuses(signed, "share-keys", keys(lambda k: k | {1: k[2], 2: k[1]}), words)


def outsider(u: int) -> Identity:
    """An identity that is in no roster but its own."""
    key = SigningKey(bytes([7] * 32))
    return Identity(u, Roster(bytes(32), {u: key.public}), key)


@pytest.mark.parametrize("v", [1, 9], ids=["another key", "another client"])
def test_a_client_refuses_keys_that_nobody_of_its_roster_signed(signed: CKKS, v: int) -> None:
    it = at(signed, "share-keys")
    it.identities = it.identities | {v: outsider(v)}
    message = advertised(it, v, bytes(range(32)))
    forged = keys(lambda k: without(k, 4) | {v: (message.c_pk, message.signature)})
    client_refuses(it, "share-keys", forged, f"a key that is not signed by client {v} of this roster")


def same_nonce(n: int) -> bytes:
    return bytes(n)


@pytest.mark.parametrize("what", ["nonce", "task", "parameters"])
def test_a_client_refuses_keys_signed_in_another_session(signed: CKKS, what: str) -> None:
    """By the same client of the same roster: replayed."""
    other = replace(signed, m_min=4) if what == "parameters" else signed
    before = play(other)
    task = b"another task" if what == "task" else TASK
    rng = {} if what == "nonce" else {"rng": same_nonce}
    before.server = other.server(range(5), task, roster=before.roster, **rng)
    replayed = decode(ShareCkksKeyRequest, before.to("share-keys").requests[0]).keys[1]
    it = play(signed, server_rng=same_nonce)
    words = "a key that is not signed by client 1 of this roster for this session"
    client_refuses(it, "share-keys", keys(lambda k: k | {1: replayed}), words)


def test_a_client_refuses_a_key_of_masking(signed: CKKS) -> None:
    """One key signs for every scheme; what it signs has another tag in each."""
    it = at(signed, "share-keys")
    bound = signed.digest(), signed.roster, digest(Tag.CONTEXT, TASK), it.server._nonce
    c_pk = bytes(range(32))
    other = it.identities[1].key.sign(transcript(Tag.SIGN_KEYS, *bound, 1, c_pk))
    client_refuses(it, "share-keys", keys(lambda k: k | {1: (c_pk, other)}), "a key that is not signed")


def test_a_client_refuses_a_signature_where_nothing_is_signed() -> None:
    for scheme in (KEEP_UNSIGNED, RELEASE_UNSIGNED):
        listed = keys(lambda k: k | {1: (k[1][0], bytes(64))})
        refuses(scheme, "share-keys", listed, "a key that is signed in a session where nothing is signed")
        refuses(
            scheme,
            "input",
            lambda r: replace(r, signature=bytes(64)),
            "a session key that is signed in a session where nothing is signed",
            u=4,
        )


# A client's session key


def test_a_client_refuses_a_session_key_that_was_not_made_for_it(five: CKKS) -> None:
    words = "a session key that no client was to make for this one"
    it = at(five, "input")

    def of_no_maker(request: CiphertextsRequest) -> Message:
        signature = sign(it, 3, secret_statement(it.server._sid, 3, request.secret))
        return replace(request, maker=3, signature=signature)

    client_refuses(it, "input", of_no_maker, words, u=4)
    refuses(five, "input", lambda r: replace(r, sealed=without(r.sealed, 4)), words, u=4)
    # To one that is no maker, as if it had made the key itself.
    it = at(five, "input")

    def of_itself(request: CiphertextsRequest) -> Message:
        signature = sign(it, 4, secret_statement(it.server._sid, 4, request.secret))
        return replace(request, maker=4, signature=signature)

    client_refuses(it, "input", of_itself, words, u=4)


def test_a_client_refuses_a_session_key_of_another_ring(five: CKKS) -> None:
    it = at(five, "input")

    def shorter(request: CiphertextsRequest) -> Message:
        secret = request.secret[:-8]
        signature = sign(it, 0, secret_statement(it.server._sid, 0, secret))
        return replace(request, secret=secret, signature=signature)

    client_refuses(it, "input", shorter, "a session key of another ring", u=4)


def opens_not(scheme: CKKS, change: Change, *, u: int = 4, it: Play | None = None) -> None:
    client_refuses(it or at(scheme, "input"), "input", change, "a session key that does not open", u=u)


def test_a_client_refuses_a_session_key_that_does_not_open(five: CKKS) -> None:
    """Another client's, another maker's, another session's, and a spoilt one."""
    opens_not(five, lambda r: replace(r, sealed=r.sealed | {4: r.sealed[3]}))
    opens_not(five, lambda r: replace(r, sealed=r.sealed | {4: next(flips(r.sealed[4]))}))
    opens_not(five, lambda r: replace(r, sealed=r.sealed | {1: r.sealed[2]}), u=1)
    it = at(five, "share-keys", answered=True)
    of_another = decode(ShareCkksKey, it.answers[1])
    opens_not(five, lambda r: replace(r, sealed=r.sealed | {4: of_another.sealed[4]}), it=it)
    before = decode(CiphertextsRequest, play(five).to("input").requests[4])
    opens_not(five, lambda r: replace(r, sealed=r.sealed | {4: before.sealed[4]}))


def lying_maker(it: Play, change: Callable[[bytes, bytes, bytes], tuple[bytes, bytes]]) -> None:
    """Client 0 seals something else, and signs it. change: K, the key, the session -> what is sealed for
    client 4 under their key, and the secret.
    """
    it.to("share-keys").answer()
    made, state, sid = decode(ShareCkksKey, it.answers[0]), it.clients[0]._state, it.server._sid
    c_sk = it.clients[0]._c_sk
    to_four, secret = change(state.own.K, state.own.keys.secret().tobytes(), sid)
    key = seal_key(c_sk.agree(it.server._keys[4][0]), sid, 0, 4)
    sealed = made.sealed | {4: seal(key, to_four, seal_data(sid, 0, 4, secret))}
    it.answers[0] = encode(ShareCkksKey(secret, sealed, sign(it, 0, secret_statement(sid, 0, secret))))


def watched(scheme: CKKS) -> Play:
    """With what client 0 would forget: its c_sk."""
    it = at(scheme, "advertise-keys", answered=True)
    it.clients[0]._c_sk = it.clients[0]._state.c_sk
    return it


def test_a_client_opens_what_a_maker_that_does_not_lie_seals_anew(either: CKKS) -> None:
    """The control of the tests below."""
    it = watched(either)
    lying_maker(it, lambda K, key, sid: (K, seal(kdf(Tag.CKKS_SECRET_KEY, K, sid, 0), key, sid)))
    it.to("input")
    assert it.clients[4].receive(it.requests[4])


SEALED_ANEW: dict[str, Callable[[bytes, bytes, bytes], tuple[bytes, bytes]]] = {
    "another K": lambda K, key, sid: (bytes(32), seal(kdf(Tag.CKKS_SECRET_KEY, K, sid, 0), key, sid)),
    "another tag": lambda K, key, sid: (K, seal(kdf(Tag.CKKS_SEAL_KEY, K, sid, 0), key, sid)),
    "another maker": lambda K, key, sid: (K, seal(kdf(Tag.CKKS_SECRET_KEY, K, sid, 1), key, sid)),
    "another session": lambda K, key, sid: (K, seal(kdf(Tag.CKKS_SECRET_KEY, K, bytes(32), 0), key, sid)),
    "data of another session": lambda K, key, sid: (
        K,
        seal(kdf(Tag.CKKS_SECRET_KEY, K, sid, 0), key, bytes(32)),
    ),
}


@pytest.mark.parametrize("change", SEALED_ANEW.values(), ids=SEALED_ANEW)
def test_a_client_refuses_what_a_maker_seals_otherwise(either: CKKS, change: Any) -> None:
    it = watched(either)
    lying_maker(it, change)
    opens_not(either, lambda r: r, it=it)


def test_a_client_refuses_a_secret_key_that_cannot_be_one(either: CKKS) -> None:
    primes = [*either.plan.ring.primes, either.plan.ring.special_prime]
    for i in (0, len(primes) - 1):

        def spoilt(K: bytes, key: bytes, sid: bytes, i: int = i, q: int = primes[i]) -> tuple[bytes, bytes]:
            residues = np.frombuffer(key, "<u8").reshape(len(primes), -1).copy()
            residues[i, -1] = q
            return K, seal(kdf(Tag.CKKS_SECRET_KEY, K, sid, 0), residues.tobytes(), sid)

        it = watched(either)
        lying_maker(it, spoilt)
        words = "a CKKS key with a residue that is not below its prime"
        client_refuses(it, "input", lambda r: r, words, u=4)


def test_a_client_refuses_a_session_key_under_any_other_signature(signed: CKKS) -> None:
    """A maker checks what it is said to have made as all others do."""
    words = "a session key that is not signed by client {} of this roster for this session"
    for u in (0, 4):
        for signature in (b"", bytes(64)):
            change = lambda r, s=signature: replace(r, signature=s)  # noqa: E731
            refuses(signed, "input", change, words.format(0), u=u)
        refuses(signed, "input", lambda r: replace(r, secret=next(flips(r.secret))), words.format(0), u=u)
        refuses(signed, "input", lambda r: replace(r, maker=1), words.format(1), u=u)
    it = at(signed, "share-keys", answered=True)
    other = decode(ShareCkksKey, it.answers[1])
    client_refuses(it, "input", lambda r: replace(r, signature=other.signature), words.format(0), u=4)
    before = decode(CiphertextsRequest, play(signed).to("input").requests[4])
    refuses(signed, "input", lambda r: before, words.format(0), u=4)


def test_where_nothing_is_signed_a_secret_that_was_changed_does_not_open() -> None:
    for scheme in (KEEP_UNSIGNED, RELEASE_UNSIGNED):
        opens_not(scheme, lambda r: replace(r, secret=next(flips(r.secret))))
        opens_not(scheme, lambda r: replace(r, maker=1))


@pytest.mark.parametrize("field", ["nonce", "task"])
def test_clients_shown_two_tasks_share_no_session_key(five: CKKS, field: str) -> None:
    """Two of five are sent another task, or another nonce: no vector of theirs leaves."""
    it = at(five, "advertise-keys")
    for u in (3, 4):
        other = lambda m: replace(m, **{field: bytes(range(32))})  # noqa: E731
        it.requests[u] = changed(Task, it.requests[u], other)
    it.answer()
    if five.roster:
        for u in (3, 4):
            with pytest.raises(RemoteProtocolError, match="advertised a key that is without its signature"):
                it.server.receive(u, it.answers.pop(u))
        assert_sum_of(five, INPUTS, it.finish(), {0, 1, 2})
        return
    it.to("input")
    for u in (3, 4):
        with pytest.raises(RemoteProtocolError, match="a session key that does not open"):
            it.clients[u].receive(it.requests.pop(u))
    assert_sum_of(five, INPUTS, it.finish(), {0, 1, 2})


# A client's last request


def decrypting(change: Callable[[Any], Any]) -> Change:
    return lambda request: replace(request, survivors=sorted(change(set(request.survivors))))


def test_a_client_refuses_to_decrypt_a_sum_that_it_is_not_in(either: CKKS) -> None:
    words = "the server counts this client as dropped and asks it all the same"
    for u in (0, 4):
        refuses(either, "decrypt", decrypting(lambda U, u=u: U - {u}), words, u=u)


def test_a_client_refuses_a_survivor_that_advertised_no_key(either: CKKS) -> None:
    words = "the server names a survivor that had advertised no keys"
    for u in (0, 4):
        refuses(either, "decrypt", decrypting(lambda U: U | {9}), words, u=u)
        it = play(either, drop={"advertise-keys": {2}})
        client_refuses(it, "decrypt", decrypting(lambda U: U | {2}), words, u=u)


def test_a_client_refuses_to_decrypt_a_sum_of_fewer_than_m_min(five: CKKS) -> None:
    for u in (0, 4):
        words = "2 clients survive, 3 are needed"
        refuses(five, "decrypt", decrypting(lambda U, u=u: {1, u}), words, u=u)
        it = at(five, "decrypt")
        request = changed(DecryptRequest, it.requests[u], decrypting(lambda U, u=u: {1, 2, u}))
        if five.ending == "keep" or u == 0:
            assert it.clients[u].receive(request)


def test_a_client_refuses_a_sum_of_another_size_or_out_of_range(either: CKKS) -> None:
    size = either.plan.upload_bytes
    for residues, words in (
        (b"", f"ciphertexts of 0 bytes, not {size}"),
        (bytes(size - 1), f"ciphertexts of {size - 1} bytes, not {size}"),
        (bytes(2 * size), f"ciphertexts of {2 * size} bytes, not {size}"),
        (largest(either, 0), "a ciphertext with a residue that is not below its prime"),
    ):
        change = lambda r, x=residues: replace(r, residues=memoryview(x))  # noqa: E731
        refuses(either, "decrypt", change, words)


def test_a_client_that_is_not_to_release_the_sum_refuses_it() -> None:
    for scheme in (RELEASE, RELEASE_UNSIGNED):
        words = "a sum for a client that is not to decrypt it"
        for residues in (bytes(scheme.plan.upload_bytes), b"\0"):
            change = lambda r, x=residues: replace(r, residues=memoryview(x))  # noqa: E731
            for u in OTHERS:
                refuses(scheme, "decrypt", change, words, u=u)
        it = at(scheme, "decrypt")  # nor is it another's turn where the first are said to be gone
        whole = decode(DecryptRequest, it.requests[0])
        it.requests[3] = encode(replace(whole, survivors=[0, 1, 2, 3]))
        with pytest.raises(RemoteProtocolError, match=words):
            it.clients[3].receive(it.requests[3])


# What a server is told


def test_a_server_refuses_a_key_of_small_order_or_one_in_use(five: CKKS) -> None:
    for point in SMALL_ORDER[::5]:
        it = at(five, "advertise-keys")
        server_refuses(it, "advertise-keys", lambda m, it=it, p=point: advertised(it, 0, p), "small order")
    it = at(five, "advertise-keys", answered=True)
    taken = decode(AdvertiseCkksKey, it.answers[3]).c_pk
    it.server.receive(3, it.answers.pop(3))
    words = "advertised a key that is already in use"
    server_refuses(it, "advertise-keys", lambda m: advertised(it, 0, taken), words)


def test_a_server_refuses_a_key_without_its_signature(signed: CKKS) -> None:
    words = "advertised a key that is without its signature"
    for change in (
        lambda m: replace(m, signature=b""),
        lambda m: replace(m, signature=next(flips(m.signature))),
        lambda m: replace(m, c_pk=bytes(range(32))),
    ):
        is_refused(signed, "advertise-keys", change, words)


UNSIGNED = [(KEEP_UNSIGNED, u) for u in (0, 4)] + [(RELEASE_UNSIGNED, u) for u in (0, 4)]


@pytest.mark.parametrize(("scheme", "u"), UNSIGNED)
def test_a_server_refuses_any_signature_where_nothing_is_signed(scheme: CKKS, u: int) -> None:
    change = lambda m: replace(m, signature=bytes(64))  # noqa: E731
    words = "signed in a session where nothing is signed"
    is_refused(scheme, "advertise-keys", change, f"advertised a key that is {words}", u=u)
    is_refused(scheme, "input", change, f"ciphertexts that are {words}", u=u)
    made = f"made a key that is {words}" if u in MAKERS else "made a key, and was not to make one"
    is_refused(scheme, "share-keys", change, made, u=u)


def test_a_server_refuses_a_key_of_who_was_not_to_make_one(either: CKKS) -> None:
    words = "made a key, and was not to make one"
    size = either.plan.ring.key_bytes + 28
    for change in (
        lambda m: replace(m, secret=bytes(size)),
        lambda m: replace(m, secret=b"\0"),
        lambda m: replace(m, sealed={0: bytes(60)}),
        lambda m: replace(m, signature=bytes(64)),
    ):
        for u in OTHERS:
            is_refused(either, "share-keys", change, words, u=u)


def test_a_server_refuses_no_key_of_who_was_to_make_one_or_one_of_another_ring(either: CKKS) -> None:
    words = "made no key, or one of another ring"
    for change in (
        lambda m: ShareCkksKey(b"", {}, b""),
        lambda m: replace(m, secret=m.secret[:-8]),
        lambda m: replace(m, secret=m.secret + bytes(8)),
    ):
        for u in (0, 2):
            is_refused(either, "share-keys", change, words, u=u)


def test_a_server_refuses_a_key_for_others_than_the_clients_of_the_session(either: CKKS) -> None:
    words = "made a key for others than the clients of this session"
    for change in (
        lambda m: replace(m, sealed={}),
        lambda m: replace(m, sealed=without(m.sealed, 3)),
        lambda m: replace(m, sealed=m.sealed | {9: bytes(60)}),
        lambda m: replace(m, sealed={0: bytes(60)} | m.sealed),
    ):
        is_refused(either, "share-keys", change, words)


def test_a_server_refuses_a_session_key_without_its_signature(signed: CKKS) -> None:
    words = "made a key that is without its signature"
    for change in (
        lambda m: replace(m, signature=b""),
        lambda m: replace(m, signature=next(flips(m.signature))),
        lambda m: replace(m, secret=next(flips(m.secret))),
    ):
        is_refused(signed, "share-keys", change, words)
    it = at(signed, "share-keys", answered=True)
    other = decode(ShareCkksKey, it.answers[1])
    server_refuses(it, "share-keys", lambda m: replace(m, signature=other.signature), words)


def uploading(it: Play, u: int, residues: bytes) -> Message:
    """Other ciphertexts, with their digest, signed."""
    made = upload_digest(it.server._sid, u, residues)
    return Ciphertexts(memoryview(residues), made, sign(it, u, upload_statement(it.server._sid, u, made)))


def largest(scheme: CKKS, less: int) -> bytes:
    """Ciphertexts of zeros but for their last residue: its prime, less so much."""
    ring = scheme.plan.ring
    residues = np.zeros((scheme.plan.ciphertexts, 2, len(ring.primes), ring.degree), np.uint64)
    residues[-1, -1, -1, -1] = ring.primes[-1] - less
    return pack_residues(ring, residues)


def test_a_server_refuses_ciphertexts_of_another_size_or_out_of_range(either: CKKS) -> None:
    """All is checked before any is added: the others' sum is exact."""
    size = either.plan.upload_bytes
    for residues, words in (
        (b"", f"ciphertexts of 0 bytes, not {size}"),
        (bytes(size - 1), f"ciphertexts of {size - 1} bytes, not {size}"),
        (bytes(size + 1), f"ciphertexts of {size + 1} bytes, not {size}"),
        (largest(either, 0), "a ciphertext with a residue that is not below its prime"),
        (b"\xff" * size, "a ciphertext with a residue that is not below its prime"),
    ):
        if len(residues) != size:  # and this is seen first: the digest of what is not so long is not computed
            no_digest = Ciphertexts(memoryview(residues), bytes(32), b"")
            is_refused(either, "input", lambda m, other=no_digest: other, words)
        it = at(either, "input", answered=True)
        server_refuses(it, "input", lambda m, it=it, x=residues: uploading(it, 0, x), words)


def test_a_residue_below_its_prime_is_taken(either: CKKS) -> None:
    it = at(either, "input", answered=True)
    it.server.receive(0, encode(uploading(it, 0, largest(either, 1))))
    it = at(either, "decrypt")
    change = lambda r: replace(r, residues=memoryview(largest(either, 1)))  # noqa: E731
    assert it.clients[0].receive(changed(DecryptRequest, it.requests[0], change))


def test_a_server_refuses_ciphertexts_with_another_digest(either: CKKS) -> None:
    """Of another client or session too, or of what they are not."""
    words = "ciphertexts with another digest than their sender's"
    is_refused(either, "input", lambda m: replace(m, digest=bytes(32)), words)
    it = at(either, "input", answered=True)
    of_another = it.answers[1]
    server_refuses(it, "input", lambda m: of_another, words)

    def one_bit(message: Any) -> Message:
        return replace(message, residues=memoryview(next(flips(bytes(message.residues)))))

    is_refused(either, "input", one_bit, words)


def test_a_server_refuses_ciphertexts_without_their_signature(signed: CKKS) -> None:
    words = "ciphertexts that are without its signature"
    for change in (
        lambda m: replace(m, signature=b""),
        lambda m: replace(m, signature=next(flips(m.signature))),
    ):
        is_refused(signed, "input", change, words)


def test_a_server_refuses_a_release_of_who_was_not_to_release(either: CKKS) -> None:
    words = "released a sum, and was not to release it"
    size = 8 * either.plan.slots
    for u in OTHERS if either.ending == "release" else (0, 4):
        for released in (bytes(size), b"\0"):
            change = lambda m, x=released: Decrypted(memoryview(x))  # noqa: E731
            is_refused(either, "decrypt", change, words, u=u)


def test_a_server_refuses_a_release_of_another_size() -> None:
    for scheme in (RELEASE, RELEASE_UNSIGNED):
        size = 8 * scheme.plan.slots
        for released in (b"", bytes(size - 8), bytes(size + 8), bytes(size - 1)):
            change = lambda m, x=released: Decrypted(memoryview(x))  # noqa: E731
            words = f"released {len(released)} bytes, not {size}"
            for u in MAKERS:
                is_refused(scheme, "decrypt", change, words, u=u)


# Releasers that lie


def lies(scheme: CKKS, liars: Collection[int], lie: Callable[[np.ndarray, int], np.ndarray]) -> Play:
    it = at(scheme, "decrypt", answered=True)
    for u in liars:
        released = of_bytes(decode(Decrypted, it.answers[u]).released, scheme.plan.slots)
        it.answers[u] = encode(Decrypted(memoryview(as_bytes(lie(released.copy(), u)))))
    return it


def one_off(at: int, steps: int) -> Callable[[np.ndarray, int], np.ndarray]:
    def lie(released: np.ndarray, u: int) -> np.ndarray:
        released[at] += steps
        return released

    return lie


LIES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "the first number": one_off(0, 2),
    "the last number": one_off(-1, -2),
    "all numbers": lambda released, u: released + 10**6,
    "nothing": lambda released, u: released * 0,
    "the largest": lambda released, u: np.full_like(released, 2**63 - 1),
    "the smallest": lambda released, u: np.full_like(released, -(2**63)),
    "around": lambda released, u: released + np.int64(2**62) + np.int64(2**62),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
@pytest.mark.parametrize("liar", MAKERS)
def test_a_releaser_that_lies_is_named_and_the_sum_is_that_of_the_others(liar: int, lie: Any) -> None:
    it = lies(RELEASE, {liar}, lie)
    assert_sum_of(RELEASE, INPUTS, it.finish(), range(5))
    assert it.server.caught == {liar: "released another sum than the others"}


def test_one_step_of_the_grid_is_no_lie() -> None:
    """A float's last bit may round to either side."""
    it = lies(RELEASE_UNSIGNED, {1}, one_off(0, 1))
    assert_sum_of(RELEASE_UNSIGNED, INPUTS, it.finish(), range(5))
    assert it.server.caught == {}


def test_two_that_lie_apart_leave_no_majority() -> None:
    for liars in combinations(MAKERS, 2):
        it = lies(RELEASE, liars, lambda released, u: released + 10 * (u + 1))
        with pytest.raises(RemoteProtocolError, match="no majority of the clients that released the sum rel"):
            it.finish()
        assert (it.server.result, it.server.round, it.server.caught) == (None, "done", {})


def test_of_two_releasers_one_that_lies_leaves_no_majority() -> None:
    it = lies(RELEASE, {0}, one_off(0, 2))
    del it.answers[1]
    with pytest.raises(RemoteProtocolError, match="no majority") as caught:
        it.finish()
    assert caught.value.culprits == frozenset()


def test_two_that_lie_alike_are_believed() -> None:
    """What a majority is not: against two of three nothing is promised."""
    it = lies(RELEASE, {0, 2}, lambda released, u: released + 10**4)
    it.to("done")
    assert it.server.caught == {1: "released another sum than the others"}


def test_what_a_server_has_caught_shows_through_what_is_around_it() -> None:
    it = lies(RELEASE, {1}, LIES["all numbers"])
    it.server = Recorded(it.server)
    it.finish()
    assert it.server.caught == {1: "released another sum than the others"}


# A client that makes the key and gives its own to some only


def test_a_maker_may_spoil_the_session_of_others_and_not_unseen(either: CKKS) -> None:
    """It seals nonsense for client 4, which is out, and the others are summed."""
    it = watched(either)
    lying_maker(it, SEALED_ANEW["another K"])
    it.to("input")
    with pytest.raises(RemoteProtocolError, match="does not open"):
        it.clients[4].receive(it.requests.pop(4))
