"""Sessions of split over real sockets: relays that listen to the server as clients do, and what becomes of a
session without one."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from loopback import Federation, exact_sum

from secagg import Counts, Policy
from secagg.split import Split
from transport import Cohort, RoundReport

N, M, LENGTH = 5, 2, 5
SPLIT = Policy(schemes=frozenset({"split"}))


@pytest.fixture(scope="session")
def relayed(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return Federation(tmp_path_factory.mktemp("relayed"), N, M)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transport.router.PING_SECONDS", 0.01)
    monkeypatch.setattr("transport.server.TICK_SECONDS", 0.01)


def scheme_of(cohort: Cohort, length: int = LENGTH, **numbers: int) -> Split:
    vectors = Counts(length=length, maximum=2**20)
    return Split.for_cohort(N, vectors, relays=M, roster=cohort.roster.identities, **numbers)


def test_a_session_with_relays_gives_the_exact_sum(relayed: Federation, threads: ThreadPoolExecutor) -> None:
    reports: dict[str, RoundReport] = {}
    with relayed.serve() as cohort:
        relays = [threads.submit(relayed.relay, j, cohort.endpoint) for j in range(M)]
        clients = [
            threads.submit(relayed.contribute, u, cohort.endpoint, LENGTH, policy=SPLIT) for u in range(N)
        ]
        total = cohort.aggregate(
            scheme_of(cohort), os.urandom(16), watch=lambda report: reports.update({report.round: report})
        )
    assert total.survivors == frozenset(range(N))
    np.testing.assert_array_equal(total.sum[""], exact_sum(total.survivors, LENGTH))
    assert [client.result().summed for client in clients] == [True] * N
    assert [[one.summed for one in relay.result()] for relay in relays] == [[True]] * M
