"""Vectors as codes and as bytes, as this package has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from secagg import Bounded, Counts, RemoteProtocolError, Weight
from secagg.bits import check_packed, pack, packed_bytes, word_type
from secagg.encoding import centred, decode_mean, decode_sum, encode_vector, error_bound
from secagg.prg import keystream
from secagg.specs import Spec, check_vectors
from tests.vectors.makers import published
from tests.vectors.makers.chance import Counter
from tests.vectors.makers.plans import Json
from tests.vectors.makers.sessions import specification

# packing.json


def packing() -> Json:
    rng = Counter("packing")

    def values(bits: int, count: int) -> list[int]:
        edges = [0, 2**bits - 1, 1 % 2**bits, 2 ** (bits - 1), 2**bits // 3]
        drawn = (int.from_bytes(rng(8), "big") % 2**bits for _ in range(count))
        return [*edges, *drawn][:count]

    cases = [_packed(bits, values(bits, 7)) for bits in range(1, 63)]
    cases += [_packed(bits, [2**bits - 1] * (1 + 2 * (bits % 3))) for bits in range(1, 63)]
    cases += [_packed(bits, values(bits, count)) for bits in (1, 33) for count in (63, 64, 65)]
    return {
        "what": "Values of b bits, least significant bit first (section 6); values in hex. refused: not "
        "`length` "
        "values of b bits with nothing behind them.",
        "published": published.PACKING,
        "cases": cases,
        "refused": _refused_packings(),
    }


def _packed(bits: int, values: Sequence[int]) -> Json:
    packed = pack(np.array(values, word_type(bits)), bits)
    return {"ring_bits": bits, "values": [f"{value:x}" for value in values], "packed": packed.hex()}


def _refused_packings() -> list[Json]:
    spoilt: list[tuple[int, int, bytes]] = []
    for bits, length in ((1, 3), (7, 5), (33, 3), (62, 1)):
        packed = bytes(pack(np.full(length, 2**bits - 1, word_type(bits)), bits))
        unused = 8 * packed_bytes(length, bits) - length * bits
        spoilt += [(bits, length, packed[:-1]), (bits, length, packed + b"\0"), (bits, length, b"")]
        spoilt += [
            (bits, length, packed[:-1] + bytes([packed[-1] | 128 >> behind])) for behind in range(unused)
        ]
    spoilt += [(8, 3, b"\xff" * 4), (8, 3, b"\xff" * 2)]
    return [
        {"ring_bits": bits, "length": length, "packed": packed.hex(), "words": _why(packed, length, bits)}
        for bits, length, packed in spoilt
    ]


def _why(packed: bytes, length: int, bits: int) -> str:
    try:
        check_packed(packed, length, bits)
    except RemoteProtocolError as error:
        return str(error)
    raise AssertionError("a packing that is not refused")


# encoding.json


def encoding() -> Json:
    q8, q4 = Bounded(length=7, bound=1.0, bits=8), Bounded(length=40, bound=7.0, bits=4)
    exact = [0.0, 1.0, -1.0, 0.5, -0.5, 2.0**-7, -(2.0**-7)]
    pair = Bounded(length=2, bound=8.0, bits=16, clip=10.0)
    wide = Bounded(length=3, bound=8.0, bits=32)
    odd = Bounded(length=5, bound=0.1, bits=16, clip=0.25)
    cases = [
        _encoded("both ends, zero and between", q8, 3, exact),
        _encoded("out of range", q8, 3, [9.0, -9.0, 1.0, -1.0, 1.5, 0.25, -0.0]),
        _encoded("integers", q8, 3, [0, 1, -1, 2, -2, 1, 0]),
        *(_encoded(f"weight {w} of 4", q8, 3, exact, (w, 4)) for w in (1, 2, 3, 4)),
        _encoded("every quarter, L = r: a code is floor or floor plus one", q4, 3, _quarters(40)),
        _encoded("within the clip", pair, 5, [3.0, -4.0]),
        _encoded("beyond the clip: halved", pair, 5, [12.0, -16.0]),
        _encoded("beyond the clip, and then beyond the range", pair, 5, [0.0, 20.0]),
        _encoded("the zero vector has no norm to clip", pair, 5, [0.0, 0.0]),
        _encoded("clip and weight", pair, 5, [12.0, 16.0], (1, 2)),
        _encoded("a square beyond float64", Bounded(length=2, bound=1.0, clip=1.0), 3, [2.0**600, 0.0]),
        _encoded("the fewest bits", Bounded(length=3, bound=2.0, bits=2), 3, [2.0, -2.0, 0.0]),
        _encoded("the most bits, words of 64", wide, 3, [8.0, -8.0, 1.0]),
        _encoded("the largest ring, 62 bits", wide, 2**30, [8.0, -8.0, 1.0]),
        _encoded("64 bits though 32 would hold it", Bounded(length=2, bound=1.0, bits=31), 4, [1.0, -1.0]),
        _encoded("float64 rounds", odd, 7, [0.1, -0.1, 0.03, 1 / 3, -0.07], (3, 7), exact=False),
        _encoded("float64 rounds", Bounded(length=2, bound=1e30, bits=32), 3, [1e30, -1e29], exact=False),
        _encoded("float64 rounds", Bounded(length=2, bound=1e-30), 3, [1e-30, 1e-31], exact=False),
        _encoded("counts", Counts(length=3, maximum=9), 3, [0, 9, 4]),
        _encoded("counts take no weight", Counts(length=3, maximum=9), 3, [0, 9, 4], (1, 4)),
        _encoded("counts of 1", Counts(length=3, maximum=1), 1, [0, 1, 0]),
        _encoded("the largest counts", Counts(length=2, maximum=2**53 - 1), 500, [2**53 - 1, 0]),
        _encoded("a weight", Weight(maximum=2**31 - 1), 3, [2**31 - 1]),
    ]
    return {
        "what": "Codes of a vector (section 6) under a rounding key, the seed of the stream whose words "
        "decide; and "
        "what a sum of codes means. exact: no step of float64 arithmetic rounds; else each step of section "
        "6 rounds "
        "once, to nearest even, in the order given there.",
        "encode": cases,
        "decode": _decodings(),
        "ring_bits": [
            [specification(spec), n, spec.ring_bits(n)]
            for spec in (q8, wide, Bounded(length=1, bound=1.0, bits=2), Counts(length=1, maximum=1))
            for n in (1, 2, 3, 4, 1000, 2**20)
        ],
    }


def _quarters(count: int) -> list[float]:
    return [(j - count // 2) / 4 for j in range(count)]


def _encoded(
    what: str,
    spec: Spec,
    clients: int,
    x: Sequence[float],
    weight: tuple[int, int] = (1, 1),
    exact: bool = True,
) -> Json:
    key = Counter(f"encoding/{what}")(32)
    codes, clipping = encode_vector(
        spec, check_vectors({"": spec}, {"": x})[""], clients=clients, rounding_key=key, weight=weight
    )
    made: Json = {"what": what, "spec": specification(spec), "clients": clients}
    made |= {"ring_bits": spec.ring_bits(clients), "weight": list(weight), "rounding_key": key.hex()}
    if isinstance(spec, Bounded):
        (words,) = keystream(key, len(x), "<u4")
        made |= {"exact": exact, "words": [f"{int(word):08x}" for word in words]}
    clipped = [clipping.coordinates, clipping.norm_factor]
    return {**made, "x": list(x), "codes": codes.tolist(), "clipping": clipped}


def _decodings() -> list[Json]:
    step_one = Bounded(length=5, bound=127.0, bits=8)
    return [
        _decoded("a code is 1", step_one, 3, (3, 3, 1)),
        _decoded("weights", step_one, 3, (2, 5, 4)),
        _decoded("words of 64 bits", Bounded(length=5, bound=2.0**31 - 1, bits=32), 3, (2, 2, 1)),
        _decoded("float64 rounds", Bounded(length=5, bound=1.0, bits=8), 3, (3, 7, 4), exact=False),
        _decoded("counts", Counts(length=5, maximum=9), 4, (4, 4, 1)),
        _decoded("a weight", Weight(maximum=4), 4, (2, 5, 4)),
    ]


def _decoded(what: str, spec: Spec, clients: int, of: tuple[int, int, int], exact: bool = True) -> Json:
    """Words at both ends of the ring, and one with bits above it, which do not count."""
    bits = spec.ring_bits(clients)
    words = [0, 1, 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2**bits - 1, 2**bits + 1][-spec.length :]
    codes = centred(spec, np.array(words, word_type(bits)), clients)
    survivors, total_weight, max_weight = of
    survivors, total_weight, max_weight = of
    number = {"survivors": survivors, "total_weight": total_weight, "max_weight": max_weight}
    total = decode_sum(spec, codes, max_weight=max_weight)
    mean, error = decode_mean(spec, codes, **number), error_bound(spec, **number)
    return {
        "what": what,
        "spec": specification(spec),
        "clients": clients,
        "ring_bits": bits,
        "survivors": survivors,
        "total_weight": total_weight,
        "max_weight": max_weight,
        "exact": exact,
        "words": [f"{word:x}" for word in words],
        "codes": codes.tolist(),
        "sum": total.tolist(),
        "mean": mean.tolist(),
        "error_bound": error,
    }


FILES: dict[str, Callable[[], Json]] = {"packing": packing, "encoding": encoding}
