"""Client-steps a second: our clients as one computation, or one by one, beside Flower's simulation."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness import ROOT, Case, Control, Row, Table
from fl.config.plan import LocalPlan, Way
from fl.config.secret import RunSecrets, order_key
from fl.models.architectures import build
from fl.models.weights import from_vector, to_vector
from fl.training.batched import as_shares
from fl.training.clients import LocalClients
from fl.training.local import batches, device

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Client-steps a second of a round in one process, by the faster of our two ways, beside Flower's "
    "simulation: more than 4 times as many where steps are small (McMahan's MLP), 1.4 times and more where "
    "they are large (CNN). Pixels are drawn from the seed: speed does not depend on them."
)
REPETITIONS = {"quick": 1, "full": 2}  # in turns: ours, ours, Flower's, and again
FLOWER = "Flower"
CONTROL = Control("Flower's simulation of the same round", lambda row: row["who"] == FLOWER, by=("workload",))
ALONE = True
WAYS: tuple[Way, ...] = ("batched", "sequential")
PATIENCE = 3600  # seconds for a run of Flower's


@dataclass(frozen=True)
class Workload:
    """A round: so many clients, each of whom takes so many steps of plain SGD on its own examples; and the
    mean. rounds: that are counted in a repetition; one goes before them, in which all is set up.
    """

    model: str
    shape: tuple[int, int, int]
    classes: int
    clients: int
    examples: int
    steps: int
    batch_size: int
    lr: float
    rounds: int

    def plan(self, precision: str = "float32") -> LocalPlan:
        return LocalPlan(
            steps=self.steps,
            batch_size=self.batch_size,
            lr=self.lr,
            momentum=0.0,
            precision=precision,  # type: ignore[arg-type]
        )


_MNIST: dict[str, Any] = {"shape": (1, 28, 28), "classes": 10, "clients": 10, "lr": 0.05}
_MNIST |= {"examples": 640, "steps": 20, "batch_size": 32}
_PFL: dict[str, Any] = {"model": "mcmahan-cnn", "clients": 50, "examples": 50, "steps": 5, "batch_size": 10}
_PFL |= {"lr": 0.1, "rounds": 1}
_FULL: dict[str, Workload] = {
    "mlp": Workload("mlp-200", rounds=5, **_MNIST),
    "cnn": Workload("mcmahan-cnn", rounds=1, **_MNIST),
    "cifar-10": Workload(shape=(3, 32, 32), classes=10, **_PFL),
    "femnist": Workload(shape=(1, 28, 28), classes=62, **_PFL),
}
"""cifar-10, femnist: a round of the benchmarks of pfl-research (Granqvist et al., NeurIPS 2024): a cohort of
50 out of 1000 users with 50 examples each, one local epoch of batch 10, learning rate 0.1; the model is
McMahan's. Users who are not asked cost nothing, and have no data here.
"""
_QUICK = {
    "mlp": replace(_FULL["mlp"], rounds=3),
    "cnn": replace(_FULL["cnn"], steps=5, examples=160),
    **{name: replace(_FULL[name], clients=10) for name in ("cifar-10", "femnist")},
}
WORKLOADS: dict[str, dict[str, Workload]] = {"quick": _QUICK, "full": _FULL}


def precisions() -> tuple[str, ...]:
    """Those that this machine's device is measured in."""
    return ("float32", "bfloat16") if device("auto").type == "cuda" else ("float32",)


def cases(size: str, seed: int) -> list[Case]:
    return [
        Case(name, partial(run_case, name, work, REPETITIONS[size], seed))
        for name, work in WORKLOADS[size].items()
    ]


