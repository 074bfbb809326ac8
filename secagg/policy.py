"""What a client refuses: the server proposes the session, the client's own rules decide."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from secagg.errors import LocalProtocolError, RemoteProtocolError
from secagg.masking import Masking
from secagg.plain import Plain

MAX_OFFER_BYTES = 1 << 16


@dataclass(frozen=True)
class Policy:
    """schemes: names of the schemes this client takes part in; `plain` is never in the default.
    smallest_cohort: n below which it takes no part, whatever the server says of experiments.
    """

    schemes: frozenset[str] = frozenset({"masking"})
    smallest_cohort: int = 3

    def accept(self, offer: bytes) -> Masking | Plain:
        """The scheme the server offers.

        Raises: RemoteProtocolError if the offer is malformed, impossible, or against this policy.
        """
        scheme = read_offer(offer)
        name = str(scheme.__struct_config__.tag)
        if name not in self.schemes:
            raise RemoteProtocolError(
                f"the server offers the scheme {name}; this client accepts only "
                f"{', '.join(sorted(self.schemes))}. If you mean it: --allow {name}"
            )
        if scheme.clients < self.smallest_cohort:
            raise RemoteProtocolError(
                f"the server offers a cohort of {scheme.clients}; this client takes part from "
                f"{self.smallest_cohort} on (--smallest-cohort)"
            )
        return scheme


def read_offer(offer: bytes) -> Masking | Plain:
    """Raises: RemoteProtocolError unless these are the canonical bytes of possible parameters."""
    if len(offer) > MAX_OFFER_BYTES:
        raise RemoteProtocolError(f"an offer of {len(offer)} bytes; at most {MAX_OFFER_BYTES} are read")
    try:
        scheme = msgspec.msgpack.decode(offer, type=Masking | Plain)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"not the parameters of a session: {error}") from None
    except LocalProtocolError as error:
        raise RemoteProtocolError(f"the server offers an impossible session: {error}") from None
    if scheme.offer() != offer:
        raise RemoteProtocolError("the parameters are in a form that is not canonical")
    return scheme
