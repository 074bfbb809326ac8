"""What leaves a client is masked as the paper says, fresh every time, and nothing secret is to be seen."""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secagg import (
    CKKS,
    Bounded,
    Counts,
    Masking,
    Recorded,
    RemoteProtocolError,
    Scheme,
    ServerView,
    TooFewClients,
    Weight,
)
from secagg.bits import add_packed, pack, word_type
from secagg.ckks.messages import Ciphertexts, CiphertextsRequest, ShareCkksKeyRequest
from secagg.ckks.ring import SPECIAL_BITS, Ring
from secagg.ckks.seal import Keys, _fields
from secagg.crypto import PROTOCOL_VERSION
from secagg.masking.messages import (
    ConsistencyCheck,
    MaskedInput,
    MaskedInputRequest,
    ShareKeys,
    ShareKeysRequest,
)
from secagg.session import ServerSession
from secagg.shamir import recon
from secagg.wire import Message, Task, decode, encode
from tests.play import TASK, Play, assert_same_codes, identities, rounding_seed, run, seeded
from tests.secagg.helpers import (
    ENDINGS,
    FIVE,
    MASKING,
    MIXED,
    ROUNDS,
    active,
    answer_kind,
    codes_of,
    credentials,
    hkdf_sha256,
    holds_a_vector,
    mixed_inputs,
    semi_honest,
)

every_make = pytest.mark.parametrize("make", MASKING.values(), ids=MASKING)
every_ending = pytest.mark.parametrize("make", ENDINGS.values(), ids=ENDINGS)
THREE = {name: make(range(3), MIXED) for name, make in ENDINGS.items()}
FIVE_OR_THREE: dict[str, Any] = {**FIVE, **THREE}


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


def recorded(scheme: Scheme, inputs: dict[int, Any], **more: Any) -> ServerView:
    """The view of a server in a session with the tests' task and rounding seeds."""
    views: list[ServerView] = []

    def record(server: ServerSession) -> ServerSession:
        session = Recorded(server)
        views.append(session.view)
        return session

    seeds, keys = {u: rounding_seed(u) for u in inputs}, credentials(scheme, inputs)
    run(scheme, inputs, task=TASK, rounding_seeds=seeds, instrument=record, **keys, **more)
    return views[0]


def heard(scheme: Scheme, view: ServerView) -> dict[str, list[Any]]:
    """What a server received, by round, decoded."""
    said: dict[str, list[Any]] = {}
    for round, _, message in view.received:
        said.setdefault(round, []).append(decode(answer_kind(scheme, round), message))
    return said


def all_apart(
    views: list[dict[str, list[Any]]], pieces: Callable[[dict[str, list[Any]]], list[bytes]]
) -> None:
    """No piece stands twice in them."""
    found = [piece for view in views for piece in pieces(view)]
    assert len(found) > 0
    assert len(set(found)) == len(found)


@every_make
def test_two_runs_with_the_same_seeds_share_no_key_and_no_mask(make: Any) -> None:
    specs = MIXED | {"counts": Counts(length=99, maximum=1)}  # long enough for no two masks to meet by chance
    inputs = {u: x | {"counts": [1] * 99} for u, x in mixed_inputs(range(4)).items()}
    scheme = make(range(4), specs)
    views = [recorded(scheme, inputs, drop={"masked-input": {3}}) for _ in range(2)]
    assert_same_codes(views[0].aggregate.codes, views[1].aggregate.codes)
    both = [heard(scheme, view) for view in views]

    def apart(pieces: Callable[[dict[str, list[Any]]], list[bytes]]) -> None:
        all_apart(both, pieces)

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


