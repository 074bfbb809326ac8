"""Every number of a session, checked once, when the parameters are made; and their digest."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Final, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from secagg.bits import Words, packed_bytes, word_type
from secagg.blank import check_blank
from secagg.crypto import DIGEST_BYTES, Rng, Tag, digest, system_rng
from secagg.encoding import centred
from secagg.errors import ClientId, LocalProtocolError, RemoteProtocolError, counted
from secagg.identity import Roster
from secagg.policy import Adversary
from secagg.prg import Prg
from secagg.private import Calibration, Reading
from secagg.specs import MAX_LENGTH, Bounded, Private, Spec, Vectors, Weight, integer, set_exactly
from secagg.wire import MAX_ID

if TYPE_CHECKING:
    from secagg.identity import Identity
    from secagg.policy import Policy
    from secagg.session import ClientSession, Once
    from secagg.tagged import Tagged


MAX_CLIENTS = 10**6
CORRUPT: Final = 0.1  # fractions of the cohort that are assumed where nothing else is said
DROPOUT: Final = 0.3
MAX_VECTORS = 64
MAX_NAME = 64

# One form, whatever the order in which the vectors were named: both ends digest it, and compare.
_canonical = msgspec.msgpack.Encoder(order="sorted")


class Parameters(msgspec.Struct, frozen=True, kw_only=True, tag_field="scheme", forbid_unknown_fields=True):
    """What every scheme has. Its canonical bytes are what a server offers and what digests bind.

    clients: n, the size of the cohort. vectors: name -> specification. small_cohort: allow n of 1 or 2,
    where a sum hides nothing: for experiments.

    Raises: LocalProtocolError for anything out of range.
    """

    adds_noise = False  # whether its clients can add noise to their codes
    relays = 0  # parties beside server and clients
    blank = 0.0  # P: with what probability a client's vectors leave as zeros (secagg/blank.py)
    relay_rounds: ClassVar[tuple[str, ...]] = ()

    clients: int
    vectors: dict[str, Spec]
    small_cohort: bool = False

    def __post_init__(self) -> None:
        set_exactly(self, "clients", int)
        self._check(isinstance(self.small_cohort, bool), "small_cohort is True or False")
        check_clients(self.clients)
        self._check(
            self.clients >= 3 or self.small_cohort,
            f"with {counted(self.clients, 'client')} the sum tells each input, or each client the "
            "other's; use 3 or "
            "more, or say small_cohort=True for an experiment",
        )
        self._check(1 <= len(self.vectors) <= MAX_VECTORS, f"a session has 1..{MAX_VECTORS} vectors")
        self._check(
            all(name.isprintable() and len(name.encode()) <= MAX_NAME for name in self.vectors),
            f"a vector's name is printable and has at most {MAX_NAME} bytes",
        )
        weights = [name for name, spec in self.vectors.items() if isinstance(spec, Weight)]
        self._check(len(weights) <= 1, f"a session has at most one weight, not {len(weights)}")
        total = sum(spec.length for spec in self.vectors.values())
        self._check(total <= MAX_LENGTH, f"the vectors have {total} coordinates together, more than 2^29")
        for spec in self.vectors.values():
            spec.ring_bits(self.clients)  # for what it raises
        private = self.private
        self._check(
            not private or self.adds_noise,
            "a private vector is for masking or split, in whose ring the clients add their noise: take one "
            "of these, or a bounded vector",
        )
        # Beside a noised vector, another of the same client would tell without noise what that one hides.
        self._check(
            len(private) in (0, len(self.vectors)),
            "beside a private vector a session has only private ones: weights, counts and bounded vectors "
            "are summed without noise",
        )

    @property
    def summed(self) -> int:
        """How many clients one sum has at most: all, but where a scheme sums parts of them apart."""
        return self.clients

    @staticmethod
    def _check(condition: bool, message: str) -> None:
        if not condition:
            raise LocalProtocolError(message)

    def offer(self) -> bytes:
        """The canonical bytes, which `schemes.accept` reads."""
        return _canonical.encode(self)

    def digest(self) -> bytes:
        return digest(Tag.PARAMETERS, self.offer())

    def check_roster(self, roster: Roster | None) -> None:
        """Raises: LocalProtocolError unless this is the roster that a scheme which signs is bound to."""

    def ring_bits(self) -> dict[str, int]:
        """name -> b of its ring."""
        return {name: spec.ring_bits(self.summed) for name, spec in self.vectors.items()}

    def zeros(self) -> dict[str, Words]:
        """name -> a vector of zeros of its ring."""
        bits = self.ring_bits()
        return {name: np.zeros(spec.length, word_type(bits[name])) for name, spec in self.vectors.items()}

    def check_policy(self, policy: Policy, roster: Roster | None) -> None:
        """Raises: RemoteProtocolError if a client of this policy takes no part, for the sake of a number that
        this scheme alone has.
        """

    def calibrations(self) -> Mapping[str, Calibration]:
        """The numbers of its private vectors, by name."""
        return {}

    def readings(self, context: bytes, nonce: bytes) -> Mapping[str, Reading]:
        """How its private vectors are written and read, by name, in the session of this task and nonce."""
        return {}

    def centred(self, codes: Mapping[str, Words]) -> dict[str, NDArray[np.int64]]:
        """Codes in their rings, by name, as the signed integers they stand for."""
        return {name: centred(self.vectors[name], x, self.summed) for name, x in codes.items()}

    @property
    def signed(self) -> tuple[int, int, int | None] | None:
        """(m_min, A, of how many clients, None for the roster's), where clients, each for itself, see to the
        sets of a server that chooses sessions.
        """
        return None

    @property
    def private(self) -> list[str]:
        """The names of the vectors that are summed under noise."""
        return [name for name, spec in self.vectors.items() if isinstance(spec, Private)]

    @property
    def names(self) -> list[str]:
        """The vectors' names in the order of the wire."""
        return sorted(self.vectors)

    @property
    def upload_bytes(self) -> int:
        """The bytes of a client's vectors as they are sent, without what goes with them."""
        rings = self.ring_bits()
        return sum(packed_bytes(spec.length, rings[name]) for name, spec in self.vectors.items())

    @property
    def largest_upload(self) -> int:
        """No message is longer, in bytes, but the task: what need be staged, whatever is announced."""
        return 4096 + 256 * self.clients + 8 * sum(spec.length for spec in self.vectors.values())

    def relay(
        self,
        j: int,
        *,
        identity: Identity | None = None,
        once: Once | None = None,
        tagged: Tagged | None = None,
        rng: Rng = system_rng,
    ) -> ClientSession:
        """Relay j's side of a session, in a scheme that has relays (`session.Scheme.relay`)."""
        raise LocalProtocolError(f"no relay takes part in a session of {self.__struct_config__.tag}")

    @property
    def largest_request(self) -> int:
        """No message to a client or relay is longer, in bytes, but the one that brings the task."""
        return self.largest_upload

    def describe_vectors(self, *, in_rings: bool = True) -> list[str]:
        """A line for each. in_rings: say in which ring Z_{2^b} its codes are summed."""
        lines = []
        for name in self.names:
            spec, label = self.vectors[name], name or "(unnamed)"
            ring = f"; summed in Z_2^{spec.ring_bits(self.summed)}" if in_rings else ""
            if isinstance(spec, Private):
                lines.append(
                    f"{label}: {counted(spec.length, 'number')}, L2 clip {spec.clip:g}, in the sum "
                    f"{spec.noise} noise of {spec.multiplier:g} x that{ring}"
                )
            elif isinstance(spec, Bounded):
                clip = f", L2 clip {spec.clip:g}" if spec.clip else ""
                lines.append(
                    f"{label}: {counted(spec.length, 'number')} in ±{spec.bound:g}{clip}, {spec.bits} "
                    f"bits each{ring}"
                )
            else:
                lines.append(f"{label}: {counted(spec.length, 'integer')} up to {spec.maximum}, exact{ring}")
        return lines


class NoisedParameters(Parameters, frozen=True, kw_only=True):
    """Of a scheme whose clients add noise to their codes, so that the sum has enough of it whoever vanishes.

    m_min: the smallest number of clients that are summed. adversary: what the server may do. corrupt: A, how
    many clients may be on its side. prg: of masks, or dummies. blank: P, with what probability a client
    contributes nothing (secagg/blank.py). roster: digest of the roster, active only.
    """

    adds_noise = True

    m_min: int
    adversary: Adversary = "semi-honest"
    corrupt: int = 0
    prg: Prg = "aes-128-ctr"
    blank: float = 0.0
    roster: bytes = b""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_adversary(self.adversary)
        self._check(
            self.prg in get_args(Prg),
            f"no PRG is called {self.prg!r}: there are {' and '.join(get_args(Prg))}",
        )
        set_exactly(self, "m_min", int)
        set_exactly(self, "corrupt", int)
        n, A = self.clients, self.corrupt
        self._check(0 <= A < n, f"{counted(A, 'corrupt client')} of {n} is impossible: from 0 to {n - 1}")

    @classmethod
    def _check_adversary(cls, adversary: str) -> None:
        cls._check(
            adversary in get_args(Adversary),
            f"no adversary is called {adversary!r}: there are {' and '.join(get_args(Adversary))}",
        )

    def check_contributions(self) -> None:
        """Once m_min is known to be possible. Raises: LocalProtocolError where no such noise or blanks can
        be, or the roster is not what the adversary wants.
        """
        self._check(
            len(self.roster) == (DIGEST_BYTES if self.adversary == "active" else 0),
            "against an active server a session is bound to a roster, and only then",
        )
        set_exactly(self, "blank", float)
        self.calibrations()
        check_blank(self.blank, self.vectors, self.honest)

    def check_roster(self, roster: Roster | None) -> None:
        """Raises: LocalProtocolError unless this is the roster the parameters are bound to; active only."""
        self._bound(roster)

    def _bound(self, roster: Roster | None) -> Roster | None:
        """The roster that the session is bound to, checked; None where it is to none."""
        if self.adversary != "active":
            return None
        if roster is None:
            raise LocalProtocolError("against an active server a roster of one's own is needed")
        if roster.digest != self.roster:
            raise LocalProtocolError("the session is bound to another roster than this one")
        return roster

    def _check_against(self, policy: Policy, roster: Roster | None) -> None:
        """What a client, or a relay, wants of the adversary it is protected from, and of its own roster."""
        policy.check_trust(self.adversary)
        if self.adversary == "active":
            self._check_listed(roster)

    def _check_listed(self, roster: Roster | None) -> Roster:
        """The client's, or relay's, own, from which the cohort is."""
        if roster is None:
            raise RemoteProtocolError(
                "the server offers a session against an active adversary; for that a client needs its "
                "own copy of the roster (roster=)"
            )
        if self.roster != roster.digest:
            raise RemoteProtocolError("the session is bound to another roster than this client holds")
        if self.clients > len(roster.keys):
            raise RemoteProtocolError(
                f"a cohort of {self.clients} from a roster of {len(roster.keys)} clients"
            )
        return roster

    def _check_prg(self, policy: Policy) -> None:
        if policy.prg not in (None, self.prg):
            raise RemoteProtocolError(
                f"the server makes masks by {self.prg}; this client insists on {policy.prg} (prg, in its "
                "policy)"
            )

    @property
    def blanks_alone(self) -> bool:
        """Whether clients contribute nothing by their coins, and no noise hides which: then no two sums of
        like vectors go together, for their difference is of those alone whose coins fell differently.
        """
        return self.blank > 0 and not self.private

    def describe_blanks(self) -> Iterator[str]:
        """Line by line."""
        if not self.blank:
            return
        yield (
            f"with a probability of {self.blank:g} a client contributes nothing, by a coin that nobody else "
            f"sees: means are sums over {1 - self.blank:.4g} x the survivors"
        )
        if self.private:
            yield (
                "who took part is hidden from the server and the clients on its side, as far as the noise "
                "hides a whole vector"
            )
        else:
            yield "the sum is not noised: it may tell how many took part; of like vectors there is one, ever"

    @property
    def honest(self) -> int:
        """How many honest clients are in a sum at least: m_min less A."""
        return self.m_min - self.corrupt

    def calibration(self, name: str) -> Calibration:
        """The numbers of a private vector: its noise is enough if only m_min survive, and A of them add none.

        Raises: LocalProtocolError where there can be no such sum.
        """
        spec = self.vectors[name]
        if not isinstance(spec, Private):
            raise LocalProtocolError(f"the vector {name!r} is not private: it is summed without noise")
        return Calibration(spec, self.summed, self.honest)

    def calibrations(self) -> Mapping[str, Calibration]:
        return {name: self.calibration(name) for name in self.private}

    def readings(self, context: bytes, nonce: bytes) -> Mapping[str, Reading]:
        """Its rotation is public, and another in each session. It is needed before there are any keys."""
        digest_of = self.digest() if self.private else b""
        return {
            name: Reading(calibration, digest(Tag.ROTATION, nonce, digest_of, context, name))
            for name, calibration in self.calibrations().items()
        }


def corrupt_clients(n: int, corrupt: int | float | None, roster: Roster | None) -> int:
    """A, absolute. A fraction is of the roster, from which the server chooses the cohort; one at least."""
    if corrupt is None:
        corrupt = CORRUPT if n > 2 else 0
    A = absolute("corrupt", corrupt, n, max(n, len(roster.keys)) if roster is not None else n)
    return max(1, A) if isinstance(corrupt, float) else A


def absolute(name: str, value: int | float, n: int, of: int) -> int:
    """A number of the n clients; a fraction is of so many. Raises: LocalProtocolError if it is neither."""
    if isinstance(value, bool):
        raise LocalProtocolError(f"{name} is a number of clients or a fraction, not {value}")
    if not isinstance(value, float):
        value = integer(name, value)
        if not 0 <= value < n:
            raise LocalProtocolError(f"{name} {value}: of {n} clients it is 0 to {n - 1}")
        return value
    if not 0 <= value < 1:
        raise LocalProtocolError(
            f"{name} {value}: a fraction is at least 0 and below 1, a count is a whole number"
        )
    return share_of(value, of)


def share_of(fraction: float, of: int) -> int:
    """Rounds down as Google's code does: 0.3 of 10 is 3."""
    return math.floor((fraction + 1e-14) * of)


def check_clients(clients: int) -> None:
    if not 1 <= clients <= MAX_CLIENTS:
        raise LocalProtocolError(f"{clients} clients is not in 1..{MAX_CLIENTS}")


def check_cohort(cohort: Collection[ClientId], clients: int) -> None:
    """Raises: LocalProtocolError unless these are the ids of so many different clients."""
    seen = set[ClientId]()
    for u in cohort:
        if not 0 <= u <= MAX_ID:
            raise LocalProtocolError(f"client id {u} is not in 0..{MAX_ID}")
        if u in seen:
            raise LocalProtocolError(f"client {u} stands twice in the cohort")
        seen.add(u)
    if len(seen) != clients:
        raise LocalProtocolError(
            f"a cohort of {counted(len(seen), 'client')} for parameters made for {clients}"
        )


def named(vectors: Vectors | Spec) -> dict[str, Spec]:
    """A bare specification is the mapping with one unnamed entry."""
    return dict(vectors) if not isinstance(vectors, msgspec.Struct) else {"": vectors}
