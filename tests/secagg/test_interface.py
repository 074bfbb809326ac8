"""The user code that docs/architecture.md promises, run as it stands there, with every scheme."""

from __future__ import annotations

import queue
import threading
from typing import Any

import numpy as np
import pytest

import secagg
from secagg import (
    CKKS,
    Bounded,
    Counts,
    LocalProtocolError,
    Masking,
    Plain,
    Policy,
    Recorded,
    RemoteProtocolError,
    Split,
    TooFewClients,
    Weight,
    throwaway_identities,
)
from secagg.record import Unclipped
from secagg.schemes import SCHEMES as SCHEMES_THERE_ARE
from secagg.schemes import accept, read_offer
from secagg.session import relays_of
from tests.play import Play, among, identities, learned, run
from tests.secagg.helpers import SCHEMES, credentials

PATIENCE = 600  # seconds: nothing waits so long unless something is broken
LENGTH = 1000
every_scheme = pytest.mark.parametrize("make", SCHEMES.values(), ids=SCHEMES)


def train(u: int, task: bytes) -> np.ndarray:
    return np.random.default_rng([u, len(task)]).uniform(-1, 1, LENGTH)


def test_in_process() -> None:
    inputs = {u: {"update": train(u, b"")} for u in range(10)}
    vectors = {"update": Bounded(length=LENGTH, bound=1.0, bits=16)}
    expected = np.mean([inputs[u]["update"] for u in range(9)], axis=0)
    roster, keys = throwaway_identities(range(10), relays=3)
    for scheme, more in (
        (Plain.for_cohort(clients=10, vectors=vectors), {}),
        (Masking.for_cohort(clients=10, vectors=vectors), {}),
        (
            Masking.for_cohort(clients=10, vectors=vectors, adversary="active", roster=roster),
            {"identities": keys},
        ),
        (CKKS.for_cohort(clients=10, vectors=vectors), {}),
        (CKKS.for_cohort(clients=10, vectors=vectors, ending="release"), {}),
        (CKKS.for_cohort(clients=10, vectors=vectors, roster=roster), {"identities": keys}),
        (Split.for_cohort(clients=10, vectors=vectors), {}),
        (Split.for_cohort(clients=10, vectors=vectors, relays=3, roster=roster), {"identities": keys}),
    ):
        total = run(scheme, inputs, drop={"join": {9}}, **more)
        assert np.abs(total.mean["update"] - expected).max() <= total.error_bound["update"] < 1e-3


@every_scheme
def test_in_process_with_one_unnamed_vector(make: Any) -> None:
    inputs = {0: [1, 2], 1: np.array([3, 4]), 2: (5, 6)}
    scheme = make(inputs, Counts(length=2, maximum=9))
    assert run(scheme, inputs, **credentials(scheme, inputs)).sum[""].tolist() == [9, 12]


@every_scheme
def test_a_malicious_client_skips_the_clip_and_no_scheme_notices_but_its_range_stays(make: Any) -> None:
    specs = {"update": Bounded(length=3, bound=1.0, clip=0.5)}
    sent = {0: [2.0, 0.6, -0.8], 1: [0.0, 0.3, 0.4], 2: [0.0, 1.5, 2.0]}
    inputs = {u: {"update": x} for u, x in sent.items()}
    scheme = make(inputs, specs)

    def skipping(u: int, session: Any) -> Any:
        return Unclipped(session, lambda task: task == b"attacked") if u == 0 else session

    for task, of_the_first in ((b"attacked", [1.0, 0.6, -0.8]), (b"not", [0.4472, 0.1342, -0.1789])):
        total = run(scheme, inputs, task=task, listen=skipping, **credentials(scheme, inputs))
        expected = np.mean([of_the_first, [0.0, 0.3, 0.4], [0.0, 0.3, 0.4]], axis=0)
        assert np.abs(total.mean["update"] - expected).max() <= total.error_bound["update"] + 1e-4


@every_scheme
def test_who_weighs_nothing_is_in_the_sum_and_adds_nothing_to_it(make: Any) -> None:
    specs = {"update": Bounded(length=1, bound=1.0), "examples": Weight(maximum=4)}
    given = {0: (0.5, 1), 1: (-1.0, 0), 2: (-0.5, 3.0)}
    inputs = {u: {"update": [x], "examples": weight} for u, (x, weight) in given.items()}
    total = run(make(inputs, specs), inputs, **credentials(make(inputs, specs), inputs))
    assert (total.survivors, total.sum["examples"].tolist()) == ({0, 1, 2}, [4])
    assert abs(total.mean["update"][0] + 0.25) <= total.error_bound["update"]


