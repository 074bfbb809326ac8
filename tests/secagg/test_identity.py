"""Ed25519 through our wrappers: published answers, and what must be refused; rosters and identities."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import Identity, LocalProtocolError, Roster, throwaway_identities
from secagg.crypto import SIGNATURE_BYTES, SigningKey, Tag, digest, is_signature
from secagg.wire import MAX_ID, relay_party
from tests.play import seeded
from tests.secagg.helpers import flips

unhex = bytes.fromhex

# RFC 8032, section 7.1: secret key, public key, message, signature.
VECTORS = {
    "TEST 1": (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    "TEST 2": (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    "TEST 3": (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    "TEST 1024": (
        "f5e5767cf153319517630f226876b86c8160cc583bc013744c6bf255f5cc0ee5",
        "278117fc144c72340f67d0f2316e8386ceffbf2b2428c9c51fef7c597f1d426e",
        "08b8b2b733424243760fe426a4b54908632110a66c2f6591eabd3345e3e4eb98"
        "fa6e264bf09efe12ee50f8f54e9f77b1e355f6c50544e23fb1433ddf73be84d8"
        "79de7c0046dc4996d9e773f4bc9efe5738829adb26c81b37c93a1b270b20329d"
        "658675fc6ea534e0810a4432826bf58c941efb65d57a338bbd2e26640f89ffbc"
        "1a858efcb8550ee3a5e1998bd177e93a7363c344fe6b199ee5d02e82d522c4fe"
        "ba15452f80288a821a579116ec6dad2b3b310da903401aa62100ab5d1a36553e"
        "06203b33890cc9b832f79ef80560ccb9a39ce767967ed628c6ad573cb116dbef"
        "efd75499da96bd68a8a97b928a8bbc103b6621fcde2beca1231d206be6cd9ec7"
        "aff6f6c94fcd7204ed3455c68c83f4a41da4af2b74ef5c53f1d8ac70bdcb7ed1"
        "85ce81bd84359d44254d95629e9855a94a7c1958d1f8ada5d0532ed8a5aa3fb2"
        "d17ba70eb6248e594e1a2297acbbb39d502f1a8c6eb6f1ce22b3de1a1f40cc24"
        "554119a831a9aad6079cad88425de6bde1a9187ebb6092cf67bf2b13fd65f270"
        "88d78b7e883c8759d2c4f5c65adb7553878ad575f9fad878e80a0c9ba63bcbcc"
        "2732e69485bbc9c90bfbd62481d9089beccf80cfe2df16a2cf65bd92dd597b07"
        "07e0917af48bbb75fed413d238f5555a7a569d80c3414a8d0859dc65a46128ba"
        "b27af87a71314f318c782b23ebfe808b82b0ce26401d2e22f04d83d1255dc51a"
        "ddd3b75a2b1ae0784504df543af8969be3ea7082ff7fc9888c144da2af58429e"
        "c96031dbcad3dad9af0dcbaaaf268cb8fcffead94f3c7ca495e056a9b47acdb7"
        "51fb73e666c6c655ade8297297d07ad1ba5e43f1bca32301651339e22904cc8c"
        "42f58c30c04aafdb038dda0847dd988dcda6f3bfd15c4b4c4525004aa06eeff8"
        "ca61783aacec57fb3d1f92b0fe2fd1a85f6724517b65e614ad6808d6f6ee34df"
        "f7310fdc82aebfd904b01e1dc54b2927094b2db68d6f903b68401adebf5a7e08"
        "d78ff4ef5d63653a65040cf9bfd4aca7984a74d37145986780fc0b16ac451649"
        "de6188a7dbdf191f64b5fc5e2ab47b57f7f7276cd419c17a3ca8e1b939ae49e4"
        "88acba6b965610b5480109c8b17b80e1b7b750dfc7598d5d5011fd2dcc5600a3"
        "2ef5b52a1ecc820e308aa342721aac0943bf6686b64b2579376504ccc493d97e"
        "6aed3fb0f9cd71a43dd497f01f17c0e2cb3797aa2a2f256656168e6c496afc5f"
        "b93246f6b1116398a346f1a641f3b041e989f7914f90cc2c7fff357876e506b5"
        "0d334ba77c225bc307ba537152f3f1610e4eafe595f6d9d90d11faa933a15ef1"
        "369546868a7f3a45a96768d40fd9d03412c091c6315cf4fde7cb68606937380d"
        "b2eaaa707b4c4185c32eddcdd306705e4dc1ffc872eeee475a64dfac86aba41c"
        "0618983f8741c5ef68d3a101e8a3b8cac60c905c15fc910840b94c00a0b9d0",
        "0aab4c900501b3e24d7cdf4663326a3a87df5e4843b2cbdb67cbf6e460fec350"
        "aa5371b1508f9f4528ecea23c436d94b5e8fcd4f681e30a6ac00a9704a188a03",
    ),
    "TEST SHA(abc)": (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        hashlib.sha512(b"abc").hexdigest(),
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589"
        "09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
}
every_vector = pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS)
ORDER = 2**252 + 27742317777372353535851937790883648493
"""L of RFC 8032, section 5.1: the order of the base point."""


# Signatures


@every_vector
def test_ed25519_gives_the_answers_of_rfc_8032(vector: tuple[str, ...]) -> None:
    secret, public, message, signature = map(unhex, vector)
    key = SigningKey(secret)
    assert key.public == public
    assert key.sign(message) == signature
    assert len(signature) == SIGNATURE_BYTES
    assert is_signature(public, message, signature)


@every_vector
def test_no_other_bytes_are_a_published_signature(vector: tuple[str, ...]) -> None:
    _, public, message, signature = map(unhex, vector)
    assert not any(is_signature(public, message, other) for other in flips(signature))
    for other in (b"", signature[:-1], signature + b"\0", bytes(SIGNATURE_BYTES)):
        assert not is_signature(public, message, other)
    assert not is_signature(public, message + b"\0", signature)
    assert not is_signature(public, bytes([1]) + message[1:], signature)


@every_vector
def test_a_published_signature_has_no_second_form(vector: tuple[str, ...]) -> None:
    """RFC 8032, section 5.1.7: S is below L; S + L, which the equation also holds for, is refused."""
    _, public, message, signature = map(unhex, vector)
    S = int.from_bytes(signature[32:], "little")
    assert S < ORDER
    assert not is_signature(public, message, signature[:32] + (S + ORDER).to_bytes(32, "little"))


def test_a_signature_is_of_one_key() -> None:
    (secret, public, message, signature), (_, other, *_) = (map(unhex, VECTORS[f"TEST {i}"]) for i in (1, 2))
    assert is_signature(public, message, signature)
    assert not is_signature(other, message, signature)
    assert not is_signature(secret, message, signature)


def test_bytes_that_are_no_key_verify_nothing() -> None:
    _, public, message, signature = map(unhex, VECTORS["TEST 1"])
    not_on_the_curve = (2).to_bytes(32, "little")
    for key in (b"", public[:-1], public + b"\0", not_on_the_curve, b"\xff" * 32):
        assert not is_signature(key, message, signature)


@given(st.binary(min_size=32, max_size=32), st.binary(), st.binary())
def test_what_a_key_signs_verifies_and_nothing_else(secret: bytes, message: bytes, other: bytes) -> None:
    key = SigningKey(secret)
    assert is_signature(key.public, message, key.sign(message))
    assert is_signature(key.public, other, key.sign(message)) == (message == other)


@given(st.binary(max_size=70), st.binary(), st.binary(max_size=70))
def test_whatever_the_bytes_they_verify_or_not(public: bytes, message: bytes, signature: bytes) -> None:
    assert is_signature(public, message, signature) in (True, False)


def test_a_signing_key_is_neither_shown_nor_pickled_nor_copied() -> None:
    key = SigningKey(unhex(VECTORS["TEST 1"][0]))
    assert repr(key) == str(key) == "SigningKey(<hidden>)"
    for copier in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="SigningKey holds secrets and is never pickled"):
            copier(key)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_signing_key_is_made_of_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="32"):
        SigningKey(bytes(length))


# Rosters


KEYS = {u: SigningKey(bytes([u]) * 32) for u in range(3)}
ROSTER = Roster(bytes(32), {u: key.public for u, key in KEYS.items()})


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_roster_is_named_by_32_bytes(length: int) -> None:
    with pytest.raises(LocalProtocolError, match="a roster's digest has 32 bytes"):
        Roster(bytes(length), {})


def test_a_roster_knows_each_members_signature_and_no_other() -> None:
    for u, key in KEYS.items():
        for v in KEYS:
            assert ROSTER.signed_by(v, b"message", key.sign(b"message")) == (u == v)
        assert not ROSTER.signed_by(u, b"another", key.sign(b"message"))
        assert not ROSTER.signed_by(u, b"message", b"")


def test_nobody_outside_a_roster_has_signed() -> None:
    for u in (-1, 3, MAX_ID):
        assert not ROSTER.signed_by(u, b"message", KEYS[0].sign(b"message"))
    assert not Roster(bytes(32), {}).signed_by(0, b"message", KEYS[0].sign(b"message"))


def test_a_member_with_a_broken_key_has_signed_nothing() -> None:
    broken = Roster(bytes(32), {0: b"short", 1: b"\xff" * 32})
    assert not any(broken.signed_by(u, b"message", KEYS[0].sign(b"message")) for u in (0, 1))


# Identities


def test_an_identity_is_a_member_with_its_own_key() -> None:
    identity = Identity(1, ROSTER, KEYS[1])
    assert identity.roster.signed_by(1, b"message", identity.key.sign(b"message"))


@pytest.mark.parametrize(("u", "key"), [(1, 0), (0, 1), (3, 0), (-1, 2)])
def test_an_identity_with_another_key_or_of_a_stranger_is_refused(u: int, key: int) -> None:
    with pytest.raises(LocalProtocolError, match=f"the roster does not list client {u} with this key"):
        Identity(u, ROSTER, KEYS[key])


def test_a_relay_is_listed_apart_from_the_clients() -> None:
    roster = Roster(bytes(32), {0: KEYS[0].public}, {0: KEYS[1].public})
    relay = Identity(relay_party(0), roster, KEYS[1])
    assert roster.signed_by(relay.u, b"message", KEYS[1].sign(b"message"))
    assert not roster.signed_by(0, b"message", KEYS[1].sign(b"message"))
    with pytest.raises(LocalProtocolError, match="the roster does not list relay 0 with this key"):
        Identity(relay_party(0), roster, KEYS[0])
    with pytest.raises(LocalProtocolError, match="the roster does not list relay 1 with this key"):
        Identity(relay_party(1), roster, KEYS[1])


def test_an_identity_does_not_show_its_key() -> None:
    secret = bytes(range(32))
    key = SigningKey(secret)
    text = repr(Identity(0, Roster(bytes(32), {0: key.public}), key))
    assert "key=" not in text
    assert repr(secret)[2:-1] not in text
    assert secret.hex() not in text


def test_rosters_and_identities_do_not_change() -> None:
    for thing, field in ((ROSTER, "digest"), (Identity(0, ROSTER, KEYS[0]), "u")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, field, 1)


# For one process


def test_throwaway_identities_are_of_exactly_the_cohort_and_one_roster() -> None:
    cohort = [200, 0, MAX_ID]
    roster, ours = throwaway_identities(cohort)
    assert list(ours) == list(roster.keys) == sorted(cohort)
    for u, identity in ours.items():
        assert (identity.u, identity.roster) == (u, roster)
        assert roster.signed_by(u, b"message", identity.key.sign(b"message"))
    assert len(set(roster.keys.values())) == 3


def test_a_throwaway_roster_is_named_by_its_ids_and_keys() -> None:
    roster, _ = throwaway_identities([2, 1], seeded(1))
    draws = seeded(1)
    keys = [SigningKey(draws(32)).public for _ in range(2)]
    listed = b"\0\0\0\1" + keys[0] + b"\0\0\0\2" + keys[1]
    assert roster.keys == {1: keys[0], 2: keys[1]}
    assert roster.digest == digest(Tag.ROSTER, listed)
    assert throwaway_identities([1, 3], seeded(1))[0].digest != roster.digest


def test_throwaway_keys_are_fresh_by_default_and_the_generators_where_one_is_given() -> None:
    assert throwaway_identities(range(3))[0].digest != throwaway_identities(range(3))[0].digest
    assert throwaway_identities(range(3), seeded(1))[0] == throwaway_identities(range(3), seeded(1))[0]


def test_nobody_makes_a_roster_of_nobody() -> None:
    roster, ours = throwaway_identities([])
    assert (roster.keys, ours) == ({}, {})


SMALL_ORDER = [
    y.to_bytes(32, "little")
    for sign in (0, 2**255)
    for y in [
        sign + 0,
        sign + 1,
        sign + 2**255 - 20,
        sign + 2**255 - 19,
        sign + 2**255 - 18,
        sign + 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
        sign + 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    ]
    if y < 2**256
]


def test_under_a_key_of_small_order_anybody_can_sign():
    """The control: R of small order and S = 0 verify for one message in eight, or more."""
    identity_point = b"\1" + bytes(31)
    forged = {
        public
        for public in SMALL_ORDER
        if any(is_signature(public, bytes([i]), identity_point + bytes(32)) for i in range(64))
    }
    assert len(forged) >= 5


@pytest.mark.parametrize("public", SMALL_ORDER, ids=bytes.hex)
def test_a_roster_with_a_key_of_small_order_is_refused(public):
    with pytest.raises(
        LocalProtocolError, match="the roster lists client 7 with a key of small order, under"
    ):
        Roster(bytes(32), {7: public})
    with pytest.raises(LocalProtocolError, match="the roster lists relay 1 with a key of small order, under"):
        Roster(bytes(32), {}, {1: public})


def test_no_two_relays_of_a_roster_have_one_key() -> None:
    with pytest.raises(LocalProtocolError, match="lists two relays with one key: who has it would have two"):
        Roster(bytes(32), {}, dict.fromkeys(range(2), SigningKey(bytes(32)).public))


def test_a_relay_is_in_the_roster_by_its_number_and_signs_under_its_own_id() -> None:
    roster, keys = throwaway_identities(range(3), relays=2)
    assert (roster.keys.keys(), roster.relays.keys()) == ({0, 1, 2}, {0, 1})
    first, second = relay_party(0), relay_party(1)
    assert keys.keys() == {0, 1, 2, first, second}
    signature = keys[first].key.sign(b"said")
    assert roster.signed_by(first, b"said", signature)
    for other in (0, second, relay_party(2)):
        assert not roster.signed_by(other, b"said", signature)
    assert roster.key_of(relay_party(2)) is None
    assert roster.key_of(first) == roster.relays[0] != roster.key_of(0)
