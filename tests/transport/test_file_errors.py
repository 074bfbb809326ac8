"""What is said of keys, rosters and records that will not do, word for word: one message for each fault."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from secagg import LocalProtocolError, Policy
from transport import TransportError, join, serve
from transport.client import Peer
from transport.keys import (
    MAX_ID,
    PublicKey,
    generate,
    read_private,
    read_public,
    write_private,
    write_public,
)
from transport.processes import lay_out_keys
from transport.roster import Roster, read, remember, sign

SEVEN, OTHER, KEEPER = generate("client", 7), generate("client", 9), generate("roster")
CURVE, ED25519 = SEVEN.public.curve, SEVEN.public.ed25519
TWINS = {
    "id": PublicKey("client", 7, OTHER.public.curve, OTHER.public.ed25519),
    "curve": PublicKey("client", 9, CURVE, OTHER.public.ed25519),
    "ed25519": PublicKey("client", 9, OTHER.public.curve, ED25519),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files are named without it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def whole(message: str) -> str:
    return f"^{re.escape(message)}$"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: PublicKey("server", None, CURVE, ED25519[:31]),
            "an Ed25519 public key has 32 bytes, not 31",
        ),
        (
            lambda: PublicKey("server", None, CURVE, bytes(32)),
            "an Ed25519 key of small order, under which anybody can sign",
        ),
        (
            lambda: PublicKey("roster", None, CURVE, ED25519),
            "a roster key has no CURVE key: it only signs rosters",
        ),
        (
            lambda: PublicKey("server", None, CURVE[:39], ED25519),
            "a CURVE public key is 40 characters of Z85 (ZeroMQ RFC 32)",
        ),
        (
            lambda: generate("dealer"),  # type: ignore[arg-type]
            "a key is of kind server, client, roster, relay; not 'dealer'",
        ),
        (
            lambda: generate("client"),
            "a client's or relay's key has an id; a server's or roster's key has none",
        ),
        (
            lambda: generate("client", MAX_ID + 1),
            "a client's id is 0 to 2147483646, not 2147483647",
        ),
        (lambda: generate("relay", 16), "a relay's id is 0 to 15, not 16"),
        (lambda: sign([], 1, KEEPER), "a roster needs at least one client"),
        (
            lambda: sign([SEVEN.public, TWINS["id"]], 1, KEEPER),
            "client 7 stands twice: give each party's public key once",
        ),
        (
            lambda: sign([SEVEN.public, TWINS["curve"]], 1, KEEPER),
            "client 9 has the CURVE key of client 7: give each party's public key once",
        ),
        (
            lambda: sign([SEVEN.public, TWINS["ed25519"]], 1, KEEPER),
            "client 9 has the Ed25519 key of client 7: give each party's public key once",
        ),
        (
            lambda: sign([SEVEN.public, generate("relay", 1).public], 1, KEEPER),
            "relay 1, and no relay 0: relays are numbered from 0 on without a gap: give each party's public "
            "key once",
        ),
        (
            lambda: Peer("tcp://127.0.0.1:9", KEEPER, KEEPER.public, Policy(), 1.0, None, print),
            "a client's key has an id",
        ),
    ],
)
def test_what_cannot_be_made(make: Callable[[], object], says: str) -> None:
    with pytest.raises(LocalProtocolError, match=whole(says)):
        make()


# Files of keys


def test_a_file_that_is_in_the_way_or_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    Path("a.key").touch()
    says = "a.key exists: choose another name, or say replace=True"
    with pytest.raises(TransportError, match=whole(says)):
        write_private("a.key", SEVEN)
    says = "cannot write none/a.key: No such file or directory: check that its folder exists"
    with pytest.raises(TransportError, match=whole(says)):
        write_private("none/a.key", SEVEN)
    monkeypatch.setattr(os, "fsync", full)
    says = "cannot write b.key: No space left on device: free space or choose another"
    with pytest.raises(TransportError, match=whole(says)):
        write_private("b.key", SEVEN)


def test_a_file_that_is_no_key(folder: Path) -> None:
    os.mkfifo("pipe", 0o600)
    Path("long").write_bytes(bytes(4097))
    write_private("a.key", SEVEN)
    write_public("a.pub", SEVEN.public)
    Path("a.pub").chmod(0o600)
    Path("b.key").touch(0o600)
    faults = {
        "none": "there is no file none: check the path; `secagg keys` makes keys and rosters",
        ".": "cannot read .: Is a directory: check its owner and its path",
        "pipe": "pipe is not a regular file: name the file itself",
        "long": "long has more than 4096 bytes: it is no file of `secagg keys`",
        "a.key": "a.key is a private key, a public key is needed: name the other file",
        "b.key": "b.key is not a public key, or was damaged or cut short: ask its owner for it again and "
        "compare the fingerprint by voice",
    }
    for path, says in faults.items():
        with pytest.raises(TransportError, match=whole(says)):
            read_public(path)
    faults = {
        "a.pub": "a.pub is a public key, a private key is needed: name the other file",
        "b.key": "b.key is not a private key, or was damaged or cut short: restore it from a backup, or make "
        "a new one with `secagg keys` and have its .pub put in a new roster",
    }
    for path, says in faults.items():
        with pytest.raises(TransportError, match=whole(says)):
            read_private(path)


@pytest.mark.parametrize(
    "saved",
    [
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.decode().encode("utf-16"),
    ],
    ids=["CRLF", "byte-order mark", "UTF-16"],
)
def test_a_file_that_was_saved_anew_elsewhere(saved: Callable[[bytes], bytes]) -> None:
    write_private("a.key", SEVEN)
    write_public("a.pub", SEVEN.public)
    Path("roster").write_bytes(SIGNED)
    for path, read_it in (("a.key", read_private), ("a.pub", read_public), ("roster", read_roster)):
        Path(path).write_bytes(saved(Path(path).read_bytes()))
        says = (
            f"{path} was saved with a byte-order mark or with line ends of Windows: every byte of it counts"
        )
        with pytest.raises(TransportError, match=says):
            read_it(path)


def read_roster(path: str) -> Roster:
    return read(path, KEEPER.public)


# Rosters


SIGNED = sign([SEVEN.public, OTHER.public], 3, KEEPER)
BODY = SIGNED[: SIGNED.index(b"signature ")]


def resigned(*changes: tuple[bytes, bytes]) -> bytes:
    """What a careless keeper could sign."""
    body = BODY
    for old, new in changes:
        assert old in body
        body = body.replace(old, new)
    signature = KEEPER.signing.sign(b"secagg/1/roster-signature\0" + body)
    return body + b"signature " + signature.hex().encode() + b"\n"


def line_of(key: PublicKey) -> bytes:
    return f"{key.kind} {key.id} {key.curve.decode()} {key.ed25519.hex()}\n".encode()


NINE = line_of(OTHER.public)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"# secagg public key", "line 1: this is a key file, not a roster: name the roster"),
        (BODY, "line 6: no signature: the roster is not signed, or was cut short"),
        (SIGNED[:-2] + b"\n", "line 6: a signature is 128 hex digits"),
        (SIGNED + b"\n", "line 6: the file must end with one line feed right after the signature"),
        (resigned((b"client 9", "cliënt 9".encode())), "line 5: a roster is plain ASCII"),
        (resigned((b"roster 1", b"roster 2")), "line 1: a roster begins with 'secagg-roster 1'"),
        (resigned((b"version 3", b"version 0")), "line 2: expected 'version N', N from 1 to 9"),
        (resigned((b"signer", b"signed")), "line 3: expected 'signer' and 64 hex digits"),
        (resigned((line_of(SEVEN.public), b""), (NINE, b"")), "line 4: no client is listed"),
        (resigned((b"client 9", b"client 09")), "line 5: expected 'client ID CURVE-KEY ED25519-KEY'"),
        (
            resigned((NINE, line_of(generate("relay", 1).public))),
            "line 5: relay 1, and no relay 0: relays are numbered from 0 on without a gap; ask",
        ),
        (resigned((NINE, line_of(TWINS["id"]))), "line 5: client 7 stands twice; ask"),
        (
            resigned((NINE, line_of(generate("client", 0).public))),
            "line 5: client 0 after client 7: clients come first, and ids must ascend; ask",
        ),
        (resigned((b"version 3", b"version 4"))[:-130] + SIGNED[-130:], "line 6: the signature does not fit"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_roster_that_is_not_read(data: bytes, says: str) -> None:
    Path("roster").write_bytes(data)
    with pytest.raises(TransportError, match=f"^roster, {re.escape(says)}"):
        read("roster", KEEPER.public)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            line_of(TWINS["curve"]),
            "roster, line 5: client 9 has the CURVE key of client 7; ask the keeper of the roster for the "
            "file again",
        ),
        (
            line_of(TWINS["ed25519"]),
            "roster, line 5: client 9 has the Ed25519 key of client 7; ask the keeper of the roster for the "
            "file again",
        ),
        (
            NINE.replace(OTHER.public.curve, b"#" * 40),
            "roster, line 5: a CURVE public key is 40 characters of Z85 (ZeroMQ RFC 32); ask the keeper of "
            "the roster for the file again",
        ),
    ],
)
def test_a_roster_with_a_client_that_cannot_be(line: bytes, says: str) -> None:
    Path("roster").write_bytes(resigned((NINE, line)))
    with pytest.raises(TransportError, match=whole(says)):
        read("roster", KEEPER.public)


def test_a_record_that_cannot_be_written() -> None:
    Path("roster").write_bytes(SIGNED)
    says = "cannot write none/seen: No such file or directory: check that its folder exists"
    with pytest.raises(TransportError, match=whole(says)):
        remember("none/seen", read("roster", KEEPER.public))


# Addresses


def test_a_port_that_needs_privileges(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = zmq.Socket.bind

    def bind(socket: zmq.Socket[bytes], address: str) -> object:
        if address.startswith("tcp"):
            raise zmq.ZMQError(13)
        return real(socket, address)

    server, _ = lay_out_keys(folder, 1)
    monkeypatch.setattr(zmq.Socket, "bind", bind)
    says = "tcp://*:80: not permitted; ports below 1024 need privileges, choose another (bind=)"
    with pytest.raises(TransportError, match=whole(says)):
        serve("tcp://*:80", server / "server.key", server / "roster")


def test_an_address_that_cannot_be_had(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, (client,) = lay_out_keys(folder, 1)
    says = "cannot listen on ipc://none/socket: No such file or directory: choose another address (bind=)"
    with pytest.raises(TransportError, match=whole(says)):
        serve("ipc://none/socket", server / "server.key", server / "roster")

    real = zmq.Socket.connect

    def connect(socket: zmq.Socket[bytes], address: str) -> object:
        if address.startswith("tcp"):
            raise zmq.ZMQError(24)
        return real(socket, address)

    monkeypatch.setattr(zmq.Socket, "connect", connect)
    says = "cannot connect to tcp://here:80: Too many open files"
    with pytest.raises(TransportError, match=whole(says)):
        join("tcp://here:80", client / "client.key", client / "server.pub", client / "roster")
