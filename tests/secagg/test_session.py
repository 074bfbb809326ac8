"""The interface every scheme shares: one session, used once, driven by `run` and seen by the recorders."""

from __future__ import annotations

import types
from collections.abc import Callable, Collection
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from secagg import (
    CKKS,
    LocalProtocolError,
    Plain,
    Recorded,
    RemoteProtocolError,
    SecAggError,
    ServerSession,
    Tampered,
    TooFewClients,
    states,
)
from secagg.aggregate import Aggregate
from secagg.crypto import Tag, digest
from secagg.errors import RelayLost
from secagg.identity import party
from secagg.record import RecordedClient
from secagg.session import Scheme, relays_of
from secagg.wire import MAX_ID, Join, decode, decode_task, encode, relay_party
from tests.play import TASK, Course, Play, among, identities, learned
from tests.play import run as run_session
from tests.secagg.helpers import (
    MIXED,
    REQUEST,
    ROUNDS,
    SCHEMES,
    assert_sum_of,
    credentials,
    first_round,
    holds_a_vector,
    kind_of,
    mixed_inputs,
    one_asked,
)

EACH = {name: make(range(5), MIXED) for name, make in SCHEMES.items()}
every_scheme = pytest.mark.parametrize("scheme", EACH.values(), ids=EACH)
every_secure = pytest.mark.parametrize("scheme", list(EACH.values())[1:], ids=list(EACH)[1:])
INPUTS = mixed_inputs(range(5))


def run(scheme: Scheme, inputs: Any, **more: Any) -> Aggregate:
    return run_session(scheme, inputs, **credentials(scheme, range(5)), **more)


def client_of(scheme: Scheme, vectors: Callable[[bytes], Any] = lambda task: INPUTS[0], **more: Any) -> Any:
    identity = identities(range(5))[1][0]
    return scheme.client(0, lambda task: among(scheme, vectors(task)), identity=identity, **more)


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
    client = client_of(scheme)
    client.start()
    with pytest.raises(LocalProtocolError, match="started before"):
        client.start()


@every_scheme
def test_a_session_that_was_not_started_receives_nothing(scheme: Scheme) -> None:
    request = Play(scheme, INPUTS).to(first_round(scheme)).requests[0]
    is_dead(client_of(scheme), request)


@every_scheme
def test_a_session_that_is_done_receives_nothing(scheme: Scheme) -> None:
    play = Play(scheme, INPUTS).to(first_round(scheme))
    request = play.requests[0]
    assert not play.clients[0].done
    play.finish()
    assert play.clients[0].done
    is_dead(play.clients[0], request + b"\0")
    with pytest.raises(LocalProtocolError, match="started before"):
        play.clients[0].start()


@every_scheme
def test_a_session_is_dead_after_its_vectors_could_not_be_made(scheme: Scheme) -> None:
    def out_of_memory(task: bytes) -> Any:
        raise MemoryError

    request = Play(scheme, INPUTS).to(first_round(scheme)).requests[0]
    client = client_of(scheme, out_of_memory)
    client.start()
    with pytest.raises(MemoryError):
        client.receive(request)
    is_dead(client, request)


@every_scheme
def test_a_session_is_dead_after_a_message_it_refused(scheme: Scheme) -> None:
    for round in dict.fromkeys((scheme.rounds[1], first_round(scheme))):
        play, u = Play(scheme, INPUTS).to(round), one_asked(scheme, round)
        with pytest.raises(RemoteProtocolError):
            play.clients[u].receive(b"")
        is_dead(play.clients[u], play.requests[u])


@every_scheme
def test_a_client_is_asked_nothing_out_of_turn(scheme: Scheme) -> None:
    """A request that it answered before the last one, or one that it has not come to; it is dead then."""
    course = Course(Play(scheme, INPUTS))
    one = {round: one_asked(scheme, round) for round in scheme.rounds[1:]}
    asked = {round: course.at(round).requests[u] for round, u in one.items()}
    for round, other in permutations(asked, 2):
        client, u = course.at(round).clients[one[round]], one[other]
        earlier = [each for each in scheme.rounds[1 : scheme.rounds.index(round)] if one[each] == one[round]]
        if other in earlier[-1:]:
            assert client.receive(asked[other]) in (None, course.at(other, answered=True).answers[u])
            continue
        with pytest.raises(RemoteProtocolError, match=r"not a .* message"):
            client.receive(asked[other])
        is_dead(client, asked[round])


# Whom the server hears


def refused(play: Play, u: int, message: bytes, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words) as caught:
        play.server.receive(u, message)
    assert caught.value.culprits == {u}


