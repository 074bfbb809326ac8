"""What a client contributes to a session of any scheme: named vectors, checked, clipped and encoded once."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from secagg.bits import Words
from secagg.blank import SUMMED, toss
from secagg.crypto import KEY_BYTES, Rng, Tag, kdf, system_rng
from secagg.encoding import Clipping, encode_vector
from secagg.params import Parameters
from secagg.private import Reading, encode_private
from secagg.specs import Vector, check_vectors, weight_of


def named_values(values: Any) -> dict[str, Any]:
    """A bare array is the mapping with one unnamed entry."""
    return dict(values) if isinstance(values, Mapping) else {"": values}


def checked(parameters: Parameters, inputs: Mapping[str, Vector] | Vector) -> dict[str, NDArray[Any]]:
    """Raises: LocalProtocolError if a vector is not as its specification says."""
    return check_vectors(parameters.vectors, named_values(inputs))


def encode_inputs(
    parameters: Parameters,
    inputs: Mapping[str, Vector] | Vector,
    context: bytes,
    rounding_seed: bytes,
    *,
    readings: Mapping[str, Reading] = MappingProxyType({}),
    blank: float = 0.0,
    rng: Rng = system_rng,
) -> tuple[dict[str, Words], dict[str, Clipping]]:
    """x_u, a client's vectors in their rings, by name; and what encoding changed. readings: of the private
    ones in this session. blank: with what probability all codes are those of zeros. rng: of noise and coin,
    which are drawn anew whatever rounding_seed is.

    Raises: LocalProtocolError if a vector is not as its specification says.

    Security: how the coin fell is kept nowhere, and what encoding changed is of the vectors either way.
    """
    specs = parameters.vectors
    values = checked(parameters, inputs)
    coin = toss(blank, rng) if blank else SUMMED  # one for all vectors: together they are one release
    weight = weight_of(specs, values)
    x_u, clipping = {}, {}
    for name, x in values.items():
        if name in readings:
            # Fresh, and kept nowhere: noise that two sessions share is none in their difference.
            x_u[name], clipping[name] = encode_private(readings[name], x, rng(KEY_BYTES), coin)
            continue
        # A stream for each task and vector: rounding is alike where a session is repeated, and where two
        # vectors are equal it is not.
        key = kdf(Tag.ROUNDING, rounding_seed, context, name)
        x_u[name], clipping[name] = encode_vector(
            specs[name], x, clients=parameters.summed, rounding_key=key, weight=weight
        )
        x_u[name] &= coin.astype(x_u[name].dtype)  # zero is coded as zero, without a rounding
    return x_u, clipping
