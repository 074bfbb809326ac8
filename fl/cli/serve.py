"""`secagg serve`: the server of a federation, summing vectors or training a model."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import transport
from fl.cli import left_out
from fl.cli.display import session_status, shown
from fl.cli.options import protection_of
from fl.cli.output import Output
from fl.cli.own import loading, taken
from fl.cli.report import mean_over, round_fields, round_line, warn, warn_of_training, within
from fl.cli.results import check_file, check_folder, npy, write_result
from fl.cli.rounds import METER, conduct, going_on, last_accuracy, prepare_folder, read_metrics
from fl.cli.spent import spending_of
from fl.cli.stopped import Stopped
from fl.cli.watching import Watching, bound, dashboard
from fl.cohort.layout import Serving
from fl.config.protection import Protection
from fl.config.run import RunConfig
from fl.config.secret import SERVER, kept
from fl.config.section import ConfigError
from fl.mistyped import nearest
from fl.own import OwnTask
from fl.page.state import METRICS, RunState
from secagg import Bounded, Private, Scheme, Weight
from secagg.alike import OWN_INPUT, Likeness
from secagg.errors import counted
from secagg.schemes import SCHEMES
from secagg.specs import Spec
from transport import Cohort, RoundReport
from transport.server import roster_of

if TYPE_CHECKING:
    from fl.page.live import Live


@dataclass(frozen=True)
class Summing:
    """One vector a client, weighted if max_weight is given. new: another one than before, at every client."""

    length: int | None
    bound: float
    bits: int
    clip: float | None
    max_weight: int | None
    new: bool = False

    def vectors(self) -> dict[str, Spec]:
        spec = Bounded(length=self.length or 0, bound=self.bound, bits=self.bits, clip=self.clip)
        vectors: dict[str, Spec] = {"": spec}
        if self.max_weight is not None:
            vectors["weight"] = Weight(maximum=self.max_weight)
        return vectors

    def state(self, scheme: str, clients: int) -> RunState:
        """As a page shows it."""
        what = f"a sum of {counted(self.length or 0, 'coordinate')}"
        said = {name: str(value) for name, value in asdict(self).items() if value not in (None, False)}
        return RunState(
            name=what,
            title=f"{scheme}: {what}, {counted(clients, 'client')}",
            settings=(("scheme", scheme), ("clients", str(clients)), *said.items()),
        )


def run(
    out: Output,
    config: Path | None,
    summing: Summing,
    *,
    task: str | None = None,
    bind: str,
    key: Path,
    roster: Path,
    roster_key: Path | None,
    state: Path | None,
    readers: str,
    deadlines: Sequence[str],
    finish: float,
    out_path: Path | None,
    flags: Mapping[str, Any],
    force: bool,
    resume: bool = False,
    port: int | None = None,
) -> None:
    """Serve one sum, or one training. task: the file of a task of one's own. flags: fields of `Protection`
    that were given. port: of a dashboard.
    """
    if (config is None and task is None) == (summing.length is None):
        raise ConfigError("give --length to sum vectors, or --config to train a model, and not both")
    seconds = parse_deadlines(deadlines)
    if not 0 <= finish < 1e9:
        raise ConfigError(f"--finish {finish}: a number of seconds, 0 or more")
    # What cannot be is refused before anybody is waited for.
    if summing.length is not None:
        job = sum_job(out, summing, protection_of(flags), out_path, seconds, force=force, resume=resume)
    else:
        folder = out_path or Path("runs/serve")
        # Whoever is listed takes part: groups and a least number of clients are of as many.
        flags = {**flags, "clients": len(roster_of(roster, roster_key))}
        if task is not None:
            flags["task"] = task
        job = training_job(out, described(out, config, flags), folder, seconds, force=force, resume=resume)
    options: Any = {"state": state, "readers": readers, "finish": finish, "tell": out.warn}
    with (
        dashboard(out, bound(port)) as live,
        transport.serve(bind, key, roster, roster_key, **options) as cohort,
    ):
        job(cohort, live)


ROUNDS = tuple(dict.fromkeys(round for scheme in SCHEMES.values() for round in scheme.every_round))
"""The names of the rounds of all schemes."""
Job = Callable[[Cohort, "Live | None"], None]
ITS_OWN = (
    *("execution", "partition", "alpha", "classes_per_client", "examples_per_client"),
    *("damage", "damage_level", "damaged", "drop", "baseline"),
    *(name for name, each in RunConfig.settings().items() if each.section == "attack"),
    *METER,
)
"""Of a run's description what `secagg train` alone does: it deals out the data, starts the processes, and has
the examples beside which a meter tells what came out. Attackers there need nobody's leave."""


