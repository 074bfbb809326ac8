"""Whoever keeps a suspended party's tickets, or a server's checkpoints, rolls them back, and the server tries
for a second answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from secagg import Counts, LocalProtocolError, RemoteProtocolError, TooFewClients, checkpoint
from secagg.alike import OWN_INPUT, Alike, in_memory
from secagg.bits import add_packed, word_type
from secagg.crypto import SecretKey, SigningKey, system_rng
from secagg.masking.messages import (
    ConsistencyCheckRequest,
    MaskedInput,
    MaskedInputRequest,
    PairKeyShare,
    SelfMaskShare,
    ShareKeysRequest,
    SignedUnmaskingRequest,
    Unmasking,
    UnmaskingRequest,
)
from secagg.session import relays_of
from secagg.shamir import recon
from secagg.split import Split
from secagg.split.messages import ColumnRequest, DeliverRequest, RelayKeyRequest
from secagg.tagged import Tagged
from secagg.tickets import InMemory
from secagg.wire import Task, decode, encode, relay_party
from tests.enemies.cast import Change, without
from tests.play import TASK, Play, Session, changed, identities
from tests.secagg.helpers import (
    FIVE,
    FIVE_IN_GROUPS,
    MIXED,
    REQUEST,
    SCHEMES,
    kind_of,
    mixed_inputs,
    semi_honest,
)
from tests.secagg.suspended import Suspended, SuspendedServer

IDS = range(5)
INPUTS = mixed_inputs(IDS)

SESSIONS = FIVE | FIVE_IN_GROUPS
REQUESTS = {name: REQUEST[kind_of(scheme)] for name, scheme in SESSIONS.items()}

SECOND: Mapping[str, Mapping[str, Change]] = {
    "two tasks": {"advertise-keys": lambda m: Task(m.nonce, b"another task")},
    "two nonces": {"advertise-keys": lambda m: Task(bytes(32), m.task)},
    "two U1": {"share-keys": lambda m: ShareKeysRequest(without(m.keys, 4))},
    "two U2": {"masked-input": lambda m: MaskedInputRequest(m.shared[:-1], without(m.dealt, 4))},
    "two U3": {"consistency-check": lambda m: ConsistencyCheckRequest(m.survivors[:-1])},
    "two unmasking requests": {
        "unmasking": lambda m: (
            UnmaskingRequest([4])
            if isinstance(m, UnmaskingRequest)
            else SignedUnmaskingRequest(without(m.signatures, 4))
        )
    },
}
"""What a server could ask besides, so that a client that has forgotten would answer."""

each = pytest.mark.parametrize(
    ("adversary", "round", "change"),
    [
        pytest.param(adversary, round, change, id=f"{adversary}, {what}")
        for adversary in SESSIONS
        for what, changes in SECOND.items()
        for round, change in changes.items()
        if round in REQUESTS[adversary]
    ],
)


class Backup(InMemory):
    """A record that can be taken back to an earlier one."""

    def copy(self) -> Backup:
        earlier = Backup()
        earlier._keys = dict(self._keys)
        earlier._answers = {name: dict(answers) for name, answers in self._answers.items()}
        return earlier


def suspended(adversary: str) -> Session:
    """A session of five, of whom three are enough; client 0 is the victim."""
    scheme = SESSIONS[adversary]
    clients = {
        u: Suspended(scheme, u, lambda task, u=u: INPUTS[u], identity=identities(IDS)[1][u], record=Backup())
        for u in IDS
    }
    return Session(scheme.server(IDS, TASK, roster=identities(IDS)[0], rng=system_rng), clients)


def at(adversary: str, round: str, change: Change) -> tuple[Suspended, Session, bytes, bytes]:
    """The victim where that round's request has come, that request, and the second one."""
    play = suspended(adversary).to(round)
    request = play.requests[0]
    return play.clients[0], play, request, changed(REQUESTS[adversary][round], request, change)


@each
def test_no_step_has_a_second_answer_whatever_ticket_is_shown(
    adversary: str, round: str, change: Change
) -> None:
    """Not at once, and not when the session is over."""
    victim, play, _, second = at(adversary, round, change)
    play.answer()
    for go_on in (lambda: None, lambda: play.to("done")):
        go_on()
        for ticket in victim.shown:
            with pytest.raises((RemoteProtocolError, LocalProtocolError)):
                victim.step(ticket, second)


