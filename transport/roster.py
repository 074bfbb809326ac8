"""The roster: who is who, signed offline, held by every client itself.

    secagg-roster 1
    version 3
    signer <ed25519, 64 hex>
    client 0 <curve, 40 Z85> <ed25519, 64 hex>
    client 7 ...
    relay 0 <curve, 40 Z85> <ed25519, 64 hex>
    signature <128 hex>

Relays stand in it where there are any. The signature is Ed25519 over a tag and the exact bytes of all lines
above it. It is checked under the key that the reader pinned, never under the one the file names, which serves
the message alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, cast

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import secagg
from secagg.errors import LocalProtocolError
from secagg.wire import relay_party
from transport.errors import FileError, TransportError
from transport.keys import Kind, PrivateKey, PublicKey, check_as_written, read_file, write_file
from transport.records import of_the_key

MAX_VERSION = 10**18 - 1
MAX_FILE = 64 * 2**20  # bytes: half a million clients
_SIGNATURE_TAG = b"secagg/1/roster-signature\0"
_HEADER = "secagg-roster 1"
_KINDS: tuple[Kind, ...] = ("client", "relay")  # of the parties that stand in a roster, in this order
_ASK = "ask the keeper of the roster for the file again"

_VERSION = re.compile(r"version ([1-9][0-9]{0,17})")
_SIGNER = re.compile(r"signer ([0-9a-f]{64})")
_PARTY = re.compile(r"(client|relay) (0|[1-9][0-9]{0,9}) (\S{40}) ([0-9a-f]{64})")
_SIGNATURE = re.compile(r"signature ([0-9a-f]{128})")


@dataclass(frozen=True, slots=True)
class Roster:
    """The clients of a federation and its relays, as the roster key signed them. Its length is the clients'.

    clients: id -> key, ids ascending. relays: the same, from 0 on without a gap; often there are none.
    digest: SHA-256 of the signed bytes; goes into every signature of a session.
    """

    version: int
    clients: Mapping[int, PublicKey]
    signer: PublicKey
    digest: bytes
    relays: Mapping[int, PublicKey] = field(default_factory=dict)
    _ids: Mapping[bytes, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ids = {key.curve: id for id, key in self.clients.items()}
        ids |= {key.curve: relay_party(j) for j, key in self.relays.items()}
        object.__setattr__(self, "_ids", ids)

    def id_of(self, curve_public: bytes) -> int | None:
        """The party of a session whose CURVE key this is (40 bytes of Z85): a client's id, or what stands for
        a relay (`secagg.wire.relay_party`); None for a stranger.
        """
        return self._ids.get(curve_public)

    @property
    def identities(self) -> secagg.Roster:
        """This roster as a session uses it: its digest and the signing keys of clients and relays."""
        return secagg.Roster(
            self.digest,
            {id: key.ed25519 for id, key in self.clients.items()},
            {j: key.ed25519 for j, key in self.relays.items()},
        )

    def __len__(self) -> int:
        return len(self.clients)


def sign(parties: Iterable[PublicKey], version: int, roster_key: PrivateKey) -> bytes:
    """The text of a signed roster.

    parties: the keys of clients, and of relays where there are any, in any order.
    version: 1..10^18-1; each new roster of one roster key has a higher one, or clients refuse it.

    Raises: LocalProtocolError if no client is given, a party is given twice, a relay is missing below
        another, or a key is of the wrong kind.
    """
    if roster_key.kind != "roster":
        raise LocalProtocolError(f"a roster is signed with a roster key, not with a {roster_key.kind} key")
    if not 1 <= version <= MAX_VERSION:
        raise LocalProtocolError(f"a roster's version is 1 to {MAX_VERSION}, not {version}")
    keys = list(parties)
    for key in keys:
        if key.kind not in _KINDS:
            raise LocalProtocolError(f"a roster lists clients and relays, not a {key}")
    keys.sort(key=_place)
    if not any(key.kind == "client" for key in keys):
        raise LocalProtocolError("a roster needs at least one client")
    if fault := _disorder(keys):
        raise LocalProtocolError(f"{fault[1]}: give each party's public key once")
    lines = [_HEADER, f"version {version}", f"signer {roster_key.public.ed25519.hex()}"]
    lines += [f"{key.kind} {key.id} {key.curve.decode()} {key.ed25519.hex()}" for key in keys]
    body = "".join(line + "\n" for line in lines).encode("ascii")
    signature = roster_key.signing.sign(_SIGNATURE_TAG + body)
    return body + f"signature {signature.hex()}\n".encode("ascii")


def read(path: str | Path, signer: PublicKey) -> Roster:
    """Read a roster and verify that `signer` signed it.

    signer: the roster key this reader trusts, from a file of its own.

    Raises: TransportError naming the line and the remedy if it is unsigned, signed by another key, changed
        after signing, or breaks the format in any way.

    Security: never take `signer` from the server, nor from whoever delivers the roster unless its
        fingerprint was compared. An older roster verifies too: call `remember`.
    """
    if signer.kind != "roster":
        raise LocalProtocolError(f"a roster is verified under a roster key, not under a {signer.kind} key")
    data = read_file(path, MAX_FILE)
    check_as_written(path, data)
    # Decoded before it is verified, so that a fault is told with its line. Nothing of it leaves this function
    # until the signature fits.
    try:
        body, signature = _split(data)
        roster = _decode(body)
    except _FaultError as fault:
        raise FileError(f"{path}, line {fault.line}: {fault}") from None
    if roster.signer != signer:  # from here on, and in `remember`, what the file names is what was pinned
        raise FileError(
            f"{path}, line 3: signed by roster key {roster.signer.fingerprint}, the one trusted here is "
            f"{signer.fingerprint}: compare both with the keeper of the roster before you change either file"
        )
    try:
        Ed25519PublicKey.from_public_bytes(signer.ed25519).verify(signature, _SIGNATURE_TAG + body)
    except InvalidSignature:
        line = body.count(b"\n") + 1
        raise FileError(
            f"{path}, line {line}: the signature does not fit: a line was changed after signing; {_ASK}"
        ) from None
    return roster


def remember(state_path: str | Path, roster: Roster) -> None:
    """Record this roster as the newest seen of its signer, durably, or refuse it.

    state_path: a file of this client alone, `<key>.seen`, made at the first call with mode 0600; beside the
    key itself where `<key>` is a link.

    Raises: TransportError if a newer version was seen, if this version was seen with other content (its
        signer signed two), or if the record is damaged.

    Security: the first roster of a signer is taken at its word. Losing the record loses the protection.
    """
    state_path = of_the_key(state_path)
    with _locked(state_path):
        seen = _read_seen(state_path)
        signer = roster.signer.ed25519.hex()
        this = _Seen(roster.version, roster.digest.hex())
        last = seen.rosters.get(signer)  # by signer: a new roster key begins again at any version
        if last == this:
            return
        if last is not None and this.version < last.version:
            raise TransportError(
                f"this roster has version {this.version}, but version {last.version} was seen before: "
                "ask the keeper of the roster for the newest"
            )
        if last is not None and this.version == last.version:
            raise TransportError(
                f"two rosters of version {this.version} were signed with the same key: do not go on, "
                "and ask the keeper of the roster which one is right and for one with a higher version"
            )
        data = msgspec.json.encode(_SeenFile(seen.format, {**seen.rosters, signer: this}))
        write_file(state_path, data + b"\n", mode=0o600, replace=True)


class _FaultError(Exception):
    """A line that breaks the format; `read` adds the path."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def _split(data: bytes) -> tuple[bytes, bytes]:
    """The signed bytes and the signature."""
    lines = data.split(b"\n")
    if data.startswith(b"#"):
        raise _FaultError(1, "this is a key file, not a roster: name the roster")
    at = next((i for i, line in enumerate(lines) if line.startswith(b"signature ")), None)
    if at is None:
        raise _FaultError(len(lines), f"no signature: the roster is not signed, or was cut short; {_ASK}")
    match = _SIGNATURE.fullmatch(lines[at].decode("ascii", "replace"))
    if match is None:
        raise _FaultError(at + 1, f"a signature is 128 hex digits; {_ASK}")
    if lines[at + 1 :] != [b""]:
        raise _FaultError(at + 1, f"the file must end with one line feed right after the signature; {_ASK}")
    return b"".join(line + b"\n" for line in lines[:at]), bytes.fromhex(match[1])


