"""What there is to show of one run, under way or ended: no key, mask, share or vector, and no path. A run's
folder is read here as `secagg train` and `secagg serve` leave it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import msgspec

from fl.config.run import RunConfig
from fl.config.section import ConfigError
from fl.marks import marked
from secagg.errors import counted
from secagg.ledger import Ledger, LedgerReport

CONFIG, METRICS, SPENT = "config.json", "metrics.jsonl", "privacy.jsonl"
LEDGER, METER, PLOT = "ledger.json", "meter.json", "accuracy.png"
ASKED = "asked.jsonl"
PICTURES = (PLOT, "partition.png", "meter.png", "classes.png", "clients.png")

ALWAYS = ("dataset", "model", "clients", "rounds", "algorithm", "scheme", "privacy", "robust", "seed")
NEVER = ("data_dir", "drop")  # a path of this machine; and what happened is in the rounds
"""Settings that a page says whatever they are, and those that it never says. Of the others those that are not
as they are by default.
"""

CELLS = 50_000
"""Sums x clients of a ledger that is reckoned while the run goes on: 0.05 s, measured."""

Count = Annotated[int, msgspec.Meta(ge=0)]
Clients = tuple[Count, ...]
Structure = TypeVar("Structure")


class TrainingRound(msgspec.Struct, frozen=True, kw_only=True):
    """A line of metrics.jsonl: what the fields are is said at `fl.federation.records.RoundRecord`."""

    round: Annotated[int, msgspec.Meta(ge=1)]
    accuracy: float | None
    loss: float | None
    validation: float | None
    bytes_up: Count
    bytes_down: Count
    chosen: Count
    alive: Count
    sums: Count
    sums_asked: Count
    seconds: float
    abandoned: str
    train_loss: float | None = None
    train_accuracy: float | None = None
    epsilon: float | None = None
    delta: float | None = None
    against: str | None = None
    honest: int | None = None
    no_epsilon: str | None = None
    relay_bytes_up: int | None = None
    relay_bytes_down: int | None = None
    left_out: Clients | None = None
    too_long: tuple[Clients, ...] | None = None
    unsafe_groups: bool = False
    excluded: Clients = ()


class ProtocolRound(msgspec.Struct, frozen=True, kw_only=True):
    """A closed round of a session, as `fl.cli.report.round_fields` says it. lost, relays_lost: who, and why.
    unopened: (holder, dealer) of shares that could not be used. wire_up, wire_down: bytes of all frames.
    """

    round: str
    alive: Clients
    lost: dict[str, str]
    bytes_up: Count
    bytes_down: Count
    milliseconds: float
    wire_up: Count = 0
    wire_down: Count = 0
    unopened: tuple[tuple[int, int], ...] = ()
    relays: Clients = ()
    relays_lost: dict[str, str] = {}
    relays_unopened: tuple[tuple[int, int], ...] = ()
    relay_bytes_up: Count = 0
    relay_bytes_down: Count = 0


class OpenRound(msgspec.Struct, frozen=True, kw_only=True):
    """The round of a session that is open now; of a training in one process, of whose rounds nobody sees
    more, "training". answered, awaited: clients, apart. done, total: how many have answered, of how many;
    relays are among them.
    """

    round: str
    done: Count
    total: Count
    answered: Clients = ()
    awaited: Clients = ()


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """A client, or a relay, that was lost in a round of a session. training_round: None of a single sum."""

    who: str
    round: str
    why: str
    training_round: int | None = None


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """Whose vectors are in each sum that a run has opened, while they are few. apart, weighed: as of its
    ledger. many: too many to be kept and reckoned while the run goes on. unsafe_groups: whether they may be
    of such.
    """

    sets: tuple[frozenset[int], ...] = ()
    apart: int = 2
    weighed: bool = True
    many: bool = False
    unsafe_groups: bool = False

    def and_of(self, survivors: frozenset[int]) -> Sums:
        """With one more."""
        many = self.many or (len(self.sets) + 1) * len(survivors) > CELLS
        sets = () if many else (*self.sets, survivors)
        return msgspec.structs.replace(self, sets=sets, many=many)

    def told(self) -> Told | None:
        """What they reveal together; None where there are none, or many."""
        if not self.sets:
            return None
        ledger = Ledger()
        for survivors in self.sets:
            ledger.record(survivors)
        return self.said(ledger.report(apart=self.apart))

    def said(self, report: LedgerReport) -> Told:
        """What a ledger has reported of them."""
        return Told(report, self.weighed, self.unsafe_groups)


class Told(msgspec.Struct, frozen=True):
    """ledger.json: what the sums of a run reveal together to its server alone. weighed: whether weights were
    summed beside the updates. unsafe_groups: whether the sums may be of such.
    """

    report: LedgerReport
    weighed: bool = True
    unsafe_groups: bool = False

    @property
    def lines(self) -> list[str]:
        """For people."""
        return [marked(line, self.unsafe_groups) for line in self.report.lines(weighed=self.weighed)]


class Tried(msgspec.Struct, frozen=True):
    """What one attack of a meter came to, in words. beside: what came out, beside what anybody hits."""

    attack: str
    read: str
    beside: str
    of_whom: str
    verdict: str
    sentence: str


class Meter(msgspec.Struct, frozen=True):
    """meter.json: what came out of the server's own record of a run. why: nothing was attacked."""

    scheme: str
    attacks: tuple[Tried, ...]
    not_tried: dict[str, str]
    sentence: str
    why: str = ""


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """One run, or one sum, at a moment.

    name: of its folder. title: what it is, in words. unsafe_groups: whether it is with such. settings: (name,
    value) as the page says them. rounds: of the training, in order, from the first on. total: how many there
    are to be; None of a single sum. protocol: the closed rounds of the session under way, or of the last one;
    none of a folder, which does not keep them. open: the round under way. lost: who was, in the order of the
    losses, as far as it was seen. epsilon, delta, against, honest, no_epsilon: of the last round in `rounds`,
    as there. unfinished: rounds that were begun and are not in `epsilon`: noise was spent on each. ledger:
    None where the server has opened no sum, or nothing is kept of them. pictures: files of the folder.
    status: "unfinished" is all that a folder tells of a run that has rounds to go: it is under way, or was
    stopped. why: it has ended, in words.
    """

    name: str
    title: str
    unsafe_groups: bool = False
    settings: tuple[tuple[str, str], ...] = ()
    rounds: tuple[TrainingRound, ...] = ()
    total: int | None = None
    protocol: tuple[ProtocolRound, ...] = ()
    open: OpenRound | None = None
    lost: tuple[Lost, ...] = ()
    epsilon: float | None = None
    delta: float | None = None
    against: str | None = None
    honest: int | None = None
    no_epsilon: str | None = None
    unfinished: Count = 0
    ledger: Told | None = None
    meter: Meter | None = None
    pictures: tuple[Path, ...] = ()
    status: Literal["running", "ended", "unfinished"] = "running"
    why: str = ""

    @classmethod
    def of_config(cls, config: RunConfig, name: str) -> Self:
        """A training that begins."""
        return cls(
            name=name,
            title=title(config),
            unsafe_groups=config.protection.unsafe_groups,
            settings=settings_of(config),
            total=config.training.rounds,
        )

    @classmethod
    def of_folder(cls, path: Path) -> Self:
        """The run in this folder, as far as it got; a line that is just being written is not there yet.

        Raises: ConfigError for a folder that is no run's, and for a file of it that is damaged.
        """
        if not path.is_dir():
            raise ConfigError(f"{path} is no folder: name one that secagg train or secagg serve has left")
        for name in (CONFIG, METRICS):
            if not (path / name).is_file():
                raise ConfigError(
                    f"{path} holds no run: there is no {name} in it; name a folder that secagg train or "
                    "secagg serve has left"
                )
        config = RunConfig.read(path / CONFIG)
        rounds = _rounds(path / METRICS)
        begun = _text(path / SPENT).count("\n") if (path / SPENT).is_file() else len(rounds)
        over = len(rounds) >= config.training.rounds or (path / PLOT).exists()
        said = counted(len(rounds), "round")
        state = cls.of_config(config, path.resolve().name).after(rounds, begun)
        return msgspec.structs.replace(
            state,
            ledger=_read(path / LEDGER, Told),
            meter=_read(path / METER, Meter),
            pictures=tuple(path / name for name in PICTURES if (path / name).is_file()),
            status="ended" if over else "unfinished",
            why=f"ended after {said}"
            if over
            else f"{said} of {config.training.rounds}: under way, or stopped",
        )

    def after(self, rounds: Sequence[TrainingRound], begun: int = 0) -> Self:
        """The same run once these rounds are there. begun: how many were, of a run that adds noise."""
        last = rounds[-1] if rounds else None
        spent = ("epsilon", "delta", "against", "honest", "no_epsilon")
        return msgspec.structs.replace(
            self,
            rounds=tuple(rounds),
            unfinished=max(0, begun - len(rounds)),
            **{name: getattr(last, name, None) for name in spent},
        )

    @property
    def accuracy(self) -> float | None:
        """On the test set, after the last round that has one."""
        return next((each.accuracy for each in reversed(self.rounds) if each.accuracy is not None), None)