@every_ending
def test_two_runs_with_the_same_inputs_share_no_key_no_ciphertext_and_no_noise(make: Any) -> None:
    """Nor do two clients with the same vector."""
    scheme, inputs = make(range(4), MIXED), dict.fromkeys(range(4), mixed_inputs([0])[0])
    both = [heard(scheme, recorded(scheme, inputs)) for _ in range(2)]

    def apart(pieces: Callable[[dict[str, list[Any]]], list[bytes]]) -> None:
        all_apart(both, pieces)

    apart(lambda said: [m.c_pk for m in said["advertise-keys"]])
    made = [[m for m in said["share-keys"] if m.secret] for said in both]
    assert [len(each) for each in made] == [3, 3]
    apart(lambda said: [m.secret for m in said["share-keys"] if m.secret])
    apart(lambda said: [m.secret[:12] for m in said["share-keys"] if m.secret])
    apart(lambda said: [e for m in said["share-keys"] for e in m.sealed.values()])
    apart(lambda said: [e[:12] for m in said["share-keys"] for e in m.sealed.values()])
    apart(lambda said: [bytes(m.residues) for m in said["input"]])
    apart(lambda said: [m.digest for m in said["input"]])
    apart(lambda said: [m.signature for round in ("advertise-keys", "input") for m in said[round]])
    if scheme.ending == "release":
        released = [{bytes(m.released) for m in said["decrypt"] if len(m.released)} for said in both]
        assert [len(each) for each in released] == [1, 1]  # three released the same
        assert released[0] != released[1]


@pytest.mark.parametrize("scheme", [Masking, CKKS])
def test_rounding_follows_the_seed_and_the_task(scheme: Any) -> None:
    inputs = {u: [0.5 / 7] * 64 for u in range(3)}
    scheme = scheme.for_cohort(3, Bounded(length=64, bound=1.0, bits=4))
    seeds = {u: rounding_seed(u) for u in inputs}
    first, again, other = (
        run(scheme, inputs, task=task, rounding_seeds=seeds).codes[""].tolist() for task in (b"1", b"1", b"2")
    )
    assert first == again != other


@pytest.mark.parametrize("scheme", [Masking, CKKS])
def test_without_a_rounding_seed_every_run_rounds_afresh(scheme: Any) -> None:
    inputs = {u: [0.5 / 7] * 64 for u in range(3)}
    scheme = scheme.for_cohort(3, Bounded(length=64, bound=1.0, bits=4))
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


@pytest.mark.parametrize("make", (MASKING | ENDINGS).values(), ids=MASKING | ENDINGS)
def test_neither_vector_nor_weight_is_in_what_the_server_received(make: Any) -> None:
    n = 8
    specs = {"counts": Counts(length=40, maximum=2**53 - 1), "weight": Weight(maximum=2**29 - 1)}
    assert [spec.ring_bits(n) for spec in specs.values()] == [56, 32]  # whole bytes: a number would show
    rng = np.random.default_rng(3)
    inputs = {
        u: {"counts": rng.integers(2**52, 2**53, 40), "weight": int(rng.integers(2**28, 2**29))}
        for u in range(n)
    }
    scheme = make(range(n), specs)
    view = recorded(scheme, inputs, drop={scheme.rounds[-1]: {2}}, rng=seeded(4))
    received = b"".join(message for _, _, message in view.received)
    for x in inputs.values():
        numbers = [number.to_bytes(7, "little") for number in x["counts"].tolist()]
        assert b"".join(numbers) == pack(x["counts"].astype(np.uint64), 56)  # as it would be without a mask
        weights = [x["weight"].to_bytes(4, "little"), x["weight"].to_bytes(4, "big")]
        # Of ciphertexts, which no seed makes again, any four bytes are there once in a thousand runs.
        for number in numbers if isinstance(scheme, CKKS) else (*numbers, *weights):
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


def shown(play: Play) -> str:
    return repr((play.server, vars(play.server), play.clients, play.identities)) + repr(
        [client._state for client in play.clients.values()]
    )


