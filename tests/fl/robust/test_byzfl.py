"""Our rules give what ByzFL's code gives, with its parameters, on 100 inputs (make_byzfl.py)."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.poisoning.byzfl import PAIRS
from tests.fl.robust.make_byzfl import FILE, INPUTS, drawn

RESULTS = json.loads(FILE.read_text())["results"]


def test_every_rule_is_there() -> None:
    assert RESULTS.keys() == PAIRS.keys()
    assert {len(results) for results in RESULTS.values()} == {INPUTS}


@pytest.mark.parametrize("rule", PAIRS)
def test_a_rule_gives_what_byzfl_gives(rule: str) -> None:
    for number, right in enumerate(RESULTS[rule]):
        x, f = drawn(number)
        np.testing.assert_allclose(PAIRS[rule].ours(x, f), right, rtol=1e-6, err_msg=f"input {number}")


@pytest.mark.parametrize("rule", ["Krum", "MultiKrum", "NNM", "TrMean"])
def test_the_inputs_tell_how_many_attackers_are_withstood(rule: str) -> None:
    differ = 0
    for number, right in enumerate(RESULTS[rule]):
        x, f = drawn(number)
        differ += f > 0 and not np.allclose(PAIRS[rule].ours(x, f - 1), right, rtol=1e-3)
    assert differ > INPUTS / 3
