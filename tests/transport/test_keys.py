"""Key files: what is written is read back, what was touched is refused, secrets stay inside."""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
import stat
import tempfile
from pathlib import Path

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85

from secagg.errors import LocalProtocolError
from transport.errors import TransportError
from transport.keys import (
    MAX_ID,
    Kind,
    PrivateKey,
    PublicKey,
    generate,
    read_private,
    read_public,
    write_private,
    write_public,
)

CLIENT = generate("client", 7, rng=lambda n: hashlib.shake_256(b"client 7").digest(n))


def same_secrets(a: PrivateKey, b: PrivateKey) -> bool:
    # Five bits of an X25519 secret have no effect (RFC 7748, section 5), so the public key speaks for it.
    return a.public == b.public and a.signing.private_bytes_raw() == b.signing.private_bytes_raw()


@pytest.mark.parametrize(
    ("kind", "id"),
    [("server", None), ("client", 0), ("client", MAX_ID), ("roster", None), ("relay", 0), ("relay", 15)],
)
def test_a_key_written_is_the_key_read(tmp_path: Path, kind: Kind, id: int | None) -> None:
    key = generate(kind, id)
    write_private(tmp_path / "a.key", key)
    write_public(tmp_path / "a.pub", key.public)
    read = read_private(tmp_path / "a.key", kind)
    assert same_secrets(read, key)
    assert read.curve_secret == key.curve_secret
    assert read_public(tmp_path / "a.pub", kind) == key.public == read.public


def test_the_curve_pair_is_one_that_zmq_takes() -> None:
    assert zmq.curve_public(CLIENT.curve_secret) == CLIENT.curve_public == CLIENT.public.curve


def test_two_keys_share_nothing() -> None:
    other = generate("client", 7)
    assert other.curve_public != CLIENT.curve_public
    assert other.public.ed25519 != CLIENT.public.ed25519
    assert other.fingerprint != CLIENT.fingerprint


def test_a_roster_key_has_no_channel_identity() -> None:
    key = generate("roster")
    assert (key.curve_secret, key.public.curve) == (b"", b"")


@pytest.mark.parametrize(
    ("kind", "id"),
    [
        *[("client", None), ("server", 3), ("roster", 0), ("client", -1), ("client", MAX_ID + 1)],
        *[("relay", None), ("relay", -1), ("relay", 16), ("dealer", None)],
    ],
)
def test_kind_and_id_that_do_not_fit_are_refused(kind: Kind, id: int | None) -> None:
    with pytest.raises(LocalProtocolError):
        generate(kind, id)


