"""Something comes twice, or two come at once: at a live client and at a suspended one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from secagg import Bounded, LocalProtocolError, Masking, RemoteProtocolError, tickets
from secagg.alike import OWN_INPUT, Alike, in_memory
from secagg.crypto import SigningKey
from secagg.session import relays_of
from secagg.tickets import InMemory
from secagg.wire import Task, encode
from tests.play import TASK, Session, identities, rounding_seed, seeded
from tests.secagg.helpers import FIVE, FIVE_IN_GROUPS, MIXED, SCHEMES, mixed_inputs, semi_honest
from tests.secagg.suspended import Suspended

IDS = range(5)
SESSIONS = FIVE | FIVE_IN_GROUPS


VECTOR = {"": Bounded(length=50, bound=1.0, bits=8)}
OF_ALL, OF_GROUPS = semi_honest(IDS, VECTOR), semi_honest(IDS, VECTOR, corrupt=0, groups=2)
either = pytest.mark.parametrize("scheme", [OF_ALL, OF_GROUPS], ids=["all", "groups"])


def codes(scheme: Masking, *, again: bool) -> Any:
    """What client 0 encodes for a task, which comes again while it is worked on."""
    task = encode(Task(bytes(32), TASK))

    def vectors(_: bytes) -> Any:
        if again:
            with pytest.raises(LocalProtocolError, match="this session is over"):
                client.receive(task)
        return np.linspace(-0.9, 0.9, 50)

    client = scheme.client(0, vectors, rounding_seed=rounding_seed(0))
    client.start()
    client.receive(task)
    return client._encoded[""].tolist()


@either
def test_a_task_that_comes_again_while_it_is_worked_on_changes_nothing(scheme: Masking) -> None:
    """The vectors are rounded under the client's own seed, and not under none, which everybody knows."""
    assert codes(scheme, again=True) == codes(scheme, again=False)


@either
def test_a_session_that_is_begun_again_has_not_forgotten_its_answers(scheme: Masking) -> None:
    """Its generator gives the same name and key, and so would its tickets open."""
    record = InMemory()
    ticket, _ = tickets.begin(scheme, 0, record=record, rng=seeded(0))

    def answer(task: bytes) -> bytes:
        given = {"u": 0, "vectors": lambda task: np.zeros(50), "record": record}
        return tickets.step(scheme, ticket, encode(Task(bytes(32), task)), **given)[1]

    assert answer(TASK)
    with pytest.raises(LocalProtocolError, match="rng has given the same bytes twice"):
        tickets.begin(scheme, 0, record=record, rng=seeded(0))
    with pytest.raises(RemoteProtocolError, match="a second answer would give away"):
        answer(b"another task")


@pytest.mark.parametrize("second", [OWN_INPUT, None], ids=["alike", "alike nothing"])
def test_what_relays_are_told_is_no_dummy_where_a_step_is_refused_and_taken_again(second: Any) -> None:
    """A tag stays on record when its step is refused, say for a task that was contributed to, and relays are
    told it at once or in another session. Were a dummy drawn again from where the tag was, each of them had
    that, and the one with the vector took it off alone.
    """
    scheme, kept = SCHEMES["split"](IDS, MIXED), iter([RemoteProtocolError("contributed to"), None])

    def once(context: bytes) -> None:
        if (refusal := next(kept)) is not None:
            raise refusal

    roster, keys = identities(IDS)
    likeness = iter([OWN_INPUT, second, OWN_INPUT])
    rule = Alike(lambda task: next(likeness), in_memory(), SigningKey(bytes(32)))
    clients: dict[int, Any] = {
        u: Suspended(
            scheme, u, lambda task: mixed_inputs(IDS)[0], identity=keys[u], alike=rule if u == 0 else None
        )
        for u in IDS
    }
    clients[0].more["once"] = once
    relays = {r: scheme.relay(j, identity=keys[r]) for j, r in enumerate(relays_of(scheme))}
    play = Session(scheme.server(IDS, TASK, roster=roster), clients | relays).to("shares")
    with pytest.raises(RemoteProtocolError, match="contributed to"):
        clients[0].step(clients[0].shown[-1], play.requests[0])
    play.to("columns")
    shares = [relay._state.shares[0].share for relay in relays.values()]
    tags = rule.of(TASK).tags()  # as another session tells them
    assert [share.like for share in shares] == [list(tags) if second else []] * 2
    assert {share.seed for share in shares if hasattr(share, "seed")}.isdisjoint(tags)


@pytest.mark.parametrize("name", SESSIONS)
def test_a_task_that_is_refused_again_and_again_makes_sums_new_once(name: str) -> None:
    """Each time that it did, a server could have one more sum of the same vectors."""
    record, scheme = in_memory(), SESSIONS[name]
    roster, keys = identities(IDS) if scheme.adversary == "active" else (None, {})
    rule, new = (
        Alike(lambda task: OWN_INPUT, record, SigningKey(bytes(32)), new=anew) for anew in (False, True)
    )

    def refuses(task: bytes) -> Any:
        raise RemoteProtocolError("not this task")

    waiting = Suspended(scheme, 0, refuses, identity=keys.get(0), alike=new)
    waiting.start()
    for lost in ({}, {3}):  # who is summed with client 0, in groups, too
        with pytest.raises(RemoteProtocolError, match="not this task"):
            waiting.step(waiting.shown[0], encode(Task(bytes(32), TASK)))
        clients: dict[int, Any] = {
            u: scheme.client(
                u, lambda task: mixed_inputs(IDS)[0], identity=keys.get(u), alike=None if u else rule
            )
            for u in IDS
        }
        server = scheme.server(IDS, TASK, roster=roster)
        play = Session(server, clients, drop={"masked-input": lost}, forgiven=[0]).to("done")
    assert "too near to earlier ones" in str(play.died[0])
