"""`secagg keys`: identity keys, rosters, fingerprints."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fl.cli.output import Output
from secagg.errors import counted
from transport.errors import FileError, TransportError
from transport.keys import (
    Kind,
    PublicKey,
    file_type,
    generate,
    in_groups,
    read_file,
    read_private,
    read_public,
    write_file,
    write_private,
    write_public,
)
from transport.roster import MAX_FILE, Roster, read, sign


def server(out: Output, path: Path, *, force: bool) -> None:
    """Make the server's key."""
    _make(out, "server", None, path, force=force)
    out.say(
        f"next: give {_pub(path)} to every client; each compares the fingerprint with you by voice "
        f"(secagg keys show {_quoted(_pub(path))})."
    )


def client(out: Output, id: int, path: Path, *, force: bool) -> None:
    """Make one client's key."""
    _make(out, "client", id, path, force=force)
    out.say(f"next: send {_pub(path)} to the keeper of the roster, and compare the fingerprint by voice.")


def relay(out: Output, number: int, path: Path, *, force: bool) -> None:
    """Make one relay's key."""
    _make(out, "relay", number, path, force=force)
    out.say(f"next: send {_pub(path)} to the keeper of the roster, and compare the fingerprint by voice.")


def roster_key(out: Output, path: Path, *, force: bool) -> None:
    """Make the offline key that signs rosters."""
    _make(out, "roster", None, path, force=force)
    out.say(f"next: keep {path} offline and away from the server; collect the clients' .pub files, then")
    out.say(f"      secagg keys roster --key {_quoted(path)} --version 1 --out roster client*.pub")


def roster(out: Output, parties: Sequence[Path], *, key: Path, version: int, to: Path, force: bool) -> None:
    """Sign a roster and keep its signer's public key beside it."""
    signer = read_private(key, "roster")
    data = sign(map(_listed, parties), version, signer)
    pub = _signer_of(to)
    _check_free([to], force)
    _check_newer(to, version, signer.public)
    _keep_signer(pub, signer.public, force)
    write_file(to, data, mode=0o644, replace=force)
    signed = read(to, signer.public)
    out.record(_roster_fields(to, signed))
    out.say(f"wrote {to}: version {version}, {_parties(len(signed), len(signed.relays))}")
    out.say(f"signed by {signer.fingerprint}")
    everybody = "every client, every relay and" if signed.relays else "every client and to"
    out.say(
        f"next: give {to} and {pub} to {everybody} the server; each compares the signer's "
        f"fingerprint with you by voice (secagg keys show {_quoted(to)})."
    )


def _listed(path: Path) -> PublicKey:
    """A party's public key. Raises: FileError for one that stands in no roster."""
    key = read_public(path)
    if key.kind not in ("client", "relay"):
        raise FileError(
            f"{path} holds a {key.kind} key, and a roster lists clients and relays: name their .pub files"
        )
    return key


def show(out: Output, files: Sequence[Path], *, signer: Path | None) -> None:
    """Kind, id and fingerprint of each file, to compare by voice."""
    rows: list[tuple[object, ...]] = []
    for path in files:
        type = file_type(read_file(path, MAX_FILE))
        if type == "roster":
            if signer is None and not _signer_of(path).exists():
                raise FileError(
                    f"{_signer_of(path)} is missing: name the key that signed {path} with --signer"
                )
            signed = read(path, read_public(signer or _signer_of(path), "roster"))
            out.record(_roster_fields(path, signed))
            rows.append((path, "roster", f"version {signed.version}", in_groups(signed.digest)))
            rows.append((path, "signed by", "roster key", signed.signer.fingerprint))
            listed = [*signed.clients.values(), *signed.relays.values()]
            rows += [(path, "lists", key, key.fingerprint) for key in listed]
        else:
            key = read_private(path).public if type == "private key" else read_public(path)
            out.record({"file": path, "type": type, **_key_fields(key)})
            rows.append((path, type, key, key.fingerprint))
    out.table(rows, ("file", "what", "who", "fingerprint"))


