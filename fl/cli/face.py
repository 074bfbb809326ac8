"""`secagg attack face`: a real run, and an image of each class out of the model that came of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from fl.cli.attack import FOUND, REPORT, asked, check_relay, concluded, fitting, party_of, who_is
from fl.cli.attacked import Doing
from fl.cli.classes import Outcome, Trained, attacked, trained
from fl.cli.display import shown, since
from fl.cli.output import Output
from fl.cli.report import warn
from fl.cli.results import check_folder, write_result
from fl.config.protection import check_installed
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets
from fl.leakage.attack import Budget
from fl.leakage.verdicts import LEAKS, MISSED, TOO_FEW
from secagg.errors import ClientId, counted

NAMES = {"seen": "the model it has", "untrained": "control: its first weights"}


def described(
    flags: Mapping[str, Any], clients: int, images: int, batch: int, rounds: int, seed: int
) -> RunConfig:
    """The run whose model is attacked. Raises: ConfigError for what does not go together."""
    settings = {"model": "logistic"} | dict(flags)
    return RunConfig.of(
        **settings,
        clients=clients,
        examples_per_client=images,
        batch_size=batch,
        partition="iid",
        rounds=rounds,
        seed=seed,
        # What sums tell is no part of this: only the model is looked at.
        alike="never",
        metrics=False,
        execution="sequential",
        small_cohort=clients < 3,
    )


def run(out: Output, config: RunConfig, view: str, budget: Budget, folder: Path, *, force: bool) -> None:
    """Train, attack what the party has of the model, write what came of it into the folder."""
    party, which = party_of(view, config.cohort.clients)
    check_relay(party, which, config)
    check_installed({config.protection.scheme})
    warn(out, config.protection)
    check_folder(folder, force=force)
    layout, seed = fitting(config), config.training.seed
    doing = Doing()

    def at() -> str:
        return f"face: {'; '.join(NAMES[what] for what in doing)}" if [*doing] else "the rounds"

    with shown(out, since(at), news=at):
        model = trained(config, layout, RunSecrets.of_seed(seed))
        outcome = attacked(model, party, budget, seed, doing)
    told = report(model, party, which, budget, outcome)
    folder.mkdir(parents=True, exist_ok=True)
    for name, cell in outcome.cells.items():
        cell.draw(folder / f"{name}.png", f"{config.protection.scheme}, {party}: {NAMES[name]}")
    result = write_result(folder / REPORT, msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n")
    out.table(
        [(NAMES[name], *cell.row, FOUND[cell.found]) for name, cell in outcome.cells.items()],
        ("attacked", *outcome.untrained.header, "found"),
    )
    out.say(told["sentence"])
    out.record(told)
    out.say(f"wrote {folder}: {REPORT}, {', '.join(f'{name}.png' for name in outcome.cells)}")
    result.check()


def report(
    model: Trained, party: str, which: frozenset[ClientId], budget: Budget, outcome: Outcome
) -> dict[str, Any]:
    """All that was found, as JSON holds it."""
    text = sentence(model.config, party, which, outcome)
    of = asked("face", model.config, party, which, budget) | {"accuracy": model.accuracy}
    return of | concluded(outcome.verdict, text, outcome.cells)


def sentence(config: RunConfig, party: str, which: frozenset[ClientId], outcome: Outcome) -> str:
    """What the model gives away, in one sentence."""
    scheme, seen, who = config.protection.scheme, outcome.seen, who_is(party, which)
    if seen is None:
        return f"{scheme}: {who} can read nothing, and there is nothing to attack: {outcome.why}."
    after = f"the model after {counted(config.training.rounds, 'round')}"
    read = f"{scheme}: {who} has {after}, {seen.says}"
    first = f"its first weights give {outcome.untrained.brief}"
    match outcome.verdict:
        case word if word == LEAKS:
            return f"{read}, and {first}: it leaks, and no way of adding updates up is in its way."
        case word if word == TOO_FEW:
            return f"{read}: {TOO_FEW}."
        case word if word == MISSED:
            return f"{read}: {MISSED}, which says nothing of other attacks."
    return f"{read}, but {first}, too: this says nothing of what was trained on."
