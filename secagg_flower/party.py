"""What a client has of its own at its node: its policy, where its records lie, and with a roster its key."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg import Identity, LocalProtocolError, Policy
from secagg.alike import OWN_INPUT, Alike, Likeness
from secagg.session import Once
from transport import TransportError
from transport.journal import Tickets
from transport.line import Memory, known
from transport.records import base_of

log = logging.getLogger("flwr.secagg")

NAMED = ("key", "roster", "roster-key", "state")
"""What a node's own configuration names, as "secagg-key" and so on; it goes before what the app names."""


@dataclass(frozen=True)
class Files:
    """Paths, in which {partition-id}, or what else a node's configuration has, stands for its value."""

    key: str | Path | None = None
    roster: str | Path | None = None
    roster_key: str | Path | None = None
    state: str | Path | None = None

    def at(self, node_config: Mapping[str, Any]) -> Files:
        """Those of this node. Raises: LocalProtocolError for a name that the node does not have, or that
        nobody reads.
        """
        known = [f"secagg-{name}" for name in NAMED]
        # Who means to name a key, and names nothing, would be without one and not know.
        if unread := sorted(name for name in node_config if name.startswith("secagg") and name not in known):
            raise LocalProtocolError(
                f"the configuration of this node has {unread[0]!r}, which nothing reads: there are "
                f"{', '.join(known)}"
            )
        named = {
            name.replace("-", "_"): node_config[f"secagg-{name}"]
            for name in NAMED
            if f"secagg-{name}" in node_config
        }
        chosen = replace(self, **named)
        try:
            paths = {
                name: None if path is None else str(path).format_map(node_config)
                for name, path in vars(chosen).items()
            }
        except (KeyError, ValueError, IndexError) as error:
            raise LocalProtocolError(
                f"a path names {error}, which the configuration of this node has not: it has "
                f"{', '.join(sorted(node_config)) or 'nothing'}"
            ) from None
        return Files(**paths)


@dataclass(frozen=True)
class Party:
    """policy: what it insists on. record: of its suspended sessions. identity, memory: where it has a key."""

    policy: Policy
    record: Tickets
    identity: Identity | None = None
    memory: Memory | None = None

    @classmethod
    def of(cls, policy: Policy | None, files: Files) -> Party:
        """Raises: TransportError if a file is not right, with what to do; LocalProtocolError where one is
        missing.
        """
        if (files.key is None) != (files.roster is None):
            raise LocalProtocolError(
                "a key proves who a client is to those who hold the roster that lists it: name both, "
                "secagg-key and secagg-roster, or neither"
            )
        if policy is None:
            policy = Policy(adversary="semi-honest" if files.roster is None else "active")
        if files.key is None:
            if policy.alike in ("always", "any") or policy.one_cut is not None:
                which = f"one_cut={policy.one_cut!r}" if policy.one_cut else f"alike={policy.alike!r}"
                raise LocalProtocolError(
                    f"a policy of {which} is kept by a key, with what it has signed: name secagg-key and "
                    "secagg-roster"
                )
            return cls(policy, Tickets(_folder(files.state) / "flower.tickets"))
        own, identity, memory = known(
            "client", files.key, files.roster, files.roster_key, files.state, "owner"
        )
        base = base_of(files.key, own.public, files.state)
        return cls(policy, Tickets(Path(f"{base}.tickets")), identity, memory)

    @property
    def once(self) -> Once | None:
        return None if self.memory is None else self.memory.journal.once

    def alike(self, model: Callable[[], NDArray[np.floating]]) -> Alike | None:
        """Its rule for sums of like updates, where it has one. model: where training starts.

        Whether an app takes its examples in an order that is new each time is not to be seen: by "auto"
        nothing is alike.
        """
        ruled = self.policy.alike in ("always", "any")
        if self.memory is None or not (ruled or self.policy.one_cut):
            return None
        whatever = self.policy.alike == "any"

        def likeness(task: bytes) -> Likeness | None:
            if not ruled:
                return None
            return replace(OWN_INPUT, whatever=True) if whatever else Likeness("flower", model())

        roster = None if self.identity is None else self.identity.roster
        kept = self.memory.signed, self.memory.signing, roster
        return Alike(likeness, *kept, self.policy.difference, one_cut=self.policy.one_cut)


def _folder(state: str | Path | None) -> Path:
    """Where the records of a client without a key lie: nobody else on this machine reads them."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    folder = Path(state) if state is not None else Path(home) / "secagg"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise TransportError(
            f"{folder}: {error.strerror}: a client keeps there what it has answered, or nothing may leave; "
            "name another folder, secagg-state in the node's configuration (secure_mod(state=...))"
        ) from None
    return folder
