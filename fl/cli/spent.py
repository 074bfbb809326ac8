"""What a run says of its noise, and the record of what that has spent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fl.cli.output import Output
from fl.cli.report import reckoned
from fl.config.run import RunConfig
from fl.page.state import SPENT
from fl.privacy.spending import AGAINST, Spending, against
from fl.training.checkpoint import Checkpoint
from secagg.errors import counted

if TYPE_CHECKING:
    from fl.federation.server import Server


def spending_of(config: RunConfig, folder: Path, resume: Checkpoint | None) -> Spending | None:
    """What the run in `folder` has spent, on record there. Raises: ConfigError where that is not known."""
    if config.privacy.mechanism == "none":
        return None
    return Spending.on_record(folder / SPENT, config.privacy.delta, resume.round if resume else 0)


ADDS = {
    "local": "each client adds {kind} noise to its update",
    "distributed": "each client adds its share of {kind} noise, of which {honest} together are enough",
    "central": "the server adds {kind} noise to the mean",
    "example": "each client adds {kind} noise in every step",
}


def tell_noise(out: Output, server: Server) -> None:
    """Say before the first round what noise there will be."""
    privacy, noising = server.config.privacy, server.noising
    if server.config.protection.blank:
        tell_blanks(out, server)
    if privacy.mechanism == "none":
        return
    first, last = noising.multipliers[0], noising.multipliers[-1]
    goes = "" if first == last else f" at first, {last:.4g} x at last ({privacy.noise_schedule})"
    found = (
        "" if privacy.epsilon is None else f"; found for epsilon {reckoned(privacy.epsilon)} in all rounds"
    )
    who = ADDS[privacy.mechanism].format(kind=privacy.kind, honest=noising.honest)
    of = "the largest norm there is, at most " if privacy.sensitivity == "l2-max" else ""
    clip = f"{of}the clip of {privacy.clip:g}{', which adapts' if privacy.adaptive_clip else ''}"
    out.say(f"{who}: its deviation is {first:.4g} x {clip}{goes}{found}")
    if privacy.kind == "laplace":
        length = len(server.model.parameters)
        out.say(
            f"Laplace noise is reckoned by the L1 norm, which is up to sqrt({length}) x the clip: "
            f"{math.sqrt(length) * (privacy.clip or 0.0):.4g}"
        )
    if noising.why_none:
        out.say(f"no epsilon: {noising.why_none}")
    else:
        out.say(f"epsilon is at delta {privacy.delta:g}, and {holds(server.config, noising.honest)}")
    out.record({"multipliers": noising.multipliers, "no_epsilon": noising.why_none or None})


def tell_blanks(out: Output, server: Server) -> None:
    """Say what coins do, and what hides how they fall."""
    config, noising = server.config, server.noising
    out.say(
        f"a client contributes nothing with a probability of {config.protection.blank:g}, in each round by a "
        "coin that nobody else sees"
    )
    if config.privacy.mechanism == "none":
        out.say("who took part is not hidden by noise: the sums may tell how many did")
        return
    of_a_coin = noising.of_a_coin
    out.say(
        f"whether it took part in a round is hidden from {AGAINST[config.privacy.mechanism]} up to epsilon "
        f"{reckoned(of_a_coin)} at delta {config.privacy.delta:g}, that of the round without coins"
    )
    out.record({"of_a_coin": of_a_coin})


def holds(config: RunConfig, honest: int | None) -> str:
    """Against whom an epsilon is one, and what that takes. honest: clients of each sum; None: whoever is."""
    many = f", if {counted(honest, 'client')} of each sum are honest" if honest else ""
    return f"holds against {against(config)}{many}"


def tell_spending(out: Output, server: Server, records: Sequence[Mapping[str, Any]]) -> None:
    """Say at the end what the rounds have spent, and why there are no more."""
    if server.stopped:
        out.say(server.stopped)
    last = records[-1] if records else {}
    if last.get("epsilon") is None:
        return
    begun = len(server.noising.spending.charges)
    unfinished = f", {begun - len(records)} of them not finished" if begun > len(records) else ""
    # Not the last record's: a round that was begun after it has left none.
    epsilon = server.noising.spent
    spent = f"epsilon {reckoned(epsilon)} at delta {last['delta']:g}"
    whom = holds(server.config, last["honest"])
    out.say(f"{spent} for {counted(begun, 'round')}{unfinished}: {whom}")
    promised = epsilon
    if server.config.training.until_accuracy is not None and len(records) < server.config.training.rounds:
        promised = server.noising.promised(len(records))
        out.say(
            f"that it ended here followed from what it had learned: promised is no less than epsilon "
            f"{reckoned(promised)}, of all {server.config.training.rounds} rounds"
        )
    if last["honest"] is not None:
        tell_surplus(out, last["honest"], records)
    rest = {name: last[name] for name in ("delta", "against", "honest")}
    out.record({"spent": {"epsilon": epsilon, "promised": promised} | rest})


def tell_surplus(out: Output, honest: int, records: Sequence[Mapping[str, Any]]) -> None:
    """Say by how much more noise than was counted the sums carried, of a group on average, for more clients
    than are sure to have added theirs; and how many coordinates have left the ring.
    """
    there = [record["alive"] / record["sums"] for record in records if record["alive"]]
    if there:
        low, high = (math.sqrt(number / honest) for number in (min(there), max(there)))
        times = f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"
        out.say(f"the sums carried up to {times} times the noise that is counted, if all added their shares")
    wraps = sum(record["wraps"] or 0.0 for record in records)
    left = f"about {counted(round(wraps), 'coordinate')}" if wraps >= 1 else "less than one coordinate"
    out.say(f"{left} of all sums left the ring, by what is seen of them")