@each
def test_the_ticket_of_that_step_is_refused_for_what_it_has_answered(
    adversary: str, round: str, change: Change
) -> None:
    victim, play, request, second = at(adversary, round, change)
    before = victim.shown[-1]
    play.answer()
    with pytest.raises(RemoteProtocolError, match="has been answered, to another message"):
        victim.step(before, second)
    assert victim.step(before, request)[1] == play.answers[0]


@pytest.mark.parametrize("adversary", SESSIONS)
def test_a_second_task_is_refused_before_any_vectors_are_asked_for(adversary: str) -> None:
    """Or a server could have a client train, and spend what that costs, as often as it likes."""
    victim, play, _, second = at(adversary, "advertise-keys", SECOND["two tasks"]["advertise-keys"])
    before, tasks = victim.shown[-1], list[bytes]()
    play.answer()
    with pytest.raises(RemoteProtocolError, match="has been answered, to another message"):
        victim.step(before, second, vectors=lambda task: tasks.append(task) or INPUTS[0])
    assert tasks == []


@each
def test_whichever_comes_first_is_the_one_that_is_answered(
    adversary: str, round: str, change: Change
) -> None:
    victim, _, request, second = at(adversary, round, change)
    before = victim.shown[-1]
    victim.step(before, second)
    with pytest.raises(RemoteProtocolError, match="has been answered, to another message"):
        victim.step(before, request)


@each
def test_of_two_at_once_one_is_answered(adversary: str, round: str, change: Change) -> None:
    """Both have looked at the record, and it said nothing of the step."""
    victim, play, request, second = at(adversary, round, change)
    before = victim.shown[-1]
    play.answer()

    class Late(Backup):
        def answered(self, name: bytes, step: int) -> None:
            return None

    late = Late()
    vars(late).update(vars(victim.record))
    with pytest.raises(RemoteProtocolError, match="a second answer would give away"):
        victim.step(before, second, record=late)
    assert victim.step(before, request, record=late)[1] == play.answers[0]


@each
def test_a_session_that_ends_at_once_is_not_answered(adversary: str, round: str, change: Change) -> None:
    victim, _, request, _ = at(adversary, round, change)

    class Ended(Backup):
        def answer(self, name: bytes, step: int, digest: bytes) -> None:
            return None

    ended = Ended()
    vars(ended).update(vars(victim.record))
    with pytest.raises(LocalProtocolError, match="is over"):
        victim.step(victim.shown[-1], request, record=ended)


@each
def test_a_record_that_is_restored_from_a_backup_gives_the_second_answer(
    adversary: str, round: str, change: Change
) -> None:
    """The control, and why records are never restored: nobody who was rolled back as a whole can see it."""
    victim, play, _, second = at(adversary, round, change)
    before, backup = victim.shown[-1], victim.record.copy()
    play.answer()
    assert victim.step(before, second, record=backup)[1]


@pytest.mark.parametrize("name", ["semi-honest", "semi-honest, groups"])
def test_what_two_unmasking_requests_would_give_out(name: str) -> None:
    """From three clients that were rolled back the server has both secrets of a fourth: a masked input that
    it keeps back is open. From three whose records stand it has one.
    """
    play = suspended(name).to("unmasking")
    asked = [encode(UnmaskingRequest(dropped)) for dropped in ([], [4])]

    def shares(u: int, record: Callable[[Backup], Backup]) -> list[SelfMaskShare | PairKeyShare]:
        client, found = play.clients[u], []
        for request in asked:
            with suppress(RemoteProtocolError):
                reply = client.step(client.shown[-1], request, record=record(client.record))[1]
                found.append(decode(Unmasking, reply).shares[4])
        return found

    rolled_back = {u: shares(u, Backup.copy) for u in range(3)}
    b, s_sk = (
        recon({u + 1: int.from_bytes(given[kind].share, "big") for u, given in rolled_back.items()})
        for kind in (0, 1)
    )
    public = play.server._keys[4][1]
    assert SecretKey(s_sk.to_bytes(32, "big")).public == public
    assert b != s_sk
    for u in range(3):
        (given,) = shares(u, lambda record: record)
        assert isinstance(given, SelfMaskShare)


