"""Decoys: an experiment. Each client shows K candidates, and under encryption which of them is true.

The clients share one secret key of the session, as in CKKS; the server multiplies each candidate by its
encrypted selector and adds. The clients keep the sum. It is dominated by CKKS with the same ending, which
shows no candidate at all: no policy takes part in it unless it is told to.
"""

from __future__ import annotations

from collections.abc import Collection

from secagg.alike import Alike
from secagg.ckks.parameters import KeySharing
from secagg.ckks.ring import SECURITY_BITS, Residues
from secagg.ckks.seal import tenseal
from secagg.crypto import Rng, system_rng
from secagg.decoys.client import Among as Among
from secagg.decoys.client import DecoysClient
from secagg.decoys.plan import Plan, smallest
from secagg.decoys.seal import SelectorKeys
from secagg.decoys.server import DecoysServer
from secagg.errors import ClientId, LocalProtocolError, counted
from secagg.identity import Identity, Roster
from secagg.parallel import Executor
from secagg.params import check_clients, named
from secagg.policy import Adversary, Ending
from secagg.session import Contribute, Once
from secagg.specs import Spec, Vectors, Weight, integer, set_exactly
from secagg.wire import context_of

CANDIDATES = 8
"""K, where nothing is said."""

MAX_CANDIDATES = 64

WARNING = (
    "decoys are an experiment: the server sees each client's true vector among its candidates, and whoever "
    "learns the sum, or can tell a decoy by its looks, finds it; CKKS with the ending keep shows none"
)


