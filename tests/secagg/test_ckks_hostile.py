"""Hostile messages of parties that know the protocol, against real servers and clients. Each is refused and
its sender named; or it is taken, and changes nothing but what its sender was to contribute. The others finish
their sum either way. (Of those that know nothing of it: enemies/test_malformed.py, and the fuzzer.)

A hostile *maker* can do one thing more, which has a test of its own: shut out those it makes the key for.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from secagg import Bounded, Counts
from secagg.ckks.derived import (
    key_statement,
    seal_data,
    seal_key,
    secret_statement,
    upload_digest,
    upload_statement,
)
from secagg.ckks.messages import (
    AdvertiseCkksKey,
    Ciphertexts,
    CiphertextsRequest,
    Decrypted,
    DecryptRequest,
    ShareCkksKey,
    ShareCkksKeyRequest,
)
from secagg.ckks.packing import pack_residues, unpack_residues
from secagg.ckks.ring import Ring
from secagg.ckks.seal import Keys
from secagg.crypto import SecretKey, Tag, digest, seal
from secagg.wire import decode, encode
from tests.play import TASK, assert_same_codes, seeded
from tests.secagg.helpers import SMALL_ORDER, assert_sum_of, codes_of, keeping, releasing
from tests.secagg.helpers_ckks import Outcome, Sessions

IDS = range(5)  # 0, 1, 2 make keys, and release; three are enough
LENGTH = 300
VECTORS = {"n": Counts(length=3, maximum=9), "x": Bounded(length=LENGTH, bound=1.0, bits=8)}
INPUTS = {u: {"n": [u, 9, 0], "x": np.sin(u + np.arange(float(LENGTH)))} for u in IDS}
KINDS: dict[str, Callable[[], Any]] = {
    "keep": lambda: keeping(IDS, VECTORS),
    "keep, unsigned": lambda: keeping(IDS, VECTORS, roster=None),
    "release": lambda: releasing(IDS, VECTORS),
}


@pytest.fixture(scope="module", params=KINDS)
def sessions(request: pytest.FixtureRequest) -> Sessions:
    made = Sessions(KINDS[request.param](), INPUTS)
    assert_sum_is_right(made, made.honest, gone=())
    assert not made.honest.named
    assert not made.honest.refusals
    return made


# What came of it


def sum_sent_out(sessions: Sessions, out: Outcome, v: int) -> Any:
    plan = sessions.scheme.plan
    return unpack_residues(plan.ring, plan.ciphertexts, decode(DecryptRequest, out.heard[v][-1]).residues)


def assert_sum_is_right(
    sessions: Sessions, out: Outcome, gone: Collection[int], contributed: Any = None
) -> None:
    """All but `gone` are in the sum and it is right; without these residues, where some were contributed."""
    scheme, survivors, there = sessions.scheme, out.server.result.survivors, INPUTS.keys() - gone
    assert there <= survivors
    if contributed is not None:
        total = sum_sent_out(sessions, out, 1)
        for i, q in enumerate(scheme.plan.ring.primes):
            total[:, :, i] = (total[:, :, i] + np.uint64(q) - contributed[:, :, i]) % np.uint64(q)
        keys = sessions.clients[1].state(out.heard[1][:-1]).key.keys
        slots = np.concatenate([keys.decrypt(each) for each in total])
        values = scheme.plan.from_slots(slots[: scheme.plan.slots])
        if scheme.ending == "keep":
            assert_same_codes(values, codes_of(scheme, INPUTS, there))
        else:
            assert_sum_of(scheme, INPUTS, scheme.aggregate(frozenset(there), values), there)
    elif scheme.ending == "keep":
        for v in there:
            assert_sum_of(scheme, INPUTS, sessions.clients[v].result(out.heard[v]), survivors)
    else:
        assert_sum_of(scheme, INPUTS, out.server.result, survivors)


def judged(sessions: Sessions, out: Outcome, u: int, contributed: Any = None) -> str:
    """What came of one hostile message, from u or to u. Anything else is an assertion that fails.

    "refused": by the server, which names u and nobody else; or by u, what the server said. "contained": all
    others have their sum. "shut out": others refused the session key, and nothing of theirs left.
    """
    assert all(named == {u} for named in out.named)
    assert all(not refusal.culprits for refusal in out.refusals.values())  # a client cannot tell who it was
    assert out.server.caught.keys() <= {u}
    if shut_out := out.refusals.keys() - {u}:
        assert not any(("input", v) in out.said for v in out.refusals)
        if not out.too_few:
            assert_sum_is_right(sessions, out, shut_out | {u})
        return "shut out"
    assert not out.too_few
    refused = out.named or out.refusals
    assert_sum_is_right(sessions, out, {u}, None if refused else contributed)
    return "refused" if refused else "contained"


# Uploads


def forged(sessions: Sessions, u: int, packed: bytes) -> bytes:
    """An upload of these bytes with its sender's right digest and, where there is one, signature."""
    sid = sessions.honest.server._sid
    made = upload_digest(sid, u, packed)
    signature = sessions.identities[u].key.sign(upload_statement(sid, u, made))
    return encode(Ciphertexts(memoryview(packed), made, signature if sessions.scheme.roster else b""))


