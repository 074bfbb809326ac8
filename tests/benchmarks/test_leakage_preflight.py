"""What the table of the preflight is made of: honest rounds, crafted models, and what naive signs say."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.leakage import preflight
from benchmarks.leakage.preflight import OTHERS, Clients, crafted, plans, run_crafted, run_honest, table
from fl.leakage.imprint import crafted as imprint


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"EXAMPLES": (50,), "CLIENTS": 2, "ROUNDS": 2, "MODELS": 1}.items():
        monkeypatch.setitem(getattr(preflight, name), "quick", value)


@pytest.mark.usefixtures("small")
def test_honest_rounds_and_crafted_models_are_counted_alike() -> None:
    rows = [row for row in run_honest("digits", "mlp", OTHERS, 0, "quick") if not isinstance(row, str)]
    assert [row["rounds"] for row in rows] == [4] * len(plans(50))
    assert sum(row["alarms"] for row in rows) == 0
    made = [row for row in run_crafted("digits", "mlp", 50, 0, "quick") if not isinstance(row, str)]
    assert len(made) == len(crafted("mlp", 50)) * len(plans(50))
    assert {row["alike"] for row in made if row["model"] == "imprint"} == {1}
    drawn = Clients.drawn("digits", "mlp", 50, 1, np.random.default_rng(0))
    sent = crafted("mlp", 50)["imprint"](drawn.description, drawn.public, np.random.default_rng(0))
    np.testing.assert_array_equal(sent, imprint(drawn.description, drawn.public))  # what the attack sends
    preflight.CONTROL.check([*rows, *made])
    assert len(table([*rows, *made]).rows) == len(rows) + len(made)


def test_a_server_has_no_image_of_a_clients() -> None:
    drawn = Clients.drawn("digits", "mlp", 20, 2, np.random.default_rng(0))
    own = np.concatenate(drawn.x).reshape(40, -1)
    apart = np.abs(own[:, None] - drawn.public.reshape(1, len(drawn.public), -1)).max(axis=2)
    assert apart.min() > 0


def test_naive_signs_are_of_models_that_begin_with_a_linear_layer() -> None:
    drawn = Clients.drawn("digits", "cnn", 20, 1, np.random.default_rng(0))
    seen = drawn.seen(0, drawn.first(0), plans(20)["1 step of all"])
    assert (seen.suspicious, seen.verdict.out) == ((), 0)
