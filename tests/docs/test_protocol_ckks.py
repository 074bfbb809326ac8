"""What docs/protocol-ckks.md says, recomputed by what stands here, written from the page alone: numbers,
polynomials, and a whole session's bytes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from secagg import CKKS, Aggregate, Bounded, Counts, Recorded, Weight, throwaway_identities
from secagg.ckks.packing import add_residues, pack_residues
from secagg.ckks.ring import Ring, scale_and_capacity
from secagg.ckks.seal import Keys
from tests.docs import protocol_tables as generated
from tests.docs.test_protocol import (
    CKKS_PAGE,
    _bytes_size,
    _header_size,
    _size_of_id,
    code,
    digest,
    packed,
    table,
    transcript,
    words,
)
from tests.docs.test_protocol import section as section_of
from tests.secagg.helpers import hkdf_sha256

Spec = Bounded | Counts | Weight
Integers = NDArray[np.int64]
section = partial(section_of, page=CKKS_PAGE)


# Section 3: the numbers.

MOST = {int(N): int(bits) for N, bits in table(section("3"), "N", "largest modulus, bits")}


@dataclass(frozen=True)
class Numbers:
    N: int
    beta: tuple[int, ...]
    scale: int
    capacity: int
    layouts: Mapping[str, tuple[str, Any, int]]  # name -> (kind, its number, slots)

    @property
    def slots(self) -> int:
        return sum(slots for _, _, slots in self.layouts.values())

    @property
    def ciphertexts(self) -> int:
        return -(-self.slots // self.N)

    @property
    def bytes(self) -> int:
        return self.ciphertexts * sum(2 * self.N * bits // 8 for bits in self.beta)


def is_prime(p: int) -> bool:
    """Miller and Rabin, with the bases that decide below 2^64."""
    if p % 2 == 0:
        return p == 2
    odd, twos = p - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37):
        if base % p == 0:
            continue
        x = pow(base, odd, p)
        if x not in (1, p - 1) and all((x := x * x % p) != p - 1 for _ in range(twos - 1)):
            return False
    return True


def primes_of(N: int, beta: Sequence[int]) -> list[int]:
    found: dict[int, list[int]] = {}
    for bits in set(beta):
        p, largest = 2**bits - (2**bits - 1) % (2 * N), list[int]()
        while len(largest) < beta.count(bits):
            if p < 2**bits and is_prime(p):
                largest.append(p)
            p -= 2 * N
        assert min(largest) > 2 ** (bits - 1)
        found[bits] = sorted(largest, reverse=True)
    return [found[bits].pop() for bits in beta]


@lru_cache(maxsize=1)
def rings() -> list[tuple[int, tuple[int, ...], int]]:
    """(N, beta, Q)."""
    tried = []
    for N, most in MOST.items():
        for B in range(22, min(most - 20, 240) + 1):
            count = math.ceil(B / 60)
            beta = tuple(B // count + (i < B % count) for i in range(count))
            tried.append((N, beta, math.prod(primes_of(N, beta))))
    return tried


def layout_of(spec: Spec, n: int, C: int, ending: str) -> tuple[str, Any, int] | None:
    m = spec.length
    L = 2 ** (spec.bits - 1) - 1 if isinstance(spec, Bounded) else 0
    if isinstance(spec, Bounded) and ending == "release":
        return ("real", C / n, m) if C >= L else None
    h = n * L
    g = h if isinstance(spec, Bounded) else n * spec.maximum
    base = 2 * h + 1 if isinstance(spec, Bounded) else g + 1
    k, weighed = 0, 1
    while k < m and g * weighed <= C:
        k, weighed = k + 1, weighed * base + 1
    if k:
        return "digits", (k, base), -(-m // k)
    bits = int(math.log2(C // n + 1)) if n <= C else 0
    if bits == 0:
        return None
    width = L.bit_length() + 1 if isinstance(spec, Bounded) else spec.maximum.bit_length()
    limbs = -(-width // bits)
    return "limbs", (limbs, 2**bits), limbs * m


def numbers_in(ring: tuple[int, tuple[int, ...], int], n: int, specs: Any, ending: str) -> Numbers | None:
    N, beta, Q = ring
    tau, s = 1, 40 if ending == "release" else 0
    while True:
        e = math.sqrt(2 * (10.5 * n + n**2 * (1 / 12)))
        sigma = math.sqrt(12 * tau) * 2 ** (s / 2) * e if s else 0.0
        worst = math.sqrt(2 * math.log(2**41 * tau * N)) * (math.sqrt(e**2 + sigma**2) * math.sqrt(N / 2))
        unit = 2 ** max(math.floor(math.log2(worst / 0.4)) + 1 - 16, 0)
        scale = math.ceil(worst / 0.4 / unit) * unit
        C = min(Q // 4 // scale, 2**45)
        layouts = {name: layout_of(specs[name], n, C, ending) for name in sorted(specs)}
        if C < 1 or None in layouts.values():
            return None
        found = Numbers(N, beta, scale, C, layouts)  # type: ignore[arg-type]
        if found.ciphertexts <= tau:
            return found
        tau = found.ciphertexts


def numbers_due(n: int, specs: Mapping[str, Spec], ending: str) -> Numbers:
    found = [numbers for ring in rings() if (numbers := numbers_in(ring, n, specs, ending))]
    return min(found, key=lambda numbers: (numbers.bytes, numbers.N))


MIXED: dict[str, Spec] = {
    "update": Bounded(length=5000, bound=0.5, bits=12),
    "loss": Bounded(length=1, bound=16.0),
    "examples": Weight(maximum=5000),
    "correct": Counts(length=3, maximum=2**31),
}


@pytest.mark.parametrize("ending", ["keep", "release"])
@pytest.mark.parametrize("n", [3, 10, 250, 10_000, 1_000_000])
def test_the_numbers_of_a_session_follow_from_the_page(n: int, ending: str) -> None:
    for specs in (MIXED, {"": Counts(length=200_000, maximum=1)}, {"": Bounded(length=70_000, bound=1.0)}):
        scheme = CKKS.for_cohort(n, specs, ending=ending)  # type: ignore[arg-type]
        due, plan = numbers_due(n, specs, ending), scheme.plan
        offered = (scheme.degree, tuple(scheme.prime_bits), scheme.scale)
        assert offered == (due.N, due.beta, due.scale)
        assert (plan.capacity, plan.slots, plan.upload_bytes) == (due.capacity, due.slots, due.bytes)


def test_the_examples_of_numbers_follow_from_the_page() -> None:
    rows = table(section("3"), "n", "ending", "vector", "N", "β", "Δ", "cap", "layout", "S", "Y")
    assert len(rows) == len(generated.CKKS_EXAMPLES)
    for row, (n, ending, spec) in zip(rows, generated.CKKS_EXAMPLES, strict=True):
        due = numbers_due(n, {"": spec}, ending)
        kind, number, slots = due.layouts[""]
        how = {
            "real": lambda unit: f"real, unit = {unit:.6g}",
            "digits": lambda k: f"{k[0]} digits to base {k[1]}",
            "limbs": lambda k: f"{k[0]} limbs of {int(math.log2(k[1]))} bits",
        }[kind](number)
        sizes = ", ".join(map(str, due.beta))
        said = [str(due.N), sizes, str(due.scale), str(due.capacity), how, str(slots), f"{due.bytes:,}"]
        assert row == [str(n), ending, generated.vector_of(spec), *said]


def test_the_primes_are_those_of_the_code() -> None:
    for N, beta, _ in rings():
        assert primes_of(N, beta) == list(Ring(N, beta).primes)
    assert all(primes_of(N, (20,)) == [Ring(N, (30,)).special_prime] for N in MOST)


# Section 4: polynomials. Horner's rule at every point at once; primes below 2^31.


def points(N: int, p: int) -> NDArray[np.uint64]:
    """psi^(2 rev(i) + 1), i = 0..N - 1."""
    psi = generated.least_root(p, N)
    width = N.bit_length() - 1
    return np.array([pow(psi, 2 * int(f"{i:0{width}b}"[::-1], 2) + 1, p) for i in range(N)], np.uint64)


def residues_of(coefficients: Sequence[int], N: int, p: int) -> NDArray[np.uint64]:
    at, value = points(N, p), np.zeros(N, np.uint64)
    for a in reversed(coefficients):
        value = (value * at + np.uint64(int(a) % p)) % np.uint64(p)
    return value


def coefficients_of(residues: NDArray[np.uint64], N: int, p: int) -> Integers:
    """Of which these are the residues: (1 / N) sum r_i x_i^-k, brought into -p / 2..p / 2."""
    inverse = np.array([pow(int(x), -1, p) for x in points(N, p)], np.uint64)
    r, found = residues * np.uint64(pow(N, -1, p)) % np.uint64(p), []
    for _ in range(N):
        found.append(int(r.sum()) % p)
        r = r * inverse % np.uint64(p)
    return np.array([a - p if a > p // 2 else a for a in found])


def roots(N: int) -> NDArray[np.float64]:
    """The angles of zeta^(3^j), by pi / N."""
    return np.array([pow(3, j, 2 * N) for j in range(N // 2)])


def slots_of(m: NDArray[Any], N: int, scale: int) -> NDArray[np.float64]:
    """Re m(zeta^(3^j)), and after X^(-N/2)."""
    angles = np.outer(roots(N), np.arange(N)) % (2 * N) * (math.pi / N)
    cosines = np.cos(angles)
    turned = np.concatenate([m[N // 2 :], -m[: N // 2]])
    return np.concatenate([cosines @ m, cosines @ turned]) / scale


def plaintext_of(v: NDArray[np.float64], N: int, scale: int) -> Integers:
    angles = np.outer(roots(N), np.arange(N)) % (2 * N) * (math.pi / N)
    m1, m2 = (np.rint(scale * 2 / N * half @ np.cos(angles)).astype(np.int64) for half in np.split(v, 2))
    return m1 + np.concatenate([-m2[N // 2 :], m2[: N // 2]])


def noise(rng: np.random.Generator, N: int) -> Integers:
    return rng.binomial(21, 0.5, N) - rng.binomial(21, 0.5, N)


def times(a: Integers, b: Integers, N: int) -> Integers:
    """Of small coefficients, modulo X^N + 1."""
    whole = np.convolve(a, b)
    return whole[:N] - np.append(whole[N:], 0)


def by_crt(parts: Sequence[Integers], primes: Sequence[int]) -> NDArray[np.float64]:
    Q = math.prod(primes)
    terms = [Q // p * pow(Q // p, -1, p) for p in primes]
    sums = [
        sum(int(a) * t for a, t in zip(each, terms, strict=True)) % Q for each in zip(*parts, strict=True)
    ]
    return np.array([float(a - Q if a > Q // 2 else a) for a in sums])


RING = Ring(4096, (31, 30))
SCALE = 2**20


@pytest.fixture(scope="module")
def keys() -> Keys:
    pytest.importorskip("tenseal")
    return Keys(RING, SCALE)


@pytest.fixture(scope="module")
def secret(keys: Keys) -> Integers:
    return coefficients_of(keys.secret()[0], RING.degree, RING.primes[0])


def decrypted(c: NDArray[np.uint64], z: Integers, ring: Ring, scale: int) -> NDArray[np.float64]:
    """(2, l, N) residues -> slots."""
    parts = []
    for i, p in enumerate(ring.primes):
        product = c[1, i] * residues_of(z.tolist(), ring.degree, p) % np.uint64(p)
        parts.append(coefficients_of((c[0, i] + product) % np.uint64(p), ring.degree, p))
    return slots_of(by_crt(parts, ring.primes), ring.degree, scale)


def test_the_secret_key_is_small_and_the_same_modulo_every_prime(keys: Keys, secret: Integers) -> None:
    assert set(secret.tolist()) == {-1, 0, 1}
    assert all(abs((secret == value).mean() - 1 / 3) < 0.05 for value in (-1, 0, 1))
    for p, residues in zip((*RING.primes, RING.special_prime), keys.secret(), strict=True):
        assert (residues_of(secret.tolist(), RING.degree, p) == residues).all()


def test_what_the_package_encrypts_the_page_decrypts(keys: Keys, secret: Integers) -> None:
    v = np.random.default_rng(0).uniform(-100, 100, RING.degree)
    assert np.abs(decrypted(keys.encrypt(v), secret, RING, SCALE) - v).max() < 1e-3


def test_what_the_page_encrypts_the_package_decrypts(keys: Keys, secret: Integers) -> None:
    rng, N = np.random.default_rng(1), RING.degree
    v = rng.uniform(-100, 100, N)
    uniform = rng.integers(-(2**20), 2**20, N)  # small, so that no product leaves 64 bits: it hides nothing
    c0 = plaintext_of(v, N, SCALE) - times(uniform, secret, N) + noise(rng, N)
    residues = np.array([[residues_of(c.tolist(), N, p) for p in RING.primes] for c in (c0, uniform)])
    assert np.abs(keys.decrypt(residues) - v).max() < 1e-3


def test_ciphertexts_are_packed_as_the_page_says() -> None:
    rng = np.random.default_rng(2)
    residues = np.stack([rng.integers(0, p, (2, 2, RING.degree), np.uint64) for p in RING.primes], axis=2)
    due = b"".join(packed(residues[:, :, i].ravel().tolist(), bits) for i, bits in enumerate(RING.prime_bits))
    assert pack_residues(RING, residues) == due


def test_the_examples_of_polynomials() -> None:
    text = section("4")
    for ring in generated.CKKS_RINGS:
        N, beta = ring.degree, ring.prime_bits
        primes = " ".join(map(str, primes_of(N, beta)))
        assert f"primes {primes}, special {primes_of(N, (20,))[0]}\n" in text
    (p,) = primes_of(2048, (22,))
    residues = residues_of([1, 2], 2048, p)
    assert " ".join(str(residues[i]) for i in (0, 1, 2, 2047)) in text
    assert " ".join(f"{g:.6f}" for g in normal(bytes(range(32)), 5)) in text


@pytest.mark.parametrize("sign", [1, -1])
def test_no_coefficient_of_the_largest_slots_leaves_the_modulus(sign: int) -> None:
    """The capacity of section 3 is Q / 4: with these signs a coefficient is 4 / pi times its slots."""
    pytest.importorskip("tenseal")
    n, ring = 3, Ring(4096, (52,))
    scale, capacity = scale_and_capacity(ring, n, 1, 40)
    angles = roots(ring.degree) * (math.pi / ring.degree)
    turned = np.where(roots(ring.degree) % 4 == 1, sign, -sign)  # of X^(N/2)
    signs = np.concatenate([np.sign(np.cos(angles)), np.sign(np.sin(angles)) * turned])
    worst = slots_of(plaintext_of(signs, ring.degree, 2**30), ring.degree, 2**30)
    assert np.abs(plaintext_of(worst, ring.degree, 2**30)).max() > 1.27 * 2**30
    keys, total = Keys(ring, scale), np.zeros((1, 2, 1, ring.degree), np.uint64)
    for _ in range(n):
        add_residues(ring, total, keys.encrypt(signs * (capacity / n))[None])
    assert np.abs(keys.decrypt(total[0]) - signs * capacity).max() < 0.4


# Section 5.3: flooding.


def normal(seed: bytes, count: int) -> NDArray[np.float64]:
    p = -(-count // 2)
    u = [((w >> 11) + 1) * 2.0**-53 for w in words("aes-128-ctr", seed, 2 * p, 8)]
    far = [math.sqrt(-2 * math.log(a)) for a in u[:p]]
    first = [r * math.cos(2 * math.pi * a) for r, a in zip(far, u[p:], strict=True)]
    second = [r * math.sin(2 * math.pi * a) for r, a in zip(far, u[p:], strict=True)]
    return np.array([*first, *second][:count])


# A session, from the secrets that clients draw and what passes the server.

IDS = (0, 5, 130, 300)
VECTORS: dict[str, Spec] = {
    "": Bounded(length=3, bound=2.0, bits=8),
    "count": Counts(length=2, maximum=9),
    "weight": Weight(maximum=10),
}
INPUTS = {u: {"": [1.5, -2.0, 0.25 * i], "count": [i, 9], "weight": 10 - i} for i, u in enumerate(IDS)}
LOST = 300  # before it uploads


@dataclass(frozen=True)
class Session:
    scheme: CKKS
    view: Any
    roster: Any
    results: Mapping[int, Aggregate | None]

    def said(self, round: str, u: int) -> list[Any]:
        return list(
            msgspec.msgpack.decode(
                next(m for r, v, m in self.view.received if (r, v) == (round, u)), strict=True
            )
        )

    def asked(self, round: str, u: int) -> list[Any]:
        return list(
            msgspec.msgpack.decode(next(m for r, v, m in self.view.sent if (r, v) == (round, u)), strict=True)
        )


def drawn(u: int) -> Iterator[bytes]:
    """What client u draws of 32 bytes: c_u^SK, K, and then no more."""
    yield from (hashlib.sha256(bytes([which]) + u.to_bytes(4, "big")).digest() for which in (1, 2))


def played(ending: str) -> Session:
    pytest.importorskip("tenseal")
    roster, identities = throwaway_identities(IDS)
    scheme = CKKS.for_cohort(4, VECTORS, ending=ending, roster=roster)  # type: ignore[arg-type]
    server = Recorded(scheme.server(IDS, b"task", roster=roster, rng=lambda size: bytes([7]) * size))

    def rng(draws: Iterator[bytes], size: int) -> bytes:
        return next(draws) if size == 32 else bytes([9]) * size

    clients = {
        u: scheme.client(
            u,
            lambda task, x=INPUTS[u]: x,
            rounding_seed=bytes(32),
            identity=identities[u],
            rng=partial(rng, drawn(u)),
        )
        for u in IDS
    }
    outbox: dict[int, bytes | None] = {u: client.start() for u, client in clients.items()}
    while server.result is None:
        for u, message in outbox.items():
            if message is not None and (u != LOST or server.round != "input"):
                server.receive(u, message)
        outbox = {u: clients[u].receive(request) for u, request in server.advance().items()}
    return Session(scheme, server.view, roster, {u: client.result for u, client in clients.items()})


@pytest.fixture(scope="module", params=["keep", "release"])
def session(request: pytest.FixtureRequest) -> Session:
    return played(request.param)


def signed(session: Session, u: int, statement: bytes, signature: bytes) -> bool:
    Ed25519PublicKey.from_public_bytes(session.roster.keys[u]).verify(signature, statement)  # or raises
    return True


@dataclass(frozen=True)
class Known:
    """What a client of the page knows once it has opened the maker's key."""

    sid: bytes
    K: bytes
    z: Integers
    plain: list[Integers]  # residues of z, by prime


