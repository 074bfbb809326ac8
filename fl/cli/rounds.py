"""The rounds of a training, and what its server leaves of them in a folder: metrics, curve, model, and the
checkpoint that a stopped run goes on from.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fl.cli.asked import Asked
from fl.cli.book import Book
from fl.cli.display import TrainingDisplay
from fl.cli.output import Output
from fl.cli.report import draw_accuracy, round_fields
from fl.cli.results import ResultError, check_folder, elsewhere
from fl.cli.spent import tell_noise, tell_spending
from fl.cli.watching import Watching
from fl.config.files import without_old_nulls
from fl.config.plan import Way
from fl.config.run import RunConfig
from fl.config.secret import RUN, SERVER
from fl.config.section import ConfigError
from fl.own import FILE as TASK
from fl.own import OwnTask
from fl.page.state import ASKED, CONFIG, LEDGER, METRICS, PLOT, SPENT
from fl.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from secagg import Scheme, TooFewClients, Weight
from secagg.errors import counted
from transport import RoundReport

if TYPE_CHECKING:
    from fl.federation.records import Local, Trained
    from fl.federation.server import Server
    from fl.page.live import Live
    from fl.preflight import Verdict

FIRST_ROUND = "after-round-1.npy"
PARTITION, ATTACKERS = "partition.png", "attackers.json"
# All files that a run leaves: one that is not named here a new run with --force would inherit.
OUTPUTS = (
    CONFIG,
    METRICS,
    PLOT,
    FIRST_ROUND,
    "model.safetensors",
    PARTITION,
    ATTACKERS,
    "checkpoint.bin",
    TASK,
    RUN,
    SERVER,
    SPENT,
    LEDGER,
    ASKED,
    "meter.json",
    "meter.png",
    "evaluation.json",
    "classes.png",
    "clients.png",
)
METER = ("meter", "meter_rounds", "meter_memory", "meter_time")
MAY_CHANGE = ("rounds", "device", "data_dir", "baseline", *METER)
"""Settings that may change when a run goes on: how far it goes, on what machine, and what is done beside it
when it has ended."""


def prepare_folder(folder: Path, *, force: bool) -> None:
    """Make the output folder, empty of an earlier run's files.

    force: replace an earlier run's files; others stay.

    Raises: ConfigError as `check_folder`.
    """
    check_folder(folder, force=force)
    folder.mkdir(parents=True, exist_ok=True)
    for name in OUTPUTS:
        (folder / name).unlink(missing_ok=True)


def going_on(config: RunConfig, folder: Path, own: OwnTask | None = None) -> Checkpoint:
    """Where the run in `folder` stands. own: its task, of one that has one. Raises: ConfigError where there
    is nothing to go on from, or it was another run.
    """
    if config.protection.kept:
        raise ConfigError(
            "--resume: where the clients keep the model the server has none to go on with: begin the run anew"
        )
    checkpoint = read_checkpoint(folder)
    progress = progress_of(checkpoint)
    if own is not None and progress.task not in ("", own.digest):
        raise ConfigError(
            f"--resume goes on with the run as it was: its task had the SHA-256 {progress.task}, and "
            f"{own.path} is another file: put that back, or begin another run with another --out"
        )
    now, was = lasting_settings(config), without_old_nulls(progress.settings)
    was = _settings(RunConfig()) | was  # a setting that there was not yet was as its default now is
    others = [f"{name} = {was[name]} (not {now[name]})" for name in now if was[name] != now[name]]
    if others:
        raise ConfigError(
            f"--resume goes on with the run as it was, with {', '.join(others)}: put that back, or begin "
            "another run with another --out"
        )
    if config.training.rounds < checkpoint.round:
        raise ConfigError(
            f"--rounds {config.training.rounds}: the run has trained {checkpoint.round} already: "
            "give as many or more"
        )
    return checkpoint


def lasting_settings(config: RunConfig) -> dict[str, Any]:
    """All that a run which goes on has to share with what it was. Under an epsilon its rounds, too: the noise
    was found for so many, and what is found anew once a model was seen follows from what that told.
    """
    kept = {"rounds"} if config.privacy.epsilon is not None else set()
    changes = set(MAY_CHANGE) - kept
    return {name: value for name, value in _settings(config).items() if name not in changes}


def _settings(config: RunConfig) -> dict[str, Any]:
    settings: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(config.flat()))
    return settings


class Progress(msgspec.Struct):
    """What a checkpoint holds for this module. settings: of the run, but for MAY_CHANGE. way: how the clients
    of one process are computed. task: the digest of a task of one's own. failed: of whom there was no sum,
    though it had been asked for, and counts as opened.
    """

    records: list[dict[str, Any]]
    survivors: list[list[list[int]]]
    settings: dict[str, Any]
    way: Way | None = None
    task: str = ""
    failed: list[list[int]] = []


def progress_of(checkpoint: Checkpoint) -> Progress:
    """What this module left in a checkpoint. Raises: ConfigError where something else stands in it."""
    try:
        return msgspec.json.decode(checkpoint.rest, type=Progress)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"the checkpoint says nothing of the rounds before it ({error}): begin the run anew, with --force"
        ) from error


def conduct(
    out: Output,
    server: Server,
    folder: Path,
    resume: Checkpoint | None = None,
    deadlines: Mapping[str, float] | None = None,
    live: Live | None = None,
) -> Local:
    """All rounds of a run; leaves the files of OUTPUTS in `folder`: where the clients keep the model, no more
    of them than tell nothing of it. resume: what the server goes on from. live: what a dashboard shows
    of them. Returns what clients in this process say of themselves at the end.
    """
    from fl.federation.records import Local

    config, scheme = server.config, server.scheme
    config.write(folder / CONFIG)
    progress = Progress([], [], lasting_settings(config))
    if server.own is not None:
        server.own.write(folder)
        progress.task = server.own.digest
    weighed = any(isinstance(spec, Weight) for spec in scheme.vectors.values())
    asked = Asked.on_record(folder / ASKED, 0 if resume is None else resume.round)
    book = Book(
        scheme.opening_round,
        scheme.upload_round,
        apart=scheme.corrupt + 2,
        weighed=weighed,
        unsafe_groups=config.protection.unsafe_groups,
        groups=server.groups.of,
        rounds=scheme.rounds,
        record=asked,
    )
    if resume is not None:
        progress = progress_of(resume)
        progress.failed += asked.rows  # of a round that was cut off, which is trained once more
        for sets in (*progress.survivors, progress.failed):
            book.opened_before(sets)
        write_metrics(folder, progress.records)
        out.say(f"going on after round {resume.round}")
    display = TrainingDisplay(
        out, config.training.rounds, len(progress.records), server.cohort.in_round, scheme.training_round
    )

    watching = Watching.training(live, server, folder.resolve().name, progress.records, book)

    def watch(report: RoundReport) -> None:
        with rescued(config, server, progress.records, parameters):
            book.watch(report)
        watching.protocol_round(report)
        display.protocol_round(report)
        out.record(round_fields(report))

    out.detail(scheme.explain())
    out.record({"scheme": scheme.explain().splitlines()})
    tell_noise(out, server)
    parameters = None if resume is None else resume.parameters
    clipped, looked, local = False, False, Local()
    excluded = frozenset(server.exclusion.why)
    how = "a" if resume else "w"
    with book.told(out, folder), display.running(), (folder / METRICS).open(how, encoding="utf-8") as metrics:
        for trained in () if accurate(config, progress.records) else server.rounds(deadlines, watch):
            progress.failed += [sorted(asked) for asked in book.opened(trained.survivors)]
            record, parameters, local = *learned(trained), trained.local
            progress.records.append(record)
            progress.survivors.append([sorted(some) for some in trained.survivors])
            progress.way = local.way
            with rescued(config, server, progress.records, parameters):
                metrics.write(json.dumps(record) + "\n")
                metrics.flush()
                if trained.record.round == 1 and parameters is not None:
                    np.save(folder / FIRST_ROUND, parameters)
                # Last, and with all records: a run that was stopped before trains this round once more, and
                # writes the metrics anew from here.
                if not config.protection.kept:
                    rest = msgspec.json.encode(progress)
                    write_checkpoint(folder, dataclasses.replace(trained.checkpoint, rest=rest))
                    asked.end()
            clipped = clipped or tell_clipping(out, scheme, local.clipped)
            looked = looked or tell_looked(out, local.looked)
            display.training_round(record)
            excluded = tell_excluded(out, server, excluded)
            watching.training_round(record)
            out.record({"training_round": record})
    tell_spending(out, server, progress.records)
    finish(out, config, folder, server, progress.records, parameters)
    return local


def tell_clipping(out: Output, scheme: Scheme, clipped: Mapping[int, int]) -> bool:
    """Say in one process, where no client does, whether uploads were beyond the bound. clipped:
    id -> how many coordinates.
    """
    from fl.federation.vectors import UPDATE

    beyond = {u: count for u, count in clipped.items() if count}
    if beyond:
        out.warn(
            f"up to {counted(max(beyond.values()), 'coordinate')} of the uploads of "
            f"{counted(len(beyond), 'client')} were beyond "
            f"±{getattr(scheme.vectors[UPDATE], 'bound', 0):g} and were clipped: raise --bound (said once)"
        )
    return bool(beyond)


def tell_excluded(out: Output, server: Server, before: frozenset[int]) -> frozenset[int]:
    """Say whom the server asks no more, once. before: of whom that was said. Returns all of them."""
    why = server.exclusion.why
    for u in sorted(why.keys() - before):
        out.warn(
            f"client {u} is asked no more in this run: {why[u]}. What it had signed shows it; see to it, or "
            "leave it out of the next roster"
        )
    return before.union(why)


def tell_looked(out: Output, looked: Mapping[int, Verdict]) -> bool:
    """Say in one process, where no client does, what updates give away of examples: of the worst; or that of
    this model, which is that of all rounds, nothing is read. Returns whether there was anything to say.
    """
    given_away = {u: verdict for u, verdict in looked.items() if verdict.out}
    if not given_away:
        nothing = {verdict.nothing for verdict in looked.values()} - {""}
        for one in nothing:
            out.say(one)
        return bool(nothing)
    worst = max(given_away, key=lambda u: (given_away[u].leaks, given_away[u].share))
    others = f", the worst of {len(given_away)}" if len(given_away) > 1 else ""
    tell = out.warn if given_away[worst].noteworthy else out.say
    tell(f"client {worst}{others}: {given_away[worst].sentence()} (said once)")
    return True


def accurate(config: RunConfig, records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the last round reached the accuracy at which the run stops."""
    reached = records[-1]["validation"] if records else None
    return (
        reached is not None
        and config.training.until_accuracy is not None
        and reached >= config.training.until_accuracy
    )


