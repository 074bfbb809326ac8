"""The benchmark of depth, made small, and its nets, which have names where they are attacked alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import deep, inverted
from benchmarks.inverted import Target
from benchmarks.leakage import depth
from fl.data import Dataset
from fl.leakage.attack import Budget, Guess, Knowledge
from fl.leakage.labels import labels
from fl.leakage.views import Part, View
from fl.models.architectures import MODELS, ModelError, build
from tests.benchmarks.cases import rows_of, shown


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of 8 x 8 pixels of noise."""
    rng = np.random.default_rng(0)
    x, y = rng.random((60, 1, 8, 8), dtype=np.float32), np.arange(60) % 10
    monkeypatch.setattr(inverted, "load", lambda name: Dataset(name, x, y, x[:20], y[:20], classes=10))


def test_a_row_for_each_depth_and_the_least_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[tuple[str, str]]()

    def here(attack: str, view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
        asked.append((knowledge.model.model, attack))
        read = labels(view, knowledge, budget, seed)
        return tuple(replace(one, images=np.full((1, 1, 8, 8), 0.5)) for one in read)

    monkeypatch.setattr(deep, "attacked", here)
    rows = rows_of(depth)
    assert asked == [
        ("sigmoid-2", "inversion"),
        ("sigmoid-8", "inversion"),
        ("relu-2", "cosine"),
        ("relu-8", "cosine"),
    ]
    assert [row["convolutions"] for row in rows] == [2, 8, 2, 8]
    shown(depth, rows)


def test_the_nets_are_as_deep_as_they_say_and_are_no_models_of_a_client() -> None:
    with deep.named():
        for layers in deep.DEPTHS:
            model = build(f"relu-{layers}", (1, 8, 8), 10, 0)
            assert len([p for p in model.parameters() if p.ndim == 4]) == layers
        all_along = [p for p in build(deep.RESIDUAL, (1, 8, 8), 10, 0).parameters() if p.shape[2:] == (3, 3)]
        assert len(all_along) == depth.RESIDUAL.convolutions  # and shortcuts of 1 x 1 beside them
    assert not MODELS.keys() & deep.NETS.keys()
    with pytest.raises(ModelError):
        build("relu-2", (1, 8, 8), 10, 0)


@pytest.mark.slow
def test_a_deep_net_is_attacked_in_a_process_where_it_has_its_name() -> None:
    target = Target.drawn("mnist", 0, 1)
    with deep.named():
        knowledge = target.knowledge("sigmoid-2", 0)
        view = View((Part(frozenset({0}), target.uploads(knowledge)[0][None]),))
        budget = Budget(seconds=1e9, iterations=30, starts=1)
        (found,) = deep.attacked("inversion", view, knowledge, budget, 0)
    assert found.images is not None
    assert np.square(found.images - target.x).mean() < 1e-3
