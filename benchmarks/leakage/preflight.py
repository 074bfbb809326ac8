"""What a client sees that looks at its own update before it sends it: how often it is alarmed by honest
models, and how often by crafted ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.crafted import JITTER, hidden, traps
from benchmarks.harness import Case, Control, Row, Table
from benchmarks.inverted import cells_of
from fl.config.plan import LocalPlan
from fl.config.preflight import Preflight
from fl.data import DataError, load
from fl.data.examples import Dataset
from fl.leakage.imprint import crafted as imprint
from fl.models.architectures import Description, build
from fl.models.weights import from_vector, to_vector
from fl.preflight import Kept, Verdict, preflight
from fl.training.local import LocalResult, train

CLAIM = (
    "What a client sees that looks at its own update before it sends it. Limits were chosen on the honest "
    "runs of one seed (the largest share that came out stays below each), and alarms counted on those of "
    "another: none in 2,520 honest client rounds of seven pairs of data and net, where naive signs fire "
    "on 9 % (units that never fire) and 3 %. The share that comes out of an honest update falls from .8 "
    "of 8 examples to .01 of 500: of few, the first layer gives most away whoever made the model, and no "
    "limit is set below 50. Rows that point the same way are in every imprint of all kinds and in no "
    "honest round, and with them not one example may come out: of the models that a server crafts for a "
    "net of 64, 200 or 1,000 neurons the imprint is refused 882 times of 900, jittered 878, hidden by one "
    "who knows the limits 868, and one that stays below the limits 877; of the others no example came "
    "out. By the shares alone (above) those below the limit never were, nor any after one or two passes "
    "in batches. All of these craft every row. A server that knows of the row rule, too, leaves more than "
    "half of them honest and stays below the limits: it is refused 2 times of 900, and reads .10 to .21 "
    "of 100 examples in one step, .02 to .05 of 500. Trap weights have no such rows: of 100 examples and "
    "one step those of strength 0.5 and 0.7 on `mlp-1000` are refused 15 and 20 times of 20, of 0.9 "
    "never, on narrower nets once. It takes .3 to 3 ms of an honest model, and of a crafted one up to 14. "
    "Beside training that is less than a tenth for two epochs of 500 examples (.02 to .04) and of 100 "
    "(.06 to .11, two of 14 runs above), and for one of 500 (.04 to .07); one of 100 takes .10 to .18, a "
    "single step of all .09 to .38, and a client's first look up to two and a half times as much."
)
CONTROL = Control("honest models", lambda row: row["model"] == "honest", by=("examples",))
ALONE = True  # it measures time
RULES = Preflight()
PAIRS: Final = (
    ("digits", "mlp"),
    ("digits", "mlp-1000"),
    ("mnist", "mlp"),
    ("mnist", "mlp-200"),
    ("mnist", "mlp-1000"),
    ("fashion-mnist", "mlp"),
    ("fashion-mnist", "mlp-1000"),
)
ATTACKED: Final = {"quick": PAIRS[4:5], "full": PAIRS[2:5]}
SIEVES: Final = ("mlp", "mlp-1000")  # of two layers, which are those of an imprint
EXAMPLES: Final = {"quick": (8, 100), "full": (8, 20, 50, 100, 200, 500)}
CLIENTS, ROUNDS = {"quick": 1, "full": 4}, {"quick": 2, "full": 5}
MODELS: Final = {"quick": 2, "full": 20}
CHOSEN, OTHERS = "limits chosen", "alarms counted"  # by which runs
PUBLIC: Final = 1000  # images of the server's own, that no client has
NEVER, ALWAYS, MASS = 0.3, 0.5, 0.5
UNDER_HALF: Final = 0.48  # of the neurons: rows of which more than half are alike are a sign

Crafting = Callable[[Description, NDArray[np.floating[Any]], np.random.Generator], NDArray[np.float32]]


def _imprint(model: Description, public: Any, _rng: np.random.Generator) -> NDArray[np.float32]:
    """That of `secagg attack imprint`, at its usual bound and rate."""
    return imprint(model, public)


def _few(
    model: Description, public: Any, rng: np.random.Generator, examples: int, part: float = 1.0
) -> NDArray[np.float32]:
    """A sieve for so few of the brightest that they stay below the limit; of that part of the neurons."""
    return hidden(model, public, rng, above=1 - 0.8 * RULES.largest(examples), part=part)


def crafted(model: str, examples: int) -> dict[str, Crafting]:
    """How a server crafts its model; the last three know what looks."""
    return {
        "imprint": _imprint if model in SIEVES else hidden,
        "imprint, jittered": partial(hidden, jitter=JITTER),
        **{f"traps {s:g}": partial(traps, strength=s) for s in (0.5, 0.7, 0.9)},
        "imprint, hidden": partial(hidden, jitter=JITTER, directions=4, uneven=True),
        "imprint, below the limit": partial(_few, examples=examples),
        "imprint, of under half": partial(_few, examples=examples, part=UNDER_HALF),
    }


def plans(examples: int) -> dict[str, LocalPlan]:
    """What a client may be asked to train, by name, with so many examples."""
    return {
        "1 step of all": LocalPlan(steps=1, batch_size=examples, momentum=0.0),
        "1 epoch of 8": LocalPlan(epochs=1),
        "2 epochs of 8": LocalPlan(epochs=2),
    }


def cases(size: str, seed: int) -> list[Case]:
    honest = [
        Case(f"honest, {dataset}, {model}, {used}", partial(run_honest, dataset, model, used, each, size))
        for used, each in ((CHOSEN, seed), (OTHERS, seed + 1))
        for dataset, model in PAIRS
    ]
    return honest + [
        Case(f"crafted, {dataset}, {model}, {n}", partial(run_crafted, dataset, model, n, seed + 2, size))
        for dataset, model in ATTACKED[size]
        for n in EXAMPLES[size]
        if n >= 20 or size == "quick"
    ]


def run_honest(dataset: str, model: str, used: str, seed: int, size: str) -> Iterator[Row | str]:
    """Some rounds of a training in which each client looks at every update. Raises: NotImplementedError where
    the data set is not to be had.
    """
    for n in EXAMPLES[size]:
        for name, plan in plans(n).items():
            yield f"{n} examples, {name}"
            clients = Clients.drawn(dataset, model, n, CLIENTS[size], np.random.default_rng(seed))
            parameters, seen = clients.first(seed), list[Seen]()
            for _ in range(ROUNDS[size]):
                each = [clients.seen(u, parameters, plan) for u in range(CLIENTS[size])]
                seen += each
                parameters = parameters + np.mean([one.update for one in each], axis=0)
            yield {"model": "honest", "used": used, **clients.row, "plan": name, **counted_of(seen)}


def run_crafted(dataset: str, model: str, n: int, seed: int, size: str) -> Iterator[Row | str]:
    """Models that a server crafts, each sent to a client once for each plan. Raises: as `run_honest`."""
    rng = np.random.default_rng(seed)
    for kind, craft in crafted(model, n).items():
        yield kind
        seen: dict[str, list[Seen]] = {name: [] for name in plans(n)}
        for _ in range(MODELS[size]):
            clients = Clients.drawn(dataset, model, n, 1, rng)
            parameters = craft(clients.description, clients.public, rng)
            for name, plan in plans(n).items():
                seen[name].append(clients.seen(0, parameters, plan))
        for name, some in seen.items():
            yield {"model": kind, "used": "", **clients.row, "plan": name, **counted_of(some)}


@lru_cache(maxsize=1)
def loaded(dataset: str) -> Dataset:
    """A case draws from it many times. Raises: NotImplementedError where it is not to be had."""
    try:
        return load(dataset)
    except DataError as error:
        raise NotImplementedError(str(error)) from error


@dataclass(frozen=True)
class Seen:
    """One round of a client. suspicious: by which of the naive signs. seconds: of training, of the preflight,
    and of one that has nothing kept of the rounds before.
    """

    verdict: Verdict
    update: NDArray[np.float32]
    suspicious: tuple[str, ...]
    seconds: tuple[float, float, float]


@dataclass(frozen=True)
class Clients:
    """Each holds n examples. public: those of the server's own. kept: of each client, as over its rounds."""

    dataset: str
    description: Description
    x: list[NDArray[np.float32]]
    y: list[NDArray[np.int64]]
    public: NDArray[np.float32]
    kept: list[Kept]

    @classmethod
    def drawn(cls, dataset: str, model: str, n: int, clients: int, rng: np.random.Generator) -> Clients:
        """Raises: as `loaded`."""
        data = loaded(dataset)
        x, y = cast(NDArray[np.float32], data.train_x), data.train_y
        # Of digits, which are few, clients of one round may share some.
        rest = len(y) - min(PUBLIC, len(y) // 3)
        own = [rng.choice(rest, n, replace=False) for _ in range(clients)]
        described = Description(model, data.shape, data.classes)
        return cls(dataset, described, [x[i] for i in own], [y[i] for i in own], x[rest:], [{} for _ in own])

    @property
    def row(self) -> Row:
        return {"dataset": self.dataset, "layers": self.description.model, "examples": len(self.y[0])}

    def first(self, seed: int) -> NDArray[np.float32]:
        return to_vector(
            build(self.description.model, self.description.shape, self.description.classes, seed)
        )

    def seen(self, u: int, parameters: NDArray[np.floating[Any]], plan: LocalPlan) -> Seen:
        torch.set_num_threads(1)
        model = build(self.description.model, self.description.shape, self.description.classes, 0)
        from_vector(model, parameters)
        x, y = torch.tensor(self.x[u]), torch.tensor(self.y[u])
        if not self.kept[u]:
            preflight(model, self.x[u], to_vector(model), plan, RULES, kept=self.kept[u])
        times = [time.process_time()]
        result = train(model, x, y, plan, np.random.default_rng(u).bytes(32), counting=False)
        times.append(time.process_time())
        verdict = preflight(model, self.x[u], result.upload, plan, RULES, kept=self.kept[u])
        times.append(time.process_time())
        preflight(model, self.x[u], result.upload, plan, RULES)
        times.append(time.process_time())
        trained, looked, first = np.diff(times).tolist()
        suspicious = tuple(_signs(model, self.x[u], result))
        return Seen(verdict, result.upload, suspicious, (trained, looked, first))


SIGNS: Final = {"dead": "units that never fire", "fires": "that always do", "mass": "few hold the gradient"}


def _signs(model: nn.Module, x: NDArray[np.float32], result: LocalResult) -> Iterator[str]:
    """What naive detectors take for a sign of a crafted model, of one that begins with a linear layer."""
    layers: list[nn.Module] = list(model.children())
    at = next(i for i, layer in enumerate(layers) if any(True for _ in layer.parameters()))
    first = layers[at]
    if not isinstance(first, nn.Linear):
        return
    with torch.no_grad():
        fires = (nn.Sequential(*layers[: at + 1])(torch.tensor(x)) > 0).numpy()
    moved = result.upload[: first.weight.numel()].reshape(first.weight.shape)
    sizes = np.sort(np.linalg.norm(moved, axis=1))[::-1]
    if (~fires.any(axis=0)).mean() > NEVER:
        yield "dead"
    if fires.all(axis=0).mean() > ALWAYS:
        yield "fires"
    if sizes[: max(1, len(sizes) // 20)].sum() > MASS * sizes.sum():
        yield "mass"


def counted_of(seen: Sequence[Seen]) -> Row:
    """largest: share of examples that came out; above: how many were above the limit, may; alarms: how many
    were refused, by that or because of their rows. alike: how many models had rows that point the same way.
    cost: the preflight's seconds by those of training, the median; first: of a client's first round.
    """
    verdicts = [one.verdict for one in seen]
    costs = [(looked / max(a, 1e-9), first / max(a, 1e-9)) for a, looked, first in (s.seconds for s in seen)]
    cost, first = np.median(costs, axis=0).round(3).tolist()
    return {
        "rounds": len(seen),
        "share": round(float(np.mean([v.share for v in verdicts])), 3),
        "largest": round(max(v.share for v in verdicts), 3),
        "may": verdicts[0].largest,
        "above": sum(v.share > v.largest for v in verdicts),
        "alarms": sum(v.leaks for v in verdicts),
        "alike": sum(v.alike > 0 for v in verdicts),
        **{sign: sum(sign in one.suspicious for one in seen) for sign in SIGNS},
        "cost": cost,
        "first": first,
        "ms": round(1e3 * float(np.median([one.seconds[1] for one in seen])), 1),
    }


def table(rows: Sequence[Row]) -> Table:
    """runs: honest ones, whose largest shares set the limits, or others. share: of a client's examples, that
    comes out of its update, and the largest; may: the limit. above: rounds above it; alarms: rounds that were
    refused. alike: rounds with rows that point the same way. never, always, mass: alarms by naive signs.
    cost: beside training, of the pair that it costs most; first: in a client's first round.
    """
    cells = cells_of(rows, "model", "used", "plan", "examples")
    header = ("model", "runs", "local", "examples", "share", "largest", "may", "above", "alarms", "alike")
    return Table.of(
        (*header, "never", "always", "mass", "cost", "first", "ms"),
        [_line(some) for some in cells.values()],
    )


def _line(some: Sequence[Row]) -> tuple[str, ...]:
    rounds = sum(row["rounds"] for row in some)
    first = some[0]
    return (
        *(first["model"], first["used"], first["plan"], str(first["examples"])),
        f"{np.average([row['share'] for row in some], weights=[row['rounds'] for row in some]):.2f}",
        f"{max(row['largest'] for row in some):.2f}",
        f"{first['may']:.2f}",
        str(sum(row["above"] for row in some)),
        f"{sum(row['alarms'] for row in some)} of {rounds}",
        *(str(sum(row[name] for row in some)) for name in ("alike", *SIGNS)),
        *(f"{max(row[name] for row in some):.2f}" for name in ("cost", "first")),
        f"{np.median([row['ms'] for row in some]):.1f}",
    )
