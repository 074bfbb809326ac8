"""Noise in the real numbers: its distribution, and that it is a cipher's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fl.privacy.noise import RealNoise, real_noise

SEED = bytes(range(32))
DRAWS = 400_001  # several blocks of the keystream, and an odd one


def below(kind: RealNoise, x: np.ndarray) -> np.ndarray:
    """P(draw of deviation 1 < x)."""
    if kind == "laplace":
        tail = np.exp(-np.abs(x) * math.sqrt(2)) / 2
        return np.where(x < 0, tail, 1 - tail)
    return np.array([math.erfc(-each / math.sqrt(2)) / 2 for each in x])


@pytest.mark.parametrize("kind", ["gaussian", "laplace"])
def test_its_distribution_is_the_one_it_is_called_by(kind: RealNoise) -> None:
    """Kolmogorov and Smirnov: the largest distance of the distributions, which passes 2 / sqrt(n) with
    probability 2 exp(-8).
    """
    drawn = np.sort(real_noise(kind, 3.0, DRAWS, SEED)) / 3.0
    distance = np.abs(below(kind, drawn) - np.arange(DRAWS) / DRAWS).max()
    assert distance < 2 / math.sqrt(DRAWS)


@pytest.mark.parametrize(("kind", "kurtosis"), [("gaussian", 3.0), ("laplace", 6.0)])
def test_mean_power_and_tails(kind: RealNoise, kurtosis: float) -> None:
    drawn = real_noise(kind, 0.5, DRAWS, SEED)
    assert abs(drawn.mean()) < 0.5 * 5 / math.sqrt(DRAWS)
    assert drawn.std() == pytest.approx(0.5, rel=5 * math.sqrt((kurtosis - 1) / 4 / DRAWS))
    assert np.mean((drawn / 0.5) ** 4) == pytest.approx(kurtosis, rel=0.05)


@pytest.mark.parametrize("kind", ["gaussian", "laplace"])
def test_neighbours_and_halves_tell_nothing_of_one_another(kind: RealNoise) -> None:
    """Nor do their squares: correlations of n draws are within 5 / sqrt(n). The two Gaussians of one pair of
    words stand half a block apart.
    """
    drawn = real_noise(kind, 1.0, DRAWS, SEED)
    for apart in (1, 2, 8192):
        for f in (lambda x: x, np.abs):
            one, other = f(drawn[:-apart]), f(drawn[apart:])
            assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(DRAWS)


def test_gaussians_are_of_a_ciphers_words_by_box_and_muller() -> None:
    cipher = Cipher(algorithms.AES128(SEED[:16]), modes.CTR(bytes(16))).encryptor()
    first, second = np.frombuffer(cipher.update(bytes(16)), "<u8").tolist()
    radius = 2.0 * math.sqrt(-2 * math.log(((first >> 11) + 1) / 2**53))
    angle = 2 * math.pi * ((second >> 11) + 1) / 2**53
    drawn = real_noise("gaussian", 2.0, (1, 2), SEED)
    assert drawn.shape == (1, 2)
    np.testing.assert_allclose(drawn[0], [radius * math.cos(angle), radius * math.sin(angle)], rtol=1e-14)


@pytest.mark.parametrize("kind", ["gaussian", "laplace"])
def test_another_seed_is_other_noise_and_the_smallest_cases_are_there(kind: RealNoise) -> None:
    one, other = (real_noise(kind, 1.0, 1_000, seed) for seed in (SEED, bytes(32)))
    assert not np.isin(one, other).any()
    assert len(np.unique(one)) == 1_000
    assert real_noise(kind, 1.0, 0, SEED).shape == (0,)
    assert real_noise(kind, 1.0, (), SEED).shape == ()
    assert not real_noise(kind, 0.0, 7, SEED).any()
