"""`secagg train`: a whole federation on this machine, one server process and one for each client."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import transport
from fl.cli import exit_code, join, serve
from fl.cli.drops import Drop, Killer, in_plain, parse
from fl.cli.output import Output
from fl.cli.report import draw_accuracy, size, threat_model, warn
from fl.config import ConfigError, RunConfig
from fl.protection import check_installed
from secagg import Roster
from secagg.crypto import DIGEST_BYTES
from transport import TransportError
from transport.cohort import LocalProcesses, lay_out_keys

PARTIES, BASELINE = "parties", "plain"
START_SECONDS, END_SECONDS = 120.0, 60.0


def run(out: Output, config: RunConfig, folder: Path, *, force: bool, baseline: bool) -> int:
    """Train, then train again unprotected beside it. Returns the exit code of the server process."""
    from fl.federation import scheme_for

    # As it will be, but for the roster, which is made below.
    stand_in = Roster(bytes(DIGEST_BYTES), {})
    scheme = scheme_for(config, config.clients, 1, config.max_examples or 1, stand_in)
    drops = parse(config.drop, config.clients, scheme.rounds)
    if late := [drop for drop in drops.values() if drop.training_round > config.rounds]:
        raise ConfigError(
            f"--drop: client {late[0].client} is dropped in training round {late[0].training_round}, and "
            f"there are {config.rounds}"
        )
    check_installed({config.scheme})
    server, clients = lay_out(config, folder, force=force)
    warn(out, config.protection)
    against = threat_model(config.protection)
    out.say(f"{config.scheme}, {config.clients} clients on {config.dataset}: {against}")
    out.say("starting the server and the clients; each loads torch, which takes a moment")
    if code := federation(out, config, folder, server, clients, drops):
        return code
    models = collect(clients, folder, config.rounds) if config.protection.kept else folder
    if config.scheme == "plain" or not baseline:
        summary(out, config, folder, models, None)
        return 0
    out.say("the same seed without protection, to compare with:")
    plain = msgspec.structs.replace(config, scheme="plain", ending=None, drop=())
    quiet = Output(quiet=True, debug=out.debug)
    beside = folder / BASELINE
    serve.prepare_folder(beside, force=force)
    if code := federation(
        quiet, plain, beside, server, clients, {u: in_plain(drop) for u, drop in drops.items()}
    ):
        return code
    summary(out, config, folder, models, beside)
    return 0


def lay_out(config: RunConfig, folder: Path, *, force: bool) -> tuple[Path, list[Path]]:
    """(the server's folder, each client's), with keys and, for a client, its own examples and no others; and
    the test set, where clients keep the model and nobody else can evaluate it.
    """
    from fl.data import load
    from fl.data.partition import dirichlet
    from fl.data.shard import write_shard

    dataset = load(config.dataset, config.data_dir)
    shards = dirichlet(dataset.train_y, config.clients, config.alpha, np.random.default_rng(config.seed))
    serve.prepare_folder(folder, force=force)
    parties = folder / PARTIES
    if parties.exists():
        shutil.rmtree(parties)
    server, clients = lay_out_keys(parties, config.clients)
    for own, indices in zip(clients, shards, strict=True):
        write_shard(own, dataset.train_x[indices], dataset.train_y[indices], dataset.classes, dataset.name)
        if config.protection.kept:
            write_shard(own / join.TEST, dataset.test_x, dataset.test_y, dataset.classes, dataset.name)
    return server, clients


def collect(clients: list[Path], folder: Path, rounds: int) -> Path:
    """Put into the run's metrics what its first client that came to the end has written down, round by round.
    Returns that client's folder, where the model is.
    """
    for own in clients:
        learned = serve.read_metrics(own) if (own / serve.METRICS).exists() else []
        if len(learned) == rounds:
            serve.write_metrics(
                folder, [a | b for a, b in zip(serve.read_metrics(folder), learned, strict=True)]
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
) -> int:
    """Run one training; returns the server's exit code."""
    with LocalProcesses() as processes:
        here, there = Pipe(duplex=False)
        processes.start("server", server_process, out, config, folder, server, there)
        there.close()
        try:
            if not here.poll(START_SECONDS):
                raise TransportError("the server process did not start in time: is this machine busy?")
            endpoint = here.recv()
        except EOFError:
            return _code_of_server(processes) or 1
        for u, own in enumerate(clients):
            processes.start(f"client {u}", client_process, out, config, own, endpoint, drops.get(u))
        code = _code_of_server(processes)
        processes.wait(END_SECONDS)
        return code


