"""Flower's grid in this process: messages cross it as the bytes of Flower's own serialisation, and each is
answered by the ClientApp, with a state that is bytes between two messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import context_from_proto, context_to_proto, message_from_proto, message_to_proto
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

RUN = 2**63 + 5
NODES = (2**64 - 3, 7, 2**63, 12345, 2**40)

Falls = Callable[[int, str], bool]
"""(node, round of the session or "") -> whether this message reaches it no more."""


class Loopback(Grid):
    """A grid to these nodes, all with one app. said: every train reply that crossed it, as bytes. falls: who
    is gone when; it is told of by the SuperLink, node 1, or where `silent` by nobody.
    """

    def __init__(
        self,
        app: ClientApp,
        nodes: Iterable[int] = NODES,
        *,
        falls: Falls = lambda node, round: False,
        silent: bool = False,
        node_config: Callable[[int], dict[str, Any]] = lambda node: {},
    ) -> None:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN, 1, 1
        self.app, self.falls, self.silent = app, falls, silent
        self.contexts = {u: bytes_of(Context(RUN, u, node_config(u), RecordDict(), {})) for u in nodes}
        self.replies: dict[str, Message] = {}
        self.said: list[bytes] = []
        self.requests: list[Message] = []

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        return SimpleNamespace(run_id=RUN)

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(uuid4())
            ids.append(message.metadata.message_id)
            self.requests.append(crossed(message)[0])
            reply = self.answer(crossed(message)[0])
            if reply is not None:
                self.replies[message.metadata.message_id] = reply
        return ids

    def answer(self, request: Message) -> Message | None:
        node = request.metadata.dst_node_id
        about = request.content.config_records.get("secagg", {})
        if self.falls(node, str(about.get("round", ""))):
            if self.silent:
                return None
            reply = Message(Error(5, "Node Unavailable"), reply_to=request)
            reply.metadata.__dict__["_src_node_id"] = 1
            return reply
        context = of_bytes(self.contexts[node])
        try:
            reply = self.app(request, context)
        except Exception as error:
            return Message(Error(2, repr(error)), reply_to=request)
        self.contexts[node] = bytes_of(context)
        arrived, raw = crossed(reply)
        self.said.append(raw)
        return arrived

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self.replies.pop(id) for id in message_ids if id in self.replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        return self.pull_messages(self.push_messages(list(messages)))


def crossed(message: Message) -> tuple[Message, bytes]:
    raw = message_to_proto(message).SerializeToString()
    proto = type(message_to_proto(message)).FromString(raw)
    return message_from_proto(proto), raw


def bytes_of(context: Context) -> bytes:
    return context_to_proto(context).SerializeToString()


def of_bytes(raw: bytes) -> Context:
    from flwr.proto.message_pb2 import Context as Proto

    return context_from_proto(Proto.FromString(raw))


def arrays_of(node: int, round: int = 1) -> dict[str, np.ndarray[Any, Any]]:
    """What a node has trained: as no other, and as in no other round."""
    rng = np.random.default_rng([node, round])
    return {
        "w": rng.uniform(-1, 1, (5, 3)).astype(np.float32),
        "b": rng.uniform(-1, 1, 3),
        "batches": np.array(rng.integers(0, 50), dtype=np.int64),
    }


def examples_of(node: int) -> int:
    return node % 89 + 10


def initial() -> ArrayRecord:
    return record_of(arrays_of(0))


def record_of(arrays: dict[str, Any]) -> ArrayRecord:
    return ArrayRecord({key: Array(np.asarray(x)) for key, x in arrays.items()})


def app_of(*mods: Any, train: Callable[[Message, Context], RecordDict] | None = None) -> ClientApp:
    """An app whose training gives `arrays_of` the node, and metrics; and whose evaluation is in the clear."""
    app = ClientApp(mods=list(mods))

    @app.train()
    def training(message: Message, context: Context) -> Message:
        content = trained(message, context) if train is None else train(message, context)
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluation(message: Message, context: Context) -> Message:
        metrics = {"num-examples": examples_of(context.node_id), "accuracy": 0.25}
        return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)

    return app


def trained(message: Message, context: Context) -> RecordDict:
    node, round = context.node_id, int(message.content["config"]["server-round"])
    metrics = {"num-examples": examples_of(node), "loss": node % 13 / 7, "by-class": [0.5, float(node % 5)]}
    return RecordDict({"arrays": record_of(arrays_of(node, round)), "metrics": MetricRecord(metrics)})
