"""CKKS: homomorphic aggregation (Cheon et al., ASIACRYPT 2017), for a semi-honest server.

All clients share one secret key of the session, the server adds ciphertexts. The sum ends in one of two ways:
the clients *keep* it, and the server never sees it; or three of them *release* it, flooded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from secagg.aggregate import Aggregate, weights
from secagg.alike import Alike
from secagg.ckks.client import CKKSClient
from secagg.ckks.messages import DECRYPT
from secagg.ckks.packing import Plan, smallest
from secagg.ckks.parameters import KeySharing
from secagg.ckks.ring import SECURITY_BITS, Residues, statistical_security
from secagg.ckks.seal import Keys, tenseal
from secagg.ckks.server import CKKSServer
from secagg.crypto import Rng, system_rng
from secagg.errors import ClientId, LocalProtocolError, counted
from secagg.identity import Identity, Roster
from secagg.parallel import Executor
from secagg.params import check_clients, named
from secagg.policy import Adversary, Ending
from secagg.session import Contribute, Once
from secagg.specs import Bounded, Spec, Vectors, integer, set_exactly
from secagg.wire import context_of

FLOOD_BITS = 40
"""s of flooding, before what the number of coefficients takes off it."""

WARNING = (
    "CKKS trusts the server to follow the protocol: one that does not can have a single client's vector "
    "decrypted, or take the secret key with one crafted sum, and one client on its side opens every upload"
)


class CKKS(KeySharing, frozen=True, kw_only=True, tag="ckks"):
    """Sums of ciphertexts under a key the clients share: against a server that follows the protocol.

    `for_cohort` finds the parameters, and no others are accepted. ending: "keep", each client decrypts the
    sum and the server does not see it; "release", three clients release it, flooded and rounded. scale:
    Delta. flood_bits: s; 0 where nothing is released.

    Security: against a server that follows the protocol, and no client on its side.

    Source: Cheon, Kim, Kim and Song, ASIACRYPT 2017; what flooding is for: Li and Micciancio, EUROCRYPT 2021.
    """

    scale: int
    flood_bits: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_adversary(self.adversary)
        self._check(
            self.ending in get_args(Ending),
            f"no ending is called {self.ending!r}: there are {' and '.join(get_args(Ending))}",
        )
        for number in ("scale", "flood_bits"):
            set_exactly(self, number, int)
        due = FLOOD_BITS if self.ending == "release" else 0
        self._check(self.flood_bits == due, f"a sum that clients {self.ending} is flooded with {due} bits")
        ring, scale = self.plan.ring, self.plan.scale
        self._check(
            (self.degree, tuple(self.prime_bits), self.scale) == (ring.degree, ring.prime_bits, scale),
            f"degree {self.degree} with primes of {self.prime_bits} bits and scale {self.scale} is not what "
            f"this session takes: degree {ring.degree}, {list(ring.prime_bits)} bits, scale {scale}",
        )

    @classmethod
    def _check_adversary(cls, adversary: str) -> None:
        cls._check(
            adversary == "semi-honest",
            f"CKKS is not for a server that is {adversary}: it decides what is decrypted, and would have one "
            "client's vector decrypted, or the key with it. Against such a server: masking",
        )

    @classmethod
    def for_cohort(
        cls,
        clients: int,
        vectors: Vectors | Spec,
        *,
        ending: Ending = "keep",
        adversary: Adversary = "semi-honest",
        roster: Roster | None = None,
        m_min: int | None = None,
        small_cohort: bool = False,
    ) -> CKKS:
        """The smallest parameters at 128 bits of security for n clients and the precision of the vectors:
        where clients keep the sum, that of codes of their `bits`, exact; released, the mean of real numbers
        is within one such code.

        m_min: more than half of the clients unless given.

        Raises: LocalProtocolError where no such session is possible.
        """
        n = integer("clients", clients)
        check_clients(n)
        cls._check_adversary(adversary)
        flood_bits = FLOOD_BITS if ending == "release" else 0
        plan = _plan(n, named(vectors), ending, flood_bits)
        return cls(
            clients=n,
            vectors=named(vectors),
            small_cohort=small_cohort,
            degree=plan.ring.degree,
            prime_bits=list(plan.ring.prime_bits),
            scale=plan.scale,
            m_min=m_min if m_min is not None else n // 2 + 1,
            ending=ending,
            flood_bits=flood_bits,
            roster=roster.digest if roster is not None else b"",
        )

    @property
    def plan(self) -> Plan:
        """All numbers that follow."""
        return _plan(self.clients, self.vectors, self.ending, self.flood_bits)

    def keys(self, secret: Residues | None = None) -> Keys:
        """Of a secret key's residues; None: fresh ones."""
        return Keys(self.plan.ring, self.plan.scale, secret)

    @property
    def opening_round(self) -> str | None:
        return DECRYPT if self.ending == "release" else None

    @property
    def upload_bytes(self) -> int:
        return self.plan.upload_bytes

    @property
    def largest_upload(self) -> int:
        # A bound, not a size, of what either end says: of each client its id with a signed key (106 bytes) or
        # a sealed K (67), a secret key, and ciphertexts or, of a releaser, 8 bytes a slot.
        plan, key = self.plan, 8 * self.degree * (len(self.prime_bits) + 1)
        return 4096 + 128 * self.clients + key + max(plan.upload_bytes, 8 * plan.slots)

    def client(
        self,
        u: ClientId,
        vectors: Contribute,
        *,
        rounding_seed: bytes | None = None,
        identity: Identity | None = None,
        once: Once | None = None,
        alike: Alike | None = None,
        rng: Rng = system_rng,
    ) -> CKKSClient:
        tenseal()  # before anything is promised
        used = identity if self.roster else None
        return CKKSClient(
            self,
            u,
            vectors,
            rounding_seed=rounding_seed,
            identity=used,
            once=once,
            alike=alike,
            rng=rng,
        )

    def server(
        self,
        cohort: Collection[ClientId],
        task: bytes = b"",
        *,
        roster: Roster | None = None,
        executor: Executor | None = None,
        alike: Alike | None = None,
        parts: bool = False,
        rng: Rng = system_rng,
    ) -> CKKSServer:
        used = roster if self.roster else None
        return CKKSServer(self, cohort, task, context_of(task), roster=used, rng=rng)

    def aggregate(self, survivors: frozenset[ClientId], values: Mapping[str, NDArray[Any]]) -> Aggregate:
        """The result, from the decrypted sums by name: of codes, or of real numbers in [-1, 1]."""
        specs = self.vectors
        if self.ending == "keep":
            return Aggregate.of_codes(specs, survivors, {name: values[name] for name in sorted(specs)})
        total_weight, max_weight = weights(specs, survivors, values)
        total, mean, error = {}, {}, {}
        for name, spec in specs.items():
            if not isinstance(spec, Bounded):
                total[name], mean[name], error[name] = values[name], values[name] / len(survivors), 0.0
                continue
            step = spec.bound * max_weight
            total[name], mean[name] = values[name] * step, values[name] * (step / total_weight)
            # The last term covers the float64 arithmetic of both ends.
            error[name] = self.plan.error(name) * step / total_weight + spec.bound * 2.0**-40
        return Aggregate(survivors, {}, total, mean, error)

    @property
    def against(self) -> str:
        learns = {
            "release": "the sum and no single vector",
            "keep": "no vector and no sum; its clients learn the sum",
        }
        return (
            f"honest-but-curious server: it learns {learns[self.ending]}. Correct for honest clients only: "
            "CKKS gives no integrity."
        )

    def explain(self) -> str:
        """Say in words what is sent, and what it guarantees and what not."""
        plan, ring = self.plan, self.plan.ring
        coordinates = sum(spec.length for spec in self.vectors.values())
        primes = ", ".join(map(str, ring.prime_bits))
        lines = [
            f"ckks, {counted(self.clients, 'client')}, who {self.ending} the sum",
            *self.describe_vectors(in_rings=False),
            f"ring of degree {ring.degree}, modulus {sum(ring.prime_bits)} bits (primes of {primes}), "
            f"{SECURITY_BITS} bits of security (with SEAL's special prime {ring.modulus_bits} bits), scale "
            f"2^{np.log2(plan.scale):.1f}; no public, relinearisation or galois key leaves a client",
            f"{counted(plan.ciphertexts, 'ciphertext')} of {ring.ciphertext_bytes} bytes a client: "
            f"{plan.upload_bytes / coordinates:.2f} bytes a coordinate",
        ]
        if self.ending == "keep":
            codes = [spec for spec in self.vectors.values() if isinstance(spec, Bounded)]
            worst = max((1 / spec.levels for spec in codes), default=0.0)
            lines += [
                f"a mean is off by {worst:.1e} of the bound at most (the sum of all codes is exact), but with"
                " probability 2^-40; the server never sees it"
            ]
        else:
            worst = max((plan.error(name) / self.clients for name in plan.reals), default=0.0)
            lines += [
                f"a mean is off by {worst:.1e} of the bound at most, but with probability 2^-40; released "
                f"once, by three clients, flooded: {statistical_security(ring, self.flood_bits):.0f} bits of "
                "statistical security for the key"
            ]
        signed = "keys are signed" if self.roster else "KEYS ARE NOT SIGNED: the server could put in its own"
        trusted = "against an honest-but-curious server with no client on its side; not a right sum"
        return "\n".join([*lines, f"{trusted} where a client lies; {signed}"])


def _plan(clients: int, vectors: Mapping[str, Spec], ending: Ending, flood_bits: int) -> Plan:
    plan = smallest(clients, tuple(sorted(vectors.items())), ending, flood_bits)
    if plan is None:
        raise LocalProtocolError(
            f"no ring at {SECURITY_BITS} bits of security is large enough for {clients} clients and these "
            "vectors: use fewer bits or a smaller maximum"
        )
    return plan