def residues(ring: Ring, ciphertexts: int, rng: np.random.Generator) -> Any:
    shape = ciphertexts, 2, ring.degree
    return np.stack([rng.integers(0, q, shape, np.uint64) for q in ring.primes], axis=2)


def well_formed(sessions: Sessions, rng: np.random.Generator) -> Iterator[bytes]:
    """Packed residues that no check can tell from ciphertexts."""
    plan = sessions.scheme.plan
    garbage = residues(plan.ring, plan.ciphertexts, rng)
    largest = np.empty_like(garbage)
    largest[:] = (np.array(plan.ring.primes, np.uint64) - np.uint64(1))[:, None]
    for each in (garbage, np.zeros_like(garbage), largest):
        yield pack_residues(plan.ring, each)
    other_key = Keys(plan.ring, plan.scale + 1).encrypt(np.ones(plan.ring.slots))
    yield pack_residues(plan.ring, np.stack([other_key] * plan.ciphertexts))
    half = garbage.copy()
    half[:, 1] = 0
    yield pack_residues(plan.ring, half)
    yield bytes(decode(Ciphertexts, sessions.honest.said["input", 1]).residues)  # client 1's


def ill_formed(sessions: Sessions, rng: np.random.Generator) -> Iterator[bytes]:
    """Packed residues that are not this session's."""
    plan = sessions.scheme.plan
    ring, good = plan.ring, pack_residues(plan.ring, residues(plan.ring, plan.ciphertexts, rng))
    for value in (ring.primes[0], 2 ** ring.prime_bits[0] - 1):
        above = residues(ring, plan.ciphertexts, rng)
        above[-1, int(rng.integers(2)), 0, int(rng.integers(ring.degree))] = value
        yield pack_residues(ring, above)
    yield from (b"", good[:-1], good + b"\0", good * 2, good[: len(good) // 2])
    for other in (Ring(2048, (34,)), Ring(4096, (60,)), Ring(8192, (40, 40)), Ring(ring.degree, (33,))):
        ciphertext = Keys(other, 2**20).encrypt(np.ones(9))[None]  # of other parameters
        yield pack_residues(other, ciphertext)


def clever_uploads(sessions: Sessions, u: int, rng: np.random.Generator) -> Iterator[bytes]:
    for packed in ill_formed(sessions, rng):
        yield forged(sessions, u, packed)
    own = decode(Ciphertexts, sessions.honest.said["input", u])
    for v in IDS:
        if v != u:
            yield sessions.honest.said["input", v]  # its digest is another sender's
    for _ in range(3):
        flipped = bytearray(own.residues)
        flipped[int(rng.integers(len(flipped)))] ^= 1 << int(rng.integers(8))
        yield encode(Ciphertexts(memoryview(flipped), own.digest, own.signature))
    other = upload_digest(bytes(32), u, bytes(own.residues))  # of another session
    yield encode(Ciphertexts(own.residues, other, own.signature))
    yield encode(Ciphertexts(own.residues, own.digest, b"" if own.signature else bytes(64)))


def test_hostile_uploads_are_refused_or_count_for_their_sender_alone(sessions: Sessions) -> None:
    plan, rng = sessions.scheme.plan, np.random.default_rng(1)
    for u in (0, 4):
        for packed in well_formed(sessions, rng):
            out = sessions.play(answer=("input", u, forged(sessions, u, packed)))
            contributed = unpack_residues(plan.ring, plan.ciphertexts, packed)
            assert judged(sessions, out, u, contributed) == "contained"
            assert u in out.server.result.survivors
        for message in clever_uploads(sessions, u, rng):
            out = sessions.play(answer=("input", u, message))
            assert out.named == [{u}]  # all of these can be told
            assert judged(sessions, out, u) == "refused"
            assert out.server.result.survivors == INPUTS.keys() - {u}


# Key messages


def signed(sessions: Sessions, u: int, statement: bytes) -> bytes:
    return sessions.identities[u].key.sign(statement) if sessions.scheme.roster else b""


def clever_keys(sessions: Sessions, u: int) -> Iterator[bytes]:
    """Instead of AdvertiseCkksKey."""
    own = decode(AdvertiseCkksKey, sessions.honest.said["advertise-keys", u])
    other = SecretKey(bytes(range(32))).public
    terms = sessions.scheme.digest(), sessions.scheme.roster, digest(Tag.CONTEXT, TASK), seeded(7)(32)
    for c_pk in (SMALL_ORDER[-1], other):
        yield encode(AdvertiseCkksKey(c_pk, signed(sessions, u, key_statement(*terms, u, c_pk))))
    yield encode(AdvertiseCkksKey(other, own.signature))
    yield encode(AdvertiseCkksKey(own.c_pk, b"" if own.signature else bytes(64)))
    yield sessions.honest.said["advertise-keys", 1]
    yield sessions.honest.said["share-keys", u]


def test_hostile_keys_are_refused_or_leave_their_sender_alone_out(sessions: Sessions) -> None:
    counts = Counter[str]()
    for u in (0, 4):
        for message in clever_keys(sessions, u):
            out = sessions.play(answer=("advertise-keys", u, message))
            assert judged(sessions, out, u) == "refused"
            counts["by the server" if out.named else "by its sender"] += 1
    # A key that nobody has is as good as any, until its sender looks for its own in the list.
    assert counts["by its sender"] >= 2
    assert counts["by the server"] >= 8


def shared(sessions: Sessions, u: int, secret: bytes, sealed: dict[int, bytes]) -> bytes:
    statement = secret_statement(sessions.honest.server._sid, u, secret)
    return encode(ShareCkksKey(secret, sealed, signed(sessions, u, statement)))


def clever_session_keys(sessions: Sessions, u: int) -> Iterator[bytes]:
    """Instead of ShareCkksKey. u: a maker, or another client that does as if."""
    made = decode(ShareCkksKey, sessions.honest.said["share-keys", 0])
    secret, sealed = made.secret, {v: made.sealed[4] for v in IDS if v != u}
    for other in (b"", b"\0", bytes(27), bytes(28), secret[:-1], secret + b"\0", secret[:100], secret * 2):
        yield shared(sessions, u, other, sealed)
    others: list[dict[int, bytes]] = [{}, {**sealed, u: sealed[3]}, {**sealed, 77: sealed[3]}]
    for each in (*others, {v: K for v, K in sealed.items() if v != 3}):
        yield shared(sessions, u, secret, dict(sorted(each.items())))
    yield encode(ShareCkksKey(secret, sealed, b"" if made.signature else bytes(64)))
    yield sessions.honest.said["share-keys", 1]
    yield encode(ShareCkksKey(b"", {}, b"" if u < 3 else bytes(64)))
    yield encode(ShareCkksKey(b"", sealed, b""))


def test_hostile_session_keys_are_refused_or_shut_out_whom_they_are_for(sessions: Sessions) -> None:
    """Where nothing is signed a changed key is one that its maker may have made: nobody can open it."""
    for u in (0, 4):
        counts = Counter[str]()
        for message in clever_session_keys(sessions, u):
            counts[judged(sessions, sessions.play(answer=("share-keys", u, message)), u)] += 1
        assert counts.keys() <= ({"refused", "shut out"} if u == 0 else {"refused"})
        assert counts["shut out"] <= 1 < counts["refused"]


@pytest.mark.parametrize("shut_out", [{4}, {1, 4}, {1, 2, 3, 4}])
def test_a_maker_can_shut_out_those_it_makes_the_key_for(sessions: Sessions, shut_out: set[int]) -> None:
    """Nobody can check a key that is sealed for another. What does not open is refused, and nothing is
    encrypted under it; where too few are left there is no sum.
    """
    made = decode(ShareCkksKey, sessions.honest.said["share-keys", 0])
    sealed = {v: bytes(len(K)) if v in shut_out else K for v, K in made.sealed.items()}
    out = sessions.play(answer=("share-keys", 0, shared(sessions, 0, made.secret, sealed)))
    assert judged(sessions, out, 0) == "shut out"
    assert out.refusals.keys() == shut_out
    assert all("a session key that does not open" in str(refusal) for refusal in out.refusals.values())
    assert out.too_few == (len(shut_out) > 2)
    assert not out.named  # it may have been the server, for all they know
    if not out.too_few:
        assert out.server.result.survivors == INPUTS.keys() - shut_out


@pytest.mark.parametrize("size", [0, 1, 7, 12, 27, 28, 1000])
def test_a_secret_of_any_length_that_is_sealed_as_it_should_be_is_refused(
    sessions: Sessions, size: int
) -> None:
    """A maker has the server pass on what it would itself refuse: the client says no, and does not crash."""
    sid, secret, K = sessions.honest.server._sid, bytes(size), bytes(32)
    c_sk = sessions.clients[0].state(sessions.honest.heard[0][:1]).c_sk
    keys = decode(ShareCkksKeyRequest, sessions.honest.heard[4][1]).keys
    key = seal_key(c_sk.agree(keys[4][0]), sid, 0, 4)
    sealed = {4: seal(key, K, seal_data(sid, 0, 4, secret), seeded(1))}
    signature = signed(sessions, 0, secret_statement(sid, 0, secret))
    out = sessions.play(request=("input", 4, encode(CiphertextsRequest(0, secret, sealed, signature))))
    assert judged(sessions, out, 4) == "refused"
    assert "a session key of another ring" in str(out.refusals[4])


# Requests for a sum


def clever_sums(sessions: Sessions, u: int, rng: np.random.Generator) -> Iterator[bytes]:
    request = decode(DecryptRequest, sessions.honest.heard[u][-1])
    packed = request.residues
    for survivors in ([], [u], [v for v in IDS if v != u], [*IDS, 9], [*IDS, 4], [4, *IDS], [-1, *IDS]):
        yield encode(DecryptRequest(survivors, packed))
    yield encode(DecryptRequest([0, 1, 4], packed))  # well-formed: another sum's
    yield from (encode(DecryptRequest(request.survivors, memoryview(p))) for p in well_formed(sessions, rng))
    yield from (encode(DecryptRequest(request.survivors, memoryview(p))) for p in ill_formed(sessions, rng))
    for _ in range(3):
        flipped = bytearray(packed) or bytearray(9)
        flipped[int(rng.integers(len(flipped)))] ^= 1 << int(rng.integers(8))
        yield encode(DecryptRequest(request.survivors, memoryview(flipped)))


def test_hostile_requests_for_a_sum_are_refused_or_mislead_their_client_alone(sessions: Sessions) -> None:
    """Where it is to release the sum it is outvoted, and named; where it keeps it, it has another sum."""
    rng, counts, release = np.random.default_rng(2), Counter[str](), sessions.scheme.ending == "release"
    for u in (0, 4):
        for message in clever_sums(sessions, u, rng):
            out = sessions.play(request=("decrypt", u, message))
            counts[judged(sessions, out, u)] += 1
            if out.server.caught:
                assert release
                assert u == 0
    assert counts.keys() == {"refused", "contained"}
    assert counts["refused"] >= 30
    assert counts["contained"] >= 6


def test_hostile_answers_to_it_are_refused_or_outvoted(sessions: Sessions) -> None:
    rng, release = np.random.default_rng(3), sessions.scheme.ending == "release"
    size, counts = 8 * sessions.scheme.plan.slots, Counter[str]()
    extremes = [np.full(size // 8, value, np.int64).tobytes() for value in (-(2**63), 2**63 - 1, 0)]
    numbers = (*extremes, rng.bytes(size), rng.bytes(size + 8))
    clever = [encode(Decrypted(memoryview(data))) for data in numbers]
    for message in clever:
        out = sessions.play(answer=("decrypt", 0, message))
        verdict = judged(sessions, out, 0)
        assert (verdict == "contained") == (out.server.caught.keys() == {0})
        counts[verdict] += 1
    assert counts.keys() == ({"refused", "contained"} if release else {"refused"})


# A server without TenSEAL

SERVER = """
import sys
sys.modules["tenseal"] = None  # an import of it fails
import hashlib, msgspec, numpy as np
from secagg.ckks import CKKS
offer, task, said = msgspec.msgpack.decode(sys.stdin.buffer.read())
offer = msgspec.msgpack.decode(offer)
scheme = msgspec.convert(offer, CKKS)
server = scheme.server(range(5), task, rng=np.random.default_rng(7).bytes)
requests = {}
for round, u, message in said:
    if server.round != round:
        requests = server.advance()
    server.receive(u, message)
server.advance()
asked = {u: hashlib.sha256(request).hexdigest() for u, request in requests.items()}
released = server.result.sum if offer["ending"] == "release" else {}
result = {name: released[name].tolist() for name in released}
print(msgspec.json.encode([asked, sorted(server.result.survivors), result]).decode())
"""


@pytest.mark.parametrize("make", [keeping, releasing])
def test_a_server_needs_no_tenseal(make: Any) -> None:
    """In a process that cannot import it, on what clients said in this one."""
    here = Sessions(make(IDS, VECTORS, roster=None), INPUTS)
    said = [(round, u, message) for (round, u), message in here.honest.said.items()]
    played = msgspec.msgpack.encode((here.scheme.offer(), TASK, said))
    command = [sys.executable, "-c", SERVER]
    there = subprocess.run(command, input=played, capture_output=True, check=True)
    asked, survivors, result = json.loads(there.stdout)
    assert asked == {str(u): hashlib.sha256(heard[-1]).hexdigest() for u, heard in here.honest.heard.items()}
    assert survivors == list(IDS)
    assert result.keys() == (VECTORS.keys() if make is releasing else set())
    for name, values in result.items():
        assert values == here.honest.server.result.sum[name].tolist()


def test_a_client_in_that_process_would_fail() -> None:
    """So that the test above means something."""
    code = SERVER.replace("scheme.server(range(5), task,", "scheme.client(0, None,")
    offer = msgspec.msgpack.encode((keeping(IDS, VECTORS, roster=None).offer(), TASK, []))
    there = subprocess.run([sys.executable, "-c", code], input=offer, capture_output=True)
    assert b"CKKS needs TenSEAL: pip install" in there.stderr
