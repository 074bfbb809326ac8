"""`secagg attack`: a real session, recorded; an attack on what one party could read of it; what leaked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from fl.cli.attacked import Doing, Outcome, attacked
from fl.cli.display import shown, since
from fl.cli.lists import documented, printed
from fl.cli.output import Output
from fl.cli.recorded import PARTIES, record
from fl.cli.report import warn
from fl.cli.results import check_folder, write_result
from fl.cli.scored import Cell, Images
from fl.cohort.layout import Layout, lay_out
from fl.config.protection import BOUND, check_installed
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets
from fl.config.section import ConfigError
from fl.leakage.attack import Budget
from fl.leakage.attacks import ATTACKS
from fl.leakage.imprint import crafted
from fl.leakage.starts import named
from fl.leakage.verdicts import FAILED, FEWEST, LEAKS, NO_MODEL, NOISED, PROTECTS, ROUNDING, TOO_FEW
from fl.mistyped import nearest
from fl.models.architectures import Description, ModelError, build
from secagg.errors import ClientId, counted

REPORT = "report.json"
NAMES = {
    "seen": "what it read",
    "last": "the last round of it alone",
    "informed": "control: the same, with the model",
    "single": "control: single updates, encoded",
    "sum": "control: their sum, not masked",
    "exact": "single updates, not encoded",
}
BY_STEPS = ("inversion", "sparse", "cosine", "history")
USES = {
    "start": BY_STEPS,
    "time": (*BY_STEPS, "learned", "peeling"),
    "iterations": (*BY_STEPS, "learned"),
}
"""Options of a budget -> the attacks on images that spend it so."""
FOUND = {True: "yes", False: "no", None: "too few to say"}


def show(out: Output) -> None:
    """The attacks that there are, and where each is from."""
    printed(out, documented(ATTACKS))


def described(
    flags: Mapping[str, Any], clients: int, images: int, batch: int | None, round: int, seed: int
) -> RunConfig:
    """The run whose last round is attacked. flags: settings by name, of those that do not follow.

    Raises: ConfigError for what does not go together.
    """
    if flags.get("local_steps") == 0:
        raise ConfigError("--local-steps 0: an attack is on steps that are counted: give 1 or more")
    one_step = {} if flags.get("algorithm") == "fedsgd" else {"local_steps": 1}
    settings = {"model": "lenet-zhu"} | one_step | dict(flags)
    return RunConfig.of(
        **settings,
        clients=clients,
        examples_per_client=images,
        batch_size=batch or images,
        partition="iid",
        rounds=round,
        seed=seed,
        # One round is looked at: no other sum stands beside it, and nothing else is summed.
        alike="never",
        metrics=False,
        execution="sequential",
        small_cohort=clients < 3,
    )


def run(
    out: Output,
    attack: str,
    config: RunConfig,
    party: str,
    budget: Budget,
    folder: Path,
    *,
    without_model: bool = False,
    rounds_seen: int | None = None,
    bins: int | None = None,
    force: bool,
) -> None:
    """Run a session, attack it, write what came of it into the folder. rounds_seen: None for all that there
    are, where the attack is of several. bins: of an imprint, None for as many as there are neurons.
    """
    party, which = party_of(party, config.cohort.clients)
    check_relay(party, which, config)
    rounds = seen_of(attack, rounds_seen, config.training.rounds)
    check_installed({config.protection.scheme})
    warn(out, config.protection)
    check_folder(folder, force=force)
    if attack in BY_STEPS:
        named(budget.start)
    layout, secrets = fitting(config), RunSecrets.of_seed(config.training.seed)
    doing = Doing()

    def at() -> str:
        return f"{attack}: {'; '.join(NAMES[what] for what in doing)}" if [*doing] else "the session"

    with shown(out, since(at), news=at):
        first = imprinted(config, layout, bins) if attack == "imprint" else None
        session = record(config, layout, secrets, rounds, first=first)
        outcome = attacked(
            session, attack, party, budget, config.training.seed, which, doing, without_model=without_model
        )
    told = report(attack, config, party, which, budget, outcome, rounds)
    folder.mkdir(parents=True, exist_ok=True)
    for name, cell in outcome.cells.items():
        cell.draw(folder / f"{name}.png", f"{config.protection.scheme}, {party}: {NAMES[name]}")
    result = write_result(folder / REPORT, msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n")
    out.table(
        [(NAMES[name], _updates(cell), *cell.row, FOUND[cell.found]) for name, cell in outcome.cells.items()],
        ("attacked", "updates", *outcome.single.header, "found"),
    )
    for line in next(iter(outcome.cells.values())).lines:
        out.say(line)
    out.say(told["sentence"])
    out.record(told)
    out.say(f"wrote {folder}: {REPORT}, {', '.join(f'{name}.png' for name in outcome.cells)}")
    result.check()


def fitting(config: RunConfig) -> Layout:
    """The data, laid out. Raises: ConfigError for a model that is not for them."""
    layout = lay_out(config)
    dataset = layout.serving.dataset
    try:
        described = Description(config.training.model, dataset.shape, dataset.classes)
        build(described.model, described.shape, described.classes, 0)
    except ModelError as error:
        raise ConfigError(str(error)) from None
    return layout


def imprinted(config: RunConfig, layout: Layout, bins: int | None) -> NDArray[np.float32]:
    """The first model of a server that crafts it: by the test images, which are its own, and so that updates
    are as large as the session's bound lets them be.

    Raises: ConfigError for a model that cannot be crafted so.
    """
    plan, dataset = config.training.plan, layout.serving.dataset
    bound = config.protection.bound or BOUND
    description = Description(config.training.model, dataset.shape, dataset.classes)
    largest = bound / plan.lr if plan.algorithm == "fedavg" else bound
    return crafted(description, cast(NDArray[np.float32], dataset.test_x), bins=bins, largest=largest)


def party_of(text: str, clients: int) -> tuple[str, frozenset[ClientId]]:
    """The party, and of colluders which clients, of a relay its number. Raises: ConfigError for any other."""
    party, _, rest = text.partition(":")
    if party not in PARTIES:
        raise ConfigError(f"--view {text}: there are {', '.join(PARTIES)}{nearest(party, PARTIES)}")
    parts = rest.split(",")
    numbers = frozenset(int(part) for part in parts if part.isdecimal())
    known = len(numbers) == len(parts)
    text = text.rstrip(":")  # a colon would follow it
    if party == "colluders" and not (known and max(numbers) < clients):
        raise ConfigError(
            f"--view {text}: say which of the clients 0 to {clients - 1} are on the server's side: "
            "colluders:0,3"
        )
    if party == "relay" and not (known and len(parts) == 1):
        raise ConfigError(f"--view {text}: say which relay of --scheme split: relay:0")
    if party not in ("colluders", "relay") and rest:
        raise ConfigError(f"--view {text}: only colluders and relays have numbers: colluders:0,3, relay:0")
    return party, numbers


def check_relay(party: str, which: frozenset[ClientId], config: RunConfig) -> None:
    """Raises: ConfigError for a relay of a session without any."""
    if party == "relay" and config.protection.scheme != "split":
        raise ConfigError(f"--view relay:{min(which)}: only split has relays: try --scheme split")


def check_spent(attack: str, options: Iterable[str]) -> None:
    """Raises: ConfigError for an option of a budget, of USES, that would change nothing of this attack."""
    for name in options:
        if attack not in USES[name]:
            raise ConfigError(f"--{name}: {attack} has no use for it: it is for {', '.join(USES[name])}")


def seen_of(attack: str, rounds_seen: int | None, round: int) -> int:
    """How many rounds are recorded. Raises: ConfigError for more than there are, or than are looked at."""
    if attack != "history":
        if rounds_seen is not None and rounds_seen != 1:
            raise ConfigError(f"--rounds-seen {rounds_seen}: {attack} looks at one round, history at several")
        return 1
    if rounds_seen is not None and rounds_seen > round:
        raise ConfigError(
            f"--rounds-seen {rounds_seen}: up to round {round} there are no more: raise --round"
        )
    return rounds_seen or round


def report(
    attack: str,
    config: RunConfig,
    party: str,
    which: frozenset[ClientId],
    budget: Budget,
    outcome: Outcome,
    rounds_seen: int = 1,
) -> dict[str, Any]:
    """All that was found, as JSON holds it."""
    more = {"rounds_seen": rounds_seen, "without_model": outcome.informed is not None}
    text = sentence(config, party, which, outcome)
    return (
        asked(attack, config, party, which, budget) | more | concluded(outcome.verdict, text, outcome.cells)
    )


def asked(
    attack: str, config: RunConfig, party: str, which: frozenset[ClientId], budget: Budget
) -> dict[str, Any]:
    """Of every report: what was attacked, and with what."""
    return {
        "attack": attack,
        "dataset": config.data.dataset,
        "model": config.training.model,
        "scheme": config.protection.scheme,
        "view": party,
        "which": sorted(which),
        "budget": budget,
        "config": {name: value for name, value in config.flat().items() if value is not None},
    }


def concluded(verdict: str, text: str, cells: Mapping[str, Cell]) -> dict[str, Any]:
    """Of every report: what came of it."""
    found = {name: cell.told() for name, cell in cells.items()}
    return {"verdict": verdict, "sentence": text, "cells": found}


def sentence(
    config: RunConfig,
    party: str,
    which: frozenset[ClientId],
    outcome: Outcome,
    more: str = ": raise --images",
) -> str:
    """What leaked, in one sentence, with the numbers that it rests on. more: what to do about too few."""
    scheme, seen = config.protection.scheme, outcome.seen
    who = who_is(party, which)
    if seen is None:
        return f"{scheme}: {who} can read nothing, and there is nothing to attack: {outcome.why}."
    if outcome.informed is not None:
        who += ", without the model,"
    read = f"{scheme}: {who} read {read_by(party, seen)}, {seen.says}"
    if outcome.last is not None:
        read += f" ({outcome.last.brief} by the last round alone)"
    # Where the labels come out it is not said that nothing does.
    missed = f"images are not found; {seen.besides} are" if seen.besides else "nothing is found"
    single = f"{outcome.single.brief} in single updates"
    summed = "" if outcome.summed is None else f"{outcome.summed.brief} in their bare sum"
    controls = " and ".join(part for part in (single, summed) if part)
    match outcome.verdict:
        case word if word == LEAKS:
            return f"{read}: it leaks."
        case word if word == PROTECTS:
            what = f"{scheme} protects the images" if seen.besides else f"{scheme} protects"
            return f"{read}: {missed}, where the same attack gets {controls}: {what}."
        case word if word == NO_MODEL and outcome.informed is not None:
            known = outcome.informed.brief
            return f"{read}: {missed}, where the same attack with the model gets {known}: {NO_MODEL}."
        case word if word in (ROUNDING, NOISED) and not outcome.single.found and outcome.exact is not None:
            exact = f"{outcome.exact.brief} in updates before they are encoded"
            return f"{read}: {missed}, where the same attack gets {single} and {exact}: {word}."
        case word if word in (ROUNDING, NOISED):
            return f"{read}: {missed}, where the same attack gets {controls}: {word}, not the sum."
        case word if word == TOO_FEW:
            fewest = f", which takes {FEWEST} images" if isinstance(seen, Images) else ""
            return f"{read}: {TOO_FEW}{fewest}{more}."
    besides = f"; {seen.besides} are found" if seen.besides else ""
    return f"{read}: {FAILED} ({controls}), so that this says nothing of {scheme}{besides}."


def who_is(party: str, which: frozenset[ClientId]) -> str:
    """In words."""
    return {
        "colluders": f"the server and {counted(len(which), 'client')}",
        "relay": f"relay {min(which, default=0)}",
        "client": "who is at the clients",
    }.get(party, f"the {party}")


def read_by(party: str, cell: Cell) -> str:
    """What the party read, that the cell is of, in words."""
    earlier = max(len(part.earlier) for part in cell.view.parts)
    return _read_in_a_round(party, cell) + (f" in each of {earlier + 1} rounds" if earlier else "")


def _read_in_a_round(party: str, cell: Cell) -> str:
    parts = cell.view.parts
    if max(len(part.updates) for part in parts) > 1:
        return f"{len(parts[0].updates)} candidates of each of {counted(len(parts), 'client')}"
    if party == "relay":
        return f"one share of each of {counted(len(parts), 'client')}"
    if party == "client":
        return f"the gradients of a step of {counted(len(parts), 'client')}"
    if len(parts) == 1 and len(parts[0].members) > 1:
        return f"one sum of {counted(len(parts[0].members), 'update')}"
    if len(parts[0].members) > 1:
        members = sorted(len(part.members) for part in parts)
        return f"{len(parts)} sums of {', '.join(map(str, members))} updates"
    return counted(len(parts), "single update")


def _updates(cell: Cell) -> str:
    return ", ".join(sorted({str(len(part.members)) for part in cell.view.parts}))