def sum_job(
    out: Output,
    summing: Summing,
    protection: Protection,
    out_path: Path | None,
    seconds: Mapping[str, float],
    *,
    force: bool,
    resume: bool = False,
) -> Job:
    """One sum. Raises: ConfigError for a file that cannot be written, or one that cannot be gone on from."""
    if protection.scheme == "decoys":
        raise ConfigError("--scheme decoys is for training, of which decoys are made: give --config")
    if protection.groups:
        raise ConfigError(
            f"--groups {protection.groups} is for training, where a rule combines the sums: give --config"
        )
    result = None if protection.kept else out_path or Path("mean.npy")
    if result is None and out_path is not None:
        raise ConfigError("--out: the clients keep the mean, and the server has none to write")
    if result is not None:
        check_file(result, force=force)
    stopped = Stopped.of(out, protection, result, force=force, resume=resume)

    def job(cohort: Cohort, live: Live | None) -> None:
        scheme = protection.for_cohort(len(cohort.roster), summing.vectors(), cohort.roster.identities)
        warn(out, protection)
        out.say(f"{protection.scheme}: {scheme.against}")
        likeness = None if protection.alike == "never" else OWN_INPUT
        watching = Watching(live, summing.state(protection.scheme, len(cohort.roster)), cohort)
        sum_vectors(
            out,
            cohort,
            scheme,
            result,
            seconds,
            likeness,
            new=summing.new,
            watching=watching,
            stopped=stopped,
        )

    return job


def described(out: Output, config: Path | None, flags: Mapping[str, Any]) -> RunConfig:
    """The run that file and flags describe. Raises: ConfigError for what only `secagg train` can do, and
    where it does not say what only that knows.
    """
    if "threshold" in flags:
        raise ConfigError("--threshold is for --length; in training it follows from --corrupt and --dropout")
    description = RunConfig.read(config, tell=out.warn, **flags) if config else RunConfig.of(**flags)
    if description.training.task is not None and description.data.max_examples is None:
        raise ConfigError(
            "max_examples: what clients hold, a task tells them alone: say in [data] how many examples one "
            "has at most, which everybody may know"
        )
    if description.cohort.links or description.cohort.cluster or description.cohort.select != "chance":
        raise ConfigError(
            "links, cluster, select: only `secagg train` knows what clients declare: leave them out here"
        )
    if description.robust.redundancy > 1:
        raise ConfigError(
            "redundancy: only `secagg train` deals the same examples to several: leave it out here"
        )
    asked, usual = description.flat(), {name: RunConfig.settings()[name].default for name in ITS_OWN}
    if ignored := [name for name, value in usual.items() if asked[name] != value]:
        out.warn(f"not looked at, for clients bring data and processes of their own: {', '.join(ignored)}")
    return description.with_(**usual)


def training_job(
    out: Output,
    description: RunConfig,
    folder: Path,
    seconds: Mapping[str, float],
    *,
    force: bool,
    resume: bool,
) -> Job:
    """One training. Raises: ConfigError for a folder that cannot be written."""
    check_folder(folder, force=force, filled=resume)
    description, own = taken(out, description)

    def job(cohort: Cohort, live: Live | None) -> None:
        config = description.with_(clients=len(cohort.roster), drop=())
        protection = config.protection
        out.unsafe_groups = protection.unsafe_groups
        # The session but for its vectors, whose length is the model's: what cannot be shows before the folder
        # of an earlier run is emptied.
        noised = config.privacy.mechanism == "distributed"
        some: Spec = Private(length=2**16, clip=1.0) if noised else Bounded(length=1, bound=1.0)
        like = protection.for_cohort(config.cohort.per_round, {"": some}, cohort.roster.identities)
        deadlines = of_rounds(seconds, like.rounds)
        warn_of_training(out, config)
        from fl.federation.combining import check_fit

        check_fit(config)
        checkpoint = None
        if resume:  # under a new run id: clients refuse a round of the old one that they had contributed to
            checkpoint = dataclasses.replace(going_on(config, folder, own), run=os.urandom(16))
        else:
            prepare_folder(folder, force=force)
        secret = kept(folder / SERVER)
        out.say(f"{config.protection.title}: {like.against}")
        tell_listening(out, cohort, like)
        from fl.federation.server import Server

        spending = spending_of(config, folder, checkpoint)
        known = serving(config, own)
        server = Server(cohort, config, known, checkpoint, secret=secret, spending=spending, own=own)
        conduct(out, server, folder, checkpoint, deadlines, live)
        accuracy = last_accuracy(read_metrics(folder))
        if protection.kept:
            out.say(f"wrote {folder}: {METRICS}; the clients keep the model, and how accurate it is")
        else:
            out.say(f"wrote {folder}: test accuracy {accuracy:.4f}; {loading(folder, own)}")
        out.record({"wrote": folder, "accuracy": accuracy})
        if not config.robust.is_mean or config.protection.groups:
            left_out.tell(out, folder)

    return job


