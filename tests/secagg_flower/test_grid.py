"""A strategy of Flower's under SecureGrid, with ClientApps under secure_mod, in this process: what it learns
is what it would without, and of nobody anything else.
"""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("flwr", reason="needs Flower: pip install 'secagg[flower]'")

from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg, FedAvgM, FedProx

from secagg import LocalProtocolError, Policy, RemoteProtocolError
from secagg_flower import SecureGrid, secure_mod
from secagg_flower.records import (
    ABOUT,
    MOST_METRICS,
    PAYLOAD,
    Layout,
    Replies,
    Said,
    check_task,
    content_digest,
    said_in,
    with_said,
)
from tests.secagg_flower.loopback import (
    NODES,
    Loopback,
    app_of,
    arrays_of,
    examples_of,
    initial,
    record_of,
    trained,
)

BOUND = 1.0


def secured(grid: Loopback, **options: Any) -> SecureGrid:
    return SecureGrid(grid, bound=BOUND, max_weight=100, **options)


def learned(grid: Any, strategy: Any = None, rounds: int = 1) -> Any:
    return (strategy or FedAvg()).start(grid=grid, initial_arrays=initial(), num_rounds=rounds)


def mean_of(nodes: Any, key: str) -> np.ndarray[Any, Any]:
    weights = [examples_of(node) for node in nodes]
    return np.average([arrays_of(node)[key].astype(np.float64) for node in nodes], axis=0, weights=weights)


def about(grid: Loopback, name: str, at: str = "") -> list[Message]:
    """The requests that crossed the grid, of one type and round."""
    return [
        m
        for m in grid.requests
        if m.metadata.message_type == name and (not at or m.content[ABOUT]["round"] == at)
    ]


@pytest.mark.parametrize("strategy", [FedAvg, FedAvgM, lambda: FedProx(proximal_mu=0.1)])
def test_a_strategy_learns_what_it_learns_without(strategy: Any) -> None:
    plain = learned(Loopback(app_of()), strategy(), rounds=2)
    grid = secured(Loopback(app_of(secure_mod())))
    secure = learned(grid, strategy(), rounds=2)
    assert grid.last is not None
    assert grid.last.survivors == set(NODES)
    assert grid.last.lost == {}
    assert 0 < grid.last.error_bound < 1e-5
    for key in ("w", "b"):
        off = np.abs(secure.arrays[key].numpy() - plain.arrays[key].numpy()).max()
        assert off <= 2 * grid.last.error_bound + 1e-6  # of two rounds, and float32's
    # Integers are averaged exactly, and are the nearest again.
    assert np.isclose(secure.arrays["batches"].numpy(), np.rint(plain.arrays["batches"].numpy()))
    for round in (1, 2):
        with_, without = secure.train_metrics_clientapp[round], plain.train_metrics_clientapp[round]
        assert with_["loss"] == pytest.approx(without["loss"], abs=1e-4)
        assert with_["by-class"] == pytest.approx(without["by-class"], abs=1e-4)
        accuracy = secure.evaluate_metrics_clientapp[round]["accuracy"]
        assert accuracy == pytest.approx(plain.evaluate_metrics_clientapp[round]["accuracy"])


def test_clients_are_sent_integers_that_averaging_has_made_float64() -> None:
    inner = Loopback(app_of(secure_mod()))
    result = learned(secured(inner), rounds=2)
    assert result.arrays["batches"].numpy().dtype == np.float64
    sent = [m.content["arrays"]["batches"] for m in about(inner, "train", "advertise-keys")]
    assert [each.dtype for each in sent] == ["int64"] * 10
    assert sent[-1].numpy() == round(float(mean_of(NODES, "batches")))


