"""CKKS sessions over loopback, in both endings: who has the sum, and who is found out."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from loopback import LONG, MAXIMUM, SHORT, Federation, exact_sum, vanish

from secagg import (
    CKKS,
    Aggregate,
    ClientSession,
    Counts,
    LocalProtocolError,
    Policy,
    RemoteProtocolError,
    TooFewClients,
)
from secagg.ckks.messages import Decrypted
from secagg.record import RecordedClient
from secagg.wire import Raw, decode, encode
from transport import Cohort, Contribution, RoundReport
from transport.frames import CHUNK_BYTES

N = 5
EVERYBODY = frozenset(range(N))
TRUSTING = Policy(schemes=frozenset({"ckks"}), adversary="semi-honest")
both_endings = pytest.mark.parametrize("ending", ["keep", "release"])


class Session:
    """One CKKS session of a cohort. how: client -> what else it is told."""

    def __init__(
        self,
        federation: Federation,
        threads: ThreadPoolExecutor,
        ending: Any,
        length: int = SHORT,
        how: dict[int, dict[str, Any]] | None = None,
    ) -> None:
        self.reports: dict[str, RoundReport] = {}
        self.length = length
        with federation.serve() as cohort:
            self.scheme = self.offered(cohort, ending)
            self._clients: dict[int, Future[Contribution | None]] = {
                u: threads.submit(
                    federation.contribute,
                    u,
                    cohort.endpoint,
                    length,
                    **{"policy": TRUSTING, **(how or {}).get(u, {})},
                )
                for u in range(N)
            }
            self.total: Aggregate = cohort.aggregate(self.scheme, os.urandom(16), watch=self._watch)

    def offered(self, cohort: Cohort, ending: Any) -> CKKS:
        vectors = Counts(length=self.length, maximum=MAXIMUM)
        return CKKS.for_cohort(N, vectors, ending=ending, roster=cohort.roster.identities)

    def _watch(self, report: RoundReport) -> None:
        self.reports[report.round] = report

    def contribution(self, u: int) -> Contribution:
        contribution = self._clients[u].result()
        assert contribution is not None
        return contribution

    def kept(self, u: int) -> Aggregate:
        result = self.contribution(u).result
        assert result is not None
        return result


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transport.router.PING_SECONDS", 0.01)
    monkeypatch.setattr("transport.server.TICK_SECONDS", 0.01)


def test_where_clients_keep_the_sum_each_has_it_and_the_server_has_not(
    federation: Federation, threads: ThreadPoolExecutor
) -> None:
    """The encrypted sum is longer than a chunk, on its way down as on its way up."""
    session = Session(federation, threads, "keep", LONG)
    for u in EVERYBODY:
        assert session.contribution(u).summed
        assert session.kept(u).survivors == EVERYBODY
        np.testing.assert_array_equal(session.kept(u).sum[""], exact_sum(EVERYBODY, LONG))
    assert session.total.survivors == EVERYBODY
    with pytest.raises(LocalProtocolError, match="the clients keep this sum: the server never has it"):
        session.total.sum[""]
    assert min(session.reports["input"].up.values()) > CHUNK_BYTES
    assert min(session.reports["decrypt"].down.values()) > CHUNK_BYTES


def test_a_released_sum_is_the_servers_and_no_clients(
    federation: Federation, threads: ThreadPoolExecutor
) -> None:
    """Three are sent it and release it, in a message longer than a chunk each."""
    session = Session(federation, threads, "release", LONG)
    np.testing.assert_array_equal(session.total.sum[""], exact_sum(EVERYBODY, LONG))
    assert [session.contribution(u).result for u in EVERYBODY] == [None] * N
    decrypt = session.reports["decrypt"]
    assert [u for u in EVERYBODY if decrypt.down[u] > CHUNK_BYTES] == [0, 1, 2]
    assert [u for u in EVERYBODY if decrypt.up[u] > CHUNK_BYTES] == [0, 1, 2]


@both_endings
@pytest.mark.parametrize("round", ["advertise-keys", "share-keys", "input", "decrypt"])
def test_a_client_lost_in_any_round_leaves_the_exact_sum(
    federation: Federation, threads: ThreadPoolExecutor, ending: str, round: str
) -> None:
    """Client 0: it makes a key, and would be the first to release."""
    session = Session(federation, threads, ending, how={0: {"progress": vanish(round)}})
    survivors = EVERYBODY if round == "decrypt" else EVERYBODY - {0}
    assert session.total.survivors == survivors
    assert session.reports[round].lost == {0: "vanished"}
    for u in range(1, N):
        total = session.kept(u) if ending == "keep" else session.total
        np.testing.assert_array_equal(total.sum[""], exact_sum(survivors, SHORT))


class Liar(RecordedClient):
    """Releases another sum than it has decrypted."""

    def receive(self, message: Raw) -> bytes | None:
        reply = super().receive(message)
        if reply is None or not self.done:
            return reply
        released = np.frombuffer(decode(Decrypted, reply).released, "<i8") + 1000
        return encode(Decrypted(memoryview(released.tobytes())))


def test_who_releases_another_sum_is_lost_in_the_report(
    federation: Federation, threads: ThreadPoolExecutor
) -> None:
    lie: Callable[[ClientSession], ClientSession] = Liar
    session = Session(federation, threads, "release", how={1: {"instrument": lie}})
    np.testing.assert_array_equal(session.total.sum[""], exact_sum(EVERYBODY, SHORT))
    why = "released another sum than the others"
    assert session.reports["decrypt"].lost == {1: why}
    assert (session.contribution(1).summed, session.contribution(1).reason) == (False, why)
    assert session.contribution(2).summed


class Mute(RecordedClient):
    """Has the sum, and says nothing that the server would understand."""

    def receive(self, message: Raw) -> bytes | None:
        reply = super().receive(message)
        return b"?" if self.done else reply


def test_who_has_seen_the_sum_is_in_it_whatever_the_server_says(
    federation: Federation, threads: ThreadPoolExecutor
) -> None:
    session = Session(federation, threads, "keep", how={2: {"instrument": Mute}})
    contribution = session.contribution(2)
    assert contribution.summed
    assert contribution.reason.startswith("client 2, decrypt: not a decrypted message")
    np.testing.assert_array_equal(session.kept(2).sum[""], exact_sum(EVERYBODY, SHORT))
    assert session.reports["decrypt"].lost.keys() == {2}


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (Policy(adversary="semi-honest"), "the scheme ckks; this client accepts only masking"),
        (Policy(schemes=frozenset({"ckks"})), r'If you mean it: Policy\(adversary="semi-honest"\)'),
    ],
)
def test_a_client_takes_part_only_if_its_policy_names_ckks_and_trusts_the_server(
    federation: Federation, threads: ThreadPoolExecutor, policy: Policy, words: str
) -> None:
    """The only client left would be client 0; nobody else's program hears of the session."""
    refusing: dict[int, Future[Any]] = {}
    accepted: list[int] = []
    with federation.serve() as cohort:
        vectors = Counts(length=SHORT, maximum=MAXIMUM)
        scheme = CKKS.for_cohort(N, vectors, roster=cohort.roster.identities)
        for u in range(N):
            refusing[u] = threads.submit(
                federation.contribute,
                u,
                cohort.endpoint,
                SHORT,
                policy=policy if u else TRUSTING,
                accepted=lambda scheme, u=u: accepted.append(u),
            )
        with pytest.raises(TooFewClients, match="1 client left in round join"):
            cohort.aggregate(scheme, os.urandom(16))
    for u in range(1, N):
        with pytest.raises(RemoteProtocolError, match=words):
            refusing[u].result()
    assert accepted == [0]
