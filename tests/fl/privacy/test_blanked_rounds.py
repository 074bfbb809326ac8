"""Rounds of training in which clients contribute nothing by coins of their own: the mean, what is charged and
said, and what is not sent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl.config.run import RunConfig
from fl.federation.vectors import BELOW, UPDATE
from fl.privacy.accounting import epsilon
from fl.privacy.budget import Account, Budget, Charged, of_private
from fl.privacy.releases import Sampled, rdp
from fl.privacy.spending import discrete_release
from secagg import Masking, Private, Split
from secagg.blank import SUMMED, Coin
from tests.fl.privacy.test_noised_rounds import Ear, is_noise, run_of
from transport.journal import Spent

DISTRIBUTED: dict[str, Any] = {"privacy": "distributed", "noise_multiplier": 1.0}


@pytest.fixture
def coins(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[bool]], None]:
    """Have the coins fall so, in the order in which they are tossed."""

    def fall(summed: list[bool]) -> None:
        left = iter(summed)
        monkeypatch.setattr("secagg.inputs.toss", lambda blank, rng: SUMMED if next(left) else Coin(0))

    return fall


@pytest.mark.parametrize("scheme", ["masking", "split"])
def test_the_mean_is_of_those_who_take_part_over_as_many_as_do_on_average(
    coins: Callable[[list[bool]], None], scheme: str
) -> None:
    coins([True, False, False, True, False])
    ear = Ear()
    server = run_of(ear, **DISTRIBUTED, blank=0.75, scheme=scheme)
    start = server.model.parameters
    trained = next(server.rounds())
    assert trained.parameters is not None
    assert sorted(ear.sent) == [0, 1, 2, 3, 4]  # all train and encode: what is summed is told to nobody
    parts = [ear.sent[u][0].astype(np.float64) for u in (0, 3)]
    due = sum(part * min(1, 0.5 / np.linalg.norm(part)) for part in parts) / (0.25 * 5)
    record = trained.record
    assert record.honest is not None
    assert record.noise == pytest.approx(0.5 / (0.25 * 5) * math.sqrt(5 / record.honest), rel=1e-3)
    assert is_noise(trained.parameters - start - due, record.noise)
    assert record.alive == 5


def test_a_round_is_charged_as_one_coin_for_all_that_it_sums_and_says_what_is_hidden() -> None:
    server = run_of(**DISTRIBUTED, blank=0.75, adaptive_clip=True)
    records = [trained.record for trained in server.rounds()]
    scheme = server.scheme
    assert isinstance(scheme, Masking)
    assert scheme.blank == 0.75
    ((told,), *others) = [charge.releases for charge in server.noising.spending.charges]
    assert isinstance(told, Sampled)
    assert (len(told.releases), told.rate, others) == (2, 0.25, [(told,), (told,)])
    assert [record.epsilon for record in records] == [epsilon([told] * n, 1e-5) for n in (1, 2, 3)]
    assert {record.against for record in records} == {
        "the server and the corrupt clients, who do not learn who took part"
    }
    # A single coin is hidden by the noise of its round, and by nothing else.
    assert server.noising.of_a_coin == epsilon(told.releases, 1e-5) > (records[0].epsilon or 0)


def test_the_multiplier_that_is_found_for_an_epsilon_is_the_less_for_the_coins() -> None:
    found = [
        run_of(privacy="distributed", noise_multiplier=None, epsilon=4.0, blank=blank).noising.multipliers[0]
        for blank in (0.0, 0.5, 0.9)
    ]
    assert found[0] > 1.4 * found[1] > 1.4 * 1.4 * found[2]
    server = run_of(**DISTRIBUTED | {"noise_multiplier": found[2]}, blank=0.9)
    assert [trained.record.epsilon for trained in server.rounds()][-1] == pytest.approx(4.0, rel=1e-3)


def test_a_clip_that_adapts_goes_by_the_share_of_those_who_take_part(
    coins: Callable[[list[bool]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of five with coins of 0.4: all of the two are below, as all five would be."""
    monkeypatch.setattr("secagg.private.add_noise", lambda *of: None)
    coins([True, False, True, False, False] * 3)
    server = run_of(**DISTRIBUTED | {"noise_multiplier": 1e-2}, adaptive_clip=True, clip=100.0, blank=0.6)
    clips = [trained.record.clip for trained in server.rounds()]
    assert set(server.scheme.vectors) == {UPDATE, BELOW}
    assert clips[:2] == pytest.approx([100, 100 * math.exp(-0.1)], rel=1e-3)


# Without noise


def test_without_noise_neither_weights_nor_loss_nor_counts_are_sent_beside_blanks() -> None:
    settings = {"privacy": "none", "clip": None, "noise_multiplier": None, "corrupt": 1, "dropout": 0}
    server = run_of(**settings, blank=1e-7)
    assert list(server.scheme.vectors) == [UPDATE]
    trained = next(server.rounds())
    assert (trained.record.train_loss, trained.record.train_accuracy) == (None, None)
    assert (trained.record.epsilon, trained.record.against) == (None, None)
    assert not RunConfig.of(blank=1e-7).weighted
    assert not RunConfig.of(blank=1e-7).tells_metrics


# A client's own budget

PRIVATE = {"a": Private(length=5, clip=1.0), "b": Private(length=1, clip=1.0)}


@pytest.mark.parametrize("kind", [Masking, Split])
def test_a_session_is_charged_with_what_it_tells_where_nobody_knows_who_took_part(
    kind: Any, tmp_path: Path
) -> None:
    scheme = kind.for_cohort(10, PRIVATE, blank=0.9)
    parts = tuple(discrete_release(one) for one in scheme.calibrations().values())
    assert of_private(scheme) == (Sampled(parts, 1 - 0.9),)
    spent = []
    for blank in (0.0, 0.9):
        charged = Charged(Account(Budget(epsilon=20.0), Spent(tmp_path / f"{blank}")), trains=False)
        charged.accepted(kind.for_cohort(10, PRIVATE, blank=blank))
        charged.leaving()
        spent.append(1 - charged.account.left)
    order = Budget(epsilon=20.0).best_order
    costs = [sum(rdp(one, order) for one in parts), rdp(Sampled(parts, 1 - 0.9), order)]
    assert spent[0] / spent[1] == pytest.approx(costs[0] / costs[1])
    assert spent[0] > 5 * spent[1]
