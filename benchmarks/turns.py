"""Rounds of one training in Flower, in turns: averaged in the clear, under SecureGrid, by its own SecAgg+."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.engines import deployment
from benchmarks.training.steps import PATIENCE, Workload, drawn, given, order_of
from fl.models.architectures import build
from fl.training.local import batches

PLAIN, SECURE, LEGACY = "Flower", "Flower with secagg", "Flower with its SecAgg+"
SIMULATION, DEPLOYMENT = "simulation", "deployment"
BOUND = 1.0
LOOKS = {SIMULATION: 0.1, DEPLOYMENT: 3.0}
"""Seconds between two looks of Flower's own grid for replies, in each of its runtimes."""
PROC = Path("/proc")

Means = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Taken:
    """Of one way to average. seconds, processor, up, down: of each counted round; by the clock, and the
    processor time of the server, all clients and Flower; bytes of all clients together. messages: to one
    client in a round. off, bound: of its mean from the plain one, the largest.
    """

    seconds: list[float]
    processor: list[float]
    up: list[int]
    down: list[int]
    messages: int
    off: float = 0.0
    bound: float = 0.0


def main() -> None:
    """A run of Flower's simulation, of what `given` says."""
    from flwr.simulation import run_simulation

    work, seed, folder = given()
    server, client = apps(work, seed, str(folder), SIMULATION, os.getpid())
    run_simulation(
        server,
        client,
        num_supernodes=work.clients,
        backend_config={
            "init_args": {"include_dashboard": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )


APP = """from benchmarks.training.steps import Workload
from benchmarks.turns import apps

both = apps({work!r}, {seed}, {folder!r}, {runtime!r}, {root})
server = both[0]
client = both[1]
"""
PROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "turns"
version = "1.0.0"
license = "Apache-2.0"

[tool.flwr.app]
publisher = "secagg"

[tool.flwr.app.components]
serverapp = "turns.app:server"
clientapp = "turns.app:client"
"""


@contextmanager
def deployed(work: Workload, seed: int) -> Iterator[Path]:
    """The same over a SuperLink and a SuperNode for each client, processes on loopback: its folder, for now.

    Raises: RuntimeError with the end of what it said where the run fails.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        package = folder / "app" / "turns"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        app = APP.format(work=work, seed=seed, folder=name, runtime=DEPLOYMENT, root=os.getpid())
        (package / "app.py").write_text(app, encoding="utf-8")
        (package.parent / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
        with deployment(folder, work.clients) as engine:
            run = engine.submit(package.parent)
            try:
                said, _ = run.communicate(timeout=PATIENCE)
            finally:
                run.kill()
        if not (folder / "taken.json").exists():
            raise RuntimeError(f"Flower's run failed: {said[-2000:]}")
        yield folder


def apps(work: Workload, seed: int, folder: str, runtime: str, root: int) -> tuple[Any, Any]:
    """A ServerApp that leaves what it took in the folder, and the ClientApp. root: as of `in_turns`."""
    from flwr.serverapp import ServerApp

    server = ServerApp()

    @server.main()  # type: ignore[untyped-decorator]
    def in_turn(grid: Any, context: Any) -> None:
        while len(list(grid.get_node_ids())) < work.clients:
            time.sleep(0.2)
        taken = in_turns(grid, context, work, seed, runtime, root)
        raw = json.dumps({who: asdict(each) for who, each in taken.items()})
        (Path(folder) / "taken.json").write_text(raw, encoding="utf-8")

    return server, client_app(work, seed)


def in_turns(
    inner: Any, context: Any, work: Workload, seed: int, runtime: str, root: int
) -> dict[str, Taken]:
    """A round of each way, from the same model. In the simulation the first of each sets up, and is not
    counted; in the deployment each message has a process of its own. root: the process that has started all.
    """
    grid = counting_grid(inner, LOOKS[runtime])
    first = int(runtime == SIMULATION)
    ways = {
        PLAIN: plain_round(grid),
        SECURE: secure_round(grid, work),
        LEGACY: legacy_round(grid, context, work),
    }
    taken = {who: Taken([], [], [], [], 0) for who in ways}
    model = build(work.model, work.shape, work.classes, seed).state_dict()
    arrays: Means = {key: value.numpy() for key, value in model.items()}
    for round in range(work.rounds + first):
        means: dict[str, Means] = {}
        for who, way in ways.items():
            begun, spent, before = time.perf_counter(), spent_by(root), dict(grid.bytes)
            means[who], bound = way(round, arrays)
            seconds, processor = time.perf_counter() - begun, spent_by(root) - spent
            each = taken[who]
            if round >= first:
                each.seconds.append(seconds)
                each.processor.append(processor)
                each.up.append(grid.bytes["up"] - before["up"])
                each.down.append(grid.bytes["down"] - before["down"])
            messages = (grid.bytes["messages"] - before["messages"]) // work.clients
            off = max(float(np.abs(means[who][key] - means[PLAIN][key]).max()) for key in arrays)
            taken[who] = replace(each, messages=messages, off=max(off, each.off), bound=bound)
        arrays = means[PLAIN]
    return taken


def spent_by(root: int) -> float:
    """Processor time, in seconds, of a process and all that come of it, that run or have been waited for."""
    children: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for path in PROC.glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(path.parent.name))
            ticks[int(path.parent.name)] = sum(map(int, fields[11:15]))  # its own, and of those waited for
    found, seconds = [root], 0.0
    while found:
        process = found.pop()
        seconds += ticks.get(process, 0) / os.sysconf("SC_CLK_TCK")
        found += children.get(process, [])
    return seconds


Way = Callable[[int, Means], tuple[Means, float]]
"""(round, model) -> (the mean of the clients' models, how far off it may be)."""


def plain_round(grid: Any) -> Way:
    """A round in the clear, whose mean is not off."""
    return lambda round, arrays: (averaged(grid, "train.plain", round, arrays), 0.0)


def secure_round(grid: Any, work: Workload) -> Way:
    """A round through `SecureGrid`, and by how much its mean may be off."""
    from secagg_flower import SecureGrid

    secure = SecureGrid(grid, bound=BOUND, max_weight=work.examples)

    def way(round: int, arrays: Means) -> tuple[Means, float]:
        mean = averaged(secure, "train.secure", round, arrays)
        assert secure.last is not None  # noqa: S101 - a round has just ended
        return mean, secure.last.error_bound + 1e-6  # float32's own

    return way


def averaged(grid: Any, kind: str, round: int, arrays: Means) -> Means:
    """As Flower's FedAvg does it."""
    from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
    from flwr.serverapp.strategy import FedAvg

    sent = ArrayRecord({key: Array(value) for key, value in arrays.items()})
    record = RecordDict({"arrays": sent, "config": ConfigRecord({"server-round": round})})
    messages = [Message(record, node, kind) for node in sorted(grid.get_node_ids())]
    mean, _ = FedAvg().aggregate_train(round, list(grid.send_and_receive(messages)))
    return {key: mean[key].numpy() for key in arrays}


def legacy_round(grid: Any, context: Any, work: Workload) -> Way:
    """What Flower's DefaultWorkflow does in a round with its SecAgg+: all are neighbours, more than half
    unmask, and its clipping is our bound. It is most precise at the largest weight, which all clients have.
    """
    from flwr.app import ConfigRecord
    from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
    from flwr.compat.common.recorddict_compat import arrayrecord_to_parameters, parameters_to_arrayrecord
    from flwr.server import LegacyContext
    from flwr.server.compat.grid_client_proxy import GridClientProxy
    from flwr.server.strategy import FedAvg
    from flwr.server.workflow import SecAggPlusWorkflow
    from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key

    strategy = FedAvg(
        min_fit_clients=work.clients,
        min_available_clients=work.clients,
        on_fit_config_fn=lambda round: {"server-round": round},
    )
    legacy = LegacyContext(context, strategy=strategy)
    for node in grid.get_node_ids():
        legacy.client_manager.register(GridClientProxy(node, grid, context.run_id))
    workflow = SecAggPlusWorkflow(1.0, work.clients // 2 + 1, max_weight=work.examples, clipping_range=BOUND)
    # A step for its stochastic rounding, and a quarter for float32.
    bound = 1.25 * 2 * BOUND / workflow.quantization_range

    def way(round: int, arrays: Means) -> tuple[Means, float]:
        sent = parameters_to_arrayrecord(ndarrays_to_parameters(list(arrays.values())), keep_input=True)
        legacy.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({Key.CURRENT_ROUND: round})
        legacy.state.array_records[MAIN_PARAMS_RECORD] = sent
        workflow(grid, legacy)
        found = legacy.state.array_records[MAIN_PARAMS_RECORD]
        if found is sent:
            raise RuntimeError("Flower halted its secure aggregation: it has no sum")
        mean = parameters_to_ndarrays(arrayrecord_to_parameters(found, keep_input=True))
        return dict(zip(arrays, mean, strict=True)), bound

    return way


def counting_grid(inner: Any, look: float) -> Any:
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
                time.sleep(look if waiting else 0)
            return replies

    return Counting()


def client_app(work: Workload, seed: int) -> Any:
    """One training, under three names: "train.plain"; "train.secure", which is; "train", for SecAgg+, which
    knows no other.
    """
    from flwr.client.mod import secaggplus_mod
    from flwr.clientapp import ClientApp

    from secagg_flower import secure_mod

    app = ClientApp()
    app.train("plain")(partial(trained, work, seed))
    app.train("secure", mods=[secure_mod()])(partial(trained, work, seed))
    app.train(mods=[secaggplus_mod])(partial(legacy_trained, work, seed))
    return app


def trained(work: Workload, seed: int, message: Any, context: Any) -> Any:
    """A client's reply: the model after its steps, the number of its examples, and the mean loss."""
    from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict

    received = {key: array.numpy() for key, array in message.content["arrays"].items()}
    model, loss = after_steps(work, seed, received, context, message.content["config"]["server-round"])
    arrays = ArrayRecord({key: Array(value) for key, value in model.items()})
    metrics = MetricRecord({"num-examples": work.examples, "loss": loss})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


def legacy_trained(work: Workload, seed: int, message: Any, context: Any) -> Any:
    """The same, in the records that SecAgg+ reads."""
    from flwr.app import Message
    from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
    from flwr.compat.common.recorddict_compat import fitres_to_recorddict, recorddict_to_fitins

    asked = recorddict_to_fitins(message.content, keep_input=True)
    names = build(work.model, work.shape, work.classes, seed).state_dict()
    received = dict(zip(names, parameters_to_ndarrays(asked.parameters), strict=True))
    model, loss = after_steps(work, seed, received, context, asked.config["server-round"])
    parameters = ndarrays_to_parameters(list(model.values()))
    result = FitRes(Status(Code.OK, ""), parameters, work.examples, {"loss": loss})
    return Message(fitres_to_recorddict(result, keep_input=False), reply_to=message)


def after_steps(
    work: Workload, seed: int, received: Means, context: Any, round: Any
) -> tuple[dict[str, NDArray[Any]], float]:
    """This client's model and its mean loss, after plain SGD on its own examples."""
    torch.set_num_threads(1)
    x, y = drawn(work, seed)
    u = int(context.node_config["partition-id"])
    own = slice(u * work.examples, (u + 1) * work.examples)
    model = build(work.model, work.shape, work.classes, seed)
    model.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in received.items()})
    optimiser = torch.optim.SGD(model.parameters(), lr=work.lr)
    losses = []
    for batch in batches(work.examples, work.plan(), order_of(seed, u, int(round) + 1)):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x[own][batch]), y[own][batch])
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    return {key: value.numpy() for key, value in model.state_dict().items()}, float(np.mean(losses))
