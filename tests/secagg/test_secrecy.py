"""What leaves a client is masked as the paper says, fresh every time, and nothing secret is to be seen."""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secagg import (
    Bounded,
    Counts,
    Masking,
    Recorded,
    RemoteProtocolError,
    ServerView,
    TooFewClients,
    Weight,
    run,
)
from secagg.crypto import PROTOCOL_VERSION
from secagg.encoding import add_packed, pack, word_type
from secagg.masking.messages import (
    ConsistencyCheck,
    MaskedInput,
    MaskedInputRequest,
    ShareKeys,
    ShareKeysRequest,
)
from secagg.session import ServerSession
from secagg.shamir import recon
from secagg.wire import Task, decode, encode
from tests.secagg.helpers import (
    ANSWER,
    FIVE,
    MASKING,
    MIXED,
    ROUNDS,
    TASK,
    Play,
    active,
    assert_same_codes,
    codes_of,
    credentials,
    hkdf_sha256,
    identities,
    mixed_inputs,
    rounding_seed,
    seeded,
    semi_honest,
)

every_make = pytest.mark.parametrize("make", MASKING.values(), ids=MASKING)


def transcript(tag: str, *parts: bytes | int | str) -> bytes:
    """Every part after its length and its kind, behind the version and the purpose."""
    coded = [f"secagg/{PROTOCOL_VERSION}/{tag}".encode()]
    for part in parts:
        match part:
            case int():
                coded.append(b"i" + part.to_bytes(8, "big"))
            case str():
                coded.append(b"s" + part.encode())
            case bytes():
                coded.append(b"b" + part)
    return b"".join(len(part).to_bytes(8, "big") + part for part in coded)


def sha256(tag: str, *parts: bytes | int | str) -> bytes:
    return hashlib.sha256(transcript(tag, *parts)).digest()


class Draws:
    """A client's generator, which remembers what it gave."""

    def __init__(self, seed: int) -> None:
        self._rng, self.given = seeded(seed), []

    def __call__(self, n: int) -> bytes:
        self.given.append(self._rng(n))
        return self.given[-1]


class Witness:
    """A session of three clients whose every secret the test knows, up to the masked input of client u."""

    u, others = 3, (0, 200)

    def __init__(self, make: Any) -> None:
        self.draws = {v: Draws(v) for v in (self.u, *self.others)}
        self.scheme = make(self.draws, MIXED)
        self.play = Play(self.scheme, mixed_inputs(self.draws), rng=self.draws.__getitem__)
        self.nonce = decode(Task, self.play.to("advertise-keys").requests[self.u]).nonce
        self.keys = decode(ShareKeysRequest, self.play.to("share-keys").requests[self.u]).keys
        listed = b"".join(
            v.to_bytes(4, "big") + c_pk + s_pk for v, (c_pk, s_pk, _) in sorted(self.keys.items())
        )
        self.parameters, self.context = sha256("parameters", self.scheme.offer()), sha256("context", TASK)
        self.sid = sha256("session", self.nonce, self.parameters, self.context, listed)
        self.shared = {v: decode(ShareKeys, m) for v, m in self.play.answer().answers.items()}
        self.play.to("masked-input")

    def secrets(self, v: int) -> tuple[bytes, bytes, bytes]:
        """c_v^SK, s_v^SK, b_v: the order in which a client draws them."""
        return tuple(self.draws[v].given[:3])

    def opened(self, holder: int) -> tuple[bytes, bytes]:
        """What u sealed for this holder: its shares of s_u^SK and of b_u."""
        c_sk, *_ = self.secrets(self.u)
        sealed = decode(MaskedInputRequest, self.play.requests[holder]).dealt[self.u].sealed
        info = transcript("share-key", self.u, holder)
        key = hkdf_sha256(agree(c_sk, self.keys[holder][0]), self.sid, info, 32)
        data = sha256("share-data", self.sid, self.u, holder)
        both = AESGCM(key).decrypt(sealed[:12], sealed[12:], data)
        return both[:33], both[33:]


def agree(secret: bytes, public: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))