def finishes_with(play: Play, survivors: Collection[int]) -> None:
    assert_sum_of(play.scheme, INPUTS, play.finish(), survivors)


@every_scheme
def test_who_joins_for_something_else_is_refused(scheme: Scheme) -> None:
    for version, parameters, words in (
        (2, scheme.digest(), "client 0, join: .*protocol version 2, this is version 1"),
        (1, bytes(32), "client 0, join: joined with other parameters than this session's"),
    ):
        play = Play(scheme, INPUTS)
        refused(play, 0, encode(Join(version, parameters)), words)
        refused(play, 0, play.answers.pop(0), "client 0 is not expected in round join")
        finishes_with(play, {1, 2, 3, 4})


@every_scheme
def test_a_stranger_is_refused_in_any_round_and_everybody_after_the_last(scheme: Scheme) -> None:
    play, last = Play(scheme, INPUTS), b""
    for round in scheme.rounds:
        u = one_asked(scheme, round)
        last = play.to(round).answer().answers[u]
        refused(play, 9, last, f"client 9 is not expected in round {round}")
        refused(play, relay_party(7), last, f"relay 7 is not expected in round {round}")
    finishes_with(play, INPUTS)
    play.server.receive(u, last)  # it came twice
    refused(play, u, last + b"\0", f"{party(u)} is not expected in round done")
    with pytest.raises(LocalProtocolError, match="this session is over: make a new one"):
        play.server.advance()


@every_scheme
def test_who_comes_too_late_is_refused(scheme: Scheme) -> None:
    course = Course(Play(scheme, INPUTS))
    for round in scheme.rounds[:-1]:
        play, u = course.at(round, answered=True), one_asked(scheme, round)
        late = play.answers.pop(u)
        if u in relays_of(scheme):
            with pytest.raises(RelayLost, match=f"relay 0 is gone in round {round}, and a sum takes all 2"):
                play.close()
            continue
        play.close()
        refused(play, 0, late, f"client 0 is not expected in round {play.server.round}")


@every_scheme
def test_who_answers_twice_loses_its_place(scheme: Scheme) -> None:
    """What it said first is dropped; its vector alone stays in the sum, from which it cannot be taken."""
    course = Course(Play(scheme, INPUTS))
    for number, round in enumerate(scheme.rounds):
        play, u = course.at(round, answered=True), one_asked(scheme, round)
        first = play.answers.pop(u)
        play.server.receive(u, first)
        assert u not in play.server.waiting_for
        refused(play, u, first + b"\0", f"{party(u)} is not expected in round {round}")
        if u in relays_of(scheme):
            with pytest.raises(RelayLost):
                play.close()
            continue
        play.close()
        assert 0 not in play.requests
        summed = number >= scheme.rounds.index(scheme.upload_round)
        finishes_with(play, INPUTS if summed else {1, 2, 3, 4})


@every_scheme
def test_an_answer_that_comes_again_is_ignored_at_once_and_in_the_next_round(scheme: Scheme) -> None:
    """As where a network delivers at least once."""
    play = Play(scheme, INPUTS)
    while play.server.round != "done":
        answers, awaited = dict(play.answer().answers), play.server.waiting_for
        for u, answer in answers.items():
            play.server.receive(u, answer)
            play.server.receive(u, answer)
        assert awaited == answers.keys()  # what a caller was told does not change under its hands
        play.close()
        for u, answer in answers.items():
            play.server.receive(u, answer)
    finishes_with(play, INPUTS)


@every_scheme
def test_who_is_called_lost_is_a_dropout(scheme: Scheme) -> None:
    """Of a round that it has answered not: its answer stands, and it is not asked again."""
    course = Course(Play(scheme, INPUTS))
    for number, round in enumerate(scheme.rounds):
        for answered in (False, True):
            play, u = course.at(round, answered=True), one_asked(scheme, round)
            if answered:
                play.server.receive(u, play.answers.pop(u))
            else:
                del play.answers[u]
            play.server.lose(u, "its battery")
            play.server.lose(9, "never there")
            assert play.server.gone == {u: "its battery"}
            assert u not in play.server.waiting_for | play.server.members
            if u in relays_of(scheme) and not (answered and round == scheme.rounds[-1]):
                with pytest.raises(RelayLost):
                    play.to("done")
                continue
            play.close()
            assert u not in play.requests
            play.lost.add(u)
            summed = number + answered > scheme.rounds.index(scheme.upload_round)
            finishes_with(play, INPUTS if summed or u in relays_of(scheme) else {1, 2, 3, 4})


