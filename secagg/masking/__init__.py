"""The masking scheme: secure aggregation by Bonawitz et al. (CCS 2017), semi-honest or active server."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, get_args

from secagg.crypto import DIGEST_BYTES, Rng, Tag, digest, system_rng
from secagg.encoding import Spec, Vectors, integer, set_exactly
from secagg.errors import ClientId, LocalProtocolError
from secagg.identity import Identity, Roster
from secagg.masking.client import MaskingClient
from secagg.masking.messages import (
    ADVERTISE_KEYS,
    CONSISTENCY_CHECK,
    MASKED_INPUT,
    SHARE_KEYS,
    UNMASKING,
)
from secagg.masking.server import MaskingServer
from secagg.params import Parameters, named
from secagg.session import Contribute, Once

Adversary = Literal["semi-honest", "active"]


def least_threshold(clients: int, adversary: Adversary, corrupt: int) -> int:
    """The smallest t that holds: above n / 2 (semi-honest) or (n + A) / 2 (active), so that no two disjoint
    groups of honest clients can each unmask; and A + 2, so that two honest inputs are in every sum.
    """
    if adversary == "semi-honest":
        return max(clients // 2 + 1, corrupt + 2 if corrupt else 0)
    return max((clients + corrupt) // 2 + 1, corrupt + 2)


def default_threshold(clients: int, adversary: Adversary = "semi-honest", corrupt: int = 0) -> int:
    """The smallest, but against an active server floor(2n / 3) + 1 where that is higher (Bonawitz et al.,
    section 6.2): more than a third of the cohort may then be the server's.
    """
    least = least_threshold(clients, adversary, corrupt)
    return max(least, 2 * clients // 3 + 1) if adversary == "active" else least


class Masking(Parameters, frozen=True, kw_only=True, tag="masking"):
    """Parameters of a masking session on the complete graph.

    threshold: t, clients needed in every round and shares needed to rebuild a secret. adversary: what the
    server may do. corrupt: A, how many clients may be on its side. m_min: the smallest U3 a client unmasks,
    at least t. roster: digest of the roster, active only.

    Security: semi-honest, against a server that follows the protocol and fewer than t clients with it;
    active, against a server that does not, and A clients. The sum is right only if all clients are honest.
    """

    threshold: int
    m_min: int
    adversary: Adversary = "semi-honest"
    corrupt: int = 0
    roster: bytes = b""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check(self.adversary in get_args(Adversary), f"no adversary is called {self.adversary!r}")
        for number in ("threshold", "m_min", "corrupt"):
            set_exactly(self, number, int)
        n, t, A = self.clients, self.threshold, self.corrupt
        self._check(0 <= A < n, f"{A} corrupt clients of {n} is impossible: from 0 to {n - 1}")
        least = least_threshold(n, self.adversary, A)
        self._check(
            least <= n, f"{n} clients of whom {A} are corrupt: a threshold of {least} would be needed"
        )
        self._check(
            least <= t <= n,
            f"threshold {t} is impossible: with {n} clients, {A} of them corrupt, and the server "
            f"{self.adversary}, it is in {least}..{n} (below, two groups could each unmask)",
        )
        self._check(t <= self.m_min <= n, f"m_min {self.m_min} is impossible: from t = {t} to n = {n}")
        signed = self.adversary == "active"
        self._check(
            len(self.roster) == (DIGEST_BYTES if signed else 0),
            "against an active server a session is bound to a roster, and only then",
        )

    @classmethod
    def for_cohort(
        cls,
        clients: int,
        vectors: Vectors | Spec,
        *,
        adversary: Adversary = "semi-honest",
        roster: Roster | None = None,
        corrupt: int | None = None,
        threshold: int | None = None,
        m_min: int | None = None,
        small_cohort: bool = False,
    ) -> Masking:
        """The scheme for n clients; ring, threshold and m_min follow from the rest unless they are given.

        corrupt: A; by default 0 against a semi-honest server, 1 against an active one.

        Raises: LocalProtocolError where no such session is possible, with the number that fails.
        """
        clients = integer("clients", clients)
        A = integer("corrupt", corrupt) if corrupt is not None else int(adversary == "active" and clients > 2)
        t = threshold if threshold is not None else default_threshold(clients, adversary, A)
        return cls(
            clients=clients,
            vectors=named(vectors),
            small_cohort=small_cohort,
            threshold=t,
            m_min=m_min if m_min is not None else t,
            adversary=adversary,
            corrupt=A,
            roster=roster.digest if roster is not None and adversary == "active" else b"",
        )

    @property
    def rounds(self) -> tuple[str, ...]:
        check = (CONSISTENCY_CHECK,) if self.adversary == "active" else ()
        return ("join", ADVERTISE_KEYS, SHARE_KEYS, MASKED_INPUT, *check, UNMASKING)

    def check_roster(self, roster: Roster | None) -> None:
        """Raises: LocalProtocolError unless this is the roster the parameters are bound to; active only."""
        if self.adversary != "active":
            return
        if roster is None:
            raise LocalProtocolError("against an active server a roster of one's own is needed")
        if roster.digest != self.roster:
            raise LocalProtocolError("the session is bound to another roster than this one")

    def client(
        self,
        u: ClientId,
        vectors: Contribute,
        *,
        rounding_seed: bytes | None = None,
        identity: Identity | None = None,
        once: Once | None = None,
        rng: Rng = system_rng,
    ) -> MaskingClient:
        used = identity if self.adversary == "active" else None
        return MaskingClient(self, u, vectors, rounding_seed=rounding_seed, identity=used, once=once, rng=rng)

    def server(
        self,
        cohort: Collection[ClientId],
        task: bytes = b"",
        *,
        roster: Roster | None = None,
        rng: Rng = system_rng,
    ) -> MaskingServer:
        used = roster if self.adversary == "active" else None
        return MaskingServer(self, cohort, task, digest(Tag.CONTEXT, task), roster=used, rng=rng)

    def explain(self) -> str:
        """In words: what is sent, and what the choice guarantees and what not."""
        n, t, A = self.clients, self.threshold, self.corrupt
        if self.adversary == "active":
            server = f"active server, {A} corrupt clients assumed, survivors signed by a quorum"
            learns = f"the server, whatever it does, learns at most the sum of a U3 of {self.m_min} or more"
            open_ends = "one malicious model sent to everybody, or malice spread over rounds"
        else:
            server = "honest-but-curious server"
            learns = (
                f"the server, with fewer than {t} clients on its side, learns the survivors' sum, no more"
            )
            open_ends = "anything against a server that breaks the protocol"
        return "\n".join(
            [
                f"masking, {n} clients, threshold {t}, complete graph, {server}",
                *self.describe_vectors(),
                f"up to {n - t} clients may vanish, in any round; with fewer than {t} left there is no sum",
                learns,
                f"not promised: {open_ends}; or a right sum where a client lies (masking gives no integrity)",
            ]
        )