@pytest.mark.parametrize("cipher", ["aes-128-ctr", "chacha20"])
@every_make
def test_a_masked_input_is_the_formula_of_the_paper_from_independent_primitives(
    make: Any, cipher: str
) -> None:
    """ "y_u = x_u + PRG(b_u) + sum over v of Delta_uv PRG(s_uv)", Delta_uv = 1 for u > v, else -1."""
    it = Witness(lambda ids, vectors: make(ids, vectors, prg=cipher))
    u = it.u
    _, s_sk, b_u = it.secrets(u)
    sent = decode(MaskedInput, it.play.answer().answers[u])

    def prg(secret: bytes, info: bytes, bits: int, length: int) -> Any:
        seed = hkdf_sha256(secret, it.sid, info, 32)
        aes = Cipher(algorithms.AES(seed[:16]), modes.CTR(bytes(16)))
        chacha20 = Cipher(algorithms.ChaCha20(seed, bytes(16)), None)
        stream = (chacha20 if cipher == "chacha20" else aes).encryptor().update(bytes(8 * length))
        return np.frombuffer(stream, word_type(bits))[:length].astype(object)

    for i, name in enumerate(sorted(MIXED)):
        size = MIXED[name].ring_bits(3), MIXED[name].length
        y = codes_of(it.scheme, it.play.inputs, [u])[name].astype(object)
        y = y + prg(b_u, transcript("self-mask", u, name), *size)
        for v in it.others:
            pair = transcript("pair-mask", min(u, v), max(u, v), name)
            y = y + (1 if u > v else -1) * prg(agree(s_sk, it.keys[v][1]), pair, *size)
        packed = sum(int(value) % 2 ** size[0] << size[0] * j for j, value in enumerate(y))
        assert int.from_bytes(sent.packed[i], "little") == packed


@every_make
def test_any_t_holders_can_open_and_join_the_shares_of_both_secrets(make: Any) -> None:
    it = Witness(lambda ids, vectors: make(ids, vectors, threshold=2, corrupt=0))
    _, s_sk, b_u = it.secrets(it.u)
    shares = {v + 1: it.opened(v) for v in it.others}
    for half, secret in enumerate((s_sk, b_u)):
        pair = {x: int.from_bytes(both[half], "big") for x, both in shares.items()}
        assert recon(pair) == int.from_bytes(secret, "big")


def test_commitments_are_the_digests_of_what_the_holders_open() -> None:
    it = Witness(active)
    u, shared = it.u, it.shared[it.u]
    assert shared.commitment == sha256("commit-mask", it.sid, u, it.secrets(u)[2])
    assert shared.commitments.keys() == {u, *it.others}
    for v in it.others:
        of_key, of_mask = it.opened(v)
        assert shared.commitments[v].of_key == sha256("commit-key-share", it.sid, u, v, of_key)
        assert shared.commitments[v].of_mask == sha256("commit-mask-share", it.sid, u, v, of_mask)


def test_signatures_are_on_the_documented_statements() -> None:
    """Checked with the library's own verification, over bytes that are put together here."""
    it = Witness(active)
    u, roster = it.u, identities(it.draws)[0]
    public = Ed25519PublicKey.from_public_bytes(roster.keys[u])
    c_pk, s_pk, signature = it.keys[u]
    keys = transcript("sign-keys", it.parameters, roster.digest, it.context, it.nonce, u, c_pk, s_pk)
    public.verify(signature, keys)
    shared = it.shared[u]
    unsigned = encode(ShareKeys(shared.sealed, shared.commitment, shared.commitments, b""))
    public.verify(shared.signature, transcript("sign-shares", it.sid, u, unsigned))
    it.play.to("consistency-check").answer()
    members = sha256("members", b"".join(v.to_bytes(4, "big") for v in sorted(it.draws)))
    statement = transcript("sign-members", it.sid, it.parameters, it.context, members, members, members)
    public.verify(decode(ConsistencyCheck, it.play.answers[u]).signature, statement)


@every_make
def test_everything_secret_is_drawn_from_the_generator(make: Any) -> None:
    """With the same bytes in its place two sessions say the same, byte for byte."""
    inputs = mixed_inputs(range(3))
    first, second = (recorded(make(range(3), MIXED), inputs, rng=seeded(1)) for _ in range(2))
    assert (first.received, first.sent) == (second.received, second.sent)


# Freshness

SIGNED = ("advertise-keys", "share-keys", "consistency-check")


def recorded(scheme: Masking, inputs: dict[int, Any], **more: Any) -> ServerView:
    """The view of a server in a session with the tests' task and rounding seeds."""
    views: list[ServerView] = []

    def record(server: ServerSession) -> ServerSession:
        session = Recorded(server)
        views.append(session.view)
        return session

    seeds, keys = {u: rounding_seed(u) for u in inputs}, credentials(scheme, inputs)
    run(scheme, inputs, task=TASK, rounding_seeds=seeds, instrument=record, **keys, **more)
    return views[0]


def heard(view: ServerView) -> dict[str, list[Any]]:
    """What a server received, by round, decoded."""
    said: dict[str, list[Any]] = {}
    for round, _, message in view.received:
        said.setdefault(round, []).append(decode(ANSWER[round], message))
    return said