def test_nothing_of_one_client_leaves_but_the_names_of_its_metrics() -> None:
    inner = Loopback(app_of(secure_mod()))
    learned(secured(inner))
    train = [m for m in inner.said if b"secagg-message" in m]
    assert len(train) == 4 * len(NODES)  # the rounds of a semi-honest session
    for raw in train:
        assert b"metrics" not in raw or b"loss" in raw  # the layout, which names them
        for node in NODES:
            assert arrays_of(node)["w"].tobytes() not in raw
            assert arrays_of(node)["b"].tobytes() not in raw
    replies = list(map(of_reply, train))
    assert all(set(reply) == {ABOUT, PAYLOAD} for reply in replies)
    assert all(not reply.metric_records for reply in replies)


def of_reply(raw: bytes) -> RecordDict:
    from flwr.common.serde import message_from_proto
    from flwr.proto.message_pb2 import Message as Proto

    return message_from_proto(Proto.FromString(raw)).content


@pytest.mark.parametrize(
    ("round", "silent"),
    [("advertise-keys", False), ("share-keys", False), ("share-keys", True), ("masked-input", True)],
)
def test_who_falls_before_its_update_has_left_is_not_in_the_mean(round: str, silent: bool) -> None:
    gone = NODES[2]
    inner = Loopback(app_of(secure_mod()), falls=lambda node, at: (node, at) == (gone, round), silent=silent)
    grid = secured(inner, patience=0.01)
    result = learned(grid)
    assert grid.last is not None
    left = set(NODES) - {gone}
    assert grid.last.survivors == left
    why = f"no answer in round {round}" if silent else "Node Unavailable"
    assert grid.last.lost == {gone: why}
    for key in ("w", "b"):
        off = np.abs(result.arrays[key].numpy() - mean_of(sorted(left), key)).max()
        assert off <= grid.last.error_bound + 1e-6
    assert len(about(inner, "train", "unmasking")) == 4


def test_who_falls_after_its_update_has_left_is_in_the_mean() -> None:
    inner = Loopback(app_of(secure_mod()), falls=lambda node, at: (node, at) == (7, "unmasking"))
    grid = secured(inner)
    result = learned(grid)
    assert grid.last is not None
    assert grid.last.survivors == set(NODES)
    assert np.abs(result.arrays["b"].numpy() - mean_of(NODES, "b")).max() <= grid.last.error_bound


def test_with_too_few_left_the_strategy_keeps_its_model(caplog: pytest.LogCaptureFixture) -> None:
    inner = Loopback(app_of(secure_mod()), falls=lambda node, at: at == "masked-input" and node != 7)
    grid = secured(inner)
    with caplog.at_level(logging.INFO, "flwr"):
        result = learned(grid)
    assert grid.last is not None
    assert grid.last.survivors == frozenset()
    assert set(grid.last.lost) == set(NODES)
    assert "Received 0 results and 5 failures" in caplog.text
    assert "1 client left in round masked-input" in caplog.text
    assert len(result.train_metrics_clientapp) == 0
    assert about(inner, "train", "unmasking") == []


def test_a_train_message_outside_a_session_is_refused_and_all_others_pass() -> None:
    inner = Loopback(app_of(secure_mod()))
    content = RecordDict({"arrays": initial(), "config": ConfigRecord({"server-round": 1})})
    (reply,) = inner.send_and_receive([Message(content, 7, "train")])
    assert "outside any secure session" in reply.error.reason
    (reply,) = inner.send_and_receive([Message(content, 7, "evaluate")])
    assert reply.content["metrics"]["accuracy"] == 0.25


def test_the_policy_decides_before_the_task_is_looked_at() -> None:
    called: list[int] = []

    def train(message: Message, context: Any) -> RecordDict:
        called.append(context.node_id)
        return trained(message, context)

    grid = secured(Loopback(app_of(secure_mod(Policy()), train=train)))
    learned(grid)
    assert grid.last is not None
    assert all("trusts it to follow the protocol; this client does not" in w for w in grid.last.lost.values())
    assert called == []


def test_a_session_says_whom_it_trusts(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "flwr.secagg"):
        learned(secured(Loopback(app_of(secure_mod()))))
    told = [line for line in caplog.messages if "honest-but-curious server" in line]
    assert len(told) == 1 + len(NODES)  # the server, and each client


