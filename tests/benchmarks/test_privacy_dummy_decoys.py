"""What decoys hide, and what they cost, at a size at which it says little; and the attacks can fail."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import shown as module
from benchmarks.guessed import ATTACKERS, Fitted, Observer, by_sum, interval
from benchmarks.harness import Row
from benchmarks.privacy import dummy_decoys, dummy_decoys_cost, dummy_shuffler
from benchmarks.shown import ALIKE, MATCHED, SENT, Images, in_session, layers_of
from fl.data import DataError, Dataset
from secagg import Among, Bounded, Decoys
from tests.benchmarks.cases import rows_of, shown


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three clients of ten examples each, of pixels of noise."""
    rng = np.random.default_rng(0)
    x, y = rng.random((600, 1, 8, 8), dtype=np.float32), np.arange(600) % 10
    monkeypatch.setattr(module, "load", lambda name: Dataset(name, x, y, x[:60], y[:60], classes=10))
    for name, value in {"CLIENTS": 3, "EXAMPLES": 10, "OWN": 2, "TESTS": 20}.items():
        monkeypatch.setattr(dummy_decoys, name, value)
    monkeypatch.setattr(dummy_shuffler, "EXAMPLES", 10)


# Guesses


@pytest.mark.usefixtures("_small")
def test_every_kind_of_decoy_is_guessed_and_with_the_sum_none_is_missed() -> None:
    pytest.importorskip("tenseal")
    rows = rows_of(dummy_decoys)
    assert len(rows) == len(SENT) * (len(ATTACKERS) + 1)
    assert {row["of"] for row in rows} == {3}
    assert {row["right"] for row in rows if row["attacker"] == dummy_decoys.THE_SUM} == {3}
    shown(dummy_decoys, rows)


@pytest.mark.usefixtures("_small")
def test_what_is_seen_of_a_session_is_what_clients_sent_and_no_order() -> None:
    pytest.importorskip("tenseal")
    rng, spec = np.random.default_rng(0), Bounded(length=50, bound=1.0)
    x = rng.uniform(-1, 1, (3, 4, 50))
    sent = {u: Among(x[u, 0], list(x[u, 1:])) for u in range(3)}
    scheme = Decoys.for_cohort(3, spec, candidates=4)
    seen, mean = in_session(scheme, sent)
    for u, candidates in seen.items():
        apart = np.abs(candidates[:, None] - x[u]).max(axis=2)
        assert sorted(apart.argmin(axis=1)) == [0, 1, 2, 3]
        assert apart.min(axis=1).max() <= 1 / spec.levels
    np.testing.assert_allclose(mean, x[:, 0].mean(axis=0), atol=1 / spec.levels)
    orders = {tuple(np.abs(seen[u][:, None] - x[u]).max(axis=2).argmin(axis=1)) for u in seen}
    orders |= {
        tuple(np.abs(again[u][:, None] - x[u]).max(axis=2).argmin(axis=1))
        for again in (in_session(scheme, sent)[0] for _ in range(4))
        for u in again
    }
    assert len(orders) > 1


@pytest.mark.usefixtures("_small")
def test_others_updates_are_of_others_examples_and_matched_where_it_is_said() -> None:
    images = Images(np.random.default_rng(0))
    for kind, alike in ((ALIKE, False), (MATCHED, True)):
        cohort = dummy_decoys.cohort(images, kind, 3, 0)
        among = cohort.trained()[0]
        first = layers_of(cohort.model)[0]
        norms = [np.linalg.norm(x[:first]) for x in (among[""], *(decoy[""] for decoy in among.decoys))]
        assert (max(norms) / min(norms) < 1.001) == alike


def test_a_fit_finds_what_tells_and_nothing_where_nothing_does() -> None:
    rng = np.random.default_rng(0)
    f, true = rng.normal(size=(400, 4, 3)), rng.integers(0, 4, 400)
    nothing = Fitted.to(f[:200], true[:200]).guess(f[200:])
    assert 30 < (nothing == true[200:]).sum() < 75
    f[np.arange(400), true, 1] -= 4
    found = Fitted.to(f[:200], true[:200]).guess(f[200:])
    assert (found == true[200:]).sum() > 180