@pytest.mark.parametrize("adversary", SESSIONS)
def test_a_task_that_is_answered_again_gives_no_masked_input_of_other_vectors(adversary: str) -> None:
    """Were that ticket made, it would answer the same request under the same masks."""
    play = suspended(adversary).to("advertise-keys")
    victim, task = play.clients[0], play.requests[0]
    backup = victim.record.copy()
    play.to("masked-input")
    request = play.requests[0]
    with pytest.raises(RemoteProtocolError, match="or with other vectors"):
        victim.step(victim.shown[0], task, vectors=lambda task: INPUTS[1])
    first = victim.receive(request)
    # The control: under a record that was rolled back, the difference of the two is that of the vectors.
    ticket = victim.shown[0]
    for message in (task, victim.asked[1], request):
        ticket, second = victim.step(ticket, message, vectors=lambda task: INPUTS[1], record=backup)
    bits = SESSIONS[adversary].ring_bits()["counts"]
    difference = counts_of(second, bits) - counts_of(first, bits)
    assert (difference % 2**bits).tolist() == [
        INPUTS[1]["counts"][i] - INPUTS[0]["counts"][i] for i in range(3)
    ]


def counts_of(message: bytes, bits: int) -> NDArray[Any]:
    counts = np.zeros(3, word_type(bits))
    add_packed(counts, decode(MaskedInput, message).packed[0], bits)
    return counts.astype(np.int64)


# Relays

SPLIT = {name: SCHEMES[name](IDS, MIXED) for name in ("split", "split-semi-honest")}
RELAY = relay_party(0)
OF_RELAYS: Mapping[str, tuple[str, Change]] = {
    "two nonces": ("relay-keys", lambda m: RelayKeyRequest(bytes(32), m.context)),
    "two deliveries": ("deliver", lambda m: DeliverRequest(m.keys, without(m.shares, 4))),
    "two U3": ("columns", lambda m: ColumnRequest(m.members[:-1])),
}
each_of_relays = pytest.mark.parametrize(
    ("name", "round", "change"),
    [
        pytest.param(name, round, change, id=f"{name}, {what}")
        for name in SPLIT
        for what, (round, change) in OF_RELAYS.items()
    ],
)


def with_relays(name: str, *, like: bool = False, tagged: Tagged | None = None) -> Session:
    """Clients and relays of tickets; relay 0 is the victim. like: client 0 says that its sums are alike."""
    scheme, (roster, keys) = SPLIT[name], identities(IDS)
    rule = Alike(lambda task: OWN_INPUT, in_memory(), SigningKey(bytes(32)), roster)
    clients = {
        u: Suspended(
            scheme, u, lambda task, u=u: INPUTS[u], identity=keys[u], alike=rule if like and u == 0 else None
        )
        for u in IDS
    }
    relays = {r: Suspended(scheme, r, identity=keys[r], record=Backup()) for r in relays_of(scheme)}
    relays[RELAY].more["tagged"] = tagged
    return Session(scheme.server(IDS, TASK, roster=roster), {**clients, **relays})


def at_relay(name: str, round: str, change: Change) -> tuple[Suspended, Session, bytes, bytes]:
    play = with_relays(name).to(round)
    request = play.requests[RELAY]
    return play.clients[RELAY], play, request, changed(REQUEST[name][round], request, change)


@each_of_relays
def test_no_step_of_a_relay_has_a_second_answer_whatever_ticket_is_shown(
    name: str, round: str, change: Change
) -> None:
    """The same again gets the same: with the ticket from before it, and from after it."""
    victim, play, request, second = at_relay(name, round, change)
    before = victim.shown[-1]
    play.answer()
    for ticket in (before, victim.shown[-1]):
        assert victim.step(ticket, request)[1] == play.answers[RELAY]
    with pytest.raises(RemoteProtocolError, match="has been answered, to another message"):
        victim.step(before, second)
    for go_on in (lambda: None, lambda: play.to("done")):
        go_on()
        for ticket in victim.shown:
            with pytest.raises((RemoteProtocolError, LocalProtocolError)):
                victim.step(ticket, second)