class Tampering(Loopback):
    """A grid that changes the requests of one round on their way. change: of a request's content."""

    def __init__(self, app: ClientApp, round: str, change: Any, **options: Any) -> None:
        super().__init__(app, **options)
        self.round, self.change = round, change
        self.errors: list[str] = []

    def answer(self, request: Message) -> Message | None:
        about = request.content.config_records.get(ABOUT, {})
        if about.get("round") == self.round:
            self.change(request.content)
        reply = super().answer(request)
        if reply is not None and reply.has_error():
            self.errors.append(reply.error.reason)
        return reply


def other_arrays(content: RecordDict) -> None:
    content["arrays"] = record_of(arrays_of(99))


def other_config(content: RecordDict) -> None:
    content["config"]["server-round"] = 9


def fewer_arrays(content: RecordDict) -> None:
    content["arrays"] = ArrayRecord({"w": content["arrays"]["w"]})


@pytest.mark.parametrize("change", [other_arrays, other_config, fewer_arrays])
def test_a_client_trains_on_nothing_but_what_the_session_is_for(change: Any) -> None:
    inner = Tampering(app_of(secure_mod()), "advertise-keys", change)
    learned(secured(inner))
    assert len(inner.errors) == len(NODES)
    assert all("for other arrays, or another configuration" in error for error in inner.errors)


def other_version(content: RecordDict) -> None:
    content[ABOUT]["version"] = 9


def not_joined(content: RecordDict) -> None:
    content[ABOUT] = ConfigRecord({"round": "unmasking", "version": 1})


def no_message(content: RecordDict) -> None:
    content[PAYLOAD] = ArrayRecord({})


def unknown_field(content: RecordDict) -> None:
    content[ABOUT]["more"] = 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_version, "records of version 9"),
        (not_joined, "a session that this client is not in"),
        (no_message, "not the records of a secure session"),
        (unknown_field, "not the records of a secure session"),
    ],
)
def test_records_that_are_not_as_they_should_be_are_refused(change: Any, words: str) -> None:
    inner = Tampering(app_of(secure_mod()), "advertise-keys", change)
    learned(secured(inner))
    assert len(inner.errors) == len(NODES)
    assert all(words in error for error in inner.errors)


def test_a_task_that_is_none_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="not the task of a secure session: "):
        check_task(b"\xc1", bytes(32))


def test_a_state_that_is_rolled_back_gives_no_second_answer() -> None:
    inner = Loopback(app_of(secure_mod()))
    before: list[bytes] = []
    answers: list[Message | None] = []

    def falls(node: int, at: str) -> bool:
        if node == 7 and at == "share-keys" and not before:
            before.append(inner.contexts[7])
        if node == 7 and at == "masked-input" and not answers:
            (first,) = [m for m in about(inner, "train", "share-keys") if m.metadata.dst_node_id == 7]
            said, payload = said_in(first.content)
            name, keys = msgspec.msgpack.decode(payload)
            fewer = msgspec.msgpack.encode([name, dict(list(keys.items())[:-1])])  # another U1
            kept = inner.contexts[7]
            for each in (payload, fewer):
                inner.contexts[7] = before[0]
                answers.append(inner.answer(with_payload(first, said, each)))
            inner.contexts[7] = kept
        return False

    inner.falls = falls
    grid = secured(inner)
    learned(grid)
    again, other = answers
    assert again is not None
    assert other is not None
    assert again.has_content()  # the same message gets the same answer
    assert "has been answered, to another message" in other.error.reason
    assert grid.last is not None
    assert grid.last.survivors == set(NODES)


def without(content: RecordDict) -> RecordDict:
    return RecordDict({name: content[name] for name in content if name not in (ABOUT, PAYLOAD)})


def with_payload(request: Message, said: Said, payload: bytes) -> Message:
    content = with_said(without(request.content), said, payload)
    made = Message(content, request.metadata.dst_node_id, "train")
    made.metadata.__dict__["_message_id"] = "again"
    return made


