"""Private vectors: their rotation, their numbers, their rounding and their sum, as this package has them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from secagg import Aggregate, Private
from secagg.bits import word_type
from secagg.blank import toss
from secagg.crypto import OwnTag, kdf
from secagg.encoding import Scaling, centred
from secagg.prg import keystream
from secagg.private import TRIES, Calibration, Reading, _rounded
from secagg.rotation import Rotation
from tests.vectors.makers.chance import Counter
from tests.vectors.makers.plans import Json
from tests.vectors.makers.sessions import specification


def private() -> Json:
    return {
        "what": "Private vectors (section 6.1). rotations: x, and what it is rotated to and back from. "
        "numbers: granularity, variance of a client's share of the noise in steps, largest squared L2 norm "
        "and largest L1 norm of a rounded vector in steps; honest is m_min - A. scaled: x, clipped, rotated "
        "and in steps. rounded: z, the words of each try that was made, and the codes before the noise. "
        "sums: words of the ring -> codes, sum, mean, and the standard deviation of the mean's noise; mean "
        "and deviation of the same sum in a session with blanks (6.2). coins: P, the word of 64 bits, "
        "whether the vectors are summed.",
        "rotations": [_rotation(length) for length in (1, 2, 3, 4, 5, 8, 9, 100, 128)],
        "numbers": [_numbers(spec, n, honest) for spec, n, honest in _SESSIONS],
        "scaled": list(_scaled()),
        "rounded": list(_roundings()),
        "sums": [_sum(spec, n, honest) for spec, n, honest in _SESSIONS if spec.length <= 100],
        "coins": list(_coins()),
    }


def _doubles(rng: Counter, length: int) -> list[float]:
    """Of all 53 bits, in (-1, 1)."""
    return [(int.from_bytes(rng(8), "big") - 2**63) / 2**63 for _ in range(length)]


def _rotation(length: int) -> Json:
    rng = Counter(f"private/rotation of {length}")
    seed, x = rng(32), _doubles(rng, length)
    rotation, there, back = Rotation(seed, length), np.array(x), np.array(x)
    rotation.forward(there)
    rotation.back(back)
    return {"seed": seed.hex(), "x": x, "forward": there.tolist(), "back": back.tolist()}


def _spec(
    length: int, clip: float, bits: int = 16, multiplier: float = 1.0, gaussian: bool = False
) -> Private:
    noise = "discrete-gaussian" if gaussian else "skellam"
    return Private(length=length, clip=clip, bits=bits, noise=noise, multiplier=multiplier)


_SESSIONS = [
    (_spec(1, 1.0), 3, 2),
    (_spec(1, 1.0, 4, 0.01), 1, 1),
    (_spec(2, 0.5, 8), 3, 2),
    (_spec(3, 1e30, 24, 0.1), 4, 2),
    (_spec(5, 1e-30, 10, 3.0, gaussian=True), 10, 5),
    (_spec(100, 0.3, 20, 0.7), 50, 30),
    (_spec(2**17, 1.0, 12), 100, 60),
    (_spec(2**17 + 1, 1.0, 16, gaussian=True), 100, 60),
    (_spec(10**6, 0.03, 16), 100, 100),
    (_spec(2**29, 0.1, 24), 10**6, 600_000),
    (_spec(25_450, 0.5, 16, 1e6), 1000, 600),
]


def _numbers(spec: Private, clients: int, honest: int) -> Json:
    made = Calibration(spec, clients, honest)
    return {
        "spec": specification(spec),
        "clients": clients,
        "honest": honest,
        "granularity": made.granularity,
        "variance": made.variance,
        "l2_squared": made.l2_squared,
        "l1": made.l1,
    }


def _scaled() -> Iterator[Json]:
    """No square is rounded, so that any order of their sum gives the same factor."""
    for what, clip, x in (
        ("within the clip", 6.0, [3.0, -4.0, 0.0]),
        ("twice as long as the clip: halved", 5.0, [6.0, -8.0, 0.0]),
        ("zero", 1.0, [0.0, 0.0, 0.0]),
        ("a square beyond float64", 1.0, [2.0**600, 0.0, 0.0]),
    ):
        spec, seed = _spec(len(x), clip, 12), Counter(f"private/{what}")(32)
        made = Calibration(spec, 4, 2)
        z = np.array(x)
        into_ball = Scaling.into_ball(spec, z)
        z = into_ball(z)
        Rotation(seed, len(x)).forward(z)
        z /= made.granularity
        terms = {"spec": specification(spec), "clients": 4, "honest": 2, "rotation": seed.hex(), "x": x}
        yield {"what": what, **terms, "factor": into_ball.factor, "z": z.tolist()}


def _roundings() -> Iterator[Json]:
    quarters = [(j - 8) / 4 for j in range(16)]
    for what, z, l2_squared in (
        ("integers, whatever the words", [3.0, -4.0, 0.0], 25),
        ("every quarter, no bound that matters", quarters, 10**6),
        ("every quarter, as short as it comes", quarters, 26),
        ("a half within a norm of 0: no try that rounds up is taken", [0.5, -0.5], 0),
        ("never within the bound, as no calibration has it: towards zero", [3.5, -0.25], 8),
    ):
        secret = Counter(f"private/{what}")(32)
        codes = _rounded(np.array(z), l2_squared, secret).tolist()
        tries: list[list[str]] = []
        for attempt in range(TRIES):
            key = kdf(OwnTag.PRIVATE_ROUNDING, secret, b"", attempt)
            (words,) = keystream(key, len(z), np.uint32)
            tries.append([f"{int(word):08x}" for word in words])
            if codes == _by(words.tolist(), z) and sum(code * code for code in codes) <= l2_squared:
                break
        yield {"what": what, "z": z, "l2_squared": l2_squared, "tries": tries, "codes": codes}


def _by(words: Sequence[int], z: Sequence[float]) -> list[int]:
    return [int(np.floor(a)) + (word * 2.0**-32 < a - np.floor(a)) for word, a in zip(words, z, strict=True)]


def _sum(spec: Private, clients: int, honest: int) -> Json:
    """Words at both ends of the ring and between, and one with bits above it, which do not count."""
    rng, b = Counter(f"private/sum of {spec.length}, {spec.bits}"), spec.bits
    ends = [2 ** (b - 1), 2**b + 1, 2 ** (b - 1) - 1, 2**b - 1]
    words = list(itertools.chain(ends, (int.from_bytes(rng(4), "big") for _ in range(spec.length))))[
        : spec.length
    ]
    codes, seed = centred(spec, np.array(words, word_type(b)), clients), rng(32)
    reading = Reading(Calibration(spec, clients, honest), seed)
    survivors = frozenset(range(honest))
    blanks = Aggregate.of_codes({"": spec}, survivors, {"": codes}, {"": reading}, 0.75)
    return {
        "spec": specification(spec),
        "clients": clients,
        "honest": honest,
        "rotation": seed.hex(),
        "survivors": honest,
        "words": [f"{word:x}" for word in words],
        "codes": codes.tolist(),
        "sum": reading.total(codes).tolist(),
        "mean": reading.mean(codes, honest).tolist(),
        "noise": reading.calibration.deviation(honest),
        "blank": 0.75,
        "mean_with_blanks": blanks.mean[""].tolist(),
        "noise_with_blanks": blanks.noise[""],
    }


def _coins() -> Iterator[list[Any]]:
    for P in (0.5, 0.9, 0.3, 2.0**-11, 1e-6, 2.0**-64, 1 - 2.0**-53):
        first = math.ceil(math.ldexp(P, 64))
        for word in (0, first - 1, first, 2**64 - 1):
            coin = toss(P, lambda n, word=word: word.to_bytes(n, "little"))
            yield [P, f"{word:x}", bool(coin)]


FILES: dict[str, Callable[[], Json]] = {"private": private}
