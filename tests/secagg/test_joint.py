"""Sessions in which the first request goes out with the offer, and first answers bring their Joins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import (
    Bounded,
    Counts,
    LocalProtocolError,
    Plain,
    Recorded,
    RemoteProtocolError,
    TooFewClients,
    tickets,
)
from secagg.record import Recorder, Tampered, Unclipped
from secagg.session import relays_of
from secagg.tickets import InMemory
from secagg.wire import Joint, Task, answer_in, decode, encode
from tests.play import Play, Session, identities, rounding_seed, seeded
from tests.secagg.helpers import (
    MIXED,
    SCHEMES,
    assert_sum_of,
    culprits_named,
    first_round,
    mixed_inputs,
    one_asked,
    with_another_byte,
)
from tests.secagg.suspended import Suspended

IDS = range(5)
INPUTS = mixed_inputs(IDS)
REPEATABLE = ("plain", "semi-honest", "active", "split", "split-semi-honest")
"""Where all chance is drawn from `rng`: of the others' keys TenSEAL draws itself."""
every_scheme = pytest.mark.parametrize("name", SCHEMES)
repeatable = pytest.mark.parametrize("name", REPEATABLE)


def scheme_of(name: str, **numbers: Any) -> Any:
    return SCHEMES[name](IDS, MIXED, **numbers)


def play(name: str, *, joint: bool = True, **more: Any) -> Play:
    return Play(scheme_of(name), INPUTS, rng=seeded, server_rng=seeded(99), joint=joint, **more)


def recorded(session: Session) -> Any:
    """What its server hears and says from here on."""
    session.server = Recorded(session.server)
    return session.server.view


@every_scheme
def test_there_is_a_sum_without_a_round_of_joins(name: str) -> None:
    session = play(name)
    view, asked = recorded(session), session.scheme.rounds[1]
    assert session.server.round == asked
    assert session.requests.keys() == {u for u in session.clients if one_asked(session.scheme, asked) <= u}
    assert_sum_of(session.scheme, INPUTS, session.finish(), IDS)
    assert {round for round, _, _ in view.received} == set(session.scheme.rounds[1:])


@repeatable
def test_all_that_is_said_is_what_is_said_after_a_join_alone(name: str) -> None:
    """To the byte, but for the first answers, which have it in them; nothing else is signed or derived."""
    together, apart = play(name), play(name, joint=False)
    requests = together.requests
    said = recorded(together), recorded(apart)
    together.finish(), apart.finish()
    digest, joined = together.scheme.digest(), set()
    answers = []
    for round, u, message in said[0].received:
        answer = message if u in joined else bytes(answer_in(message, digest))
        assert len(message) - len(answer) <= 47
        answers.append((round, u, answer))
        joined.add(u)
    assert joined == together.clients.keys()
    assert answers == [each for each in said[1].received if each[0] != "join"]
    first = [(together.scheme.rounds[1], u, request) for u, request in requests.items()]
    assert first + said[0].sent == said[1].sent


@every_scheme
def test_who_does_not_answer_is_lost_in_that_round(name: str) -> None:
    numbers = {"corrupt": 0, "threshold": 3} if name == "active" else {}
    scheme = scheme_of(name, **numbers)
    session = Play(scheme, INPUTS, drop={first_round(scheme): {1}}, joint=True)
    assert_sum_of(scheme, INPUTS, session.finish(), {0, 2, 3, 4})


@every_scheme
def test_too_few_answers_end_the_session(name: str) -> None:
    scheme = scheme_of(name)
    gone = {1, 2, 3, 4, *([0] if name == "plain" else [])}
    session = Play(scheme, INPUTS, drop={first_round(scheme): gone}, joint=True)
    with pytest.raises(TooFewClients):
        session.finish()
    assert (session.server.round, session.server.result) == ("done", None)


@every_scheme
def test_who_is_known_to_be_gone_is_not_asked(name: str) -> None:
    scheme = scheme_of(name)
    server = scheme.server(IDS, roster=identities(IDS)[0])
    lost = one_asked(scheme, scheme.rounds[1])
    server.lose(lost, "its connection was closed")
    requests = server.open_jointly()
    assert lost not in requests.keys() | server.waiting_for | server.members
    assert requests.keys() == server.waiting_for