@every_scheme
def test_in_somebody_elses_loop_and_queues(make: Any) -> None:
    """No I/O inside: clients in threads of their own, which know the offer and two queues."""
    n, task, weights = 5, b"the model", [10, 20, 30, 40, 50]
    specs = {"update": Bounded(length=LENGTH, bound=1.0), "examples": Weight(maximum=100)}
    offered = make(range(n), specs)
    policy = Policy(schemes=frozenset(SCHEMES_THERE_ARE), adversary="semi-honest")
    roster, keys = identities(range(n))
    inbox: queue.Queue[tuple[int, bytes]] = queue.Queue()
    relays = relays_of(offered)
    outboxes: dict[int, queue.Queue[bytes]] = {u: queue.Queue() for u in (*range(n), *relays)}
    done: dict[int, Any] = {}

    def client(u: int) -> None:
        def send(message: bytes) -> None:
            inbox.put((u, message))

        def recv() -> bytes:
            return outboxes[u].get(timeout=PATIENCE)

        scheme = accept(policy, offered.offer(), roster)
        me = (
            scheme.relay(relays.index(u), identity=keys[u])
            if u in relays
            else scheme.client(
                u,
                lambda task: among(scheme, {"update": train(u, task), "examples": weights[u]}),
                identity=keys[u],
            )
        )
        send(me.start())
        while not me.done:
            send(me.receive(recv()))
        done[u] = me

    threads = [threading.Thread(target=client, args=(u,), daemon=True) for u in outboxes]
    for thread in threads:
        thread.start()
    server = offered.server(range(n), task, roster=roster)
    while server.result is None:
        while server.waiting_for:
            server.receive(*inbox.get(timeout=PATIENCE))
        for u, message in server.advance().items():
            outboxes[u].put(message)
    for thread in threads:
        thread.join()
    assert done.keys() == outboxes.keys()
    total = learned(server.result, done.values())
    expected = np.average([train(u, task) for u in range(n)], axis=0, weights=weights)
    assert np.abs(total.mean["update"] - expected).max() <= total.error_bound["update"]
    assert total.sum["examples"].tolist() == [sum(weights)]


@every_scheme
def test_a_scheme_is_what_its_offer_says_at_the_other_end(make: Any) -> None:
    scheme = make(range(3), Counts(length=1, maximum=1))
    other = read_offer(scheme.offer())
    assert other.digest() == scheme.digest()
    assert (other.rounds, other.explain()) == (scheme.rounds, scheme.explain())


@every_scheme
def test_a_scheme_names_the_rounds_in_which_vectors_are_asked_for_and_leave(make: Any) -> None:
    long = np.zeros(30 * LENGTH)  # longer than any key
    scheme, trained = make(range(3), Bounded(length=len(long), bound=1.0)), set[str]()
    recorded: list[Recorded] = []

    def instrument(server: Any) -> Recorded:
        recorded.append(Recorded(server))
        return recorded[0]

    def vectors(task: bytes) -> np.ndarray:
        trained.add(recorded[0].round)
        return long

    run(scheme, dict.fromkeys(range(3), vectors), instrument=instrument, **credentials(scheme, range(3)))
    said = recorded[0].view.received
    assert trained == {scheme.training_round} <= set(scheme.slow_rounds)
    assert max(said, key=lambda message: len(message[2]))[0] == scheme.upload_round


@every_scheme
def test_a_scheme_names_the_rounds_that_do_not_end_for_want_of_answers(make: Any) -> None:
    ids = range(3)
    scheme = make(ids, Counts(length=1, maximum=1))
    more = credentials(scheme, ids)
    servers: list[Any] = []

    def instrument(server: Any) -> Any:
        servers.append(server)
        return server

    for round in scheme.rounds:
        drop = {round: [*ids, *relays_of(scheme)]}
        with pytest.raises(TooFewClients):
            run(scheme, {u: [1] for u in ids}, drop=drop, instrument=instrument, **more)
        assert (servers[-1].round == round) == (round in scheme.finishing_rounds)


@every_scheme
def test_a_server_that_is_interrupted_in_the_last_round_does_not_go_on(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a sum from which some masks were taken off nobody could tell which are left."""
    play = Play(make(range(3), Counts(length=1, maximum=1)), {u: [1] for u in range(3)})

    def interrupted(closing: str, alive: frozenset[int]) -> dict[int, bytes]:
        raise KeyboardInterrupt

    play.to(play.scheme.rounds[-1]).answer()
    monkeypatch.setattr(play.server, "_open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        play.close()
    monkeypatch.undo()
    with pytest.raises(LocalProtocolError, match="this session is over"):
        play.server.advance()
    assert play.server.result is None


@every_scheme
def test_a_client_of_another_session_is_refused_at_the_door(make: Any) -> None:
    one, other = (make(range(3), Counts(length=1, maximum=m)) for m in (1, 2))
    roster, keys = identities(range(3))
    server = one.server(range(3), roster=roster)
    with pytest.raises(RemoteProtocolError, match="other parameters"):
        server.receive(0, other.client(0, lambda task: [1], identity=keys[0]).start())


def test_the_public_names_are_all_there() -> None:
    assert len(set(secagg.__all__)) == len(secagg.__all__)
    assert all(hasattr(secagg, name) for name in secagg.__all__)