@pytest.mark.parametrize("scheme", THREE.values(), ids=THREE)
def test_no_secret_is_in_the_repr_of_a_ckks_client_or_its_states_or_the_server(scheme: CKKS) -> None:
    draws = {u: Draws(u) for u in range(3)}
    play, text = Play(scheme, mixed_inputs(draws), rng=draws.__getitem__), ""
    for round in (*scheme.rounds[1:], "done"):
        text += shown(play.to(round))
        if round == "decrypt":
            keys = play.clients[0]._state.key.keys
    for state in ("AwaitingKeys", "AwaitingCiphertextsRequest", "AwaitingDecryptRequest"):
        assert state in text
    signing = [identity.key._private.private_bytes_raw() for identity in play.identities.values()]
    for secret in (*signing, *(secret for rng in draws.values() for secret in rng.given)):
        if len(secret) > 12:  # the nonces of AE are public
            assert repr(secret)[2:-1] not in text
            assert secret.hex() not in text
    assert not any(str(residue) in text for residue in keys.secret()[0, :8].tolist())
    assert repr(keys) == "Keys(<hidden>)"


@pytest.mark.parametrize("name", FIVE_OR_THREE)
def test_a_dead_client_holds_no_vector_any_more(name: str) -> None:
    for round in ROUNDS[name][1:]:
        scheme = FIVE_OR_THREE[name]
        play = Play(scheme, mixed_inputs(range(scheme.clients))).to(round)
        with pytest.raises(RemoteProtocolError):
            play.clients[0].receive(b"")
        assert not holds_a_vector(play.clients[0])
        assert rounding_seed(0) not in [x for x in vars(play.clients[0]).values() if isinstance(x, bytes)]
        assert play.clients[0]._state is None


@pytest.mark.parametrize(
    ("name", "round"), [(name, round) for name in FIVE_OR_THREE for round in (*ROUNDS[name], "done")]
)
def test_neither_party_nor_a_state_is_ever_pickled_or_copied(name: str, round: str) -> None:
    scheme = FIVE_OR_THREE[name]
    play = Play(scheme, mixed_inputs(range(scheme.clients))).to(round)
    held = [play.clients[0], play.server]
    if round not in ("join", "advertise-keys", "done"):
        held.append(play.clients[0]._state)
    if round in ("consistency-check", "unmasking"):
        held.append(play.clients[0]._state.holding)
    if round in ("input", "decrypt"):
        key = play.clients[0]._state.own if round == "input" else play.clients[0]._state.key
        held += [key, key.keys]
    for one in held:
        for copier in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=f"{type(one).__name__} holds secrets and is never pickled"):
                copier(one)


def test_an_identity_is_not_pickled() -> None:
    _, ours = identities(range(3))
    for copier in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="SigningKey holds secrets and is never pickled"):
            copier(ours[0])


# The session's key of CKKS


