"""A server that attacks: images out of masked sums by a model it crafted, one for all or one for each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.inverted import Vector, cells_of
from benchmarks.leakage.sums import RIGHT, nearest
from benchmarks.spread import seeds, spread
from fl.config.plan import LocalPlan
from fl.data import DataError, load
from fl.leakage import apart
from fl.leakage.attack import Budget, Knowledge
from fl.leakage.imprint import crafted, permuted
from fl.leakage.views import EXAMPLES, UPDATE, Part, View, of_aggregate
from fl.models.architectures import Description, build
from fl.models.weights import from_vector, to_vector
from fl.training.local import train
from secagg import (
    Aggregate,
    Bounded,
    Masking,
    RemoteProtocolError,
    Roster,
    TooFewClients,
    Weight,
    run,
    throwaway_identities,
)
from secagg.errors import ClientId
from secagg.record import RecordedClient, Tampered
from secagg.specs import Spec
from secagg.wire import Raw, Task, decode, encode

CLAIM = (
    "Clients of eight MNIST images each take one step of all of them, in masked sessions, five seeds, "
    "and the server reads the sum. With one model for all, whose neurons measure brightness (Robbing "
    "the Fed), it reads .45 of 80 images at 100 bins, .73 at 300 and .89 at 1,000, at a tight bound, at "
    "the usual one of 3, where it scales the model until updates fill it or not, and as many as of "
    "floats that nothing masks: next to no claim is wrong, masking takes nothing away, and no client "
    "refuses, since all are sent the same. What takes it away is 8 bits, and a largest weight of 60,000 "
    "where clients weigh 8: both are a client's policy to ask for. With bins of each client's own, 50 a "
    "client, it reads .85 to .89 of 5 to 20 clients and whose each is, where one model of 50 bins for "
    "all reads .47 of 5 and .04 of 20; with all but one client's gradients suppressed, all of that "
    "one's images. Both take a model for each client: where clients have the model in their session's "
    "context all of them refuse, and the control is a session whose clients leave it out. First weights "
    "that only changed places read .78, where honest ones read .08."
)
FLOAT, TIGHT, DEFAULT = "none", "tight", "3"
SAME, BLOCKS, SUPPRESSED, PERMUTED, HONEST = "imprint", "blocks", "suppressed", "permuted", "honest"
CONTROL = Control(
    "the same sum, neither encoded nor masked",
    lambda row: row["bound"] == FLOAT,
    by=("attack", "bins", "clients", "seed"),
)
ALONE = False
SEEDS = {"quick": 1, "full": 5}
CLIENTS, EACH, VICTIM, FEW = 10, 8, 0, 50
PUBLIC: Final = 300  # images by which places of weights are chosen
PLAN = LocalPlan(steps=1, batch_size=EACH, lr=0.05, momentum=0.0)
ORDER = bytes(32)
Models = Mapping[ClientId, NDArray[np.float32]]


@dataclass(frozen=True)
class Encoded:
    """What the server picks of an encoding. bound: "none" for a sum that is not encoded. scaled: whether the
    model is such that updates fill the bound. heaviest: the largest weight, of clients of 8 each.
    """

    bound: str = DEFAULT
    bits: int = 16
    scaled: bool = False
    heaviest: int = EACH


FLOATS, FITTED, USUAL, FILLED = Encoded(FLOAT), Encoded(TIGHT), Encoded(), Encoded(scaled=True)
COARSE = (
    Encoded(bits=8, scaled=True),
    Encoded(scaled=True, heaviest=80),
    Encoded(scaled=True, heaviest=60_000),
)


@dataclass(frozen=True)
class Setup:
    """bins: of all clients together, where each has some of its own."""

    attack: str
    bins: int
    encodings: tuple[Encoded, ...] = (FLOATS, FITTED)
    clients: int = CLIENTS


SETUPS = {
    "quick": (Setup(SAME, 300, (FLOATS, FITTED, FILLED)), Setup(SUPPRESSED, 1000)),
    "full": (
        *(Setup(SAME, bins, (FLOATS, FITTED, USUAL, FILLED)) for bins in (100, 300)),
        Setup(SAME, 1000, (FLOATS, FITTED, USUAL, FILLED, *COARSE)),
        Setup(BLOCKS, 1000),
        # Of as many neurons a client, whether they are its own or everybody's.
        *(Setup(BLOCKS, FEW * clients, clients=clients) for clients in (5, 10, 20)),
        *(Setup(SAME, FEW, clients=clients) for clients in (5, 10, 20)),
        Setup(SUPPRESSED, 1000),
        Setup(PERMUTED, 1000),
        Setup(HONEST, 1000),
    ),
}


def cases(size: str, seed: int) -> list[Case]:
    return [
        Case(
            f"{setup.attack}, {setup.bins}, {setup.clients} clients, seed {each}",
            partial(run_case, setup, each),
        )
        for setup in SETUPS[size]
        for each in seeds(seed, SEEDS[size])
    ]


def run_case(setup: Setup, seed: int, dataset: str = "mnist", net: str = "mlp-1000") -> Iterator[Row | str]:
    """share: of the images of all clients, or of the victim's alone, how many a claim is right of. precision:
    of claims. mine: of right claims in what the server has of one client, how many are of that client; None
    where it has all together. context: whether clients have the model in it. refused: how many do.

    Raises: NotImplementedError where the data set is not to be had.
    """
    company = Company.drawn(dataset, net, seed, setup.clients)
    tight = 0.0
    for encoded in setup.encodings:
        models = company.models(setup, (3 if encoded.scaled else PLAN.lr) / PLAN.lr, seed)
        sent = {u: company.trained(u, model) for u, model in models.items()}
        tight = tight or max(float(np.abs(x).max()) for x in sent.values())
        alike = all(np.array_equal(model, models[VICTIM]) for model in models.values())
        contexts = (True,) if alike else (False,) if encoded.bound == FLOAT else (False, True)
        for context in contexts:
            yield f"bound {encoded.bound}, {encoded.bits} bits"
            part, refused = company.summed(sent, models, encoded, tight, context=context)
            row = company.read(setup, part, models, seed) if part else {"claims": 0, "share": 0.0}
            yield {
                "attack": setup.attack,
                "bins": setup.bins,
                "clients": setup.clients,
                "bound": encoded.bound,
                "bits": encoded.bits,
                "scaled": encoded.scaled,
                "heaviest": encoded.heaviest,
                "context": context,
                "seed": seed,
                "refused": refused,
                **row,
            }


@dataclass(frozen=True)
class Company:
    """Clients with 8 images each, and a server with images of the test set. x: (n, 8, C, H, W)."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    public: NDArray[np.float32]
    model: Description

    @classmethod
    def drawn(cls, dataset: str, net: str, seed: int, clients: int = CLIENTS) -> Company:
        """Raises: NotImplementedError where the data set is not to be had."""
        try:
            data = load(dataset)
        except DataError as error:
            raise NotImplementedError(str(error)) from error
        some = np.random.default_rng(seed).choice(len(data.train_y), (clients, EACH), replace=False)
        x, public = cast(NDArray[np.float32], data.train_x), cast(NDArray[np.float32], data.test_x)
        return cls(x[some], data.train_y[some], public, Description(net, data.shape, data.classes))

    def models(self, setup: Setup, largest: float, seed: int) -> Models:
        """What each client is sent."""
        clients = range(len(self.x))
        craft = partial(crafted, self.model, self.public, largest=largest)
        first = to_vector(build(self.model.model, self.model.shape, self.model.classes, seed))
        match setup.attack:
            case name if name == BLOCKS:
                bins = setup.bins // len(clients)
                return {u: craft(bins=bins, block=(u, len(clients))) for u in clients}
            case name if name == SUPPRESSED:
                # No neuron of a net of zeros fires, and no number of it but the last biases has a gradient.
                return {u: craft() if u == VICTIM else np.zeros_like(first) for u in clients}
            case name if name == PERMUTED:
                same = permuted(first, self.model, self.public[:PUBLIC], len(clients) * EACH, seed)
            case name if name == HONEST:
                same = first
            case _:
                same = craft(bins=setup.bins)
        return dict.fromkeys(clients, same)

    def trained(self, u: ClientId, parameters: NDArray[np.float32]) -> Vector:
        torch.set_num_threads(1)
        model = build(self.model.model, self.model.shape, self.model.classes, 0)
        from_vector(model, parameters)
        x, y = torch.tensor(self.x[u]), torch.tensor(self.y[u])
        return train(model, x, y, PLAN, ORDER, counting=False).upload.astype(np.float64)

    def summed(
        self,
        sent: Mapping[ClientId, Vector],
        models: Models,
        encoded: Encoded,
        tight: float,
        *,
        context: bool,
    ) -> tuple[Part | None, int]:
        """What the server reads of a masked session, None where there was no sum; and how many refused.
        context: whether what they train is in it, as it always is but here.
        """
        if encoded.bound == FLOAT:
            return Part(frozenset(sent), np.mean(list(sent.values()), axis=0)[None], len(sent) * EACH), 0
        bound = tight if encoded.bound == TIGHT else float(encoded.bound)
        update = Bounded(length=len(sent[VICTIM]), bound=bound, bits=encoded.bits)
        vectors: dict[str, Spec] = {UPDATE: update, EXAMPLES: Weight(maximum=encoded.heaviest)}
        inputs = {u: {UPDATE: x, EXAMPLES: EACH} for u, x in sent.items()}
        tasks = {u: model.tobytes() if context else b"" for u, model in models.items()}
        total, refused = session(vectors, inputs, tasks)
        return None if total is None else of_aggregate(total), refused

    def read(self, setup: Setup, part: Part, models: Models, seed: int) -> Row:
        attack = "peeling" if setup.attack in (PERMUTED, HONEST) else "imprint"
        owners = {BLOCKS: tuple(models), SUPPRESSED: (VICTIM,)}.get(setup.attack, ())
        # One sum, read once for each model that was sent.
        view = View(tuple(dataclasses.replace(part, before=models[u]) for u in owners or (VICTIM,)))
        knowledge = Knowledge(self.model, models[VICTIM], PLAN, EACH)
        guess = apart.run(attack, view, knowledge, Budget(seconds=1), seed)
        each = [cast(Vector, found.images)[found.claimed] for found in guess]
        claims = np.concatenate(each).reshape(-1, self.x[VICTIM, 0].size)  # also where there is none
        if not len(claims):
            return {"claims": 0, "share": 0.0, "precision": None, "mine": None}
        which, errors = nearest(claims, self.x.reshape(len(self.x) * EACH, -1).astype(np.float64))
        right = errors <= RIGHT
        said = np.repeat(owners or (VICTIM,), [len(some) for some in each])
        mine = which // EACH == said
        counted = right & mine if setup.attack == SUPPRESSED else right
        return {
            "claims": len(claims),
            "share": len(np.unique(which[counted]))
            / (EACH if setup.attack == SUPPRESSED else len(self.x) * EACH),
            "precision": float(right.mean()),
            "mine": float(mine[right].mean()) if owners and right.any() else None,
        }


