"""A client out of two masked sums that differ by it alone: by what is asked, the order and the rule."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.inverted import HEADER, Summary, Target, cells_of, word
from benchmarks.leakage.active import Refusing
from benchmarks.spread import seeds
from fl.config.plan import LocalPlan
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets, order_key, rounding_seed
from fl.data.shard import Shard
from fl.federation.client import LocalTrainer
from fl.federation.task import Instructions, write_instructions
from fl.federation.vectors import scheme_for
from fl.leakage import apart
from fl.leakage.attack import Budget, Knowledge
from fl.leakage.disguised import DISGUISES, Disguise
from fl.leakage.views import Part, View, of_aggregate, of_two
from fl.training.local import LocalResult
from fl.training.step import Gradients
from secagg import (
    ClientSession,
    Identity,
    Masking,
    Policy,
    RemoteProtocolError,
    Roster,
    TooFewClients,
    run,
    throwaway_identities,
)
from secagg.alike import Alike, in_memory
from secagg.errors import ClientId
from secagg.policy import Likening
from secagg.session import Contribute

CLAIM = (
    "Ten clients of `mlp`, MNIST, in real masked sessions at a tight bound, and again without one of them: "
    "the server subtracts, and inverts the difference (0.4 s of a processor an image) and divides its rows "
    "(`analytic`), for the eight images of the victim, whose best guess is 12 to 13 dB. Without a rule the "
    "same task twice gives the victim as its update in the clear does to inversion, and 26 to 31 dB by "
    "division. The client's usual rule (`auto`) refuses that, and the same model as another round where "
    "clients take one step. It does not know a disguised model again, hidden units renumbered or rescaled "
    "or one function added to all logits, nor one that is 2 % off, and from these the victim comes out as "
    "well (22 to 23 dB by division; 17 of the one that is off): nor does `always`. What stands against "
    "that is the secret order, where a step takes some of a client's examples: nothing comes out of one "
    "step of 8 of 32, in an order that is known all of it, but from the next honest model; of two steps of "
    "4 of 8 little at rate .05 (one seed of three, or two), but all where the server asks 64 times over, "
    "and all at rate .0005, where steps are too small for their order to matter. `--alike any` refuses "
    "every second session, the next honest model's without one client, too: it needs to see nothing, and a "
    "run under it sums the same clients every round."
)
SINGLE, SUM = "single update, in the clear", "sum of all, alone"
AGAIN, NEXT_TASK, NEXT = "the same task", "the same model, as the next round", "the next honest model"
NAMES: Final = {
    "nearby": "a model 2 % off",
    "renumbered": "units renumbered",
    "rescaled": "units rescaled",
    "shifted": "logits shifted",
}
SESSIONS = (AGAIN, NEXT_TASK, NEXT, *NAMES.values())
TIMES: Final = 64
REPEATED: Final = f"logits shifted, {TIMES} times over"
SECRET, KNOWN = "secret", "always the same"
NO_RULE = "none"
RULES: Final[tuple[Likening, ...]] = ("auto", "always", "any")
"""Of `secagg.Policy.alike`, at clients that have a journal; those that keep no rule have none either."""
CONTROL = Control(
    "the victim's update in the clear", lambda row: row["second"] == SINGLE, by=("what", "seed")
)
ALONE = False
CLIENTS: Final = 10
VICTIM: Final = 0
MODEL: Final = "mlp"
ROUND: Final = 5  # of the first session; the second is of the next
SEEDS = {"quick": 1, "full": 3}
SECONDS = {"quick": 0.1, "full": 0.4}  # of a processor, an image


@dataclass(frozen=True)
class Setup:
    """What clients do, who hold so many images each. The server fits the bound to the rate."""

    what: str
    images: int
    plan: LocalPlan

    @property
    def orders(self) -> tuple[str, ...]:
        one_way = self.plan.steps == 1 and self.plan.batch_size >= self.images
        return (SECRET,) if one_way else (SECRET, KNOWN)

    def slowed_by_order(self, order: str) -> bool:
        """Whether all its images are in each round, and only their order, which nobody knows, is another."""
        return order == SECRET and self.plan.steps > 1


def _steps(steps: int, batch: int, lr: float) -> LocalPlan:
    return LocalPlan(steps=steps, batch_size=batch, lr=lr, momentum=0.0)


ALL = Setup("1 step of all 8", 8, _steps(1, 8, 1.0))
SOME = Setup("1 step of 8 of 32", 32, _steps(1, 8, 1.0))
PASS = Setup("2 steps of 4 of 8, rate .05", 8, _steps(2, 4, 0.05))
SLOW = Setup("2 steps of 4 of 8, rate .0005", 8, _steps(2, 4, 0.0005))
SETUPS = (ALL, SOME, PASS, SLOW)


def cases(size: str, seed: int) -> list[Case]:
    return [
        Case(
            f"{setup.what}, {order} order, seed {each}", partial(run_case, setup, order, each, SECONDS[size])
        )
        for setup in (SETUPS[:1] if size == "quick" else SETUPS)
        for each in seeds(seed, SEEDS[size])
        for order in setup.orders
    ]


def run_case(setup: Setup, order: str, seed: int, seconds: float) -> Iterator[Row | str]:
    """Rows of clients without a rule say what was found; those of a rule, which looks at the task alone, who
    refused. What is sent under a rule is sent without, to the bit.

    Raises: NotImplementedError where the data set is not to be had.
    """
    company = Company.drawn(setup, order, seed)
    head = {"what": setup.what, "order": order, "seed": seed}
    yield "sessions"
    whole = cast(Part, company.session(company.first, Kept()).part)
    taken, single = dict(company.taken), company.single(VICTIM)
    asked = {second: company.second(second, whole, seed) for second in SESSIONS}
    seen = {second: company.asked_twice(whole, each) for second, each in asked.items()}
    if setup.slowed_by_order(order):
        seen[REPEATED] = company.repeated(seed)
    if order == SECRET:
        seen = {SINGLE: single, SUM: whole} | seen
    yield f"attacks on {len(seen)} cells"
    for second, found in company.read(seen, taken, seconds, seed).items():
        yield head | {"second": second, "rule": NO_RULE, "budget": seconds} | found
    for rule in RULES if order == SECRET else ():
        yield f"sessions of clients with the rule {rule}"
        for second, each in asked.items():
            kept = Kept(Policy(alike=rule))
            company.session(company.first, kept)
            refused = company.session(each, kept, [VICTIM]).refused
            yield head | {"second": second, "rule": rule, "refused": refused}


@dataclass(frozen=True)
class Asked:
    """Of the second session: its round, and the model that is sent in it."""

    round: int
    sent: Disguise


class Kept:
    """What all clients remember from session to session. policy: None of clients that keep to nothing."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy
        self.signed = {u: in_memory() for u in range(CLIENTS)}
        self.contexts = set[tuple[ClientId, bytes]]()

    def once(self, u: ClientId, context: bytes) -> None:
        """A journal: `transport.journal` keeps it on disk."""
        if self.policy is not None and (u, context) in self.contexts:
            raise RemoteProtocolError("asked again for a task it has contributed to")
        self.contexts.add((u, context))