def tell_listening(out: Output, cohort: Cohort, scheme: Scheme) -> None:
    clients, relays = len(cohort.roster), scheme.relays
    and_relays = f" and {counted(relays, 'relay')}" if relays else ""
    out.say(f"listening on {cohort.endpoint} for {counted(clients, 'client')}{and_relays}")
    fields = {"listening": cohort.endpoint, "clients": clients}
    out.record(fields | ({"relays": relays} if relays else {}))


def parse_deadlines(texts: Iterable[str]) -> dict[str, float]:
    """Round -> seconds, of ROUND=SECONDS each, or SECONDS for "", all rounds that are not named. Raises:
    ConfigError for another form.
    """
    deadlines = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        try:
            # Of `=30` the name is missing, which is not meant for all rounds.
            deadlines[name] = float(value if name or value == text else "")
        except ValueError:
            raise ConfigError(
                f"--deadline {text}: the form is SECONDS, or ROUND=SECONDS as in masked-input=30"
            ) from None
        if name and name not in ROUNDS:
            known = f"the rounds are {', '.join(ROUNDS)}{nearest(name, ROUNDS)}"
            raise ConfigError(f"--deadline {text}: no round {name!r}; {known}")
        if not 0 < deadlines[name] < 1e9:
            raise ConfigError(f"--deadline {text}: a number of seconds above 0")
    return deadlines


def of_rounds(deadlines: Mapping[str, float], rounds: Iterable[str]) -> dict[str, float]:
    """What was asked for all rounds, said of each."""
    named = {name: seconds for name, seconds in deadlines.items() if name}
    return dict.fromkeys(rounds, deadlines[""]) | named if "" in deadlines else named


def sum_vectors(
    out: Output,
    cohort: Cohort,
    scheme: Scheme,
    result: Path | None,
    deadlines: Mapping[str, float],
    likeness: Likeness | None,
    *,
    new: bool,
    watching: Watching,
    stopped: Stopped,
) -> None:
    """One session; the mean goes to an .npy file, unless the clients keep it. likeness, new: as in
    `Cohort.aggregate`.
    """
    out.detail(scheme.explain())
    tell_listening(out, cohort, scheme)

    def watch(report: RoundReport) -> None:
        watching.protocol_round(report)
        out.say(round_line(report))
        out.record(round_fields(report))

    deadlines = of_rounds(deadlines, scheme.rounds)
    # A fresh task: a client contributes once to each, and this is not the sum of last time.
    with shown(out, session_status(cohort.in_round)):
        total = stopped.finished(
            partial(
                cohort.aggregate,
                *(scheme, os.urandom(16)),
                deadlines=deadlines,
                watch=watch,
                alike=likeness,
                new=new,
            )
        )
    survivors = sorted(total.survivors)
    if result is None:
        out.say(f"kept by the {counted(len(survivors), 'client')} of the sum")
        out.record({"wrote": None, "survivors": survivors})
        return
    kept = write_result(result, npy(total.mean[""]))
    out.say(
        f"wrote {kept.path}: {mean_over(scheme, survivors)}, each coordinate within "
        f"{total.error_bound['']:.2e} of the mean of {within(scheme)}"
    )
    out.record({"wrote": kept.path, "survivors": survivors, "error_bound": total.error_bound[""]})
    stopped.done(cohort)
    kept.check()


def serving(config: RunConfig, own: OwnTask | None) -> Serving:
    """What a server over a network knows: its own copy of the data set, and no declarations."""
    from fl.data import keep_back, load

    if own is not None:
        return Serving(own.served(config.cohort.clients, config.data.folder))

    dataset, rng = (
        load(config.data.dataset, config.data.data_dir),
        np.random.default_rng(config.training.seed),
    )
    kept = keep_back(dataset, config.held_out, config.robust.root or 0, rng)
    return Serving(dataset, kept.validation, root=kept.root)
