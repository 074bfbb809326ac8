"""`secagg serve`: the server of a federation, summing vectors or training a model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import transport
from fl.cli.output import Output
from fl.cli.report import (
    TrainingDisplay,
    draw_accuracy,
    round_fields,
    round_line,
    threat_model,
    training_line,
    warn,
)
from fl.config import CHOICES, ConfigError, RunConfig
from fl.protection import Protection
from secagg import Bounded, Counts, Scheme, Weight
from secagg.encoding import Spec
from secagg.ledger import Ledger
from transport import Cohort, RoundReport

CONFIG, METRICS, PLOT, FIRST_ROUND = "config.json", "metrics.jsonl", "accuracy.png", "after-round-1.npy"
OUTPUTS = (CONFIG, METRICS, PLOT, FIRST_ROUND, "model.safetensors")
OPENED_FROM = ("masked-input", "decrypt")  # the round that has to open before a server could know the sum


def prepare_folder(folder: Path, *, force: bool) -> None:
    """Make the output folder, empty of an earlier run's files.

    force: replace an earlier run's files; others stay.

    Raises: ConfigError if it is a file, or holds anything and `force` is not given.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: choose a folder with --out")
    if folder.exists() and any(folder.iterdir()) and not force:
        raise ConfigError(f"{folder} is not empty: choose another --out, or replace its run with --force")
    folder.mkdir(parents=True, exist_ok=True)
    for name in OUTPUTS:
        (folder / name).unlink(missing_ok=True)


@dataclass(frozen=True)
class Summing:
    """One vector a client, weighted if max_weight is given."""

    length: int
    bound: float
    bits: int
    clip: float | None
    max_weight: int | None

    def vectors(self) -> dict[str, Spec]:
        spec = Bounded(length=self.length, bound=self.bound, bits=self.bits, clip=self.clip)
        vectors: dict[str, Spec] = {"": spec}
        if self.max_weight is not None:
            vectors["weight"] = Weight(maximum=self.max_weight)
        return vectors


def run(
    out: Output,
    config: Path | None,
    summing: Summing,
    *,
    bind: str,
    key: Path,
    roster: Path,
    roster_key: Path | None,
    deadlines: Sequence[str],
    out_path: Path | None,
    flags: Mapping[str, Any],
    force: bool,
) -> None:
    """Serve one sum, or one training. flags: fields of `Protection` that were given."""
    if (config is None) == (summing.length == 0):
        raise ConfigError("give --length to sum vectors, or --config to train a model, and not both")
    seconds = parse_deadlines(deadlines)
    if config is None:
        protection = protection_of(flags)
        result = None if protection.kept else out_path or Path("mean.npy")
        if result is None and out_path is not None:
            raise ConfigError("--out: the clients keep the mean, and the server has none to write")
        if result is not None:
            check_result(result, force=force)
        with transport.serve(bind, key, roster, roster_key) as cohort:
            clients, identities = len(cohort.roster), cohort.roster.identities
            scheme = protection.for_cohort(clients, summing.vectors(), identities)
            warn(out, protection)
            run_sum(out, cohort, scheme, result, seconds)
        return
    if "threshold" in flags:
        raise ConfigError("--threshold is for --length; in training it follows from --corrupt and --dropout")
    folder = out_path or Path("runs/serve")
    description = RunConfig.read(config, **flags)
    protection = description.protection
    with transport.serve(bind, key, roster, roster_key) as cohort:
        # What cannot be is refused before anything is written.
        stand_in = {"": Counts(length=1, maximum=1)}
        protection.for_cohort(len(cohort.roster), stand_in, cohort.roster.identities)
        warn(out, protection)
        prepare_folder(folder, force=force)
        description = msgspec.structs.replace(description, clients=len(cohort.roster), drop=())
        out.say(f"{description.scheme}: {threat_model(protection)}")
        out.say(f"listening on {cohort.endpoint} for {len(cohort.roster)} clients")
        out.record({"listening": cohort.endpoint, "clients": len(cohort.roster)})
        run_training(out, cohort, description, folder, seconds)
        records = read_metrics(folder)
    accuracy = records[-1]["accuracy"]
    if protection.kept:
        out.say(f"wrote {folder}: {METRICS}; the clients keep the model, and how accurate it is")
    else:
        out.say(f"wrote {folder}: test accuracy {accuracy:.4f}; fl.load({str(folder)!r})")
    out.record({"wrote": folder, "accuracy": accuracy})


def check_result(result: Path, *, force: bool) -> None:
    """Raises: ConfigError if a vector cannot be written there."""
    if result.exists() and not force:
        raise ConfigError(f"{result} exists: choose another --out, or replace it with --force")
    if not result.parent.is_dir():
        raise ConfigError(f"there is no folder {result.parent}: make it, or choose another --out")


def protection_of(flags: Mapping[str, Any]) -> Protection:
    """Raises: ConfigError for a word that is not a choice."""
    for name in ("scheme", "adversary", "ending", "graph"):
        if name in flags and flags[name] not in CHOICES[name]:
            raise ConfigError(f"--{name} {flags[name]}: there are {', '.join(CHOICES[name])}")
    return Protection(**flags)