@every_make
def test_two_runs_with_the_same_seeds_share_no_key_and_no_mask(make: Any) -> None:
    specs = MIXED | {"counts": Counts(length=99, maximum=1)}  # long enough for no two masks to meet by chance
    inputs = {u: x | {"counts": [1] * 99} for u, x in mixed_inputs(range(4)).items()}
    scheme = make(range(4), specs)
    views = [recorded(scheme, inputs, drop={"masked-input": {3}}) for _ in range(2)]
    assert_same_codes(views[0].aggregate.codes, views[1].aggregate.codes)
    first, second = map(heard, views)

    def apart(pieces: Callable[[dict[str, list[Any]]], list[bytes]]) -> None:
        a, b = pieces(first), pieces(second)
        assert len(a) > 0
        assert len({*a, *b}) == len(a) + len(b)

    apart(lambda said: [key for m in said["advertise-keys"] for key in (m.c_pk, m.s_pk)])
    apart(lambda said: [e for m in said["share-keys"] for e in m.sealed.values()])
    apart(lambda said: [e[:12] for m in said["share-keys"] for e in m.sealed.values()])
    apart(lambda said: [bytes(m.packed[0]) for m in said["masked-input"]])
    apart(lambda said: [s.share for m in said["unmasking"] for s in m.shares.values()])
    if make is active:
        apart(lambda said: [m.signature for round in SIGNED for m in said[round]])
        apart(lambda said: [m.commitment for m in said["share-keys"]])
        apart(lambda said: [c.of_key for m in said["share-keys"] for c in m.commitments.values()])
        apart(lambda said: [c.of_mask for m in said["share-keys"] for c in m.commitments.values()])
    nonces = [decode(Task, m).nonce for view in views for r, _, m in view.sent if r == "advertise-keys"]
    assert len(set(nonces)) == 2


def test_rounding_follows_the_seed_and_the_task() -> None:
    inputs = {u: [0.5 / 7] * 64 for u in range(3)}
    scheme = Masking.for_cohort(3, Bounded(length=64, bound=1.0, bits=4))
    seeds = {u: rounding_seed(u) for u in inputs}
    first, again, other = (
        run(scheme, inputs, task=task, rounding_seeds=seeds).codes[""].tolist() for task in (b"1", b"1", b"2")
    )
    assert first == again != other


def test_without_a_rounding_seed_every_run_rounds_afresh() -> None:
    inputs = {u: [0.5 / 7] * 64 for u in range(3)}
    scheme = Masking.for_cohort(3, Bounded(length=64, bound=1.0, bits=4))
    assert run(scheme, inputs).codes[""].tolist() != run(scheme, inputs).codes[""].tolist()


# What the server sees before it unmasks


@every_make
def test_masked_words_are_uniform_and_nothing_like_the_vector(make: Any) -> None:
    """Chi-squared of the 8-bit words of a constant vector, from fixed bytes: six deviations off at most."""
    length = 2**16
    spec = Counts(length=length, maximum=85)
    assert spec.ring_bits(3) == 8
    inputs = {u: {"x": np.full(length, 7), "y": np.full(length, 7)} for u in range(3)}
    play = Play(make(range(3), {"x": spec, "y": spec}), inputs, rng=seeded, server_rng=seeded(9))
    answers = [decode(MaskedInput, m) for m in play.to("masked-input").answer().answers.values()]
    uploads = [np.frombuffer(packed, np.uint8) for message in answers for packed in message.packed]
    for i, upload in enumerate(uploads):
        counts, expected = np.bincount(upload, minlength=256), length / 256
        assert ((counts - expected) ** 2 / expected).sum() < 255 + 6 * np.sqrt(2 * 255)
        for other in uploads[:i]:  # neither two clients nor two vectors of one client share a mask
            assert (upload != other).mean() > 0.98


@every_make
def test_neither_vector_nor_weight_is_in_what_the_server_received(make: Any) -> None:
    n = 8
    specs = {"counts": Counts(length=40, maximum=2**53 - 1), "weight": Weight(maximum=2**29 - 1)}
    assert [spec.ring_bits(n) for spec in specs.values()] == [56, 32]  # whole bytes: a number would show
    rng = np.random.default_rng(3)
    inputs = {
        u: {"counts": rng.integers(2**52, 2**53, 40), "weight": int(rng.integers(2**28, 2**29))}
        for u in range(n)
    }
    view = recorded(make(range(n), specs), inputs, drop={"unmasking": {2}}, rng=seeded(4))
    received = b"".join(message for _, _, message in view.received)
    for x in inputs.values():
        numbers = [number.to_bytes(7, "little") for number in x["counts"].tolist()]
        assert b"".join(numbers) == pack(x["counts"].astype(np.uint64), 56)  # as it would be without a mask
        for number in (*numbers, x["weight"].to_bytes(4, "little"), x["weight"].to_bytes(4, "big")):
            assert number not in received


