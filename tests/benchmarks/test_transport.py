"""The benchmark of uploads, at a size at which its times say nothing: all bytes come through."""

from __future__ import annotations

import sys

import pytest

from benchmarks import bare, harness
from benchmarks.protocol import transport
from fl.cli.output import Output
from tests.benchmarks.cases import rows_of
from transport.frames import CHUNK_BYTES


@pytest.mark.parametrize(
    "length",
    [
        pytest.param(25_000, id="with the announcement", marks=pytest.mark.slow),
        pytest.param(100_000, id="in chunks"),
    ],
)
def test_every_way_moves_every_message(monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    case = bare.Uploads(clients=3, length=length, processes=2, repetitions=1)
    assert (4 * length > CHUNK_BYTES) == (length == 100_000)
    monkeypatch.setitem(transport.CASES, "quick", case)
    rows = rows_of(transport)
    assert [row["kind"] for row in rows] == list(transport.KINDS)
    transport.CONTROL.check(rows)
    for row in rows:
        (taken,) = row["repetitions"]
        assert taken["exact"]
        header = 0 if row["kind"] == "bare" else 13  # msgpack's, of a message with one vector
        assert taken["messages"] == case.clients * (4 * length + header)
        assert taken["frames"] >= taken["messages"]
        if sys.platform == "linux":
            assert taken["messages"] < taken["tcp"] < 1.02 * taken["messages"]
    harness.show(transport.table(rows), Output(quiet=True))


def test_a_sum_that_is_not_that_of_all_vectors_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bare, "serve", wrong_server)
    with pytest.raises(AssertionError, match="not all was summed"):
        transport.repetition("bare", bare.Uploads(clients=1, length=1, processes=0, repetitions=1))


def wrong_server(case, size, folder, start, pipe) -> None:  # type: ignore[no-untyped-def]
    pipe.send("tcp://127.0.0.1:9")
    pipe.send(bare.Taken(exact=False))
