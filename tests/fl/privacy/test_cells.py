"""Every cell of docs/privacy.md that runs is run: a round of it, with keys, masks or ciphertexts."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fl.cohort.layout import lay_out
from fl.config.run import RunConfig
from fl.federation.simulation import simulated
from tests.docs.privacy_table import CELLS, RUNS, SCHEMES, SELECTIONS, cell

CLIENTS = 6
SMALL: dict[str, Any] = {
    "clients": CLIENTS,
    "rounds": 1,
    "model": "logistic",
    "local_steps": 2,
    "execution": "sequential",
}
"""In a cell's place of 20 clients, of whom 10 are chosen."""

RUNNING = [each for each in CELLS if (each[1] == "none" or each[2] is not None) and cell(*each) == RUNS]


@pytest.mark.parametrize("each", RUNNING, ids=lambda each: " ".join(str(part) for part in each))
def test_a_cell_that_runs_is_run(each: tuple[str, str, str | None, str]) -> None:
    scheme, mechanism, noise, selection = each
    if "ckks" in scheme:
        pytest.importorskip("tenseal")
    settings = SCHEMES[scheme] | SELECTIONS[selection] | SMALL
    if "sample" in settings:
        settings["sample"] = 3
    if mechanism != "none":
        settings |= {"privacy": mechanism, "noise": noise, "clip": 0.5, "noise_multiplier": 1.0}
    config = RunConfig.of(**settings)
    (trained,) = simulated(config, lay_out(config)).rounds()
    record = trained.record
    assert record.alive == (3 if "sample" in settings else CLIENTS)
    assert (record.epsilon is not None) == (mechanism != "none")
    assert record.epsilon is None or math.isfinite(record.epsilon)