def _code_of_server(processes: LocalProcesses) -> int:
    """Once it has ended. Raises: TransportError if it was killed."""
    code = processes.wait_for("server") or 0
    if code < 0:
        raise TransportError(f"the server process was killed (signal {-code}): has this machine memory left?")
    return code


def server_process(out: Output, config: RunConfig, folder: Path, own: Path, endpoint: Connection) -> None:
    """Body of the server's process: what `secagg serve` does."""
    with exit_code(out), transport.serve("tcp://127.0.0.1:*", own / "server.key", own / "roster") as cohort:
        endpoint.send(cohort.endpoint)
        endpoint.close()
        serve.run_training(out, cohort, config, folder, {})


def client_process(out: Output, config: RunConfig, own: Path, endpoint: str, drop: Drop | None) -> None:
    """Body of a client's process: what `secagg join` does. It opens nothing but its own folder."""
    speaks_up = Output(lines=False, debug=out.debug)
    with join.joined(speaks_up, own, endpoint, config.protection) as peer:
        join.run_training(speaks_up, peer, own, device=config.device, killer=Killer(drop))


def summary(out: Output, config: RunConfig, folder: Path, models: Path, beside: Path | None) -> None:
    """Accuracy and bytes of both runs side by side, and how far their weights are apart. models: the folder
    that holds the first one's.
    """
    runs = {config.scheme: serve.read_metrics(folder)}
    if beside is not None:
        runs[BASELINE] = serve.read_metrics(beside)
    draw_accuracy(
        folder / serve.PLOT,
        {name: [record["accuracy"] for record in records] for name, records in runs.items()},
        f"{config.dataset}, {config.model}, {config.clients} clients, seed {config.seed}",
    )
    rows = [_row(name, records, config.clients) for name, records in runs.items()]
    fields: dict[str, Any] = {"folder": str(folder), "runs": rows}
    out.table(
        [
            (
                row["scheme"],
                f"{row['accuracy']:.4f}",
                size(row["bytes_up_per_client_round"]),
                size(row["bytes_down_per_client_round"]),
                f"{row['seconds']:.1f} s",
            )
            for row in rows
        ],
        ("scheme", "test accuracy", "up per client and round", "down", "time"),
        "result",
    )
    if beside is not None:
        fields |= _difference(out, models, beside, runs[config.scheme][0])
    whose = "each client the model" if config.protection.kept else "the model"
    out.say(f"wrote {folder}: {', '.join(serve.OUTPUTS[:3])} and {whose}: fl.load({str(models)!r})")
    out.record({"summary": fields})


def _row(name: str, records: list[dict[str, Any]], clients: int) -> dict[str, Any]:
    each = clients * len(records)
    return {
        "scheme": name,
        "accuracy": records[-1]["accuracy"],
        "bytes_up_per_client_round": sum(record["bytes_up"] for record in records) / each,
        "bytes_down_per_client_round": sum(record["bytes_down"] for record in records) / each,
        "seconds": sum(record["seconds"] for record in records),
    }


def _difference(out: Output, models: Path, beside: Path, first: Mapping[str, Any]) -> dict[str, Any]:
    from fl import load
    from fl.models import to_vector

    after_one = float(np.abs(np.load(models / serve.FIRST_ROUND) - np.load(beside / serve.FIRST_ROUND)).max())
    final = float(np.abs(to_vector(load(models)) - to_vector(load(beside))).max())
    bound = first["error_bound"]
    out.say(
        f"after training round 1 no weight differs from the plain run by more than {after_one:.2e} "
        f"(bound {bound:.2e})"
    )
    out.say(f"at the end the largest difference of a weight is {final:.2e}: training amplifies rounding")
    return {"difference_after_round_1": after_one, "bound": bound, "difference_at_the_end": final}
