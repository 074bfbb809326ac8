"""Every scheme there is, and what a client makes of an offer of one. One more is a folder of its own, and its
name in `Offered`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import msgspec

from secagg.ckks import CKKS
from secagg.decoys import Decoys
from secagg.errors import LocalProtocolError, RemoteProtocolError
from secagg.identity import Roster
from secagg.masking import Masking
from secagg.plain import Plain
from secagg.policy import Policy
from secagg.specs import Spec
from secagg.split import Split
from secagg.wire import MAX_OFFER_BYTES as MAX_OFFER_BYTES

Offered = Masking | Split | CKKS | Plain | Decoys
"""What a server's offer is decoded as."""

SCHEMES: Mapping[str, type[Offered]] = {str(kind.__struct_config__.tag): kind for kind in get_args(Offered)}

_offers: msgspec.msgpack.Decoder[Offered] = msgspec.msgpack.Decoder(Offered)
"""Made here, once: see `wire.decodes`."""


def accept(policy: Policy, offer: bytes, roster: Roster | None = None) -> Offered:
    """The scheme the server offers. roster: the client's own, if it has one.

    Raises: RemoteProtocolError if the offer is malformed, impossible, or against the policy.
    """
    scheme = read_offer(offer)
    name = str(scheme.__struct_config__.tag)
    if name not in policy.schemes:
        raise RemoteProtocolError(
            f"the server offers the scheme {name}; this client accepts only "
            f"{', '.join(sorted(policy.schemes))}. If you mean it: "
            f'Policy(schemes=frozenset({{"{name}"}}))'
        )
    if scheme.clients < policy.smallest_cohort:
        raise RemoteProtocolError(
            f"the server offers a cohort of {scheme.clients}; this client takes part from "
            f"{policy.smallest_cohort} on (smallest_cohort, in its policy)"
        )
    if policy.vectors is not None and scheme.vectors != policy.vectors:
        raise RemoteProtocolError(
            "the server does not ask for what this client's policy says of the vectors "
            f"{_difference(scheme.vectors, policy.vectors)}"
        )
    policy.check_names(scheme.vectors)
    policy.check_noise(scheme.vectors, scheme.calibrations())
    policy.check_steps(scheme.vectors)
    policy.check_blank(scheme.blank, noised=bool(scheme.private))
    scheme.check_policy(policy, roster)
    return scheme


def read_offer(offer: bytes) -> Offered:
    """Raises: RemoteProtocolError unless these are the canonical bytes of possible parameters."""
    if len(offer) > MAX_OFFER_BYTES:
        raise RemoteProtocolError(f"an offer of {len(offer)} bytes; at most {MAX_OFFER_BYTES} are read")
    try:
        scheme = _offers.decode(offer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"not the parameters of a session: {error}") from None
    except LocalProtocolError as error:
        raise RemoteProtocolError(f"the server offers an impossible session: {error}") from None
    # What was read is what both ends digest: other bytes for the same numbers are another session.
    if scheme.offer() != offer:
        raise RemoteProtocolError("the parameters are in a form that is not canonical")
    return scheme


def _difference(offered: dict[str, Spec], allowed: dict[str, Spec]) -> str:
    """The names of vectors that are not as allowed, and in what."""
    names = sorted(offered.keys() | allowed.keys())
    return ", ".join(
        f"{name!r} ({_other(offered.get(name), allowed.get(name))})"
        for name in names
        if offered.get(name) != allowed.get(name)
    )


def _other(offered: Spec | None, allowed: Spec | None) -> str:
    """How the offered specification differs from the one that is allowed."""
    if offered is None or allowed is None:
        return "not asked for" if offered is None else "not in the policy"
    asked, meant = msgspec.to_builtins(offered), msgspec.to_builtins(allowed)
    if type(offered) is not type(allowed):
        return f"{asked['kind']}, not {meant['kind']}"
    return ", ".join(
        f"{field} {asked[field]}, not {meant[field]}" for field in asked if asked[field] != meant[field]
    )
