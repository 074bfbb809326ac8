"""Streams, keys, commitments, sealing and shares, as this package has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from secagg.crypto import (
    SecretKey,
    Tag,
    digest,
    kdf,
    seal,
    transcript,
)
from secagg.masking.derived import (
    commit_mask,
    commit_shares,
    share_data,
    share_key,
)
from secagg.prg import BLOCK_BYTES, add_masks, keystream
from secagg.shamir import PRIME, SHARE_BYTES, is_share, recon, share
from secagg.wire import MAX_ID
from tests.vectors import independent
from tests.vectors.makers import published
from tests.vectors.makers.chance import Counter, Record
from tests.vectors.makers.plans import Json

SEEDS = [bytes(32), bytes(range(32)), b"\xff" * 32, Counter("a seed")(32)]
PRGS = ("aes-128-ctr", "chacha20")
Part = bytes | int | str


def stream(prg: str, seed: bytes, bits: int, count: int, first: int = 0) -> list[str]:
    """Words from `first` on, read from the beginning: this package does not enter a stream elsewhere."""
    blocks = keystream(seed, first + count, f"<u{bits // 8}", prg)
    words = np.concatenate([block.copy() for block in blocks])[first:]
    return [f"{int(word):0{bits // 4}x}" for word in words]


# prg.json

NEAR = {32: BLOCK_BYTES // 4, 64: BLOCK_BYTES // 8}


def _places(bits: int) -> list[int]:
    """Around the ends of blocks: of the cipher, of 128 KiB; and far out, behind the longest vector too."""
    return [2, 13, NEAR[bits] - 2, 2**20 - 1, 2**20, 2**29 - 2, 2**31 - 1, 2**31]


def prg() -> Json:
    streams, seek = [], []
    for name in PRGS:
        for bits in (32, 64):
            for seed in SEEDS:
                words = stream(name, seed, bits, 6)
                streams.append({"prg": name, "seed": seed.hex(), "word_bits": bits, "words": words})
            for first in _places(bits):
                found = independent.words(name, SEEDS[1], 4, bits // 8, first)
                shown = [f"{word:0{bits // 4}x}" for word in found]
                seek.append(
                    {
                        "prg": name,
                        "seed": SEEDS[1].hex(),
                        "word_bits": bits,
                        "first": first,
                        "words": shown,
                    }
                )
    return {
        "what": "Streams (docs/protocol.md, section 3). published: first_block is the cipher's first "
        "counter block.",
        "published": published.STREAMS,
        "streams": streams,
        "seek": seek,
        "masks": [_mask(name, bits) for name in PRGS for bits in (32, 64)],
    }


def _mask(name: str, bits: int) -> Json:
    """A vector with a mask added, and with it subtracted, modulo the word."""
    y = np.array([0, 1, 2 ** (bits - 1), 2**bits - 1], f"<u{bits // 8}")
    plus, minus = y.copy(), y.copy()
    add_masks(plus, [SEEDS[3]], prg=name)
    add_masks(minus, minus=[SEEDS[3]], prg=name)

    def shown(words: Any) -> list[str]:
        return [f"{int(word):0{bits // 4}x}" for word in words]

    masked = {"y": shown(y), "added": shown(plus), "subtracted": shown(minus)}
    return {"prg": name, "seed": SEEDS[3].hex(), "word_bits": bits, **masked}


# kdf.json


def _shown(part: Part) -> Json:
    if isinstance(part, int):
        return {"int": f"{part:016x}"}
    return {"text": part} if isinstance(part, str) else {"bytes": part.hex()}


def kdf_and_digests() -> Json:
    rng = Counter("kdf")
    ids = (0, 1, 127, 128, 300, MAX_ID)
    in_use: list[tuple[Tag, list[Part]]] = [
        (Tag.PARAMETERS, [rng(40)]),
        (Tag.CONTEXT, [b""]),
        (Tag.CONTEXT, [b"task"]),
        (Tag.SESSION, [rng(32), rng(32), rng(32), rng(3 * 68)]),
        (Tag.GRAPH, [rng(32)]),
        (Tag.SHARE_KEY, [ids[1], ids[5]]),
        (Tag.SHARE_KEY, [ids[5], ids[1]]),
        (Tag.SHARE_DATA, [rng(32), ids[4], ids[0]]),
        (Tag.SELF_MASK, [ids[3], ""]),
        (Tag.SELF_MASK, [ids[3], "größe"]),
        (Tag.PAIR_MASK, [ids[2], ids[3], "update"]),
        (Tag.ROUNDING, ["update"]),
        (Tag.ROSTER, [rng(2 * 36)]),
        (Tag.MEMBERS, [b"".join(u.to_bytes(4, "big") for u in ids)]),
        (Tag.COMMIT_MASK, [rng(32), ids[4], rng(32)]),
        (Tag.COMMIT_KEY_SHARE, [rng(32), ids[0], ids[5], rng(33)]),
        (Tag.COMMIT_MASK_SHARE, [rng(32), ids[0], ids[5], rng(33)]),
        (Tag.SIGN_KEYS, [rng(32), rng(32), rng(32), rng(32), ids[4], rng(32), rng(32)]),
        (Tag.SIGN_SHARES, [rng(32), ids[4], rng(60)]),
        (Tag.SIGN_MEMBERS, [rng(32), rng(32), rng(32), rng(32), rng(32), rng(32)]),
    ]
    rng_of_ckks, rng_of_fl = Counter("kdf/ckks"), Counter("kdf/fl")
    of_ckks = _of_ckks(rng_of_ckks, ids)
    of_fl: list[tuple[Tag, list[Part]]] = [(Tag.TRAINING, ["order"]), (Tag.TRAINING, ["pass", 3])]
    other = Counter("kdf/decoys")
    of_decoys: list[tuple[Tag, list[Part]]] = [
        (Tag.DECOYS_UPLOAD, [other(32), ids[4], other(20), other(60)]),
        (Tag.SIGN_DECOYS_UPLOAD, [other(32), ids[4], other(32)]),
    ]
    rng_of_split = Counter("kdf/split")
    of_split: list[tuple[Tag, list[Part]]] = [
        (Tag.SPLIT_SESSION, [*(rng_of_split(32) for _ in range(3)), rng_of_split(2 * 33)]),
        (Tag.SPLIT_SEAL_KEY, [ids[4], 1, rng_of_split(32)]),
        (Tag.SPLIT_SEAL_DATA, [rng_of_split(32), ids[4], 15]),
        (Tag.SPLIT_DUMMY, [ids[5], 0, "update"]),
        (Tag.SPLIT_SHARE, [rng_of_split(60)]),
        (Tag.SPLIT_MEMBERS, [rng_of_split(2 * 68)]),
        (Tag.SPLIT_COLUMN, [rng_of_split(3), rng_of_split(11)]),
        (Tag.SIGN_RELAY_KEY, [*(rng_of_split(32) for _ in range(4)), 1, rng_of_split(32)]),
        (
            Tag.SIGN_SPLIT_SHARES,
            [*(rng_of_split(32) for _ in range(3)), ids[4], *map(rng_of_split, (32, 32))],
        ),
        (Tag.SIGN_COLUMN, [rng_of_split(32), 1, rng_of_split(32), rng_of_split(32)]),
    ]
    rng_of_private = Counter("kdf/private")
    of_private: list[tuple[Tag, list[Part]]] = [
        (Tag.ROTATION, [*(rng_of_private(32) for _ in range(3)), "update"])
    ]
    rng_of_groups = Counter("kdf/groups")
    of_groups: list[tuple[Tag, list[Part]]] = [(Tag.GROUPS, [rng_of_groups(32), 4, rng_of_groups(3 * 4)])]
    number = int.from_bytes(b"abcdefgh", "big")
    alike: list[list[Part]] = [[], [""], [0], [2**64 - 1], [number], ["abcdefgh"], [b"abcdefgh"]]
    alike += [[b"ab", b"c"], [b"a", b"bc"], [b"abc"], ["\u0000", "é", "🙂"], [b"", b""]]
    listed = [
        *in_use,
        *((Tag.CONTEXT, parts) for parts in alike),
        *of_ckks,
        *of_fl,
        *of_private,
        *of_decoys,
        *of_split,
        *of_groups,
    ]
    return {
        "what": "Transcripts, digests and keys (section 2.3) with parts as section 2.4 has them, and with "
        "parts that "
        "look alike. int: 8 bytes, most significant first.",
        "published": published.HKDF,
        "transcripts": [
            {
                "tag": tag.value.decode(),
                "parts": [_shown(part) for part in parts],
                "transcript": transcript(tag, *parts).hex(),
                "digest": digest(tag, *parts).hex(),
            }
            for tag, parts in listed
        ],
        "keys": [
            *(_key(tag, parts, rng) for tag, parts in in_use),
            *(_key(tag, parts, rng_of_ckks) for tag, parts in of_ckks),
            *(_key(tag, parts, rng_of_fl) for tag, parts in of_fl),
            *(_key(tag, parts, rng_of_private) for tag, parts in of_private),
            *(_key(tag, parts, other) for tag, parts in of_decoys),
            *(_key(tag, parts, rng_of_split) for tag, parts in of_split),
            *(_key(tag, parts, rng_of_groups) for tag, parts in of_groups),
        ],
    }


def _of_ckks(rng: Counter, ids: Sequence[int]) -> list[tuple[Tag, list[Part]]]:
    return [
        (Tag.CKKS_SESSION, [rng(32), rng(32), rng(32), rng(3 * 36)]),
        (Tag.CKKS_SEAL_KEY, [ids[1], ids[5]]),
        (Tag.CKKS_SEAL_KEY, [ids[5], ids[1]]),
        (Tag.CKKS_SEAL_DATA, [rng(32), ids[4], ids[0], rng(60)]),
        (Tag.CKKS_SECRET_KEY, [ids[4]]),
        (Tag.CKKS_UPLOAD, [rng(32), ids[4], rng(60)]),
        (Tag.CKKS_SUM, [rng(32), rng(60)]),
        (Tag.CKKS_FLOODING, [rng(32)]),
        (Tag.SIGN_CKKS_KEY, [rng(32), rng(32), rng(32), rng(32), ids[4], rng(32)]),
        (Tag.SIGN_CKKS_SECRET, [rng(32), ids[4], rng(60)]),
        (Tag.SIGN_CKKS_UPLOAD, [rng(32), ids[4], rng(32)]),
    ]


def _key(tag: Tag, parts: list[Part], rng: Counter) -> Json:
    secret, salt = rng(32), rng(32)
    return {
        "tag": tag.value.decode(),
        "secret": secret.hex(),
        "salt": salt.hex(),
        "parts": [_shown(part) for part in parts],
        "key": kdf(tag, secret, salt, *parts).hex(),
    }


# commitments.json


def commitments() -> Json:
    rng = Counter("commitments")
    cases = []
    for dealer, holder in ((0, 0), (0, 1), (1, 0), (300, 70000), (MAX_ID, 0), (MAX_ID, MAX_ID)):
        sid, b_u = rng(32), rng(32)
        both = [rng(SHARE_BYTES + 16) for _ in range(2)]
        key_share, mask_share = (int.from_bytes(x, "big") % PRIME for x in both)
        cases.append(_commitment(sid, dealer, holder, b_u, key_share, mask_share))
    cases.append(_commitment(bytes(32), 5, 6, bytes(32), 0, PRIME - 1))
    cases.append(_commitment(b"\xff" * 32, 5, 6, b"\xff" * 32, PRIME - 1, 0))
    return {"what": "Commitments of an active session (section 8.3).", "cases": cases}


def _commitment(sid: bytes, dealer: int, holder: int, b_u: bytes, key_share: int, mask_share: int) -> Json:
    of_key, of_mask = (x.to_bytes(SHARE_BYTES, "big") for x in (key_share, mask_share))
    made = commit_shares(sid, dealer, holder, of_key + of_mask)
    return {
        "sid": sid.hex(),
        "dealer": dealer,
        "b_u": b_u.hex(),
        "commitment": commit_mask(sid, dealer, b_u).hex(),
        "holder": holder,
        "key_share": of_key.hex(),
        "mask_share": of_mask.hex(),
        "of_key": made.of_key.hex(),
        "of_mask": made.of_mask.hex(),
    }


# sealing.json

_ORDER_8 = (
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
_P = 2**255 - 19
SMALL_ORDER = [
    (x + top).to_bytes(32, "little").hex()
    for x in (0, 1, *_ORDER_8, _P - 1, _P, _P + 1)
    for top in (0, 1 << 255)
]


def sealing() -> Json:
    rng = Counter("sealing")
    cases = []
    for dealer, holder in ((0, 5), (5, 0), (MAX_ID, 300)):
        mine, other, sid, both, nonce = rng(32), rng(32), rng(32), rng(2 * SHARE_BYTES), rng(12)
        public = SecretKey(other).public
        c_uv = SecretKey(mine).agree(public)
        key, data = share_key(c_uv, sid, dealer, holder), share_data(sid, dealer, holder)
        cases.append(
            {
                "sid": sid.hex(),
                "dealer": dealer,
                "holder": holder,
                "c_sk": mine.hex(),
                "c_pk_of_the_holder": public.hex(),
                "c_uv": c_uv.hex(),
                "share_key": key.hex(),
                "share_data": data.hex(),
                "nonce": nonce.hex(),
                "both": both.hex(),
                "sealed": seal(key, both, data, Record([nonce])).hex(),
            }
        )
    return {
        "what": "From two keys to sealed shares (sections 3 and 8.3). small_order: every public key whose "
        "agreement "
        "is refused, the seven points of small order of the curve and its twist in all their encodings "
        "(https://cr.yp.to/ecdh.html#validate).",
        "x25519": published.X25519,
        "aes-256-gcm": published.AES_256_GCM,
        "small_order": SMALL_ORDER,
        "cases": cases,
    }


# shamir.json


def shamir() -> Json:
    rng = Counter("shamir")

    def drawn(count: int) -> list[int]:
        return [int.from_bytes(rng(SHARE_BYTES + 16), "big") % PRIME for _ in range(count)]

    last = MAX_ID + 1
    listed: list[tuple[int, list[int], list[int]]] = [
        (5, [2, 3], [1, 2, 3, 301]),
        (0, [], [1]),
        (PRIME - 1, [], [1, last]),
        (0, [0, 0], [1, 2, 3]),
        (PRIME - 1, [PRIME - 1, PRIME - 1], [1, 2, last]),
        (2**256 - 1, drawn(1), [1, 2]),
        (2**256, [PRIME - 2**256], [1, 2, last]),
        (1, [PRIME - 1], [1, 2]),
        (2**255, [2**255], [1, 2, 3]),
        *((secret, drawn(t - 1), points) for secret, t, points in _sharings(drawn(3), last)),
    ]
    asked = SHARE_BYTES + 16
    draws = [bytes(asked), PRIME.to_bytes(asked, "big"), (PRIME - 1).to_bytes(asked, "big"), b"\xff" * asked]
    return {
        "what": "Sharing modulo 2^256 + 297 (section 3): 33 bytes, most significant first. coefficients: "
        "a_1, a_2, …; "
        "t is one more than there are. draws: the 49 random bytes of a coefficient, and the coefficient.",
        "prime": f"{PRIME:x}",
        "published": published.SHAMIR,
        "cases": [_sharing(*case) for case in listed],
        "draws": [[draw.hex(), _hex(int.from_bytes(draw, "big") % PRIME)] for draw in (*draws, rng(asked))],
        "elements": [_hex(x) for x in (0, 1, 2**256 - 1, 2**256, PRIME - 1) if is_share(_bytes(x))],
        "not_elements": [_hex(x) for x in (PRIME, PRIME + 1, 2**264 - 1) if not is_share(_bytes(x))],
    }


def _sharings(secrets: Sequence[int], last: int) -> Iterator[tuple[int, int, list[int]]]:
    yield secrets[0], 3, [1, 6, 301, last]
    yield secrets[1], 4, [4, 3, 2, 1]
    yield secrets[2], 7, [1, 2, 6, 128, 129, 256, 257, 301, 65536]


def _bytes(x: int) -> bytes:
    return x.to_bytes(SHARE_BYTES, "big")


def _hex(x: int) -> str:
    return _bytes(x).hex()


def _sharing(secret: int, coefficients: Sequence[int], points: Sequence[int]) -> Json:
    t = len(coefficients) + 1
    chance = Record(c.to_bytes(SHARE_BYTES + 16, "big") for c in coefficients)
    shares = share(secret, t, points, chance)
    if not recon(dict(list(shares.items())[:t])) == recon(dict(list(shares.items())[-t:])) == secret:
        raise AssertionError("shares that give another secret")
    return {
        "secret": _hex(secret),
        "coefficients": [_hex(c) for c in coefficients],
        "shares": {str(x): _hex(y) for x, y in shares.items()},
    }


FILES: dict[str, Callable[[], Json]] = {
    "prg": prg,
    "kdf": kdf_and_digests,
    "commitments": commitments,
    "sealing": sealing,
    "shamir": shamir,
}
