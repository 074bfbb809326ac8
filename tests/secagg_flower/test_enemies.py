"""What a hostile server, and a hostile client, get out of clients and grids under Flower: nothing."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="needs Flower: pip install 'secagg[flower]'")

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from secagg import LocalProtocolError, Policy, RemoteProtocolError
from secagg.masking.messages import PairKeyShare, Unmasking
from secagg.wire import decode, encode
from secagg_flower import SecureGrid, secure_mod
from secagg_flower.grid import SecureGrid as Grid
from secagg_flower.party import Files
from secagg_flower.records import (
    ABOUT,
    Layout,
    Said,
    arrays_sent,
    check_task,
    content_digest,
    said_in,
    task_of,
    with_said,
)
from tests.secagg_flower.loopback import NODES, Loopback, app_of, initial, trained
from tests.secagg_flower.test_grid import Tampering, learned, secured
from tests.secagg_flower.test_roster import config, mod

SILENT = "this client takes no part; its own log says why"


def lost(grid: SecureGrid) -> dict[int, str]:
    assert grid.last is not None
    return dict(grid.last.lost)


# A hostile server


class Singling(Grid):
    """A server that has its session's clients train different things, and says so in the task, as it must."""

    def _task(self, line: Any, contents: Any) -> bytes:
        return task_of(content_digest(self.run.run_id, line.message_type, each) for each in contents)


def test_clients_that_do_not_trust_a_server_train_all_the_same_or_nothing(keys: Path) -> None:
    """Of others at a rate of 0 the server knows the update: the sum would be the update of one."""
    called: list[int] = []

    def train(message: Message, context: Any) -> RecordDict:
        called.append(context.node_id)
        return trained(message, context)

    def messages() -> list[Message]:
        rates = [0.1 if node == 7 else 0.0 for node in NODES]
        return [
            Message(
                RecordDict({"arrays": initial(), "config": ConfigRecord({"server-round": 1, "rate": rate})}),
                node,
                "train",
            )
            for node, rate in zip(NODES, rates, strict=True)
        ]

    inner = Loopback(app_of(mod(keys), train=train), node_config=config)
    grid = Singling(inner, bound=1.0, roster=keys / "roster", max_weight=100)
    assert all(reply.has_error() for reply in grid.send_and_receive(messages()))
    assert all("trains what all train" in why for why in lost(grid).values())
    assert called == []
    honest = SecureGrid(inner, bound=1.0, roster=keys / "roster", max_weight=100)
    with pytest.raises(LocalProtocolError, match="send all the same, or leave the roster out"):
        honest.send_and_receive(messages())


def test_by_what_replies_are_weighed_the_client_says() -> None:
    def loss(content: RecordDict) -> None:
        content[ABOUT]["weighted"] = "loss"

    called: list[int] = []

    def train(message: Message, context: Any) -> RecordDict:
        called.append(context.node_id)
        return trained(message, context)

    grid = Tampering(app_of(secure_mod(), train=train), "advertise-keys", loss)
    learned(secured(grid))
    assert called == []
    assert set(grid.errors) == {
        "the server weighs replies by 'loss', this client by 'num-examples': give secure_mod and SecureGrid "
        "one weighted_by"
    }


def of_bytes(data: bytes, stype: str = "numpy.ndarray") -> RecordDict:
    return RecordDict({"arrays": ArrayRecord({"w": Array("float32", (3,), stype, data)})})


def archive() -> bytes:
    file = io.BytesIO()
    np.savez(file, w=np.zeros(3))
    return file.getvalue()


def endless() -> bytes:
    file = io.BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (2**57,)}
    np.lib.format.write_array_header_1_0(file, shape)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (of_bytes(b""), "the server sends what is no array: EOFError"),
        (of_bytes(b"\x93NUMPY\x01\x00"), "the server sends what is no array: ValueError"),
        (of_bytes(b"\x80\x04N."), "the server sends what is no array: ValueError"),
        (of_bytes(b"PK\x03\x04"), "the server sends what is no array: BadZipFile"),
        (of_bytes(archive()), "the server sends an archive in the place of an array"),
        (of_bytes(endless()), "the server sends what is no array: "),
        (of_bytes(b"", "torch"), "the server sends what is no array: TypeError"),
        (RecordDict({}), "the server sends no arrays to train from: 0 array records"),
        (RecordDict({"a": initial(), "b": initial()}), "the server sends no arrays to train from: 2 array"),
    ],
)
def test_what_a_server_sends_in_the_place_of_arrays_is_its_fault(content: RecordDict, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words):
        arrays_sent(content)


@pytest.mark.parametrize("client", [-2, 2**31, 2**63 - 1])
def test_a_client_that_cannot_be_is_the_servers_fault(client: int) -> None:
    with pytest.raises(RemoteProtocolError, match="not the records of a secure session"):
        said_in(with_said({}, Said(round="join", client=client)))


def test_names_that_are_no_text_are_refused_as_any_other_bytes() -> None:
    for raw in (b"\x93\xa1\xff\xa1m\x90", b"\x91" * 10_000):
        with pytest.raises(RemoteProtocolError, match="not the names of metrics"):
            Layout.decode(raw)
    for raw in (b"\x91\xa1\xff", b"\x91" * 10_000):
        with pytest.raises(RemoteProtocolError, match="not the task of a secure session"):
            check_task(raw, bytes(32))


