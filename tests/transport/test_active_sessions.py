"""Sessions against an active server over real sockets: the roster at work, and one input a task."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import numpy as np
import pytest
from loopback import PATIENCE, Federation, Instrumented, exact_sum, vanish, vector
from msgspec.structs import replace

from fl.cli.report import round_line
from secagg import Counts, Masking, Policy, RemoteProtocolError, Tampered, TooFewClients
from secagg.alike import OWN_INPUT, Likeness
from secagg.masking.messages import Delivery, MaskedInputRequest, traffic
from secagg.wire import decode, encode
from transport import Cohort, RoundReport, TransportError

N, LENGTH = 5, 5
ACTIVE = Policy()


def scheme_of(cohort: Cohort, **numbers: int) -> Masking:
    vectors = Counts(length=LENGTH, maximum=2**20)
    return Masking.for_cohort(N, vectors, adversary="active", roster=cohort.roster.identities, **numbers)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transport.router.PING_SECONDS", 0.01)
    monkeypatch.setattr("transport.server.TICK_SECONDS", 0.01)


@pytest.mark.parametrize(
    "round", ["advertise-keys", "share-keys", "masked-input", "consistency-check", "unmasking"]
)
def test_a_client_lost_in_any_round_leaves_the_exact_sum(
    round: str, federation: Federation, threads: ThreadPoolExecutor
) -> None:
    reports: dict[str, RoundReport] = {}
    with federation.serve() as cohort:
        scheme = scheme_of(cohort)
        clients = [
            threads.submit(
                federation.contribute,
                u,
                cohort.endpoint,
                LENGTH,
                policy=ACTIVE,
                progress=vanish(round) if u == 4 else None,
            )
            for u in range(N)
        ]
        task = os.urandom(16)
        total = cohort.aggregate(scheme, task, watch=lambda report: reports.update({report.round: report}))
    lost_before = scheme.rounds.index(round) <= scheme.rounds.index("masked-input")
    assert total.survivors == frozenset(range(4 if lost_before else 5))
    np.testing.assert_array_equal(total.sum[""], exact_sum(total.survivors, LENGTH))
    assert [client.result().summed for client in clients[:4]] == [True] * 4
    sets = [reports[name].alive for name in scheme.rounds[1:5]]
    for u in range(4):
        for name, formula in traffic(scheme, len(task), u, *sets[:3], sets[3]).items():
            assert (reports[name].up[u], reports[name].down.get(u, 0)) == formula


def test_a_task_is_contributed_to_once_whatever_became_of_the_session(
    federation: Federation, threads: ThreadPoolExecutor
) -> None:
    """The session fails after the masked inputs left; the server asks again, and nobody answers."""
    task, all_left = os.urandom(16), Barrier(N + 1)

    def client(u: int, endpoint: str) -> str:
        with suppress(TransportError), federation.join(u, endpoint, ACTIVE) as peer:
            first = peer.contribute(
                lambda task: vector(u, LENGTH), progress=vanish("unmasking") if u > 2 else None
            )
            assert not first.summed
        all_left.wait()
        all_left.wait()
        with federation.join(u, endpoint, ACTIVE) as peer:
            peer.contribute(lambda task: vector(u, LENGTH))
        return "gave a second"

    with federation.serve(finish=0.0) as cohort:
        clients = [threads.submit(client, u, cohort.endpoint) for u in range(N)]
        with pytest.raises(TooFewClients, match="unmasking"):
            cohort.aggregate(scheme_of(cohort), task)
        all_left.wait()
        while cohort.connected:  # until all have been missed; then all come back
            cohort.wait_for_clients(N + 1, 0.05)
        all_left.wait()
        cohort.wait_for_clients(N, 60)
        with pytest.raises(TooFewClients, match="masked-input"):
            cohort.aggregate(scheme_of(cohort), task)
    for u in range(N):
        with pytest.raises(RemoteProtocolError, match="a task this client has contributed to"):
            clients[u].result()


@pytest.mark.parametrize(
    ("numbers", "policy", "words"),
    [
        ({"corrupt": 0}, Policy(), "corrupt 0; by this client's policy it is 1"),
        ({"threshold": 5}, Policy(), "threshold 5; by this client's policy it is 4"),
        ({}, Policy(m_min=5), "m_min 4; by this client's policy it is 5"),
        ({}, Policy(smallest_cohort=6), "from 6 on"),
        ({}, Policy(vectors={}), "policy says of the vectors"),
    ],
)
def test_a_client_refuses_a_number_that_is_not_its_policys(
    numbers: dict[str, int],
    policy: Policy,
    words: str,
    federation: Federation,
    threads: ThreadPoolExecutor,
) -> None:
    with federation.serve() as cohort:
        clients = [
            threads.submit(federation.contribute, u, cohort.endpoint, LENGTH, policy=policy) for u in range(N)
        ]
        with pytest.raises(TooFewClients):
            cohort.aggregate(scheme_of(cohort, **numbers), os.urandom(16))
    with pytest.raises(RemoteProtocolError, match=words):
        clients[0].result()


def test_with_a_roster_a_client_refuses_a_server_that_asks_for_trust(
    federation: Federation, threads: ThreadPoolExecutor
) -> None:
    with federation.serve() as cohort:
        clients = [
            threads.submit(federation.contribute, u, cohort.endpoint, LENGTH, policy=None) for u in range(N)
        ]
        with pytest.raises(TooFewClients):
            cohort.aggregate(Masking.for_cohort(N, Counts(length=LENGTH, maximum=2**20)), os.urandom(16))
    with pytest.raises(RemoteProtocolError, match='adversary="semi-honest"'):
        clients[0].result()


def test_who_has_a_roster_gets_an_active_session_by_default(
    federation: Federation, threads: ThreadPoolExecutor
) -> None:
    """Server and clients agree without a word: on a scheme made with the roster, and where only the vectors
    are named."""
    vectors = {"": Counts(length=LENGTH, maximum=2**20)}
    with federation.serve() as cohort:
        roster = cohort.roster.identities
        assert Masking.for_cohort(N, vectors, roster=roster) == scheme_of(cohort)
        clients = [
            threads.submit(federation.contribute, u, cohort.endpoint, LENGTH, policy=None) for u in range(N)
        ]
        total = cohort.aggregate(vectors, os.urandom(16))
        assert total.survivors == frozenset(range(N))
    assert all(client.result().scheme.adversary == "active" for client in clients)


def test_without_a_roster_a_client_takes_part_in_semi_honest_sessions_only(
    federation: Federation, threads: ThreadPoolExecutor
) -> None:
    with federation.serve() as cohort:
        clients = [
            threads.submit(federation.contribute_without_roster, u, cohort.endpoint, LENGTH) for u in range(N)
        ]
        semi_honest = Masking.for_cohort(N, Counts(length=LENGTH, maximum=2**20))
        total = cohort.aggregate(semi_honest, os.urandom(16))
        assert total.survivors == frozenset(range(N))
        with pytest.raises(TooFewClients):
            cohort.aggregate(scheme_of(cohort), os.urandom(16))
    for client in clients:
        with pytest.raises(RemoteProtocolError, match="roster="):
            client.result()


def test_a_share_that_does_not_open_is_reported_as_a_pair(
    federation: Federation, threads: ThreadPoolExecutor
) -> None:
    def spoil(round: str, u: int, request: bytes) -> bytes:
        if (round, u) != ("masked-input", 0):
            return request
        asked = decode(MaskedInputRequest, request)
        dealt = asked.dealt
        sealed = bytes([dealt[1].sealed[0] ^ 1]) + dealt[1].sealed[1:]
        return encode(replace(asked, dealt=dealt | {1: Delivery(sealed, dealt[1].commitments)}))

    reports: list[RoundReport] = []
    with federation.serve() as cohort:
        scheme = Instrumented(scheme_of(cohort), lambda session: Tampered(session, spoil))
        for u in range(N):
            threads.submit(federation.contribute, u, cohort.endpoint, LENGTH, policy=ACTIVE)
        total = cohort.aggregate(scheme, os.urandom(16), watch=reports.append)  # type: ignore[arg-type]
    np.testing.assert_array_equal(total.sum[""], exact_sum(frozenset(range(N)), LENGTH))
    assert reports[-1].unopened == {(0, 1)}
    assert "share of 1 unusable at 0" in round_line(reports[-1])


def test_who_is_lost_takes_its_batch_out_of_the_sum(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    """Eight clients by twos; client 5 is lost before its vector, and client 4 is told why."""
    federation, reports = Federation(tmp_path, 8), dict[str, RoundReport]()
    with federation.serve() as cohort:
        roster, vectors = cohort.roster.identities, Counts(length=LENGTH, maximum=2**20)
        scheme = Masking.for_cohort(8, vectors, adversary="active", roster=roster, corrupt=0, batch=2)
        clients = [
            threads.submit(
                federation.contribute,
                u,
                cohort.endpoint,
                LENGTH,
                policy=Policy(corrupt=0, batch=2),
                progress=vanish("masked-input") if u == 5 else None,
            )
            for u in range(8)
        ]
        task = os.urandom(16)
        total = cohort.aggregate(scheme, task, watch=lambda report: reports.update({report.round: report}))
    assert total.survivors == frozenset({0, 1, 2, 3, 6, 7})
    np.testing.assert_array_equal(total.sum[""], exact_sum(total.survivors, LENGTH))
    assert [clients[u].result().summed for u in (0, 1, 2, 3, 6, 7)] == [True] * 6
    assert not clients[4].result().summed
    why = (
        "not summed: too few are left of its group, or not all of its batch, or the sum would be too "
        "near to an earlier one"
    )
    assert clients[4].result().reason == why
    assert reports["consistency-check"].lost == {4: why}


def test_a_client_that_insists_on_batches_refuses_to_be_summed_without(
    federation: Federation, threads: ThreadPoolExecutor
) -> None:
    with federation.serve() as cohort:
        clients = [
            threads.submit(federation.contribute, u, cohort.endpoint, LENGTH, policy=Policy(batch=5))
            for u in range(N)
        ]
        with pytest.raises(TooFewClients):
            cohort.aggregate(scheme_of(cohort), os.urandom(16))
    with pytest.raises(RemoteProtocolError, match="by batches of 0; this client insists on 5"):
        clients[0].result()


def test_a_client_that_would_not_join_may_think_again_while_the_round_is_open(
    federation: Federation, threads: ThreadPoolExecutor
) -> None:
    joining = Event()
    with federation.serve() as cohort:
        total = threads.submit(cohort.aggregate, scheme_of(cohort), os.urandom(16))

        def start(u: int, policy: Policy = ACTIVE, **how: Any) -> Future[Any]:
            return threads.submit(federation.contribute, u, cohort.endpoint, LENGTH, policy=policy, **how)

        for u in (1, 2, 3):
            start(u)
        with pytest.raises(RemoteProtocolError, match="insists on 5"):
            start(0, Policy(batch=5)).result()
        again = start(0, progress=lambda round, sent, size: joining.set())
        assert joining.wait(PATIENCE)
        start(4)
        assert total.result().survivors == frozenset(range(N))
        assert again.result().summed


def contribute(federation: Federation, u: int, endpoint: str, **how: Any) -> Any:
    """The vector itself, not a function of the task."""
    with federation.join(u, endpoint, ACTIVE) as peer:
        return peer.contribute(vector(u, LENGTH), **how)


@pytest.fixture
def eight(tmp_path: Path) -> Federation:
    return Federation(tmp_path, 8)


def sum_of_eight(
    eight: Federation, threads: ThreadPoolExecutor, lost: set[int], *, new: bool = False, **more: Any
) -> tuple[Any, list[Future[Any]]]:
    """A session on all clients' own vectors, in which some vanish."""
    with eight.serve() as cohort:
        clients = [
            threads.submit(
                contribute,
                eight,
                u,
                cohort.endpoint,
                new=new,
                progress=vanish("masked-input") if u in lost else None,
            )
            for u in range(8)
        ]
        vectors = Counts(length=LENGTH, maximum=2**20)
        roster = cohort.roster.identities
        scheme = Masking.for_cohort(8, vectors, roster=roster, corrupt=0, dropout=2)
        total = cohort.aggregate(scheme, os.urandom(16), **more)
    return total, clients


