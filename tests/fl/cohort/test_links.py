"""Links: how rate, loss and time hang together, and what cannot be a link."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl.cohort.links import (
    MODES,
    Link,
    compute_seconds,
    expected_seconds,
    place,
    rate,
    round_seconds,
    speeds,
)

LINK = Link((0.1, -0.2), "lte", up=1e6, down=4e6, loss=0.1)
NAMES = st.sampled_from(list(MODES))
METRES = st.floats(0, 710)
BYTES = st.integers(0, 10**7)
SEEDS = st.integers(0, 2**32)
LOSSES = st.floats(0, 0.9)


# Rates


@given(NAMES, METRES, METRES)
def test_a_rate_falls_with_distance_and_stays_below_the_peak(name: str, a: float, b: float) -> None:
    mode = MODES[name]
    for way in (mode.up, mode.down):
        near, far = rate(mode, way, min(a, b)), rate(mode, way, max(a, b))
        assert 0 < far <= near <= way.peak


@given(NAMES)
def test_a_client_beside_the_base_station_has_the_peak_and_one_in_the_corner_has_not(name: str) -> None:
    mode = MODES[name]
    assert rate(mode, mode.up, 0) == mode.up.peak
    assert rate(mode, mode.up, 707) < mode.up.peak


def test_a_rate_is_shannons_with_the_numbers_of_the_mode() -> None:
    mode = MODES["lte"]
    # 23 dBm + 15 dBi - (20 + 128.1) dB at a kilometre, over -174 dBm/Hz + 70 dB + 5 dB.
    snr = 10 ** ((23 + 15 - 148.1 + 99) / 10)
    assert rate(mode, mode.up, 1000) == pytest.approx(0.4 * 10e6 * math.log2(1 + snr))


@pytest.mark.parametrize(("name", "metres", "loss"), [("lte", 1000, 148.1), ("5g", 100, 124.59)])
def test_path_losses_are_those_of_their_sources(name: str, metres: float, loss: float) -> None:
    assert MODES[name].path_loss(metres) == pytest.approx(loss, abs=0.01)


def test_wifi_loses_as_free_space_does_up_to_30_m_and_by_slope_3_5_beyond() -> None:
    path_loss = MODES["wifi"].path_loss
    assert path_loss(30) == pytest.approx(20 * math.log10(4 * math.pi * 30 * 5.25e9 / 299792458), abs=0.02)
    assert path_loss(300) - path_loss(30) == pytest.approx(35)


def test_wifi_out_of_reach_takes_a_hop_for_each_100_m() -> None:
    mode = MODES["wifi"]
    edge = rate(mode, mode.up, 100)
    assert [rate(mode, mode.up, d) for d in (101, 200, 201, 700)] == [edge / 2, edge / 2, edge / 3, edge / 7]


# Places


@given(st.integers(1, 30), st.sampled_from([*MODES, "mixed"]), SEEDS)
def test_clients_are_in_the_square_at_the_same_places_in_every_mode(n: int, mode: str, seed: int) -> None:
    links = place(n, mode, np.random.default_rng(seed))
    assert links == place(n, mode, np.random.default_rng(seed))
    assert [link.place for link in links] == [u.place for u in place(n, "5g", np.random.default_rng(seed))]
    assert len(links) == n
    for link in links:
        assert max(map(abs, link.place)) <= 0.5
        assert mode in (link.mode, "mixed")
        expected = rate(MODES[link.mode], MODES[link.mode].up, 1000 * math.hypot(*link.place))
        assert link.up == expected
        assert link.loss == MODES[link.mode].loss


def test_mixed_clients_draw_every_mode_alike() -> None:
    modes = [link.mode for link in place(3000, "mixed", np.random.default_rng(0))]
    assert all(900 < modes.count(name) < 1100 for name in MODES)


@pytest.mark.parametrize(
    ("clients", "mode", "words"),
    [
        (3, "4g", "no mode '4g': take one of lte, wifi, 5g, mixed"),
        (0, "lte", "0 clients: place at least 1"),
        (-1, "lte", "-1 clients"),
    ],
)
def test_nobody_is_placed_in_no_mode(clients: int, mode: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        place(clients, mode, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"mode": "mixed"}, "no mode 'mixed': take one of lte, wifi, 5g$"),
        ({"place": (0.0, math.nan)}, "give km east and north"),
        ({"up": 0.9}, "give both, 1 to 10"),
        ({"up": math.nan}, "give both, 1 to 10"),
        ({"down": 1.7e308}, "give both, 1 to 10"),
        ({"down": -1.0}, "give both, 1 to 10"),
        ({"loss": 1.0}, "a loss of 1.0: give a share"),
        ({"loss": -0.1}, "give a share"),
        ({"loss": math.nan}, "give a share"),
    ],
    ids=str,
)
def test_what_cannot_be_a_link_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(LINK, **wrong)


# Times


@given(LOSSES)
def test_no_bytes_take_no_time(loss: float) -> None:
    assert expected_seconds(replace(LINK, loss=loss), 0, 0) == 0


@given(BYTES, BYTES)
def test_without_loss_a_message_takes_its_bits_by_the_rate(up: int, down: int) -> None:
    link = replace(LINK, loss=0.0)
    assert expected_seconds(link, up, down) == pytest.approx(8 * up / link.up + 8 * down / link.down)


@given(st.integers(1, 10**7), LOSSES, LOSSES)
def test_more_loss_takes_more_time_in_expectation(size: int, a: float, b: float) -> None:
    less, more = (expected_seconds(replace(LINK, loss=loss), size, size) for loss in sorted((a, b)))
    assert less <= more
    assert expected_seconds(replace(LINK, loss=0.5), size, size) == pytest.approx(
        2 * expected_seconds(replace(LINK, loss=0.0), size, size)
    )


@pytest.mark.parametrize("loss", [0.0, 0.1, 0.6])
def test_the_mean_of_many_transmissions_is_the_expectation(loss: float) -> None:
    """Packets sent until they arrive: how many are lost on the way is negative binomial."""
    link, packets, rng = replace(LINK, loss=loss), 30, np.random.default_rng(1)
    times = 8 * 1500 / link.up * (packets + rng.negative_binomial(packets, 1 - loss, 4000))
    error = 5 * np.std(times) / math.sqrt(len(times))
    assert np.mean(times) == pytest.approx(expected_seconds(link, 1500 * packets, 0), abs=error + 1e-12)


def test_devices_are_log_normal_and_nine_of_ten_within_a_factor_of_ten() -> None:
    drawn = speeds(20_000, np.random.default_rng(0))
    low, median, high = np.percentile(drawn, [5, 50, 95])
    assert drawn.min() > 0
    assert median == pytest.approx(500, rel=0.03)
    assert high / low == pytest.approx(10, rel=0.05)
    assert np.array_equal(drawn, speeds(20_000, np.random.default_rng(0)))


@given(st.integers(0, 10**6), st.floats(1, 10**4))
def test_training_takes_its_examples_by_the_speed(examples: int, speed: float) -> None:
    assert compute_seconds(examples, speed) * speed == pytest.approx(examples)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), min_size=1))
def test_a_round_waits_for_its_slowest_client(times: list[tuple[float, float]]) -> None:
    compute, transmit = zip(*times, strict=True)
    delay = round_seconds(compute, transmit)
    assert delay in [a + b for a, b in times]
    assert all(a + b <= delay for a, b in times)


def test_a_slow_device_and_a_slow_link_of_different_clients_do_not_add_up() -> None:
    assert round_seconds([9, 1], [1, 8]) == 10


@pytest.mark.parametrize(("compute", "transmit"), [([], []), ([1.0], []), ([1.0], [1.0, 2.0])])
def test_a_round_needs_both_times_of_every_client(compute: list[float], transmit: list[float]) -> None:
    with pytest.raises(ValueError, match="one each per client"):
        round_seconds(compute, transmit)


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan, math.inf])
def test_a_device_of_no_speed_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="give examples a second, above 0"):
        compute_seconds(100, speed)
