"""A run over processes on this machine: a folder and a process for the server, and for each other party."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import transport
from fl.cli import exit_code, learn, malicious, relay, rounds
from fl.cli.display import shown, since
from fl.cli.drops import Drop, Killer
from fl.cli.join import joined, party_names
from fl.cli.output import Output
from fl.cli.own import found_in
from fl.cli.spent import spending_of
from fl.cli.watching import dashboard
from fl.cohort.layout import Layout, read_serving, write_serving
from fl.config.limits import Limits
from fl.config.preflight import Preflight
from fl.config.run import RunConfig
from fl.config.secret import CLIENT, SERVER, RunSecrets, kept, put
from fl.data.files import write_atomically
from fl.data.shard import write_shard
from fl.own import OwnTask
from fl.page.state import METRICS
from secagg import Policy
from secagg.wire import relay_of
from transport import TransportError
from transport.processes import LocalProcesses, lay_out_keys

if TYPE_CHECKING:
    from socket import socket

    from fl.cli.readings import Record

READ = "read.bin"  # in the server's, for as long as nobody has taken it: what it read, of a run with a meter
PARTIES = "parties"  # the folder of their folders, in the run's
COMING_SECONDS = 60  # in which a client's process, which imports torch, comes to hear that all is done
LOST = 255  # the exit code of a process that was forked from one that has gone
PRELOAD = ("fl.federation.server", "fl.federation.client")  # with torch: imported once for all processes


@dataclass(frozen=True)
class Parties:
    """Their folders: the server's, each client's, and each relay's."""

    server: Path
    clients: list[Path]
    relays: list[Path]


def lay_out_parties(
    config: RunConfig,
    layout: Layout,
    folder: Path,
    resume: bool,
    secrets: RunSecrets,
    task: OwnTask | None = None,
) -> Parties:
    """Folders with keys, a secret and, for a client, its own examples and no others, but for those that
    attackers share; the test set, where clients keep the model and nobody else can evaluate it; and of a run
    that has a task a copy of that. Of a run that goes on they are there; its clients and relays forget what
    they had begun to contribute to, so that they train and round as they did.
    """
    parties, number = folder / PARTIES, config.cohort.clients
    if resume:
        clients = [parties / f"client{u}" for u in range(number)]
        relays = [parties / f"relay{j}" for j in range(config.protection.relay_count)]
        for own in (*clients, *relays):
            for journal in own.glob("*.key.journal"):
                journal.unlink()
        write_serving(parties / "server", layout.serving)  # there may be more rounds than there were
        return Parties(parties / "server", clients, relays)
    if parties.exists():
        shutil.rmtree(parties)
    server, others = lay_out_keys(parties, number, config.protection.relay_count)
    clients, relays = others[:number], others[number:]
    dataset = layout.serving.dataset
    write_serving(server, layout.serving)
    put(server / SERVER, secrets.server)
    if task is not None:
        for own in (server, *clients):
            task.write(own)
    for u, own in enumerate(clients):
        write_shard(own, *layout.examples(u), dataset.classes, dataset.name)
        put(own / CLIENT, secrets.client(u))
        if u in layout.attackers:
            malicious.lay_out(own, config, layout, u, secrets)
        if config.protection.kept:
            write_shard(own / learn.TEST, dataset.test_x, dataset.test_y, dataset.classes, dataset.name)
    return Parties(server, clients, relays)


def collect(clients: list[Path], folder: Path, total: int) -> Path:
    """Put into the run's metrics what its `keeper` has written down, round by round. Returns that client's
    folder.
    """
    own = keeper(clients, total)
    learned = zip(rounds.read_metrics(folder), rounds.read_metrics(own), strict=True)
    rounds.write_metrics(folder, [a | b for a, b in learned])
    return own


def keeper(clients: list[Path], total: int) -> Path:
    """The folder of the first client that came to the end of `total` rounds, where the model is.

    Raises: TransportError where none did.
    """
    for own in clients:
        if (own / METRICS).exists() and len(rounds.read_metrics(own)) == total:
            return own
    raise TransportError("no client came to the end of the run: the model that they keep is lost")


def taken_from(server: Path) -> Record:
    """What the server's process left of what it read, which is then there no more."""
    from fl.cli.readings import unpacked

    record = unpacked((server / READ).read_bytes())
    (server / READ).unlink()
    return record