@pytest.mark.parametrize(
    ("kind", "curve", "ed25519"),
    [
        ("server", b"", bytes(32)),
        ("server", CLIENT.curve_public[:39], bytes(32)),
        ("server", CLIENT.curve_public[:39] + b"~", bytes(32)),
        ("server", b"#" * 40, bytes(32)),  # more than 32 bits in five characters
        ("server", CLIENT.curve_public, bytes(31)),
        ("roster", CLIENT.curve_public, bytes(32)),
    ],
    ids=["no-curve", "short-curve", "no-z85", "z85-overflow", "short-ed25519", "roster-with-curve"],
)
def test_public_keys_that_are_none_are_refused(kind: Kind, curve: bytes, ed25519: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        PublicKey(kind, None, curve, ed25519)


# Fingerprints


def test_a_fingerprint_is_eight_groups_of_four_hex_digits() -> None:
    groups = CLIENT.fingerprint.split(" ")
    assert [len(group) for group in groups] == [4] * 8
    assert set("".join(groups)) <= set("0123456789abcdef")


def test_a_fingerprint_changes_with_each_field() -> None:
    public, other = CLIENT.public, generate("client", 7).public
    variants = {
        public,
        PublicKey("client", 8, public.curve, public.ed25519),
        PublicKey("relay", 7, public.curve, public.ed25519),
        PublicKey("server", None, public.curve, public.ed25519),
        PublicKey("client", 7, other.curve, public.ed25519),
        PublicKey("client", 7, public.curve, other.ed25519),
    }
    assert len({key.fingerprint for key in variants}) == 6


def test_the_fingerprint_of_known_keys() -> None:
    """A changed fingerprint would make every deployment compare anew."""
    key = generate("client", 7, rng=lambda n: bytes(range(n))).public
    recipe = b"secagg/1/key-fingerprint\0client\x007\0" + key.curve + b"\0" + key.ed25519
    assert key.fingerprint.replace(" ", "") == hashlib.sha256(recipe).hexdigest()[:32]
    assert key.fingerprint == "66ed 532a a7e8 e9d3 5e4d fec6 f675 b2dc"


def test_published_key_pairs() -> None:
    """Ed25519: RFC 8032, section 7.1, test 1. CURVE: the example of the manual page zmq_curve(7)."""
    ed25519 = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    curve = z85.decode(b"JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6")
    secrets = iter([ed25519, curve])
    public = generate("server", rng=lambda n: next(secrets)).public
    assert public.ed25519.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert public.curve == b"rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"


# Secrets


def test_secrets_are_in_no_repr() -> None:
    shown = repr(CLIENT) + str(CLIENT)
    assert CLIENT.curve_secret.decode() not in shown
    assert CLIENT.signing.private_bytes_raw().hex() not in shown
    assert "Ed25519" not in shown


def test_a_private_key_is_neither_pickled_nor_copied() -> None:
    with pytest.raises(TypeError, match="never pickled or copied: pass the path of its file"):
        pickle.dumps(CLIENT)
    with pytest.raises(TypeError, match="path"):
        copy.deepcopy(CLIENT)


def test_a_public_file_holds_no_secret(tmp_path: Path) -> None:
    write_public(tmp_path / "a.pub", CLIENT.public)
    text = (tmp_path / "a.pub").read_text()
    assert CLIENT.curve_secret.decode() not in text
    assert CLIENT.signing.private_bytes_raw().hex() not in text


def test_a_damaged_private_key_is_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    write_private(path, CLIENT)
    path.write_text(path.read_text().replace("server", "x").replace("ed25519_public", "ed25519_pub"))
    with pytest.raises(TransportError) as caught:
        read_private(path)
    assert CLIENT.signing.private_bytes_raw().hex() not in str(caught.value)
    assert caught.value.__cause__ is None


# Permissions


def test_a_private_file_is_never_open_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []

    def created(path: Path, flags: int, mode: int = 0o777) -> int:
        descriptor = os_open(path, flags, mode)
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    os_open, old = os.open, os.umask(0)
    try:
        monkeypatch.setattr(os, "open", created)
        write_private(tmp_path / "a.key", CLIENT)
        write_private(tmp_path / "a.key", CLIENT, replace=True)
    finally:
        os.umask(old)
    assert [modes[0], modes[2]] == [0o600, 0o600]  # the other two are the folder, opened to sync it
    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610, 0o601])
def test_a_private_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "my client.key"
    write_private(path, CLIENT)
    path.chmod(mode)
    with pytest.raises(TransportError, match=f"chmod 600 '{path}'"):
        read_private(path)


def test_replacing_a_file_that_was_open_to_others_closes_it(tmp_path: Path) -> None:
    (tmp_path / "a.key").write_text("old")
    write_private(tmp_path / "a.key", CLIENT, replace=True)
    assert same_secrets(read_private(tmp_path / "a.key"), CLIENT)
    assert os.listdir(tmp_path) == ["a.key"]


# Files that are not what they should be


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    path.write_text("precious")
    with pytest.raises(TransportError, match="say replace=True"):
        write_private(path, CLIENT)
    with pytest.raises(TransportError, match="say replace=True"):
        write_public(path, CLIENT.public)
    assert path.read_text() == "precious"


def test_a_link_to_nowhere_is_not_followed_when_writing(tmp_path: Path) -> None:
    (tmp_path / "a.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TransportError, match="exists"):
        write_private(tmp_path / "a.key", CLIENT)
    assert not (tmp_path / "elsewhere").exists()


def test_a_write_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for replace in (False, True):
        with pytest.raises(TransportError, match="No space left"):
            write_private(tmp_path / "a.key", CLIENT, replace=replace)
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="folder"):
        write_private(tmp_path / "none" / "a.key", CLIENT)


