"""What a client refuses: the server proposes the session, the client's own rules decide."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from secagg.ckks.packing import Ending
from secagg.errors import LocalProtocolError, RemoteProtocolError
from secagg.identity import Roster
from secagg.masking.choice import Adversary, GraphChoice
from secagg.prg import Prg
from secagg.schemes import Offered
from secagg.specs import Spec, check_fields

MAX_OFFER_BYTES = 1 << 16

_Count = Annotated[int, msgspec.Meta(ge=0, le=10**6)]
_Fraction = Annotated[float, msgspec.Meta(ge=0, lt=1)]

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=10**6)]

Likening = Literal["auto", "always", "never"]


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The numbers a client insists on. It recomputes what follows from them and refuses any other.

    schemes: what it takes part in; `plain` and `ckks` are never in the default. adversary: the weakest server
    it is content to be protected from. corrupt, dropout: clients it assumes on the server's side, or lost:
    numbers or fractions; None for the scheme's default. graph: "complete", or "sparse" where the cohort is so
    small that the default would be complete; the complete one is always accepted. smallest_cohort: n below
    which it takes no part, whatever the server says of experiments. threshold, m_min: t of the complete graph
    and the smallest U3 it unmasks or decrypts, where they are not to be those that follow. batch: the size of
    the batches it insists on being summed by. prg: the cipher it insists on for masks. ending: of ckks. None
    for either. vectors: exactly what it is willing to send, or None for whatever is asked. alike: of sessions
    whose vectors come out alike it helps to two different sums at most (secagg/alike.py), and so "auto" where
    that is plain, "always" also where models are near, whatever is done with them, or "never"; difference:
    clients by which two such sums differ, if more than A + 2; alike_batch: batches of more examples than
    these count as all of a client's, which come out alike: a client that holds few had better say half of
    what it holds. answer_after: seconds from the task's arrival until the client's answer leaves, so that the
    time does not tell how much it computed; None: as soon as it can. The session has no clock: whoever drives
    it waits (`transport` does).
    """

    schemes: frozenset[str] = frozenset({"masking"})
    adversary: Adversary = "active"
    corrupt: _Count | _Fraction | None = None
    dropout: _Count | _Fraction | None = None
    graph: GraphChoice = "auto"
    smallest_cohort: _Count = 3
    threshold: _Count | None = None
    m_min: _Count | None = None
    batch: _Count | None = None
    prg: Prg | None = None
    ending: Ending | None = None
    vectors: dict[str, Spec] | None = None
    alike: Likening = "auto"
    difference: _Count | None = None
    alike_batch: _Count = 64
    answer_after: _Seconds | None = None

    def __post_init__(self) -> None:
        check_fields(self, "policy")

    def accept(self, offer: bytes, roster: Roster | None = None) -> Offered:
        """The scheme the server offers. roster: the client's own, if it has one.

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
        if self.vectors is not None and scheme.vectors != self.vectors:
            raise RemoteProtocolError(
                "the server does not ask for what this client's policy says of the vectors "
                f"{_difference(scheme.vectors, self.vectors)}"
            )
        scheme.check_policy(self, roster)
        return scheme

    def check_trust(self, adversary: Adversary) -> None:
        """Raises: RemoteProtocolError if against this adversary the client would not be protected enough."""
        if self.adversary != "semi-honest" and adversary != "active":
            raise RemoteProtocolError(
                "the server offers a session that trusts it to follow the protocol; this client does not. "
                "If you mean it: --semi-honest"
            )

    @staticmethod
    def check_number(name: str, offered: int, due: int) -> None:
        """Raises: RemoteProtocolError unless the number is the one that follows from this policy."""
        if offered != due:
            raise RemoteProtocolError(
                f"the server offers {name} {offered}; by this client's policy it is {due}"
            )


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


_offers: msgspec.msgpack.Decoder[Offered] = msgspec.msgpack.Decoder(Offered)
"""Made here, once: see `wire.decodes`."""


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