def _decode(body: bytes) -> Roster:
    """The signed lines as a Roster, not verified yet."""
    try:
        lines = body.decode("ascii").split("\n")[:-1]
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise _FaultError(line, f"a roster is plain ASCII; {_ASK}") from None
    if not lines or lines[0] != _HEADER:
        raise _FaultError(1, f"a roster begins with '{_HEADER}'; {_ASK}, or update secagg")
    version = _VERSION.fullmatch(lines[1] if len(lines) > 1 else "")
    if version is None:
        raise _FaultError(2, f"expected 'version N', N from 1 to {MAX_VERSION}; {_ASK}")
    signer = _SIGNER.fullmatch(lines[2] if len(lines) > 2 else "")
    if signer is None:
        raise _FaultError(3, f"expected 'signer' and 64 hex digits; {_ASK}")
    keys = [_decode_party(line, number) for number, line in enumerate(lines[3:], start=4)]
    if not any(key.kind == "client" for key in keys):
        raise _FaultError(4, f"no client is listed; {_ASK}")
    if fault := _disorder(keys):
        raise _FaultError(4 + fault[0], f"{fault[1]}; {_ASK}")
    return Roster(
        version=int(version[1]),
        clients=_of_kind("client", keys),
        signer=PublicKey("roster", None, b"", bytes.fromhex(signer[1])),
        # Of what is signed, not of the file: a signature could be another, and the roster the same.
        digest=hashlib.sha256(_SIGNATURE_TAG + body).digest(),
        relays=_of_kind("relay", keys),
    )


