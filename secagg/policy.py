"""What a client insists on: the server proposes the session, the client's own rules decide, in
`schemes.accept`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from secagg.errors import LocalProtocolError, RemoteProtocolError
from secagg.prg import Prg
from secagg.specs import Bounded, Private, Spec, Vectors, Weight, check_fields

if TYPE_CHECKING:
    from secagg.private import Calibration

GRID_SHARE: Final = 0.05
"""Of the noise that a client insists on, what rounding to the grid may take: at 16 bits it takes less than
0.01 for 1000 clients and 2^20 coordinates, at 12 bits a half."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=10**6)]
_Fraction = Annotated[float, msgspec.Meta(ge=0, lt=1)]

_Multiplier = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
_Clip = Annotated[float, msgspec.Meta(gt=0, le=1e30)]
_Bits = Annotated[int, msgspec.Meta(ge=2, le=32)]
_Weight = Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=10**6)]

# The words of every scheme stand here, below all schemes, since a policy says them.
Adversary = Literal["semi-honest", "active"]
"""What the server may do: follow the protocol and remember all, or whatever it likes."""

GraphChoice = Literal["auto", "complete", "sparse"]
"""Who shares keys with whom: everybody with everybody, or each with k others, which "auto" is where that is
worthwhile."""

Ending = Literal["keep", "release"]
"""Of CKKS: who has the sum in the end, the clients alone, or the server, too."""