@lru_cache(maxsize=1)
def drawn(work: Workload, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All clients' examples, one client's after the other's: (N, C, H, W) in [0, 1), (N,)."""
    rng, n = np.random.default_rng(seed), work.clients * work.examples
    x = rng.random((n, *work.shape), dtype=np.float32)
    return torch.from_numpy(x), torch.from_numpy(rng.integers(0, work.classes, n))


@dataclass(frozen=True)
class Taken:
    """Of one repetition. seconds: of each counted round. model: (d,), after the first round, not counted."""

    seconds: list[float]
    model: NDArray[np.float32]


def ours(work: Workload, way: Way, precision: str, seed: int) -> Taken:
    """Rounds of local training and averaging."""
    x, y = drawn(work, seed)
    shares = {u: own.numpy() for u, own in enumerate(as_shares([work.examples] * work.clients))}
    clients = LocalClients(x.numpy(), y.numpy(), shares, device("auto"), way)
    model = build(work.model, work.shape, work.classes, seed)
    seconds, first = list[float](), to_vector(model)
    for round in range(1, work.rounds + 2):
        begun = time.perf_counter()
        orders = {u: order_of(seed, u, round) for u in shares}
        results = clients.train(model, work.plan(precision), orders, counting=False)
        mean = np.mean([result.upload for result in results.values()], axis=0)  # all have as many examples
        from_vector(model.cpu(), to_vector(model) + mean)
        seconds.append(time.perf_counter() - begun)
        if round == 1:
            first = to_vector(model)
    return Taken(seconds[1:], first)


def order_of(seed: int, u: int, round: int) -> bytes:
    """Of a client's examples in a round, for us and for Flower."""
    return order_key(RunSecrets.of_seed(seed).client(u), round.to_bytes(4, "big"))


def run_case(name: str, work: Workload, repetitions: int, seed: int) -> Iterator[Row | str]:
    absent = [package for package in ("flwr", "ray") if find_spec(package) is None]
    taken: dict[tuple[str, str], list[Taken]] = {}
    for _ in range(repetitions):
        for way in WAYS:
            for precision in precisions():
                yield f"{way}, {precision}"
                taken.setdefault((way, precision), []).append(ours(work, way, precision, seed))
        if not absent:
            yield FLOWER
            taken.setdefault((FLOWER, "float32"), []).append(flowers(work, seed))
            check_alike(work, seed, taken[WAYS[0], "float32"][-1], taken[FLOWER, "float32"][-1])
    about = {"workload": name, **asdict(work), "device": device("auto").type}
    rates = {which: rates_of(work, some) for which, some in taken.items()}
    flower = rates.get((FLOWER, "float32"))
    for (who, precision), each in rates.items():
        ratio = statistics.median(each) / statistics.median(flower) if flower else None
        yield about | {"who": who, "precision": precision, "client_steps_per_s": each, "ratio": ratio}
    if absent:
        why = f"not installed: {', '.join(absent)}; pip install 'secagg[flower,ray]'"
        yield about | {"who": FLOWER, "precision": "float32", "skipped": why}


def rates_of(work: Workload, taken: Sequence[Taken]) -> list[float]:
    """Client-steps a second of every counted round."""
    return [work.clients * work.steps / seconds for each in taken for seconds in each.seconds]


def check_alike(work: Workload, seed: int, one: Taken, other: Taken) -> None:
    """Both do the same work if a round of theirs gives the same model. A tenth of what it has moved allows
    for rounding, which differs between the two and grows with every step: on noise, in float32, fast.
    """
    start = to_vector(build(work.model, work.shape, work.classes, seed))
    if np.linalg.norm(one.model - other.model) > 0.1 * np.linalg.norm(one.model - start):
        raise AssertionError("Flower's clients have not trained the model that ours have")


# Flower's side: a process of its own, so that nothing of Ray's stays


def flowers(work: Workload, seed: int) -> Taken:
    """Raises: as `simulated`."""
    with simulated(__name__, work, seed) as folder, np.load(folder / "taken.npz") as arrays:
        return Taken(arrays["seconds"].tolist(), arrays["model"])


@contextmanager
def simulated(module: str, work: Workload, seed: int) -> Iterator[Path]:
    """What `main` of that module, a run of Flower's with what `given` says, has left: its folder, for now.

    Raises: RuntimeError with the end of what it said where Flower's simulation fails.
    """
    settings = {
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # or Ray warns of what it will do one day
        "OMP_NUM_THREADS": "1",  # Ray gives each client one core (`client_resources`)
        "PYTHONPATH": str(ROOT.parent),  # Ray's workers import this file too
    }
    with TemporaryDirectory() as folder:
        code = f"from {module} import main; main()"
        said = subprocess.run(  # noqa: S603
            [sys.executable, "-c", code, json.dumps(asdict(work)), str(seed), folder],
            cwd=ROOT.parent,
            env=os.environ | settings | {"XDG_STATE_HOME": folder},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        if said.returncode or not any(Path(folder).glob("taken.*")):
            raise RuntimeError(f"Flower's simulation failed: {said.stderr[-2000:]}")
        yield Path(folder)


def given() -> tuple[Workload, int, Path]:
    """The work, the seed and the folder of such a run, in its process."""
    work = json.loads(sys.argv[1])
    return Workload(**work | {"shape": tuple(work["shape"])}), int(sys.argv[2]), Path(sys.argv[3])


def main() -> None:
    """Flower's side."""
    simulate(*given())


def simulate(work: Workload, seed: int, folder: Path) -> None:
    """Flower's simulation on Ray as its documents describe it, all clients in every round, no evaluation."""
    from flwr.client import ClientApp
    from flwr.common import Context, parameters_to_ndarrays
    from flwr.server import ServerApp, ServerAppComponents, ServerConfig
    from flwr.simulation import run_simulation

    strategy = timed_strategy(work, seed)
    config = ServerConfig(num_rounds=work.rounds + 1)

    def client_fn(context: Context) -> Any:
        return trainer(work, seed, int(context.node_config["partition-id"])).to_client()

    cuda = torch.cuda.is_available()
    run_simulation(
        ServerApp(server_fn=lambda context: ServerAppComponents(strategy=strategy, config=config)),
        ClientApp(client_fn=client_fn),
        num_supernodes=work.clients,
        backend_config={
            "init_args": {"include_dashboard": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.1 if cuda else 0.0},
        },
    )
    model = np.concatenate([each.ravel() for each in parameters_to_ndarrays(strategy.mean)])
    np.savez(folder / "taken.npz", seconds=strategy.seconds[1:], model=model)


def timed_strategy(work: Workload, seed: int) -> Any:
    """Flower's FedAvg of all clients, with the seconds of each round and the mean of the first."""
    from flwr.common import ndarrays_to_parameters
    from flwr.server.strategy import FedAvg

    class Timed(FedAvg):  # type: ignore[misc]
        """From the first message of a round to its mean."""

        seconds: list[float] = []  # noqa: RUF012

        def configure_fit(self, *args: Any, **kwargs: Any) -> Any:
            self.begun = time.perf_counter()
            return super().configure_fit(*args, **kwargs)

        def aggregate_fit(self, *args: Any, **kwargs: Any) -> Any:
            aggregated = super().aggregate_fit(*args, **kwargs)
            self.seconds.append(time.perf_counter() - self.begun)
            if len(self.seconds) == 1:
                self.mean = aggregated[0]
            return aggregated

    start = build(work.model, work.shape, work.classes, seed)
    return Timed(
        fraction_evaluate=0.0,
        min_fit_clients=work.clients,
        min_available_clients=work.clients,
        accept_failures=False,
        initial_parameters=ndarrays_to_parameters(arrays_of(start)),
        on_fit_config_fn=lambda round: {"round": round},
    )


def arrays_of(model: torch.nn.Module) -> list[NDArray[np.float32]]:
    """Its tensors, in order."""
    return [parameter.detach().cpu().numpy() for parameter in model.parameters()]


def trainer(work: Workload, seed: int, u: int) -> Any:
    """Flower's NumPyClient with the examples of client u, in the order that ours takes them in."""
    from flwr.client import NumPyClient

    class Trainer(NumPyClient):  # type: ignore[misc]
        def fit(self, parameters: list[NDArray[np.float32]], config: Mapping[str, Any]) -> Any:
            torch.set_num_threads(1)
            on, (x, y) = device("auto"), drawn(work, seed)
            own = slice(u * work.examples, (u + 1) * work.examples)
            x, y = x[own].to(on), y[own].to(on)
            model = build(work.model, work.shape, work.classes, seed).to(on)
            with torch.no_grad():
                for parameter, received in zip(model.parameters(), parameters, strict=True):
                    parameter.copy_(torch.from_numpy(received))
            optimiser = torch.optim.SGD(model.parameters(), lr=work.lr)
            for batch in batches(work.examples, work.plan(), order_of(seed, u, int(config["round"]))):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            return arrays_of(model), work.examples, {}

    return Trainer()


def table(rows: Sequence[Row]) -> Table:
    header = (
        "workload",
        "model",
        "clients",
        "steps",
        "batch",
        "who",
        "",
        "on",
        "client-steps/s",
        "of Flower's",
    )
    cells = [
        (
            row["workload"],
            row["model"],
            str(row["clients"]),
            str(row["steps"]),
            str(row["batch_size"]),
            row["who"],
            row["precision"],
            row["device"],
            *_numbers(row),
        )
        for row in rows
    ]
    return Table.of(header, cells)


def _numbers(row: Row) -> tuple[str, str]:
    if "skipped" in row:
        return row["skipped"], ""
    ratio = row["ratio"]
    return f"{statistics.median(row['client_steps_per_s']):.0f}", "" if ratio is None else f"x {ratio:.2f}"


def plot(rows: Sequence[Row]) -> Figure:
    from benchmarks.plots import bars

    taken = [row for row in rows if "skipped" not in row]
    names = [f"{row['workload']}: {row['who']}, {row['precision']}" for row in taken]
    medians = [{"median": statistics.median(row["client_steps_per_s"])} for row in taken]
    return bars(names, {"client-steps a second": medians}, log=True)