# A session whose server shows each client what it likes


class Believing(Roster):
    """Of a server that lets pass what clients sign of another task than its own."""

    def signed_by(self, u: ClientId, message: bytes, signature: bytes) -> bool:
        return True


class Refusing(RecordedClient):
    """A client whose refusal ends its own part alone, as over a network."""

    def __init__(self, u: ClientId, session: Any, refuse: Callable[[ClientId], None]) -> None:
        super().__init__(session)
        self._u, self._refuse = u, refuse

    def receive(self, message: Raw) -> bytes | None:
        try:
            return super().receive(message)
        except RemoteProtocolError:
            self._refuse(self._u)
            return None


def session(
    vectors: Mapping[str, Spec], inputs: Mapping[ClientId, Mapping[str, Any]], tasks: Mapping[ClientId, bytes]
) -> tuple[Aggregate | None, int]:
    """(the sum, how many refused) of a masked session against an active server, which says to each client
    what its task is.
    """
    roster, identities = throwaway_identities(inputs)
    scheme = Masking.for_cohort(len(inputs), dict(vectors), adversary="active", roster=roster)
    believing = Believing(roster.digest, roster.keys)
    server = scheme.server(inputs.keys(), tasks[VICTIM], roster=believing)
    refused = set[ClientId]()

    def say(round: str, u: ClientId, message: bytes) -> bytes:
        if round != "advertise-keys":  # which the task opens
            return message
        return encode(replace(decode(Task, message), task=tasks[u]))

    try:
        total = run(
            scheme,
            inputs,
            task=tasks[VICTIM],
            identities=identities,
            instrument=lambda _: Tampered(server, say),
            listen=lambda u, client: Refusing(u, client, refused.add),
        )
    except TooFewClients:
        return None, len(refused)
    return total, len(refused)


