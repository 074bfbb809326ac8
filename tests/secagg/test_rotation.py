"""The rotation of private vectors: orthogonal, undone, the same on every machine, and flat."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from secagg.rotation import Rotation, hadamard, size_of
from secagg.specs import BLOCK
from tests.vectors import independent_private as naive

SEED = bytes(range(32))
LENGTHS = [1, 2, 3, 5, 8, 63, 64, 65, 127, 128, 129, 1000]


def vector(length: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=length)


def rotated(x: NDArray[np.float64], seed: bytes = SEED) -> NDArray[np.float64]:
    y = x.copy()
    Rotation(seed, len(x)).forward(y)
    return y


@pytest.mark.parametrize("length", LENGTHS)
def test_it_is_a_transform_of_one_coordinate_by_one_bit_for_bit(length: int) -> None:
    x = vector(length)
    due = naive.Rotation(SEED, length)
    assert rotated(x).tolist() == due.forward(x.tolist())
    back = x.copy()
    Rotation(SEED, length).back(back)
    assert back.tolist() == due.back(x.tolist())


@pytest.mark.parametrize("size", [1, 64, BLOCK // 2, BLOCK, 2 * BLOCK, 4 * BLOCK])
def test_long_transforms_take_their_sums_in_the_same_order(size: int) -> None:
    """Where they go by blocks and by transposed blocks: against whole vectors, halved each time."""
    x, due = vector(size), vector(size)
    hadamard(x)
    apart = size // 2
    while apart:
        pairs = due.reshape(-1, 2, apart)
        due = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).reshape(-1)
        apart //= 2
    assert x.tobytes() == due.tobytes()


@settings(max_examples=40)
@given(st.integers(1, 600), st.binary(min_size=32, max_size=32), st.integers(0, 2**32))
def test_it_keeps_norms_and_inner_products_and_is_undone(length: int, seed: bytes, drawn: int) -> None:
    x, y = vector(length, drawn), vector(length, drawn + 1)
    a, b = rotated(x, seed), rotated(y, seed)
    size = float(np.linalg.norm(x) * np.linalg.norm(y))
    assert np.linalg.norm(a) == pytest.approx(np.linalg.norm(x), rel=1e-12)
    assert float(a @ b) == pytest.approx(float(x @ y), abs=1e-12 * size)
    Rotation(seed, length).back(a)
    np.testing.assert_allclose(a, x, rtol=0, atol=1e-12 * float(np.linalg.norm(x)))


@pytest.mark.parametrize("length", [2**10, 2**10 + 1, 2**10 + 2**9, 2**11 - 1])
def test_no_spike_is_left_wherever_it_stands(length: int) -> None:
    """No coordinate is above 8 / sqrt(2^k), whatever was: of 2^k + 1 the last one neither, though 2^k - 1 of
    the others are in no transform with it but the second.
    """
    rotation, limit = Rotation(SEED, length), 8 / math.sqrt(size_of(length))
    for at in range(length):
        x = np.zeros(length)
        x[at] = 1
        rotation.forward(x)
        assert np.abs(x).max() < limit


def test_equal_coordinates_are_spread_as_much() -> None:
    """Without random signs the transform of these would be one spike."""
    for length in (2**12, 2**12 + 1, 2**13 - 1):
        x = rotated(np.full(length, 1 / math.sqrt(length)))
        assert np.abs(x).max() < 8 / math.sqrt(size_of(length))


def test_the_second_transform_has_signs_of_its_own() -> None:
    first, second = (flip for _, flip in Rotation(SEED, 2**10 + 1)._parts)
    assert 2**9 - 150 < np.count_nonzero(first != second) < 2**9 + 150


def test_another_seed_is_another_rotation() -> None:
    x = vector(1000)
    other = rotated(x, bytes(32))
    assert abs(float(rotated(x) @ other)) < 0.2 * float(x @ x)


def test_a_length_that_is_no_power_of_two_takes_no_coordinate_more() -> None:
    assert [size_of(length) for length in (1, 2, 3, 4, 2**20 + 1)] == [1, 2, 2, 4, 2**20]
