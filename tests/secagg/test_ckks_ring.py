"""Rings are those of the standard's table, their primes those of SEAL, and noise is what the formulas say."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from secagg.ckks.packing import add_residues, pack_residues
from secagg.ckks.ring import (
    ERROR_VARIANCE,
    MAX_PRIME_BITS,
    SPECIAL_BITS,
    Ring,
    flooding_noise,
    fresh_noise,
    rings,
    scale_and_capacity,
    slot_noise,
    statistical_security,
    tail,
)
from secagg.ckks.seal import Keys
from tests.secagg.helpers_ckks import polynomial, slots_of_power

# Albrecht et al., "Homomorphic Encryption Standard" (2018), table 1: secrets ternary, classical, 128 bits.
TABLE = {2048: 54, 4096: 109, 8192: 218, 16384: 438}

every_ring = st.sampled_from(list(rings()))


# The standard's table


def test_every_ring_is_within_the_standards_table_with_the_special_prime() -> None:
    found = list(rings())
    assert {ring.degree for ring in found} == TABLE.keys()
    for ring in found:
        assert ring.modulus_bits == sum(ring.prime_bits) + SPECIAL_BITS <= TABLE[ring.degree]
        assert ring.secure
        assert ring.degree == ring.slots


@pytest.mark.parametrize(("degree", "largest"), TABLE.items())
def test_the_largest_ring_of_a_degree_is_the_tables_or_has_four_primes(degree: int, largest: int) -> None:
    of_degree = [sum(ring.prime_bits) for ring in rings() if ring.degree == degree]
    assert max(of_degree) == min(largest - SPECIAL_BITS, 4 * MAX_PRIME_BITS)
    assert len(set(of_degree)) == len(of_degree)


@pytest.mark.parametrize(("degree", "largest"), TABLE.items())
def test_a_ring_one_bit_above_the_table_is_not_secure(degree: int, largest: int) -> None:
    room = largest - SPECIAL_BITS
    assert Ring(degree, (room,)).secure
    assert not Ring(degree, (room + 1,)).secure
    assert not Ring(degree, (room - 22, 23)).secure


@pytest.mark.parametrize("degree", [1024, 3000, 32768])
def test_a_degree_that_is_not_in_the_table_is_not_secure(degree: int) -> None:
    assert not Ring(degree, (22,)).secure


def test_the_primes_of_a_ring_differ_by_a_bit_at_most_and_fit_seal() -> None:
    for ring in rings():
        assert max(ring.prime_bits) - min(ring.prime_bits) <= 1
        assert min(ring.prime_bits) > SPECIAL_BITS
        assert max(ring.prime_bits) <= MAX_PRIME_BITS


# Primes


def test_primes_have_their_sizes_and_are_one_modulo_2n() -> None:
    for ring in rings():
        both = (*ring.primes, ring.special_prime)
        assert [q.bit_length() for q in both] == [*ring.prime_bits, SPECIAL_BITS]
        assert all(q % (2 * ring.degree) == 1 for q in both)
        assert len(set(both)) == len(both)


@pytest.mark.parametrize(
    "ring",
    [
        *(Ring(2048, (bits,)) for bits in (22, 27, 34)),
        *(Ring(4096, sizes) for sizes in [(60,), (31, 30), (30, 30), (30, 30, 29)]),
        *(Ring(8192, sizes) for sizes in [(60, 60, 60), (50, 49, 49, 49)]),
        Ring(16384, (60, 60, 60, 60)),
    ],
    ids=str,
)
def test_primes_are_those_that_seal_takes(ring: Ring) -> None:
    sealapi: Any = importlib.import_module("tenseal.sealapi")
    taken = sealapi.CoeffModulus.Create(ring.degree, [*ring.prime_bits, SPECIAL_BITS])
    assert [modulus.value() for modulus in taken] == [*ring.primes, ring.special_prime]


@pytest.mark.parametrize("ring", [Ring(4096, (30, 30, 29)), Ring(4096, (45, 44)), Ring(2048, (34,))], ids=str)
def test_fresh_ciphertexts_fill_each_prime_and_decrypt(ring: Ring) -> None:
    keys, x = Keys(ring, 2**20), np.random.default_rng(0).uniform(-9, 9, ring.slots)
    ciphertext = keys.encrypt(x)
    largest = [int(ciphertext[:, i].max()) for i in range(len(ring.primes))]
    # A uniform residue misses the uppermost 64th of its range; all 2N do with probability e^-64 at most.
    assert all(63 * q // 64 < top < q for top, q in zip(largest, ring.primes, strict=True))
    assert np.abs(keys.decrypt(ciphertext) - x).max() < 0.01


def test_a_size_with_too_few_primes_is_an_error() -> None:
    with pytest.raises(ValueError, match="there are no 1 primes of 12 bits that are 1 modulo 4096"):
        _ = Ring(2048, (12,)).primes


# Bytes


def test_a_ciphertext_has_two_polynomials_of_n_residues_of_each_prime() -> None:
    assert Ring(2048, (27,)).ciphertext_bytes == 2 * 2048 * 27 // 8 == 13824
    assert Ring(4096, (31, 30)).ciphertext_bytes == 2 * 4096 * 61 // 8
    assert Ring(4096, (31, 30)).key_bytes == 8 * 4096 * 3  # the special prime's residues with it


@given(every_ring)
def test_bytes_are_those_that_are_packed(ring: Ring) -> None:
    nothing = np.zeros((1, 2, len(ring.primes), ring.degree), np.uint64)
    assert len(pack_residues(ring, nothing)) == ring.ciphertext_bytes


# Noise


def test_fresh_noise_by_hand() -> None:
    # SEAL's centred binomial of 21 pairs: 21 of variance 1/2. One client: sqrt(2 (10.5 + 1/12)).
    assert ERROR_VARIANCE == 21 / 2
    assert fresh_noise(Ring(4096, (40,)), 1) == pytest.approx(4.600724580614)
    assert fresh_noise(Ring(2048, (30,)), 12) == pytest.approx(math.sqrt(2 * (126 + 12)))


def sum_of(keys: Keys, ring: Ring, vectors: list[Any]) -> Any:
    """The sum of fresh encryptions, decrypted."""
    total = np.zeros((1, 2, len(ring.primes), ring.degree), np.uint64)
    for x in vectors:
        add_residues(ring, total, keys.encrypt(x)[None])
    return keys.decrypt(total[0])


@pytest.mark.parametrize("ring", [Ring(2048, (34,)), Ring(4096, (31, 30))], ids=str)
def test_the_noise_of_a_sum_of_fresh_ciphertexts_is_what_the_formula_says(ring: Ring) -> None:
    """2^16 slots: two percent are seven standard errors."""
    clients, sums = 2, 2**16 // ring.slots
    scale, capacity = scale_and_capacity(ring, clients, sums, 0)
    keys, rng = Keys(ring, scale), np.random.default_rng(1)
    errors = []
    for _ in range(sums):
        vectors = [rng.uniform(-1, 1, ring.slots) * min(capacity / clients, 2**30) for _ in range(clients)]
        errors.append(sum_of(keys, ring, vectors) - np.sum(vectors, axis=0))
    measured = np.std(errors)
    assert measured == pytest.approx(slot_noise(ring, clients, sums, 0) / scale, rel=0.02)
    assert abs(np.mean(errors)) < 5 * measured / 2**8
    assert np.abs(errors).max() < 0.4


def test_where_all_clients_encrypt_the_same_its_rounding_adds_up() -> None:
    """Independent rounding would be a fifth less, and among a thousand clients a third: sums were not exact.

    4096 slots, in which the part that is drawn here varies: five percent are six standard errors.
    """
    ring, clients = Ring(4096, (41,)), 64
    scale, capacity = scale_and_capacity(ring, clients, 1, 0)
    x = np.random.default_rng(2).uniform(-1, 1, ring.slots) * capacity / clients
    error = sum_of(Keys(ring, scale), ring, [x] * clients) - clients * x
    independent = math.sqrt(2 * clients * (10.5 + 1 / 12)) / fresh_noise(ring, clients)
    assert independent < 0.85
    assert np.std(error) == pytest.approx(slot_noise(ring, clients, 1, 0) / scale, rel=0.05)


def test_flooding_noise_by_hand() -> None:
    # sqrt(12 tau) 2^(s/2) e: 6 * 2^20 * 2.
    assert flooding_noise(2.0, 3, 40) == pytest.approx(12_582_912)
    assert flooding_noise(1.0, 1, 0) == pytest.approx(math.sqrt(12))


@given(st.floats(0.1, 1e3), st.integers(1, 10**4), st.integers(0, 80))
def test_flooding_grows_with_the_root_of_what_is_decrypted(e_ct: float, tau: int, s: int) -> None:
    assert flooding_noise(e_ct, 4 * tau, s) == pytest.approx(2 * flooding_noise(e_ct, tau, s))
    assert flooding_noise(e_ct, tau, s + 2) == pytest.approx(2 * flooding_noise(e_ct, tau, s))


@pytest.mark.parametrize(
    ("degree", "bits"), [(2048, 33.585), (4096, 32.585), (8192, 31.585), (16384, 30.585)]
)
def test_statistical_security_by_hand(degree: int, bits: float) -> None:
    # 40 - log2(N / 24); log2 24 = 4.585.
    assert statistical_security(Ring(degree, (30,)), 40) == pytest.approx(bits, abs=1e-3)


def test_a_slot_has_the_noise_of_half_of_the_coefficients_and_flooding_adds_to_it() -> None:
    ring = Ring(2048, (34,))
    assert slot_noise(ring, 5, 1, 0) == pytest.approx(32 * fresh_noise(ring, 5))
    fresh = fresh_noise(ring, 5)
    both = math.sqrt(fresh**2 + flooding_noise(fresh, 7, 4) ** 2)
    assert slot_noise(ring, 5, 7, 4) == pytest.approx(32 * both)


@given(st.integers(1, 2**40))
def test_none_of_so_many_errors_is_beyond_the_tail(values: int) -> None:
    t = tail(values)
    assert values * math.erfc(t / math.sqrt(2)) <= 2.0**-40
    assert values * math.erfc((t - 0.5) / math.sqrt(2)) > 2.0**-44  # and not far too large


# Scale and capacity

clients_, ciphertexts_, flood_ = st.integers(1, 10**5), st.integers(1, 10**5), st.sampled_from([0, 40])


@given(every_ring, clients_, ciphertexts_, flood_)
def test_the_scale_keeps_noise_below_0_4_and_is_hardly_larger(ring: Ring, n: int, tau: int, s: int) -> None:
    scale, _ = scale_and_capacity(ring, n, tau, s)
    least = tail(tau * ring.slots) * slot_noise(ring, n, tau, s) / 0.4
    assert least * (1 - 2**-40) <= scale <= max(least * (1 + 2**-14), least + 1)
    # Sixteen bits of it, so that no machine rounds a logarithm to another session.
    assert scale % 2 ** max(scale.bit_length() - 17, 0) == 0


@given(every_ring, clients_, ciphertexts_, flood_)
def test_the_capacity_is_what_is_left_of_the_modulus(ring: Ring, n: int, tau: int, s: int) -> None:
    """A quarter of it: no coefficient of a polynomial is more than 4 / pi of its largest slot."""
    scale, capacity = scale_and_capacity(ring, n, tau, s)
    Q = math.prod(ring.primes)
    assert 4 * scale * capacity <= Q
    assert capacity == 2**45 or (capacity < 2**45 and 4 * scale * (capacity + 1) > Q)


@given(every_ring, clients_, clients_, ciphertexts_, ciphertexts_, flood_)
def test_more_clients_or_ciphertexts_take_a_larger_scale_and_leave_less(
    ring: Ring, n: int, more: int, tau: int, others: int, s: int
) -> None:
    scale, capacity = scale_and_capacity(ring, n, tau, s)
    larger, smaller = scale_and_capacity(ring, n + more, tau + others, s)
    assert larger >= scale
    assert smaller <= capacity


@given(every_ring, clients_, ciphertexts_)
def test_flooding_takes_its_bits_from_the_capacity(ring: Ring, n: int, tau: int) -> None:
    (scale, capacity), (flooded, left) = (scale_and_capacity(ring, n, tau, s) for s in (0, 40))
    # sqrt(12 tau) 2^20 times the noise, but for rounding up.
    times = math.sqrt(12 * tau) * 2**20
    assert flooded / scale == pytest.approx(times, rel=0.001)
    assume(capacity < 2**45)
    assert left <= 1.001 * capacity / times + 1


@pytest.mark.parametrize("k", [0, 1, 511, 1023, 1024, 2047])
def test_the_largest_slots_do_not_wrap_around(k: int) -> None:
    """All at the capacity, with the signs of those of X^k: its coefficient is then the largest there is."""
    ring = Ring(2048, (34,))
    scale, capacity = scale_and_capacity(ring, 1, 1, 0)
    signs = np.where(slots_of_power(ring, k) >= 0, 1.0, -1.0)
    x, keys = signs * capacity, Keys(ring, scale)
    largest = polynomial(ring, x)[k] * scale
    assert largest < math.prod(ring.primes) / 2
    if k % 1024:
        assert largest == pytest.approx(4 / math.pi * capacity * scale, rel=0.01)
    assert np.abs(keys.decrypt(keys.encrypt(x)) - x).max() < 0.4
