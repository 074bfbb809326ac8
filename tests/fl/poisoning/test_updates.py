"""What attackers send: the law of each attack."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fl.poisoning.data import DATA
from fl.poisoning.data import LEVELS as OF_DATA
from fl.poisoning.updates import COLLUDING, LEVELS, UPDATES, Known, Vectors, z_max

rows, values = st.integers(1, 6), st.floats(-10, 10, width=32)


@st.composite
def rounds(draw: st.DrawFn) -> Known:
    """A round of up to 6 attackers, who know up to 6 others or none of them."""
    d = draw(st.integers(1, 8))

    def changes(n: int) -> Vectors:
        return draw(arrays(np.float64, (n, d), elements=values))

    own = changes(draw(rows))
    others = changes(draw(rows)) if draw(st.booleans()) else None
    clients = len(own) + draw(st.integers(len(others) if others is not None else 0, 20))
    return Known(1, changes(1)[0], own, others, clients)


def sent(name: str, known: Known, level: float | None = None, seed: int = 0) -> Vectors:
    return UPDATES[name](known, level, np.random.default_rng(seed))


def distances(points: Vectors, to: Vectors) -> Vectors:
    """Each from each, written out."""
    return np.linalg.norm(points[:, None] - to[None], axis=2)


@given(known=rounds(), name=st.sampled_from(list(UPDATES)))
def test_each_attacker_sends_one_update_and_what_is_known_stays_as_it_was(known: Known, name: str) -> None:
    own = known.own.copy()
    forged = sent(name, known)
    assert forged.shape == known.own.shape
    assert np.isfinite(forged).all()
    assert np.array_equal(known.own, own)
    assert np.array_equal(forged, sent(name, known))


@given(known=rounds(), name=st.sampled_from(sorted(COLLUDING)))
def test_colluders_all_send_the_same(known: Known, name: str) -> None:
    forged = sent(name, known)
    assert (forged == forged[0]).all()


@given(known=rounds(), name=st.sampled_from(sorted(UPDATES.keys() - COLLUDING - {"uniform"})))
def test_the_others_look_at_their_own_update_alone(known: Known, name: str) -> None:
    one = replace(known, own=known.own[:1], others=None, clients=1)
    all_of_them = replace(known, clients=len(known.own))
    assert np.array_equal(sent(name, one)[0], sent(name, all_of_them)[0])


@given(known=rounds())
def test_the_opposite_is_of_the_uploaded_parameters(known: Known) -> None:
    uploaded = known.model + sent("opposite", known)
    assert np.allclose(uploaded, -(known.model + known.own), atol=1e-12)


@given(known=rounds(), most=st.floats(0.1, 10))
def test_uniform_parameters_are_within_the_level_whatever_was_trained(known: Known, most: float) -> None:
    uploaded = known.model + sent("uniform", known, most)
    assert (np.abs(uploaded) <= most + 1e-9).all()
    assert np.array_equal(sent("uniform", known), sent("uniform", replace(known, own=0 * known.own)))


def test_uniform_parameters_fill_their_range_and_are_each_attackers_own() -> None:
    drawn = sent("uniform", Known(1, np.zeros(20_000), np.zeros((2, 20_000)), None, 2))
    assert abs(drawn.mean()) < 0.02
    assert drawn.var() == pytest.approx(1 / 3, rel=0.02)
    assert abs(np.corrcoef(drawn)[0, 1]) < 0.05


@given(known=rounds(), level=st.floats(0, 10))
def test_a_change_is_turned_or_boosted_by_the_level(known: Known, level: float) -> None:
    assert np.array_equal(sent("sign-flip", known, level), -level * known.own)
    assert np.array_equal(sent("scale", known, level), level * known.own)


@given(known=rounds())
def test_replacement_makes_the_mean_the_attackers_model_where_the_others_stay(known: Known) -> None:
    mean = sent("replacement", known).sum(axis=0) / known.clients
    assert np.allclose(mean, known.own.mean(axis=0), atol=1e-9)


@given(known=rounds(), level=st.floats(0.01, 10))
def test_the_inner_product_with_the_honest_mean_is_turned(known: Known, level: float) -> None:
    honest = known.honest.mean(axis=0)
    assert sent("inner-product", known, level)[0] @ honest == pytest.approx(-level * honest @ honest)


@given(known=rounds(), z=st.floats(0, 5))
def test_a_little_is_so_many_deviations_from_the_mean(known: Known, z: float) -> None:
    away = known.honest.mean(axis=0) - sent("little", known, z)[0]
    assert np.allclose(away, z * known.honest.std(axis=0), atol=1e-9)


@given(known=rounds())
def test_without_a_level_a_little_stays_within_z_deviations(known: Known) -> None:
    z = z_max(known.clients, len(known.own))
    assert np.array_equal(sent("little", known), sent("little", known, z))


def test_z_is_what_baruch_et_al_reckon() -> None:
    """Their example: 50 clients and 24 attackers need two more; of 26 honest 24 are further in."""
    assert z_max(50, 24) == pytest.approx(NormalDist().inv_cdf(24 / 26))
    assert z_max(50, 12) == pytest.approx(NormalDist().inv_cdf(24 / 38))


@given(clients=st.integers(1, 200), data=st.data())
def test_z_is_finite_never_negative_and_grows_with_the_attackers_up_to_half(
    clients: int, data: st.DataObject
) -> None:
    attackers = data.draw(st.integers(1, clients))
    z = z_max(clients, attackers)
    assert 0 <= z < 10
    if attackers + 1 <= clients // 2:
        assert z_max(clients, attackers + 1) >= z


@given(known=rounds())
def test_min_max_is_no_further_from_any_honest_change_than_two_of_them_are_apart(known: Known) -> None:
    honest = known.honest
    furthest, apart = distances(sent("min-max", known)[:1], honest).max(), distances(honest, honest).max()
    assert furthest <= apart * (1 + 1e-6) + 1e-6
    if honest.std(axis=0).any():  # and reaches it
        assert furthest == pytest.approx(apart, rel=1e-5, abs=1e-5)


@given(known=rounds())
def test_min_sum_is_no_further_from_all_than_one_of_the_honest_is(known: Known) -> None:
    honest = known.honest
    summed = np.square(distances(sent("min-sum", known)[:1], honest)).sum()
    apart = np.square(distances(honest, honest)).sum(axis=1).max()
    assert summed <= apart * (1 + 1e-6) + 1e-6
    if honest.std(axis=0).any():
        assert summed == pytest.approx(apart, rel=1e-5, abs=1e-5)


@given(known=rounds(), name=st.sampled_from(["min-max", "min-sum"]))
def test_both_go_from_the_mean_against_the_deviation_by_the_share_of_the_level(
    known: Known, name: str
) -> None:
    mean, away = known.honest.mean(axis=0), known.honest.std(axis=0)
    moved, half = mean - sent(name, known)[0], mean - sent(name, known, 0.5)[0]
    assert np.allclose(half, moved / 2, atol=1e-9)
    assert moved @ away == pytest.approx(np.linalg.norm(moved) * np.linalg.norm(away), abs=1e-6)
    assert moved @ away >= 0


@given(known=rounds(), which=st.integers(0, 10))
def test_mimics_send_what_one_honest_client_does(known: Known, which: int) -> None:
    followed = known.own if known.others is None else known.others
    assert np.array_equal(sent("mimic", known, which)[0], followed[min(which, len(followed) - 1)])


def test_every_attack_has_a_level_and_a_name_of_its_own() -> None:
    assert LEVELS.keys() == UPDATES.keys() - {"little"}
    assert OF_DATA.keys() == DATA.keys()
    assert not UPDATES.keys() & DATA.keys()


@pytest.mark.parametrize("attack", [*UPDATES.values(), *DATA.values()])
def test_every_attack_says_what_it_needs_to_see_and_where_it_is_from(attack: object) -> None:
    first, *paragraphs = (attack.__doc__ or "").split("\n\n")
    assert first.strip()
    assert [text.strip().partition(": ")[0] for text in paragraphs] == ["Needs", "Source"]
