"""What the rounds of a run have told by the noise they carry: what each releases, a record of those that were
begun, and the epsilon of all of them together.

Every round is charged to every client, as if each were in all of them: whom the epsilon holds against is
taken to know who was. So a sample of the clients makes it no smaller. Of groups it is charged one sum, that
of its own: what the others' sums tell of it is nothing.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
from msgspec import UNSET

from fl.config.plan import LocalPlan
from fl.config.privacy import Mechanism, Perturbation
from fl.config.run import RunConfig
from fl.config.section import ConfigError
from fl.privacy.accounting import epsilon
from fl.privacy.exposure import Exposure, exposure
from fl.privacy.mechanisms import Level, update_and_count
from fl.privacy.releases import DiscreteGaussians, Gaussian, InRing, Laplace, Release, Sampled, Skellam
from secagg import Masking, Scheme
from secagg.graph import SIGMA
from secagg.masking import groups
from secagg.private import Calibration

AGAINST: Final[dict[Mechanism, str]] = {
    "local": "everybody",
    "distributed": "the server and the corrupt clients",
    "central": "who sees the model, not the server",
    "example": "who sees what a client sends, for each of its examples",
}
"""Whom the epsilon of a mechanism holds against."""


def against(config: RunConfig) -> str:
    """Whom the epsilon of this run holds against. All relays together have every vector by itself, under one
    share of noise.
    """
    whom = AGAINST[config.privacy.mechanism]
    if config.privacy.mechanism == "distributed" and config.protection.scheme == "split":
        whom = f"{whom}, and all relays but one"
    return f"{whom}, who do not learn who took part" if config.protection.blank else whom


def why_none(config: RunConfig) -> str:
    """Why there is no epsilon, though noise is added; "" where there is one."""
    if config.privacy.mechanism == "none":
        return ""
    if not config.privacy.has_epsilon:
        return "the noise depends on the data"
    if config.privacy.mechanism == "distributed" and config.protection.unsafe_groups:
        return "of unsafe groups no honest client is sure to be left, whose noise would be in a group's sum"
    if config.privacy.mechanism != "example":
        return ""
    if config.training.balance != "none":
        # One example less in a class, and every other in it weighs more: no clip bounds that.
        return "balance: what an example weighs follows from how many others are in its class"
    if exposure(config.training.plan, config.data.examples_per_client) is None:
        return (
            "how often an example is taken follows from how many a client holds: say examples_per_client, "
            "where they are dealt here; over a network a client with a budget counts for itself"
        )
    return ""


def real_releases(config: RunConfig, level: Level, length: int) -> tuple[Release, ...]:
    """What a round at this level tells, where noise is in the real numbers. length: d of the model."""
    privacy = config.privacy
    if privacy.mechanism == "example":
        taken = exposure(config.training.plan, config.data.examples_per_client)
        assert taken is not None  # noqa: S101 - `why_none` is asked before
        return (_release(privacy.kind, level.multiplier, length, taken),)
    update, count = update_and_count(privacy, level, config.cohort.per_round)
    of_update = _release(privacy.kind, update, length)
    return (of_update, _release(privacy.kind, count, 1)) if privacy.adaptive_clip else (of_update,)


def own_releases(
    asked: Perturbation | None, plan: LocalPlan, length: int, examples: int
) -> tuple[Release, ...]:
    """What a client's update tells by the noise that a task has the client add itself; empty where nothing
    bounds it. length: d of the model. examples: that the client holds.
    """
    if asked is None or asked.mechanism == "none" or asked.sensitivity != "clip" or asked.largest < 1:
        return ()
    if asked.mechanism == "local":
        return (_release(asked.noise, asked.multiplier, length),)
    if plan.balance != "none":  # as in `why_none`; and samples, which it has follow the classes, hide less
        return ()
    # Of their number the three leading bits: the server, which sees when a client's budget is at its end,
    # learns no more of it. Whatever the others are, it is in as many sums at most, and as rarely.
    rest = 1 << max(0, examples.bit_length() - 3)
    least, most = (
        exposure(plan, number) for number in (examples // rest * rest, (examples // rest + 1) * rest)
    )
    if least is None or most is None:
        return ()
    taken = Exposure(least.rate, max(least.steps, most.steps))
    return (_release(asked.noise, asked.multiplier, length, taken),)


def failure(sessions: Scheme) -> float:
    """The chance with which one of these sessions, on a sparse graph or cut into groups, is not what it is
    taken for: see `explain`.
    """
    if not isinstance(sessions, Masking):
        return 0.0
    tries = 80 if sessions.adversary == "active" else 0
    of_graph = 0.0 if sessions.complete else 2.0 ** -(SIGMA[sessions.adversary] - tries)
    return of_graph + (0.0 if sessions.groups is UNSET else 2.0 ** -(groups.CUT_SIGMA - tries))


def comes_apart(sessions: Masking) -> bool:
    """Whether an active server that picks who is lost can cut a client off with some of its neighbours: they
    are a sum of their own then, with fewer shares of noise than are counted. A ring joined to the k nearest
    comes apart for k that are missing, or on the server's side, and no fewer.
    """
    if sessions.groups is not UNSET:  # in a group all masks are shared with all
        return False
    gone = sessions.clients - sessions.m_min + sessions.corrupt
    return not sessions.complete and sessions.adversary == "active" and gone >= sessions.degree


def discrete_release(vector: Calibration, margin: float = 0.0, shares: int | None = None) -> InRing:
    """What a private vector's sum tells, with the noise of those alone who surely survive and are honest.
    margin: by which share norms are taken for larger, and the noise for less. shares: of so many instead.
    """
    shares = vector.honest if shares is None else shares
    l2_squared, l1 = vector.l2_squared * (1 + margin), vector.l1 * (1 + margin)
    if margin:  # and by one step: the bound is a whole number, and what is just below the next may pass it
        l2_squared += 1
        l1 = min(math.sqrt(vector.spec.length * l2_squared), l2_squared)
    variance = vector.variance * (1 - margin)
    if vector.spec.noise == "skellam":  # whose shares add up to one of the same kind
        return Skellam(l2_squared, l1, variance * shares)
    return DiscreteGaussians(l2_squared, l1, vector.spec.length, variance, shares)


def in_session(releases: Iterable[InRing], blank: float) -> tuple[Release, ...]:
    """What the private vectors of one session tell, in which a client contributes nothing with this
    probability.
    """
    together = tuple(releases)
    return (Sampled(together, 1 - blank),) if blank and together else together


def _release(kind: str, multiplier: float, length: int, taken: Exposure = Exposure(1.0, 1)) -> Release:  # noqa: B008
    """Laplace noise of the same power has the scale z C / sqrt(2) in each coordinate; a vector of norm C has
    the L1 norm sqrt(d) C at most.
    """
    if kind == "laplace":
        return Laplace(multiplier / math.sqrt(2 * length), taken.steps)  # as if it were in all of them
    return Gaussian(multiplier, taken.rate, taken.steps)


@dataclass(frozen=True)
class Charge:
    """A round that was begun, and what it tells at most: everything that it asks for."""

    round: int
    releases: tuple[Release, ...]

    def line(self) -> bytes:
        releases = list(map(_named, self.releases))
        return msgspec.json.encode({"round": self.round, "releases": releases}) + b"\n"

    @classmethod
    def of(cls, line: bytes) -> Charge:
        """Raises: ConfigError for a line that is none."""
        try:
            said: dict[str, Any] = msgspec.json.decode(line)
            return cls(int(said["round"]), tuple(map(_made, said["releases"])))
        except (msgspec.MsgspecError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(
                f"what the run has spent is damaged on record ({error!r}): begin it anew, with --force"
            ) from error


_KINDS: Final = {kind.__name__: kind for kind in get_args(Release)}


def _named(release: Release) -> dict[str, Any]:
    said: dict[str, Any] = {"kind": type(release).__name__, **msgspec.to_builtins(release)}
    if isinstance(release, Sampled):
        said["releases"] = list(map(_named, release.releases))
    return said


def _made(said: dict[str, Any]) -> Release:
    if "releases" in said:
        said["releases"] = tuple(map(_made, said["releases"]))
    made: Release = _KINDS[said.pop("kind")](**said)
    return made


def _append(path: Path, charge: Charge) -> None:
    with path.open("ab") as file:
        file.write(charge.line())
        file.flush()
        os.fsync(file.fileno())


class Spending:
    """Of one run. delta: of every epsilon. charges: of the rounds begun before, whether they came to an end
    or not. keep: puts a charge on record, durably, before anything of its round leaves.
    """

    def __init__(
        self,
        delta: float,
        charges: Iterable[Charge] = (),
        keep: Callable[[Charge], None] = lambda charge: None,
    ) -> None:
        self.delta, self._charges, self._keep = delta, list(charges), keep

    @classmethod
    def on_record(cls, path: Path, delta: float, done: int) -> Spending:
        """Of the run whose record is at `path`, a line a round that was begun; of a run that begins, the
        record is begun. done: rounds that came to an end before.

        Raises: ConfigError where the record is damaged, or rounds are missing in it.
        """
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        charges = [Charge.of(line) for line in whole.splitlines()]
        if missing := sorted(set(range(1, done + 1)) - {charge.round for charge in charges}):
            raise ConfigError(
                f"{path} does not have round {missing[0]}: what the run has spent is not known: begin it "
                "anew, with --force"
            )
        # A line that was cut off was not yet on record, and its round had not begun.
        with path.open("r+b" if content else "wb") as file:
            file.truncate(len(whole))
        return cls(delta, charges, partial(_append, path))

    @property
    def charges(self) -> Sequence[Charge]:
        return tuple(self._charges)

    def charge(self, round: int, releases: Iterable[Release]) -> None:
        """Before the task of the round leaves: what was asked for may have been answered, whatever comes
        between. Raises: OSError where it cannot be kept.
        """
        charge = Charge(round, tuple(releases))
        self._keep(charge)
        self._charges.append(charge)

    def epsilon(self, more: Iterable[Release] = (), failure: float = 0.0) -> float:
        """Of all that was charged, and of `more`. failure: the chance with which each round's noise is none,
        taken off the delta.
        """
        further = tuple(more)
        rounds = len(self._charges) + bool(further)
        releases = [each for charge in self._charges for each in charge.releases]
        delta = self.delta - rounds * failure
        return epsilon([*releases, *further], delta) if delta > 0 else math.inf
