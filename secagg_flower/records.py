"""What both ends say in Flower's records, and how a train message's replies are vectors of a session."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray

from secagg import Aggregate, Bounded, Counts, LocalProtocolError, RemoteProtocolError, Tree, Weight
from secagg.encoding import out_of_range
from secagg.specs import CLIPPED, Spec, Vectors
from secagg.tree import INTEGERS, NUMBERS, WEIGHT
from secagg.wire import MAX_ID

VERSION: Final = 1
ABOUT: Final = "secagg"
PAYLOAD: Final = "secagg-message"
"""Names of the two records that a message of a session has beside those of the strategy and of the app: a few
words, and the session's own message, an array of bytes, since of records arrays alone are sent in pieces."""

WHO: Final = "who"
"""In the place of a round: which client of the roster is at a node."""
METRICS: Final = "metrics"
MOST_METRICS: Final = 64
METRIC_BITS: Final = 32
TRAIN: Final = "train"


class Said(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands in the record ABOUT. round: of the session, or WHO. offer, client, weighted: with the task,
    the session's parameters, the id that the client has in it, and the metric that weighs a reply. layout:
    with the answer to it, what a client's metrics are called.
    """

    round: str
    version: int = VERSION
    offer: bytes = b""
    client: Annotated[int, msgspec.Meta(ge=-1, le=MAX_ID)] = -1
    weighted: str = ""
    layout: bytes = b""


def with_said(content: Mapping[str, Any], said: Said, payload: bytes = b"") -> RecordDict:
    """These records, and the two of a session."""
    made = RecordDict(dict(content))
    made[ABOUT] = ConfigRecord(msgspec.structs.asdict(said))
    data = bytes(payload)
    made[PAYLOAD] = ArrayRecord({"": Array("uint8", (len(data),), "bytes", data)})
    return made


def said_in(content: RecordDict) -> tuple[Said, bytes]:
    """Raises: RemoteProtocolError where there is nothing of a session, or nothing that this version reads."""
    if ABOUT not in content or PAYLOAD not in content:
        raise RemoteProtocolError(
            "a train message outside any secure session: this client's updates leave in sums alone. In the "
            "ServerApp wrap the grid: SecureGrid(grid, bound=...)"
        )
    try:
        said = msgspec.convert(dict(content[ABOUT]), Said)
        (array,) = content[PAYLOAD].values()
        payload = array.data
    except (msgspec.ValidationError, ValueError, TypeError, AttributeError) as error:
        raise RemoteProtocolError(f"not the records of a secure session: {error}") from None
    if said.version != VERSION:
        raise RemoteProtocolError(
            f"records of version {said.version} of a secure session, this is version {VERSION}: install the "
            "same secagg at both ends"
        )
    return said, payload


def without_said(content: RecordDict) -> RecordDict:
    """What the strategy sent, which is all that the app sees."""
    return RecordDict({name: record for name, record in content.items() if name not in (ABOUT, PAYLOAD)})


def is_train(message: Message) -> bool:
    return str(message.metadata.message_type).partition(".")[0] == TRAIN


def at_node(roster: bytes, run_id: int, node: int) -> bytes:
    """What a client signs of where it is. No statement of a session begins alike."""
    return msgspec.msgpack.encode(["secagg-flower/1 node", roster, run_id, node])


def task_of(digests: Iterable[bytes]) -> bytes:
    """What a session is for: the digests of all contents that its clients were sent."""
    return msgspec.msgpack.encode(sorted(set(digests)))


def check_task(task: bytes, own: bytes, *, alone: bool = False) -> None:
    """Raises: RemoteProtocolError unless the session is for what this client was sent, too. alone: and for
    nothing else.
    """
    try:
        digests = msgspec.msgpack.decode(task, type=list[bytes])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"not the task of a secure session: {error}") from None
    # Other bytes for the same contents would be another context: the journal would let it pass again.
    if task != task_of(digests):
        raise RemoteProtocolError("the task of a secure session in a form that is not canonical")
    if own not in digests:
        raise RemoteProtocolError(
            "the session is for other arrays, or another configuration, than came with it"
        )
    # Where all others' training comes to nothing, or to what the server knows, a sum is one client's own.
    if alone and digests != [own]:
        raise RemoteProtocolError(
            "the server has sent other clients of this session other arrays, or another configuration: a "
            "client that does not trust it trains what all train"
        )


def content_digest(run_id: int, message_type: str, content: RecordDict) -> bytes:
    """32 bytes that name what an app is to train on: all records, with their kinds, by their names."""
    parts = [(name, type(content[name]).__name__, _entries(content[name])) for name in sorted(content)]
    named = msgspec.msgpack.encode(["secagg-flower/1 task", run_id, message_type, parts])
    return hashlib.sha256(named).digest()


def _entries(record: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(key, _entry(record[key])) for key in sorted(record)]


def _entry(value: Any) -> Any:
    if isinstance(value, Array):
        return value.dtype, list(value.shape), value.stype, hashlib.sha256(value.data).digest()
    return value


def only(content: RecordDict, kind: str) -> tuple[str, Mapping[str, Any]]:
    """The one record of this kind, "array" or "metric", with its name. Raises: LocalProtocolError."""
    records = {"array": content.array_records, "metric": content.metric_records}[kind]
    if len(records) != 1:
        raise LocalProtocolError(
            f"{len(records)} {kind} records, where an averaging strategy of Flower has one: put all into it"
        )
    ((name, record),) = records.items()
    return name, record


def numpy_of(record: Mapping[str, Array]) -> dict[str, NDArray[Any]]:
    return {key: array.numpy() for key, array in record.items()}


def arrays_sent(content: RecordDict) -> dict[str, NDArray[Any]]:
    """Those of a train message. Raises: RemoteProtocolError where there are none, or no arrays."""
    try:
        arrays = numpy_of(only(content, "array")[1])
    except LocalProtocolError as error:
        raise RemoteProtocolError(f"the server sends no arrays to train from: {error}") from None
    except Exception as error:  # of bytes that are none numpy raises what it likes, MemoryError too
        raise RemoteProtocolError(f"the server sends what is no array: {type(error).__name__}") from None
    if not all(isinstance(x, np.ndarray) for x in arrays.values()):  # an archive is one to numpy, too
        raise RemoteProtocolError("the server sends an archive in the place of an array")
    return arrays


@dataclass(frozen=True)
class Layout:
    """What everybody may know of a client's reply: names of its records, and of its metrics with how many
    numbers each has, None for one that is no list.
    """

    arrays: str
    metrics: str
    names: tuple[tuple[str, int | None], ...]

    def encode(self) -> bytes:
        return msgspec.msgpack.encode([self.arrays, self.metrics, self.names])

    @classmethod
    def decode(cls, raw: bytes) -> Layout:
        """Raises: RemoteProtocolError."""
        try:
            found = cls(
                *msgspec.msgpack.decode(raw, type=tuple[str, str, tuple[tuple[str, int | None], ...]])
            )
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise RemoteProtocolError(f"not the names of metrics: {error}") from None
        if any(length is not None and length < 0 for _, length in found.names) or found.size > MOST_METRICS:
            raise RemoteProtocolError(f"metrics of {found.size} numbers: {MOST_METRICS} at most")
        return found

    @property
    def size(self) -> int:
        return sum(1 if length is None else length for _, length in self.names)


class Replies:
    """How the replies to one train message enter a sum, and come out of it.

    arrays: of the train message, as which those of the replies are built. bound, bits: of each real number.
    max_weight, metric_bound: the largest number of examples, and of any metric.

    vectors: those of `secagg.Tree`, and "metrics" with its count of what was cut.

    Raises: LocalProtocolError for arrays that cannot be summed.
    """

    def __init__(
        self,
        arrays: Mapping[str, NDArray[Any]],
        *,
        bound: float,
        bits: int,
        max_weight: int,
        metric_bound: float,
        largest_integer: int | None = None,
    ) -> None:
        self._arrays, self._metric_bound = dict(arrays), metric_bound
        self.tree = Tree(
            self._arrays, bound=bound, bits=bits, max_weight=max_weight, largest_integer=largest_integer
        )
        metrics: dict[str, Spec] = {
            METRICS: Bounded(length=MOST_METRICS, bound=metric_bound, bits=METRIC_BITS),
            METRICS + CLIPPED: Counts(length=1, maximum=MOST_METRICS),
        }
        self.vectors: dict[str, Spec] = self.tree.vectors | metrics

    @classmethod
    def offered(cls, arrays: Mapping[str, NDArray[Any]], vectors: Vectors) -> Replies:
        """Those of a session that was offered. Raises: RemoteProtocolError where they are not what these
        arrays make.
        """
        numbers, metrics = vectors.get(NUMBERS), vectors.get(METRICS)
        weight, integers = vectors.get(WEIGHT), vectors.get(INTEGERS)
        try:
            if not isinstance(weight, Weight) or not isinstance(metrics, Bounded):
                raise LocalProtocolError("weight or metrics are missing")
            found = cls(
                arrays,
                bound=numbers.bound if isinstance(numbers, Bounded) else 1.0,
                bits=numbers.bits if isinstance(numbers, Bounded) else 16,
                max_weight=weight.maximum,
                metric_bound=metrics.bound,
                largest_integer=_largest(integers, weight),
            )
        except LocalProtocolError as error:
            raise RemoteProtocolError(
                f"the server asks for an impossible sum of its arrays: {error}"
            ) from None
        if found.vectors != vectors:
            raise RemoteProtocolError("the server asks for other vectors than the arrays that it sends have")
        return found

    def of(self, content: RecordDict, weighted: str) -> tuple[Layout, dict[str, Any]]:
        """A client's reply as vectors. Raises: LocalProtocolError for what cannot be summed, or would leave
        beside the sum.
        """
        if extra := sorted(content.config_records):
            raise LocalProtocolError(
                f"the reply has a config record {extra[0]!r}, of which there is no mean, and which would "
                "leave in the clear: leave it out"
            )
        arrays, tree = only(content, "array")
        metrics, values = only(content, "metric")
        if weighted not in values:
            raise LocalProtocolError(f"the reply's metrics lack {weighted!r}, by which it is weighted")
        names = tuple(
            (key, len(value) if isinstance(value, list) else None)
            for key, value in sorted(values.items())
            if key != weighted
        )
        layout = Layout(arrays, metrics, names)
        if layout.size > MOST_METRICS:
            raise LocalProtocolError(f"metrics of {layout.size} numbers: {MOST_METRICS} at most are summed")
        x = np.zeros(MOST_METRICS)
        numbers = [number for key, _ in names for number in np.ravel(values[key])]
        x[: len(numbers)] = numbers
        vectors = self.tree.flatten(self._as_reference(numpy_of(tree)), values[weighted])
        cut = np.array([out_of_range(x, self._metric_bound)])
        return layout, vectors | {METRICS: x, METRICS + CLIPPED: cut}

    def mean(self, aggregate: Aggregate, layout: Layout, weighted: str) -> RecordDict:
        """The reply of which every survivor is given one: the mean, with an equal part of all examples."""
        own = replace(
            aggregate,
            sum=_Part(aggregate.sum, self.tree.vectors),
            mean=_Part(aggregate.mean, self.tree.vectors),
        )
        arrays = {key: Array(np.asarray(x)) for key, x in self.tree.unflatten(own).items()}
        values, at = aggregate.mean[METRICS], 0
        metrics: dict[str, Any] = {}
        for key, length in layout.names:
            size = 1 if length is None else length
            numbers = [float(x) for x in values[at : at + size]]
            metrics[key] = numbers[0] if length is None else numbers
            at += size
        total, number = int(aggregate.sum[WEIGHT][0]), len(aggregate.survivors)
        metrics[weighted] = total // number if total % number == 0 else total / number
        return RecordDict({layout.arrays: ArrayRecord(arrays), layout.metrics: MetricRecord(metrics)})

    def _as_reference(self, tree: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Flower's averages turn integers into float64: what a client has as integers it gives back as the
        server has it.
        """
        return {
            key: x.astype(self._arrays[key].dtype)
            if x.dtype.kind in "iub" and key in self._arrays and self._arrays[key].dtype.kind == "f"
            else x
            for key, x in tree.items()
        }


@dataclass(frozen=True)
class _Part(Mapping[str, NDArray[Any]]):
    """Of decoded vectors those that a tree has, each decoded when it is looked at."""

    whole: Mapping[str, NDArray[Any]] = field(repr=False)
    names: Collection[str]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.whole[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def _largest(integers: Spec | None, weight: Weight) -> int | None:
    return integers.maximum // (2 * weight.maximum) if isinstance(integers, Counts) else None


def printable(text: str, length: int = 300) -> str:
    """Of another party's, for a log."""
    return "".join(c if c.isprintable() else " " for c in text[:length])


def most_common(layouts: Collection[bytes]) -> bytes:
    """Of more than one that is as common, the first in the order of bytes."""
    found = list(layouts)
    return max(sorted(set(found)), key=found.count)
