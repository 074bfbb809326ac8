"""What docs/protocol-ckks.md says of polynomials and slots is what the package encrypts, decrypts and reads.
That its numbers, keys and signatures follow from the page is proved in tests/vectors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from secagg.ckks.packing import add_residues, pack_residues, residues_of_key, unpack_residues
from secagg.ckks.ring import Ring, scale_and_capacity
from secagg.ckks.seal import Keys
from tests.docs import protocol_tables as generated
from tests.vectors import independent as i
from tests.vectors import independent_ckks as ckks

Integers = NDArray[np.int64]


# Section 4: polynomials. Horner's rule at every point at once; primes below 2^31.


def points(N: int, p: int) -> NDArray[np.uint64]:
    return np.array(generated.points(N, p), np.uint64)


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
    for k, p in enumerate(ring.primes):
        product = c[1, k] * residues_of(z.tolist(), ring.degree, p) % np.uint64(p)
        parts.append(coefficients_of((c[0, k] + product) % np.uint64(p), ring.degree, p))
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
    due = b"".join(
        i.pack_bits(residues[:, :, k].ravel().tolist(), bits) for k, bits in enumerate(RING.prime_bits)
    )
    assert pack_residues(RING, residues) == due


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


# Section 5: what is released, and how it is read


@pytest.mark.parametrize("ending", ["keep", "release"])
def test_a_sum_of_several_vectors_is_released_and_read_as_the_page_says(ending: str) -> None:
    """Three of four clients: real numbers, digits of signed and unsigned numbers, limbs."""
    pytest.importorskip("tenseal")
    played = generated.ckks_session(ending)
    survivors = generated.CKKS_IDS[:-1]
    numbers = i.unpack(played.scheme.offer())
    plan = ckks.plan(4, numbers["vectors"], ending)
    slots, flooding_seed = opened(played)
    asked = {u: played.fields(u, "decrypted") for u in survivors}
    if ending == "release":
        normal = ckks.normal(flooding_seed, plan["slots"])
        due = [ckks.released(slot, g, 4, numbers) for slot, g in zip(slots, normal, strict=True)]
        for (released,) in asked.values():
            assert np.abs(np.frombuffer(released, "<i8") - due).max() <= 1
        slots = np.frombuffer(asked[survivors[0]][0], "<i8") / 128
    else:
        assert list(asked.values()) == [[b""]] * 3
    at = 0
    for name, layout in plan["layouts"].items():
        mine, at = slots[at : at + layout["slots"]], at + layout["slots"]
        summed = np.sum([generated.weighed(u, name) for u in survivors], axis=0)
        if "real" in layout:  # times r and w_max; within the bound of section 5.4
            read, off = mine / layout["real"] * 20, (0.4 + 1 / 256) / layout["real"] * 20
        elif name == "":
            codes = unfolded(np.rint(mine).astype(int), layout, 4 * 127, 3)
            read, off = codes * (2 / 127) * 10, 3 * 20 / 127  # a step of each, as they are rounded
        else:
            read, off = unfolded(np.rint(mine).astype(int), layout, 0, len(summed)), 0
        assert read == pytest.approx(summed, abs=off)
        assert played.result.sum[name] == pytest.approx(read)
    assert at == len(slots)


def opened(played: Any) -> tuple[NDArray[np.float64], bytes]:
    """(the slots of the sum, the seed of its flooding), from what the first client was sent."""
    scheme, u = played.scheme, generated.CKKS_IDS[1]
    nonce, task = played.fields(u, "task")
    (keys,) = played.fields(u, "share-ckks-key-request")
    sid = ckks.Terms(scheme.offer(), task, nonce).sid(keys)
    maker, secret, _, _ = played.fields(u, "ciphertexts-request")
    key = residues_of_key(scheme.plan.ring, i.unseal(ckks.secret_key(played.K, sid, maker), secret, sid))
    _, residues = played.fields(u, "decrypt-request")
    ciphertexts = unpack_residues(scheme.plan.ring, scheme.plan.ciphertexts, residues)
    decrypt = Keys(scheme.plan.ring, scheme.plan.scale, key).decrypt
    slots = np.concatenate([decrypt(each) for each in ciphertexts])[: scheme.plan.slots]
    return slots, ckks.flooding_seed(played.K, sid, bytes(residues))


def unfolded(slots: Integers, layout: Any, half: int, m: int) -> Integers:
    """Section 5.3: limbs, or digits from the lowest on."""
    if "limbs" in layout:
        parts = slots.reshape(layout["limbs"], m)
        return np.sum([part << layout["bits"] * k for k, part in enumerate(parts)], axis=0)
    digits, base = [], layout["base"]
    for slot in slots.tolist():
        for _ in range(layout["digits"] - 1):
            digits.append((slot + half) % base - half)
            slot = (slot - digits[-1]) // base
        digits.append(slot)
    return np.array(digits[:m])