def reply_of(change: Any) -> Any:
    """Training, whose reply node 7 alone changes."""

    def train(message: Message, context: Any) -> RecordDict:
        reply = trained(message, context)
        if context.node_id == 7:
            change(reply)
        return reply

    return train


def heavy(reply: RecordDict) -> None:
    reply["metrics"]["num-examples"] = 101


def unweighted(reply: RecordDict) -> None:
    del reply["metrics"]["num-examples"]


def config_too(reply: RecordDict) -> None:
    reply["notes"] = ConfigRecord({"hospital": "north"})


def two_arrays(reply: RecordDict) -> None:
    reply["more"] = initial()


def not_a_number(reply: RecordDict) -> None:
    reply["metrics"]["loss"] = float("nan")


def many_metrics(reply: RecordDict) -> None:
    reply["metrics"]["by-class"] = [0.0] * MOST_METRICS


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (heavy, "weight 101 is not a whole number in 0..100"),
        (unweighted, "the reply's metrics lack 'num-examples'"),
        (config_too, "a config record 'notes'"),
        (two_arrays, "2 array records, where an averaging strategy of Flower has one"),
        (not_a_number, "nan"),
        (many_metrics, "metrics of 65 numbers: 64 at most are summed"),
    ],
)
def test_a_reply_that_cannot_be_summed_stays_and_its_reason_too(
    change: Any, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    grid = secured(Loopback(app_of(secure_mod(), train=reply_of(change))))
    with caplog.at_level(logging.WARNING, "flwr.secagg"):
        learned(grid)
    assert grid.last is not None
    assert grid.last.lost == {7: "this client takes no part; its own log says why"}
    assert [line for line in caplog.messages if words in line]


def test_whose_metrics_are_called_otherwise_is_left_out() -> None:
    def renamed(reply: RecordDict) -> None:
        metrics = dict(reply["metrics"])
        reply["metrics"] = MetricRecord({"lost" if key == "loss" else key: x for key, x in metrics.items()})

    grid = secured(Loopback(app_of(secure_mod(), train=reply_of(renamed))))
    result = learned(grid)
    assert grid.last is not None
    assert grid.last.lost == {7: "its reply has other metrics, or other records, than most"}
    assert set(result.train_metrics_clientapp[1]) == {"loss", "by-class"}


def test_numbers_beyond_the_bound_are_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    def far(reply: RecordDict) -> None:
        reply["arrays"] = record_of(arrays_of(7) | {"b": np.array([0.5, 9.0, -9.0])})

    grid = secured(Loopback(app_of(secure_mod(), train=reply_of(far))))
    with caplog.at_level(logging.WARNING, "flwr.secagg"):
        learned(grid)
    assert grid.last is not None
    assert grid.last.clipped == pytest.approx(2 / (18 * 5))
    assert "beyond the bound of 1 and cut" in caplog.text


def test_two_nodes_are_too_few_and_it_is_said_how_to_have_more() -> None:
    with pytest.raises(LocalProtocolError, match="a sum of 2 would tell each client's own: ask three"):
        learned(secured(Loopback(app_of(secure_mod()), NODES[:2])))


def test_train_messages_are_not_pushed_past_the_session() -> None:
    grid = secured(Loopback(app_of(secure_mod())))
    with pytest.raises(LocalProtocolError, match="use send_and_receive"):
        grid.push_messages([Message(RecordDict({"arrays": initial()}), 7, "train")])


def test_nodes_may_be_sent_different_configurations() -> None:
    grid = secured(Loopback(app_of(secure_mod())))
    messages = [
        Message(
            RecordDict({"arrays": initial(), "config": ConfigRecord({"server-round": 1, "rate": 0.1 * i})}),
            node,
            "train",
        )
        for i, node in enumerate(NODES)
    ]
    replies = list(grid.send_and_receive(messages))
    assert [reply.metadata.src_node_id for reply in replies] == list(NODES)
    assert all(reply.has_content() for reply in replies)
    examples = sum(reply.content["metrics"]["num-examples"] for reply in replies)
    assert examples == pytest.approx(sum(map(examples_of, NODES)))


@pytest.mark.parametrize("raw", [b"", b"\xc0", *(Layout("a", "m", (("x", n),)).encode() for n in (-1, 65))])
def test_a_layout_is_read_strictly(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="metrics"):
        Layout.decode(raw)


def test_a_layout_of_too_many_or_of_none_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="metrics of 65 numbers: 64 at most"):
        Layout.decode(Layout("a", "m", (("x", 65),)).encode())
    with pytest.raises(RemoteProtocolError, match="not the names of metrics"):
        Layout.decode(b"")