def parse_deadlines(texts: Iterable[str]) -> dict[str, float]:
    """ROUND=SECONDS each. Raises: ConfigError for another form."""
    deadlines = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            deadlines[name] = float(value)
        except ValueError:
            raise ConfigError(
                f"--deadline {text}: the form is ROUND=SECONDS, as in masked-input=30"
            ) from None
        if not 0 < deadlines[name] < 1e9:
            raise ConfigError(f"--deadline {text}: a number of seconds above 0")
    return deadlines


def run_sum(
    out: Output, cohort: Cohort, scheme: Scheme, result: Path | None, deadlines: Mapping[str, float]
) -> None:
    """One session; the mean goes to an .npy file, unless the clients keep it."""
    out.say(scheme.explain())
    out.say(f"listening on {cohort.endpoint} for {len(cohort.roster)} clients")
    out.record({"listening": cohort.endpoint, "clients": len(cohort.roster)})

    def watch(report: RoundReport) -> None:
        out.say(round_line(report))
        out.record(round_fields(report))

    # A fresh task: a client contributes once to each, and this is not the sum of last time.
    total = cohort.aggregate(scheme, os.urandom(16), deadlines=deadlines, watch=watch)
    survivors = sorted(total.survivors)
    if result is None:
        out.say(f"the {len(survivors)} clients of the sum keep it")
        out.record({"wrote": None, "survivors": survivors})
        return
    with result.open("wb") as file:
        np.save(file, total.mean[""])
    out.say(
        f"wrote {result}: the mean over {len(survivors)} clients, each coordinate within "
        f"{total.error_bound['']:.2e} of the mean of their clipped vectors"
    )
    out.record({"wrote": result, "survivors": survivors, "error_bound": total.error_bound[""]})


def run_training(
    out: Output, cohort: Cohort, config: RunConfig, folder: Path, deadlines: Mapping[str, float]
) -> None:
    """Train with the whole roster; leaves the files of OUTPUTS in `folder`: where the clients keep the model,
    no more of them than tell nothing of it.
    """
    import torch

    from fl.data import load
    from fl.federation import Description, build, from_vector, serve_rounds
    from fl.models import save

    torch.set_num_threads(1)
    dataset = load(config.dataset, config.data_dir)
    config.write(folder / CONFIG)
    records: list[dict[str, Any]] = []
    book = Book(sums=not config.protection.kept)
    display = TrainingDisplay(out, config.rounds)

    def begin(scheme: Scheme) -> None:
        display.say(scheme.explain())
        out.record({"scheme": scheme.explain().splitlines()})

    def watch(report: RoundReport) -> None:
        book.watch(report)
        display.protocol_round(report)
        out.record(round_fields(report))

    with book.told(out), display.running(), (folder / METRICS).open("w") as metrics:
        rounds = serve_rounds(cohort, config, dataset, deadlines=deadlines, begin=begin, watch=watch)
        for trained in rounds:
            book.opened(trained.survivors)
            record = asdict(trained.record)
            records.append(record)
            metrics.write(json.dumps(record) + "\n")
            metrics.flush()
            if trained.record.round == 1 and trained.parameters is not None:
                np.save(folder / FIRST_ROUND, trained.parameters)
            display.training_round(training_line(record, config.rounds))
            out.record({"training_round": record})
    if trained.parameters is None:
        return
    model = build(config.model, dataset.shape, dataset.classes, config.seed)
    from_vector(model, trained.parameters)
    save(model, Description(config.model, dataset.shape, dataset.classes), folder)
    draw_accuracy(
        folder / PLOT,
        {config.scheme: [record["accuracy"] for record in records]},
        f"{config.dataset}, {config.model}, {config.clients} clients",
    )


class Book:
    """The ledger of one run: what its sums reveal together, also if it ends before its time.

    sums: whether the server has them.
    """

    def __init__(self, *, sums: bool) -> None:
        self._ledger, self._sums = Ledger(), sums
        self._asked: frozenset[int] = frozenset()  # for a sum that has not come yet

    def watch(self, report: RoundReport) -> None:
        if report.round in OPENED_FROM and self._sums:
            self._asked = frozenset(report.down)

    def opened(self, survivors: frozenset[int]) -> None:
        if self._asked:  # else nothing was hidden, or nothing opened to the server
            self._ledger.record(survivors)
            self._asked = frozenset()

    @contextmanager
    def told(self, out: Output) -> Iterator[None]:
        """Say it at the end. A session that failed in one of these rounds, or later, counts as opened."""
        try:
            yield
        finally:
            if self._asked:
                self._ledger.record(self._asked)
            if self._ledger.sessions:
                report = self._ledger.report()
                out.say("what the sums of this run reveal together to the server alone:")
                for line in report.lines():
                    out.say(f"  {line}")
                out.record({"ledger": asdict(report)})


def write_metrics(folder: Path, records: Iterable[Mapping[str, Any]]) -> None:
    (folder / METRICS).write_text("".join(json.dumps(record) + "\n" for record in records))


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