@each_of_relays
def test_a_relays_record_that_is_restored_from_a_backup_gives_the_second_answer(
    name: str, round: str, change: Change
) -> None:
    victim, play, _, second = at_relay(name, round, change)
    before, backup = victim.shown[-1], victim.record.copy()
    play.answer()
    assert victim.step(before, second, record=backup)[1]


@pytest.mark.parametrize("alone", [False, True], ids=["", "by coins"])
def test_a_relays_records_are_written_once_whatever_comes_again(
    alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Split, "blanks_alone", property(lambda scheme: alone))
    contexts, sets, memory = list[bytes](), list[bytes](), in_memory()

    def record(decide: Any) -> None:
        memory(lambda kept: (new := decide(kept)) and (sets.append(new) or new))

    play = with_relays("split", like=True, tagged=Tagged(record, SigningKey(bytes(32)), identities(IDS)[0]))
    victim = play.clients[RELAY]
    victim.more["once"] = contexts.append
    while play.server.round != "done":
        request, before = play.requests.get(RELAY), victim.shown[-1]
        play.answer()
        if request:
            assert victim.step(before, request)[1] == play.answers[RELAY]
        play.close()
    assert (len(contexts), len(sets)) == (1, 1)


# The server


@pytest.mark.parametrize(
    ("name", "round"),
    [
        *((name, round) for name in SESSIONS for round in ("join", *REQUESTS[name]) if round != "unmasking"),
        *((name, "shares") for name in SPLIT),
    ],
)
def test_a_server_that_is_set_back_and_leaves_a_client_out_has_no_second_sum(name: str, round: str) -> None:
    """The first is had. Whatever tickets clients and relays show, they answer no other request of a round."""
    play = with_relays(name) if name in SPLIT else suspended(name)
    play.server = server = SuspendedServer(play.server, roster=identities(IDS)[0])
    play.to(round).answer()
    last = play.answers.pop(4)
    for u, answer in play.answers.items():
        server.receive(u, answer)
    back = server.restored()
    assert back.waiting_for == {4}
    play.answers = {4: last}
    assert play.finish().survivors == set(IDS)
    with pytest.raises(TooFewClients, match="no sum, nothing revealed"):
        go_on_without_it(back, play)
    assert back.result is None


def go_on_without_it(server: Any, play: Session) -> None:
    """Each answers with whatever ticket it can."""
    while server.round != "done":
        for u, request in server.advance().items():
            for ticket in play.clients[u].shown:
                with suppress(RemoteProtocolError, LocalProtocolError):
                    server.receive(u, play.clients[u].step(ticket, request)[1])
                    break


def copies(graph: str) -> tuple[Any, list[Any]]:
    """Two copies of a semi-honest server that goes on from one checkpoint: the first with everybody, the
    second without client 0, each with the answers of half of those that hold its shares. Clients follow the
    protocol.
    """
    ids = range(50)
    scheme = semi_honest(ids, Counts(length=1, maximum=9), graph=graph)
    play = Play(scheme, {u: [u % 9] for u in ids}).to("masked-input").answer()
    last = play.answers.pop(0)
    for u, answer in play.answers.items():
        play.server.receive(u, answer)
    second = checkpoint.restore(scheme, checkpoint.save(play.server, bytes(32)), bytes(32))
    play.server.receive(0, last)
    both = [play.server, second]
    requests = [server.advance() for server in both]
    holders = sorted(play.server._graph.holders(0) - {0})
    for at, u in enumerate(holders):
        which = at % 2
        both[which].receive(u, play.clients[u].receive(requests[which][u]))
    return scheme, both


def test_two_copies_of_a_trusted_server_can_be_told_both_secrets_of_a_client_on_a_sparse_graph() -> None:
    """Why it goes on from the newest checkpoint alone. On the complete graph two groups never have t."""
    scheme, (first, second) = copies("sparse")
    b, s_sk = (
        recon({x: int.from_bytes(y, "big") for x, y in sorted(shares.items())[: scheme.threshold]})
        for shares in (first._shares[0].of_mask, second._shares[0].of_key)
    )
    assert SecretKey(s_sk.to_bytes(32, "big")).public == first._keys[0][1]
    assert b != s_sk
    scheme, (first, second) = copies("complete")
    counts = len(first._shares[0].of_mask), len(second._shares[0].of_key)
    assert min(counts) < scheme.threshold
