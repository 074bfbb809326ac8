"""Whom the rule of a run left out, and how often; where it is known who attacked, how right that was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fl.cli.output import Output
from fl.cli.rounds import progress_of
from fl.training.checkpoint import read_checkpoint
from secagg.errors import ClientId, counted

SHOWN = 5  # clients, of those that were left out most often

Attackers = Callable[[int], Collection[ClientId]]
"""Who attacks in a round: for the referee to tell, and nobody whom the server asks."""


@dataclass
class Tally:
    """Of some updates. came: how many; left_out: how many of these the rule did not take. By client."""

    came: Counter[ClientId] = field(default_factory=Counter)
    left_out: Counter[ClientId] = field(default_factory=Counter)

    def add(self, clients: Iterable[ClientId], left_out: Collection[ClientId]) -> None:
        for u in clients:
            self.came[u] += 1
            self.left_out[u] += u in left_out

    @property
    def share(self) -> float:
        """Of the updates that were left out; 0 of none."""
        return self.left_out.total() / max(self.came.total(), 1)

    def fields(self) -> dict[str, Any]:
        return {"clients": len(self.came), "updates": self.came.total(), "left_out": self.left_out.total()}


def tell(out: Output, folder: Path, attackers: Attackers | None = None) -> None:
    """What the run in this folder left out; attackers: None where there are none, or nobody can tell.

    Raises: ConfigError for a checkpoint that is not readable.
    """
    progress = progress_of(read_checkpoint(folder))
    everybody, bad, good = Tally(), Tally(), Tally()
    for record, sets in zip(progress.records, progress.survivors, strict=True):
        left_out = set(record["left_out"] or ())
        # Of groups it is known who was in the sums of a round that was abandoned, too.
        took_part = left_out or not record.get("abandoned")
        clients = {u for some in sets for u in some} if took_part else set()
        attacking = clients & set(attackers(record["round"]) if attackers else ())
        everybody.add(clients, left_out)
        bad.add(attacking, left_out)
        good.add(clients - attacking, left_out)
    told: dict[str, Any] = everybody.fields() | {
        "of_each": {u: [everybody.left_out[u], came] for u, came in sorted(everybody.came.items())}
    }
    rows = {"all": everybody}
    if attackers is not None:
        rows = {"attackers": bad, "honest": good}
        told |= {name: tally.fields() for name, tally in rows.items()} | judged(bad, everybody)
    out.table(
        [
            (
                name,
                str(len(tally.came)),
                str(tally.came.total()),
                f"{tally.left_out.total()}",
                f"{tally.share:.1%}",
            )
            for name, tally in rows.items()
        ],
        ("who", "clients", "updates", "left out", "share"),
        "left out",
    )
    for line in lines(everybody, told):
        out.say(line)
    out.record({"left_out": told})


def judged(bad: Tally, everybody: Tally) -> dict[str, float | None]:
    """precision: share of what was left out that was an attacker's, None of nothing; chance: that of a rule
    that leaves out any; recall: share of the attackers' updates that was left out, None without any.
    """
    left_out, attacks = everybody.left_out.total(), bad.came.total()
    return {
        "precision": bad.left_out.total() / left_out if left_out else None,
        "chance": attacks / max(everybody.came.total(), 1),
        "recall": bad.left_out.total() / attacks if attacks else None,
    }


def lines(everybody: Tally, told: dict[str, Any]) -> Sequence[str]:
    """What the table does not say."""
    if not everybody.left_out.total():
        return ["no update was left out as a whole"]
    often = [(u, times) for u, times in everybody.left_out.most_common(SHOWN) if times]
    whom = ", ".join(f"client {u} in {times} of {counted(everybody.came[u], 'round')}" for u, times in often)
    found = [f"left out most often: {whom}"]
    if "recall" in told and told["recall"] is not None:
        found.append(
            f"precision: {told['precision']:.1%} of what was left out was an attacker's "
            f"({told['chance']:.1%} by chance); recall: {told['recall']:.1%} of what attackers sent was left "
            "out"
        )
    return found
