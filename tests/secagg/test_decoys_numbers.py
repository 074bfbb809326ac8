"""The numbers of decoys: products of polynomials, what a ring carries in the worst case, and bytes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import Bounded, Counts, Decoys, LocalProtocolError, RemoteProtocolError, Weight
from secagg.ckks.packing import residues_of_key
from secagg.ckks.ring import MAX_MODULUS_BITS, Ring
from secagg.decoys.plan import ERROR_BOUND, Plan, coordinate_bits, smallest, worst_noise
from secagg.decoys.seal import SelectorKeys
from secagg.decoys.transform import slot_order, transform
from tests.secagg.helpers_ckks import least_root, secret_coefficients

SMALL = Bounded(length=5, bound=1.0, bits=6)
PLAN: Any = smallest(3, 2, (("", SMALL),))
KEYS = SelectorKeys(PLAN.ring, PLAN.modulus)


def times(a: np.ndarray, b: np.ndarray, N: int, q: int) -> np.ndarray:
    """The product modulo X^N + 1 and q, by its definition."""
    whole = np.convolve(a.astype(object), b.astype(object))
    return (whole[:N] - np.append(whole[N:], 0)) % q


# The transform


@pytest.mark.parametrize(("degree", "q"), [(8, 17), (64, 257), (1024, 12289), (1024, 1073707009)])
def test_products_of_values_are_products_of_polynomials(degree: int, q: int) -> None:
    rng, t = np.random.default_rng(degree), transform(degree, q)
    a, b = rng.integers(0, q, (2, degree), np.uint64)
    a[:3] = q - 1  # the largest there is, where sums and products are
    product = t.back(t.forward(a) * t.forward(b) % np.uint64(q))
    assert product.tolist() == times(a, b, degree, q).tolist()


def test_values_stand_in_their_natural_order() -> None:
    degree, q = 16, 97
    psi = next(r for r in range(2, q) if pow(r, degree, q) == q - 1)
    a = np.arange(1, degree + 1, dtype=np.uint64)
    at = [sum(int(c) * pow(psi, (2 * k + 1) * i, q) for i, c in enumerate(a)) % q for k in range(degree)]
    assert transform(degree, q).forward(a).tolist() == at


def test_many_polynomials_are_transformed_as_each_alone() -> None:
    t = transform(64, 257)
    many = np.random.default_rng(0).integers(0, 257, (3, 7, 64), np.uint64)
    assert (t.forward(many) == np.array([[t.forward(one) for one in row] for row in many])).all()
    assert (t.back(t.forward(many)) == many).all()


def test_the_root_is_that_of_seal() -> None:
    ring = Ring(2048, (22,))
    assert transform(2048, ring.primes[0])._twist[1] == least_root(ring, 0)


def test_every_slot_has_one_place() -> None:
    assert sorted(slot_order(4096)) == list(range(4096))


# BFV


def test_a_selector_times_a_candidate_decrypts_to_the_candidate_or_to_zero() -> None:
    ring, t = PLAN.ring, PLAN.modulus
    x = np.random.default_rng(0).integers(-32, 32, ring.degree)
    for number in (0, 1, 2):
        selector, product = KEYS.encrypt(number), np.empty((2, len(ring.primes), ring.degree), np.uint64)
        for i, q in enumerate(ring.primes):
            values = transform(ring.degree, q)
            at = values.forward(np.mod(x, q).astype(np.uint64))
            product[:, i] = values.back(values.forward(selector[:, i]) * at % np.uint64(q))
        assert KEYS.decrypt(product).tolist() == (number * x % t).tolist()


def test_a_key_that_is_given_out_decrypts_where_it_is_taken_in() -> None:
    secret = KEYS.secret()
    taken = SelectorKeys(PLAN.ring, PLAN.modulus, residues_of_key(PLAN.ring, secret.tobytes()))
    assert (taken.secret() == secret).all()
    assert taken.decrypt(KEYS.encrypt(7)).tolist() == [7] + [0] * (PLAN.ring.degree - 1)
    other = SelectorKeys(PLAN.ring, PLAN.modulus).decrypt(KEYS.encrypt(7))
    assert np.count_nonzero(other) > PLAN.ring.degree / 2


def test_two_selectors_of_the_same_differ_in_every_residue() -> None:
    assert np.count_nonzero(KEYS.encrypt(1) == KEYS.encrypt(1)) < 10


def test_the_error_of_a_fresh_selector_is_within_the_bound_that_the_ring_was_chosen_for() -> None:
    ring, t = PLAN.ring, PLAN.modulus
    q, Q = ring.primes[0], math.prod(ring.primes)
    values = transform(ring.degree, q)
    secret = values.forward(np.mod(secret_coefficients(ring, KEYS).astype(np.int64), q).astype(np.uint64))
    errors = []
    for number in (0, 1) * 5:
        c0, c1 = KEYS.encrypt(number)[:, 0]
        phase = (c0 + values.back(values.forward(c1) * secret % np.uint64(q))) % np.uint64(q)
        phase = phase.astype(np.int64)
        phase[0] -= (2 * Q * number + t) // (2 * t) % q
        errors.append((phase + q // 2) % q - q // 2)
    assert np.abs(errors).max() <= ERROR_BOUND
    assert np.std(errors) == pytest.approx(math.sqrt(ERROR_BOUND / 2), rel=0.05)


@pytest.mark.parametrize(("clients", "candidates", "bits"), [(3, 2, 6), (256, 8, 16), (1000, 64, 12)])
def test_a_sum_with_the_worst_noise_there_can_be_is_exact_and_with_four_times_as_much_it_is_not(
    clients: int, candidates: int, bits: int
) -> None:
    """Ciphertexts of chosen noise: c1 is zero, and c0 is Q/t times the sum, off by it."""
    spec = Bounded(length=1, bound=1.0, bits=bits)
    plan: Any = smallest(clients, candidates, (("", spec),))
    ring, t = plan.ring, plan.modulus
    keys, Q = SelectorKeys(ring, t), math.prod(plan.ring.primes)
    worst, most = worst_noise(ring, clients, candidates, [spec]), clients * 2 ** (bits - 1)
    sums = np.array([most, -most, most - 1, 1 - most, 0, 1, -1], object)

    def decrypted(noise: int) -> list[int]:
        c0 = np.zeros(ring.degree, object)
        c0[: len(sums)] = [(2 * Q * int(m) + t) // (2 * t) + noise for m in sums]
        residues = np.zeros((2, len(ring.primes), ring.degree), np.uint64)
        for i, q in enumerate(ring.primes):
            residues[0, i] = (c0 % q).astype(np.uint64)
        return keys.decrypt(residues)[: len(sums)].tolist()

    due = (sums % t).tolist()
    assert decrypted(worst) == decrypted(-worst) == due
    beyond = Q // (2 * t) + 2**20
    assert worst <= Q // (4 * t) < beyond
    assert decrypted(beyond) != due != decrypted(-beyond)


# The plan


@given(
    clients=st.integers(3, 10**4),
    candidates=st.integers(2, 64),
    bits=st.integers(2, 16),
    maximum=st.integers(1, 2**16),
)
@settings(deadline=None, max_examples=60)
def test_a_plan_holds_every_sum_and_the_noise_of_the_worst(
    clients: int, candidates: int, bits: int, maximum: int
) -> None:
    specs: Any = {"": Bounded(length=9, bound=1.0, bits=bits), "c": Counts(length=3, maximum=maximum)}
    plan = smallest(clients, candidates, tuple(specs.items()))
    if plan is None:
        assert clients * max(2**bits, 2 * maximum) > 2**29
        return
    ring, t = plan.ring, plan.modulus
    assert ring.secure
    assert ring.modulus_bits <= MAX_MODULUS_BITS[ring.degree]
    assert t % (2 * ring.degree) == 1
    assert t not in (*ring.primes, ring.special_prime)
    assert t > clients * (2**bits - 1)
    assert t > clients * maximum
    # Of a product of a selector and a candidate: N coordinates times an error each, and the rounding.
    coordinate = max(2 ** (bits - 1), 2 ** coordinate_bits(specs["c"]) - 1)
    noise = clients * candidates * coordinate * (ring.degree * ERROR_BOUND + 0.5)
    assert noise < math.prod(ring.primes) / (4 * t)


@pytest.mark.parametrize(
    ("clients", "spec"),
    [
        (2**14 + 1, Bounded(length=1, bound=1.0)),
        (3, Bounded(length=1, bound=1.0, bits=32)),
        (3, Weight(maximum=2**29)),
    ],
)
def test_what_no_ring_carries_is_refused(clients: int, spec: Any) -> None:
    with pytest.raises(
        LocalProtocolError, match=r"8 candidates of each of .* clients with these vectors could overflow"
    ):
        Decoys.for_cohort(clients, spec)


def test_degree_4096_serves_256_clients_at_16_bits() -> None:
    scheme = Decoys.for_cohort(256, Bounded(length=10**5, bound=1.0), candidates=10)
    assert (scheme.degree, scheme.modulus.bit_length()) == (4096, 25)
    assert sum(scheme.prime_bits) == 69


# Candidates as bytes

MANY: Any = smallest(
    5,
    3,
    (
        ("b", Bounded(length=5000, bound=1.0, bits=11)),
        ("c", Counts(length=7, maximum=9)),
        ("w", Weight(maximum=4)),
    ),
)


def codes_of(plan: Plan, seed: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [
        {
            name: rng.integers(0, 1 << coordinate_bits(spec), spec.length).astype(np.uint32)
            for name, spec in plan.specs.items()
        }
        for _ in range(plan.candidates)
    ]


def test_candidates_come_back_from_their_bytes_as_signed_integers_in_polynomials() -> None:
    codes = codes_of(MANY, 0)
    packed = MANY.pack(codes)
    assert len(packed) == 3 * MANY.candidate_bytes == 3 * (5000 * 11 // 8 + 4 + 1)
    MANY.check(packed)
    for x, own in zip(MANY.unpack(packed), codes, strict=True):
        assert x.shape == (2, 4096)
        signed = own["b"].astype(np.int64)
        signed[signed >= 2**10] -= 2**11
        due = [*signed, *own["c"], *own["w"]]
        assert x.ravel().tolist() == due + [0] * (2 * 4096 - len(due))


def test_sums_come_back_from_their_coefficients() -> None:
    t = MANY.modulus
    sums = {"b": np.arange(-2500, 2500), "c": np.full(7, 75), "w": np.array([20])}
    flat = np.concatenate([sums[name] for name in "bcw"]) % t
    padded = np.zeros((2, 4096), np.uint64)
    padded.ravel()[: len(flat)] = flat
    assert {name: x.tolist() for name, x in MANY.sums(padded).items()} == {
        n: x.tolist() for n, x in sums.items()
    }


def test_candidates_of_another_length_or_with_bits_behind_the_last_are_refused() -> None:
    packed = bytearray(MANY.pack(codes_of(MANY, 0)))
    for other in (packed[:-1], packed + b"\0", b""):
        with pytest.raises(RemoteProtocolError, match=f"candidates of {len(other)} bytes, not {len(packed)}"):
            MANY.check(bytes(other))
    packed[-1] |= 0x80  # the last vector is a weight of three bits
    with pytest.raises(RemoteProtocolError, match="bits behind the last coordinate are set"):
        MANY.check(bytes(packed))
