"""Rounds under Flower's simulation: averaged in the clear, and under SecureGrid, in turns, in one run."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.training.steps import Workload, drawn, given, order_of, simulated
from fl.models.architectures import build
from fl.training.local import batches

CLAIM = (
    "Ten clients, McMahan's CNN, a local epoch of 600 examples: a secure round takes at most 1.5 times as "
    "long as a plain one of Flower's simulation, and 0.76 of its bytes up; its mean is within its bound."
)
PLAIN, SECURE = "Flower", "Flower with secagg"
CONTROL = Control("Flower's own averaging of the same training", lambda row: row["who"] == PLAIN)
ALONE = True
BOUND = 1.0
_WORK = Workload(
    "mcmahan-cnn", (1, 28, 28), 10, clients=10, examples=600, steps=60, batch_size=10, lr=0.05, rounds=3
)
WORK = {"quick": replace(_WORK, steps=10, examples=100, rounds=1), "full": _WORK}
"""A round: ten clients, McMahan's CNN (1,663,370 numbers), one local epoch of batch 10 over 600 examples."""


@dataclass(frozen=True)
class Taken:
    """Of one way to average. seconds, up, down: of each counted round; bytes of all clients together.
    messages: to one client in a round. off, bound: of the secure mean from the plain one, the largest.
    """

    seconds: list[float]
    up: list[int]
    down: list[int]
    messages: int
    off: float = 0.0
    bound: float = 0.0


def cases(size: str, seed: int) -> list[Case]:
    return [Case(f"{WORK[size].rounds + 1} rounds of each", partial(run_case, WORK[size], seed))]


def run_case(work: Workload, seed: int) -> Iterator[Row | str]:
    """A row for each way to average; ratio, up_ratio: of its seconds and its bytes up to Flower's own, both
    medians of the rounds. Raises: AssertionError where a secure mean is beyond its bound; as `simulated`.
    """
    if absent := [package for package in ("flwr", "ray") if find_spec(package) is None]:
        why = f"not installed: {', '.join(absent)}; pip install 'secagg[flower,ray]'"
        yield {"who": PLAIN, "skipped": why}
        return
    yield "Flower's simulation"
    taken = taken_by(work, seed)
    plain = taken[PLAIN]
    for who, each in taken.items():
        if each.off > each.bound:
            raise AssertionError(f"the mean of {who} is {each.off} off, where {each.bound} is its bound")
        ratio = statistics.median(each.seconds) / statistics.median(plain.seconds)
        traffic = statistics.median(each.up) / statistics.median(plain.up)
        yield {"who": who, **asdict(work), **asdict(each), "ratio": ratio, "up_ratio": traffic}


def taken_by(work: Workload, seed: int) -> dict[str, Taken]:
    """Raises: as `simulated`."""
    with simulated(__name__, work, seed) as folder:
        taken = json.loads((folder / "taken.json").read_text(encoding="utf-8"))
    return {who: Taken(**each) for who, each in taken.items()}