def known(session: Session) -> Known:
    """As client 5 learns it."""
    parameters = digest("parameters", session.scheme.offer())
    context, nonce = digest("context", b"task"), bytes([7]) * 32
    name, listed = session.asked("share-keys", 5)
    assert (name, list(listed)) == ("share-ckks-key-request", list(IDS))
    for v, (c_pk, signature) in listed.items():
        parts = [parameters, session.roster.digest, context, nonce, v, c_pk]
        assert signed(session, v, transcript("sign-ckks-key", parts), signature)
    joined = b"".join(v.to_bytes(4, "big") + c_pk for v, (c_pk, _) in listed.items())
    sid = digest("ckks-session", nonce, parameters, context, joined)
    name, maker, secret, sealed, signature = session.asked("input", 5)
    assert (name, maker, list(sealed)) == ("ciphertexts-request", 0, [5, 130, 300])
    assert signed(session, 0, transcript("sign-ckks-secret", [sid, 0, secret]), signature)
    own = X25519PrivateKey.from_private_bytes(next(drawn(5)))
    assert own.public_key().public_bytes_raw() == listed[5][0]
    c_uv = own.exchange(X25519PublicKey.from_public_bytes(listed[0][0]))
    opens = hkdf_sha256(c_uv, sid, transcript("ckks-seal-key", [0, 5]), 32)
    data = digest("ckks-seal-data", sid, 0, 5, secret)
    K = AESGCM(opens).decrypt(sealed[5][:12], sealed[5][12:], data)
    assert list(drawn(0))[1] == K
    opened = AESGCM(hkdf_sha256(K, sid, transcript("ckks-secret-key", [0]), 32)).decrypt(
        secret[:12], secret[12:], sid
    )
    N, primes = session.scheme.degree, primes_of(session.scheme.degree, session.scheme.prime_bits)
    assert len(opened) == 8 * N * (len(primes) + 1)
    plain = list(np.frombuffer(opened, "<u8").reshape(-1, N))
    (special,) = primes_of(N, (20,))
    return Known(sid, K, coefficients_of(plain[-1].astype(np.uint64), N, special), plain)


