"""Files that somebody else may have written or damaged: rosters, keys, and the records a client keeps."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from secagg import RemoteProtocolError
from tests.fuzz.sessions import TAKEN, Draws, refused
from transport import TransportError, keys, roster
from transport.journal import Journal, SignedSets

SHARED_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # where files cost least


@contextmanager
def file_of(data: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as folder:
        path = Path(folder, "file")
        path.write_bytes(data)
        path.chmod(0o600)
        yield path


KEEPER = keys.generate("roster", rng=Draws(0))
OWNERS = [keys.generate("client", u, rng=Draws(u + 1)) for u in (0, 7, keys.MAX_ID)]
SERVER = keys.generate("server", rng=Draws(9))
RELAYS = [keys.generate("relay", j, rng=Draws(j + 10)) for j in range(2)]
ROSTERS = [roster.sign([owner.public for owner in OWNERS[:n]], n, KEEPER) for n in (1, 2, 3)]
ROSTERS.append(roster.sign([owner.public for owner in OWNERS + RELAYS], 4, KEEPER))
_TAG = roster._SIGNATURE_TAG


def any_roster(which: int, data: bytes) -> str:
    """What the keeper signed, in one spelling. Every other seed is signed as it is: a careless keeper's."""
    signing = which >= len(ROSTERS)
    if signing:
        data += b"signature " + KEEPER.signing.sign(_TAG + data).hex().encode() + b"\n"
    with file_of(data) as path:
        try:
            read = roster.read(path, KEEPER.public)
        except TransportError as refusal:
            return str(refusal).replace(str(path), "FILE")
    parties = [*read.clients.values(), *read.relays.values()]
    assert roster.sign(parties, read.version, KEEPER) == data
    assert signing or data in ROSTERS, "a signature was forged"
    return TAKEN


@cache
def roster_seeds() -> list[bytes]:
    return [*ROSTERS, *(data[: data.index(b"signature ")] for data in ROSTERS)]


@cache
def _seen() -> tuple[list[roster.Roster], list[bytes]]:
    """The rosters without relays, and the record after each."""
    read, records = [], []
    with file_of(b"") as path:
        for data in ROSTERS[:3]:
            path.write_bytes(data)
            read.append(roster.read(path, KEEPER.public))
        path.unlink()
        for one in read:
            roster.remember(path, one)
            records.append(path.read_bytes())
    return read, records


def seen_seeds() -> list[bytes]:
    return _seen()[1]


def any_seen(which: int, data: bytes) -> str:
    """A record of rosters seen lets a newer one pass, and then no older one, or is refused and left alone."""
    older, newer = _seen()[0][1:]
    with file_of(data) as path:
        try:
            roster.remember(path, newer)
        except TransportError as refusal:
            assert path.read_bytes() == data
            return str(refusal).replace(str(path), "FILE")
        try:
            roster.remember(path, older)
        except TransportError:
            return TAKEN
    raise AssertionError("an older roster passed")


@cache
def key_seeds() -> list[bytes]:
    texts = []
    with file_of(b"") as path:
        for key in (OWNERS[1], SERVER, KEEPER, RELAYS[1]):
            keys.write_private(path, key, replace=True)
            texts.append(path.read_bytes())
            keys.write_public(path, key.public, replace=True)
            texts.append(path.read_bytes())
    return texts


def any_key(which: int, data: bytes) -> str:
    """A key file is read if it is, to the byte, the file that would be written."""
    outcomes = []
    with file_of(data) as path:
        for read, write in ((keys.read_private, keys.write_private), (keys.read_public, keys.write_public)):
            path.write_bytes(data)
            try:
                key = read(path)
            except TransportError as refusal:
                outcomes.append(str(refusal).replace(str(path), "FILE"))
                continue
            write(path, key, replace=True)
            assert path.read_bytes() == data
            outcomes.append(TAKEN)
    assert outcomes.count(TAKEN) <= 1
    return TAKEN if TAKEN in outcomes else "; ".join(outcomes)


CONTEXT = hashlib.sha256(b"context").digest()
_LINES = [hashlib.sha256(b"%d" % i).hexdigest().encode() + b"\n" for i in range(3)]
JOURNALS = [b"", *_LINES[:1], b"".join(_LINES), b"".join(_LINES)[:-30]]


def any_journal(which: int, data: bytes) -> str:
    """A context is recorded once, after all whole lines; a damaged journal is refused and left alone."""
    with file_of(data) as path:
        try:
            Journal(path).once(CONTEXT)
        except (RemoteProtocolError, TransportError) as refusal:
            assert path.read_bytes() == data
            return str(refusal).replace(str(path), "FILE")
        assert path.read_bytes() == data[: len(data) // 65 * 65] + CONTEXT.hex().encode() + b"\n"
        assert refused(Journal(path).once, CONTEXT), "recorded twice"
    return TAKEN


@cache
def signed_seeds() -> list[bytes]:
    texts = [b""]
    with file_of(b"") as path:
        for entry in (b"one", bytes(range(256))):
            SignedSets(path)(lambda kept, entry=entry: entry)
            texts.append(path.read_bytes())
    return [*texts, texts[-1][:-20]]


def any_signed(which: int, data: bytes) -> str:
    """A set is added after all that are whole, and these are read as before; a damaged file is left alone."""
    before: list[bytes] = []
    with file_of(data) as path:
        try:
            SignedSets(path)(lambda kept: before.extend(kept) or b"new")  # type: ignore[func-returns-value]
        except TransportError as refusal:
            assert path.read_bytes() == data
            return str(refusal).replace(str(path), "FILE")
        after: list[bytes] = []
        SignedSets(path)(after.extend)
        assert after == [*before, b"new"]
    return TAKEN
