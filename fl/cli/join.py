"""`secagg join`: one client of a federation, with a vector of its own or with data to train on."""

from __future__ import annotations

import os
import shlex
import stat
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import transport
from fl.cli import exit_code
from fl.cli.drops import Killer
from fl.cli.output import Output
from fl.cli.report import THREAT_MODEL
from fl.config import ConfigError
from fl.protection import Protection
from secagg import LocalProtocolError, Policy
from transport import Contribution, Peer, TransportError

ROUNDING_SEED = "rounding.seed"
SEED_BYTES = 32
PATIENCE = 60.0


def run(
    out: Output,
    connect: str,
    key: Path,
    *,
    data: Path | None,
    vector: Path | None,
    weight: int | None,
    server: Path,
    roster: Path | None,
    roster_key: Path | None,
    policy_file: Path | None,
    allow: Sequence[str],
    semi_honest: bool,
    smallest_cohort: int | None,
    batch: int | None,
    patience: float,
    device: str,
) -> None:
    """Contribute one vector, or train until the server closes."""
    if (data is None) == (vector is None):
        raise ConfigError("give --input, a vector to contribute, or --data, a folder to train on")
    if policy_file is not None and (allow or semi_honest or smallest_cohort is not None or batch is not None):
        raise ConfigError(
            "--policy says it all: no --allow, --semi-honest, --smallest-cohort, --batch with it"
        )
    if unknown := set(allow) - {"masking", "plain"}:
        raise ConfigError(f"--allow {min(unknown)}: the schemes are masking and plain")
    if not 0 < patience < 1e9:
        raise ConfigError(f"--patience {patience}: a number of seconds above 0")
    x = read_vector(vector) if vector is not None else None
    if policy_file is not None:
        policy = read_policy(policy_file)
    else:
        policy = Policy(
            schemes=frozenset({"masking", *allow}),
            adversary="semi-honest" if semi_honest or roster is None else "active",
            smallest_cohort=3 if smallest_cohort is None else smallest_cohort,
            batch=batch,
        )
    if roster is None:
        out.warn("no --roster: who else takes part, this client takes on the server's word: semi-honest")
    with transport.join(connect, key, server, roster, roster_key, policy=policy, patience=patience) as peer:
        out.say(f"client {peer.id}: connecting to {connect}")
        if "plain" in policy.schemes:
            out.warn("plain is allowed: if the server offers that, it reads every vector of this client")
        else:
            out.say(THREAT_MODEL[policy.adversary])
        if x is not None:
            run_sum(out, peer, x, weight)
        elif data is not None:
            run_training(out, peer, data, device=device)


@contextmanager
def joined(out: Output, own: Path, endpoint: str, protection: Protection) -> Iterator[Peer]:
    """For the body of a client's process on this machine: with the keys in its own folder, insisting on just
    this protection; an error becomes one line and the exit code.
    """
    keys = own / "client.key", own / "server.pub", own / "roster"
    policy = protection.policy()
    with exit_code(out, own.name), transport.join(endpoint, *keys, policy=policy, patience=PATIENCE) as peer:
        yield peer


def read_policy(path: Path) -> Policy:
    """The client's own rules, a .toml of the fields of `secagg.Policy`. Raises: ConfigError for any other."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), Policy)
    except OSError as error:
        raise ConfigError(f"{path}: not readable: {error.strerror}") from error
    except (ValueError, LocalProtocolError) as error:
        raise ConfigError(f"{path} is not a policy: {error}") from error


def rounding_seed(folder: Path) -> bytes:
    """This client's secret seed of rounding, made at the first call: a run that is resumed rounds alike.

    Raises: ConfigError if the file is damaged or others may read it.
    """
    path = folder / ROUNDING_SEED
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(os.urandom(SEED_BYTES))
    except FileExistsError:
        pass
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError(f"{path} is readable by others: chmod 600 {shlex.quote(str(path))}")
    seed = path.read_bytes()
    if len(seed) != SEED_BYTES:
        raise ConfigError(f"{path} is damaged: delete it, and a new one is made")
    return seed


def read_vector(path: Path) -> np.ndarray[Any, Any]:
    """The vector in an .npy file. Raises: ConfigError if it holds anything else."""
    try:
        return np.load(path, allow_pickle=False).reshape(-1)  # type: ignore[no-any-return]
    except (OSError, ValueError, EOFError, AttributeError) as error:
        raise ConfigError(f"{path} is not a vector in numpy's .npy format: {error}") from None


def run_sum(out: Output, peer: Peer, vector: np.ndarray[Any, Any], weight: int | None) -> None:
    """Contribute one vector to one session."""
    values = {"": vector} if weight is None else {"": vector, "weight": weight}
    contribution = peer.contribute(lambda task: values)
    if contribution is None or not contribution.summed:
        reason = contribution.reason if contribution else "the server closed without a session"
        raise TransportError(f"the vector is not known to be in a sum: {reason}")
    tell_clipping(out, peer.id, contribution)
    out.say(f"client {peer.id}: the vector is in the sum")
    out.record({"client": peer.id, "summed": True})


def run_training(
    out: Output,
    peer: Peer,
    folder: Path,
    *,
    device: str,
    killer: Killer | None = None,
) -> None:
    """Train on the shard in `folder` whenever the server asks, until it closes."""
    import torch

    from fl.data.shard import read_shard
    from fl.federation import LocalTrainer

    torch.set_num_threads(1)
    killer = killer or Killer(None)
    trainer = LocalTrainer(peer.id, read_shard(folder), device)
    seed = rounding_seed(folder)
    while (
        contribution := peer.contribute(trainer, rounding_seed=seed, progress=killer.progress)
    ) is not None:
        tell_clipping(out, peer.id, contribution)
        outcome = "in the sum" if contribution.summed else f"not in the sum: {contribution.reason}"
        out.say(f"client {peer.id}: round {killer.session}: {outcome}")
        out.record({"client": peer.id, "session": killer.session, "summed": contribution.summed})
        killer.session += 1


def tell_clipping(out: Output, u: int, contribution: Contribution) -> None:
    """What encoding changed in this client's vectors; the server does not learn it."""
    for name, clipping in contribution.clipping.items():
        spec = contribution.scheme.vectors[name]
        if clipping.coordinates:
            out.warn(
                f"client {u}: {clipping.coordinates} coordinates of {name or 'the vector'} were beyond "
                f"±{getattr(spec, 'bound', 0):g} and were clipped"
            )