def learned(trained: Trained) -> tuple[dict[str, Any], NDArray[np.float64] | None]:
    """The record of a round and the model after it; in one process also where the clients keep both."""
    record, local = asdict(trained.record), trained.local
    if local.learned is not None:
        return record | asdict(local.learned), local.parameters
    return record, trained.parameters


def finish(
    out: Output,
    config: RunConfig,
    folder: Path,
    server: Server,
    records: Sequence[Mapping[str, Any]],
    parameters: NDArray[np.float64] | None,
) -> None:
    """Leave the model and the curve. Raises: TooFewClients if not one round had a sum."""
    if abandoned := sum(bool(record["abandoned"]) for record in records):
        out.say(f"abandoned {abandoned} of {counted(len(records), 'round')}: the model stayed as it was")
        if abandoned == len(records):
            if server.lost is not None:
                raise server.lost
            raise TooFewClients(0, config.cohort.minimum or 1, server.scheme.upload_round)
    if config.training.until_accuracy is not None:
        best = max(
            (record["validation"] for record in records if record["validation"] is not None), default=0.0
        )
        reached = f"{config.training.until_accuracy} was {'' if accurate(config, records) else 'not '}reached"
        out.say(
            f"an accuracy of {reached} on validation data in {counted(len(records), 'round')}; the "
            f"best is {best:.4f}"
        )
    if parameters is None:
        return
    with rescued(config, server, records, parameters):
        leave_model(server, parameters, folder)
        draw_accuracy(
            folder / PLOT,
            {config.protection.title: [record["accuracy"] for record in records]},
            f"{config.subject}, {counted(config.cohort.clients, 'client')}",
            [record.get("epsilon") for record in records],
        )