def main() -> None:
    """A run of Flower's, of what `taken_by` asks for."""
    from flwr.serverapp import ServerApp
    from flwr.simulation import run_simulation

    work, seed, folder = given()
    server = ServerApp()

    @server.main()  # type: ignore[untyped-decorator]
    def both(grid: Any, context: Any) -> None:
        taken = {who: asdict(each) for who, each in in_turns(grid, work, seed).items()}
        (folder / "taken.json").write_text(json.dumps(taken), encoding="utf-8")

    run_simulation(
        server,
        client_app(work, seed),
        num_supernodes=work.clients,
        backend_config={
            "init_args": {"include_dashboard": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )


def in_turns(inner: Any, work: Workload, seed: int) -> dict[str, Taken]:
    """A round in the clear and a secure one, from the same model, in turns; the first of each sets up."""
    from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
    from flwr.serverapp.strategy import FedAvg

    from secagg_flower import SecureGrid

    counting = counting_grid(inner)
    secure = SecureGrid(counting, bound=BOUND, max_weight=work.examples)
    taken = {who: Taken([], [], [], 0) for who in (PLAIN, SECURE)}
    arrays = ArrayRecord(build(work.model, work.shape, work.classes, seed).state_dict())
    for round in range(work.rounds + 1):
        means = {}
        for who, grid, kind in ((PLAIN, counting, "train.plain"), (SECURE, secure, "train")):
            nodes = sorted(inner.get_node_ids())
            record = RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": round})})
            begun, before = time.perf_counter(), dict(counting.bytes)
            replies = list(grid.send_and_receive([Message(record, node, kind) for node in nodes]))
            means[who], _ = FedAvg().aggregate_train(round, replies)
            seconds = time.perf_counter() - begun
            if round:
                each = taken[who]
                each.seconds.append(seconds)
                each.up.append(counting.bytes["up"] - before["up"])
                each.down.append(counting.bytes["down"] - before["down"])
                messages = (counting.bytes["messages"] - before["messages"]) // len(nodes)
                taken[who] = replace(each, messages=messages)
        off = max(np.abs(means[SECURE][key].numpy() - means[PLAIN][key].numpy()).max() for key in arrays)
        bound = secure.last.error_bound + 1e-6 if secure.last else 0.0  # float32's own
        taken[SECURE] = replace(taken[SECURE], off=max(float(off), taken[SECURE].off), bound=bound)
        arrays = means[PLAIN]
    return taken


def counting_grid(inner: Any) -> Any:
    """Flower's grid, which counts what crosses it, in its serialisation."""
    from flwr.common.serde import message_to_proto
    from flwr.serverapp import Grid

    class Counting(Grid):  # type: ignore[misc]
        def __init__(self) -> None:
            self.bytes = {"up": 0, "down": 0, "messages": 0}

        def set_run(self, run: Any) -> None:
            inner.set_run(run)

        @property
        def run(self) -> Any:
            return inner.run

        def create_message(self, *args: Any, **kwargs: Any) -> Any:
            return inner.create_message(*args, **kwargs)

        def get_node_ids(self) -> Iterable[int]:
            return list(inner.get_node_ids())

        def push_messages(self, messages: Iterable[Any]) -> Iterable[str]:
            given = list(messages)
            self.bytes["down"] += sum(message_to_proto(each).ByteSize() for each in given)
            self.bytes["messages"] += len(given)
            return list(inner.push_messages(given))

        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Any]:
            replies = list(inner.pull_messages(message_ids))
            self.bytes["up"] += sum(message_to_proto(each).ByteSize() for each in replies)
            return replies

        def send_and_receive(self, messages: Iterable[Any], *, timeout: float | None = None) -> Iterable[Any]:
            waiting, replies = set(self.push_messages(messages)), list[Any]()
            while waiting:
                replies += (came := self.pull_messages(waiting))
                waiting -= {reply.metadata.reply_to_message_id for reply in came}
                time.sleep(0.1 if waiting else 0)  # as Flower's own in the simulation
            return replies

    return Counting()


def client_app(work: Workload, seed: int) -> Any:
    """One training, under two names: "train" is secure, "train.plain" is not."""
    from flwr.clientapp import ClientApp

    from secagg_flower import secure_mod

    app = ClientApp()
    train = partial(trained, work, seed)
    app.train(mods=[secure_mod()])(train)
    app.train("plain")(train)
    return app


def trained(work: Workload, seed: int, message: Any, context: Any) -> Any:
    """A client's reply: the model after its steps, the number of its examples, and the mean loss."""
    from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict

    torch.set_num_threads(1)
    x, y = drawn(work, seed)
    u, round = int(context.node_config["partition-id"]), int(message.content["config"]["server-round"])
    own = slice(u * work.examples, (u + 1) * work.examples)
    model = build(work.model, work.shape, work.classes, seed)
    received = {key: torch.from_numpy(array.numpy()) for key, array in message.content["arrays"].items()}
    model.load_state_dict(received)
    losses = steps(model, x[own], y[own], work, order_of(seed, u, round + 1))
    arrays = {key: Array(value.numpy()) for key, value in model.state_dict().items()}
    metrics = MetricRecord({"num-examples": work.examples, "loss": float(np.mean(losses))})
    return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message)


def steps(
    model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, work: Workload, order: bytes
) -> NDArray[np.float64]:
    """Plain SGD. Returns the loss of each step."""
    optimiser = torch.optim.SGD(model.parameters(), lr=work.lr)
    losses = []
    for batch in batches(work.examples, work.plan(), order):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x[batch]), y[batch])
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    return np.array(losses)


def table(rows: Sequence[Row]) -> Table:
    """Seconds of a round and bytes of all clients in it, medians; messages to one client; off: the largest
    difference of the secure mean from the plain one, beside the bound that was stated.
    """
    header = (
        "who",
        "clients",
        "steps",
        "a round",
        "times",
        "up",
        "times",
        "down",
        "messages",
        "off",
        "bound",
    )
    return Table.of(header, [(row["who"], *_numbers(row)) for row in rows])


def _numbers(row: Row) -> tuple[str, ...]:
    """up, down: of one client in a round. The blank columns: times Flower's."""
    if "skipped" in row:
        return (row["skipped"], *[""] * 9)
    per_client = [f"{statistics.median(row[way]) / row['clients'] / 1e6:.2f} MB" for way in ("up", "down")]
    error = (f"{row['off']:.1e}", f"{row['bound']:.1e}") if row["who"] == SECURE else ("", "")
    return (
        str(row["clients"]),
        str(row["steps"]),
        f"{statistics.median(row['seconds']):.1f} s",
        f"x {row['ratio']:.2f}",
        per_client[0],
        f"x {row['up_ratio']:.2f}",
        per_client[1],
        str(row["messages"]),
        *error,
    )
