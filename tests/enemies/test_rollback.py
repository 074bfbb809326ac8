"""Whoever keeps a suspended client's tickets rolls them back, and the server tries for a second answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from secagg import LocalProtocolError, RemoteProtocolError
from secagg.bits import add_packed
from secagg.crypto import SecretKey, system_rng
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
from secagg.shamir import recon
from secagg.tickets import InMemory
from secagg.wire import Task, decode, encode
from tests.enemies.cast import Change, without
from tests.play import TASK, Session, changed, identities
from tests.secagg.helpers import FIVE, REQUEST, mixed_inputs
from tests.secagg.suspended import Suspended

IDS = range(5)
INPUTS = mixed_inputs(IDS)

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
        for adversary in FIVE
        for what, changes in SECOND.items()
        for round, change in changes.items()
        if round in REQUEST[adversary]
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
    scheme = FIVE[adversary]
    clients = {
        u: Suspended(scheme, u, lambda task, u=u: INPUTS[u], identity=identities(IDS)[1][u], record=Backup())
        for u in IDS
    }
    return Session(scheme.server(IDS, TASK, roster=identities(IDS)[0], rng=system_rng), clients)


def at(adversary: str, round: str, change: Change) -> tuple[Suspended, Session, bytes, bytes]:
    """The victim where that round's request has come, that request, and the second one."""
    play = suspended(adversary).to(round)
    request = play.requests[0]
    return play.clients[0], play, request, changed(REQUEST[adversary][round], request, change)


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


def test_what_two_unmasking_requests_would_give_out() -> None:
    """From three clients that were rolled back the server has both secrets of a fourth: a masked input that
    it keeps back is open. From three whose records stand it has one.
    """
    play = suspended("semi-honest").to("unmasking")
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


@pytest.mark.parametrize("adversary", FIVE)
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
    difference = counts_of(second) - counts_of(first)
    ring = 2 ** FIVE[adversary].ring_bits()["counts"]
    assert (difference % ring).tolist() == [INPUTS[1]["counts"][i] - INPUTS[0]["counts"][i] for i in range(3)]


def counts_of(message: bytes) -> NDArray[Any]:
    counts = np.zeros(3, np.uint32)
    add_packed(counts, decode(MaskedInput, message).packed[0], FIVE["active"].ring_bits()["counts"])
    return counts.astype(np.int64)