@dataclass(frozen=True)
class Journalled:
    """A scheme whose clients have journals."""

    scheme: Masking
    kept: Kept

    def __getattr__(self, name: str) -> Any:
        return getattr(self.scheme, name)

    def client(self, u: ClientId, vectors: Contribute, **more: Any) -> ClientSession:
        return self.scheme.client(u, vectors, once=partial(self.kept.once, u), **more)


class KnownOrder(LocalTrainer):
    """The control: a client that takes its examples in one order whatever it is asked."""

    def _trained(self, instructions: Instructions, model: Any, order: bytes) -> LocalResult:
        return super()._trained(instructions, model, order_key(self._secret, KNOWN.encode()))


@dataclass(frozen=True)
class Session:
    """part: what the server reads of it; None where it got no sum. refused: how many clients did."""

    part: Part | None
    refused: int


@dataclass
class Company:
    """Clients as `secagg join` has them, with secrets and data of their own. uploads, taken: of the last
    session, the truth: what each has trained, and which of its examples.
    """

    setup: Setup
    config: RunConfig
    target: Target
    knowledge: Knowledge
    secrets: RunSecrets
    roster: Roster
    identities: Mapping[ClientId, Identity]
    trainers: dict[ClientId, LocalTrainer] = field(default_factory=dict)
    uploads: dict[ClientId, NDArray[np.float64]] = field(default_factory=dict)
    taken: dict[ClientId, NDArray[np.int64]] = field(default_factory=dict)

    @classmethod
    def drawn(cls, setup: Setup, order: str, seed: int) -> Company:
        target = Target.drawn("mnist", seed, CLIENTS * setup.images)
        plan = setup.plan
        config = RunConfig.of(
            clients=CLIENTS,
            model=MODEL,
            local_steps=plan.steps,
            batch_size=plan.batch_size,
            lr=plan.lr,
            momentum=plan.momentum,
            bound=2 * plan.steps * plan.lr,  # no number of a gradient is above 2 at first weights
            metrics=False,
        )
        knowledge = replace(target.knowledge(MODEL, seed, plan), examples=setup.images)
        parties = throwaway_identities(range(CLIENTS))
        company = cls(setup, config, target, knowledge, RunSecrets.of_seed(seed), *parties)
        kind = LocalTrainer if order == SECRET else KnownOrder
        for u in range(CLIENTS):
            x, y = target.x[company.own(u)], target.y[company.own(u)]
            shard = Shard(x, y, target.classes, "mnist")
            company.trainers[u] = kind(u, shard, "cpu", company.secrets.client(u), tap=company)
        return company

    def own(self, u: ClientId) -> slice:
        return slice(u * self.setup.images, (u + 1) * self.setup.images)

    # As their tap

    def step(self, u: int, step: int, examples: NDArray[np.int64], gradients: Gradients) -> None:
        before = self.taken[u] if step else np.empty(0, np.int64)
        self.taken[u] = np.union1d(before, examples)

    def upload(self, u: int, upload: NDArray[np.floating]) -> None:
        self.uploads[u] = upload.astype(np.float64)

    # What a server asks

    def task_of(self, asked: Asked) -> bytes:
        run_id, described = self.secrets.run, self.knowledge.model
        return write_instructions(self.config, run_id, asked.round, described, asked.sent.parameters)

    @property
    def first(self) -> Asked:
        return Asked(ROUND, Disguise(self.knowledge.parameters))

    def second(self, second: str, whole: Part, seed: int) -> Asked:
        model, parameters = self.knowledge.model, self.knowledge.parameters
        if second == AGAIN:
            return self.first
        if second == NEXT_TASK:
            return Asked(ROUND + 1, Disguise(parameters))
        if second == NEXT:
            return Asked(ROUND + 1, Disguise((parameters + whole.updates[0]).astype(np.float32)))
        name = next(name for name, said in NAMES.items() if said == second)
        return Asked(ROUND + 1, DISGUISES[name](model, parameters, np.random.default_rng(seed)))

    def session(self, asked: Asked, kept: Kept, without: Collection[ClientId] = ()) -> Session:
        """Masked, against an active server, of all clients but some that are not asked."""
        cohort, refused = range(CLIENTS), set[ClientId]()
        d, policy = len(self.knowledge.parameters), kept.policy
        scheme = scheme_for(self.config, CLIENTS, d, self.setup.images, self.roster)
        for trainer in self.trainers.values():
            trainer.offered(scheme)
        alike: dict[ClientId | None, Alike] = {
            u: Alike(
                partial(trainer.likeness, policy=policy), kept.signed[u], self.identities[u].key, self.roster
            )
            for u, trainer in self.trainers.items()
            if policy is not None
        }
        try:
            total = run(
                Journalled(cast(Masking, scheme), kept),
                self.trainers,
                task=self.task_of(asked),
                drop={"advertise-keys": without},
                rounding_seeds={u: rounding_seed(self.secrets.client(u)) for u in cohort},
                identities=self.identities,
                alike=alike,
                listen=lambda u, client: Refusing(u, client, refused.add),
            )
        except TooFewClients:
            return Session(None, len(refused))
        return Session(of_aggregate(total), len(refused))

    def asked_twice(self, whole: Part, asked: Asked) -> Part:
        """What the server reads of the victim, where nobody keeps a rule."""
        (part,) = of_two(whole, self.read_back(asked, [VICTIM])).parts
        return part

    def read_back(self, asked: Asked, without: Collection[ClientId] = ()) -> Part:
        """The sum, as if the first model had been sent."""
        part = cast(Part, self.session(asked, Kept(), without).part)
        return replace(part, updates=asked.sent.back(part.updates[0])[None])

    def repeated(self, seed: int) -> Part:
        """The same asked many times over, each time by two models that nobody has seen."""
        rng, parts = np.random.default_rng(seed), list[Part]()
        for i in range(TIMES):
            shifted = [
                Asked(ROUND + j, DISGUISES["shifted"](self.knowledge.model, self.knowledge.parameters, rng))
                for j in (2 * i, 2 * i + 1)
            ]
            parts.append(self.asked_twice(self.read_back(shifted[0]), shifted[1]))
        return replace(parts[0], updates=np.mean([part.updates for part in parts], axis=0))

    # What it reads

    def single(self, u: ClientId) -> Part:
        """The control: its update, as it was trained in the last session."""
        return Part(frozenset({u}), self.uploads[u][None], self.setup.images)

    def read(
        self,
        seen: Mapping[str, Part],
        taken: Mapping[ClientId, NDArray[np.int64]],
        seconds: float,
        seed: int,
    ) -> dict[str, Row]:
        """taken: the examples that are looked for, by client. found: by either attack. analytic: the PSNR of
        that one.
        """
        rows = dict[str, Row]()
        view, budget = View(tuple(seen.values())), Budget(seconds=seconds)
        inverted, divided = (
            apart.run(attack, view, self.knowledge, budget, seed) for attack in ("inversion", "analytic")
        )
        for (name, part), one, other in zip(seen.items(), inverted, divided, strict=True):
            true = np.concatenate([self.own(u).start + taken[u] for u in sorted(part.members)])
            target = replace(self.target, x=self.target.x[true], y=self.target.y[true])
            found, found_too = target.scored((one,)), target.scored((other,))
            rows[name] = {each: found[each] for each in ("psnr", "labels", "baselines", "seconds")} | {
                "analytic": found_too["psnr"],
                "found": bool(found["found"] or found_too["found"]),
            }
        return rows


def table(rows: Sequence[Row]) -> Table:
    """Where there is no rule: what inversion found of the victim (`analytic`: the PSNR of that one), in how
    many seeds by either. auto, always, any: of the nine clients that are asked again how many refuse, by
    their rule.
    """
    rules = cells_of([row for row in rows if row["rule"] != NO_RULE], "what", "second", "rule")
    by = cells_of([row for row in rows if row["rule"] == NO_RULE], "what", "second", "order")
    return Table.of(
        ("clients do", "second session", "order", *HEADER, "analytic", "so", *RULES),
        [
            (
                what,
                second,
                order,
                *Summary.of(some).cells,
                f"{np.mean([each for row in some for each in row['analytic']]):.1f}",
                word(some, by[what, SINGLE, SECRET], "hidden from these attacks"),
                *(_answer(rules.get((what, second, rule), [])) for rule in RULES),
            )
            for (what, second, order), some in by.items()
        ],
    )


def _answer(some: Sequence[Row]) -> str:
    """In whichever seed most refused."""
    refused = [row["refused"] for row in some]
    return "" if not refused else f"{max(refused)} refuse" if any(refused) else "sent"
