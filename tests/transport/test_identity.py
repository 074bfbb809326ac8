"""A party's identity out of its files, as `join` has it, for sessions over other channels."""

from __future__ import annotations

from pathlib import Path

import pytest

import transport
from secagg import Counts, Masking, run
from secagg.wire import relay_party
from transport.errors import FileError, TransportError
from transport.keys import PublicKey, generate, read_private, write_private, write_public
from transport.processes import lay_out_keys
from transport.roster import sign


def test_identities_out_of_files_sign_a_session(tmp_path: Path) -> None:
    _, folders = lay_out_keys(tmp_path, 3)
    identities = {
        u: transport.load_identity(own / "client.key", own / "roster") for u, own in enumerate(folders)
    }
    assert [identity.u for identity in identities.values()] == [0, 1, 2]
    one, *_ = identities.values()
    scheme = Masking.for_cohort(3, Counts(length=1, maximum=9), adversary="active", roster=one.roster)
    assert run(scheme, {u: [u] for u in range(3)}, identities=identities).sum[""].tolist() == [3]


def test_an_identity_is_that_of_join(tmp_path: Path) -> None:
    _, folders = lay_out_keys(tmp_path, 2, 2)
    for own, kind, join in (
        (folders[1], "client", transport.join),
        (folders[3], "relay", transport.join_as_relay),
    ):
        key = own / f"{kind}.key"
        loaded = transport.load_identity(key, own / "roster", own / "roster.pub", kind=kind)  # type: ignore[arg-type]
        with join("tcp://127.0.0.1:1", key, own / "server.pub", own / "roster") as party:
            joined = party._identity
        assert joined is not None
        assert (loaded.u, loaded.roster) == (joined.u, joined.roster)
        assert loaded.key.public == joined.key.public
        assert loaded.u == (1 if kind == "client" else relay_party(1))


def test_a_key_that_the_roster_does_not_list_is_refused(tmp_path: Path) -> None:
    _, (own, *_) = lay_out_keys(tmp_path, 3)
    write_private(tmp_path / "other.key", generate("client", 0))
    with pytest.raises(FileError, match="roster does not list the key in "):
        transport.load_identity(tmp_path / "other.key", own / "roster")
    with pytest.raises(FileError, match="holds a client key, a relay key is needed"):
        transport.load_identity(own / "client.key", own / "roster", kind="relay")


def test_a_roster_older_than_one_that_was_seen_is_refused(tmp_path: Path) -> None:
    """Whoever read that: `join` and this have one memory, in `state`, too."""
    _, (own, *_) = lay_out_keys(tmp_path, 3)
    keeper, client = generate("roster"), read_public_of(own)
    write_public(own / "roster.pub", keeper.public, replace=True)
    (state := tmp_path / "state").mkdir()
    for version in (2, 1):
        (own / f"roster-{version}").write_bytes(sign([client], version, keeper))
    pinned = own / "roster.pub"
    with transport.join(
        "tcp://127.0.0.1:1", own / "client.key", own / "server.pub", own / "roster-2", pinned
    ):
        pass
    with pytest.raises(TransportError, match="has version 1, but version 2 was seen before"):
        transport.load_identity(own / "client.key", own / "roster-1", pinned)
    with pytest.raises(FileError, match="is a record of this key, and"):
        transport.load_identity(own / "client.key", own / "roster-1", pinned, state=state)


def read_public_of(own: Path) -> PublicKey:
    return read_private(own / "client.key").public
