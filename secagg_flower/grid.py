"""The server's side: a grid under which a strategy sees means of train replies, and no reply."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

from secagg import Aggregate, LocalProtocolError, Masking, RemoteProtocolError, Roster, TooFewClients
from secagg.errors import ClientId
from secagg.tree import NUMBERS
from secagg_flower.records import (
    WHO,
    Replies,
    Said,
    at_node,
    content_digest,
    is_train,
    numpy_of,
    only,
    printable,
    said_in,
    task_of,
    with_said,
)
from secagg_flower.session import Line, Session
from secagg_flower.strategies import check

log = logging.getLogger("flwr.secagg")
UNAVAILABLE = 4
"""Flower's code for a reply that there is not."""


@dataclass(frozen=True)
class Round:
    """How the last secure round ended. survivors: nodes whose replies are in the mean; none where there is no
    sum. lost: the others, and why. error_bound: no number of the mean arrays is farther from that of the
    clients' (but for the rounding to their type). clipped: the share of all these numbers that was beyond the
    bound and cut, 0..1. aggregate: all that the server learned.
    """

    survivors: frozenset[int]
    lost: Mapping[int, str]
    error_bound: float = 0.0
    clipped: float = 0.0
    aggregate: Aggregate | None = field(default=None, repr=False)


class SecureGrid(Grid):  # type: ignore[misc]
    """Flower's grid, as any averaging strategy uses it: train messages of one `send_and_receive` are summed
    in one secure session with their nodes, whose ClientApps have `secure_mod`, and each of those in the sum
    "replies" with the same arrays and metrics, the mean weighted by examples, and an equal part of all
    examples. So what a strategy makes of them by averaging is what it makes of the clients' own. Who is lost
    replies with an error, as without. All other messages pass untouched.

    grid: Flower's. bound: what no number of the arrays exceeds; beyond it is cut, counted and told. roster:
    the clients' signed roster, a file or a `secagg.Roster`; None: this server is trusted to follow the
    protocol. roster_key: the public key that it is signed with, `<roster>.pub` unless given. bits: of each
    number. max_weight: the most examples that a client has; public. metric_bound: what no metric exceeds.
    weighted_by: the metric that counts examples. patience: seconds for an answer in a round without
    training; training has the strategy's own timeout. strategy: the one that is started with this grid, which
    is refused where it learns of single replies what their mean does not have; None: it is not looked at.
    numbers: of `secagg.Masking.for_cohort`, such as corrupt, dropout, graph or m_min.

    last: how the last secure round ended, a `Round`.

    Raises: LocalProtocolError where no such session can be, or for such a strategy.

    Security: it learns sums alone, but of two rounds one may take differences. A strategy that is to see
    single replies (Krum, medians, trimming) sees copies of their mean, and defends nothing: Flower's own are
    refused where `strategy` names them.
    """

    def __init__(
        self,
        grid: Grid,
        bound: float,
        roster: Roster | str | Path | None = None,
        *,
        roster_key: str | Path | None = None,
        bits: int = 20,
        max_weight: int = 10_000,
        metric_bound: float = 1e3,
        weighted_by: str = "num-examples",
        patience: float = 60.0,
        strategy: Strategy | None = None,
        **numbers: Any,
    ) -> None:
        check(strategy)
        self._grid, self._weighted, self._patience, self._numbers = grid, weighted_by, patience, numbers
        self._roster = roster if roster is None or isinstance(roster, Roster) else _read(roster, roster_key)
        self._encoding: dict[str, Any] = {
            "bound": bound,
            "bits": bits,
            "max_weight": max_weight,
            "metric_bound": metric_bound,
        }
        self._clients: dict[int, ClientId] = {}
        self._integers: dict[str, np.dtype[Any]] = {}
        self._told = False
        self.last: Round | None = None

    def set_run(self, run: Any) -> None:
        self._grid.set_run(run)

    @property
    def run(self) -> Any:
        return self._grid.run

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        return self._grid.create_message(*args, **kwargs)

    def get_node_ids(self) -> Iterable[int]:
        ids: Iterable[int] = self._grid.get_node_ids()
        return ids

    def get_nodes(self) -> Iterable[Any]:
        nodes: Iterable[Any] = self._grid.get_nodes()
        return nodes

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Raises: LocalProtocolError for train messages, whose replies are summed by `send_and_receive`."""
        given = list(messages)
        if any(map(is_train, given)):
            raise LocalProtocolError(
                "replies to train messages leave clients in sums alone: use send_and_receive"
            )
        ids: Iterable[str] = self._grid.push_messages(given)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        messages: Iterable[Message] = self._grid.pull_messages(message_ids)
        return messages

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        given = list(messages)
        others = [message for message in given if not is_train(message)]
        replies = list(self._grid.send_and_receive(others, timeout=timeout)) if others else []
        if training := [message for message in given if is_train(message)]:
            replies += self._summed(training, timeout)
        return replies

    def _summed(self, training: Sequence[Message], timeout: float | None) -> list[Message]:
        """What the nodes reply, the mean each, or an error."""
        deadline = None if timeout is None else time.monotonic() + timeout
        self._check(training)
        by_node = {message.metadata.dst_node_id: message for message in training}
        line = Line(
            self._grid, {}, training[0].metadata.message_type, training[0].metadata.group_id, deadline
        )
        line.nodes, strangers = self._places(line, sorted(by_node))
        if len(line.nodes) < self._fewest:
            return self._without_sum(by_node, strangers, "too few nodes say which clients they are")
        # Most strategies send all nodes one and the same record: it is looked at once.
        sent = {id(each.content): self._as_first(each.content) for each in training}
        contents = {u: sent[id(by_node[node].content)] for u, node in line.nodes.items()}
        encoding = Replies(numpy_of(only(next(iter(contents.values())), "array")[1]), **self._encoding)
        scheme = Masking.for_cohort(len(contents), encoding.vectors, roster=self._roster, **self._numbers)
        self._tell(scheme)
        session = Session(line, scheme, contents, self._weighted, self._patience)
        learned = self._learned(session, self._task(line, sent.values()), encoding)
        lost = strangers | {line.nodes[u]: reason for u, reason in session.lost.items()}
        if isinstance(learned, str):
            return self._without_sum(by_node, lost, learned)
        aggregate, mean = learned
        self._keep(line, lost, encoding, aggregate)
        assert self.last is not None  # noqa: S101 - it was just kept
        return [
            Message(RecordDict(dict(mean)), reply_to=message)
            if node in self.last.survivors
            else _error(message, lost.get(node, "lost"))
            for node, message in by_node.items()
        ]

    def _task(self, line: Line, contents: Iterable[RecordDict]) -> bytes:
        run = self._grid.run.run_id
        digests = {content_digest(run, line.message_type, content) for content in contents}
        if self._roster is not None and len(digests) > 1:
            raise LocalProtocolError(
                "the strategy sends nodes different arrays or configurations, and clients with a roster "
                "train what all train: send all the same, or leave the roster out"
            )
        return task_of(digests)

    def _learned(
        self, session: Session, task: bytes, encoding: Replies
    ) -> tuple[Aggregate, RecordDict] | str:
        """The sum, and the mean as a reply; or why there is none."""
        try:
            aggregate = session.run(task, self._roster)
        except TooFewClients as error:
            return str(error)
        except RemoteProtocolError as error:  # their shares do not open this sum: the run goes on
            session.lost |= dict.fromkeys(error.culprits, str(error))
            return str(error)
        try:
            return aggregate, encoding.mean(aggregate, session.layout, self._weighted)
        except LocalProtocolError as error:  # they all weigh nothing
            return str(error)

    @property
    def _fewest(self) -> int:
        return 1 if self._numbers.get("small_cohort") else 3

    def _check(self, training: Sequence[Message]) -> None:
        nodes = {message.metadata.dst_node_id for message in training}
        if len(nodes) < len(training) or len({m.metadata.message_type for m in training}) > 1:
            raise LocalProtocolError(
                "train messages of one send_and_receive are one to a node, and of one type: one sum"
            )
        if len(nodes) < self._fewest:
            raise LocalProtocolError(
                f"a sum of {len(nodes)} would tell each client's own: ask three nodes or more "
                "(min_train_nodes=3 and min_available_nodes=3 of the strategy, whose default is 2)"
            )

    def _places(self, line: Line, nodes: Sequence[int]) -> tuple[dict[ClientId, int], dict[int, str]]:
        """The nodes by the ids that their clients have in a session, and who has none, and why. Nodes have 64
        bits; which client of a roster is where, they say once a run, signed.
        """
        if self._roster is None:
            return dict(enumerate(nodes)), {}
        strangers: dict[int, str] = {}
        line.nodes = dict(enumerate(node for node in nodes if node not in self._clients))
        asked = {place: with_said({}, Said(round=WHO)) for place in line.nodes}
        began = time.monotonic()
        for heard in line.ask(asked) if asked else ():
            if heard is None and time.monotonic() - began > self._patience:
                break
            if heard is not None:
                self._meet(line.nodes[heard[0]], heard[1], strangers)
        placed: dict[ClientId, int] = {}
        for node in nodes:
            if node not in self._clients:
                strangers.setdefault(node, "it does not say which client of the roster it is")
            elif placed.setdefault(self._clients[node], node) != node:
                strangers[node] = f"it is client {self._clients[node]}, who is at another node, too"
        return placed, strangers

    def _meet(self, node: int, reply: Message, strangers: dict[int, str]) -> None:
        """Which client a node says it is."""
        assert self._roster is not None  # noqa: S101 - nobody asks without
        if reply.has_error():
            strangers[node] = printable(reply.error.reason or f"error {reply.error.code}")
            return
        try:
            said, signature = said_in(reply.content)
        except RemoteProtocolError as error:
            strangers[node] = str(error)
            return
        statement = at_node(self._roster.digest, self._grid.run.run_id, node)
        if said.client in self._roster.keys and self._roster.signed_by(said.client, statement, signature):
            self._clients[node] = said.client
        else:
            strangers[node] = f"it has not signed that it is client {said.client} of the roster"

    def _as_first(self, content: RecordDict) -> RecordDict:
        """Integers again, where averages have made float64 of what was integers in the first round."""
        name, record = only(content, "array")
        arrays = numpy_of(record)
        for key, x in arrays.items():
            if x.dtype.kind in "iub":
                self._integers.setdefault(key, x.dtype)
        made = {key: _whole(arrays[key], dtype) for key, dtype in self._integers.items() if key in arrays}
        if all(made[key] is arrays[key] for key in made):
            return content
        whole = {key: Array(made[key]) if key in made else array for key, array in record.items()}
        return RecordDict({**content, name: ArrayRecord(whole)})

    def _tell(self, scheme: Masking) -> None:
        if not self._told:
            log.info("secure aggregation, %s", scheme.against)
            self._told = True

    def _keep(self, line: Line, lost: Mapping[int, str], encoding: Replies, aggregate: Aggregate) -> None:
        survivors = frozenset(line.nodes[u] for u in aggregate.survivors)
        share = encoding.tree.share_clipped(aggregate)
        bound = aggregate.error_bound.get(NUMBERS, 0.0)
        gone = {node: why for node, why in lost.items() if node not in survivors}
        self.last = Round(survivors, gone, bound, share, aggregate)
        log.info(
            "secure aggregation: the mean of %s of %s clients, within %.2g",
            len(survivors),
            len(survivors) + len(gone),
            bound,
        )
        if share:
            log.warning(
                "a share of %.2g of all numbers was beyond the bound of %g and cut: the mean is of what is "
                "left. Give SecureGrid a larger bound",
                share,
                self._encoding["bound"],
            )

    def _without_sum(
        self, by_node: Mapping[int, Message], lost: Mapping[int, str], why: str
    ) -> list[Message]:
        """Errors from all: a strategy goes on with the arrays that it has."""
        log.warning("secure aggregation: %s", why)
        self.last = Round(frozenset(), {node: lost.get(node, why) for node in by_node})
        return [_error(message, self.last.lost[node]) for node, message in by_node.items()]


def _error(message: Message, why: str) -> Message:
    return Message(Error(UNAVAILABLE, why), reply_to=message)


def _whole(x: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """As integers of this type, to the nearest. The same array where it is of them."""
    if x.dtype == dtype:
        return x
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return np.asarray(np.clip(np.rint(x), low, high)).astype(dtype)


def _read(roster: str | Path, roster_key: str | Path | None) -> Roster:
    from transport.keys import read_public
    from transport.roster import read

    signer = read_public(roster_key if roster_key is not None else f"{roster}.pub", "roster")
    return read(roster, signer).identities
