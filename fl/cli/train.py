"""`secagg train`: a whole federation on this machine, one server process and one for each client."""

from __future__ import annotations

import dataclasses
import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

import transport
from fl.cli import exit_code, join, rounds
from fl.cli.display import shown, since
from fl.cli.drops import Drop, Killer, in_plain, parse
from fl.cli.output import Output
from fl.cli.report import draw_accuracy, size, warn_of_training
from fl.cohort.layout import Layout, lay_out, read_serving, write_serving
from fl.config.limits import Limits
from fl.config.presets import PRESETS
from fl.config.protection import check_installed
from fl.config.run import CHOICES, RunConfig
from fl.config.secret import CLIENT, RUN, SERVER, RunSecrets, kept, put
from fl.config.section import ConfigError
from fl.data.shard import write_shard
from fl.mistyped import nearest
from fl.training.checkpoint import Checkpoint
from secagg import throwaway_identities
from secagg.errors import counted
from transport import TransportError
from transport.processes import LocalProcesses, lay_out_keys

PARTIES, BASELINE = "parties", "plain"
COUNTS_WITH = {
    "alpha": ("partition", ("dirichlet", "quantity")),
    "classes_per_client": ("partition", ("shards",)),
    "damage_level": ("damage", CHOICES["damage"]),
    "damaged": ("damage", CHOICES["damage"]),
    "server_momentum": ("server", ("momentum", "adam", "yogi")),
    "server_beta2": ("server", ("adam", "yogi")),
    "server_tau": ("server", ("adam", "yogi")),
    **dict.fromkeys(("local_epochs", "batch_size", "momentum"), ("algorithm", ("fedavg", "fedavg-weights"))),
}
"""Flags that would do nothing without another."""
LOST = 255  # the exit code of a process that was forked from one that has gone
PRELOAD = ("fl.federation.server", "fl.federation.client")  # with torch: imported once for all processes


def described(
    out: Output, file: Path | None, preset: str | None, resumed: Path | None, flags: Mapping[str, Any]
) -> RunConfig:
    """The run that the command line asks for: flags win over a file or a preset. resumed: the folder of a run
    to go on with, which is as it was.

    Raises: ConfigError, also for what does not go together.
    """
    if resumed is not None:
        if file or preset or flags.keys() - set(rounds.MAY_CHANGE):
            raise ConfigError(
                "--resume goes on with the run as it was: with it go --out, --rounds, --device, --data-dir "
                "and --no-baseline alone"
            )
        return RunConfig.read(resumed / rounds.CONFIG, **flags)
    if preset is not None and file is not None:
        raise ConfigError("--preset or --config: give one of them")
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"--preset {preset}: there are {', '.join(PRESETS)}{nearest(preset, PRESETS)}")
    if {"local_epochs", "local_steps"} <= flags.keys():
        raise ConfigError("--local-epochs or --local-steps: give one of them")
    if "local_epochs" in flags:
        flags = {**flags, "local_steps": 0}  # a file's or a preset's
    settings = {} if preset is None else PRESETS[preset].settings
    config = RunConfig.read(file, tell=out.warn, **flags) if file else RunConfig.of(**settings | dict(flags))
    has = config.flat()
    for name in flags:
        other, words = COUNTS_WITH.get(name, ("", ()))
        if other and has[other] not in words:
            raise ConfigError(f"--{_typed(name)} counts with --{_typed(other)} {' or '.join(words)} only")
    if flags.get("select") == "quality" and config.data.damage is None:
        raise ConfigError("--select quality: all declare the same quality: give --damage too")
    return config


def _typed(name: str) -> str:
    return name.replace("_", "-")


