"""Which words of texts can be read off an update of a model of language, and off a masked sum of many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.inverted import cells_of
from benchmarks.spread import seeds
from fl.cli.attack import described
from fl.cli.guessed import of_words
from fl.cli.recorded import Round, record
from fl.cohort.layout import Layout, Serving
from fl.config.plan import LocalPlan
from fl.config.secret import RunSecrets
from fl.data import DataError, Dataset, load
from fl.leakage import apart
from fl.leakage.attack import Budget, Guess, Knowledge
from fl.leakage.verdicts import FAILED, PROTECTS, ROUNDING
from fl.leakage.views import View

CLAIM = (
    "Texts of eight words and the next one, each a client's own, in one step of a model of language at "
    "its first weights: which words are in what is read. Read are the masked sum of all clients, their "
    "updates one by one, as a plain server has them, their sum before it is encoded, and the gradient "
    "where a client trains. The words named stand beside as many of the most frequent ones of public "
    "text. Out of a masked sum of twenty clients of eight texts, at 16 bits, every one of 1,251 words "
    "(three seeds) is named of `bag-of-words`, and 96 % of `gru`, and no word that is not there: a sum "
    "of whatever size has every word that anybody used, since each moves a row of its own. At 8 bits, "
    "of one text each, all of `bag-of-words` still are and 45 % of `gru`; of eight texts 61 to 69 % and "
    "13 to 15 %, less there than the most frequent words would have been right: that is rounding, as "
    "their sum before it is encoded gives all. What is named of a sum is the words of the cohort, and "
    "not whose they are."
)
SUM, SINGLE, BARE, TAP = "masking, server", "plain, server", "their bare sum", "client"
CONTROL = Control(
    "the sum of the same updates, not encoded", lambda row: row["read"] == BARE, by=("seed", "model")
)
ALONE = False
SEEDS = {"quick": 1, "full": 3}
MODELS = ("bag-of-words", "gru")
CLIENTS = {"quick": (10,), "full": (1, 5, 20)}
TEXTS = {"quick": (1,), "full": (1, 8)}
BITS = (16, 8)


@dataclass(frozen=True)
class Setup:
    """A session of so many clients of so many texts each."""

    model: str
    clients: int
    texts: int
    bits: int


def cases(size: str, seed: int) -> list[Case]:
    return [
        Case(f"{model}, seed {each}", partial(run_case, model, each, CLIENTS[size], TEXTS[size]))
        for model in MODELS
        for each in seeds(seed, SEEDS[size])
    ]


def run_case(
    model: str, seed: int, of_clients: Sequence[int], of_texts: Sequence[int]
) -> Iterator[Row | str]:
    """Of each session what is read of its masked sum, of its updates one by one, of their bare sum, and where
    the clients train. Raises: NotImplementedError where the text is not to be had.
    """
    try:
        dataset = load("text")
    except DataError as error:
        raise NotImplementedError(str(error)) from error
    for clients, texts, bits in product(of_clients, of_texts, BITS):
        yield f"{clients} clients of {texts} texts"
        setup = Setup(model, clients, texts, bits)
        yield from attacked(session(dataset, setup, seed), setup, seed)


def session(dataset: Dataset, setup: Setup, seed: int) -> Round:
    """One step of each client on all of its texts, which nobody else has, from first weights. One client
    alone has nobody to be masked with.
    """
    scheme = "masking" if setup.clients > 1 else "plain"
    flags = {"dataset": "text", "model": setup.model, "scheme": scheme, "bits": setup.bits}
    config = described(flags, setup.clients, setup.texts, None, 1, seed)
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(dataset.train_y), setup.clients * setup.texts, replace=False)
    shares = dict(enumerate(np.split(drawn, setup.clients)))
    layout = Layout(dataset.train_x, dataset.train_y, shares, frozenset(), Serving(dataset))
    return record(config, layout, RunSecrets.of_seed(seed))


def attacked(round: Round, setup: Setup, seed: int) -> Iterator[Row]:
    """A row for each view of the round: what is read of its words, and what a guess hits."""
    members = range(setup.clients)
    views = {SINGLE: round.single(members), BARE: round.summed(members)}
    if setup.clients > 1:
        views = {SUM: round.view("server")} | views
    guesses = _all(round, views, seed)
    tapped = round.view("client")  # a gradient, where the others are what a step made of it
    views[TAP], guesses[TAP] = tapped, apart.run("words", tapped, _of_step(round), Budget(), seed)
    head: Row = {"model": setup.model, "clients": setup.clients, "texts": setup.texts, "bits": setup.bits}
    for read, view in views.items():
        cell = of_words(round, view, guesses[read], tapped=read == TAP)
        yield head | {
            "seed": seed,
            "read": read,
            "words": cell.true,
            "named": cell.named,
            "hits": cell.hits,
            "frequent": cell.chance,
            "exact": all(np.array_equal(*both) for both in zip(cell.truth, cell.guess, strict=True)),
            "found": cell.found,
        }


def _all(round: Round, views: dict[str, View], seed: int) -> dict[str, Guess]:
    """What is found in each, by one process: its start takes longer than they do together."""
    parts = tuple(part for view in views.values() for part in view.parts)
    found, guesses = apart.run("words", View(parts), round.knowledge, Budget(), seed), {}
    for read, view in views.items():
        guesses[read], found = found[: len(view.parts)], found[len(view.parts) :]
    return guesses


def _of_step(round: Round) -> Knowledge:
    return replace(round.knowledge, plan=LocalPlan(algorithm="fedsgd"))


def table(rows: Sequence[Row]) -> Table:
    """words: in what was read, of all seeds. right: of those named; recall: of all; frequent: of as many of
    the most frequent words of public text. exact: in how many seeds all words were named and no other.
    """
    by = cells_of(rows, "model", "clients", "texts", "bits", "read")
    return Table.of(
        ("model", "clients", "texts", "bits", "read", "words", "right", "recall", "frequent", "exact", "so"),
        [
            (*map(str, which), *_numbers(some), _so(some, by[*which[:4], BARE], by[*which[:4], SINGLE]))
            for which, some in by.items()
        ],
    )


def _numbers(some: Sequence[Row]) -> tuple[str, ...]:
    words, named, hits, frequent = (
        sum(row[name] for row in some) for name in ("words", "named", "hits", "frequent")
    )
    share = ("-", "-") if not named else (f"{hits / named:.1%}", f"{frequent / named:.1%}")
    exact = f"{sum(row['exact'] for row in some)} of {len(some)}"
    return str(words), share[0], f"{hits / words:.1%}", share[1], exact


def _so(some: Sequence[Row], bare: Sequence[Row], single: Sequence[Row]) -> str:
    """A seed in which it leaks is one too many. What is found in the bare sum, and not in what was encoded,
    rounding hides.
    """
    if any(row["found"] for row in some):
        return "leaks"
    if all(row["found"] for row in bare):
        return ROUNDING
    return PROTECTS if all(row["found"] for row in single) else FAILED
