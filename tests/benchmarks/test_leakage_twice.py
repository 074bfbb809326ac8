"""Two sums that differ by one client: what a disguised model gets past its rule, and what that tells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks import inverted
from benchmarks.leakage import twice
from benchmarks.leakage.twice import (
    AGAIN,
    ALL,
    KNOWN,
    NAMES,
    NEXT,
    NEXT_TASK,
    PASS,
    REPEATED,
    SECRET,
    SINGLE,
    SLOW,
    SOME,
    SUM,
    VICTIM,
    Company,
    Kept,
    Setup,
)
from fl.data import load
from fl.leakage import apart
from fl.leakage.attack import Budget, Guess, Knowledge
from fl.leakage.attacks import ATTACKS
from fl.leakage.views import View
from secagg import Policy
from secagg.policy import Likening
from tests.benchmarks.cases import rows_of, shown

DISGUISED = [NAMES[name] for name in ("renumbered", "rescaled", "shifted")]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits, read by division alone, here."""

    def here(attack: str, view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
        assert attack in ("inversion", "analytic")
        return ATTACKS["analytic"](view, knowledge, budget, seed)

    monkeypatch.setattr(inverted, "load", lambda name: load("digits"))
    monkeypatch.setattr(apart, "run", here)
    monkeypatch.setattr(twice, "TIMES", 4)


def off(company: Company, second: str) -> float:
    """How far what the server reads of the victim is from its update, beside the length of that."""
    whole = company.session(company.first, Kept()).part
    assert whole is not None
    true = company.uploads[VICTIM].copy()
    part = company.asked_twice(whole, company.second(second, whole, 0))
    assert part.members == {VICTIM}
    return float(np.linalg.norm(part.updates[0] - true) / np.linalg.norm(true))


@pytest.mark.parametrize("second", [AGAIN, *DISGUISED])
@pytest.mark.parametrize(("setup", "order"), [(ALL, SECRET), (SOME, KNOWN)])
def test_without_a_rule_the_difference_is_the_victims_update(setup: Setup, order: str, second: str) -> None:
    assert off(Company.drawn(setup, order, 0), second) < 0.02


@pytest.mark.parametrize("second", [NEXT_TASK, *DISGUISED])
def test_in_a_secret_order_it_is_not_where_others_are_in_a_step(second: str) -> None:
    assert off(Company.drawn(SOME, SECRET, 0), second) > 1


def test_but_of_small_steps_by_all_examples_it_is_in_any_order() -> None:
    assert off(Company.drawn(SLOW, SECRET, 0), NAMES["shifted"]) < 0.3


def test_and_what_a_secret_order_leaves_averages_out() -> None:
    company = Company.drawn(PASS, SECRET, 0)
    once = off(company, NAMES["shifted"])
    company.session(company.first, Kept())
    true = company.uploads[VICTIM].copy()
    often = company.repeated(0).updates[0]
    assert np.linalg.norm(often - true) / np.linalg.norm(true) < 0.7 * once


def refusals(setup: Setup, rule: Likening, among: Sequence[str]) -> set[str]:
    """The second sessions that all nine refuse; the others none does."""
    company = Company.drawn(setup, SECRET, 0)
    whole = company.session(company.first, Kept()).part
    assert whole is not None
    found = set[str]()
    for second in among:
        kept, asked = Kept(Policy(alike=rule)), company.second(second, whole, 0)
        first = company.session(company.first, kept)
        assert (first.refused, first.part is None) == (0, False)
        again = company.session(asked, kept, [VICTIM])
        assert (again.refused, again.part is None) in ((9, True), (0, False))
        if again.part is None:
            found.add(second)
        else:  # to the bit what clients without a rule send
            bare = company.session(asked, Kept(), [VICTIM]).part
            assert bare is not None
            np.testing.assert_array_equal(again.part.updates, bare.updates)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setup", "rule", "refused"),
    [
        (ALL, "auto", {AGAIN, NEXT_TASK}),
        (SLOW, "auto", {AGAIN}),
        (SLOW, "always", {AGAIN, NEXT_TASK, NEXT}),
    ],
)
def test_the_rule_for_near_models_sees_none_that_is_disguised(
    setup: Setup, rule: Likening, refused: set[str]
) -> None:
    assert refusals(setup, rule, [AGAIN, NEXT_TASK, NEXT, *DISGUISED]) == refused


def test_the_rule_for_any_models_needs_to_see_nothing() -> None:
    among = [NEXT, *NAMES.values()]
    assert refusals(SLOW, "any", among) == set(among)


def test_a_client_that_helps_to_a_sum_of_any_model_helps_to_that_of_the_same_clients_again() -> None:
    company, kept = Company.drawn(SLOW, SECRET, 0), Kept(Policy(alike="any"))
    whole = company.session(company.first, kept).part
    assert whole is not None
    assert company.session(company.second(NEXT, whole, 0), kept).refused == 0


def test_a_row_for_what_is_asked_without_a_rule_and_for_each_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twice, "SESSIONS", (AGAIN, NAMES["shifted"]))
    rows = rows_of(twice)
    found = {row["second"]: row["found"] for row in rows if row["rule"] == twice.NO_RULE}
    assert found == {SINGLE: True, SUM: False, AGAIN: True, NAMES["shifted"]: True}
    assert [row["refused"] for row in rows if row["rule"] == "auto"] == [9, 0]
    assert len(rows) == 4 + 2 * len(twice.RULES)
    assert all(len(row["psnr"]) == (80 if row["second"] == SUM else 8) for row in rows if "psnr" in row)
    shown(twice, rows)


def test_only_where_an_order_is_unknown_is_it_asked_many_times_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twice, "SESSIONS", (AGAIN,))
    monkeypatch.setattr(twice, "RULES", ())
    monkeypatch.setattr(twice, "TIMES", 1)
    for order, so in ((KNOWN, False), (SECRET, True)):
        rows = [row for row in twice.run_case(SLOW, order, 0, 0.1) if not isinstance(row, str)]
        assert (REPEATED in {row["second"] for row in rows}) is so
