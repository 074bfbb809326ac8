"""What goes through TenSEAL comes back, with a fresh key or one that another made; and it is optional."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import CKKS, Counts, LocalProtocolError
from secagg.ckks.packing import add_residues, residues_of_key
from secagg.ckks.ring import Ring, scale_and_capacity
from secagg.ckks.seal import Keys, _square_root_of_minus_one, _times
from tests.secagg.helpers_ckks import (
    coefficients_of,
    least_root,
    polynomial,
    residues_of,
    secret_coefficients,
    slots_of_power,
)

ONE, TWO, THREE = Ring(2048, (34,)), Ring(4096, (31, 30)), Ring(4096, (30, 30, 29))
SCALE = 2**18
RINGS = {"one prime": ONE, "two": TWO, "three": THREE}
KEYS = {name: Keys(ring, SCALE) for name, ring in RINGS.items()}
EXACT = 0.04  # slots: over thirty standard deviations of one fresh ciphertext at that scale

every_ring = pytest.mark.parametrize("name", RINGS)


def real(ring: Ring, seed: int = 0, count: int | None = None) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-100, 100, ring.slots if count is None else count)


def test_a_key_that_another_made_is_read_without_making_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """SEAL takes longer to make a context than to encrypt: what is public of one is read once."""
    import tenseal

    secret = KEYS["one prime"].secret()
    Keys(ONE, SCALE, secret)
    monkeypatch.setattr(tenseal, "context", None)
    again = Keys(ONE, SCALE, secret)
    x = real(ONE)
    assert np.abs(again.decrypt(again.encrypt(x)) - x).max() < EXACT
    with pytest.raises(TypeError):
        Keys(ONE, SCALE)


# Both halves


@every_ring
def test_what_is_encrypted_is_decrypted_in_both_halves(name: str) -> None:
    ring, keys = RINGS[name], KEYS[name]
    x = real(ring)
    ciphertext = keys.encrypt(x)
    assert ciphertext.shape == (2, len(ring.primes), ring.degree)
    assert ciphertext.dtype == np.uint64
    slots = keys.decrypt(ciphertext)
    assert slots.shape == (ring.degree,)
    assert np.abs(slots - x).max() < EXACT


@pytest.mark.parametrize("count", [1, 2, 1023, 1024, 1025, 2047])
def test_a_short_vector_has_zeros_behind_it_and_is_not_repeated(count: int) -> None:
    x = real(ONE, count=count)
    slots = KEYS["one prime"].decrypt(KEYS["one prime"].encrypt(x))
    assert np.abs(slots[:count] - x).max() < EXACT
    assert np.abs(slots[count:]).max() < EXACT


def test_the_halves_do_not_leak_into_each_other() -> None:
    half = ONE.degree // 2
    for x in (np.repeat([100.0, 0.0], half), np.repeat([0.0, 100.0], half), np.repeat([100.0, -7.0], half)):
        assert np.abs(KEYS["one prime"].decrypt(KEYS["one prime"].encrypt(x)) - x).max() < EXACT


@every_ring
def test_a_ciphertext_of_known_coefficients_decrypts_to_their_slots(name: str) -> None:
    """c0 is the polynomial, c1 zero: what SEAL, its order of residues and of slots make of it."""
    ring, keys = RINGS[name], KEYS[name]
    for k in (0, 1, ring.degree // 2, ring.degree - 1):
        monomial = np.zeros(ring.degree, object)
        monomial[k] = 5 * SCALE
        ciphertext = np.zeros((2, len(ring.primes), ring.degree), np.uint64)
        for i in range(len(ring.primes)):
            ciphertext[0, i] = residues_of(ring, monomial, i)
        slots = keys.decrypt(ciphertext)
        assert np.abs(slots - 5 * slots_of_power(ring, k)).max() < 1e-9
        assert polynomial(ring, slots) == pytest.approx((monomial / SCALE).astype(float), abs=1e-9)


@every_ring
def test_two_encryptions_of_the_same_differ_in_every_residue(name: str) -> None:
    keys, x = KEYS[name], real(RINGS[name])
    first, second = keys.encrypt(x), keys.encrypt(x)
    assert np.count_nonzero(first == second) < 10


# Keys given out and taken in


@every_ring
def test_a_key_that_is_given_out_decrypts_where_it_is_taken_in(name: str) -> None:
    ring, keys = RINGS[name], KEYS[name]
    secret = keys.secret()
    assert secret.shape == (len(ring.primes) + 1, ring.degree)
    taken = Keys(ring, SCALE, residues_of_key(ring, secret.tobytes()))
    np.testing.assert_array_equal(taken.secret(), secret)
    x = real(ring)
    assert np.abs(taken.decrypt(keys.encrypt(x)) - x).max() < EXACT
    assert np.abs(keys.decrypt(taken.encrypt(x)) - x).max() < EXACT


@every_ring
def test_a_secret_key_is_ternary_and_the_same_for_each_prime(name: str) -> None:
    ring, secret = RINGS[name], KEYS[name].secret()
    coefficients = secret_coefficients(ring, KEYS[name])
    assert set(coefficients) == {-1, 0, 1}
    assert all(500 < np.count_nonzero(coefficients == c) * 2048 / ring.degree < 870 for c in (-1, 0, 1))
    for i in range(len(ring.primes)):
        np.testing.assert_array_equal(residues_of(ring, coefficients, i), secret[i])


@every_ring
def test_two_keys_differ_and_neither_opens_what_the_other_sealed(name: str) -> None:
    ring, other = RINGS[name], Keys(RINGS[name], SCALE)
    assert np.count_nonzero(other.secret() == KEYS[name].secret()) < 10
    x = real(ring)
    wrong = other.decrypt(KEYS[name].encrypt(x))
    assert np.abs(wrong - x).max() > 10
    assert abs(np.corrcoef(wrong, x)[0, 1]) < 0.2


def test_the_scale_is_that_of_the_session() -> None:
    keys = KEYS["one prime"]
    double = Keys(ONE, 2 * SCALE, keys.secret())
    x = real(ONE)
    assert np.abs(double.decrypt(keys.encrypt(x)) * 2 - x).max() < EXACT


# Sums


@pytest.mark.parametrize("name", ["one prime", "two"])
@settings(max_examples=10)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5))
def test_the_sum_of_ciphertexts_is_one_of_the_sum(name: str, seeds: list[int]) -> None:
    """At the scale and capacity of so many clients, sums of integers are exact. Added in numpy."""
    ring, n = RINGS[name], len(seeds)
    scale, capacity = scale_and_capacity(ring, n, 1, 0)
    keys = Keys(ring, scale, KEYS[name].secret())
    total = np.zeros((1, 2, len(ring.primes), ring.degree), np.uint64)
    exact = np.zeros(ring.slots, np.int64)
    for seed in seeds:
        x = np.random.default_rng(seed).integers(-(capacity // n), capacity // n, ring.slots, endpoint=True)
        add_residues(ring, total, keys.encrypt(x.astype(np.float64))[None])
        exact += x
    np.testing.assert_array_equal(np.rint(keys.decrypt(total[0])), exact)


# X^(N/2)


@every_ring
def test_a_turn_and_its_way_back_are_nothing(name: str) -> None:
    keys, ciphertext = KEYS[name], KEYS[name].encrypt(real(RINGS[name]))
    np.testing.assert_array_equal(keys._turned(keys._turned(ciphertext, 1), -1), ciphertext)
    np.testing.assert_array_equal(keys._turned(keys._turned(ciphertext, -1), 1), ciphertext)


@every_ring
def test_two_turns_are_a_change_of_sign(name: str) -> None:
    """X^(N/2) twice is X^N = -1."""
    ring, keys, ciphertext = RINGS[name], KEYS[name], KEYS[name].encrypt(real(RINGS[name]))
    twice = keys._turned(keys._turned(ciphertext, 1), 1)
    for i, q in enumerate(ring.primes):
        np.testing.assert_array_equal(twice[:, i], (q - ciphertext[:, i]) % q)


@every_ring
def test_a_turn_moves_coefficients_by_half_of_the_degree(name: str) -> None:
    ring, keys = RINGS[name], KEYS[name]
    ciphertext, half = keys.encrypt(real(ring)), ring.degree // 2
    for which in range(len(ring.primes)):
        before = coefficients_of(ring, ciphertext[1, which], which)
        after = coefficients_of(ring, keys._turned(ciphertext, 1)[1, which], which)
        assert after.tolist() == [-c for c in before[half:]] + before[:half].tolist()


@every_ring
def test_the_root_of_minus_one_is_the_power_of_the_least_root(name: str) -> None:
    ring = RINGS[name]
    for i, q in enumerate(ring.primes):
        root = _square_root_of_minus_one(ring, i)
        assert root == pow(least_root(ring, i), ring.degree // 2, q)
        assert root * root % q == q - 1


# Products modulo a prime

Q = [*Ring(4096, (60,)).primes, *Ring(8192, (60, 60, 60)).primes, *Ring(2048, (22,)).primes]


@st.composite
def factors(draw: st.DrawFn) -> tuple[int, int, list[int]]:
    """(q, a factor below it, numbers below it), often at the edges."""
    q = draw(st.sampled_from(Q))
    below = st.one_of(
        st.integers(0, q - 1),
        st.sampled_from([0, 1, 2, q // 2, q // 2 + 1, q - 2, q - 1]),
        st.sampled_from([2**32 - 1, 2**32, 2**32 + 1]).map(lambda x: x % q),
    )
    return q, draw(below), draw(st.lists(below, min_size=1, max_size=8))


@settings(max_examples=500)
@given(factors())
def test_products_are_those_of_integers(case: tuple[int, int, list[int]]) -> None:
    q, factor, xs = case
    assert _times(np.array(xs, np.uint64), factor, q).tolist() == [x * factor % q for x in xs]


@pytest.mark.parametrize("q", Q)
def test_products_of_many_random_numbers_are_those_of_integers(q: int) -> None:
    rng = np.random.default_rng(q % 2**32)
    for factor in (0, 1, q - 1, int(rng.integers(0, q))):
        xs = rng.integers(0, q, 2000, np.uint64)
        assert _times(xs, factor, q).tolist() == [x * factor % q for x in xs.tolist()]


# Secrets


def test_keys_show_nothing_and_are_neither_pickled_nor_copied() -> None:
    keys = KEYS["one prime"]
    assert repr(keys) == str(keys) == f"{keys}" == "Keys(<hidden>)"
    with pytest.raises(TypeError, match="Keys holds secrets and is never pickled"):
        pickle.dumps(keys)
    for way in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled"):
            way(keys)
    with pytest.raises((AttributeError, TypeError)):
        vars(keys)


# TenSEAL is optional


def test_without_tenseal_a_client_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tenseal", None)
    scheme = CKKS.for_cohort(3, Counts(length=2, maximum=9))  # all numbers are known without it
    for make in (lambda: Keys(ONE, SCALE), lambda: scheme.client(0, lambda task: [1, 2])):
        with pytest.raises(LocalProtocolError, match=r"CKKS needs TenSEAL: pip install 'secagg\[ckks\]'"):
            make()
    assert scheme.server(range(3)).round == "join"  # and a server does without


def python(code: str) -> Any:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_importing_secagg_does_not_import_tenseal() -> None:
    loaded = "[m for m in sys.modules if 'tenseal' in m]"
    assert python(f"import sys, secagg; from secagg.ckks import server; print({loaded})") == "[]"
    assert python(f"import sys, tenseal; print({loaded})") != "[]"
