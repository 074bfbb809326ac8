"""Long-term identity keys and their files.

A server, each client and each relay own two pairs made on their own machine: CURVE (RFC 7748 X25519, the
channel's identity, in ZeroMQ's Z85 text) and Ed25519 (RFC 8032, signatures). The roster key is Ed25519 alone
and stays offline; roster.py signs with it.

Files are small TOML documents with one spelling each: whatever differs from that spelling by a byte is
refused, so a file read is exactly the file written.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import re
import secrets
import shlex
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn, cast, get_args

import zmq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from zmq.utils import z85

from secagg.crypto import verifies_anything
from secagg.errors import LocalProtocolError
from secagg.wire import MAX_ID, MAX_RELAYS
from transport.errors import FileError, TransportError

Kind = Literal["server", "client", "roster", "relay"]
FileType = Literal["private key", "public key", "roster"]
Readers = Literal["owner", "group", "all"]
"""Who may read the file of a private key, at most; nobody but its owner ever writes or executes it."""

_LARGEST_ID: dict[Kind, int] = {"client": MAX_ID, "relay": MAX_RELAYS - 1}  # of those that have ids
_FORBIDDEN: dict[Readers, int] = {"owner": 0o077, "group": 0o037, "all": 0o033}
_MAX_FILE = 4096  # bytes of a key file; the longest has about 600
_FINGERPRINT_TAG = b"secagg/1/key-fingerprint\0"
_Z85_KEY = re.compile(rb"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_FIELD = re.compile(r'^(\w+) = "?([^"\n]*)"?$', re.MULTILINE)
_FIRST_BYTES: dict[bytes, FileType] = {
    b"# secagg private key": "private key",
    b"# secagg public key": "public key",
    b"secagg-roster ": "roster",
}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What others may know of an identity.

    kind: "server", "client", "relay", or "roster" for the offline key that signs rosters.
    id: 0..2^31-2 of a client, 0..15 of a relay, else None.
    curve: 40 bytes of Z85, the CURVE public key; empty for a roster key.
    ed25519: 32 bytes.

    Raises: LocalProtocolError if a field does not fit its kind.
    """

    kind: Kind
    id: int | None
    curve: bytes
    ed25519: bytes

    def __post_init__(self) -> None:
        _check_kind_and_id(self.kind, self.id)
        if len(self.ed25519) != 32:
            raise LocalProtocolError(f"an Ed25519 public key has 32 bytes, not {len(self.ed25519)}")
        if verifies_anything(self.ed25519):
            raise LocalProtocolError("an Ed25519 key of small order, under which anybody can sign")
        if self.kind == "roster":
            if self.curve:
                raise LocalProtocolError("a roster key has no CURVE key: it only signs rosters")
        elif not _is_z85_key(self.curve):
            raise LocalProtocolError("a CURVE public key is 40 characters of Z85 (ZeroMQ RFC 32)")

    @property
    def fingerprint(self) -> str:
        """128 bits of SHA-256 over kind, id and both keys, as eight groups to compare by voice."""
        id = "" if self.id is None else str(self.id)
        # No field but the last can hold a zero byte, so that no other key is joined to the same bytes.
        fields = [self.kind.encode(), id.encode(), self.curve, self.ed25519]
        return in_groups(hashlib.sha256(_FINGERPRINT_TAG + b"\0".join(fields)).digest())

    def __str__(self) -> str:
        """Kind and id, for messages: "client 7"."""
        return self.kind if self.id is None else f"{self.kind} {self.id}"