def leave_model(server: Server, parameters: NDArray[np.float64], folder: Path) -> None:
    from fl.models.architectures import build
    from fl.models.weights import from_vector, save

    description = server.description
    model = build(description.model, description.shape, description.classes, 0, server.models)
    from_vector(model, parameters)
    save(model, description, folder, unsafe_groups=server.config.protection.unsafe_groups)


@contextmanager
def rescued(
    config: RunConfig,
    server: Server,
    records: Sequence[Mapping[str, Any]],
    parameters: NDArray[np.float64] | None,
) -> Iterator[None]:
    """Where what a run leaves cannot be written any more, what there is of it goes to another folder.

    Raises: ResultError, which says where.
    """
    try:
        yield
    except OSError as error:
        path = error.filename or "a file of the run"
        reason = f"{path} could not be written ({error.strerror})"
        for place in elsewhere():
            with suppress(OSError):
                config.write(place / CONFIG)
                write_metrics(place, records)
                if parameters is not None:
                    leave_model(server, parameters, place)
                raise ResultError(f"{reason}: the run as far as it got is kept in {place}") from error
        raise ResultError(f"{reason}, nor anything in another folder: the result is lost") from error


def last_accuracy(records: Sequence[Mapping[str, Any]]) -> float | None:
    """The accuracy on the test set after the last round that was not abandoned."""
    measured = [record["accuracy"] for record in records if record["accuracy"] is not None]
    return measured[-1] if measured else None


def write_metrics(folder: Path, records: Iterable[Mapping[str, Any]]) -> None:
    (folder / METRICS).write_text("".join(json.dumps(record) + "\n" for record in records))


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()]
