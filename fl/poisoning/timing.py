"""When attackers attack, and how often they are there to be asked (Tolpegin et al., Data Poisoning Attacks
Against Federated Learning Systems, ESORICS 2020, sections 4.2 and 4.3; Wei et al., figure 9).
"""

from __future__ import annotations

import re
from collections.abc import Collection

import numpy as np


def windows(text: str) -> tuple[range, ...]:
    """The rounds that a text such as "40:60,80" names: 40 to 60, both of them too, and 80. None of "".

    Raises: ValueError for any other text, and for a window that ends before it begins.
    """
    window = re.compile(r" *(\d{1,6})(?: *: *(\d{1,6}))? *", re.ASCII)
    parts = [window.fullmatch(part) for part in text.split(",") if text]
    found = [range(int(part[1]), int(part[2] or part[1]) + 1) for part in parts if part]
    if len(found) < len(parts) or not all(rounds and rounds[0] for rounds in found):
        raise ValueError(f"{text!r} names no rounds: say from which to which, such as 40:60 or 1:20,40:60")
    return tuple(found)


def attacks(text: str, round: int) -> bool:
    """Whether a round, from 1, is within one of the windows that the text names; with none every one is."""
    return not text or any(round in rounds for rounds in windows(text))


def there(
    clients: int,
    attackers: Collection[int],
    places: int,
    availability: float,
    rng: np.random.Generator,
) -> tuple[int, ...]:
    """Which clients of 0..clients-1 are there for the places of a round, ascending: each place goes to an
    attacker with this probability, as long as there are any left, and else to one of the others.

    places: at most `clients`. availability: in [0, 1], alpha.
    """
    ours = rng.permutation(sorted(attackers)).tolist()
    others = rng.permutation(sorted(set(range(clients)) - set(attackers))).tolist()
    taken = []
    for place in (rng.random(places) < availability).tolist():
        taken.append((ours if (place and ours) or not others else others).pop())
    return tuple(sorted(taken))
