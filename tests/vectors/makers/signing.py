"""What is signed, and what must not verify."""

from __future__ import annotations

from collections.abc import Iterator

from secagg.ckks.derived import key_statement, secret_statement, upload_statement
from secagg.crypto import SigningKey, is_signature, verifies_anything
from secagg.decoys.derived import candidates_statement
from secagg.identity import throwaway_identities
from secagg.masking.derived import (
    keys_statement,
    members_statement,
    shares_statement,
)
from secagg.masking.messages import Commitments, ShareKeys
from secagg.wire import MAX_ID, encode
from tests.vectors.makers import published
from tests.vectors.makers.chance import Counter
from tests.vectors.makers.plans import Json

_P = 2**255 - 19


def signatures() -> Json:
    rng = Counter("signatures")
    members = (0, 5, 300, MAX_ID)
    chance = Counter("signatures/roster")
    roster, _ = throwaway_identities(members, chance)
    parameters, context, nonce, sid = (rng(32) for _ in range(4))
    u, c_pk, s_pk = 300, rng(32), rng(32)
    secret = chance.drawn[members.index(u)]
    shares = ShareKeys(
        {v: rng(94) for v in (0, 5)}, rng(32), {v: Commitments(rng(32), rng(32)) for v in (0, 5, 300)}, b""
    )
    sets = {"U1": members, "U2": members[:3], "U3": members[1:3]}
    statements: dict[str, tuple[Json, bytes]] = {
        "advertise-keys": (
            {"nonce": nonce.hex(), "c_pk": c_pk.hex(), "s_pk": s_pk.hex()},
            keys_statement(parameters, roster.digest, context, nonce, u, c_pk, s_pk),
        ),
        "share-keys": (
            {"sid": sid.hex(), "unsigned": encode(shares).hex()},
            shares_statement(sid, u, shares),
        ),
        "consistency-check": (
            {"sid": sid.hex(), **{name: list(ids) for name, ids in sets.items()}},
            members_statement(sid, parameters, context, *sets.values()),
        ),
        **_of_ckks(Counter("signatures/ckks"), (parameters, roster.digest, context), u),
    }
    made = [
        {"message": name, "u": u, **of, "statement": statement.hex(), "signature": _sign(secret, statement)}
        for name, (of, statement) in statements.items()
    ]
    return {
        "what": "What is signed (sections 8.2 to 8.5; of ckks 5.1 and 5.2 of its page), with the keys of a "
        "roster that was made within one process.",
        "published": published.ED25519,
        "roster": {
            "digest": roster.digest.hex(),
            "keys": {str(v): key.hex() for v, key in roster.keys.items()},
            "secrets": {str(v): s.hex() for v, s in zip(members, chance.drawn, strict=True)},
        },
        "parameters": parameters.hex(),
        "context": context.hex(),
        "cases": made,
        "not_verifying": list(_not_verifying()),
        "small_order": [key.hex() for key in _small_order_keys() if verifies_anything(key)],
    }


def _of_ckks(rng: Counter, bound: tuple[bytes, bytes, bytes], u: int) -> dict[str, tuple[Json, bytes]]:
    nonce, c_pk, sid, sealed_key, upload = rng(32), rng(32), rng(32), rng(60), rng(32)
    return {
        "advertise-ckks-key": (
            {"nonce": nonce.hex(), "c_pk": c_pk.hex()},
            key_statement(*bound, nonce, u, c_pk),
        ),
        "share-ckks-key": (
            {"sid": sid.hex(), "sealed_key": sealed_key.hex()},
            secret_statement(sid, u, sealed_key),
        ),
        "ciphertexts": ({"sid": sid.hex(), "upload": upload.hex()}, upload_statement(sid, u, upload)),
        "candidates": ({"sid": sid.hex(), "upload": upload.hex()}, candidates_statement(sid, u, upload)),
    }


def _sign(secret: bytes, statement: bytes) -> str:
    return SigningKey(secret).sign(statement).hex()


_L = 2**252 + 27742317777372353535851937790883648493


def _not_verifying() -> Iterator[Json]:
    """RFC 8032, section 5.1.7, and TEST 3 of section 7.1 spoilt."""
    test = published.ED25519[2]
    public, statement, signature = (
        bytes.fromhex(test[name]) for name in ("public", "statement", "signature")
    )
    S = int.from_bytes(signature[32:], "little")
    spoilt: dict[str, tuple[bytes, bytes, bytes]] = {
        "S + L in the place of S: S is below L": (public, statement, signature[:32] + _little(S + _L)),
        "another statement": (public, statement + b"\0", signature),
        "another key": (bytes.fromhex(published.ED25519[1]["public"]), statement, signature),
        "one bit of R": (public, statement, bytes([signature[0] ^ 1]) + signature[1:]),
        "a byte too few": (public, statement, signature[:-1]),
        "no signature": (public, statement, b""),
        "a key that is no point": (_little(2), statement, signature),
    }
    for why, (key, signed, by) in spoilt.items():
        if is_signature(key, signed, by):
            raise AssertionError(f"{why}: it verifies")
        yield {"why": why, "public": key.hex(), "statement": signed.hex(), "signature": by.hex()}


def _little(x: int) -> bytes:
    return x.to_bytes(32, "little")


def _small_order_keys() -> Iterator[bytes]:
    """The eight points of small order (RFC 8032's curve), with either sign and with y not reduced."""
    y8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
    for y in (0, 1, _P - 1, y8, _P - y8, _P, _P + 1):
        for sign in (0, 1 << 255):
            yield _little(y + sign)
