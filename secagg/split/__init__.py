"""Split aggregation: every client cuts its vector into shares that cancel, one for each of M relays that do
not collude; each relay adds its column, and the server the columns.

Source: additive secret sharing among servers, as Corrigan-Gibbs and Boneh (NSDI 2017, section 3) sum with it;
dummies that travel as seeds: the same, appendix I.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from secagg.alike import Alike
from secagg.crypto import Rng, system_rng
from secagg.errors import ClientId, LocalProtocolError, RemoteProtocolError, counted
from secagg.identity import Identity, Roster
from secagg.parallel import Executor
from secagg.params import DROPOUT, NoisedParameters, absolute, check_clients, corrupt_clients, named, share_of
from secagg.policy import Adversary
from secagg.prg import Prg
from secagg.session import ClientSession, Contribute, Once
from secagg.specs import Spec, Vectors, integer, set_exactly
from secagg.split.client import SplitClient
from secagg.split.messages import COLUMNS, DELIVER, RELAY_KEYS, SHARES
from secagg.split.relay import SplitRelay
from secagg.split.server import SplitServer
from secagg.tagged import Tagged
from secagg.wire import MAX_RELAYS, context_of

if TYPE_CHECKING:
    from secagg.policy import Policy


class Split(NoisedParameters, frozen=True, kw_only=True, tag="split"):
    """Sums of shares that M relays add, each its column: exact, whoever drops out; hidden unless all M relays
    are on the server's side.

    relays: M. adversary: what the server may do. m_min: the fewest clients whose shares a relay adds.
    corrupt: A, how many clients may be on the server's side. prg: expands dummies. roster: digest of the
    roster, which lists clients and just these relays; active only.

    Security: against a server that does what it likes, M - 1 of the relays with it, and A clients; where
    nothing is signed, against parties that follow the protocol. The sum is right only if clients and
    relays are honest: a relay that lies spoils it, and opens nothing.

    Source: Corrigan-Gibbs and Boneh, NSDI 2017, section 3; dummies as seeds: its appendix I.
    """

    rounds = every_round = ("join", RELAY_KEYS, SHARES, DELIVER, COLUMNS)
    relay_rounds = ("join", RELAY_KEYS, DELIVER, COLUMNS)
    training_round = SHARES
    upload_round = SHARES
    finishing_rounds = ()  # a relay that is gone has taken the key with it that opens what was sealed to it
    opening_round = COLUMNS
    slow_rounds = (SHARES, DELIVER, COLUMNS)

    relays: int

    def __post_init__(self) -> None:
        super().__post_init__()
        set_exactly(self, "relays", int)
        n, A = self.clients, self.corrupt
        self._check(
            2 <= self.relays <= MAX_RELAYS,
            f"a session of split takes 2 to {MAX_RELAYS} relays, not {self.relays}",
        )
        least = least_members(n, A)
        self._check(
            least <= n,
            f"{n} clients of whom {A} are corrupt: {least} would have to be left, or a sum is one client's",
        )
        self._check(
            least <= self.m_min <= n,
            f"m_min {self.m_min} is impossible: with {A} of {n} clients corrupt it is {least} to {n}",
        )
        self.check_contributions()

    @classmethod
    def for_cohort(
        cls,
        clients: int,
        vectors: Vectors | Spec,
        *,
        relays: int = 2,
        adversary: Adversary | None = None,
        roster: Roster | None = None,
        corrupt: int | float | None = None,
        dropout: int | float | None = None,
        m_min: int | None = None,
        prg: Prg = "aes-128-ctr",
        blank: float = 0.0,
        small_cohort: bool = False,
    ) -> Split:
        """The scheme for n clients and M relays: with a roster, just as many as it lists.

        adversary: None is active where there is a roster. corrupt: A, a number, or a fraction: of the roster
        if there is one; one client at least. dropout: d, clients that may be lost, 0.3 of the cohort if not
        given; m_min is n - d, and A + 2 at least.

        Raises: LocalProtocolError where no such session is possible, with the number that fails.
        """
        n = integer("clients", clients)
        check_clients(n)
        if adversary is None:
            adversary = "semi-honest" if roster is None else "active"
        used = roster if adversary == "active" else None
        M = integer("relays", relays)
        if used is not None and len(used.relays) != M:
            raise LocalProtocolError(
                f"{counted(M, 'relay')}, and the roster lists {len(used.relays)}: all of its relays take "
                "part in every session"
            )
        A = corrupt_clients(n, corrupt, used)
        d = share_of(DROPOUT, n) if dropout is None else absolute("dropout", dropout, n, n)
        return cls(
            clients=n,
            vectors=named(vectors),
            small_cohort=small_cohort,
            relays=M,
            adversary=adversary,
            m_min=m_min if m_min is not None else max(least_members(n, A), n - d),
            corrupt=A,
            prg=prg,
            blank=blank,
            roster=used.digest if used is not None else b"",
        )

    @property
    def largest_request(self) -> int:
        """What is passed on to a relay is the shares of the whole cohort."""
        return 4096 + self.clients * (256 + 34 * self.relays + 8 * len(self.vectors) + self.upload_bytes)

    def check_policy(self, policy: Policy, roster: Roster | None) -> None:
        """The policy's own numbers lead to those of this session, or it is refused."""
        self._check_against(policy, roster)
        if policy.batch:
            raise RemoteProtocolError(
                f"the server offers split, which sums no batches; this client insists on {policy.batch} "
                "(batch, in its policy)"
            )
        self._check_prg(policy)
        try:
            expected = Split.for_cohort(
                self.clients,
                self.vectors,
                relays=self.relays,
                adversary=self.adversary,
                roster=roster,
                corrupt=policy.corrupt,
                dropout=policy.dropout,
                m_min=policy.m_min,
                blank=self.blank,
                small_cohort=self.small_cohort,  # no number follows from it; n was looked at before
            )
        except LocalProtocolError as error:
            raise RemoteProtocolError(
                f"by this client's policy no such session is possible: {error}"
            ) from None
        for number in ("corrupt", "m_min"):
            policy.check_number(number, getattr(self, number), getattr(expected, number))

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
    ) -> SplitClient:
        used = identity if self.adversary == "active" else None
        return SplitClient(
            self, u, vectors, rounding_seed=rounding_seed, identity=used, once=once, alike=alike, rng=rng
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
    ) -> SplitServer:
        used = roster if self.adversary == "active" else None
        like = alike.of(task) if alike is not None else None
        return SplitServer(self, cohort, task, context_of(task), roster=used, like=like, rng=rng)

    def relay(
        self,
        j: int,
        *,
        identity: Identity | None = None,
        once: Once | None = None,
        tagged: Tagged | None = None,
        rng: Rng = system_rng,
    ) -> ClientSession:
        used = identity if self.adversary == "active" else None
        return SplitRelay(self, j, identity=used, once=once, tagged=tagged, rng=rng)

    @property
    def against(self) -> str:
        M = self.relays
        if self.adversary == "active":
            return (
                f"active server, and {M - 1} of {M} relays with it: whatever they do, they learn sums of "
                f"{self.m_min} clients or more and no single vector. Correct for honest clients and relays "
                "only."
            )
        return (
            f"honest-but-curious server, and {M - 1} of {M} relays with it: they learn the sum and no single "
            "vector. Correct for honest clients and relays only."
        )

    def explain(self) -> str:
        """Say in words what is sent, and what the choice guarantees and what not."""
        n, M, A, m_min = self.clients, self.relays, self.corrupt, self.m_min
        lines = [
            f"split, {counted(n, 'client')}, {counted(M, 'relay')}, {self.adversary} server, "
            f"{counted(A, 'corrupt client')} assumed",
            *self.describe_vectors(),
            f"a client sends one message: its vector less {counted(M - 1, 'dummy', 'dummies')} to one relay, "
            "and to each other relay a dummy's seed",
            f"up to {counted(n - m_min, 'client')} may vanish; no relay may, or there is no sum",
            f"{counted(M - 1, 'relay')} and the server together see uniform numbers and the sum; all {M} and "
            "the server together see every vector",
        ]
        lines += self.describe_blanks()
        if self.prg != "aes-128-ctr":
            lines.append(f"dummies are streams of {self.prg}")
        lines.append(
            "not promised: a right sum where a client or a relay lies; anything where all relays collude"
        )
        return "\n".join(lines)


def least_members(clients: int, corrupt: int) -> int:
    """The smallest m_min that holds: A + 2, so that two honest inputs are in every sum; of one client, an
    experiment, that is one. A relay adds over one set a session, so that no two sets need to meet.
    """
    return corrupt + 2 if clients > 1 else 1
