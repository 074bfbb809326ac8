"""The roster: only what the pinned key signed is read, and nothing older than what was seen."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import stat
import tempfile
from collections.abc import Callable
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.errors import LocalProtocolError
from secagg.wire import relay_party
from transport import roster as rosters
from transport.errors import TransportError
from transport.keys import MAX_ID, Kind, PrivateKey, PublicKey, generate
from transport.roster import MAX_VERSION, Roster, remember, sign


def fixed(kind: Kind, id: int | None = None, seed: str = "") -> PrivateKey:
    return generate(kind, id, rng=lambda n: hashlib.shake_256(f"{kind} {id} {seed}".encode()).digest(n))


KEEPER, STRANGER = fixed("roster"), fixed("roster", seed="stranger")
CLIENTS = [fixed("client", id).public for id in (0, 1, 7, MAX_ID)]
RELAYS = [fixed("relay", j).public for j in range(3)]
SIGNED = sign(CLIENTS, 3, KEEPER)


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], Roster]:
    def read(data: bytes, signer: PublicKey = KEEPER.public) -> Roster:
        (tmp_path / "roster").write_bytes(data)
        return rosters.read(tmp_path / "roster", signer)

    return read


Read = Callable[..., Roster]


def resigned(body: bytes) -> bytes:
    """Any lines, under a signature of the keeper: what a careless keeper could sign."""
    return (
        body
        + b"signature "
        + KEEPER.signing.sign(b"secagg/1/roster-signature\0" + body).hex().encode()
        + b"\n"
    )


def body_with(lines: list[bytes]) -> bytes:
    return b"".join([*SIGNED.splitlines(keepends=True)[:3], *lines])


def line_of(key: PublicKey) -> bytes:
    return f"{key.kind} {key.id} {key.curve.decode()} {key.ed25519.hex()}\n".encode()


# What is signed is what is read


def test_a_signed_roster_is_read(read: Read) -> None:
    roster = read(SIGNED)
    assert roster.version == 3
    assert list(roster.clients.items()) == [(key.id, key) for key in CLIENTS]
    assert roster.relays == {}
    assert roster.signer == KEEPER.public
    assert len(roster) == 4
    assert pickle.loads(pickle.dumps(roster)) == roster  # noqa: S301 - our own


def test_the_order_given_does_not_matter() -> None:
    assert sign(reversed(CLIENTS), 3, KEEPER) == SIGNED
    assert sign([*RELAYS, *CLIENTS], 3, KEEPER) == sign([*CLIENTS, *reversed(RELAYS)], 3, KEEPER)


def test_relays_stand_behind_the_clients_and_apart(read: Read) -> None:
    roster = read(sign([*RELAYS, *CLIENTS], 3, KEEPER))
    assert roster.relays == dict(enumerate(RELAYS))
    assert list(roster.clients.items()) == [(key.id, key) for key in CLIENTS]
    assert len(roster) == 4
    assert roster.identities.relays == {j: key.ed25519 for j, key in enumerate(RELAYS)}
    assert roster.identities.keys.keys() == roster.clients.keys()


def test_a_client_is_who_its_curve_key_says(read: Read) -> None:
    roster = read(SIGNED)
    assert [roster.id_of(key.curve) for key in CLIENTS] == [0, 1, 7, MAX_ID]
    assert roster.id_of(generate("client", 7).curve_public) is None
    assert roster.id_of(b"") is None


def test_a_relay_has_no_clients_id(read: Read) -> None:
    roster = read(sign([*CLIENTS, *RELAYS], 3, KEEPER))
    assert [roster.id_of(key.curve) for key in RELAYS] == [relay_party(j) for j in range(3)]


def test_the_digest_changes_with_version_clients_and_signer(read: Read) -> None:
    digests = {
        read(SIGNED).digest,
        read(sign(CLIENTS, 4, KEEPER)).digest,
        read(sign(CLIENTS[:3], 3, KEEPER)).digest,
        read(sign(CLIENTS, 3, STRANGER), STRANGER.public).digest,
        read(sign([*CLIENTS, *RELAYS], 3, KEEPER)).digest,
    }
    assert len(digests) == 5
    assert {len(digest) for digest in digests} == {32}
    assert read(SIGNED).digest in digests


@given(st.sets(st.integers(0, MAX_ID), min_size=1, max_size=4), st.integers(1, MAX_VERSION))
def test_any_clients_and_version_are_read_back(ids: set[int], version: int) -> None:
    clients = [PublicKey("client", id, key.curve, key.ed25519) for id, key in zip(ids, CLIENTS, strict=False)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "roster"
        path.write_bytes(sign(clients, version, KEEPER))
        roster = rosters.read(path, KEEPER.public)
    assert (roster.version, set(roster.clients.values())) == (version, set(clients))
    assert list(roster.clients) == sorted(ids)


# What a keeper cannot sign


def test_a_roster_is_signed_by_a_roster_key_only() -> None:
    with pytest.raises(LocalProtocolError, match="not with a server key"):
        sign(CLIENTS, 1, generate("server"))


def test_a_roster_lists_clients_and_relays_only() -> None:
    with pytest.raises(LocalProtocolError, match="a roster lists clients and relays, not a server"):
        sign([*CLIENTS, generate("server").public], 1, KEEPER)
    for nobody in ([], RELAYS):
        with pytest.raises(LocalProtocolError, match="at least one client"):
            sign(nobody, 1, KEEPER)


def test_a_relay_that_is_missing_below_another_is_not_signed() -> None:
    with pytest.raises(LocalProtocolError, match="relay 2, and no relay 1: relays are numbered from 0 on"):
        sign([*CLIENTS, RELAYS[0], RELAYS[2]], 1, KEEPER)


@pytest.mark.parametrize("version", [0, -1, MAX_VERSION + 1])
def test_versions_out_of_range_are_not_signed(version: int) -> None:
    with pytest.raises(LocalProtocolError, match="a roster's version is 1 to 999999999999999999, not"):
        sign(CLIENTS, version, KEEPER)


def twins() -> dict[str, PublicKey]:
    """Clients that clash with client 7 in one field each."""
    seven, other = CLIENTS[2], generate("client", 9).public
    return {
        "client 7 stands twice": PublicKey("client", 7, other.curve, other.ed25519),
        "client 9 has the CURVE key of client 7": PublicKey("client", 9, seven.curve, other.ed25519),
        "client 9 has the Ed25519 key of client 7": PublicKey("client", 9, other.curve, seven.ed25519),
    }


@pytest.mark.parametrize("why", twins())
def test_clients_that_clash_are_not_signed(why: str) -> None:
    with pytest.raises(LocalProtocolError, match=why):
        sign([*CLIENTS, twins()[why]], 1, KEEPER)


# What a reader refuses, though the pinned key signed it


@pytest.mark.parametrize("why", twins())
def test_clients_that_clash_are_not_read(read: Read, why: str) -> None:
    lines = [line_of(key) for key in [*CLIENTS[:3], twins()[why]]]
    with pytest.raises(TransportError, match=f"line 7: {why}"):
        read(resigned(body_with(lines)))


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ((CLIENTS[1], CLIENTS[0]), "client 0 after client 1: clients come first, and ids must ascend"),
        ((RELAYS[0], CLIENTS[0]), "client 0 after relay 0: clients come first, and ids must ascend"),
        ((CLIENTS[0], RELAYS[1]), "relay 1, and no relay 0"),
    ],
)
def test_parties_out_of_order_are_refused(read: Read, keys: tuple[PublicKey, ...], why: str) -> None:
    with pytest.raises(TransportError, match=f"line 5: {why}"):
        read(resigned(body_with([line_of(key) for key in keys])))


def test_a_relay_is_no_client_under_another_name(read: Read) -> None:
    zero = CLIENTS[0]
    twin = PublicKey("relay", 0, zero.curve, generate("relay", 0).public.ed25519)
    with pytest.raises(TransportError, match="line 5: relay 0 has the CURVE key of client 0"):
        read(resigned(body_with([line_of(zero), line_of(twin)])))


@pytest.mark.parametrize("id", ["-1", "2147483648", "07", "9999999999", "1 ", "+1", "1_0", "\u0661"])
def test_ids_out_of_range_or_oddly_spelled_are_refused(read: Read, id: str) -> None:
    line = line_of(CLIENTS[0]).replace(b"client 0", b"client " + id.encode())
    with pytest.raises(TransportError, match="line 4: "):
        read(resigned(body_with([line])))


@pytest.mark.parametrize(
    ("line", "old", "new"),
    [
        (1, b"secagg-roster 1", b"secagg-roster 2"),
        (2, b"version 3", b"version 0"),
        (2, b"version 3", b"version 03"),
        (2, b"version 3", b"version 1000000000000000000"),
        (3, b"signer ", b"signed "),
        (4, b"client 0 ", b"client 0  "),
        (4, b"client 0 ", b"# client 0 "),
        (4, b"client 0 ", b"\nclient 0 "),
        (4, CLIENTS[0].curve, b"#" * 40),
        (4, CLIENTS[0].ed25519.hex().encode(), CLIENTS[0].ed25519.hex().upper().encode()),
    ],
    ids=str,
)
def test_a_line_that_breaks_the_format_is_named(read: Read, line: int, old: bytes, new: bytes) -> None:
    body = SIGNED[: SIGNED.index(b"signature ")]
    assert old in body
    with pytest.raises(TransportError, match=f"line {line}: .*(again|update)"):
        read(resigned(body.replace(old, new)))


def test_a_roster_of_nobody_is_refused(read: Read) -> None:
    for lines in ([], [line_of(RELAYS[0])]):
        with pytest.raises(TransportError, match="line 4: no client"):
            read(resigned(body_with(lines)))


# What a reader refuses because the pinned key did not sign it


def test_a_roster_signed_by_another_key_is_refused_though_it_names_it(read: Read) -> None:
    with pytest.raises(TransportError, match="line 3: signed by") as caught:
        read(sign(CLIENTS, 3, STRANGER))
    assert STRANGER.fingerprint in str(caught.value)
    assert KEEPER.fingerprint in str(caught.value)


def test_naming_the_pinned_key_is_not_enough(read: Read) -> None:
    forged = sign(CLIENTS, 3, STRANGER).replace(
        STRANGER.public.ed25519.hex().encode(), KEEPER.public.ed25519.hex().encode()
    )
    with pytest.raises(TransportError, match="line 8: the signature does not fit"):
        read(forged)


def test_a_signature_of_another_roster_does_not_fit(read: Read) -> None:
    at = SIGNED.index(b"signature ")
    with pytest.raises(TransportError, match="changed after signing"):
        read(SIGNED[:at].replace(b"version 3", b"version 4") + SIGNED[at:])


def test_a_signature_made_for_another_purpose_does_not_fit(read: Read) -> None:
    body = SIGNED[: SIGNED.index(b"signature ")]
    with pytest.raises(TransportError, match="changed after signing"):
        read(body + b"signature " + KEEPER.signing.sign(body).hex().encode() + b"\n")


def test_an_unsigned_roster_is_refused(read: Read) -> None:
    with pytest.raises(TransportError, match="not signed"):
        read(SIGNED[: SIGNED.index(b"signature ")])
    with pytest.raises(TransportError, match="not signed"):
        read(b"")


@pytest.mark.parametrize("tail", [b"\n", b" ", b"client 9", b"signature 00\n", b"\0"], ids=str)
def test_nothing_may_follow_the_signature(read: Read, tail: bytes) -> None:
    with pytest.raises(TransportError, match=r"line 8: .*must end"):
        read(SIGNED + tail)


@pytest.mark.parametrize("cut", [1, 2, 129])
def test_a_roster_cut_short_is_refused(read: Read, cut: int) -> None:
    with pytest.raises(TransportError, match="line 8: "):
        read(SIGNED[:-cut])


def test_a_key_file_is_not_a_roster(read: Read) -> None:
    with pytest.raises(TransportError, match="key file"):
        read(b"# secagg public key (client 7).\n")


def test_a_roster_is_verified_under_a_roster_key_only(read: Read) -> None:
    with pytest.raises(LocalProtocolError, match="not under a server key"):
        read(SIGNED, generate("server").public)


def edits(data: bytes) -> st.SearchStrategy[bytes]:
    """One byte changed, removed or added, or a line swapped with the next."""
    at, byte = st.integers(0, len(data) - 1), st.binary(min_size=1, max_size=1)
    lines = data.splitlines(keepends=True)
    return st.one_of(
        st.builds(lambda i, c: data[:i] + c + data[i + 1 :], at, byte),
        st.builds(lambda i, c: data[:i] + c + data[i:], at, byte),
        st.builds(lambda i: data[:i] + data[i + 1 :], at),
        st.builds(
            lambda i: b"".join([*lines[:i], lines[i + 1], lines[i], *lines[i + 2 :]]),
            st.integers(0, len(lines) - 2),
        ),
    )


@given(edits(SIGNED) | edits(SIGNED).flatmap(edits) | st.binary(max_size=200))
def test_any_change_is_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "roster"
        path.write_bytes(data)
        if data == SIGNED:
            assert len(rosters.read(path, KEEPER.public)) == 4
            return
        with pytest.raises(TransportError):
            rosters.read(path, KEEPER.public)


@given(edits(SIGNED[: SIGNED.index(b"signature ")]))
def test_whatever_was_signed_is_read_or_refused(body: bytes) -> None:
    """With the signature out of the way: the format itself never raises anything else."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "roster"
        path.write_bytes(resigned(body))
        try:
            roster = rosters.read(path, KEEPER.public)
        except TransportError:
            return
        assert sign(roster.clients.values(), roster.version, KEEPER) == resigned(body)