@every_make
def test_the_uploads_of_all_but_one_survivor_say_nothing_of_the_sum(make: Any) -> None:
    """The server's own total stays masked until the shares of every survivor have come."""
    scheme = make(range(3), Counts(length=64, maximum=9))
    inputs = {u: [u] * 64 for u in range(3)}
    play = Play(scheme, inputs).to("masked-input").answer()
    total = np.zeros(64, word_type(scheme.vectors[""].ring_bits(3)))
    for message in play.answers.values():
        add_packed(total, decode(MaskedInput, message).packed[0], scheme.vectors[""].ring_bits(3))
    assert ((total % 2**5) != 3).sum() > 32  # the pairwise masks are gone, the self masks are not


# What binds a session: where nothing is signed, masks that do not cancel and shares that do not open


def test_a_client_shown_another_task_shares_no_mask_with_the_others() -> None:
    """Its context enters every key: nobody can open its shares, and there is no sum of different models."""
    play = Play(semi_honest(range(3), MIXED), mixed_inputs(range(3))).to("advertise-keys")
    task = decode(Task, play.requests[0])
    play.requests[0] = encode(Task(task.nonce, b"another model"))
    with pytest.raises(TooFewClients) as caught:
        play.finish()
    assert caught.value.round == "unmasking"
    assert caught.value.alive == 1


def test_a_client_shown_another_nonce_shares_no_mask_with_the_others() -> None:
    play = Play(semi_honest(range(3), MIXED), mixed_inputs(range(3))).to("advertise-keys")
    play.requests[0] = encode(Task(bytes(32), TASK))
    with pytest.raises(TooFewClients):
        play.finish()


def test_a_client_shown_other_keys_of_the_others_shares_no_mask_with_them() -> None:
    play = Play(semi_honest(range(5), MIXED), mixed_inputs(range(5))).to("share-keys")
    keys = decode(ShareKeysRequest, play.requests[0]).keys
    c_pk, s_pk, _ = keys[1]
    play.requests[0] = encode(ShareKeysRequest(keys | {1: (s_pk, c_pk, b"")}))
    with pytest.raises(TooFewClients):
        play.finish()


# Nothing shows


def test_no_secret_is_in_the_repr_of_a_client_or_its_states_or_the_server(five: Masking) -> None:
    draws = {u: Draws(u) for u in range(5)}
    play = Play(five, mixed_inputs(draws), rng=draws.__getitem__, drop={"masked-input": {4}})
    text = ""
    for round in (*five.rounds[1:], "done"):
        play.to(round)
        text += repr((play.server, vars(play.server), play.clients, play.identities))
        text += repr([client._state for client in play.clients.values()])
    assert five.rounds[-1] == "unmasking"
    last = "AwaitingSignatures" if five is FIVE["active"] else "AwaitingUnmasking"
    assert last in text  # the states were among them
    signing = [identity.key._private.private_bytes_raw() for identity in play.identities.values()]
    for secret in (*signing, *(secret for rng in draws.values() for secret in rng.given)):
        if len(secret) > 12:  # the nonces of AE are public
            assert repr(secret)[2:-1] not in text
            assert secret.hex() not in text
            assert str(int.from_bytes(secret, "big")) not in text


@pytest.mark.parametrize("name", MASKING)
def test_a_dead_client_holds_no_vector_any_more(name: str) -> None:
    for round in ROUNDS[name][1:]:
        play = Play(FIVE[name], mixed_inputs(range(5))).to(round)
        with pytest.raises(RemoteProtocolError):
            play.clients[0].receive(b"")
        assert "array" not in repr(vars(play.clients[0]))
        assert rounding_seed(0) not in vars(play.clients[0]).values()
        assert play.clients[0]._state is None


@pytest.mark.parametrize(
    ("name", "round"), [(name, round) for name in MASKING for round in (*ROUNDS[name], "done")]
)
def test_neither_party_nor_a_state_is_ever_pickled_or_copied(name: str, round: str) -> None:
    play = Play(FIVE[name], mixed_inputs(range(5))).to(round)
    held = [play.clients[0], play.server]
    if round not in ("join", "advertise-keys", "done"):
        held.append(play.clients[0]._state)
    if round in ("consistency-check", "unmasking"):
        held.append(play.clients[0]._state.holding)
    for one in held:
        for copier in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=f"{type(one).__name__} holds secrets and is never pickled"):
                copier(one)


def test_an_identity_is_not_pickled() -> None:
    _, ours = identities(range(3))
    for copier in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="SigningKey holds secrets and is never pickled"):
            copier(ours[0])