@every_scheme
def test_the_last_message_may_come_again_and_gets_the_same_bytes(
    scheme: Scheme, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a client and at a relay: as where a network delivers at least once."""
    monkeypatch.setattr(states, "KEPT_REPLY", 2**30)
    play = Play(scheme, INPUTS)
    while play.server.round != "done":
        requests = dict(play.requests)
        play.answer()
        for u, request in requests.items():
            assert play.clients[u].receive(request) == play.answers[u]
        play.close()
    finishes_with(play, INPUTS)


def test_a_long_reply_is_given_once_and_the_session_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "KEPT_REPLY", 100)
    play = Play(EACH["active"], INPUTS).to("share-keys")
    request = play.requests[0]
    assert len(play.answer().answers[0]) > 100
    assert play.clients[0].receive(request) is None
    finishes_with(play, INPUTS)


def test_a_column_is_given_again_however_long_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else has it, and without it there is no sum."""
    monkeypatch.setattr(states, "KEPT_REPLY", 0)
    play = Play(EACH["split"], INPUTS)
    while play.server.round != "done":
        requests = {u: play.requests[u] for u in relays_of(EACH["split"]) if u in play.requests}
        play.answer()
        for u, request in requests.items():
            assert play.clients[u].receive(request) == play.answers[u]
        play.close()
    finishes_with(play, INPUTS)


@every_scheme
def test_a_session_that_is_dead_says_nothing_again(scheme: Scheme) -> None:
    play = Play(scheme, INPUTS).to(first_round(scheme))
    request = play.requests[0]
    play.clients[0].receive(request)
    for message, error in ((b"", SecAggError), (request, LocalProtocolError)):
        with pytest.raises(error):
            play.clients[0].receive(message)


@every_scheme
def test_an_answer_to_another_round_is_refused(scheme: Scheme) -> None:
    course = Course(Play(scheme, INPUTS))
    one = {round: one_asked(scheme, round) for round in scheme.rounds}
    said = {round: course.at(round, answered=True).answers[u] for round, u in one.items()}
    for round, other in permutations(said, 2):
        u = one[round]
        earlier = [
            each for each in scheme.rounds[: scheme.rounds.index(round)] if each == "join" or one[each] == u
        ]
        if other in earlier[-1:]:  # late, and once more
            play = course.at(round)
            play.server.receive(u, said[other])
            assert u in play.server.waiting_for
            continue
        refused(course.at(round), u, said[other], f"{party(u)}, {round}: not a .* message")


# A record of what has left


@every_secure
def test_the_record_is_told_the_context_once_before_vectors_leave(scheme: Scheme) -> None:
    told: list[tuple[bytes, str]] = []
    play = Play(scheme, INPUTS)
    play.clients[0] = client_of(scheme, once=lambda context: told.append((context, play.server.round)))
    play.answers[0] = play.clients[0].start()
    play.to(scheme.upload_round)
    assert told == []
    play.finish()
    assert told == [(digest(Tag.CONTEXT, TASK), scheme.upload_round)]


class OnRecordError(Exception):
    pass


@every_secure
def test_no_input_leaves_under_a_context_on_record_and_the_session_is_over(scheme: Scheme) -> None:
    def on_record(context: bytes) -> None:
        raise OnRecordError

    play = Play(scheme, INPUTS)
    client = play.clients[0] = client_of(scheme, once=on_record)
    play.answers[0] = client.start()
    play.to(scheme.upload_round)
    request = play.requests.pop(0)
    with pytest.raises(OnRecordError):
        client.receive(request)
    assert not holds_a_vector(client)
    play.to(scheme.rounds[4])
    for message in (request, *play.requests.values()):
        is_dead(client, message)
    assert play.finish().survivors == {1, 2, 3, 4}


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
    with pytest.raises(LocalProtocolError, match="relay 9 cannot be dropped: it is not in the cohort"):
        run(scheme, INPUTS, drop={"join": {relay_party(9)}})


@every_scheme
def test_a_relay_is_made_where_relays_take_part_alone(scheme: Scheme) -> None:
    relays = [scheme.relay(j, identity=identities(range(5))[1][r]) for j, r in enumerate(relays_of(scheme))]
    assert len(relays) == (2 if kind_of(scheme).startswith("split") else 0)
    if not relays:
        with pytest.raises(LocalProtocolError, match="no relay takes part in a session of"):
            scheme.relay(0)


@every_scheme
def test_the_rounds_are_those_of_the_table(scheme: Scheme) -> None:
    assert scheme.rounds == ROUNDS[kind_of(scheme)]
    opens = {"plain": None, "ckks-keep": None, "ckks-release": "decrypt", "decoys": None}
    opens |= {"split": "columns", "split-semi-honest": "columns"}
    assert scheme.opening_round == opens.get(kind_of(scheme), "masked-input")
    seen = []
    play = Play(scheme, INPUTS)
    while play.server.round != "done":
        seen.append(play.server.round)
        play.answer().close()
    assert tuple(seen) == scheme.rounds


@every_scheme
def test_a_cohort_that_is_none_of_these_parameters_is_refused(scheme: Scheme) -> None:
    for cohort, words in (
        (range(4), "a cohort of 4 clients for parameters made for 5"),
        (range(6), "a cohort of 6 clients for parameters made for 5"),
        ([0, 1, 2, 3, 3], "client 3 stands twice in the cohort"),
        ([0, 1, 2, 3, -1], f"client id -1 is not in 0..{MAX_ID}"),
        ([0, 1, 2, 3, MAX_ID + 1], f"client id {MAX_ID + 1} is not in 0..{MAX_ID}"),
    ):
        with pytest.raises(LocalProtocolError, match=words):
            scheme.server(cohort, roster=identities(range(5))[0])


@every_secure
def test_a_client_that_is_none_of_these_is_not_made(scheme: Scheme) -> None:
    ours = identities(range(5))[1]
    for u, more, words in (
        (-1, {}, f"client id -1 is not in 0..{MAX_ID}"),
        (MAX_ID + 1, {}, f"client id {MAX_ID + 1} is not in 0..{MAX_ID}"),
        (0, {"identity": ours[1]}, "the identity of client 1 is not that of client 0"),
        (0, {"rounding_seed": bytes(31)}, "a rounding seed has at least 32 secret bytes"),
    ):
        if "identity" in more and kind_of(scheme).endswith("semi-honest"):  # not used
            continue
        with pytest.raises(LocalProtocolError, match=words):
            scheme.client(u, lambda task: INPUTS[0], **{"identity": ours[0], **more})
    assert client_of(scheme, rounding_seed=bytes(32))


@every_scheme
def test_a_bad_vector_is_told_to_the_caller_before_anything_is_said_of_it(scheme: Scheme) -> None:
    request = Play(scheme, INPUTS).to(first_round(scheme)).requests[0]
    client = client_of(scheme, lambda task: INPUTS[0] | {"weight": 5})
    client.start()
    with pytest.raises(LocalProtocolError, match=r"vector 'weight' holds 5, not in 0\.\.4"):
        client.receive(request)
    is_dead(client, request)


@every_scheme
def test_all_lost_is_too_few_in_any_scheme(scheme: Scheme) -> None:
    for round in scheme.rounds:
        drop = {round: [*INPUTS, *relays_of(scheme)]}
        with pytest.raises(TooFewClients) as caught:
            run(scheme, INPUTS, drop=drop)
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
    assert bool(asked) != isinstance(scheme, Plain)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("active", "against an active server a roster of one's own is needed"),
        ("split", "against an active server a roster of one's own is needed"),
        ("ckks-keep", "keys are signed in this session: a roster of one's own is needed"),
        ("ckks-release", "keys are signed in this session: a roster of one's own is needed"),
    ],
)
def test_a_run_in_which_keys_are_signed_needs_identities(name: str, words: str) -> None:
    with pytest.raises(LocalProtocolError, match=words):
        run_session(EACH[name], INPUTS)
    _, some = identities(range(5))
    with pytest.raises(LocalProtocolError, match=words):
        run_session(EACH[name], INPUTS, identities={u: some[u] for u in range(4)})


