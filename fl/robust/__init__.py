"""What the server makes of what a round tells: rules that combine updates, or sums of them.

A rule sees what its scheme lets the server see (`Points`), beside it what the server has of its own (`Bench`)
and what it kept from the rounds before (`Memory`).
"""

from __future__ import annotations

from fl.robust.points import Bench, Memory, Points, Rule, Verdict

__all__ = ["Bench", "Memory", "Points", "Rule", "Verdict"]
