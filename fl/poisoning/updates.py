"""Attacks on updates: what malicious clients send in place of what they trained.

All is said of changes, w_k - w of a client's model w_k and the received w, whatever a run sends: `own` are
those that the attackers trained honestly, and `honest` all that they know of, on whose mean mu and deviation
sigma (of the population, coordinate by coordinate) the attacks of colluders stand. A formula of a paper that
speaks of gradients is taken of changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]  # (A, d): one a row


@dataclass(frozen=True)
class Known:
    """What the attackers of a round know together.

    round: from 1. model: (d,) float64, as received. own: (A, d) float64, what each of them has trained, as an
    honest client would, A >= 1. others: (H, d) float64, what the honest clients of the round have trained,
    which only the omniscient know; else None. clients: of the round, attackers too. among: how many attackers
    are among them, where `own` is not of all; 0 where it is.
    """

    round: int
    model: NDArray[np.float64] = field(repr=False)
    own: Vectors = field(repr=False)
    others: Vectors | None = field(repr=False)
    clients: int
    among: int = 0

    @property
    def attackers(self) -> int:
        return self.among or len(self.own)

    @property
    def honest(self) -> Vectors:
        """All honestly trained changes that they know: (A + H, d)."""
        return self.own if self.others is None else np.concatenate([self.own, self.others])


Forge = Callable[[Known, float | None, np.random.Generator], Vectors]
"""(what they know, level, randomness that they share) -> (A, d), what each sends in place of its own. level:
how much of it, in whatever each measures it; None: as `LEVELS` says."""


def opposite(known: Known, level: float | None, rng: np.random.Generator) -> Vectors:
    """The uploaded parameters with the opposite sign, -level (w + change): the whole model's, not the
    change's.

    Needs: its own update.

    Source: Ma et al., On Safeguarding Privacy and Security in the Framework of Federated Learning, section
    III-B and figure 4.
    """
    return -_or(level, "opposite") * (known.model + known.own) - known.model


def uniform(known: Known, level: float | None, rng: np.random.Generator) -> Vectors:
    """Random numbers in place of the uploaded parameters, U[-level, level] each, drawn for each attacker.

    Needs: nothing, not even an update of its own.

    Source: Ma et al., On Safeguarding Privacy and Security in the Framework of Federated Learning, section
    III-B and figure 4, with level 1.
    """
    most = _or(level, "uniform")
    return rng.uniform(-most, most, known.own.shape) - known.model


def sign_flip(known: Known, level: float | None, rng: np.random.Generator) -> Vectors:
    """The change with the opposite sign, -level change.

    Needs: its own update.

    Source: Li et al., RSA: Byzantine-Robust Stochastic Aggregation Methods, AAAI 2019, the
    "sign-flipping attack", with a level of its own there.
    """
    return -_or(level, "sign-flip") * known.own


def scale(known: Known, level: float | None, rng: np.random.Generator) -> Vectors:
    """The change, level times.

    Needs: its own update.

    Source: Bhagoji et al., Analyzing Federated Learning through an Adversarial Lens, ICML 2019,
    "explicit boosting".
    """
    return _or(level, "scale") * known.own


def replacement(known: Known, level: float | None, rng: np.random.Generator) -> Vectors:
    """The change, level n/A times, of n clients and A attackers: where all count alike and the others stay
    where they were, the mean of all is that of the attackers. level: 1 / eta of the server's step.

    Needs: its own update, and how many clients and attackers there are in a round.

    Source: Bagdasaryan et al., How To Backdoor Federated Learning, AISTATS 2020, "model replacement",
    gamma (X - G) + G with gamma = n / eta, which the attackers share.
    """
    return _or(level, "replacement") * known.clients / known.attackers * known.own


def inner_product(known: Known, level: float | None, rng: np.random.Generator) -> Vectors:
    """All send -level mu: small levels stay near the others, and turn the mean of all where attackers are
    many.

    Needs: the attackers' updates.

    Source: Xie, Koyejo and Gupta, Fall of Empires: Breaking Byzantine-tolerant SGD by Inner Product
    Manipulation, UAI 2019; the level is its epsilon.
    """
    return _all(known, -_or(level, "inner-product") * known.honest.mean(axis=0))


def little(known: Known, level: float | None, rng: np.random.Generator) -> Vectors:
    """A little is enough: all send mu - z sigma, as far away as some of the honest are. z follows from the
    numbers of clients and attackers (`z_max`), or is the level.

    Needs: the attackers' updates, and how many clients and attackers there are in a round.

    Source: Baruch, Baruch and Goldberg, A Little Is Enough: Circumventing Defenses For Distributed Learning,
    NeurIPS 2019, the attack that prevents convergence.
    """
    z = z_max(known.clients, known.attackers) if level is None else level
    return _all(known, known.honest.mean(axis=0) - z * known.honest.std(axis=0))


def z_max(clients: int, attackers: int) -> float:
    """The largest z with phi(z) < (n - m - s) / (n - m), s = floor(n/2 + 1) - m: so many of the honest, with
    whom the m attackers are a majority, are expected to be further out (Baruch et al. 2019).

    Where it would be negative, 0: less than half of the honest have to be on their side. Attackers who are a
    majority need nobody, and are held to s = 1, or z would have no end.
    """
    honest = clients - attackers
    if honest < 1:
        return 0.0
    supporters = max(1, clients // 2 + 1 - attackers)
    share = (honest - supporters) / honest
    return NormalDist().inv_cdf(share) if share > 0.5 else 0.0


def min_max(known: Known, level: float | None, rng: np.random.Generator) -> Vectors:
    """All send mu - gamma sigma, with the largest gamma by which it is no further from any honest change than
    two of these are from each other at most. level: the share of this gamma.

    Needs: the attackers' updates, two at least: the spread of a single one is 0, and it is sent as it is.

    Source: Shejwalkar and Houmansadr, Manipulating the Byzantine, NDSS 2021, the min-max attack, with the
    inverse standard deviation for a perturbation; gamma, which is searched for there, is the root of a
    quadratic.
    """
    honest = known.honest
    mean, away = honest.mean(axis=0), honest.std(axis=0)
    # |mu - gamma sigma - x_i|^2 <= D^2 for every i: a gamma^2 - 2 b_i gamma + c_i <= 0 with c_i <= 0.
    a, b = away @ away, (mean - honest) @ away
    c = np.square(mean - honest).sum(axis=1) - _squared_distances(honest).max()
    gamma = ((b + np.sqrt(np.maximum(b * b - a * c, 0))) / a).min() if a > 0 else 0.0
    return _all(known, mean - _or(level, "min-max") * gamma * away)


def min_sum(known: Known, level: float | None, rng: np.random.Generator) -> Vectors:
    """All send mu - gamma sigma, with the largest gamma by which its squared distances from the honest
    changes add up to what those of one of these from the others do at most. level: the share of this gamma.

    Needs: the attackers' updates, two at least: the spread of a single one is 0, and it is sent as it is.

    Source: Shejwalkar and Houmansadr, Manipulating the Byzantine, NDSS 2021, the min-sum attack, with the
    inverse standard deviation for a perturbation; gamma, which is searched for there, has a closed form.
    """
    honest = known.honest
    mean, away = honest.mean(axis=0), honest.std(axis=0)
    # The distances of mu - gamma sigma add up to those of mu and n gamma^2 |sigma|^2.
    room = _squared_distances(honest).sum(axis=1).max() - np.square(mean - honest).sum()
    a = len(honest) * (away @ away)
    gamma = np.sqrt(max(room, 0.0) / a) if a > 0 else 0.0
    return _all(known, mean - _or(level, "min-sum") * gamma * away)


def mimic(known: Known, level: float | None, rng: np.random.Generator) -> Vectors:
    """All send what one honest client does, which then counts for many: the level-th, from 0, of those that
    they know, the last where there are fewer. There is no warm-up to find the one that is furthest out.

    Needs: everybody's updates; without them all follow one of the attackers, honestly trained.

    Source: Karimireddy, He and Jaggi, Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing, ICLR
    2022, the mimic attack.
    """
    followed = known.own if known.others is None or not len(known.others) else known.others
    return _all(known, followed[min(int(_or(level, "mimic")), len(followed) - 1)])


def _or(level: float | None, name: str) -> float:
    return LEVELS[name] if level is None else level


def _all(known: Known, change: NDArray[np.float64]) -> Vectors:
    return np.tile(change, (len(known.own), 1))


def _squared_distances(points: Vectors) -> Vectors:
    """Of each from each, (n, n)."""
    # Of what is left without their mean: far from the origin the products would lose the differences.
    centred = points - points.mean(axis=0)
    squares = np.square(centred).sum(axis=1)
    apart: Vectors = np.maximum(squares[:, None] + squares - 2 * centred @ centred.T, 0)
    return apart


UPDATES: Final[Mapping[str, Forge]] = {
    "opposite": opposite,
    "uniform": uniform,
    "sign-flip": sign_flip,
    "scale": scale,
    "replacement": replacement,
    "inner-product": inner_product,
    "little": little,
    "min-max": min_max,
    "min-sum": min_sum,
    "mimic": mimic,
}

COLLUDING: Final = frozenset({"inner-product", "little", "min-max", "min-sum", "mimic"})
"""Those that look at what the accomplices have trained, and at what everybody has where they can."""

LEVELS: Final[Mapping[str, float]] = {
    "opposite": 1.0,
    "uniform": 1.0,
    "sign-flip": 1.0,
    "scale": 10.0,
    "replacement": 1.0,
    "inner-product": 0.5,
    "min-max": 1.0,
    "min-sum": 1.0,
    "mimic": 0.0,
}
"""The level of each, where none is given; that of `little` follows from the round."""