@repeatable
def test_a_joint_answer_may_come_again_and_no_other(name: str) -> None:
    session = play(name).answer()
    u = one_asked(session.scheme, session.server.round)
    said = session.answers[u]
    session.server.receive(u, said)
    session.server.receive(u, said)
    session.close()
    session.server.receive(u, said)  # late, in the next round
    alone = bytes(answer_in(said, session.scheme.digest()))
    with pytest.raises(RemoteProtocolError) as caught:
        session.server.receive(u, alone)
    assert caught.value.culprits == {u}


@repeatable
def test_after_its_first_answer_nobody_joins_again(name: str) -> None:
    session = play(name)
    u = one_asked(session.scheme, session.server.round)
    session.answer().close()
    while session.server.round != "done" and u not in session.requests:
        session.answer().close()
    if session.server.round == "done":
        return  # in plain and split a client says no more
    answer = session.read(u, session.requests.pop(u))
    again = encode(Joint(1, session.scheme.digest(), memoryview(answer)))
    with pytest.raises(RemoteProtocolError, match=r"not a [a-z-]+ message"):
        session.server.receive(u, again)


@every_scheme
def test_a_session_is_opened_once(name: str) -> None:
    scheme, (roster, keys) = scheme_of(name), identities(IDS)
    client = scheme.client(0, lambda task: INPUTS[0], identity=keys[0])
    begun, refused, opened = (scheme.server(IDS, roster=roster) for _ in range(3))
    begun.receive(0, client.start())
    with pytest.raises(RemoteProtocolError):
        refused.receive(0, b"")
    opened.open_jointly()
    for server in (begun, refused, opened):
        with pytest.raises(LocalProtocolError, match="before the first Join is taken"):
            server.open_jointly()


@every_scheme
def test_a_client_begins_once_in_one_way(name: str) -> None:
    session = play(name)
    for u, request in session.requests.items():
        client = session.clients[u]
        client.start_jointly(request)
        with pytest.raises(LocalProtocolError, match="started before"):
            client.start_jointly(request)
        with pytest.raises(LocalProtocolError, match="started before"):
            client.start()
    apart = play(name, joint=False).to(session.server.round)
    u, request = next(iter(apart.requests.items()))
    with pytest.raises(LocalProtocolError, match="started before"):
        apart.clients[u].start_jointly(request)


@pytest.mark.parametrize("name", [name for name in SCHEMES if not name.startswith("split")])
def test_the_request_again_gets_the_joint_answer_again(name: str) -> None:
    """However it is asked, and so does a server that has already sent it apart: there is one answer."""
    session = play(name)
    request = session.requests[0]
    joint = session.clients[0].start_jointly(request)
    assert session.clients[0].receive(request) == joint


def test_a_long_joint_answer_is_its_senders_to_keep() -> None:
    """As any long answer is; and it is not given a second time in another form."""
    scheme = Plain.for_cohort(3, Bounded(length=2**14, bound=1.0))
    client = scheme.client(0, lambda task: np.ones(2**14))
    request = scheme.server(range(3)).open_jointly()[0]
    assert len(client.start_jointly(request)) > 2**16
    assert client.receive(request) is None


@every_scheme
def test_a_client_that_refuses_the_request_is_dead_and_answers_nothing(name: str) -> None:
    session = play(name)
    u, request = next(iter(session.requests.items()))
    with pytest.raises(RemoteProtocolError):
        session.clients[u].start_jointly(request + b"\0")
    with pytest.raises(LocalProtocolError, match="over"):
        session.clients[u].receive(request)


@given(st.data())
def test_whatever_a_joint_answer_is_made_of_it_is_taken_or_refused_by_name(data: st.DataObject) -> None:
    session = play(data.draw(st.sampled_from(REPEATABLE))).answer()
    u = one_asked(session.scheme, session.server.round)
    message = with_another_byte(session.answers[u], data)
    assert culprits_named(lambda said: session.server.receive(u, said), message) in ({u}, None)


def test_instruments_see_a_joint_session() -> None:
    scheme, recorder = scheme_of("semi-honest"), Recorder([None, 0])
    server = recorder.server(b"", scheme.server(IDS, b"the task"))
    clients = {u: recorder.client(u, scheme.client(u, lambda task, u=u: INPUTS[u])) for u in IDS}
    assert Session(server, clients, joint=True).finish().survivors == set(IDS)
    (seen,), (own,) = recorder.servers, recorder.clients[0]
    heard = [[message for _, u, message in way if u == 0] for way in (seen.sent, seen.received)]
    assert heard == [own.received, own.sent]
    assert decode(Joint, own.sent[0]).answer
    tampered = Tampered(scheme.server(IDS), lambda round, u, request: None if u else request)
    assert tampered.open_jointly().keys() == {0}