@pytest.mark.parametrize(
    "scheme",
    [EACH["plain"], EACH["semi-honest"], CKKS.for_cohort(5, MIXED), EACH["split-semi-honest"]],
    ids=["plain", "semi-honest", "ckks-keep", "split-semi-honest"],
)
def test_a_run_in_which_nothing_is_signed_takes_identities_and_does_not_use_them(scheme: Scheme) -> None:
    total = run_session(scheme, INPUTS, identities=identities(range(6))[1])
    assert total.survivors == INPUTS.keys()


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
    assert server.waiting_for == {*INPUTS, *relays_of(scheme)}
    for round in scheme.rounds:
        play.to(round)
        said |= {(round, u): m for u, m in play.requests.items()}
        play.answer()
        heard |= {(round, u): m for u, m in play.answers.items()}
        assert server.view.aggregate is None
    total = play.finish()
    assert {(round, u): m for round, u, m in server.view.received} == heard
    assert {(round, u): m for round, u, m in server.view.sent} == said
    assert len(server.view.received) == len(heard)
    assert {u for _, u in heard} == {*INPUTS, *relays_of(scheme)}
    assert server.view.aggregate is server.result
    assert total is learned(server.result, play.clients.values())
    assert (server.round, server.waiting_for) == ("done", frozenset())
    assert not server.unopened


