"""The interface every scheme shares: one session, used once, driven by `run` and seen by the recorders."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from secagg import LocalProtocolError, Masking, Plain, Recorded, RemoteProtocolError, TooFewClients, run
from secagg.record import RecordedClient
from secagg.session import Scheme
from tests.secagg.helpers import MIXED, TASK, Play, mixed_inputs

SCHEMES = [Masking.for_cohort(5, MIXED), Plain.for_cohort(5, MIXED)]
every_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=["masking", "plain"])
INPUTS = mixed_inputs(range(5))


def is_dead(client: Any, request: bytes) -> None:
    with pytest.raises(LocalProtocolError, match="over, or was never started"):
        client.receive(request)


# Used once


@every_scheme
def test_vectors_are_asked_for_exactly_once(scheme: Scheme) -> None:
    asked: list[tuple[int, bytes]] = []

    def contribute(u: int) -> Callable[[bytes], Any]:
        return lambda task: asked.append((u, task)) or INPUTS[u]

    run(scheme, {u: contribute(u) for u in INPUTS}, task=TASK)
    assert sorted(asked) == [(u, TASK) for u in INPUTS]


@every_scheme
def test_a_client_lost_before_the_task_is_not_asked_for_vectors(scheme: Scheme) -> None:
    def fail(task: bytes) -> Any:
        raise AssertionError("asked")

    assert run(scheme, INPUTS | {0: fail}, drop={"join": {0}}).survivors == {1, 2, 3, 4}


@every_scheme
def test_a_session_is_started_once(scheme: Scheme) -> None:
    client = scheme.client(0, lambda task: INPUTS[0])
    client.start()
    with pytest.raises(LocalProtocolError, match="started before"):
        client.start()


@every_scheme
def test_a_session_that_was_not_started_receives_nothing(scheme: Scheme) -> None:
    request = Play(scheme, INPUTS).to(scheme.rounds[1]).requests[0]
    is_dead(scheme.client(0, lambda task: INPUTS[0]), request)


@every_scheme
def test_a_session_that_is_done_receives_nothing(scheme: Scheme) -> None:
    play = Play(scheme, INPUTS).to(scheme.rounds[1])
    request = play.requests[0]
    assert not play.clients[0].done
    play.finish()
    assert play.clients[0].done
    is_dead(play.clients[0], request)
    with pytest.raises(LocalProtocolError, match="started before"):
        play.clients[0].start()


@every_scheme
def test_a_session_is_dead_after_its_vectors_could_not_be_made(scheme: Scheme) -> None:
    def out_of_memory(task: bytes) -> Any:
        raise MemoryError

    request = Play(scheme, INPUTS).to(scheme.rounds[1]).requests[0]
    client = scheme.client(0, out_of_memory)
    client.start()
    with pytest.raises(MemoryError):
        client.receive(request)
    is_dead(client, request)


@every_scheme
def test_a_session_is_dead_after_a_message_it_refused(scheme: Scheme) -> None:
    play = Play(scheme, INPUTS).to(scheme.rounds[1])
    with pytest.raises(RemoteProtocolError):
        play.clients[0].receive(b"")
    is_dead(play.clients[0], play.requests[0])


# run


@every_scheme
def test_a_drop_in_an_unknown_round_is_refused(scheme: Scheme) -> None:
    with pytest.raises(
        LocalProtocolError, match=f"no round 'lunch'; the rounds are {', '.join(scheme.rounds)}"
    ):
        run(scheme, INPUTS, drop={"lunch": {0}})


@every_scheme
def test_a_drop_of_an_unknown_client_is_refused(scheme: Scheme) -> None:
    with pytest.raises(LocalProtocolError, match="client 7 cannot be dropped: it is not in the cohort"):
        run(scheme, INPUTS, drop={"join": {0, 7, 8}})


@every_scheme
def test_a_cohort_of_another_size_is_refused(scheme: Scheme) -> None:
    with pytest.raises(LocalProtocolError, match="a cohort of 4 clients for parameters made for 5"):
        run(scheme, {u: INPUTS[u] for u in range(4)})


@every_scheme
def test_a_bad_vector_is_told_to_the_caller(scheme: Scheme) -> None:
    bad = INPUTS[0] | {"weight": 5}
    with pytest.raises(LocalProtocolError, match=r"vector 'weight' holds 5, not in 1\.\.4"):
        run(scheme, INPUTS | {0: bad})


@every_scheme
def test_all_lost_is_too_few_in_any_scheme(scheme: Scheme) -> None:
    for round in scheme.rounds:
        with pytest.raises(TooFewClients) as caught:
            run(scheme, INPUTS, drop={round: INPUTS})
        assert (caught.value.alive, caught.value.round) == (0, round)


@every_scheme
def test_values_may_be_any_mapping(scheme: Scheme) -> None:
    total = run(scheme, INPUTS | {0: types.MappingProxyType(INPUTS[0])})
    assert total.survivors == INPUTS.keys()


@every_scheme
def test_the_rng_of_a_run_is_the_rng_of_every_party(scheme: Scheme) -> None:
    asked: list[int] = []

    def rng(n: int) -> bytes:
        asked.append(n)
        return np.random.default_rng(len(asked)).bytes(n)

    run(scheme, INPUTS, rng=rng)
    assert bool(asked) == isinstance(scheme, Masking)


# The aggregate and the recorders


@every_scheme
def test_an_aggregate_shows_who_and_how_exactly_but_no_numbers(scheme: Scheme) -> None:
    text = repr(run(scheme, INPUTS, drop={"join": {4}}))
    assert "survivors=frozenset({0, 1, 2, 3})" in text
    assert "error_bound=" in text
    assert "array" not in text


@every_scheme
def test_a_recorded_server_is_the_server_and_its_view_is_every_byte(scheme: Scheme) -> None:
    play = Play(scheme, INPUTS)
    server = play.server = Recorded(play.server)
    said: dict[tuple[str, int], bytes] = {}
    heard: dict[tuple[str, int], bytes] = {}
    assert server.waiting_for == INPUTS.keys()
    for round in scheme.rounds:
        play.to(round)
        said |= {(round, u): m for u, m in play.requests.items()}
        play.answer()
        heard |= {(round, u): m for u, m in play.answers.items()}
        assert server.view.aggregate is None
    total = play.finish()
    assert {(round, u): m for round, u, m in server.view.received} == heard
    assert {(round, u): m for round, u, m in server.view.sent} == said
    assert len(server.view.received) == len(heard) == 5 * len(scheme.rounds)
    assert server.view.aggregate is server.result is total
    assert (server.round, server.waiting_for) == ("done", frozenset())


@every_scheme
def test_a_recorded_server_remembers_what_the_server_refused(scheme: Scheme) -> None:
    server = Recorded(scheme.server(INPUTS))
    with pytest.raises(RemoteProtocolError):
        server.receive(3, bytearray(b"nonsense"))
    assert server.view.received == [("join", 3, b"nonsense")]
    assert server.waiting_for == {0, 1, 2, 4}


@every_scheme
def test_a_recorded_client_is_the_client_and_remembers_what_it_said(scheme: Scheme) -> None:
    play = Play(scheme, INPUTS)
    client = RecordedClient(scheme.client(0, lambda task: INPUTS[0]))
    play.clients[0], play.answers[0] = client, client.start()
    heard = []
    for round in scheme.rounds:
        heard.append(play.to(round).answer().answers[0])
        assert client.done == (round == scheme.rounds[-1])
    play.finish()
    assert client.said == heard
    assert client.clipping.keys() == MIXED.keys()