def arrays() -> dict[str, np.ndarray[Any, Any]]:
    return {"w": np.zeros(3, np.float32), "n": np.array(5)}


def replies() -> Replies:
    return Replies(arrays(), bound=1.0, bits=20, max_weight=100, metric_bound=10.0)


def test_a_client_asks_the_offer_for_what_its_arrays_make_and_no_other() -> None:
    assert Replies.offered(arrays(), replies().vectors).vectors == replies().vectors
    with pytest.raises(RemoteProtocolError, match="sum of its arrays: weight or metrics are missing"):
        Replies.offered(arrays(), replies().tree.vectors)
    more = arrays() | {"w": np.zeros(4, np.float32)}
    with pytest.raises(RemoteProtocolError, match="asks for other vectors than the arrays that it"):
        Replies.offered(more, replies().vectors)


def test_an_error_of_the_app_is_its_own_and_stays(caplog: pytest.LogCaptureFixture) -> None:
    app = ClientApp(mods=[secure_mod()])

    @app.train()
    def training(message: Message, context: Any) -> Message:
        return Message(Error(0, "patient 12 has no file"), reply_to=message)

    grid = secured(Loopback(app))
    learned(grid)
    assert grid.last is not None
    assert set(grid.last.lost.values()) == {"this client takes no part; its own log says why"}
    assert "the app gave an error: patient 12 has no file" in caplog.text


def test_train_messages_are_one_to_a_node_and_of_one_type() -> None:
    grid = secured(Loopback(app_of(secure_mod())))
    content = RecordDict({"arrays": initial()})
    for nodes, kinds in (((7, 7, 5), ("train",) * 3), ((7, 6, 5), ("train", "train", "train.more"))):
        messages = [Message(content, node, kind) for node, kind in zip(nodes, kinds, strict=True)]
        with pytest.raises(LocalProtocolError, match="one to a node, and of one type: one sum"):
            grid.send_and_receive(messages)


@pytest.mark.parametrize("task", [b"", b"\xc0", b"\x90"])
def test_a_task_is_read_strictly(task: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        check_task(task, bytes(32))


def test_a_digest_names_all_that_an_app_is_sent() -> None:
    def content(**changes: Any) -> RecordDict:
        config = {"a": 1, "b": [1.0, 2.0], "c": "x", "d": b"y", "e": True} | changes
        return RecordDict({"arrays": initial(), "config": ConfigRecord(config)})

    first = content_digest(1, "train", content())
    others = [content(a=2), content(a=1.0), content(b=[2.0, 1.0]), content(c="z"), content(e=False)]
    digests = {first, *(content_digest(1, "train", each) for each in others)}
    digests |= {content_digest(2, "train", content()), content_digest(1, "train.more", content())}
    assert len(digests) == 8
    swapped = RecordDict({"config": content()["config"], "arrays": initial()})
    assert content_digest(1, "train", swapped) == first


def test_an_answer_leaves_when_the_policy_says_however_long_training_took(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: 100.0, sleep=waited.append)
    monkeypatch.setattr("secagg_flower.mod.time", clock)
    policy = Policy(adversary="semi-honest", answer_after=30.0)
    learned(secured(Loopback(app_of(secure_mod(policy)))))
    assert waited == [30.0] * len(NODES)  # once a session each: after the task, and no later message