def cohort(out: Output, clients: int, relays: int, folder: Path, *, force: bool) -> None:
    """Everybody's keys and the roster in one folder, for a demonstration."""
    made = {"server": generate("server"), "roster": generate("roster")}
    made |= {f"client{id}": generate("client", id) for id in range(clients)}
    made |= {f"relay{j}": generate("relay", j) for j in range(relays)}
    data = sign((key.public for key in made.values() if key.id is not None), 1, made["roster"])
    _make_folder(folder)
    path = folder / "roster"
    _check_free([path, *(folder / f"{name}{suffix}" for name in made for suffix in (".key", ".pub"))], force)
    for name, key in made.items():
        write_private(folder / f"{name}.key", key, replace=force)
        write_public(folder / f"{name}.pub", key.public, replace=force)
    write_file(path, data, mode=0o644, replace=force)
    signed = read(path, made["roster"].public)
    out.record(
        {"folder": folder, "server": _key_fields(made["server"].public), **_roster_fields(path, signed)}
    )
    of_parties = f"{', ' if relays else ' and '}{_parties(clients, relays)}"
    out.say(f"wrote the keys of server, roster{of_parties}, and the signed roster, to {folder}")
    out.say("for demonstrations only: in a deployment every party makes its own key on its own machine")
    out.say("(secagg keys server, client ID, relay N), and roster.key stays offline.")


def _parties(clients: int, relays: int) -> str:
    """How many, in words."""
    return counted(clients, "client") + (f" and {counted(relays, 'relay')}" if relays else "")


def _make(out: Output, kind: Kind, id: int | None, path: Path, *, force: bool) -> None:
    key, pub = generate(kind, id), _pub(path)
    _check_free([path, pub], force)
    write_private(path, key, replace=force)
    write_public(pub, key.public, replace=force)
    out.record({"private": path, "public": pub, **_key_fields(key.public)})
    out.say(f"wrote {path} (secret, for you alone) and {pub}")
    out.say(f"fingerprint {key.fingerprint}")


def _pub(path: Path) -> Path:
    """Where the public part of a key is kept."""
    if path.suffix == ".pub":
        raise FileError(f"{path} would be taken for a public key: choose a name that does not end in .pub")
    return path.with_suffix(".pub")


def _quoted(path: Path) -> str:
    """The path as a shell takes it."""
    return shlex.quote(str(path))


def _check_free(paths: Iterable[Path], force: bool) -> None:
    """Refuse before anything is written, so that a refusal leaves nothing half done."""
    taken = [str(path) for path in paths if os.path.lexists(path)]
    if taken and not force:
        names = taken[0] if len(taken) == 1 else f"{taken[0]} and {len(taken) - 1} more"
        raise FileError(f"{names} would be overwritten: choose another name, or replace with --force")


def _check_newer(path: Path, version: int, signer: PublicKey) -> None:
    """Clients that saw one version refuse an older one, and another roster of the same version."""
    try:
        old = read(path, signer)
    except TransportError:  # none there, or not this key's: replacing it was asked for
        return
    if version <= old.version:
        raise FileError(
            f"{path} has version {old.version}, and clients refuse another one of that version or an older: "
            f"give --version {old.version + 1}"
        )


def _keep_signer(pub: Path, signer: PublicKey, force: bool) -> None:
    if pub.exists() and not force:
        if read_public(pub) == signer:
            return
        raise FileError(
            f"{pub} is another key than the signer's: choose another --out, or replace with --force"
        )
    write_public(pub, signer, replace=force)


def _signer_of(roster: Path) -> Path:
    """Where the key that signed a roster is kept; `transport.serve` and `join` look there too."""
    return Path(f"{roster}.pub")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise TransportError(f"cannot make the folder {folder}: {error.strerror}: choose another") from error


def _key_fields(key: PublicKey) -> dict[str, Any]:
    return {"kind": key.kind, "id": key.id, "fingerprint": key.fingerprint}


def _roster_fields(path: Path, roster: Roster) -> dict[str, Any]:
    relays = {str(j): key.fingerprint for j, key in roster.relays.items()}
    return {
        "roster": path,
        "version": roster.version,
        "digest": roster.digest.hex(),
        "signer": roster.signer.fingerprint,
        "clients": {str(id): key.fingerprint for id, key in roster.clients.items()},
        **({"relays": relays} if relays else {}),
    }
