"""What the parameters of sessions have in common whose clients share a key that the server does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from secagg.ckks.messages import ADVERTISE_KEYS, DECRYPT, INPUT, SHARE_KEYS
from secagg.crypto import DIGEST_BYTES
from secagg.errors import LocalProtocolError, RemoteProtocolError
from secagg.identity import Roster
from secagg.params import Parameters
from secagg.policy import Adversary, Ending
from secagg.specs import set_exactly

if TYPE_CHECKING:
    from secagg.policy import Policy


class KeySharing(Parameters, frozen=True, kw_only=True):
    """Of a scheme whose server follows the protocol and adds what it cannot read.

    degree, prime_bits: N, and the sizes of the primes of Q. m_min: the fewest clients whose sum a client
    decrypts. ending: who has the sum in the end. adversary: semi-honest and no other. roster: digest of the
    roster under which keys are signed; empty: nothing is signed.
    """

    rounds = every_round = ("join", ADVERTISE_KEYS, SHARE_KEYS, INPUT, DECRYPT)
    training_round = ADVERTISE_KEYS
    upload_round = INPUT
    finishing_rounds = ()  # each client decrypts at once, or never
    slow_rounds = (ADVERTISE_KEYS, INPUT)  # encrypting takes its time, too
    corrupt = 0  # one client on the server's side opens everything: none is assumed

    degree: int
    prime_bits: list[int]
    m_min: int
    ending: Ending = "keep"
    adversary: Adversary = "semi-honest"
    roster: bytes = b""

    def __post_init__(self) -> None:
        super().__post_init__()
        for number in ("degree", "m_min"):
            set_exactly(self, number, int)
        self._check(1 <= self.m_min <= self.clients, f"m_min {self.m_min} is not in 1..{self.clients}")
        self._check(
            len(self.roster) in (0, DIGEST_BYTES), f"the digest of a roster has {DIGEST_BYTES} bytes, or none"
        )

    def check_roster(self, roster: Roster | None) -> None:
        """Raises: LocalProtocolError unless this is the roster the parameters are bound to, if any."""
        if not self.roster:
            return
        if roster is None:
            raise LocalProtocolError("keys are signed in this session: a roster of one's own is needed")
        if roster.digest != self.roster:
            raise LocalProtocolError("the session is bound to another roster than this one")

    def check_policy(self, policy: Policy, roster: Roster | None) -> None:
        """The policy's own numbers lead to those of this session, or it is refused."""
        policy.check_trust(self.adversary)
        if roster is not None and self.roster != roster.digest:
            raise RemoteProtocolError("the session is bound to another roster than this client holds")
        if roster is None and self.roster:
            raise RemoteProtocolError(
                "the server offers a session in which keys are signed; for that a client needs its own copy "
                "of the roster (roster=)"
            )
        if policy.ending not in (None, self.ending):
            raise RemoteProtocolError(
                f"the server offers that clients {self.ending} the sum; this client insists that they "
                f"{policy.ending} it (ending, in its policy)"
            )
        due = policy.m_min if policy.m_min is not None else self.clients // 2 + 1
        policy.check_number("m_min", self.m_min, due)