def test_who_skips_the_clip_does_so_in_a_joint_session() -> None:
    scheme = SCHEMES["semi-honest"](IDS, {"update": Bounded(length=1, bound=1.0, clip=0.25)})
    clients = {u: scheme.client(u, lambda task: {"update": [0.75]}) for u in IDS}
    skipping = clients | {0: Unclipped(clients[0])}
    total = Session(scheme.server(IDS, b"the task"), skipping, joint=True).finish()
    assert abs(total.sum["update"][0] - (0.75 + 4 * 0.25)) < 1e-3
    with pytest.raises(RemoteProtocolError):
        Unclipped(scheme.client(0, lambda task: {"update": [0.75]})).start_jointly(b"no task")


# Suspended clients


def suspended(scheme: Any, u: int, **more: Any) -> Suspended:
    given: dict[str, Any] = {"identity": identities(IDS)[1][u], "rounding_seed": rounding_seed(u)}
    return Suspended(scheme, u, lambda task: INPUTS[u], **given | {"rng": seeded(u)} | more)


def of_suspended(scheme: Any, *, joint: bool = True, **more: Any) -> Session:
    roster, keys = identities(IDS)
    relays = {r: scheme.relay(j, identity=keys[r], rng=seeded(r)) for j, r in enumerate(relays_of(scheme))}
    clients = {u: suspended(scheme, u, **more) for u in IDS}
    server = scheme.server(IDS, b"the task", roster=roster, rng=seeded(99))
    return Session(server, {**clients, **relays}, joint=joint)


@repeatable
def test_suspended_clients_say_what_they_say_after_a_join_alone(name: str) -> None:
    scheme = scheme_of(name)
    said = []
    for joint in (True, False):
        session = of_suspended(scheme, joint=joint)
        opened = [(session.server.round, u, request) for u, request in session.requests.items()]
        view = recorded(session)
        assert session.finish().survivors == set(IDS)
        said.append([*opened, *view.sent])
    assert said[0] == said[1]


@repeatable
def test_a_request_that_comes_again_to_a_suspended_client_gets_the_joint_answer_again(name: str) -> None:
    session = of_suspended(scheme_of(name)).to(first_round(scheme_of(name)))
    client, request = session.clients[0], session.requests[0]
    joint = session.read(0, request)
    assert client.step(client.shown[0], request) == (client.shown[0], joint)
    if not client.done:
        with pytest.raises(RemoteProtocolError):
            client.step(client.shown[0], encode(Task(bytes(32), b"another")))


def test_a_suspended_session_that_does_not_begin_leaves_nothing_on_record() -> None:
    """Else a server that sends what is refused would fill it."""
    scheme, record = scheme_of("semi-honest"), InMemory()
    request = scheme.server(IDS, b"the task").open_jointly()[0]
    client = suspended(scheme, 0, record=record)
    for garbage in (b"", request[:-1], request + b"\0"):
        with pytest.raises(RemoteProtocolError):
            client.start_jointly(garbage)
    client.vectors = lambda task: [1]
    with pytest.raises(LocalProtocolError, match="is missing"):
        client.start_jointly(request)
    assert client.shown == []
    assert record._keys == record._answers == {}


def test_a_suspended_session_that_cannot_be_recorded_does_not_begin() -> None:
    class Full(InMemory):
        def answer(self, name: bytes, step: int, digest: bytes) -> bytes | None:
            raise OSError("the disk is full")

    scheme, record = scheme_of("plain"), Full()
    client = suspended(scheme, 0, record=record)
    with pytest.raises(OSError, match="full"):
        client.start_jointly(scheme.server(IDS, b"the task").open_jointly()[0])
    assert record._keys == {}


def test_a_session_of_ckks_is_not_suspended_jointly_either() -> None:
    pytest.importorskip("tenseal")
    scheme = SCHEMES["ckks-release"](IDS, Counts(length=1, maximum=1), roster=None)
    with pytest.raises(LocalProtocolError, match="cannot be suspended"):
        tickets.begin_jointly(scheme, b"", u=0, vectors=lambda task: [1], record=InMemory())