def windows(secret: np.ndarray, ring: Ring) -> Iterator[bytes]:
    """Eight residues of a secret key, from several places, in every form they might have on the wire."""
    for row, bits in zip(secret, (*ring.prime_bits, SPECIAL_BITS), strict=True):
        for start in (0, 8, ring.degree // 2, ring.degree - 8):
            eight = row[start : start + 8]
            words = ("<u8", ">u8", "<u4", ">u4") if bits <= 32 else ("<u8", ">u8")
            yield from (eight.astype(word).tobytes() for word in words)
            yield bytes(pack(eight, bits))


def serialised(keys: Keys) -> Iterator[bytes]:
    """Of the secret key as TenSEAL itself writes it."""
    context = keys._context.serialize(
        save_public_key=False, save_secret_key=True, save_galois_keys=False, save_relin_keys=False
    )
    written = next(value for number, value in _fields(context) if number == 3)
    assert len(written) > 1000
    yield from (written[start : start + 48] for start in (100, len(written) // 2, len(written) - 48))


def held_by(value: Any) -> Iterator[bytes]:
    """All bytes that can be reached from a server."""
    match value:
        case bytes() | bytearray() | memoryview() | np.ndarray():
            yield bytes(value)
        case dict():
            yield from held_by([*value.keys(), *value.values()])
        case list() | tuple() | set() | frozenset():
            for entry in value:
                yield from held_by(entry)
        case Message():
            yield from held_by([getattr(value, name) for name in value.__struct_fields__])
        case _ if hasattr(value, "__dict__") and type(value).__module__.startswith("secagg."):
            yield from held_by(list(vars(value).values()))


@every_ending
@pytest.mark.parametrize("drop", [{}, {"share-keys": {0}}, {"decrypt": {1}}], ids=str)
def test_no_key_of_the_session_is_in_what_the_server_heard_or_said_or_holds(
    make: Any, drop: dict[str, set[int]]
) -> None:
    """Of none of the three who made one; and what would show a key is seen to show it."""
    draws = {u: Draws(u) for u in range(4)}
    scheme = make(draws, MIXED)
    play = Play(scheme, mixed_inputs(draws), rng=draws.__getitem__, drop=drop)
    server, recorder = play.server, Recorded(play.server)
    play.server = recorder
    play.to("share-keys").answer()
    makers = {0, 1, 2} - drop.get("share-keys", set())
    keys = [play.clients[u]._state.own for u in makers]
    held = []
    for round in ("input", "decrypt", "done"):
        if round == "done":
            keys.append(play.clients[3]._state.key)
        play.to(round)
        held += held_by(server)
    assert keys[-1].K == keys[0].K  # the fourth opened what the first of them made
    messages = [message for _, _, message in (*recorder.view.received, *recorder.view.sent)]
    everything = b"|".join([*messages, *held])
    assert len(everything) > 10 * scheme.plan.upload_bytes

    for key in keys:
        secret = [key.K, key.K.hex().encode(), *windows(key.keys.secret(), scheme.plan.ring)]
        secret += serialised(key.keys)
        assert min(map(len, secret)) >= 16
        assert not [piece for piece in secret if piece in everything]
        assert secret[2] in everything + key.keys.secret().tobytes()  # the control
    drawn = [secret for rng in draws.values() for secret in rng.given if len(secret) == 32]
    assert len(drawn) == 4 + len(makers)  # c_u^SK, and K
    assert not [secret for secret in drawn if secret in everything]


@every_ending
def test_the_key_of_the_session_is_sealed_as_the_page_says_and_opens_for_whoever_has_K(make: Any) -> None:
    """From independent primitives, as client 3 opens it; and as one who has K alone does."""
    draws = {u: Draws(u) for u in range(4)}
    scheme = make(draws, MIXED)
    play = Play(scheme, mixed_inputs(draws), rng=draws.__getitem__)
    nonce = decode(Task, play.to("advertise-keys").requests[3]).nonce
    keys = decode(ShareCkksKeyRequest, play.to("share-keys").requests[3]).keys
    request = decode(CiphertextsRequest, play.to("input").requests[3])
    used = play.answer().clients[3]._state.key
    c_sk, K = draws[0].given[:2]
    listed = b"".join(v.to_bytes(4, "big") + c_pk for v, (c_pk, _) in sorted(keys.items()))
    sid = sha256("ckks-session", nonce, sha256("parameters", scheme.offer()), sha256("context", TASK), listed)
    assert request.maker == 0
    for agreed in (agree(c_sk, keys[3][0]), agree(draws[3].given[0], keys[0][0])):
        key = hkdf_sha256(agreed, sid, transcript("ckks-seal-key", 0, 3), 32)
        data, sealed = sha256("ckks-seal-data", sid, 0, 3, request.secret), request.sealed[3]
        assert AESGCM(key).decrypt(sealed[:12], sealed[12:], data) == K == used.K
    key = hkdf_sha256(K, sid, transcript("ckks-secret-key", 0), 32)
    opened = AESGCM(key).decrypt(request.secret[:12], request.secret[12:], sid)
    assert opened == used.keys.secret().astype("<u8").tobytes()
    public = Ed25519PublicKey.from_public_bytes(identities(draws)[0].keys[0])
    public.verify(request.signature, transcript("sign-ckks-secret", sid, 0, request.secret))
    upload = decode(Ciphertexts, play.answers[3])
    digest = sha256("ckks-upload", sid, 3, bytes(upload.residues))
    assert upload.digest == digest
    public = Ed25519PublicKey.from_public_bytes(identities(draws)[0].keys[3])
    public.verify(upload.signature, transcript("sign-ckks-upload", sid, 3, digest))
    bound = sha256("parameters", scheme.offer()), scheme.roster, sha256("context", TASK), nonce
    public.verify(keys[3][1], transcript("sign-ckks-key", *bound, 3, keys[3][0]))