@dataclass(frozen=True, slots=True, eq=False)
class PrivateKey:
    """An identity, secrets included; made by `generate` or `read_private`.

    curve_secret, curve_public: 40 bytes of Z85 each, as zmq takes them; empty for a roster key.

    Security: its secrets are not shown by repr, and it is not compared by value, pickled or copied. Another
        process reads the file itself.
    """

    kind: Kind
    id: int | None
    curve_secret: bytes = field(repr=False)
    curve_public: bytes
    signing: Ed25519PrivateKey = field(repr=False)

    @property
    def public(self) -> PublicKey:
        """The part to hand out."""
        ed25519 = self.signing.public_key().public_bytes_raw()
        return PublicKey(self.kind, self.id, self.curve_public, ed25519)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the public part."""
        return self.public.fingerprint

    def __reduce__(self) -> NoReturn:
        raise TypeError("a PrivateKey is never pickled or copied: pass the path of its file")


def generate(kind: Kind, id: int | None = None, *, rng: Callable[[int], bytes] = os.urandom) -> PrivateKey:
    """Make a new identity.

    Raises: LocalProtocolError if id is missing for a client or a relay, given for another kind, or out of
        range.

    Security: `rng` is the operating system's outside of tests.
    """
    _check_kind_and_id(kind, id)
    signing = Ed25519PrivateKey.from_private_bytes(rng(32))
    if kind == "roster":
        return PrivateKey(kind, id, b"", b"", signing)
    curve_secret = z85.encode(rng(32))
    return PrivateKey(kind, id, curve_secret, zmq.curve_public(curve_secret), signing)


def write_private(path: str | Path, key: PrivateKey, *, replace: bool = False) -> None:
    """Write a private key that only its owner can read.

    Raises: TransportError if the file exists (unless replace) or cannot be written.

    Security: created with mode 0600, so it never exists with a wider one, not even while it is written.
    """
    write_file(path, _private_text(key).encode("ascii"), mode=0o600, replace=replace)


def write_public(path: str | Path, key: PublicKey, *, replace: bool = False) -> None:
    """Write a public key.

    Raises: TransportError if the file exists (unless replace) or cannot be written.
    """
    write_file(path, _public_text(key).encode("ascii"), mode=0o644, replace=replace)


def read_private(path: str | Path, kind: Kind | None = None, *, readers: Readers = "owner") -> PrivateKey:
    """Read a private key, of this kind if one is given.

    readers: "group" or "all" for a file whose mode somebody else decides, such as a mounted secret.

    Raises: FileError if the file is missing, open to others than `readers`, damaged, or of another kind;
        LocalProtocolError if there are no such readers.

    Security: whoever can read the file is this identity. No message quotes the file, and no cause is chained
        to one.
    """
    if readers not in _FORBIDDEN:
        raise LocalProtocolError(f"a key's readers are {', '.join(get_args(Readers))}; not {readers!r}")
    data = read_file(path, _MAX_FILE, forbidden=_FORBIDDEN[readers])
    key = _decode_private(data)
    if key is None:
        _refuse(
            path,
            data,
            "private key",
            "restore it from a backup, or make a new one with `secagg keys` and have its .pub "
            "put in a new roster",
        )
    _check_wanted(path, key.public, kind)
    return key


def read_public(path: str | Path, kind: Kind | None = None) -> PublicKey:
    """Read a public key, of this kind if one is given.

    Raises: FileError if the file is missing, damaged, or of another kind.
    """
    data = read_file(path, _MAX_FILE)
    key = _decode_public(data)
    if key is None:
        _refuse(path, data, "public key", "ask its owner for it again and compare the fingerprint by voice")
    _check_wanted(path, key, kind)
    return key


def in_groups(digest: bytes) -> str:
    """The first 128 bits of a digest as eight groups of four hex digits, to read aloud."""
    text = digest[:16].hex()
    return " ".join(text[i : i + 4] for i in range(0, 32, 4))


def file_type(data: bytes) -> FileType | None:
    """What a file claims to be, by its first bytes; None if it is nothing of ours."""
    return next((type for first, type in _FIRST_BYTES.items() if data.startswith(first)), None)


def read_file(path: str | Path, limit: int, *, forbidden: int = 0) -> bytes:
    """Read a regular file of at most `limit` bytes.

    forbidden: bits that its mode may not have.

    Raises: FileError, with the command that mends it where there is one.
    """
    try:
        # Non-blocking: a pipe named by mistake must fail below, not wait for a writer.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise FileError(f"{path} is not a regular file: name the file itself")
            if mode & forbidden:
                raise FileError(
                    f"{path} is open to other users (mode {stat.S_IMODE(mode):04o}): run "
                    f"`chmod 600 {shlex.quote(str(path))}`, and make a new key if anybody may have read it; "
                    'of a mounted secret say who may: readers="group"'
                )
            data = file.read(limit + 1)  # never more than that is held, whatever the file has
    except FileNotFoundError:
        raise FileError(
            f"there is no file {path}: check the path; `secagg keys` makes keys and rosters"
        ) from None
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}: check its owner and its path") from error
    if len(data) > limit:
        raise FileError(f"{path} has more than {limit} bytes: it is no file of `secagg keys`")
    return data


def write_file(path: str | Path, data: bytes, *, mode: int, replace: bool) -> None:
    """Write a file durably; with `replace`, in one step that leaves either the old file or the new one.

    Raises: TransportError if it exists and `replace` is not set, or if it cannot be written.
    """
    path = Path(path)
    target = path.with_name(f".{path.name}.{secrets.token_hex(8)}") if replace else path
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise FileError(f"{path} exists: choose another name, or say replace=True") from None
    except OSError as error:
        raise TransportError(
            f"cannot write {path}: {error.strerror}: check that its folder exists"
        ) from error
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # before it gets the name: a crash must not leave the name and no bytes
        if replace:
            os.replace(target, path)
        sync_folder(path.parent)
    except OSError as error:
        target.unlink(missing_ok=True)
        raise TransportError(
            f"cannot write {path}: {error.strerror}: free space or choose another"
        ) from error


def sync_folder(folder: Path) -> None:
    """A file's name is its folder's, and outlives a crash only once that has been synced too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _private_text(key: PrivateKey) -> str:
    public = key.public
    curve = ""
    if key.kind != "roster":
        curve = f'curve_secret = "{key.curve_secret.decode()}"\ncurve_public = "{public.curve.decode()}"\n'
    return (
        f"# secagg private key ({public}). SECRET: never leaves its machine; others get the .pub file.\n"
        'format = "secagg-private-key-1"\n'
        f"{_kind_text(public)}{curve}"
        f'ed25519_secret = "{key.signing.private_bytes_raw().hex()}"\n'
        f'ed25519_public = "{public.ed25519.hex()}"\n'
    )


