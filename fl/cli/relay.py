"""`secagg relay`: one relay of a federation, which adds its shares of the vectors, session by session."""

from __future__ import annotations

from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec

import transport
from fl.cli import exit_code
from fl.cli.display import shown, since
from fl.cli.drops import Drop, Killer
from fl.cli.join import Door, on_this_machine
from fl.cli.output import Output
from fl.cli.rules import policy_of
from fl.config.section import ConfigError
from secagg import Policy, RemoteProtocolError
from transport import Relay

SCHEME = "split"  # the only one with relays


def run(out: Output, door: Door, policy: Policy) -> None:
    """Take part as a relay in every session, until the server closes."""
    if not 0 < door.patience < 1e9:
        raise ConfigError(f"--patience {door.patience}: a number of seconds above 0")
    with door.relay(policy) as relay:
        out.say(f"relay {relay.id}: connecting to {door.connect}")
        serve(out, relay)


def policy_for(file: Path | None, roster: Path, flags: Mapping[str, Any]) -> Policy:
    """The relay's policy: that in the file, or what the options say. Raises: ConfigError as `policy_of`, and
    for one under which a relay takes part in nothing.
    """
    policy = policy_of(file, roster, flags)
    if file is None:
        return msgspec.structs.replace(policy, schemes=frozenset({SCHEME}))
    if SCHEME not in policy.schemes:
        raise ConfigError(f'{file}: a relay takes part in split alone: write schemes = ["split"]')
    return policy


def serve(out: Output, relay: Relay, killer: Killer | None = None) -> None:
    """The sessions of a server, to its end. One that this relay takes no part in does not end the next."""
    at, killer = ["waiting for the server"], killer or Killer(None)

    def progress(round: str, sent: int, size: int) -> None:
        at[0] = f"in {round}"
        if killer.progress is not None:
            killer.progress(round, sent, size)
        if round == "join":
            killer.training(killer.round + 1)  # it sees no task: it counts

    with shown(out, since(lambda: f"relay {relay.id}: {at[0]}")):
        while True:
            try:
                served = relay.serve(progress=progress, tell=out.warn)
            except RemoteProtocolError as error:
                out.warn(f"relay {relay.id}: took no part, or no more, in a session: {error}")
                out.record({"relay": relay.id, "summed": False})
                continue
            if served is None:
                return
            how = "its column is in the sum" if served.summed else f"no sum: {served.reason}"
            out.say(f"relay {relay.id}: {how}")
            out.record({"relay": relay.id, "summed": served.summed})


def process(
    out: Output,
    own: Path,
    endpoint: str,
    serving: Connection,
    policy: Policy,
    drop: Drop | None = None,
    done: int = 0,
) -> None:
    """Body of a relay's process on this machine. done: training rounds before it."""
    keys = own / "relay.key", own / "server.pub", own / "roster"
    how = on_this_machine(serving, policy)
    with exit_code(out, own.name), transport.join_as_relay(endpoint, *keys, **how) as relay:
        serve(out, relay, Killer(drop, relay.flush, round=done))
