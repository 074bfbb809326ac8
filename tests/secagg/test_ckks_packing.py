"""Integers come out of a sum of slots exact, however they share them; residues travel packed, and checked."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from secagg import CKKS, Bounded, Counts, LocalProtocolError, RemoteProtocolError, Weight
from secagg.bits import packed_bytes
from secagg.ckks import _plan
from secagg.ckks.packing import (
    GRID,
    Layout,
    Plan,
    add_residues,
    pack_residues,
    plan_in,
    residues_of_key,
    smallest,
    unpack_residues,
)
from secagg.ckks.ring import Ring, rings, scale_and_capacity
from secagg.specs import MAX_RING_BITS, Spec

every_ring = st.sampled_from(list(rings()))
CLIENTS = st.one_of(st.integers(1, 8), st.integers(1, 2000))
LENGTH = st.integers(1, 40)
TWO_PRIMES = Ring(4096, (31, 30))


def specs(length: st.SearchStrategy[int] = LENGTH) -> st.SearchStrategy[Spec]:
    bounded = st.builds(Bounded, length=length, bound=st.just(1.0), bits=st.integers(2, 32))
    maximum = st.one_of(st.integers(1, 300), st.integers(1, 2**53 - 1), st.just(2**53 - 1))
    counts = st.builds(Counts, length=length, maximum=maximum)
    return st.one_of(bounded, counts, st.builds(Weight, maximum=st.integers(1, 2**31 - 1)))


def planned(ring: Ring, clients: int, spec: Spec, ending: Any = "keep") -> tuple[Plan, Layout]:
    """The plan of one vector; what is impossible is no example."""
    assume((clients * spec.largest_code).bit_length() <= MAX_RING_BITS)
    plan = plan_in(ring, clients, (("x", spec),), ending, 40 if ending == "release" else 0)
    assume(plan is not None)
    assert plan is not None
    return plan, plan.layouts["x"]


def extremes(spec: Spec) -> tuple[int, int]:
    if isinstance(spec, Bounded):
        return -spec.levels, spec.levels
    return (1 if isinstance(spec, Weight) else 0), spec.largest_code


def assert_exact(plan: Plan, layout: Layout, clients: list[Any], noise: np.ndarray) -> None:
    """Encoded, summed in float64, off by the noise, decoded: the sum."""
    slots = [layout.to_slots(x) for x in clients]
    total = np.sum(slots, axis=0)
    assert len(total) == layout.slots
    assert np.abs(total).max() <= plan.capacity
    decoded = layout.from_slots(total + noise[: len(total)])
    assert decoded.dtype == np.int64
    assert decoded.tolist() == [sum(int(x[i]) for x in clients) for i in range(layout.length)]


# Integers


@given(every_ring, st.integers(1, 6), specs(), st.integers(0, 2**32 - 1))
def test_the_sum_of_integers_is_exact_whatever_the_noise_below_a_half(
    ring: Ring, clients: int, spec: Spec, seed: int
) -> None:
    plan, layout = planned(ring, clients, spec)
    rng, (low, high) = np.random.default_rng(seed), extremes(spec)
    xs = [rng.integers(low, high, spec.length, endpoint=True) for _ in range(clients)]
    assert_exact(plan, layout, xs, rng.uniform(-0.49, 0.49, layout.slots))


@given(every_ring, CLIENTS, specs(st.integers(1, 9)), st.sampled_from([-0.49, 0.0, 0.49]))
def test_the_sum_of_all_clients_at_a_bound_is_exact(
    ring: Ring, clients: int, spec: Spec, noise: float
) -> None:
    """The same bound in all coordinates, and by turns."""
    plan, layout = planned(ring, clients, spec)
    low, high = extremes(spec)
    for pattern in ([low], [high], [low, high], [high, low]):
        x = np.resize(np.array(pattern, np.int64), spec.length)
        slots = layout.to_slots(x) * clients
        assert np.abs(slots).max() <= plan.capacity
        assert layout.from_slots(slots + noise).tolist() == [clients * int(value) for value in x]


@given(CLIENTS, specs(st.integers(1, 9)))
def test_the_smallest_plan_sums_bounds_exactly_with_some_clients_missing(clients: int, spec: Spec) -> None:
    assume((clients * spec.largest_code).bit_length() <= MAX_RING_BITS)
    plan = smallest(clients, (("x", spec),), "keep", 0)
    assert plan is not None
    for value in extremes(spec):
        for there in {1, clients // 2 + 1, clients}:
            slots = plan.layouts["x"].to_slots(np.full(spec.length, value, np.int64)) * there
            assert plan.layouts["x"].from_slots(slots).tolist() == [there * value] * spec.length


def test_negative_integers_share_a_slot() -> None:
    plan = plan_in(TWO_PRIMES, 3, (("x", Bounded(length=7, bound=1.0, bits=8)),), "keep", 0)
    assert plan is not None
    layout = plan.layouts["x"]
    assert layout == Layout(length=7, each=4, base=2 * 3 * 127 + 1, half=3 * 127)
    assert layout.slots == 2
    clients = [np.array(x) for x in ([-127] * 7, [-127, 127] * 3 + [0], [-127, 0, 0, 1, -1, 5, 127])]
    assert_exact(plan, layout, clients, np.full(2, 0.49))
    assert_exact(plan, layout, [-x for x in clients], np.full(2, -0.49))


def test_an_integer_that_is_too_large_for_a_slot_takes_several() -> None:
    ring = Ring(2048, (34,))
    spec = Counts(length=3, maximum=2**53 - 1)
    plan = plan_in(ring, 500, (("x", spec),), "keep", 0)
    assert plan is not None
    layout = plan.layouts["x"]
    assert layout.limbs > 1
    assert layout.slots == 3 * layout.limbs
    assert layout.base ** (layout.limbs - 1) <= spec.maximum < layout.base**layout.limbs
    xs = [np.array([2**53 - 1, 0, 2**53 - 1 - u]) for u in range(500)]
    assert_exact(plan, layout, xs, np.full(layout.slots, 0.49))


def test_negative_integers_take_several_slots() -> None:
    plan = plan_in(Ring(2048, (24,)), 40, (("x", Bounded(length=4, bound=1.0, bits=32)),), "keep", 0)
    assert plan is not None
    layout, L = plan.layouts["x"], 2**31 - 1
    assert layout.limbs > 4
    xs = [np.array([-L, L, -1, u - 20]) for u in range(40)]
    assert_exact(plan, layout, xs, np.full(layout.slots, -0.49))


def test_what_fits_no_slot_and_no_limb_has_no_plan() -> None:
    ring = Ring(2048, (22,))
    spec = Bounded(length=1, bound=1.0, bits=8)
    _, capacity = scale_and_capacity(ring, 700, 1, 0)
    assert capacity < 700
    assert plan_in(ring, 700, (("x", spec),), "keep", 0) is None
    assert plan_in(ring, 3, (("x", spec),), "keep", 0) is not None
    assert plan_in(ring, 3, (("x", spec),), "release", 40) is None


# Real numbers


@given(every_ring, st.integers(1, 50), LENGTH, st.integers(2, 20), st.integers(0, 2**32 - 1))
def test_a_released_sum_of_real_numbers_is_as_near_as_is_said(
    ring: Ring, clients: int, length: int, bits: int, seed: int
) -> None:
    spec = Bounded(length=length, bound=1.0, bits=bits)
    plan, layout = planned(ring, clients, spec, "release")
    rng = np.random.default_rng(seed)
    xs = rng.uniform(-1, 1, (clients, length))
    slots = np.sum([layout.to_slots(x) for x in xs], axis=0)
    assert np.abs(slots).max() <= plan.capacity
    error = plan.error("x")
    # Noise below 0.4, then half a step of the grid.
    off = layout.from_slots(slots + rng.uniform(-1, 1, length) * (0.4 + GRID / 2)) - xs.sum(axis=0)
    assert np.abs(off).max() <= error + clients * 2.0**-45  # and float64
    # The mean is within one level of the vector's bits, as where codes are summed.
    assert error / clients <= 1 / spec.levels


def test_real_numbers_at_their_bounds_fill_the_capacity() -> None:
    plan = plan_in(Ring(4096, (43,)), 5, (("x", Bounded(length=2, bound=1.0, bits=4)),), "release", 40)
    assert plan is not None
    layout = plan.layouts["x"]
    assert layout.to_slots(np.array([1.0, -1.0])) * 5 == pytest.approx([plan.capacity, -plan.capacity])
    assert plan.reals == ["x"]


def test_only_released_real_numbers_are_real() -> None:
    vectors = (("c", Counts(length=1, maximum=9)), ("x", Bounded(length=2, bound=1.0, bits=4)))
    for ending, reals in (("keep", []), ("release", ["x"])):
        plan = smallest(5, vectors, ending, 40 if ending == "release" else 0)  # type: ignore[arg-type]
        assert plan is not None
        assert plan.reals == reals


# Several vectors


MIXED = (
    ("counts", Counts(length=5, maximum=1000)),
    ("large", Counts(length=2, maximum=2**53 - 1)),
    ("update", Bounded(length=2100, bound=1.0, bits=12)),
    ("weight", Weight(maximum=100)),
)


@pytest.mark.parametrize("ending", ["keep", "release"])
def test_vectors_stand_one_behind_the_other_by_their_names(ending: Any) -> None:
    plan = smallest(4, MIXED, ending, 40 if ending == "release" else 0)
    assert plan is not None
    rng, clients = np.random.default_rng(3), []
    for _ in range(4):
        update = rng.integers(-2047, 2048, 2100)
        values = {
            "weight": np.array([rng.integers(1, 101)]),
            "update": update if ending == "keep" else update / 2047,
            "large": rng.integers(0, 2**53, 2),
            "counts": rng.integers(0, 1001, 5),
        }
        slots = plan.to_slots(values)
        parts = [
            plan.layouts[name].to_slots(values[name]) for name in ("counts", "large", "update", "weight")
        ]
        np.testing.assert_array_equal(slots, np.concatenate(parts))
        clients.append(values)
    total = np.sum([plan.to_slots(values) for values in clients], axis=0)
    decoded = plan.from_slots(total + rng.uniform(-0.4, 0.4, len(total)))
    assert list(decoded) == ["counts", "large", "update", "weight"]
    for name, x in decoded.items():
        exact = np.sum([values[name] for values in clients], axis=0)
        worst = plan.error(name) if name in plan.reals else 0
        assert np.abs(x - exact).max() <= worst
        assert x.shape == exact.shape
    assert plan.slots == len(total) == sum(layout.slots for layout in plan.layouts.values())


def test_a_plan_counts_its_ciphertexts_and_bytes() -> None:
    ring, layout = Ring(2048, (30,)), Layout(length=2048, each=1, base=99, half=49)
    for length, ciphertexts in ((1, 1), (2047, 1), (2048, 1), (2049, 2), (4097, 3)):
        plan = Plan(ring, 5000, 1000, {"x": Layout(length=length, each=1, base=99, half=49)})
        assert plan.slots == length
        assert plan.ciphertexts == ciphertexts
        assert plan.upload_bytes == ciphertexts * 2 * 2048 * 30 // 8
    two = Plan(ring, 5000, 1000, {"x": layout, "y": Layout(length=5, each=2, base=9, half=4)})
    assert two.slots == 2051


# The smallest plan


@settings(max_examples=12)
@given(
    st.sampled_from([3, 10, 100, 1000]),
    st.lists(specs(st.sampled_from([1, 100, 3000, 50_000])), min_size=1, max_size=3),
    st.sampled_from(["keep", "release"]),
)
def test_the_smallest_plan_is_the_one_that_brute_force_finds(
    clients: int, several: list[Spec], ending: Any
) -> None:
    assume(all((clients * spec.largest_code).bit_length() <= MAX_RING_BITS for spec in several))
    vectors = tuple((f"v{i}", spec) for i, spec in enumerate(several))
    flood_bits = 40 if ending == "release" else 0
    chosen = smallest(clients, vectors, ending, flood_bits)
    found = [
        (plan.upload_bytes, ring.degree, ring.prime_bits)
        for ring in rings()
        if (plan := plan_in(ring, clients, vectors, ending, flood_bits)) is not None
    ]
    assert (chosen is None) == (not found)
    if chosen is not None:
        assert (chosen.upload_bytes, chosen.ring.degree, chosen.ring.prime_bits) == min(found)
        assert chosen.ring.secure
        # Its scale is enough for as many ciphertexts as it takes.
        scale, capacity = scale_and_capacity(chosen.ring, clients, chosen.ciphertexts, flood_bits)
        assert chosen.scale >= scale
        assert chosen.capacity <= capacity


@settings(max_examples=30)
@given(every_ring, CLIENTS, st.integers(1, 10**6), st.integers(2, 20), st.sampled_from(["keep", "release"]))
def test_a_plan_is_flooded_for_all_its_ciphertexts(
    ring: Ring, clients: int, length: int, bits: int, ending: Any
) -> None:
    flood_bits = 40 if ending == "release" else 0
    plan = plan_in(ring, clients, (("x", Bounded(length=length, bound=1.0, bits=bits)),), ending, flood_bits)
    assume(plan is not None)
    assert plan is not None
    assert plan.scale >= scale_and_capacity(ring, clients, plan.ciphertexts, flood_bits)[0]


def test_there_is_no_plan_where_no_ring_is_large_enough() -> None:
    """Such a session would have to be flooded beyond what any is: all that parameters allow have a ring."""
    spec = Bounded(length=1, bound=1.0, bits=8)
    assert smallest(3, (("x", spec),), "release", 500) is None
    with pytest.raises(LocalProtocolError, match="no ring at 128 bits of security is large enough"):
        _plan(3, {"x": spec}, "release", 500)
    assert CKKS.for_cohort(10**6, Bounded(length=2**29, bound=1.0, bits=32), ending="release").plan


@pytest.mark.parametrize("ending", ["keep", "release"])
@pytest.mark.parametrize("bits", [12, 13, 16])
def test_a_million_coordinates_of_a_hundred_clients_take_at_most_16_bytes_each(
    bits: int, ending: Any
) -> None:
    plan = CKKS.for_cohort(100, Bounded(length=10**6, bound=1.0, bits=bits), ending=ending).plan
    assert plan.upload_bytes <= 16 * 10**6


# Residues on the wire


def some_residues(ring: Ring, ciphertexts: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    columns = [rng.integers(0, q, (ciphertexts, 2, ring.degree), np.uint64) for q in ring.primes]
    residues = np.stack(columns, axis=2)
    residues[0, 0, :, 0], residues[-1, -1, :, -1] = 0, np.array(ring.primes) - 1
    return residues


@settings(max_examples=25)
@given(every_ring.filter(lambda ring: ring.degree <= 4096), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_residues_that_are_packed_are_unpacked(ring: Ring, ciphertexts: int, seed: int) -> None:
    residues = some_residues(ring, ciphertexts, seed)
    packed = pack_residues(ring, residues)
    assert len(packed) == ciphertexts * ring.ciphertext_bytes
    for data in (packed, memoryview(packed), bytearray(packed)):
        np.testing.assert_array_equal(unpack_residues(ring, ciphertexts, data), residues)


def test_residues_travel_prime_by_prime_each_of_its_bits() -> None:
    residues = some_residues(TWO_PRIMES, 2, 0)
    packed = pack_residues(TWO_PRIMES, residues)
    behind = packed_bytes(2 * 2 * 4096, 31)
    for i, (bits, raw) in enumerate([(31, packed[:behind]), (30, packed[behind:])]):
        number = int.from_bytes(raw, "little")
        for c, half, j in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 4095), (1, 1, 4095)):
            at = (c * 2 + half) * 4096 + j
            assert number >> bits * at & (2**bits - 1) == residues[c, half, i, j]


@pytest.mark.parametrize("change", [-1, 1, -TWO_PRIMES.ciphertext_bytes, TWO_PRIMES.ciphertext_bytes])
def test_ciphertexts_of_another_length_are_refused(change: int) -> None:
    whole = pack_residues(TWO_PRIMES, some_residues(TWO_PRIMES, 2, 0)) * 2
    size = 2 * TWO_PRIMES.ciphertext_bytes
    with pytest.raises(RemoteProtocolError, match=f"ciphertexts of {size + change} bytes, not {size}"):
        unpack_residues(TWO_PRIMES, 2, whole[: size + change])


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("at", [(0, 0, 0), (0, 1, 4095), (1, 1, 17)])
def test_a_residue_that_is_not_below_its_prime_is_refused(which: int, at: tuple[int, int, int]) -> None:
    q, largest = TWO_PRIMES.primes[which], 2 ** TWO_PRIMES.prime_bits[which] - 1
    c, half, j = at
    for value in (q, q + 1, largest):
        residues = some_residues(TWO_PRIMES, 2, 0)
        residues[c, half, which, j] = value
        with pytest.raises(RemoteProtocolError, match="a residue that is not below its prime"):
            unpack_residues(TWO_PRIMES, 2, pack_residues(TWO_PRIMES, residues))


@settings(max_examples=25)
@given(every_ring.filter(lambda ring: ring.degree == 2048 or len(ring.primes) == 4), st.integers(0, 2**32))
def test_sums_of_residues_are_those_of_integers(ring: Ring, seed: int) -> None:
    total, more = some_residues(ring, 2, seed), some_residues(ring, 2, seed + 1)
    before = total.copy()
    add_residues(ring, total, more)
    for i, q in enumerate(ring.primes):
        exact = (before[:, :, i, :64].astype(object) + more[:, :, i, :64].astype(object)) % q
        assert (total[:, :, i, :64] == exact).all()
        exact = (before[:, :, i, -64:].astype(object) + more[:, :, i, -64:].astype(object)) % q
        assert (total[:, :, i, -64:] == exact).all()
        assert int(total[:, :, i].max()) < q


def test_the_largest_residues_of_the_largest_prime_do_not_overflow() -> None:
    ring = Ring(4096, (60,))
    (q,) = ring.primes
    total = np.full((1, 2, 1, 4096), q - 1, np.uint64)
    for times in range(2, 20):
        add_residues(ring, total, np.full((1, 2, 1, 4096), q - 1, np.uint64))
        assert set(total.ravel().tolist()) == {times * (q - 1) % q}


# A secret key's residues


def test_a_key_is_its_residues_in_eight_bytes_each() -> None:
    primes = (*TWO_PRIMES.primes, TWO_PRIMES.special_prime)
    words = [[q - 1] + [j % 7 for j in range(4095)] for q in primes]
    data = b"".join(struct.pack("<4096Q", *row) for row in words)
    assert residues_of_key(TWO_PRIMES, data).tolist() == words
    assert len(data) == TWO_PRIMES.key_bytes


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_key_with_a_residue_that_is_not_below_its_prime_is_refused(which: int) -> None:
    primes = (*TWO_PRIMES.primes, TWO_PRIMES.special_prime)
    for value in (primes[which], 2**64 - 1):
        residues = np.zeros((3, 4096), "<u8")
        residues[which, 4095] = value
        with pytest.raises(RemoteProtocolError, match="a CKKS key with a residue that is not below"):
            residues_of_key(TWO_PRIMES, residues.tobytes())