def test_a_client_of_the_page_opens_the_key_and_it_is_one(session: Session) -> None:
    key = known(session)
    assert set(key.z.tolist()) == {-1, 0, 1}
    for u in IDS[:3]:
        name, secret, sealed, signature = session.said("share-keys", u)
        assert (name, list(sealed)) == ("share-ckks-key", [v for v in IDS if v != u])
        assert signed(session, u, transcript("sign-ckks-secret", [key.sid, u, secret]), signature)
    assert session.said("share-keys", 300) == ["share-ckks-key", b"", {}, b""]


def test_uploads_are_digested_and_signed_as_the_page_says(session: Session) -> None:
    sid = known(session).sid
    for u in IDS[:3]:
        _, residues, said, signature = session.said("input", u)
        assert said == digest("ckks-upload", sid, u, residues)
        assert signed(session, u, transcript("sign-ckks-upload", [sid, u, said]), signature)


def read_packed(data: bytes, bits: int) -> list[int]:
    whole = int.from_bytes(data, "little")
    return [whole >> bits * i & 2**bits - 1 for i in range(8 * len(data) // bits)]


def ciphertexts(data: bytes, N: int, beta: Sequence[int], count: int) -> list[list[Any]]:
    """[ciphertext][c_0 or c_1][prime] -> (N,) Python's integers."""
    parts, at = [], 0
    for bits in beta:
        size = count * 2 * N * bits // 8
        parts.append(np.array(read_packed(data[at : at + size], bits), object).reshape(count, 2, N))
        at += size
    assert at == len(data)
    return [[[part[c, which] for part in parts] for which in (0, 1)] for c in range(count)]


def sum_of(session: Session) -> tuple[Known, Numbers, bytes]:
    """The sum of the uploads, residue by residue, as bytes: what the releasers were sent."""
    due = numbers_due(4, VECTORS, session.scheme.ending)
    primes = primes_of(due.N, due.beta)
    uploads = [ciphertexts(session.said("input", u)[1], due.N, due.beta, due.ciphertexts) for u in IDS[:3]]
    data = b""
    for i, p in enumerate(primes):
        flat = [
            sum(upload[c][which][i] for upload in uploads) % p
            for c in range(due.ciphertexts)
            for which in (0, 1)
        ]
        data += packed([int(x) for x in np.concatenate(flat)], due.beta[i])
    return known(session), due, data


def interpolated(residues: NDArray[Any], N: int, p: int) -> list[int]:
    """As `coefficients_of`, in Python's integers."""
    inverse = np.array([pow(int(x), -1, p) for x in big_points(N, p)], object)
    r, found = residues * pow(N, -1, p) % p, []
    for _ in range(N):
        found.append(int(r.sum()) % p)
        r = r * inverse % p
    return [a - p if a > p // 2 else a for a in found]


def big_points(N: int, p: int) -> list[int]:
    psi, width = generated.least_root(p, N), N.bit_length() - 1
    return [pow(psi, 2 * int(f"{i:0{width}b}"[::-1], 2) + 1, p) for i in range(N)]


def slots_by_page(key: Known, due: Numbers, data: bytes) -> NDArray[np.float64]:
    (p,) = primes_of(due.N, due.beta)
    values = []
    for c0, c1 in ciphertexts(data, due.N, due.beta, due.ciphertexts):
        m = interpolated((c0[0] + c1[0] * key.plain[0].astype(object)) % p, due.N, p)
        values.append(slots_of(np.array(m, np.float64), due.N, due.scale))
    return np.concatenate(values)[: due.slots]


CODES = {"": [3 * 95, -3 * 127, 16 * 3], "count": [3, 27], "weight": [27]}
"""Of the survivors, about: 1.5, -2 and 0.25 i times (10 - i) / 10, at 127 for 2."""


def test_the_sum_is_decrypted_and_released_as_the_page_says(session: Session) -> None:
    key, due, data = sum_of(session)
    names = sorted(VECTORS)
    for u in IDS[:3]:
        assert session.asked("decrypt", u) == ["decrypt-request", list(IDS[:3]), data]
    slots = slots_by_page(key, due, data)
    released = [session.said("decrypt", u)[1] for u in IDS[:3]]
    if session.scheme.ending == "keep":
        assert released == [b""] * 3
    else:
        asked = digest("ckks-sum", key.sid, data)
        seed = hkdf_sha256(key.K, key.sid, transcript("ckks-flooding", [asked]), 32)
        e = math.sqrt(2 * (10.5 * 4 + 4**2 * (1 / 12)))
        sigma = math.sqrt(12 * due.ciphertexts) * 2**20 * e
        flooded = slots + sigma * math.sqrt(due.N / 2) / due.scale * normal(seed, due.slots)
        for each in released:
            assert np.abs(np.frombuffer(each, "<i8") - flooded * 128).max() <= 1
        slots = np.frombuffer(released[0], "<i8") / 128
    result = session.results[5] if session.scheme.ending == "keep" else session.view.aggregate
    weighed = [sum(INPUTS[u]["weight"] * INPUTS[u][""][i] for u in IDS[:3]) for i in range(3)]
    at = 0
    for name in names:
        kind, number, count = due.layouts[name]
        mine, at = slots[at : at + count], at + count
        spec = VECTORS[name]
        if kind == "real":
            read = mine / number * 2.0 * 10
            assert read == pytest.approx(weighed, abs=3 * 0.41 / number * 20)
        else:
            h = 4 * (2**7 - 1) if isinstance(spec, Bounded) else 0
            read = unfolded(np.rint(mine).astype(np.int64), kind, number, h, spec.length)
            if isinstance(spec, Bounded):
                read = read * (2.0 / 127) * 10
                assert read == pytest.approx(weighed, abs=3 * 20 / 127)
            else:
                due_sum = [sum(np.ravel(INPUTS[u][name])[i] for u in IDS[:3]) for i in range(spec.length)]
                assert read.tolist() == due_sum
        assert result.sum[name] == pytest.approx(read)


def unfolded(slots: Integers, kind: str, number: Any, h: int, m: int) -> NDArray[Any]:
    if kind == "limbs":
        limbs, base = number
        return sum(part * base**i for i, part in enumerate(slots.reshape(limbs, m)))  # type: ignore[return-value]
    k, base = number
    digits = []
    for slot in slots.tolist():
        for _ in range(k - 1):
            digit = (slot + h) % base - h
            digits.append(digit)
            slot = (slot - digit) // base
        digits.append(slot)
    return np.array(digits[:m])


# Section 7.


def test_the_sizes_of_messages_are_those_of_the_page(session: Session) -> None:
    due, U1, U3 = numbers_due(4, VECTORS, session.scheme.ending), frozenset(IDS), frozenset(IDS[:3])

    def ids(U: frozenset[int]) -> int:
        return _header_size(len(U)) + sum(map(_size_of_id, U))

    names = {
        **{"U1": U1, "U3": U3, "maker": 0, "sig": 66, "ids": ids, "id": _size_of_id},
        "map": lambda U, each: ids(U) + len(U) * each,
        "key": _bytes_size(8 * due.N * (len(due.beta) + 1) + 28),
        "upload": _bytes_size(due.bytes),
        "released": _bytes_size(8 * due.slots),
    }
    rows = {
        (code(message)[0], who): formula
        for message, who, formula in table(section("7"), "message", "of or to", "bytes")
    }

    def size(name: str, who: str, u: int) -> int:
        return int(eval(rows[name, who], {**names, "u": u, "name": 2 + len(name)}))  # noqa: S307

    release = session.scheme.ending == "release"
    checked = set()
    for recorded in (session.view.received, session.view.sent):
        for _, u, message in recorded:
            name = str(msgspec.msgpack.decode(message)[0])
            who = {
                "share-ckks-key": "another" if u == 300 else "a maker",
                "decrypt-request": "who decrypts",
                "decrypted": "a releaser" if release else "another",
            }.get(name, "all")
            if name not in ("join", "task"):
                assert len(message) == size(name, who, u), (name, u)
                checked.add((name, who))
    left = {("decrypt-request", "another"), ("decrypted", "a releaser"), ("decrypted", "another")}
    assert rows.keys() - checked <= left


def test_the_sizes_table_has_every_message_of_ckks() -> None:
    listed = {code(row[0])[0] for row in table(section("7"), "message", "of or to", "bytes")}
    kinds = {generated.tag_of(kind) for kind in generated.message_kinds(ckks=True)}
    assert listed == kinds
