"""Our masking beside Flower's own SecAgg and SecAgg+, client and server code, in one process and one run."""

from __future__ import annotations

import logging
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.played import Costs
from benchmarks.protocol import cost
from secagg import Bounded, Identity, LocalProtocolError, Masking, Roster, throwaway_identities
from secagg.policy import Adversary, GraphChoice

if TYPE_CHECKING:
    from flwr.app import Message
    from flwr.clientapp.typing import ClientAppCallable
    from matplotlib.figure import Figure

CLAIM = (
    "At 100 clients, beside Flower's SecAgg: a client at least 20 times faster, the server at least 300 "
    "times, and at most 0.45 of the bytes sent."
)
LOST = 0.1  # before the masked upload, where it costs the server most
CLIENTS = {"quick": (20,), "full": (20, 50, 100)}
REPETITIONS = 3
REPETITIONS_OF_FLOWER = {20: 3}  # by clients, else one: at 100 it takes minutes
FLOWERS_CLIP = 8.0  # its default, as are its 22 bits
US = "this project"
CONTROL = Control(
    "Flower's SecAgg or SecAgg+, on the same graph", lambda row: row["who"] != US, by=("clients", "graph")
)
ALONE = True


@dataclass(frozen=True)
class Contestant:
    who: str
    graph: GraphChoice
    adversary: Adversary
    bits: int

    def scheme(self, n: int, roster: Roster) -> Masking:
        """Ours, and what Flower takes its graph from. At 22 bits the range is Flower's: equal precision."""
        vector = Bounded(length=cost.LENGTH, bound=FLOWERS_CLIP if self.bits == 22 else 1.0, bits=self.bits)
        trusted = None if self.adversary == "semi-honest" else roster
        return Masking.for_cohort(n, vector, adversary=self.adversary, graph=self.graph, roster=trusted)


@dataclass(frozen=True)
class Session:
    """degree: neighbours. costs: processor time. sent, masked: bytes that a client that stays sends in all
    rounds, and in its masked input.
    """

    degree: int
    costs: Costs
    sent: int
    masked: int


def contestants() -> list[Contestant]:
    """By graph, Flower first: the others' ratios are of it."""
    ours: tuple[tuple[Adversary, int], ...] = (("semi-honest", 22), ("semi-honest", 16), ("active", 16))
    graphs: tuple[GraphChoice, ...] = ("complete", "sparse")
    return [
        each
        for graph in graphs
        for each in (
            Contestant(f"Flower {version('flwr')}", graph, "semi-honest", 22),
            *(Contestant(US, graph, adversary, bits) for adversary, bits in ours),
        )
    ]


def cases(size: str, seed: int) -> list[Case]:
    return [Case(f"{n} clients", partial(run_case, n, seed)) for n in CLIENTS[size]]


class Clients:
    """All clients, each with Flower's mod, and the network to them: what Flower's workflow calls a grid.

    Messages cross it as the bytes of Flower's own serialisation, which no clock counts. A clock of the
    server's runs from one call to the next, under the name of the stage whose replies it works on.
    """

    def __init__(self, apps: Sequence[ClientAppCallable], lost: set[int]) -> None:
        from flwr.app import Context, RecordDict
        from flwr.supercore.task_identity import TaskIdentity

        TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1  # without one it sends nothing
        self.apps, self.lost, self.costs = apps, lost, Costs()
        self.sent: dict[int, dict[str, int]] = defaultdict(dict)
        self._contexts = [Context(1, u, {}, RecordDict(), {}) for u in range(len(apps))]
        self._stage = "setup"
        self.resume()

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        from flwr.client.mod import secaggplus_mod

        self.pause()
        replies = []
        for message in messages:
            u = message.metadata.dst_node_id
            request, _ = cross(message)
            self._stage = request.content.config_records["secaggplus_configs"]["stage"]
            if self._stage == "collect_masked_vectors" and u in self.lost:
                continue  # it is lost, and does not even mask
            reply = self.costs.of_client(
                self._stage,
                u,
                lambda: secaggplus_mod(request, self._contexts[u], self.apps[u]),  # noqa: B023
            )
            arrived, self.sent[u][self._stage] = cross(reply)
            replies.append(arrived)
        self.resume()
        return replies

    def resume(self) -> None:
        """The server works."""
        self._resumed = time.process_time()

    def pause(self) -> None:
        """The server waits, or has ended."""
        self.costs.server[self._stage] += time.process_time() - self._resumed