# The newest seen


def roster_of(version: int, clients: list[PublicKey] = CLIENTS, keeper: int = 0) -> Roster:
    key = (KEEPER, STRANGER)[keeper]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "roster").write_bytes(sign(clients, version, key))
        return rosters.read(Path(folder) / "roster", key.public)


def test_the_same_and_newer_rosters_are_taken(tmp_path: Path) -> None:
    for version in (3, 3, 4, 10, 10):
        remember(tmp_path / "seen", roster_of(version))


def test_an_older_roster_is_refused_and_the_record_stays(tmp_path: Path) -> None:
    remember(tmp_path / "seen", roster_of(10))
    for _ in range(2):
        with pytest.raises(TransportError, match="has version 9, but version 10 was seen"):
            remember(tmp_path / "seen", roster_of(9))
    remember(tmp_path / "seen", roster_of(10))


def test_two_rosters_of_one_version_are_refused(tmp_path: Path) -> None:
    remember(tmp_path / "seen", roster_of(3))
    with pytest.raises(TransportError, match="two rosters of version 3"):
        remember(tmp_path / "seen", roster_of(3, CLIENTS[:2]))
    remember(tmp_path / "seen", roster_of(3))


def test_each_signer_has_its_own_versions(tmp_path: Path) -> None:
    remember(tmp_path / "seen", roster_of(3))
    remember(tmp_path / "seen", roster_of(1, keeper=1))
    with pytest.raises(TransportError, match="version 3 was seen before"):
        remember(tmp_path / "seen", roster_of(2))


