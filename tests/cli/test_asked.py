"""What a round has asked for is on record before anybody can answer: a run that is killed in it, and goes on,
has it in its ledger.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fl.cli.asked import Asked
from fl.cli.book import Book
from fl.cohort.layout import lay_out
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets
from fl.config.section import ConfigError
from fl.federation.simulation import simulated
from secagg import ClientSession, ServerSession
from secagg.record import AroundClient
from secagg.wire import Raw
from transport import RoundReport

SMALL: dict[str, Any] = {
    "clients": 5,
    "rounds": 2,
    "local_steps": 2,
    "model": "logistic",
    "examples_per_client": 20,
    "execution": "batched",
}
EVERYBODY = frozenset(range(5))


class KilledError(Exception):
    """What stops a server."""


class Looking:
    """An instrument: when the first party hears its third request, the server is killed."""

    def __init__(self, path: Path) -> None:
        self.path, self.found = path, b""

    def server(self, task: bytes, session: ServerSession) -> ServerSession:
        return session

    def client(self, u: int, session: ClientSession) -> ClientSession:
        return Asking(session, self)


class Asking(AroundClient):
    def __init__(self, session: ClientSession, looking: Looking) -> None:
        super().__init__(session)
        self._looking, self._heard = looking, 0

    def receive(self, message: Raw) -> bytes | None:
        self._heard += 1
        if self._heard == 3:
            self._looking.found = self._looking.path.read_bytes()
            raise KilledError
        return super().receive(message)


@pytest.mark.parametrize(
    "flags",
    [{}, {"scheme": "split"}, {"groups": 2, "unsafe_groups": True}],
    ids=["masking", "split", "groups"],
)
def test_it_is_there_when_a_sum_is_asked_for(tmp_path: Path, flags: dict[str, Any]) -> None:
    """Of clients by the third request that each hears, and of relays by theirs."""
    path = tmp_path / "asked.jsonl"
    looking = Looking(path)
    config = RunConfig.of(**SMALL | flags)
    server = simulated(config, lay_out(config), secrets=RunSecrets.of_seed(3), instrument=looking)
    book = Book(
        server.scheme.opening_round,
        server.scheme.upload_round,
        groups=server.groups.of,
        rounds=server.scheme.rounds,
        record=Asked(path),
    )
    with pytest.raises(KilledError):
        list(server.rounds(None, book.watch))
    assert looking.found == path.read_bytes()
    rows = Asked.on_record(path, 0).rows
    assert {u for row in rows for u in row} == EVERYBODY
    assert len(rows) == flags.get("groups", 1)
    assert Asked.on_record(path, 1).rows == []


def report(round: str, alive: set[int], asked: set[int]) -> RoundReport:
    up, down = dict.fromkeys(alive, 1), dict.fromkeys(asked, 1)
    return RoundReport(round, frozenset(alive), {}, up, down, 1, 1, 0.1)


ROUNDS = ("join", "share-keys", "masked-input", "consistency-check", "unmasking")


def after(path: Path, round: str) -> list[list[int]]:
    """What stands there once this round is closed, of a session that loses one client in each."""
    book = Book("masked-input", "masked-input", rounds=ROUNDS, record=Asked(path))
    left = set(range(8))
    for each in ROUNDS[: ROUNDS.index(round) + 1]:
        asked, left = left, left - {max(left)}
        book.watch(report(each, left, asked))
    return Asked.on_record(path, 0).rows


def test_it_is_of_whom_the_sum_is_as_far_as_that_is_known(tmp_path: Path) -> None:
    """Those who shared keys, who uploaded, and who were asked to sign it."""
    found = {round: after(tmp_path / round, round) for round in ROUNDS}
    counts = {round: [len(row) for row in rows] for round, rows in found.items()}
    assert counts == {
        "join": [],
        "share-keys": [6],
        "masked-input": [5],
        "consistency-check": [5],
        "unmasking": [4],
    }


def test_without_any_answer_there_is_no_sum(tmp_path: Path) -> None:
    path = tmp_path / "asked"
    book = Book("masked-input", "masked-input", rounds=ROUNDS, record=Asked(path))
    book.watch(report("share-keys", {0, 1, 2}, {0, 1, 2}))
    book.watch(report("masked-input", set(), {0, 1, 2}))
    assert Asked.on_record(path, 0).rows == []


def test_where_relays_open_the_sum_it_is_of_whose_vectors_they_have(tmp_path: Path) -> None:
    path = tmp_path / "asked"
    book = Book("columns", "shares", rounds=("join", "shares", "deliver", "columns"), record=Asked(path))
    book.watch(report("shares", {0, 1, 2}, {0, 1, 2, 3}))
    assert not path.exists()
    book.watch(report("deliver", set(), set()))
    assert Asked.on_record(path, 0).rows == [[0, 1, 2]]


def test_a_round_that_is_killed_twice_has_both_its_sums(tmp_path: Path) -> None:
    """Until a checkpoint has them; and what one says that was there before the round ended counts once."""
    path = tmp_path / "asked.jsonl"
    first = Asked(path, 3)
    first.begin([EVERYBODY])
    second = Asked.on_record(path, 3)
    second.begin([EVERYBODY - {1}])
    second.begin([EVERYBODY - {2}])
    second.change([EVERYBODY - {2, 4}])
    assert Asked.on_record(path, 3).rows == [[0, 1, 2, 3, 4], [0, 2, 3, 4], [0, 1, 3]]
    assert Asked.on_record(path, 4).rows == []
    second.end()
    assert not path.exists()
    second.change([EVERYBODY])  # of the last session nothing more is known
    second.begin([EVERYBODY - {3}])
    assert Asked.on_record(path, 4).rows == [[0, 1, 2, 4]]


def test_the_same_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "asked.jsonl"
    asked = Asked(path)
    asked.begin([EVERYBODY])
    for _ in range(3):
        asked.change([EVERYBODY])
    assert path.read_bytes().count(b"\n") == 1


def test_a_line_that_was_cut_off_had_not_been_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "asked.jsonl"
    Asked(path).begin([EVERYBODY])
    whole = path.read_bytes()
    path.write_bytes(whole + b"[1,1,[[0,1")
    assert Asked.on_record(path, 0).rows == [sorted(EVERYBODY)]
    assert path.read_bytes() == whole


@pytest.mark.parametrize("line", [b"{", b"[1,0,[[-1]]]", b'[1,0,"all"]', b"[1]", b"[" * 10_000, b"\xff"])
def test_what_is_damaged_is_refused(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "asked.jsonl"
    path.write_bytes(line + b"\n")
    with pytest.raises(ConfigError, match="what the run had asked for is not known, for it has a line"):
        Asked.on_record(path, 0)


def test_what_cannot_be_put_down_is_not_asked_for(tmp_path: Path) -> None:
    asked = Asked(tmp_path / "no such folder" / "asked.jsonl")
    book = Book("masked-input", "masked-input", rounds=ROUNDS, record=asked)
    with pytest.raises(OSError, match="No such file"):
        book.watch(report("share-keys", {0, 1, 2}, {0, 1, 2}))