def run(
    out: Output,
    config: RunConfig,
    folder: Path,
    *,
    force: bool,
    resume: bool = False,
    described_in: Path | None = None,
) -> int:
    """Train, then train again unprotected beside it. Returns the exit code of the server. described_in: the
    file that --config names; a run that left it is repeated.
    """
    from fl.federation.vectors import scheme_for

    # As it will be, but for the roster, which is made below.
    stand_in, _ = throwaway_identities(range(config.cohort.clients))
    scheme = scheme_for(config, config.cohort.per_round, 1, config.data.max_examples or 1, stand_in)
    drops = parse(config.cohort.drop, config.cohort.clients, scheme.rounds)
    if late := [drop for drop in drops.values() if drop.training_round > config.training.rounds]:
        raise ConfigError(
            f"--drop: client {late[0].client} is dropped in training round {late[0].training_round}, and "
            f"there are {config.training.rounds}"
        )
    check_installed({config.protection.scheme})
    checkpoint = rounds.going_on(config, folder) if resume else None
    layout = lay_out(config)
    fits(config, layout)
    secrets = secrets_of(out, folder, resume, described_in)
    if checkpoint is None:
        rounds.prepare_folder(folder, force=force)
        put(folder / RUN, secrets.secret)
        for earlier in (PARTIES, BASELINE):
            shutil.rmtree(folder / earlier, ignore_errors=True)
        draw(folder / rounds.PARTITION, config, layout)
    warn_of_training(out, config)
    clients = counted(config.cohort.clients, "client")
    out.say(f"{config.protection.scheme}, {clients} on {config.data.dataset}: {scheme.against}")
    parties = None
    if config.training.execution == "processes":
        parties = lay_out_parties(config, layout, folder, resume, secrets)
    if code := train(out, config, folder, layout, parties, drops, checkpoint, secrets):
        return code
    models = folder
    if parties is not None and config.protection.kept:
        models = collect(parties[1], folder, config.training.rounds)
    if config.protection.scheme == "plain" or not config.cohort.baseline:
        summary(out, config, folder, models, None)
        return 0
    out.say("the same without protection, to compare with (--no-baseline leaves it out)")
    plain = config.with_(scheme="plain", ending=None, drop=())
    aside = dataclasses.replace(out, beside=True)
    beside = folder / BASELINE
    rounds.prepare_folder(beside, force=force or resume)
    in_beside = {u: in_plain(drop, scheme) for u, drop in drops.items()}
    if code := train(aside, plain, beside, layout, parties, in_beside, None, secrets):
        return code
    summary(out, config, folder, models, beside)
    return 0


def secrets_of(out: Output, folder: Path, resume: bool, described_in: Path | None) -> RunSecrets:
    """The secrets of the run that goes on in `folder`, or that left the file `described_in`; else fresh ones.

    Raises: ConfigError where a run cannot go on without them.
    """
    if resume:
        if not (folder / RUN).exists():
            raise ConfigError(
                f"{folder / RUN} is gone, and with it how this run went on: begin it anew, with --force"
            )
        return RunSecrets(kept(folder / RUN))
    if described_in is None or described_in.name != rounds.CONFIG:
        return RunSecrets.fresh()
    left = described_in.parent / RUN
    if not left.exists():
        return RunSecrets.fresh()
    out.say(f"with the secrets of the run in {left.parent}: unchanged, it is repeated to the bit")
    return RunSecrets(kept(left))


def fits(config: RunConfig, layout: Layout) -> None:
    """Raises: ModelError, ConfigError where model or weights cannot be those of the data, or there is no such
    device.
    """
    from fl.models.architectures import build
    from fl.training.local import device

    device(config.training.device)

    dataset, largest = layout.serving.dataset, max(map(len, layout.shares.values()))
    build(config.training.model, dataset.shape, dataset.classes, config.training.seed)
    if config.data.max_examples is not None and config.data.max_examples < largest:
        raise ConfigError(
            f"max_examples = {config.data.max_examples}: a client holds {largest}: give as many or more"
        )


Parties = tuple[Path, list[Path]]
"""The server's folder, and each client's."""


def train(
    out: Output,
    config: RunConfig,
    folder: Path,
    layout: Layout,
    parties: Parties | None,
    drops: Mapping[int, Drop],
    checkpoint: Checkpoint | None,
    secrets: RunSecrets,
) -> int:
    """One run; parties: of a run over processes. Returns the exit code."""
    if parties is None:
        simulate(out, config, folder, layout, checkpoint, secrets)
        return 0
    clients = config.cohort.clients
    out.say(f"starting {clients + 1} processes: a server and {counted(clients, 'client')}")
    done = checkpoint.round if checkpoint else 0
    return federation(out, config, folder, *parties, drops, done, secrets.run)


def draw(path: Path, config: RunConfig, layout: Layout) -> None:
    from fl.data.picture import draw_partition

    clients, data = config.cohort.clients, config.data
    shares = [layout.shares[u] for u in range(clients)]
    title = f"{data.dataset}, {counted(clients, 'client')}, {data.partition}, seed {config.training.seed}"
    draw_partition(path, layout.y, shares, layout.serving.dataset.classes, title)