def cross(message: Message) -> tuple[Message, int]:
    """What arrives of a message, and how many bytes it was on the way."""
    from flwr.common.serde import message_from_proto, message_to_proto
    from flwr.proto.message_pb2 import Message as Proto

    wire = message_to_proto(message).SerializeToString()
    return message_from_proto(Proto.FromString(wire)), len(wire)


def client_app(x: NDArray[np.float32], weight: int) -> ClientAppCallable:
    """A client whose training gives x, at once."""
    from flwr.app import Message
    from flwr.common import Code, FitRes, Status, ndarrays_to_parameters
    from flwr.compat.common.recorddict_compat import fitres_to_recorddict

    result = FitRes(Status(Code.OK, ""), ndarrays_to_parameters([x]), weight, {})
    content = fitres_to_recorddict(result, keep_input=True)
    return lambda message, context: Message(content, reply_to=message)


def flower_mean(workflow: Any, grid: Clients) -> NDArray[np.float64]:
    """One round of Flower's workflow. The strategy hands out nothing and takes the sum as it is: no work."""
    from flwr.app import ArrayRecord, ConfigRecord, Context, RecordDict
    from flwr.common import FitIns, bytes_to_ndarray
    from flwr.server import LegacyContext

    proxies = [SimpleNamespace(node_id=u) for u in range(len(grid.apps))]
    strategy = SimpleNamespace(
        configure_fit=lambda r, parameters, manager: [(proxy, FitIns(parameters, {})) for proxy in proxies],
        aggregate_fit=lambda r, results, failures: (results[0][1].parameters, {}),
    )
    state = RecordDict({"config": ConfigRecord({"current_round": 1}), "parameters": ArrayRecord()})
    context = LegacyContext(Context(1, 0, {}, state, {}), strategy=strategy)
    grid.resume()
    workflow(grid, context)
    grid.pause()
    arrays = list(context.state.array_records["parameters"].values())
    if len(arrays) != 1:
        raise RuntimeError("Flower halted its secure aggregation: it has no sum")
    mean: NDArray[np.float64] = bytes_to_ndarray(arrays[0].data)
    return mean


def play_flower(scheme: Masking, lost: set[int], seed: int) -> Session:
    """One session with the graph's degree and the threshold of `scheme`. Checked to be right."""
    from flwr.server.workflow import SecAggPlusWorkflow, SecAggWorkflow

    n, t, rng = scheme.clients, scheme.threshold, np.random.default_rng(seed)
    shares = n if scheme.complete else scheme.degree + 1 | 1  # it counts the one kept, and wants them odd
    workflow = SecAggWorkflow(t) if scheme.complete else SecAggPlusWorkflow(shares, t)
    x = [rng.uniform(-1, 1, cost.LENGTH).astype(np.float32) for _ in range(n)]
    weight = round(workflow.max_weight)  # at which it is most precise
    grid = Clients([client_app(each, weight) for each in x], lost)
    mean = flower_mean(workflow, grid)
    stayed = [u for u in range(n) if u not in lost]
    # A step for stochastic rounding, and an eighth for float32, which between 8 and 16 has 2^-20.
    error = 1.25 * 2 * workflow.clipping_range / workflow.quantization_range
    if np.abs(mean - np.mean([x[u] for u in stayed], axis=0, dtype=np.float64)).max() > error:
        raise AssertionError("Flower's mean is not that of the survivors' vectors")
    return Session(
        shares - 1,
        grid.costs,
        sent=round(statistics.median(sum(grid.sent[u].values()) for u in stayed)),
        masked=round(statistics.median(grid.sent[u]["collect_masked_vectors"] for u in stayed)),
    )


def play_ours(scheme: Masking, identities: Mapping[int, Identity], lost: set[int], seed: int) -> Session:
    """One session. Bytes: of the last client that stayed, who has the longest id."""
    active = scheme.adversary == "active"
    costs = cost.measure(scheme, identities if active else None, lost, seed)
    u = costs.stayed()[-1]
    return Session(scheme.degree, costs, sum(up[u] for up in costs.up.values()), costs.up["masked-input"][u])