ACTIVE_OF_EIGHT = Policy(corrupt=0, dropout=2)


def test_a_client_remembers_what_its_own_vector_was_summed_with(
    eight: Federation, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over all runs of its program, as its key's file is there: of a server without the rule."""
    monkeypatch.setattr(f"{__name__}.ACTIVE", ACTIVE_OF_EIGHT)
    assert sum_of_eight(eight, threads, set())[0].survivors == set(range(8))
    with pytest.raises(TooFewClients, match="consistency-check"):
        sum_of_eight(eight, threads, {3})
    total, _ = sum_of_eight(eight, threads, {3}, new=True)
    assert total.survivors == set(range(8)) - {3}


def far_off(task: bytes) -> Likeness:
    """Of a server that sends another model each time."""
    return Likeness("training", np.frombuffer(task, np.uint8).astype(float))


@pytest.mark.parametrize("alike", [None, lambda task: None, far_off], ids=["unsaid", "none", "far off"])
@pytest.mark.parametrize("likening", ["auto", "any"])
def test_by_a_policy_of_any_all_is_alike_whatever_a_function_says_of_the_task(
    eight: Federation, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, likening: Any, alike: Any
) -> None:
    given = vector
    monkeypatch.setattr(f"{__name__}.ACTIVE", replace(ACTIVE_OF_EIGHT, alike=likening))
    monkeypatch.setattr(f"{__name__}.vector", lambda u, length: lambda task: given(u, length))
    monkeypatch.setattr(f"{__name__}.contribute", partial(contribute, alike=alike))
    assert sum_of_eight(eight, threads, set())[0].survivors == set(range(8))
    if likening == "any":
        with pytest.raises(TooFewClients, match="consistency-check"):
            sum_of_eight(eight, threads, {3})
    else:
        assert sum_of_eight(eight, threads, {3})[0].survivors == set(range(8)) - {3}


def test_a_server_with_the_rule_sums_what_its_clients_sign(
    eight: Federation, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over all runs of its program too."""
    monkeypatch.setattr(f"{__name__}.ACTIVE", ACTIVE_OF_EIGHT)
    assert sum_of_eight(eight, threads, {3}, alike=OWN_INPUT)[0].survivors == set(range(8)) - {3}
    total, clients = sum_of_eight(eight, threads, set(), alike=OWN_INPUT)
    assert total.survivors == set(range(8)) - {3}
    np.testing.assert_array_equal(total.sum[""], exact_sum(total.survivors, LENGTH))
    assert "too near to an earlier one" in clients[3].result().reason
