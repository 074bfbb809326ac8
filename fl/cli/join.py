"""`secagg join`: one client of a federation, with a vector of its own or with data to train on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import transport
from fl.cli import exit_code
from fl.cli.contribute import contribute, read_vector
from fl.cli.learn import train
from fl.cli.output import Output
from fl.cli.report import WARNINGS, reckoned
from fl.cli.results import check_file, try_folder
from fl.cli.rules import Rules
from fl.config.protection import check_installed
from fl.config.section import ConfigError
from fl.data.shard import Shard
from fl.own import OwnTask
from fl.privacy.budget import Account, Budget, Charged
from secagg import Policy
from secagg.identity import party
from secagg.masking.words import AGAINST, OF_GROUPS, UNSAFE_GROUPS
from secagg.wire import relay_party
from transport import Peer, Relay

PATIENCE = 10.0  # on this machine, once the server has gone: what it said last is here by then


@dataclass(frozen=True)
class Door:
    """Where the server listens, and the files by which it and this client, or relay, know each other: as
    `transport.join` takes them.
    """

    connect: str
    key: Path
    server: Path
    roster: Path | None
    roster_key: Path | None
    state: Path | None
    readers: str
    patience: float

    def peer(self, policy: Policy) -> Peer:
        """Raises: as `transport.join`."""
        return transport.join(self.connect, *self._files, policy=policy, **self._options)

    def relay(self, policy: Policy) -> Relay:
        """Raises: as `transport.join_as_relay`."""
        return transport.join_as_relay(self.connect, *self._files, policy=policy, **self._options)

    @property
    def _files(self) -> tuple[Path, Path, Path | None, Path | None]:
        return self.key, self.server, self.roster, self.roster_key

    @property
    def _options(self) -> dict[str, Any]:
        return {"patience": self.patience, "state": self.state, "readers": self.readers}


def run(
    out: Output,
    door: Door,
    rules: Rules,
    *,
    data: Path | None,
    vector: Path | None,
    flatten: bool,
    weight: int | None,
    new: bool,
    device: str,
    out_path: Path | None,
    force: bool,
    task: Path | None = None,
) -> None:
    """Contribute one vector, or train until the server closes."""
    if (data is None) == (vector is None):
        raise ConfigError("give --input, a vector to contribute, or --data, a folder to train on")
    if vector is not None and "decoys" in rules.policy.schemes:
        raise ConfigError("decoys are made by training: allow them with --data, not for an --input")
    if task is not None and data is None:
        raise ConfigError("--task trains: give it --data, a folder of this client's own")
    if task is not None and door.roster is None:
        raise ConfigError("--task: its data() is told how many clients there are, and --roster says it")
    if new and vector is None:
        raise ConfigError("--new is for --input: what training gives follows from the model")
    if not 0 < door.patience < 1e9:
        raise ConfigError(f"--patience {door.patience}: a number of seconds above 0")
    x = read_vector(vector, flatten=flatten) if vector is not None else None
    result = kept_in(vector, out_path, rules.policy, force=force)
    if data is not None:
        if task is not None and not data.is_dir():
            raise ConfigError(f"{data} is no folder: make the one in which this client keeps what it needs")
        if task is None and not (data / "shard.npz").is_file():
            raise ConfigError(f"{data} holds no shard.npz: name the folder with the client's examples")
        try_folder(data)
    own = None if task is None else OwnTask.read(task)
    check_installed(rules.policy.schemes)
    if door.roster is None:
        out.warn("no --roster: who else takes part, this client takes on the server's word: semi-honest")
    with door.peer(rules.policy) as peer:
        out.say(f"client {peer.id}: connecting to {door.connect}")
        tell_policy(out, rules.policy)
        with on_account(out, peer, rules.budget, trains=x is None) as charged:
            if x is not None:
                contribute(out, peer, x, weight, result, new=new, charged=charged)
            elif data is not None:
                train(
                    out,
                    peer,
                    data,
                    device=device,
                    limits=rules.limits,
                    charged=charged,
                    preflight=rules.preflight,
                    own=own,
                    held=None if own is None else examples_of(out, own, peer, data),
                )


def examples_of(out: Output, own: OwnTask, peer: Peer, folder: Path) -> tuple[Shard, Shard]:
    """What this client trains and tests on, by the data() of its task. Raises: TaskError, DataError."""
    out.say(f"client {peer.id}: trains {own.path}, SHA-256 {own.digest}, and nothing else")
    (x, y), (test_x, test_y) = own.examples(peer.id, peer.listed or 1, folder)
    classes = own.classes(x)
    return Shard(x, y, classes, own.name), Shard(test_x, test_y, classes, own.name)


def kept_in(vector: Path | None, out_path: Path | None, policy: Policy, *, force: bool) -> Path | None:
    """The file for a mean that the clients may keep, None where they keep none. Raises: ConfigError where it
    cannot be written, or one is asked for in vain.
    """
    if vector is not None and "ckks" in policy.schemes:
        result = out_path or vector.with_suffix(".mean.npy")
        check_file(result, force=force)
        return result
    if out_path is not None:
        raise ConfigError("--out is for --input where ckks is allowed: there the clients may keep the mean")
    return None


@contextmanager
def on_account(out: Output, peer: Peer, budget: Budget | None, *, trains: bool) -> Iterator[Charged | None]:
    """The account of this client's sessions, if it keeps to a budget; what is left is said at the beginning,
    and after sessions that came to their end.
    """
    if budget is None:
        yield None
        return
    charged = Charged(Account(budget, peer.spent), trains)
    tell_budget(out, charged.account)
    yield charged
    tell_budget(out, charged.account)


@contextmanager
def joined(out: Output, own: Path, endpoint: str, serving: Connection, policy: Policy) -> Iterator[Peer]:
    """Connect a client's process on this machine: with the keys in its own folder; an error becomes one line
    and the exit code. serving: a pipe that comes to its end when the server does.
    """
    keys = own / "client.key", own / "server.pub", own / "roster"
    how = on_this_machine(serving, policy)
    with exit_code(out, own.name), transport.join(endpoint, *keys, **how) as peer:
        yield peer


def on_this_machine(serving: Connection, policy: Policy) -> dict[str, Any]:
    """How a process joins the server of this machine, for as long as that lives."""
    return {"policy": policy, "patience": PATIENCE, "lives": lambda: not serving.poll()}


def party_names(clients: int, relays: int) -> dict[str, int]:
    """What the processes of a run on this machine are called, but for the server's -> the id under which each
    takes part.
    """
    return {party(u): u for u in (*range(clients), *map(relay_party, range(relays)))}


def tell_policy(out: Output, policy: Policy) -> None:
    if "plain" in policy.schemes:
        out.warn("plain is allowed: if the server offers that, it reads every vector of this client")
    for scheme in sorted(WARNINGS.keys() & policy.schemes):
        out.warn(f"{scheme} is allowed: {WARNINGS[scheme]}")
    if "split" in policy.schemes:
        out.say("split is allowed: who has all of its relays on its side reads every vector of this client")
    if policy.unsafe_groups:
        out.warn(f"unsafe groups are allowed: {UNSAFE_GROUPS}")
    elif policy.schemes == {"masking"}:
        out.say((AGAINST if policy.smallest_group is None else OF_GROUPS)[policy.adversary])


def tell_budget(out: Output, account: Account) -> None:
    budget, left = account.budget, account.left
    out.say(
        f"{left:.0%} of this client's privacy budget is left: epsilon {reckoned(budget.epsilon)} at delta "
        f"{budget.delta:g} of one {budget.protects}, counted at order {account.order:g}"
    )
    out.record({"budget_left": left})