def _public_text(key: PublicKey) -> str:
    curve = f'curve = "{key.curve.decode()}"\n' if key.curve else ""
    return (
        f"# secagg public key ({key}). Not secret; whoever gets it compares the fingerprint with its owner.\n"
        'format = "secagg-public-key-1"\n'
        f"{_kind_text(key)}{curve}"
        f'ed25519 = "{key.ed25519.hex()}"\n'
        f'fingerprint = "{key.fingerprint}"\n'
    )


def _kind_text(key: PublicKey) -> str:
    return f'kind = "{key.kind}"\n' + ("" if key.id is None else f"id = {key.id}\n")


def _decode_private(data: bytes) -> PrivateKey | None:
    """Loose reading, then an exact comparison with the one spelling, which also ties secret to public."""
    try:
        fields = dict(_FIELD.findall(data.decode("ascii")))
        kind, id = _kind_and_id(fields)
        signing = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(fields["ed25519_secret"]))
        secret = fields.get("curve_secret", "").encode()
        key = PrivateKey(kind, id, secret, zmq.curve_public(secret) if _is_z85_key(secret) else b"", signing)
        return key if _private_text(key).encode("ascii") == data else None
    except (KeyError, ValueError, LocalProtocolError):
        return None


def _decode_public(data: bytes) -> PublicKey | None:
    try:
        fields = dict(_FIELD.findall(data.decode("ascii")))
        kind, id = _kind_and_id(fields)
        key = PublicKey(kind, id, fields.get("curve", "").encode(), bytes.fromhex(fields["ed25519"]))
        return key if _public_text(key).encode("ascii") == data else None
    except (KeyError, ValueError, LocalProtocolError):
        return None


def _kind_and_id(fields: dict[str, str]) -> tuple[Kind, int | None]:
    kind = cast(Kind, fields["kind"])
    id = int(fields["id"]) if "id" in fields else None
    _check_kind_and_id(kind, id)
    return kind, id


def _check_kind_and_id(kind: Kind, id: int | None) -> None:
    if kind not in get_args(Kind):
        raise LocalProtocolError(f"a key is of kind {', '.join(get_args(Kind))}; not {kind!r}")
    if (kind in _LARGEST_ID) != (id is not None):
        raise LocalProtocolError("a client's or relay's key has an id; a server's or roster's key has none")
    if id is not None and not 0 <= id <= _LARGEST_ID[kind]:
        raise LocalProtocolError(f"a {kind}'s id is 0 to {_LARGEST_ID[kind]}, not {id}")


def _is_z85_key(text: bytes) -> bool:
    if not _Z85_KEY.fullmatch(text):
        return False
    try:
        return len(z85.decode(text)) == 32
    except struct.error:  # five characters that stand for more than 2^32 - 1
        return False


def _check_wanted(path: str | Path, key: PublicKey, kind: Kind | None) -> None:
    if kind is not None and key.kind != kind:
        raise FileError(f"{path} holds a {key.kind} key, a {kind} key is needed: name that file")


def check_as_written(path: str | Path, data: bytes) -> None:
    """Raises: FileError for what an editor or a transfer makes of a file on another system."""
    if data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\r" in data:
        raise FileError(
            f"{path} was saved with a byte-order mark or with line ends of Windows: every byte of it counts; "
            "have it copied as `secagg keys` wrote it"
        )


def _refuse(path: str | Path, data: bytes, wanted: FileType, remedy: str) -> NoReturn:
    check_as_written(path, data)
    found = file_type(data)
    if found is not None and found != wanted:
        raise FileError(f"{path} is a {found}, a {wanted} is needed: name the other file")
    raise FileError(f"{path} is not a {wanted}, or was damaged or cut short: {remedy}") from None