def _of_kind(kind: Kind, keys: Iterable[PublicKey]) -> dict[int, PublicKey]:
    return {key.id: key for key in keys if key.kind == kind and key.id is not None}


def _decode_party(line: str, number: int) -> PublicKey:
    match = _PARTY.fullmatch(line)
    if match is None:
        raise _FaultError(number, f"expected 'client ID CURVE-KEY ED25519-KEY', or a relay's; {_ASK}")
    try:
        kind = cast(Kind, match[1])
        return PublicKey(kind, int(match[2]), match[3].encode(), bytes.fromhex(match[4]))
    except LocalProtocolError as error:
        raise _FaultError(number, f"{error}; {_ASK}") from None


def _place(key: PublicKey) -> tuple[int, int]:
    """Where a party stands: clients by their ids, then relays by theirs."""
    return _KINDS.index(key.kind), -1 if key.id is None else key.id


def _disorder(keys: list[PublicKey]) -> tuple[int, str] | None:
    """The first place, and what is wrong there, where parties are out of order, or a key stands twice."""
    curves: dict[bytes, PublicKey] = {}
    signing: dict[bytes, PublicKey] = {}
    last, relays = None, 0
    for i, key in enumerate(keys):
        if last is not None and _place(key) == _place(last):
            return i, f"{key} stands twice"
        if last is not None and _place(key) < _place(last):
            return i, f"{key} after {last}: clients come first, and ids must ascend"
        if key.kind == "relay" and key.id != relays:
            return i, f"{key}, and no relay {relays}: relays are numbered from 0 on without a gap"
        if (other := curves.setdefault(key.curve, key)) is not key:
            return i, f"{key} has the CURVE key of {other}"
        if (other := signing.setdefault(key.ed25519, key)) is not key:
            return i, f"{key} has the Ed25519 key of {other}"
        last, relays = key, relays + (key.kind == "relay")
    return None


class _Seen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Annotated[int, msgspec.Meta(ge=1, le=MAX_VERSION)]
    digest: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class _SeenFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Annotated[str, msgspec.Meta(pattern="^secagg-rosters-seen-1$")]
    rosters: dict[str, _Seen]


def _read_seen(state_path: Path) -> _SeenFile:
    if not state_path.exists():
        return _SeenFile("secagg-rosters-seen-1", {})
    try:
        return msgspec.json.decode(read_file(state_path, 2**20), type=_SeenFile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise TransportError(
            f"{state_path}, the record of the newest roster seen, is damaged: restore it from a backup, or "
            "delete it once the keeper of the roster has confirmed the version and fingerprint in use"
        ) from None


@contextmanager
def _locked(state_path: Path) -> Iterator[None]:
    """One process at a time, so that a slower one cannot write an older version over a newer."""
    # A file of its own: the record is replaced by another, and a lock on the old one would keep nobody out.
    try:
        lock = os.open(f"{state_path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise TransportError(
            f"cannot write {state_path}: {error.strerror}: check that its folder exists"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