def lay_out_parties(
    config: RunConfig, layout: Layout, folder: Path, resume: bool, secrets: RunSecrets
) -> Parties:
    """Folders with keys, a secret and, for a client, its own examples and no others; and the test set, where
    clients keep the model and nobody else can evaluate it. Of a run that goes on they are there; its clients
    forget what they had begun to contribute to, so that they train and round as they did.
    """
    parties = folder / PARTIES
    if resume:
        clients = [parties / f"client{u}" for u in range(config.cohort.clients)]
        for own in clients:
            (own / "client.key.journal").unlink(missing_ok=True)
        return parties / "server", clients
    if parties.exists():
        shutil.rmtree(parties)
    server, clients = lay_out_keys(parties, config.cohort.clients)
    dataset = layout.serving.dataset
    write_serving(server, layout.serving)
    put(server / SERVER, secrets.server)
    for u, own in enumerate(clients):
        write_shard(own, *layout.examples(u), dataset.classes, dataset.name)
        put(own / CLIENT, secrets.client(u))
        if config.protection.kept:
            write_shard(own / join.TEST, dataset.test_x, dataset.test_y, dataset.classes, dataset.name)
    return server, clients


def simulate(
    out: Output,
    config: RunConfig,
    folder: Path,
    layout: Layout,
    checkpoint: Checkpoint | None,
    secrets: RunSecrets,
) -> None:
    """All clients in this process."""
    from fl.federation.simulation import simulated

    way = rounds.progress_of(checkpoint).way if checkpoint is not None else None
    server = simulated(config, layout, secrets=secrets, resume=checkpoint, way=way)
    local = rounds.conduct(out, server, folder, checkpoint)
    if local.rates:
        measured = ", ".join(f"{way} {rate:.0f}" for way, rate in local.rates.items())
        out.say(f"clients were trained {local.way}; client-steps a second, measured: {measured}")


def collect(clients: list[Path], folder: Path, total: int) -> Path:
    """Put into the run's metrics what its first client that came to the end has written down, round by round.
    Returns that client's folder, where the model is.
    """
    for own in clients:
        learned = rounds.read_metrics(own) if (own / rounds.METRICS).exists() else []
        if len(learned) == total:
            rounds.write_metrics(
                folder, [a | b for a, b in zip(rounds.read_metrics(folder), learned, strict=True)]
            )
            return own
    raise TransportError("no client came to the end of the run: the model that they keep is lost")


def federation(
    out: Output,
    config: RunConfig,
    folder: Path,
    server: Path,
    clients: list[Path],
    drops: Mapping[int, Drop],
    done: int,
    run_id: bytes,
) -> int:
    """Run one training; done: rounds of it before. Returns the server's exit code.

    Nobody gives up by the clock, as a busy machine would decide: the server learns whose process has ended,
    and the clients when the server's has.
    """
    (here, there), (ended, gone) = Pipe(duplex=False), Pipe(duplex=False)
    with here, gone, LocalProcesses(PRELOAD) as processes:
        with there, ended:
            ends = there, ended
            processes.start("server", server_process, out, config, folder, server, *ends, done > 0, run_id)
        try:
            with shown(out, since(lambda: "the server process is starting")):
                endpoint = here.recv()
        except EOFError:
            return _code_of_server(processes) or 1
        for u, own in enumerate(clients):
            if u in drops and drops[u].training_round <= done:
                gone.send(u)  # lost before the run was stopped
                continue
            processes.start(f"client {u}", client_process, out, config, own, endpoint, here, drops.get(u))
        for name in processes.as_they_end():
            if name == "server":
                break
            with suppress(OSError):  # it has just gone
                gone.send(int(name.removeprefix("client ")))
        code = _code_of_server(processes)
        processes.wait(config.cohort.deadline)  # one that is late in the last round may train for ever
        return code


def seen(clients: int, ended: Connection) -> Callable[[], set[int]]:
    """Whose process lives, as the launcher tells the server."""
    living = set(range(clients))

    def now() -> set[int]:
        while ended.poll():
            living.discard(ended.recv())
        return living

    return now


def _code_of_server(processes: LocalProcesses) -> int:
    """Once it has ended. Raises: TransportError if it was killed."""
    code = processes.wait_for("server") or 0
    code = -signal.SIGKILL if code == LOST else code
    if code < 0:
        raise TransportError(f"the server process was killed (signal {-code}): has this machine memory left?")
    return code