def test_one_content_is_one_task() -> None:
    own, other = bytes(32), bytes([1]) * 32
    check_task(task_of([own]), own, alone=True)
    check_task(task_of([other, own]), own)
    short, longer = b"\xc4\x20" + own, b"\xc5\x00\x20" + own
    for raw in (b"\x91" + longer, b"\xdc\x00\x01" + short, b"\x92" + short + short):
        with pytest.raises(
            RemoteProtocolError, match="the task of a secure session in a form that is not canonical"
        ):
            check_task(raw, own)
    with pytest.raises(RemoteProtocolError, match="trains what all train"):
        check_task(task_of([own, other]), own, alone=True)


def test_what_the_app_raises_stays_as_what_it_says(caplog: pytest.LogCaptureFixture) -> None:
    """Flower sends the server the words of whatever an app raises."""

    def train(message: Message, context: Any) -> RecordDict:
        raise ValueError("patient 12 has no file")

    inner = Loopback(app_of(secure_mod(), train=train))
    grid = secured(inner)
    with caplog.at_level(logging.WARNING, "flwr.secagg"):
        learned(grid)
    assert set(lost(grid).values()) == {SILENT}
    assert "patient 12 has no file" in caplog.text
    assert not any(b"patient 12" in raw for raw in inner.said)


def test_a_rule_for_like_sums_holds_of_the_arrays_that_a_server_sends(keys: Path) -> None:
    inner = Loopback(app_of(mod(keys, Policy(alike="always"))), node_config=config)
    grid = SecureGrid(inner, bound=1.0, roster=keys / "roster", max_weight=100)

    def replies(round: int, gone: int | None) -> list[Message]:
        inner.falls = lambda node, at: (node, at) == (gone, "masked-input")
        content = RecordDict({"arrays": initial(), "config": ConfigRecord({"server-round": round})})
        return list(grid.send_and_receive([Message(content, node, "train") for node in NODES]))

    assert all(reply.has_content() for reply in replies(1, None))
    # By the same model, of all but one: the difference would be that one's update.
    assert all(reply.has_error() for reply in replies(2, 7))


def test_a_node_that_names_what_nothing_reads_is_told() -> None:
    with pytest.raises(
        LocalProtocolError, match="has 'secagg_key', which nothing reads: there are secagg-key"
    ):
        Files().at({"partition-id": 0, "secagg_key": "own.key", "secagg_roster": "roster"})


# Hostile clients


class Answering(Loopback):
    """A grid to nodes of which one answers what it likes in one round. change: of (said, payload)."""

    def __init__(self, app: Any, round: str, change: Any, node: int = NODES[0], **options: Any) -> None:
        super().__init__(app, **options)
        self.round, self.change, self.node = round, change, node

    def answer(self, request: Message) -> Message | None:
        reply = super().answer(request)
        about = request.content.config_records.get(ABOUT, {})
        if reply is None or (request.metadata.dst_node_id, about.get("round")) != (self.node, self.round):
            return reply
        return Message(with_said({}, *self.change(*said_in(reply.content))), reply_to=request)


def test_metrics_whose_names_are_no_text_lose_their_client_and_nobody_else() -> None:
    def garbled(said: Said, payload: bytes) -> tuple[Said, bytes]:
        return Said(round=said.round, layout=b"\x93\xa1\xff\xa1m\x90"), payload

    grid = secured(Answering(app_of(secure_mod()), "advertise-keys", garbled))
    learned(grid)
    assert list(lost(grid)) == [NODES[0]]


def test_who_is_refused_has_no_say_in_what_metrics_are_called() -> None:
    layouts: list[bytes] = []

    class Many(Answering):
        """All but two say that metrics have other names, and nothing else that is right."""

        def answer(self, request: Message) -> Message | None:
            self.node = request.metadata.dst_node_id if request.metadata.dst_node_id in NODES[2:] else 0
            return super().answer(request)

    def renamed(said: Said, payload: bytes) -> tuple[Said, bytes]:
        layouts.append(Layout("arrays", "metrics", ()).encode())
        return Said(round=said.round, layout=layouts[-1]), b""

    grid = secured(Many(app_of(secure_mod()), "advertise-keys", renamed))
    learned(grid)
    assert len(layouts) == 3
    assert all("other metrics" not in lost(grid)[node] for node in NODES[:2])


def test_a_share_that_opens_nothing_ends_the_sum_and_not_the_run() -> None:
    def another(said: Said, payload: bytes) -> tuple[Said, bytes]:
        shares = {
            v: PairKeyShare(bytes(len(given.share) - 1) + b"\x01")
            if isinstance(given, PairKeyShare)
            else given
            for v, given in decode(Unmasking, payload).shares.items()
        }
        return said, encode(Unmasking(shares))

    inner = Answering(
        app_of(secure_mod()),
        "unmasking",
        another,
        min(NODES),  # its share is among those that are taken
        falls=lambda node, at: (node, at) == (NODES[2], "masked-input"),
    )
    grid = secured(inner)
    result = learned(grid, rounds=2)
    assert grid.last is not None
    assert grid.last.survivors == frozenset()
    assert len(result.train_metrics_clientapp) == 0


def test_where_all_weigh_nothing_there_is_no_mean_and_the_run_goes_on() -> None:
    def idle(message: Message, context: Any) -> RecordDict:
        reply = trained(message, context)
        reply["metrics"]["num-examples"] = 0
        return reply

    grid = secured(Loopback(app_of(secure_mod(), train=idle)))
    learned(grid, rounds=2)
    assert set(lost(grid).values()) == {"all who are left weigh 0: there is no mean of nothing"}