def test_what_an_observer_looks_at() -> None:
    """A client that repeats itself, and one that goes with the others, are seen by what is meant for it."""
    rng = np.random.default_rng(0)
    model = module.build("mlp", (1, 2, 2), 3, 0)
    layers = layers_of(model)
    observer = Observer(model, layers, torch.rand(5, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1]))
    d = sum(layers)
    own, common = rng.normal(size=d), rng.normal(size=d)

    def look(round: int) -> Any:
        x = {u: rng.normal(size=(2, d)) for u in range(3)}
        x[0][0] += own
        for u in x:
            x[u][1] += common
        return observer.look(x, np.zeros(d), common)

    first, second = look(1), look(2)
    assert not first["last step"].any()
    assert not first["rounds"].any()
    assert (second["others"][:, 1] > second["others"][:, 0]).all()
    assert (second["last step"][:, 1] > second["last step"][:, 0]).all()
    assert (second["own data"][:, 1, 0] > second["own data"][:, 0, 0]).all()
    assert second["rounds"][0, 0, 0] > second["rounds"][1:, 0, 0].max() + 0.2
    assert second["norms, layers"].shape == (3, 2, 7 * len(layers))


def test_with_the_sum_the_true_ones_are_found_and_with_another_they_are_not() -> None:
    rng = np.random.default_rng(0)
    x = {u: rng.normal(size=(4, 500)) for u in range(10)}
    true = rng.integers(0, 4, 10)
    total = np.sum([x[u][true[u]] for u in x], axis=0)
    assert (by_sum(x, total, rng) == true).all()
    assert (by_sum(x, rng.normal(size=500), rng) == true).sum() < 8


@pytest.mark.parametrize(("right", "low", "high"), [(0, 0.0, 0.3085), (5, 0.1871, 0.8129), (10, 0.6915, 1.0)])
def test_intervals_of_clopper_and_pearson(right: int, low: float, high: float) -> None:
    """Of ten: their paper's figures, as every table has them."""
    assert interval(right, 10) == pytest.approx((low, high), abs=1e-4)


def row(kind: str, attacker: str, right: int, seed: int) -> Row:
    return {"kind": kind, "candidates": 4, "attacker": attacker, "seed": seed, "right": right, "of": 30}


def test_the_strongest_is_named_and_whether_it_is_at_chance() -> None:
    """Of two seeds; an interval is of as many guesses as there are clients, not of all their rounds."""
    rates = {"told": {"over rounds": 20}, "hidden": {"classifier": 12}}
    rows = [
        row(kind, name, 30 if name == dummy_decoys.THE_SUM else rate.get(name, 8), seed)
        for kind, rate in rates.items()
        for name in [*ATTACKERS, dummy_decoys.THE_SUM]
        for seed in range(2)
    ]
    told, hidden = dummy_decoys.table(rows).rows
    low, high = interval(2 / 3 * 20, 20, 0.05 / len(ATTACKERS))
    rate = f"67 ({100 * low:.0f} to {100 * high:.0f})"
    assert told[2:7] == ("20", "25.0", "over rounds", rate, "above chance")
    assert hidden[4] == "classifier"
    assert hidden[6] == "at chance"
    assert told[-1] == hidden[-1] == "100"


# Shares of whole vectors


@pytest.mark.usefixtures("_small")
def test_shares_of_updates_are_regrouped_and_of_vectors_that_fill_the_ring_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(dummy_shuffler.SIZES, "quick", ((4, 3),))
    rows = rows_of(dummy_shuffler)
    assert [row["regrouped"] for row in rows] == [4, 0]
    shown(dummy_shuffler, rows)


def test_what_is_shuffled_adds_up_to_what_was_cut() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-50, 50, (3, 8))
    sent, owners = dummy_shuffler.shuffled(x, 4, 16, rng)
    assert owners != sorted(owners)
    for u in range(3):
        own = sent[[i for i, owner in enumerate(owners) if owner == u]]
        assert np.array_equal(own.sum(axis=0) % 2**16, x[u] % 2**16)


# Cost


def test_decoys_are_charged_beside_ckks(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tenseal")
    monkeypatch.setattr(dummy_decoys_cost, "CLIENTS", 4)
    monkeypatch.setitem(dummy_decoys_cost.LENGTH, "quick", 500)
    ckks, two, four = rows = rows_of(dummy_decoys_cost)
    assert ckks["who"] == dummy_decoys_cost.BETTER
    assert four["up"] > 1.9 * two["up"]
    assert max(row["off"] for row in rows) < 1e-12
    shown(dummy_decoys_cost, rows)


@pytest.mark.parametrize(
    "case",
    [
        lambda: list(dummy_decoys.run_case(ALIKE, 2, 0, 1)),
        partial(dummy_shuffler.run_case, dummy_shuffler.VECTORS[0], 4, 2, 0),
    ],
)
def test_where_data_are_absent_it_is_said(monkeypatch: pytest.MonkeyPatch, case: Any) -> None:
    def load(name: str) -> Dataset:
        raise DataError(f"no {name} here")

    monkeypatch.setattr(module, "load", load)
    with pytest.raises(NotImplementedError, match="no mnist here"):
        case()