def table(rows: Sequence[Row]) -> Table:
    """bins: of all clients together, where each has its own part of them. update: what the server picks,
    "filled" by a crafted model. read: of all images, of the victim's where the others are suppressed, the
    share that a claim is right of. precision: of claims. whose: of right claims, how many are of the client
    that they are said to be of. refused: of the clients.
    """
    by = cells_of(rows, "attack", "bins", "clients", "bound", "bits", "scaled", "heaviest", "context")
    return Table.of(
        (
            "model",
            "bins",
            "clients",
            "update",
            "model in the context",
            "read",
            "precision",
            "whose",
            "refused",
        ),
        [
            (
                attack,
                str(bins) if attack in (SAME, BLOCKS, SUPPRESSED) else "",
                str(clients),
                _picked(bound, bits, scaled, heaviest),
                "yes" if context else "no",
                spread([row["share"] for row in some], ".2f"),
                _mean([row.get("precision") for row in some]),
                _mean([row.get("mine") for row in some]),
                spread([row["refused"] for row in some], ".0f"),
            )
            for (attack, bins, clients, bound, bits, scaled, heaviest, context), some in by.items()
        ],
    )


def _picked(bound: str, bits: int, scaled: bool, heaviest: int) -> str:
    if bound == FLOAT:
        return "float, not masked"
    filled = ", filled" if scaled else ""
    weight = f", weights to {heaviest:,}" if heaviest != EACH else ""
    return f"{bits} bits, {bound}{filled}{weight}"


def _mean(values: Sequence[float | None]) -> str:
    some = [value for value in values if value is not None]
    return f"{np.mean(some):.2f}" if some else ""