def test_another_kind_is_refused(tmp_path: Path) -> None:
    write_private(tmp_path / "a.key", CLIENT)
    write_public(tmp_path / "a.pub", CLIENT.public)
    with pytest.raises(TransportError, match="holds a client key, a server key is needed"):
        read_private(tmp_path / "a.key", "server")
    with pytest.raises(TransportError, match="holds a client key, a roster key is needed"):
        read_public(tmp_path / "a.pub", "roster")


def test_private_and_public_files_taken_for_each_other_are_named(tmp_path: Path) -> None:
    write_private(tmp_path / "a.key", CLIENT)
    write_public(tmp_path / "a.pub", CLIENT.public)
    (tmp_path / "a.pub").chmod(0o600)
    with pytest.raises(TransportError, match="is a public key, a private key is needed"):
        read_private(tmp_path / "a.pub")
    with pytest.raises(TransportError, match="is a private key, a public key is needed"):
        read_public(tmp_path / "a.key")


def test_what_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "long").write_bytes(bytes(5000))
    for name, why in {"none": "no file", "pipe": "regular", ".": "cannot read", "long": "4096"}.items():
        with pytest.raises(TransportError, match=why):
            read_public(tmp_path / name)


def test_a_public_part_of_another_secret_is_refused(tmp_path: Path) -> None:
    write_private(tmp_path / "a.key", CLIENT)
    text, other = (tmp_path / "a.key").read_text(), generate("client", 7)
    for mine, theirs in (
        (CLIENT.curve_public.decode(), other.curve_public.decode()),
        (CLIENT.public.ed25519.hex(), other.public.ed25519.hex()),
    ):
        assert mine in text
        (tmp_path / "a.key").write_text(text.replace(mine, theirs))
        with pytest.raises(TransportError, match=r"damaged.*secagg keys"):
            read_private(tmp_path / "a.key")


def test_a_public_file_with_another_id_does_not_fit_its_fingerprint(tmp_path: Path) -> None:
    write_public(tmp_path / "a.pub", CLIENT.public)
    text = (tmp_path / "a.pub").read_text()
    (tmp_path / "a.pub").write_text(text.replace("client 7", "client 8").replace("id = 7", "id = 8"))
    with pytest.raises(TransportError, match="damaged"):
        read_public(tmp_path / "a.pub")


def edits(text: str) -> st.SearchStrategy[str]:
    """One character of `text` changed, removed or added, or its end cut off."""
    at = st.integers(0, len(text) - 1)
    char = st.characters(codec="utf-8") | st.sampled_from('0123456789abcdef\n\r\t "#=')
    return st.one_of(
        st.builds(lambda i, c: text[:i] + c + text[i + 1 :], at, char),
        st.builds(lambda i, c: text[:i] + c + text[i:], at, char),
        st.builds(lambda i: text[:i] + text[i + 1 :], at),
        st.builds(lambda i: text[:i], at),
    )


def text_of(kind: Kind, private: bool) -> str:
    key = CLIENT if kind == "client" else generate(kind)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        write_private(path, key) if private else write_public(path, key.public)
        return path.read_text()


PRIVATE, PUBLIC = text_of("client", private=True), text_of("client", private=False)


@given(edits(PRIVATE))
def test_any_change_to_a_private_file_is_refused(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.key"
        path.touch(0o600)
        path.write_bytes(text.encode())
        try:
            assert same_secrets(read_private(path), CLIENT)
        except TransportError:
            assert text != PRIVATE


@given(edits(PUBLIC))
def test_any_change_to_a_public_file_is_refused(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pub"
        path.write_bytes(text.encode())
        try:
            assert read_public(path) == CLIENT.public
            assert text == PUBLIC
        except TransportError:
            assert text != PUBLIC


@given(st.binary(max_size=300) | st.binary(max_size=300).map(PUBLIC.encode().__add__))
def test_any_bytes_are_refused_as_a_key(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        path.touch(0o600)
        path.write_bytes(data)
        if data == PUBLIC.encode():
            return
        with pytest.raises(TransportError):
            read_public(path)
        with pytest.raises(TransportError):
            read_private(path)
