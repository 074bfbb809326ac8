"""At most one upload per context leaves a client, masked or encrypted, whatever became of the session."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from secagg import LocalProtocolError, RemoteProtocolError
from secagg.crypto import Tag, digest
from tests.enemies.cast import (
    ACTIVE,
    BOTH,
    CONTEXT,
    CORRUPT,
    ENDINGS,
    EVERY,
    IN_GROUPS,
    Company,
    Scene,
    assert_exact,
)
from tests.enemies.cast import (
    company as made,
)

ALL = EVERY | IN_GROUPS
MASKING = BOTH | IN_GROUPS
EACH = pytest.mark.parametrize("company", ALL.values(), ids=ALL)


class Journal:
    """A client's record, in memory: `transport.journal` keeps it on disk."""

    def __init__(self) -> None:
        self.contexts: list[bytes] = []

    def once(self, context: bytes) -> None:
        if context in self.contexts:
            raise RemoteProtocolError("asked again for a task it has contributed to")
        self.contexts.append(context)


def journals() -> dict[int, Journal]:
    return {u: Journal() for u in range(6)}


def session(company: Company, kept: dict[int, Journal], **more: Any) -> Scene:
    return Scene(company, once={u: journal.once for u, journal in kept.items()}, **more)


@EACH
def test_a_masked_input_is_recorded_under_its_context_once(company: Company) -> None:
    kept = journals()
    assert_exact(session(company, kept).play().total, range(6))
    assert all(journal.contexts == [CONTEXT] for journal in kept.values())


@EACH
def test_it_is_recorded_before_it_leaves_and_not_before_it_is_asked_for(company: Company) -> None:
    kept = journals()
    scene = session(company, kept).to(company.scheme.upload_round)
    assert not any(journal.contexts for journal in kept.values())
    scene.answer()
    assert scene.answers.keys() == set(range(6))
    assert all(journal.contexts == [CONTEXT] for journal in kept.values())


@EACH
@pytest.mark.parametrize(
    "error", [RemoteProtocolError("again"), OSError("the disk is full"), KeyboardInterrupt()], ids=repr
)
def test_what_cannot_be_recorded_does_not_leave(company: Company, error: BaseException) -> None:
    """And the session is over: what the client holds of the others is not given either."""

    def once(context: bytes) -> None:
        raise error

    scene = Scene(company, once={0: once}).to(company.scheme.upload_round)
    request = scene.requests.pop(0)
    with pytest.raises(type(error)):
        scene.clients[0].receive(request)
    scene.play()
    assert_exact(scene.total, range(1, 6))
    asked_next = next(m for r, u, m in scene.server.view.sent if (r, u) == (scene.scheme.rounds[4], 1))
    for message in (request, asked_next):
        with pytest.raises(LocalProtocolError, match="over"):
            scene.clients[0].receive(message)


@EACH
@pytest.mark.parametrize("nonce", [bytes(range(32)), bytes(32)], ids=["same nonce", "another nonce"])
def test_the_same_task_gets_no_second_masked_input(company: Company, nonce: bytes) -> None:
    """With one client fewer the second time, the difference of the sums would be its vector."""
    kept = journals()
    session(company, kept).play()
    again = session(company, kept, nonce=nonce).play()
    assert again.died.keys() == set(range(6))
    assert not again.said(company.scheme.upload_round)
    if company in MASKING.values():
        assert again.learned(CORRUPT) == set()


@pytest.mark.parametrize("second", ["another cut", "one sum of all"])
def test_nor_by_another_cut(second: str) -> None:
    """Its group without it, or all, less the sums that are had: the task is the same, whoever is summed."""
    cut = partial(made, threshold=4, corrupt=0, groups=2, cohort=range(6), public_weights=True)
    kept, first = journals(), cut(cut=bytes(32))
    other = cut(cut=bytes([1] * 32)) if second == "another cut" else ACTIVE
    before, again = session(first, kept).play(), session(other, kept).play()
    assert again.inner.groups != before.inner.groups
    assert again.died.keys() == set(range(6))
    assert not again.said("masked-input")


@EACH
@pytest.mark.parametrize("round", ["consistency-check", "unmasking", "decrypt"])
def test_nor_if_the_first_session_came_to_nothing(company: Company, round: str) -> None:
    kept = journals()
    lost = set(range(6)) if company in ENDINGS.values() else {0, 1, 2}
    first = session(company, kept, drop={round: lost}).play()
    assert first.total is None or round not in company.scheme.rounds
    again = session(company, kept).play()
    assert not again.said(company.scheme.upload_round)


@EACH
def test_a_client_that_was_only_lost_after_its_input_left_gives_no_second(company: Company) -> None:
    """The input went out, though the server may not have it: who knows what came of it."""
    kept = journals()
    session(company, kept).to(company.scheme.upload_round).answer()
    assert not session(company, kept).play().said(company.scheme.upload_round)


@EACH
@pytest.mark.parametrize("round", ["advertise-keys", "share-keys", "masked-input", "input"])
def test_a_session_that_died_before_any_input_left_may_be_played_again(company: Company, round: str) -> None:
    kept = journals()
    if round not in company.scheme.rounds:
        return
    session(company, kept).to(round)
    assert_exact(session(company, kept).play().total, range(6))


@EACH
def test_a_refused_request_is_no_contribution(company: Company) -> None:
    kept = journals()
    scene = session(company, kept).to(company.scheme.upload_round)
    with pytest.raises(RemoteProtocolError):
        scene.clients[0].receive(b"")
    assert kept[0].contexts == []


@EACH
def test_another_task_is_another_contribution(company: Company) -> None:
    kept = journals()
    session(company, kept).play()
    assert_exact(session(company, kept, task=b"round 2 of model 0").play().total, range(6))
    assert kept[0].contexts == [CONTEXT, digest(Tag.CONTEXT, b"round 2 of model 0")]


@EACH
def test_a_client_that_restarts_inside_a_session_is_a_dropout_of_it(company: Company) -> None:
    """It starts anew with its record: the server does not expect it, and it masks nothing again."""
    kept = journals()
    scene = session(company, kept).to(company.scheme.upload_round).answer()
    fresh = company.scheme.client(
        0, lambda task: {}, identity=(company.identities or {}).get(0), once=kept[0].once
    )
    del scene.answers[0]
    scene.hear(0, fresh.start())
    assert scene.refused[0].culprits == {0}
    assert_exact(scene.play().total, range(1, 6))
