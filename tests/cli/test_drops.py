"""When a client that is to be lost is lost: in its training round, or the next that asks for it."""

from __future__ import annotations

import os

import pytest

from fl.cli.drops import Drop, Killer
from transport.frames import CHUNK_BYTES


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What has happened."""
    happened: list[str] = []
    monkeypatch.setattr(os, "kill", lambda pid, signal: happened.append("killed"))
    return happened


def says(killer: Killer, round: str) -> None:
    killer.progress(round, 0, 100)


@pytest.mark.parametrize(
    ("asked", "when"),
    [((1, 2, 3), 2), ((2, 3, 6), 2), ((1, 3, 6), 3), ((1,), None)],
    ids=["every round", "not the first", "not its own", "never again"],
)
def test_a_client_is_lost_in_its_training_round_or_the_next(
    killed: list[str], asked: tuple[int, ...], when: int | None
) -> None:
    killer, lost = Killer(Drop(0, "masked-input", training_round=2)), None
    for round in asked:
        says(killer, "join")
        killer.training(round)
        says(killer, "share-keys")
        assert not killed
        says(killer, "masked-input")
        if killed:
            lost = round
            break
    assert lost == when


def test_before_its_task_a_client_takes_the_next_round_for_its_own(killed: list[str]) -> None:
    killer = Killer(Drop(0, "join", training_round=2))
    says(killer, "join")
    killer.training(1)
    assert not killed
    says(killer, "join")
    assert killed


def test_it_is_lost_with_all_said_that_it_had_said(killed: list[str]) -> None:
    killer = Killer(Drop(0, "masked-input", fraction=0.5), lambda: killed.append("all is on its way"))
    killer.training(1)
    killer.progress("masked-input", 0, 3 * CHUNK_BYTES)
    assert not killed
    killer.progress("masked-input", CHUNK_BYTES, 3 * CHUNK_BYTES)
    assert killed == ["all is on its way", "killed"]