def federation(
    out: Output,
    config: RunConfig,
    folder: Path,
    parties: Parties,
    drops: Mapping[int, Drop],
    done: int,
    run_id: bytes,
    listening: socket | None = None,
) -> int:
    """Run one training; done: rounds of it before. listening: where the server's process shows a dashboard;
    it is closed here. Returns the server's exit code.

    Nobody gives up by the clock, as a busy machine would decide: the server learns whose process has ended,
    and the others when the server's has.
    """
    names = party_names(len(parties.clients), config.protection.relay_count)
    (here, there), (ended, gone) = Pipe(duplex=False), Pipe(duplex=False)
    with here, gone, LocalProcesses(PRELOAD) as processes:
        # Our copies are closed once the server has its own: when it ends, so does what is read from it.
        with there, ended:
            ends = there, ended
            own = parties.server
            processes.start(
                "server", server_process, out, config, folder, own, *ends, done > 0, run_id, listening
            )
            if listening is not None:
                listening.close()
        try:
            with shown(out, since(lambda: "the server process is starting")):
                endpoint = here.recv()
        except EOFError:
            return _code_of_server(processes) or 1
        for (name, u), own in zip(names.items(), [*parties.clients, *parties.relays], strict=False):
            if u in drops and drops[u].training_round <= done:
                gone.send(u)  # lost before the run was stopped
                continue
            args = (out, config, own, endpoint, here, drops.get(u))
            if relay_of(u) is None:
                processes.start(name, client_process, *args)
            else:
                processes.start(name, relay_process, *args, done)
        for name in processes.as_they_end():
            if name == "server":
                break
            with suppress(OSError):  # it has just gone
                gone.send(names[name])
        code = _code_of_server(processes)
        processes.wait(config.cohort.deadline)  # one that is late in the last round may train for ever
        return code


def seen(parties: Iterable[int], ended: Connection) -> Callable[[], set[int]]:
    """Whose process lives, as the launcher tells the server."""
    living = set(parties)

    def now() -> set[int]:
        while ended.poll():
            living.discard(ended.recv())
        return living

    return now


def _code_of_server(processes: LocalProcesses) -> int:
    """The server's exit code, once it has ended. Raises: TransportError if it was killed."""
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
    listening: socket | None,
) -> None:
    """Body of the server's process: what `secagg serve` does. endpoint: for its address; it stays open for
    as long as the process lives.
    """
    files = own / "server.key", own / "roster"
    lives = seen(party_names(config.cohort.clients, config.protection.relay_count).values(), ended)
    address = "tcp://127.0.0.1:*"
    with (
        exit_code(out),
        dashboard(out, listening) as live,
        transport.serve(address, *files, lives=lives) as cohort,
    ):
        import torch

        from fl.data import load
        from fl.federation.server import Server

        torch.set_num_threads(1)
        task = found_in(config, own)
        if task is None:
            dataset = load(config.data.dataset, config.data.data_dir)
        else:
            dataset = task.served(config.cohort.clients, config.data.folder)
        known = read_serving(own, dataset)
        checkpoint = rounds.going_on(config, folder, task) if resume else None
        readings = None
        if config.meter.on:
            from fl.cli.readings import Readings, packed

            readings = Readings.of(config)
        spending, secret = spending_of(config, folder, checkpoint), kept(own / SERVER)
        server = Server(
            cohort,
            config,
            known,
            checkpoint,
            secret=secret,
            run=run_id,
            instrument=readings,
            spending=spending,
            own=task,
        )
        # Not before: of a run that cannot be, no client is started, to say that its server has gone.
        endpoint.send(cohort.endpoint)
        rounds.conduct(out, server, folder, checkpoint, live=live)
        if readings is not None:
            write_atomically(own / READ, packed(readings.read()), mode=0o600)
        # Where no round was left they are only coming now, and would take a server that is done for one that
        # never was.
        left = COMING_SECONDS
        while left and lives() - cohort.wait_for_clients(len(lives()), 1.0):
            left -= 1


def client_process(
    out: Output, config: RunConfig, own: Path, endpoint: str, serving: Connection, drop: Drop | None
) -> None:
    """Body of a client's process: what `secagg join` does. It opens nothing but its own folder."""
    speaks_up = Output(lines=False, debug=out.debug)
    with joined(speaks_up, own, endpoint, serving, _policy(config)) as peer:
        limits, killer = Limits.of(config.training.plan), Killer(drop, peer.flush)
        learn.train(
            speaks_up,
            peer,
            own,
            device=config.training.device,
            limits=limits,
            killer=killer,
            preflight=Preflight(action=config.training.preflight),
            attacker=malicious.found_in(own, config),
            own=found_in(config, own),
        )


def relay_process(
    out: Output,
    config: RunConfig,
    own: Path,
    endpoint: str,
    serving: Connection,
    drop: Drop | None,
    done: int,
) -> None:
    """Body of a relay's process: what `secagg relay` does."""
    speaks_up = Output(lines=False, debug=out.debug)
    relay.process(speaks_up, own, endpoint, serving, _policy(config), drop, done)


def _policy(config: RunConfig) -> Policy:
    """Of clients and relays: it insists on the run's own protection."""
    noised = config.privacy.mechanism == "distributed"
    return config.protection.policy(noised=noised, clients=config.cohort.per_round)