def test_the_record_is_for_its_owner_and_whole(tmp_path: Path) -> None:
    remember(tmp_path / "seen", roster_of(3))
    assert stat.S_IMODE((tmp_path / "seen").stat().st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["seen", "seen.lock"]


def test_the_record_is_on_disk_before_the_call_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    def noted(name: str) -> Callable[..., object]:
        original = getattr(os, name)
        return lambda *args: (events.append(name), original(*args))  # type: ignore[func-returns-value]

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, noted(name))
    remember(tmp_path / "seen", roster_of(3))
    assert events == ["fsync", "replace", "fsync"]


def test_a_write_that_fails_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(tmp_path / "seen", roster_of(3))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(TransportError, match="No space left"):
            remember(tmp_path / "seen", roster_of(4))
    remember(tmp_path / "seen", roster_of(3))


DAMAGED = [
    b"",
    b"{",
    b"\xff",
    b"[]",
    b'{"format":"secagg-rosters-seen-2","rosters":{}}',
    b'{"format":"secagg-rosters-seen-1"}',
    b'{"format":"secagg-rosters-seen-1","rosters":{"ab":{"version":0,"digest":"%s"}}}' % (b"0" * 64),
    b'{"format":"secagg-rosters-seen-1","rosters":{"ab":{"version":1,"digest":"0"}}}',
]


@pytest.mark.parametrize("data", DAMAGED, ids=str)
def test_a_damaged_record_is_refused_and_kept(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "seen").write_bytes(data)
    with pytest.raises(TransportError, match="damaged: restore it"):
        remember(tmp_path / "seen", roster_of(3))
    assert (tmp_path / "seen").read_bytes() == data


def test_a_record_that_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="folder"):
        remember(tmp_path / "none" / "seen", roster_of(3))


def test_many_at_once_keep_the_newest(tmp_path: Path) -> None:
    def attempt(roster: Roster) -> None:
        with contextlib.suppress(TransportError):
            remember(tmp_path / "seen", roster)

    with ThreadPool(8) as pool:
        pool.map(attempt, [roster_of(version) for version in range(1, 33)])
    with pytest.raises(TransportError, match="version 32 was seen"):
        remember(tmp_path / "seen", roster_of(31))