class Decoys(KeySharing, frozen=True, kw_only=True, tag="decoys"):
    """Sums of one of K candidates of each client, chosen under a key the clients share: an experiment.

    `for_cohort` finds the parameters, and no others are accepted. candidates: K. modulus: t. ending: "keep"
    and nothing else.

    Security: against a server that follows the protocol, does not learn the sum and has no client on its
    side, as far as it cannot tell decoys from the true vectors. That a client chose one candidate, and not
    several, is not checked.

    Source: none; of the encryption, BFV: Brakerski, CRYPTO 2012; Fan and Vercauteren, ePrint 2012/144.
    """

    opening_round = None  # the server learns no sum

    modulus: int
    candidates: int = CANDIDATES

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_adversary(self.adversary)
        for number in ("candidates", "modulus"):
            set_exactly(self, number, int)
        self._check_ending(self.ending)
        self._check(
            2 <= self.candidates <= MAX_CANDIDATES,
            f"candidates {self.candidates} is not in 2..{MAX_CANDIDATES}",
        )
        ring, modulus = self.plan.ring, self.plan.modulus
        self._check(
            (self.degree, tuple(self.prime_bits), self.modulus) == (ring.degree, ring.prime_bits, modulus),
            f"plaintexts modulo {self.modulus} in degree {self.degree}, primes of {self.prime_bits} bits: "
            f"these decoys take {modulus}, degree {ring.degree}, {list(ring.prime_bits)} bits",
        )

    @classmethod
    def _check_adversary(cls, adversary: str) -> None:
        cls._check(
            adversary == "semi-honest",
            f"decoys are not for a server that is {adversary}: it decides what is decrypted, and would have "
            "one client's vector decrypted. Against such a server: masking",
        )

    @classmethod
    def _check_ending(cls, ending: str) -> None:
        cls._check(
            ending == "keep",
            f"decoys with the ending {ending!r} hide nothing: against whoever learns the sum the true "
            "candidate is found by linear algebra. The clients keep it",
        )

    @classmethod
    def for_cohort(
        cls,
        clients: int,
        vectors: Vectors | Spec,
        *,
        candidates: int = CANDIDATES,
        ending: Ending = "keep",
        adversary: Adversary = "semi-honest",
        roster: Roster | None = None,
        m_min: int | None = None,
        small_cohort: bool = False,
    ) -> Decoys:
        """The smallest parameters at 128 bits of security for n clients of K candidates each, in which the
        sum of codes of their vectors' `bits` is exact in the worst case.

        m_min: more than half of the clients unless given.

        Raises: LocalProtocolError where no such session is possible.
        """
        n, K = integer("clients", clients), integer("candidates", candidates)
        check_clients(n)
        cls._check_adversary(adversary)
        cls._check_ending(ending)
        plan = _plan(n, K, named(vectors))
        return cls(
            clients=n,
            vectors=named(vectors),
            small_cohort=small_cohort,
            degree=plan.ring.degree,
            prime_bits=list(plan.ring.prime_bits),
            modulus=plan.modulus,
            candidates=K,
            m_min=m_min if m_min is not None else n // 2 + 1,
            roster=roster.digest if roster is not None else b"",
        )

    @property
    def plan(self) -> Plan:
        """All numbers that follow."""
        return _plan(self.clients, self.candidates, self.vectors)

    def keys(self, secret: Residues | None = None) -> SelectorKeys:
        """Of a secret key's residues; None: fresh ones."""
        return SelectorKeys(self.plan.ring, self.modulus, secret)

    @property
    def upload_bytes(self) -> int:
        return self.plan.upload_bytes

    @property
    def largest_upload(self) -> int:
        # As of CKKS, a bound: of each client its id with a signed key or a sealed K, a secret key, and
        # candidates with their selectors.
        return 4096 + 128 * self.clients + self.plan.ring.key_bytes + self.plan.upload_bytes

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
    ) -> DecoysClient:
        """vectors: of a task gives `Among`."""
        tenseal()  # before anything is promised
        return DecoysClient(
            self,
            u,
            vectors,
            rounding_seed=rounding_seed,
            identity=identity if self.roster else None,
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
    ) -> DecoysServer:
        used = roster if self.roster else None
        return DecoysServer(self, cohort, task, context_of(task), roster=used, rng=rng)

    @property
    def against(self) -> str:
        return (
            "honest-but-curious server with no client on its side: it learns no sum, and sees each client's "
            f"vector among {self.candidates} candidates, hidden as far as they look alike; one client on its "
            "side opens every choice. ckks with the ending keep shows it no candidate, and is the better one."
        )

    def explain(self) -> str:
        """Say in words what is sent, and what it guarantees and what not."""
        plan, ring = self.plan, self.plan.ring
        primes = ", ".join(map(str, ring.prime_bits))
        lines = [
            f"decoys, {counted(self.clients, 'client')} of {self.candidates} candidates each, who keep the "
            "sum: an experiment",
            *self.describe_vectors(in_rings=False),
            f"BFV in a ring of degree {ring.degree}, modulus {sum(ring.prime_bits)} bits (primes of "
            f"{primes}), {SECURITY_BITS} bits of security, plaintexts modulo {self.modulus}; no sum can "
            "overflow, whatever the candidates are",
            f"{self.candidates} x {plan.candidate_bytes:,} bytes of candidates in the clear and "
            f"{self.candidates} x {ring.ciphertext_bytes:,} of selectors a client; {plan.sum_bytes:,} of "
            "encrypted sum to each",
            "the server sees each true vector among its decoys: who learns the sum finds it by linear "
            "algebra, and who can tell decoys by their looks, over rounds too, needs no sum",
        ]
        if any(isinstance(spec, Weight) for spec in self.vectors.values()):
            lines += ["a weight that all candidates of a client share is in the clear"]
        signed = "keys are signed" if self.roster else "KEYS ARE NOT SIGNED: the server could put in its own"
        return "\n".join(
            [*lines, f"against an honest-but-curious server with no client on its side; {signed}"]
        )


def _plan(clients: int, candidates: int, vectors: Vectors) -> Plan:
    plan = smallest(clients, candidates, tuple(sorted(vectors.items())))
    if plan is None:
        raise LocalProtocolError(
            f"{candidates} candidates of each of {clients} clients with these vectors could overflow in "
            f"every ring at {SECURITY_BITS} bits of security: use fewer bits or a smaller maximum"
        )
    return plan