def run_case(n: int, seed: int) -> Iterator[Row | str]:
    """Repetitions in turns: each contestant once, then each again.

    Raises: ModuleNotFoundError without flwr.
    """
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"  # flwr reads it when it is imported
    import flwr  # noqa: F401

    logging.getLogger("flwr").setLevel(logging.CRITICAL)  # its lines would be timed, too
    lost = set(np.random.default_rng([seed, n]).permutation(n)[: max(1, int(LOST * n))].tolist())
    roster, identities = throwaway_identities(range(n))
    schemes = {each: scheme_of(each, n, roster) for each in contestants()}
    sessions: dict[Contestant, list[Session]] = {each: [] for each in schemes}
    for repetition in range(REPETITIONS):
        for each, scheme in schemes.items():
            if isinstance(scheme, LocalProtocolError):
                continue
            if each.who == US:
                yield f"{US}, {each.graph}, {each.adversary}, {each.bits} bits"
                sessions[each].append(play_ours(scheme, identities, lost, seed))
            elif repetition < REPETITIONS_OF_FLOWER.get(n, 1):
                yield f"{each.who}, {each.graph}"
                sessions[each].append(play_flower(scheme, lost, seed))
    flower: dict[str, Row] = {}
    for each, taken in sessions.items():
        row = {"clients": n, "lost": len(lost), **asdict(each)}
        if not taken:
            yield row | {"skipped": str(schemes[each])}
            continue
        row |= measured(taken)
        yield row | ratios(flower.setdefault(each.graph, row), row)


def scheme_of(each: Contestant, n: int, roster: Roster) -> Masking | LocalProtocolError:
    """Or why there is none: no sparse graph will do for so few."""
    try:
        return each.scheme(n, roster)
    except LocalProtocolError as refused:
        return refused


def measured(sessions: Sequence[Session]) -> Row:
    """client_ms: of each session the median over the clients that stayed."""
    last = sessions[-1]
    return {
        "degree": last.degree,
        "client_ms": [session.costs.client_ms_all() for session in sessions],
        "server_s": [session.costs.server_s_all() for session in sessions],
        "server_s_by_round": dict(last.costs.server),
        "upload_bytes": last.sent,
        "masked_input_bytes": last.masked,
    }


def ratios(flower: Row, row: Row) -> Row:
    """Of the medians. Times: Flower's by this one's; bytes: this one's by Flower's."""
    return {
        "client_ratio": statistics.median(flower["client_ms"]) / statistics.median(row["client_ms"]),
        "server_ratio": statistics.median(flower["server_s"]) / statistics.median(row["server_s"]),
        "upload_ratio": row["upload_bytes"] / flower["upload_bytes"],
    }


def table(rows: Sequence[Row]) -> Table:
    header = (
        "clients",
        "who",
        "graph",
        "server is",
        "bits",
        "a client",
        "",
        "the server",
        "",
        "sent",
        "",
        "sessions",
    )
    cells = [
        (str(row["clients"]), row["who"], row["graph"], row["adversary"], str(row["bits"]), *_numbers(row))
        for row in rows
    ]
    return Table.of(header, cells)


def _numbers(row: Row) -> tuple[str, ...]:
    """The blank columns: how many times faster than Flower, and the part of its bytes."""
    if "skipped" in row:
        return ("not possible", "", "", "", "", "", "")
    return (
        f"{statistics.median(row['client_ms']):.1f} ms",
        f"x {row['client_ratio']:.0f}",
        f"{statistics.median(row['server_s']):.4f} s",
        f"x {row['server_ratio']:.0f}",
        f"{row['upload_bytes'] / 1000:.1f} kB",
        f"{row['upload_ratio']:.3f}",
        str(len(row["server_s"])),
    )


def plot(rows: Sequence[Row]) -> Figure:
    from benchmarks.plots import bars

    taken = [row for row in rows if "skipped" not in row]
    names = [
        f"{row['clients']}, {row['graph']}: {row['who']}"
        + (f", {row['adversary']}" if row["who"] == US else "")
        + f", {row['bits']} bits"
        for row in taken
    ]
    panels = {
        "a client, ms": [{"median": statistics.median(row["client_ms"])} for row in taken],
        "the server, s": [{"median": statistics.median(row["server_s"])} for row in taken],
    }
    return bars(names, panels, log=True)
