"""Who is who, where the server is not trusted to say so: a roster each client holds itself, and its own key.

A roster binds ids to Ed25519 keys. It comes from the client's own signed file (`transport.roster`), never
from the server; its digest is part of the parameters and of every signature.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from secagg.crypto import (
    DIGEST_BYTES,
    KEY_BYTES,
    Rng,
    SigningKey,
    Tag,
    digest,
    is_signature,
    system_rng,
    verifies_anything,
)
from secagg.errors import ClientId, LocalProtocolError, RemoteProtocolError
from secagg.wire import relay_of, relay_party


@dataclass(frozen=True)
class Roster:
    """Who takes part, and by which key each signs. A file of one is `transport.roster`'s.

    digest: 32 bytes that name this roster. keys: id -> Ed25519 public key, 32 bytes. relays: j -> that of
    relay j.

    Raises: LocalProtocolError for a digest of another length, a key under which anybody can sign, or one key
    for two relays.
    """

    digest: bytes
    keys: Mapping[ClientId, bytes]
    relays: Mapping[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.digest) != DIGEST_BYTES:
            raise LocalProtocolError(f"a roster's digest has {DIGEST_BYTES} bytes")
        if weak := [u for u, key in self.keys.items() if verifies_anything(key)]:
            raise LocalProtocolError(
                f"the roster lists client {weak[0]} with a key of small order, under which anybody can sign"
            )
        if weak := [j for j, key in self.relays.items() if verifies_anything(key)]:
            raise LocalProtocolError(
                f"the roster lists relay {weak[0]} with a key of small order, under which anybody can sign"
            )

        if len(set(self.relays.values())) < len(self.relays):
            raise LocalProtocolError(
                "the roster lists two relays with one key: who has it would have two shares of each vector"
            )

    def key_of(self, u: ClientId) -> bytes | None:
        """That of client u, or of a relay by the id under which it takes part; None of who is not listed."""
        j = relay_of(u)
        return self.keys.get(u) if j is None else self.relays.get(j)

    def signed_by(self, u: ClientId, message: bytes, signature: bytes) -> bool:
        """Whether u is in this roster and this is its signature."""
        key = self.key_of(u)
        return key is not None and is_signature(key, message, signature)


@dataclass(frozen=True)
class Identity:
    """Client u, or a relay by the id under which it takes part: its roster, and its own signing key, which
    no repr shows.

    Raises: LocalProtocolError if the roster does not bind u to this key.
    """

    u: ClientId
    roster: Roster
    key: SigningKey = field(repr=False)

    def __post_init__(self) -> None:
        if self.roster.key_of(self.u) != self.key.public:
            raise LocalProtocolError(f"the roster does not list {party(self.u)} with this key")


def party(u: ClientId) -> str:
    """A client or a relay, in a text."""
    j = relay_of(u)
    return f"client {u}" if j is None else f"relay {j}"


def check_signed(
    roster: Roster | None,
    v: ClientId,
    statement: Callable[[], bytes],
    signature: bytes,
    what: str,
    wrong: str,
) -> None:
    """A signature is there where the session signs, and only then; and it is v's of this statement.

    roster: of whoever checks; None where nothing is signed. what: begins the message where a signature is
    there all the same. wrong: the message where it is not v's.

    Raises: RemoteProtocolError.
    """
    if roster is None:
        # One that nobody checks is not to pass for one that was checked.
        if signature:
            raise RemoteProtocolError(f"{what} signed in a session where nothing is signed")
    elif not roster.signed_by(v, statement(), signature):
        raise RemoteProtocolError(wrong)


def throwaway_identities(
    cohort: Collection[ClientId], rng: Rng = system_rng, *, relays: int = 0
) -> tuple[Roster, dict[ClientId, Identity]]:
    """(a roster with new keys, id -> identity) for a session within one process: for `run`, tests and
    experiments. cohort: the clients' ids. rng: of the keys. relays: so many of them, too, by the ids under
    which they take part.

    Security: all keys are in this process, and whoever made them: parties that are apart make their own.
    """
    parties = [*sorted(cohort), *map(relay_party, range(relays))]
    keys = {u: SigningKey(rng(KEY_BYTES)) for u in parties}
    listed = b"".join(u.to_bytes(4, "big") + key.public for u, key in keys.items())
    roster = Roster(
        digest(Tag.ROSTER, listed),
        {u: key.public for u, key in keys.items() if relay_of(u) is None},
        {j: keys[relay_party(j)].public for j in range(relays)},
    )
    return roster, {u: Identity(u, roster, key) for u, key in keys.items()}