@every_scheme
def test_a_recorded_server_remembers_what_the_server_refused(scheme: Scheme) -> None:
    server = Recorded(scheme.server(INPUTS, roster=identities(INPUTS)[0]))
    with pytest.raises(RemoteProtocolError):
        server.receive(3, bytearray(b"nonsense"))
    assert server.view.received == [("join", 3, b"nonsense")]
    assert server.waiting_for == {0, 1, 2, 4, *relays_of(scheme)}


@every_scheme
def test_a_recorded_client_is_the_client_and_remembers_what_it_said(scheme: Scheme) -> None:
    play = Play(scheme, INPUTS)
    client = RecordedClient(client_of(scheme))
    play.clients[0], play.answers[0] = client, client.start()
    heard = []
    asked = [round for round in scheme.rounds if not one_asked(scheme, round)]
    for round in asked:
        heard.append(play.to(round).answer().answers[0])
        assert client.done == (round == asked[-1])
    play.finish()
    assert client.view.sent == heard
    assert client.clipping.keys() == MIXED.keys()


def test_a_recorded_client_that_says_nothing_has_said_nothing() -> None:
    class Silent:
        done, clipping, result = True, types.MappingProxyType({}), None

        def start(self) -> bytes:
            return b"hello"

        def receive(self, message: bytes) -> None:
            assert message == b"bye"

    client = RecordedClient(Silent())
    client.start()
    assert client.receive(b"bye") is None
    assert (client.view.sent, client.done, client.clipping) == ([b"hello"], True, {})


# A server that tampers


@every_scheme
def test_a_tampered_server_sends_what_the_rule_says(scheme: Scheme) -> None:
    seen: list[tuple[str, int, bytes]] = []
    servers: list[Tampered] = []

    def forward(round: str, u: int, request: bytes) -> bytes:
        seen.append((round, u, request))
        return request

    def tamper(server: ServerSession) -> ServerSession:
        servers.append(Tampered(server, forward))
        assert servers[0].waiting_for == {*INPUTS, *relays_of(scheme)}
        return servers[0]

    total = run(scheme, INPUTS, instrument=tamper)
    assert total.survivors == INPUTS.keys()
    assert (servers[0].result is total) == (kind_of(scheme) not in ("ckks-keep", "decoys"))
    assert (servers[0].round, servers[0].waiting_for) == ("done", frozenset())
    parties = {round: relays_of(scheme) if one_asked(scheme, round) else INPUTS for round in scheme.rounds}
    assert [(round, u) for round, u, _ in seen] == [(r, u) for r in scheme.rounds[1:] for u in parties[r]]
    assert all(decode_task(request) for round, _, request in seen if round == first_round(scheme))


@every_scheme
def test_what_a_tampered_server_exchanges_is_what_a_client_reads(scheme: Scheme) -> None:
    tasks: list[bytes] = []

    def contribute(task: bytes) -> Any:
        tasks.append(task)
        return INPUTS[0]

    def other_task(round: str, u: int, request: bytes) -> bytes:
        if (round, u) != (first_round(scheme), 0):
            return request
        kind = REQUEST[kind_of(scheme)][round]
        return encode(replace(decode(kind, request), nonce=bytes(32), task=b"another"))

    def tamper(server: ServerSession) -> ServerSession:
        return Tampered(server, other_task)

    if kind_of(scheme) == "plain":
        run(scheme, INPUTS | {0: contribute}, instrument=tamper)
    elif kind_of(scheme) == "split-semi-honest":  # no relay can open its shares
        total = run(scheme, INPUTS | {0: contribute}, instrument=tamper)
        assert total.survivors == INPUTS.keys() - {0}
    else:  # the others' keys, or shares, are for another context; relays' keys are signed for this one
        with pytest.raises((RemoteProtocolError, TooFewClients)):
            run(scheme, INPUTS | {0: contribute}, instrument=tamper)
    assert tasks == [b"another"] * (kind_of(scheme) != "split")


@every_scheme
def test_what_a_tampered_server_keeps_back_does_not_arrive(scheme: Scheme) -> None:
    for round in scheme.rounds[1:]:
        if one_asked(scheme, round):
            continue

        def keep_back(at: str, u: int, request: bytes, round: str = round) -> bytes | None:
            return None if (at, u) == (round, 0) else request

        total = run(scheme, INPUTS, instrument=lambda server, rule=keep_back: Tampered(server, rule))
        assert (0 in total.survivors) == (round in ("consistency-check", "unmasking", "decrypt"))