def server_process(
    out: Output,
    config: RunConfig,
    folder: Path,
    own: Path,
    endpoint: Connection,
    ended: Connection,
    resume: bool,
    run_id: bytes,
) -> None:
    """Body of the server's process: what `secagg serve` does. endpoint: for its address; it stays open for
    as long as the process lives.
    """
    files = own / "server.key", own / "roster"
    lives = seen(config.cohort.clients, ended)
    with exit_code(out), transport.serve("tcp://127.0.0.1:*", *files, lives=lives) as cohort:
        endpoint.send(cohort.endpoint)
        import torch

        from fl.data import load
        from fl.federation.server import Server

        torch.set_num_threads(1)
        known = read_serving(own, load(config.data.dataset, config.data.data_dir))
        checkpoint = rounds.going_on(config, folder) if resume else None
        server = Server(cohort, config, known, checkpoint, secret=kept(own / SERVER), run=run_id)
        rounds.conduct(out, server, folder, checkpoint)


def client_process(
    out: Output, config: RunConfig, own: Path, endpoint: str, serving: Connection, drop: Drop | None
) -> None:
    """Body of a client's process: what `secagg join` does. It opens nothing but its own folder."""
    speaks_up = Output(lines=False, debug=out.debug)
    with join.joined(speaks_up, own, endpoint, serving, config.protection) as peer:
        limits, killer = Limits.of(config.training.plan), Killer(drop, peer.flush)
        join.train(speaks_up, peer, own, device=config.training.device, limits=limits, killer=killer)


def summary(out: Output, config: RunConfig, folder: Path, models: Path, beside: Path | None) -> None:
    """Accuracy and bytes of both runs side by side, and how far their weights are apart. models: the folder
    that holds the first one's.
    """
    runs: dict[str, list[dict[str, Any]]] = {config.protection.scheme: rounds.read_metrics(folder)}
    if beside is not None:
        runs[BASELINE] = rounds.read_metrics(beside)
    what = f"{config.data.dataset}, {config.training.model}, {counted(config.cohort.clients, 'client')}"
    draw_accuracy(
        folder / rounds.PLOT,
        {name: [record["accuracy"] for record in records] for name, records in runs.items()},
        f"{what}, seed {config.training.seed}",
    )
    rows = [_row(name, records) for name, records in runs.items()]
    fields: dict[str, Any] = {"folder": str(folder), "runs": rows}
    out.table(
        [
            (
                row["scheme"],
                "none" if row["accuracy"] is None else f"{row['accuracy']:.4f}",
                size(row["bytes_up_per_client_round"]),
                size(row["bytes_down_per_client_round"]),
                f"{row['seconds']:.1f} s",
            )
            for row in rows
        ],
        ("scheme", "test accuracy", "up per client and round", "down", "time"),
        "result",
    )
    if beside is not None and not any(records[0]["abandoned"] for records in runs.values()):
        fields |= _difference(out, config, models, beside, runs[config.protection.scheme][0])
    there = [f"{name}/" for name in (PARTIES, BASELINE) if (folder / name).is_dir()]
    there += [name for name in rounds.OUTPUTS if (folder / name).exists()]
    whose = "each client the model" if config.protection.kept else "the model"
    out.say(f"wrote {folder}: {', '.join(sorted(there))}; {whose}: fl.load({str(models)!r})")
    out.record({"summary": fields})


def _row(name: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    each = sum(record["chosen"] for record in records)
    return {
        "scheme": name,
        "accuracy": rounds.last_accuracy(records),
        "bytes_up_per_client_round": sum(record["bytes_up"] for record in records) / each,
        "bytes_down_per_client_round": sum(record["bytes_down"] for record in records) / each,
        "seconds": sum(record["seconds"] for record in records),
    }


def bound_after_one(config: RunConfig, of_mean: float) -> float | None:
    """How far the first step can carry the mean's error into a weight; None where the step is not linear."""
    if config.server.optimiser not in ("average", "momentum"):
        return None
    return of_mean * config.server.lr * (config.training.lr if config.training.algorithm == "fedsgd" else 1.0)


def _difference(
    out: Output, config: RunConfig, models: Path, beside: Path, first: Mapping[str, Any]
) -> dict[str, Any]:
    from fl import load
    from fl.models.weights import to_vector

    ours, plain = (np.load(folder / rounds.FIRST_ROUND) for folder in (models, beside))
    after_one = float(np.abs(ours - plain).max())
    final = float(np.abs(to_vector(load(models)) - to_vector(load(beside))).max())
    bound = bound_after_one(config, first["error_bound"])
    within = "" if bound is None else f" (bound {bound:.2e})"
    out.say(
        f"after training round 1 no weight differs from the plain run by more than {after_one:.2e}{within}"
    )
    out.say(
        f"at the end the largest difference of a weight is {final:.2e}: after round 1 the models differ, and "
        "with them the orders of examples"
    )
    return {"difference_after_round_1": after_one, "bound": bound, "difference_at_the_end": final}
