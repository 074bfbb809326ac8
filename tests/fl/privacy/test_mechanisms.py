"""What a client does to its update, and how much noise a server adds."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from fl.config.privacy import Perturbation, PrivacyConfig
from fl.privacy.mechanisms import Level, asked_of_clients, central_deviation, perturbed, update_and_count
from fl.privacy.noise import real_noise
from secagg import Bounded

SEED = bytes(range(32))
UPDATE = np.arange(1, 101).astype(np.float32)  # of norm 581.7
LOCAL = Perturbation("local", "gaussian", 2.0, 0.5)


def noise(deviation: float, kind: Any = "gaussian") -> np.ndarray:
    return real_noise(kind, deviation, 100, SEED)


@pytest.mark.parametrize("kind", ["gaussian", "laplace"])
def test_an_update_is_scaled_into_the_ball_and_then_all_of_it_is_noised(kind: Any) -> None:
    sent = perturbed(replace_(LOCAL, noise=kind), UPDATE, SEED)
    clipped = sent - noise(0.5 * 2.0, kind)
    np.testing.assert_allclose(clipped, UPDATE * 2.0 / np.linalg.norm(UPDATE.astype(float)), atol=1e-12)


def test_a_short_update_keeps_its_length() -> None:
    np.testing.assert_array_equal(
        perturbed(LOCAL, UPDATE / 1000, SEED), (UPDATE / 1000).astype(float) + noise(1.0)
    )


def test_where_nothing_is_asked_for_the_update_is_sent_as_it_is() -> None:
    assert perturbed(None, UPDATE, SEED) is UPDATE
    assert perturbed(Perturbation(clip=1.0), UPDATE, SEED) is UPDATE  # the session clips


def test_the_smallest_coordinates_are_left_out_before_clip_and_noise() -> None:
    rest = perturbed(Perturbation(compress=0.109), -UPDATE, SEED)
    np.testing.assert_array_equal(rest, np.where(UPDATE <= 10, 0, -UPDATE))
    sent = perturbed(replace_(LOCAL, compress=0.1), UPDATE, SEED) - noise(1.0)
    assert np.abs(sent[:10]).max() < 1e-12  # noise is on these, too
    assert np.linalg.norm(sent) == pytest.approx(2.0)


def test_the_largest_norm_there_is_takes_the_place_of_the_clip() -> None:
    asked = replace_(LOCAL, sensitivity="l2-max")
    short = UPDATE.astype(float) / np.linalg.norm(UPDATE.astype(float)) * 0.1
    np.testing.assert_allclose(perturbed(asked, short, SEED), short + noise(0.5 * 0.1), atol=1e-14)
    np.testing.assert_allclose(perturbed(asked, UPDATE, SEED), perturbed(LOCAL, UPDATE, SEED), atol=1e-12)


def test_noise_on_the_largest_coordinates_is_on_no_others() -> None:
    short = -UPDATE / 1000
    sent = perturbed(replace_(LOCAL, largest=0.091), short, SEED)
    on_ten = np.where(UPDATE > 90, noise(1.0), 0.0)
    np.testing.assert_array_equal(sent, short.astype(float) + on_ten)


def test_a_client_is_asked_for_what_it_does_itself_and_for_nothing_else() -> None:
    noisy: dict[str, Any] = {"clip": 2.0, "noise_multiplier": 3.0}
    level = Level(2.0, 3.0)
    assert asked_of_clients(PrivacyConfig(clip=2.0), level) is None
    assert asked_of_clients(PrivacyConfig(mechanism="central", **noisy), level) is None
    assert asked_of_clients(PrivacyConfig(compress=0.2), Level(None)) == Perturbation(compress=0.2)
    adaptive = PrivacyConfig(mechanism="distributed", adaptive_clip=True, **noisy)
    assert asked_of_clients(adaptive, level) == Perturbation(clip=2.0)
    local = PrivacyConfig(
        mechanism="local", noise="laplace", sensitivity="l2-max", compress=0.1, noise_largest=0.3, **noisy
    )
    assert asked_of_clients(local, level) == Perturbation("local", "laplace", 2.0, 3.0, "l2-max", 0.1, 0.3)


def test_the_servers_noise_covers_what_rounding_adds_to_a_norm() -> None:
    spec, level = Bounded(length=10_000, bound=0.5, bits=8), Level(0.5, 2.0)
    rounded, as_float = (central_deviation(spec, level, 20, as_float=each) for each in (False, True))
    assert rounded == pytest.approx(2 * (0.5 + 100 * 0.5 / 127) / 20)
    assert as_float == pytest.approx(2 * 0.5 / 20, rel=2e-7)


@pytest.mark.parametrize(("clients", "of_count"), [(1000, 100.0), (20, 4.0)])
def test_update_and_count_together_cost_what_the_multiplier_says(clients: int, of_count: float) -> None:
    privacy = PrivacyConfig(mechanism="central", clip=1.0, noise_multiplier=2.0, adaptive_clip=True)
    update, count = update_and_count(privacy, Level(1.0, 2.0), clients)
    assert count == of_count
    assert update**-2 + count**-2 == pytest.approx(2.0**-2)
    fixed = msgspec.structs.replace(privacy, adaptive_clip=False)
    assert update_and_count(fixed, Level(1.0, 2.0), 20) == (2.0, 0.0)


def replace_(asked: Perturbation, **changes: Any) -> Perturbation:
    return msgspec.structs.replace(asked, **changes)