Likening = Literal["auto", "always", "any", "never"]
"""By what a client takes the vectors of two sessions to be alike (`Policy`)."""


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The numbers a client insists on. It recomputes what follows from them and refuses any other.

    schemes: what it takes part in, in the default `masking` alone. adversary: the weakest server it is
    content to be protected from. corrupt, dropout: clients it assumes on the server's side, or lost: numbers
    or fractions; None for the scheme's default. graph: "complete", or "sparse" where the cohort is so small
    that the default would be complete; the complete one is always accepted. smallest_cohort: n below which it
    takes no part, whatever the server says of experiments. threshold, m_min: t of the complete graph and the
    smallest U3 it unmasks or decrypts, where they are not to be those that follow. batch: the size of the
    batches it insists on being summed by. prg: the cipher it insists on for masks. ending: of ckks. None for
    either. vectors: exactly what it is willing to send, or None for whatever is asked. noise: the least
    multiplier of the noise in the sum, of all vectors of a session together, of which the ring's grid may
    take a twentieth, so that vectors without noise are refused; None: none is needed. clips: name of a
    private vector -> (least, largest) clip it takes, since clips may adapt. bounds: name of a bounded vector
    -> (least, largest) bound it takes; where either names a vector that a session lacks, it names all that
    the session has, for a wrong name would limit nothing; bits: the most it sends of a number of such a one;
    heaviest: the least that the largest weight of a session may be: a vector is sent in steps of its bound by
    2^(bits - 1) times w_max / w of its own, and the finer they are, the more of a single client can be read
    out of a sum; None for any. blank: the probability with which it insists that clients contribute nothing;
    None: any where it insists on noise, else none; beside private vectors none without. alike: of sessions
    whose vectors come out alike it helps to two different sums at most (secagg/alike.py), and so "auto" where
    that is plain, "always" also where models are near, whatever is done with them, "any" whatever the models
    are, which is for sums of always the same clients, or of whole batches, or "never"; difference: clients by
    which two such sums differ, if more than A + 2; where relays see to that, theirs counts, and a client that
    has one takes part once; alike_batch: batches of more examples than these count as all of a client's,
    which come out alike: a client that holds few had better say half of what it holds. answer_after: seconds
    from the task's arrival until the client's answer leaves, so that the time does not tell how much it
    computed; None: as soon as it can. The session has no clock: whoever drives it waits (`transport` does).
    smallest_group: the size of groups from which it takes part where these are summed apart; None: it is
    summed with all or not at all. public_weights: it lets the sum of weights of its group be known.
    unsafe_groups: also groups in which more may be corrupt than they withstand, for experiments. one_cut: a
    name of the client's own for a run, in which it is summed by one cut, whatever the vectors are: the first
    in which one leaves stands on record, and of another the client takes no part; another run takes another
    name. It is kept in masking, so that such a policy has no other scheme; and one sum is a cut where it is
    of the whole roster, for of some, each time of others, it would be one of many. None: by any, but of
    vectors that come out alike.
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
    noise: _Multiplier | None = None
    clips: dict[str, tuple[_Clip, _Clip]] | None = None
    bounds: dict[str, tuple[_Clip, _Clip]] | None = None
    bits: _Bits | None = None
    heaviest: _Weight | None = None
    blank: _Fraction | None = None
    alike: Likening = "auto"
    difference: _Count | None = None
    alike_batch: _Count = 64
    answer_after: _Seconds | None = None
    smallest_group: _Count | None = None
    public_weights: bool = False
    unsafe_groups: bool = False
    one_cut: _Name | None = None

    def __post_init__(self) -> None:
        check_fields(self, "policy")
        if self.one_cut is not None and (others := sorted(self.schemes - {"masking"})):
            raise LocalProtocolError(
                f"one cut is kept in sessions of masking, and in {', '.join(others)} a client is summed by "
                "another: take masking alone, or leave that out (one_cut, in its policy)"
            )
        for name, (least, largest) in (self.clips or {}).items():
            if least > largest:
                raise LocalProtocolError(
                    f"clips of the vector {name!r} go from {least:g} to {largest:g}: turn them round"
                )

        for name, (least, largest) in (self.bounds or {}).items():
            if least > largest:
                raise LocalProtocolError(
                    f"bounds of the vector {name!r} go from {least:g} to {largest:g}: turn them round"
                )

    def check_trust(self, adversary: Adversary) -> None:
        """Raises: RemoteProtocolError if against this adversary the client would not be protected enough."""
        if self.adversary != "semi-honest" and adversary != "active":
            raise RemoteProtocolError(
                "the server offers a session that trusts it to follow the protocol; this client does not. "
                'If you mean it: Policy(adversary="semi-honest")'
            )

    def check_names(self, vectors: Vectors) -> None:
        """Raises: RemoteProtocolError if limits are for a vector that is not offered, and an offered one has
        none.
        """
        # A name that is wrong would limit nothing, without a word. Names beside those of this session may be
        # those of another: of two that are served by one policy.
        for word, limits, kind in (("clip", self.clips, Private), ("bound", self.bounds, Bounded)):
            offered = {name for name, spec in vectors.items() if isinstance(spec, kind)}
            named = (limits or {}).keys()
            absent, unlimited = sorted(named - offered), sorted(offered - named)
            if absent and unlimited:
                raise RemoteProtocolError(
                    f"the server offers a {word} for the vector {unlimited[0]!r}, for which this client has "
                    f"no limits, and none for {absent[0]!r}, for which it has: name both where both are "
                    f"meant ({word}s, in its policy)"
                )

    def check_noise(self, vectors: Vectors, calibrations: Mapping[str, Calibration]) -> None:
        """Raises: RemoteProtocolError if a sum of these would carry less noise than the client insists on, or
        be clipped otherwise. calibrations: of the private ones.
        """
        for name, (least, largest) in (self.clips or {}).items():
            if name in calibrations and not least <= (clip := calibrations[name].spec.clip) <= largest:
                raise RemoteProtocolError(
                    f"the server offers a clip of {clip:g} for the vector {name!r}; this client takes "
                    f"{least:g} to {largest:g} (clips, in its policy)"
                )
        if self.noise is None:
            return
        if bare := sorted(vectors.keys() - calibrations.keys()):
            raise RemoteProtocolError(
                f"the server asks for the vector {bare[0]!r} without noise in its sum; this client insists "
                f"on noise of {self.noise:g} x the clip (noise, in its policy), and counts none that clients "
                "add to their own vectors or in training"
            )
        offered = _joint(vector.spec.multiplier for vector in calibrations.values())
        if offered < self.noise * (1 - 1e-9):
            raise RemoteProtocolError(
                f"the server offers noise of {offered:g} x the clip in the sum; this client insists on "
                f"{self.noise:g} (noise, in its policy)"
            )
        # A ring of few bits has a grid so coarse that a rounded vector is many times as long as its clip, and
        # the noise next to nothing beside it: the server chooses the bits.
        left = _joint(vector.multiplier_in_effect for vector in calibrations.values())
        if left < self.noise * (1 - GRID_SHARE):
            raise RemoteProtocolError(
                f"the server offers so few bits that rounding leaves noise of {left:.3g} x the clip; this "
                f"client insists on {self.noise:g} (noise, in its policy)"
            )

    def check_steps(self, vectors: Vectors) -> None:
        """Raises: RemoteProtocolError if vectors would be sent in finer steps than the client takes, or in
        another range.
        """
        for name, spec in vectors.items():
            if isinstance(spec, Bounded):
                least, largest = (self.bounds or {}).get(name, (0, math.inf))
                if not least <= spec.bound <= largest:
                    raise RemoteProtocolError(
                        f"the server offers a bound of {spec.bound:g} for the vector {name!r}; this client "
                        f"takes {least:g} to {largest:g} (bounds, in its policy)"
                    )
                if self.bits is not None and spec.bits > self.bits:
                    raise RemoteProtocolError(
                        f"the server asks for {spec.bits} bits of each number of the vector {name!r}; this "
                        f"client sends {self.bits} at most (bits, in its policy)"
                    )
        if self.heaviest is None or not any(isinstance(spec, Bounded) for spec in vectors.values()):
            return
        # Where the largest weight is a client's own the steps are as fine as they can be, and so they are
        # where there are no weights: each is 1, of 1 at most.
        largest = max((spec.maximum for spec in vectors.values() if isinstance(spec, Weight)), default=1)
        if largest < self.heaviest:
            raise RemoteProtocolError(
                f"the server offers weights up to {largest}; this client takes part where they may "
                f"be {self.heaviest} at least (heaviest, in its policy)"
            )

    def check_blank(self, blank: float, *, noised: bool) -> None:
        """Raises: RemoteProtocolError if clients would contribute nothing with another probability than the
        client insists on, or under noise of which it insists on none. noised: whether vectors are private.
        """
        # Under noise that is enough by itself more blanks tell only less. Where there is none, a sum of those
        # who are left may be of fewer than without.
        due = self.blank if self.blank is not None else 0.0 if self.noise is None else blank
        if blank != due:
            raise RemoteProtocolError(
                f"the server has clients contribute nothing with a probability of {blank:g}; this client "
                f"takes {due:g} (blank, in its policy)"
            )
        # Else a server's next to none would do where without noise the session would be impossible.
        if blank and noised and self.noise is None:
            raise RemoteProtocolError(
                "the server has clients contribute nothing, and what hides a sum of few is noise of its "
                "choosing; this client insists on none (noise, in its policy)"
            )

    def check_groups(self, smallest: int, *, public_weights: bool, unsafe: bool, stay: bool) -> None:
        """Raises: RemoteProtocolError if the client is not summed in such groups.

        smallest: their size. unsafe: whether more may be corrupt in one than it withstands. stay: whether
        they can stay as they are over sessions, of a cohort that is named, whoever of it comes.
        """
        wanting = {
            f"smallest_group={smallest}": self.smallest_group is None or smallest < self.smallest_group,
            "public_weights=True": public_weights and not self.public_weights,
            "unsafe_groups=True": unsafe and not self.unsafe_groups,
        }
        # All of it at the first refusal, or whoever means it is refused once for each.
        due = " and ".join(argument for argument, lacks in wanting.items() if lacks)
        if self.smallest_group is None:
            raise RemoteProtocolError(
                f"the server sums groups of {smallest} clients apart; by its policy this client is summed "
                f"with all. If you mean it: {due}"
            )
        if smallest < self.smallest_group:
            raise RemoteProtocolError(
                f"the server sums groups of {smallest} clients apart; by its policy this client takes groups "
                f"of {self.smallest_group} or more. If you mean it: {due}"
            )
        if public_weights and not self.public_weights:
            raise RemoteProtocolError(
                "the server takes weights for public: of each group it learns their sum; by its policy this "
                f"client does not. If you mean it: {due}"
            )
        if unsafe and not self.unsafe_groups:
            raise RemoteProtocolError(
                "the server offers unsafe groups, in which all but one may be on its side; by its policy "
                f"this client takes none. If you mean it: {due}"
            )
        if self.one_cut is not None and not stay:
            raise RemoteProtocolError(
                "the server cuts whoever comes, each round anew, and this client insists on one cut: have it "
                "ask all clients in every round (cohort=). If rounds are to be of some, leave that out "
                "(one_cut, in its policy)"
            )

    def check_one_sum(self, clients: int, listed: int | None) -> None:
        """Raises: RemoteProtocolError if the client is not summed with so many at once, whom nothing names.
        listed: in its own roster; None without one.
        """
        if self.one_cut is None or clients == listed:
            return
        # A sum of some is of a group that the server has chosen, and the next may be of another.
        if listed is None:
            raise RemoteProtocolError(
                f"the server sums {clients} clients at once, and without a roster this client, which insists "
                "on one cut, cannot see whether these are all: give it one (roster=), or leave that out "
                "(one_cut, in its policy)"
            )
        raise RemoteProtocolError(
            f"the server sums {clients} clients at once, of {listed} in this client's roster, and this "
            "client insists on one cut: have it ask all clients in every round (cohort=). If sums are to be "
            "of some, leave that out (one_cut, in its policy)"
        )

    @staticmethod
    def check_number(name: str, offered: int, due: int) -> None:
        """Raises: RemoteProtocolError unless the number is the one that follows from this policy."""
        if offered != due:
            raise RemoteProtocolError(
                f"the server offers {name} {offered}; by this client's policy it is {due}"
            )


def _joint(multipliers: Iterable[float]) -> float:
    """Vectors that are seen together cost what one would under normal noise of this multiplier."""
    return 1 / math.sqrt(math.fsum(z**-2 for z in multipliers))