def title(config: RunConfig) -> str:
    """What a run is, in a line."""
    protection = config.protection.title
    if config.privacy.mechanism != "none":
        protection = f"{protection}, {config.privacy.mechanism} noise"
    clients = counted(config.cohort.clients, "client")
    return f"{protection}: {config.subject}, {clients}"


def settings_of(config: RunConfig) -> tuple[tuple[str, str], ...]:
    """(name, value) of what a page says of a run's settings."""
    flat, usual = config.flat(), RunConfig.settings()
    others = [name for name in flat if flat[name] != usual[name].default and name not in ALWAYS]
    return tuple((name, _word(flat[name])) for name in (*ALWAYS, *others) if name not in NEVER)


def _word(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def round_of(record: Mapping[str, Any]) -> TrainingRound:
    """Of a line of metrics.jsonl, decoded. Raises: msgspec.ValidationError."""
    return msgspec.convert(record, TrainingRound)


def _rounds(path: Path) -> list[TrainingRound]:
    whole = _text(path).rpartition("\n")[0]
    rounds = list[TrainingRound]()
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            rounds.append(round_of(json.loads(line)))  # msgspec's own refuses NaN, which a loss may be
        except (msgspec.ValidationError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: line {number} is not a round of a training: {error}") from error
        if rounds[-1].round != number:
            raise ConfigError(
                f"{path}: line {number} is of round {rounds[-1].round}: lines are missing or mixed up"
            )
    return rounds


def _read(path: Path, kind: type[Structure]) -> Structure | None:
    """Raises: ConfigError for a file that is there and is not of the kind."""
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(_text(path), type=kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ConfigError(f"{path} is not what a run leaves there: {error}") from error


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise ConfigError(f"{path}: not readable: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not what a run leaves, from byte {error.start} on: not UTF-8") from error
