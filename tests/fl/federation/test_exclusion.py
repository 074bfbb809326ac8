"""Sums that fail after they were asked for: the run goes on, without whom their own signed bytes name."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pytest

from fl.cli.book import Book
from fl.cohort.layout import lay_out
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets
from fl.federation.exclusion import Excluding, Exclusion
from fl.federation.records import Trained
from fl.federation.server import Server
from fl.federation.simulation import simulated
from secagg import ClientSession, RemoteProtocolError, ServerSession, TooFewClients
from secagg.errors import RelayLost
from tests.enemies.dealer import Dealer, Half
from transport import RoundReport

SECRETS = RunSecrets.of_seed(3)
SMALL: dict[str, Any] = {
    "clients": 5,
    "rounds": 3,
    "local_steps": 2,
    "model": "logistic",
    "examples_per_client": 20,
    "execution": "batched",
}
WORDS = {"key": "client 1 dealt shares of another key", "mask": "client 1 dealt shares of another mask"}


class Lying:
    """An instrument: what some clients are instead of what they should be."""

    def __init__(self, clients: Collection[int], lie: Callable[[ClientSession], ClientSession]) -> None:
        self._clients, self._lie = clients, lie

    def server(self, task: bytes, session: ServerSession) -> ServerSession:
        return session

    def client(self, u: int, session: ClientSession) -> ClientSession:
        return self._lie(session) if u in self._clients else session


def dealing(half: Half, *clients: int) -> Lying:
    return Lying(clients, lambda session: Dealer(session, half))


def begun(lying: Lying, resume: Any = None, **changes: Any) -> Server:
    config = RunConfig.of(**SMALL | changes)
    return simulated(config, lay_out(config), secrets=SECRETS, instrument=lying, resume=resume)


def go(server: Server) -> tuple[list[Trained], list[RoundReport]]:
    reports: list[RoundReport] = []
    return list(server.rounds(None, reports.append)), reports


@pytest.mark.parametrize("half", WORDS)
def test_a_dealer_of_useless_shares_costs_a_round_and_its_place(half: Half) -> None:
    server = begun(dealing(half, 1))
    start = server.model.parameters
    (first, *others), reports = go(server)
    assert first.record.abandoned == WORDS[half]
    assert (first.record.alive, first.survivors, first.record.excluded) == (0, (), [1])
    np.testing.assert_array_equal(first.parameters, start)
    for trained in others:
        assert (trained.record.abandoned, trained.record.excluded) == ("", [1])
        assert trained.survivors == (frozenset({0, 2, 3, 4}),)
    lost = [report.lost for report in reports if report.round == "join"]
    assert lost == [{}, *[{1: f"excluded: {WORDS[half]} (round 1)"}] * 2]
    assert not any(report.lost for report in reports[len(server.scheme.rounds) :] if report.round != "join")


def test_the_sum_that_failed_counts_as_opened() -> None:
    server = begun(dealing("mask", 1))
    book = Book(server.scheme.opening_round, server.scheme.upload_round)
    failed, seen = [], []
    for trained in server.rounds(None, book.watch):
        failed.append(book.opened(trained.survivors))
        seen.append(set(book._sums.sets))
    assert failed == [[frozenset(range(5))], [], []]
    assert seen[0] == {frozenset(range(5))}
    assert book._ledger.sessions == 3


def test_what_comes_out_alike_is_summed_far_enough_from_the_sum_that_failed() -> None:
    """Of one step at a model that has not moved: the next leaves out two more, for it would be near to what a
    server has that opened the first after all.
    """
    trained, _ = go(begun(dealing("mask", 1), clients=12, local_steps=1))
    assert [each.record.alive for each in trained] == [0, 9, 11]


def test_a_run_that_goes_on_does_not_ask_it_again() -> None:
    server = begun(dealing("mask", 1))
    first = next(iter(server.rounds()))
    again, _ = go(begun(dealing("mask", 1), first.checkpoint))
    assert [trained.record.excluded for trained in again] == [[1], [1]]
    assert [trained.survivors for trained in again] == [(frozenset({0, 2, 3, 4}),)] * 2


def test_rounds_of_some_are_of_others_while_there_are_enough() -> None:
    """And where there are not, of as many all the same: the excluded are dropped from them."""
    server = begun(dealing("mask", 0, 1, 2, 3, 4), clients=9, sample=5, rounds=1)
    go(server)
    (culprit,) = server.exclusion.why
    for round in range(2, 12):
        assert culprit not in server._chosen(round)[0]
    server.exclusion.why |= dict.fromkeys(range(6), "")
    assert {len(server._chosen(round)[0]) for round in range(2, 12)} == {5}
    assert {frozenset(server._chosen(round)[0]) >= {6, 7, 8} for round in range(2, 12)} == {True}


def test_without_enough_others_it_ends_in_one_line_that_says_who_is_excluded() -> None:
    """Each of two costs a round; the three that are left are too few. A run that may abandon rounds ends,
    too, for no later one can have more.
    """
    for changes in ({}, {"minimum": 4}):
        server = begun(dealing("mask", 1, 3), rounds=5, **changes)
        rounds = server.rounds()
        assert [next(rounds).record.excluded for _ in range(2)] == [[1], [1, 3]]
        with pytest.raises(Excluding) as caught:
            next(rounds)
        assert (caught.value.alive, caught.value.needed) == (3, 4)
        assert caught.value.excluded.keys() == {1, 3}
        words = ". Asked no more: client 1 dealt shares of another mask (round 1); client 3 dealt"
        assert words in str(caught.value)


def test_where_nothing_is_signed_nobody_is_named() -> None:
    """It may be the dealer or a holder: the round is lost, and the next is asked of all."""
    trained, _ = go(begun(dealing("key", 1), adversary="semi-honest", rounds=2))
    words = f"{WORDS['key']}; who is at fault cannot be told"
    assert [each.record.abandoned for each in trained] == [words] * 2
    assert [each.record.excluded for each in trained] == [[], []]


# What ends a run, and what does not


FEW = TooFewClients(3, 4, "unmasking", 2, {0})


def exclusion(**changes: Any) -> Exclusion:
    return Exclusion(RunConfig.of(**SMALL | changes), {})


def test_a_client_that_one_holder_reports_may_be_right() -> None:
    each = exclusion()
    said = each.abandoned(FEW, 1, range(5), closed=True)
    assert said == "3 clients left in unmasking with a share of client 2 that can be used, 4 needed"
    assert each.why == {}


@pytest.mark.parametrize(
    ("error", "closed", "changes"),
    [
        (TooFewClients(3, 4, "unmasking"), True, {}),
        (RelayLost({0}, 2, "deliver"), False, {}),
        (RemoteProtocolError("what the server asks for", ()), False, {}),
        (RemoteProtocolError("client 1 lied", {1}), False, {}),
        (RemoteProtocolError("client 1 lied", {1}), True, {"scheme": "ckks", "ending": "keep"}),
        (FEW, True, {"scheme": "ckks", "ending": "keep"}),
    ],
    ids=["network", "relay", "refused", "not closed", "kept", "kept, unusable"],
)
def test_other_ends_are_the_runs(error: Any, closed: bool, changes: dict[str, Any]) -> None:
    each = exclusion(**changes)
    assert each.abandoned(error, 1, range(5), closed=closed) is None
    assert each.why == {}
