"""`secagg train`: a whole federation on this machine, over processes or all in one."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fl.cli import left_out, rounds
from fl.cli.beside import BASELINE, summary
from fl.cli.drops import Drop, in_plain, parse
from fl.cli.output import Output
from fl.cli.own import taken
from fl.cli.parties import PARTIES, Parties, collect, federation, lay_out_parties, taken_from
from fl.cli.report import warn_of_training
from fl.cli.spent import spending_of
from fl.cli.watching import bound, dashboard
from fl.cohort.layout import Layout, lay_out
from fl.config.preflight import Preflight
from fl.config.protection import check_installed
from fl.config.run import RunConfig
from fl.config.secret import RUN, RunSecrets, kept, put
from fl.config.section import ConfigError
from fl.data.files import write_atomically
from fl.own import OwnTask
from fl.page.state import CONFIG
from fl.training.checkpoint import Checkpoint
from secagg import Scheme, throwaway_identities
from secagg.errors import counted
from secagg.wire import relay_of

if TYPE_CHECKING:
    from socket import socket

    from fl.cli.readings import Readings
    from fl.page.live import Live


def run(
    out: Output,
    config: RunConfig,
    folder: Path,
    *,
    force: bool,
    resume: bool = False,
    described_in: Path | None = None,
    port: int | None = None,
) -> int:
    """Train, then train again unprotected beside it. Returns the exit code of the server. described_in: the
    file that --config names; a run that left it is repeated. port: of a dashboard.
    """
    from fl.federation.simulation import cluster_of
    from fl.federation.vectors import scheme_for

    out.unsafe_groups = config.protection.unsafe_groups
    # As it will be, but for the roster, which is made below.
    relays = config.protection.relay_count
    stand_in, _ = throwaway_identities(range(config.cohort.clients), relays=relays)
    scheme = scheme_for(config, config.cohort.per_round, 1, config.data.max_examples or 1, stand_in)
    drops = parse(config.cohort.drop, config.cohort.clients, scheme)
    if late := [drop for drop in drops.values() if drop.training_round > config.training.rounds]:
        raise ConfigError(
            f"--drop: {late[0].who} is dropped in training round {late[0].training_round}, and "
            f"there are {config.training.rounds}"
        )
    check_installed({config.protection.scheme})
    config, task = taken(out, config)
    checkpoint = rounds.going_on(config, folder, task) if resume else None
    layout = lay_out(config, task)
    if task is not None and config.data.max_examples is None:
        config = config.with_(max_examples=len(layout.y))  # the server has none of them, and cannot count
    fits(config, layout, task)
    cluster = cluster_of(config)
    door = bound(port)
    # Before the folder is emptied: it may be the one whose secrets are taken up.
    secrets = secrets_of(out, config, folder, resume, described_in)
    if checkpoint is None:
        rounds.prepare_folder(folder, force=force)
        put(folder / RUN, secrets.secret)
        for earlier in (PARTIES, BASELINE):
            shutil.rmtree(folder / earlier, ignore_errors=True)
        draw(folder / rounds.PARTITION, config, layout)
    warn_of_training(out, config)
    if layout.attackers:
        tell_attackers(out, config, folder, layout)
    clients = counted(config.cohort.clients, "client")
    what = f"on {config.data.dataset}" if task is None else f"with {config.subject}"
    out.say(f"{config.protection.title}, {clients} {what}: {scheme.against}")
    if cluster is not None:
        out.say(f"training and unmasking by {counted(cluster.workers, 'worker')} of a Ray cluster")
    parties = None
    if config.training.execution == "processes":
        parties = lay_out_parties(config, layout, folder, resume, secrets, task)
    readings = listening(config)
    if code := train(out, config, folder, layout, parties, drops, checkpoint, secrets, readings, door, task):
        return code
    models = folder
    if parties is not None and config.protection.kept:
        models = collect(parties.clients, folder, config.training.rounds)
    beside = None
    if config.protection.scheme != "plain" and config.cohort.baseline:
        beside = folder / BASELINE
        if code := unprotected(
            out, config, beside, layout, parties, drops, scheme, secrets, task, force=force or resume
        ):
            return code
    summary(out, config, folder, models, beside, task)
    if not config.robust.is_mean or config.protection.groups:
        attacking = (
            (lambda round: layout.attackers if config.attack.at(round) else ()) if layout.attackers else None
        )
        left_out.tell(out, folder, attacking)
    if readings is not None:
        from fl.cli import meter

        record = readings.read() if parties is None else taken_from(parties.server)
        meter.run(out, config, layout, secrets, record, folder)
    return 0


def tell_attackers(out: Output, config: RunConfig, folder: Path, layout: Layout) -> None:
    """How many attack, how and when; who they are is left in the run's folder, for whoever reads of it later:
    its server is not told.
    """
    attack, path = config.attack, folder / rounds.ATTACKERS
    who = {"attack": attack.name, "rounds": attack.rounds, "attackers": sorted(layout.attackers)}
    write_atomically(path, msgspec.json.format(msgspec.json.encode(who), indent=1))
    when = f"in rounds {attack.rounds.replace(':', ' to ')}" if attack.rounds else "in every round"
    knowing = ", knowing what everybody has trained" if attack.omniscient else ""
    skipping = ", skipping the clip" if attack.skip_clip else ""
    number = counted(len(layout.attackers), "attacker")
    out.say(
        f"{number} of {config.cohort.clients} clients: {attack.name}, {when}{knowing}{skipping} ({path} says "
        "who)"
    )


def listening(config: RunConfig) -> Readings | None:
    """What listens at the server of a run with a meter."""
    if not config.meter.on:
        return None
    from fl.cli.readings import Readings

    return Readings.of(config)


def unprotected(
    out: Output,
    config: RunConfig,
    beside: Path,
    layout: Layout,
    parties: Parties | None,
    drops: Mapping[int, Drop],
    scheme: Scheme,
    secrets: RunSecrets,
    task: OwnTask | None,
    *,
    force: bool,
) -> int:
    """Train without protection, in a folder beside. scheme: of the run that has it. Returns the exit code."""
    aside = dataclasses.replace(out, unsafe_groups=False)
    aside.say("the same without protection, to compare with (--no-baseline leaves it out)")
    if config.privacy.mechanism != "none":
        aside.say(f"it has no noise: no epsilon is of what {beside} and the picture tell of the data")
    # With the same secrets: the first round takes the same orders, and differs by the protection alone.
    without = {"scheme": "plain", "ending": None, "decoys": None, "relays": None, "blank": 0.0}
    without |= {"groups": 0, "group_m_min": None, "unsafe_groups": False, "public_weights": False}
    plain = config.with_(**without, drop=(), preflight="off", meter=False, **without_noise(config))
    rounds.prepare_folder(beside, force=force)
    in_beside = {u: in_plain(drop, scheme) for u, drop in drops.items() if relay_of(u) is None}
    aside.beside = True
    return train(aside, plain, beside, layout, parties, in_beside, None, secrets, own=task)


def without_noise(config: RunConfig) -> dict[str, Any]:
    """Settings of the run beside one with noise: it has none, and clips nothing."""
    if config.privacy.mechanism == "none":
        return {}
    return {name: each.default for name, each in RunConfig.settings().items() if each.section == "privacy"}


def secrets_of(
    out: Output, config: RunConfig, folder: Path, resume: bool, described_in: Path | None
) -> RunSecrets:
    """The secrets of the run that goes on in `folder`, or that left the file `described_in`; else fresh ones.

    Raises: ConfigError where a run cannot go on without them.
    """
    if resume:
        if not (folder / RUN).exists():
            raise ConfigError(
                f"{folder / RUN} is gone, and with it how this run went on: begin it anew, with --force"
            )
        return RunSecrets(kept(folder / RUN))
    if described_in is None or described_in.name != CONFIG:
        return RunSecrets.fresh()
    left = described_in.parent / RUN
    if not left.exists():
        return RunSecrets.fresh()
    but = "to the bit" if config.privacy.mechanism == "none" else "but for its noise"
    out.say(f"with the secrets of the run in {left.parent}: unchanged, it is repeated {but}")
    return RunSecrets(kept(left))


def fits(config: RunConfig, layout: Layout, task: OwnTask | None) -> None:
    """Raises: ConfigError where model or weights cannot be those of the data, the rule is not for so few
    clients, or there is no such device.
    """
    from fl.federation.combining import check_fit
    from fl.models.architectures import ModelError, build
    from fl.training.local import device

    device(config.training.device)

    dataset, largest = layout.serving.dataset, max(map(len, layout.shares.values()))
    try:
        if task is None:
            build(config.training.model, dataset.shape, dataset.classes, config.training.seed)
    except ModelError as error:
        raise ConfigError(str(error)) from None
    check_fit(config)
    if config.data.max_examples is not None and config.data.max_examples < largest:
        raise ConfigError(
            f"max_examples = {config.data.max_examples}: a client holds {largest}: give as many or more"
        )


def train(
    out: Output,
    config: RunConfig,
    folder: Path,
    layout: Layout,
    parties: Parties | None,
    drops: Mapping[int, Drop],
    checkpoint: Checkpoint | None,
    secrets: RunSecrets,
    readings: Readings | None = None,
    listening: socket | None = None,
    own: OwnTask | None = None,
) -> int:
    """One run. parties: of a run over processes, whose server has its own readings. listening: where its
    dashboard is. own: its task; processes have copies. Returns the exit code.
    """
    if parties is None:
        with dashboard(out, listening) as live:
            simulate(out, config, folder, layout, checkpoint, secrets, readings, live, own)
        return 0
    clients, relays = config.cohort.clients, config.protection.relay_count
    who = f"a server, {counted(clients, 'client')} and {counted(relays, 'relay')}"
    if not relays:
        who = f"a server and {counted(clients, 'client')}"
    out.say(f"starting {clients + relays + 1} processes: {who}")
    done = checkpoint.round if checkpoint else 0
    return federation(out, config, folder, parties, drops, done, secrets.run, listening)


def draw(path: Path, config: RunConfig, layout: Layout) -> None:
    from fl.data.picture import draw_partition

    clients, data = config.cohort.clients, config.data
    shares = [layout.shares[u] for u in range(clients)]
    dealt = f"{data.dataset}, {counted(clients, 'client')}, {data.partition}, seed {config.training.seed}"
    own = config.training.task is not None
    title = f"{config.subject}, {counted(clients, 'client')}" if own else dealt
    draw_partition(path, layout.y, shares, layout.serving.dataset.classes, title)


def simulate(
    out: Output,
    config: RunConfig,
    folder: Path,
    layout: Layout,
    checkpoint: Checkpoint | None,
    secrets: RunSecrets,
    readings: Readings | None,
    live: Live | None,
    own: OwnTask | None,
) -> None:
    """All clients in this process."""
    from fl.federation.simulation import simulated

    way = rounds.progress_of(checkpoint).way if checkpoint is not None else None
    spending = spending_of(config, folder, checkpoint)
    server = simulated(
        config,
        layout,
        secrets=secrets,
        resume=checkpoint,
        way=way,
        preflight=Preflight(action=config.training.preflight),
        instrument=readings,
        spending=spending,
        own=own,
    )
    local = rounds.conduct(out, server, folder, checkpoint, live=live)
    if local.rates:
        measured = ", ".join(f"{way} {rate:.0f}" for way, rate in local.rates.items())
        out.say(f"clients were trained {local.way}; client-steps a second, measured: {measured}")
