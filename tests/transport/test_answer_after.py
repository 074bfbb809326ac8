"""A client whose policy says when it answers shows by no time how much it has computed."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from loopback import ANY_SCHEME, SHORT, Clock, Federation, scheme_of, vector

from secagg import RemoteProtocolError
from transport import RoundReport
from transport.frames import SESSION_BYTES, Announce, Frame, checksum
from transport.talk import Talk

ID, TASK, REQUEST = bytes(SESSION_BYTES), b"task", b"request"


class Said:
    """What is sent, and goes nowhere."""

    def __init__(self) -> None:
        self.frames = list[Frame]()

    def send(self, frame: Frame, payload: Any = None) -> None:
        self.frames.append(frame)


class Still(Clock):
    """Goes on when it is told to, and only then."""

    def monotonic(self) -> float:
        return self.ahead


class Training:
    """A session that takes so many seconds for its task."""

    done = False

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds = clock, seconds

    def start(self) -> bytes:
        return b"join"

    def receive(self, message: Any) -> bytes:
        self.clock.ahead += self.seconds
        return b"answer"


def answered(monkeypatch: pytest.MonkeyPatch, seconds: float) -> tuple[Said, Talk, Clock, list[str]]:
    clock, told, peer = Still(), list[str](), Said()
    monkeypatch.setattr("transport.talk.time", clock)
    how: Any = {"tell": told.append, "answer_after": 100.0}
    scheme, training = scheme_of("masking", 3, SHORT), Training(clock, seconds)
    talk = Talk(peer.send, ID, scheme, training, **how)  # type: ignore[arg-type]
    talk.begin()
    talk.step((Announce(ID, 0, len(TASK), checksum(TASK)), TASK))
    return peer, talk, clock, told


@pytest.mark.parametrize("seconds", [1.0, 99.0])
def test_the_answer_to_a_task_leaves_when_it_is_due_however_long_it_took(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    peer, talk, clock, told = answered(monkeypatch, seconds)
    assert len(peer.frames) == 1  # the join
    assert talk.due - clock.monotonic() == 100 - seconds
    talk.answer_now()
    assert (len(peer.frames), talk.due) == (2, float("inf"))
    talk.step((Announce(ID, 1, len(REQUEST), checksum(REQUEST)), REQUEST))
    assert len(peer.frames) == 3  # at once
    assert told == []


def test_a_task_that_comes_again_is_not_answered_before_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session would, from what it keeps, as soon as it has trained."""
    peer, talk, _, _ = answered(monkeypatch, 1.0)
    with pytest.raises(RemoteProtocolError, match="out of turn"):
        talk.step((Announce(ID, 1, len(TASK), checksum(TASK)), TASK))
    assert len(peer.frames) == 1  # the join


def test_a_client_that_took_longer_than_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    _, talk, clock, told = answered(monkeypatch, 130.0)
    assert talk.due < clock.monotonic()
    assert told[0].startswith("it took 130 s to compute the answer, more than answer_after (100 s)")


def test_in_a_session_the_round_of_the_task_takes_no_less(tmp_path: Any) -> None:
    federation, reports = Federation(tmp_path, 3), list[RoundReport]()
    policy = msgspec.structs.replace(ANY_SCHEME, answer_after=0.5)

    def client(u: int, endpoint: str) -> None:
        with federation.join(u, endpoint, policy) as peer:
            contribution = peer.contribute(lambda task: vector(u, SHORT))
            assert contribution is not None
            assert contribution.summed

    with ThreadPoolExecutor(3) as threads, federation.serve() as cohort:
        clients = [threads.submit(client, u, cohort.endpoint) for u in range(3)]
        cohort.aggregate(scheme_of("masking", 3, SHORT), os.urandom(16), watch=reports.append)
        for ended in clients:
            ended.result()
    assert reports[1].round == "advertise-keys"
    assert reports[1].seconds >= 0.5
