"""[protection]: what protects a run, as its command line and its clients' policies say it, too."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import Annotated

import msgspec
from msgspec import Meta

from fl.config.section import setting, settle
from secagg import LocalProtocolError, Policy, Roster, Scheme
from secagg.decoys import CANDIDATES, MAX_CANDIDATES
from secagg.errors import ClientId
from secagg.policy import Adversary, Ending, GraphChoice, Likening
from secagg.prg import Prg
from secagg.schemes import SCHEMES
from secagg.specs import Vectors
from secagg.wire import MAX_RELAYS

LOOKED_AT_BY = {
    **dict.fromkeys(("corrupt", "dropout", "prg", "blank"), ("masking", "split")),
    **dict.fromkeys(("graph", "threshold", "batch"), ("masking",)),
}
"""Settings that another scheme would not look at. Plain looks at none, but it may be given them: the same run
unprotected; and not blanks, with which the mean is another."""
RELAYS = 2
"""Of split, where neither a number nor a roster says how many."""
BOUND = 3.0
"""Of an update's coordinates, where nothing else is said. The largest seen in 60 default runs is 0.97."""
ANY_NOISE = 1e-9
"""Of the clip: less than any that there is."""
OF_GROUPS = ("m_g", "unsafe_groups", "public_weights")
"""What is said of groups, and means nothing without."""
_Share = Annotated[float, Meta(ge=0, lt=1)]


class Protection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How sums are protected, and against whom.

    scheme: masking, split, ckks, plain or decoys. adversary: None for active, and for ckks and decoys
    semi-honest. ending: of ckks, None for release. decoys: of decoys, a client's candidates, None for
    CANDIDATES. relays: of split, None for as many as the roster lists, and without one for RELAYS.
    threshold: of a single sum alone, so no setting of a run. bits, bound: of the coordinates that training
    sends; bound None for BOUND, or for what their noise takes. groups: sums of so many groups of clients,
    each by itself; 0 for one sum. The rest is as in `secagg.Masking.for_cohort`, None for its defaults.

    Raises: ConfigError for a value of the wrong type or out of its range; LocalProtocolError for what the
    scheme cannot keep, or would not look at.
    """

    scheme: Annotated[str, setting("How the sum is protected; see `secagg list`.", words=tuple(SCHEMES))] = (
        "masking"
    )
    adversary: (
        Annotated[
            Adversary,
            setting(
                "What the server may do.",
                unset="active; with ckks and decoys semi-honest",
                words=("active", "semi-honest"),
            ),
        ]
        | None
    ) = None
    ending: (
        Annotated[
            Ending,
            setting(
                "With ckks: release the sum to the server, or keep it among the clients.",
                unset="release",
                words=("release", "keep"),
            ),
        ]
        | None
    ) = None
    decoys: (
        Annotated[
            int,
            setting(
                "With decoys: candidates that each client sends, the true update among them.",
                unset=f"{CANDIDATES}",
                ge=2,
                le=MAX_CANDIDATES,
            ),
        ]
        | None
    ) = None
    relays: (
        Annotated[
            int,
            setting(
                "With split: relays, each of which adds its shares of the vectors; all of them together see "
                "every one.",
                unset=f"{RELAYS}, or those of the roster",
                ge=2,
                le=MAX_RELAYS,
            ),
        ]
        | None
    ) = None
    corrupt: (
        Annotated[
            int,
            setting("Clients assumed on the server's side: 2, or 0.1.", unset="0.1", ge=0, le=10_000),
        ]
        | _Share
        | None
    ) = None
    dropout: (
        Annotated[
            int,
            setting(
                "Clients that a session may lose: 2, or 0.3.", unset="0.3, or what can be", ge=0, le=10_000
            ),
        ]
        | _Share
        | None
    ) = None
    graph: Annotated[GraphChoice, setting("Who deals shares to whom; auto goes by size.")] = "auto"
    threshold: int | None = None
    batch: Annotated[int, setting("Sum by whole batches of so many clients, by id.", ge=0, le=10_000)] = 0
    groups: Annotated[
        int,
        setting("Sum so many groups of clients, each by itself, for a rule to combine.", ge=0, le=5_000),
    ] = 0
    m_g: (
        Annotated[
            int,
            setting(
                "With groups: clients of a group that have to be left, or its sum is not opened.",
                name="group_m_min",
                unset="the least that is safe",
                ge=1,
                le=10_000,
            ),
        ]
        | None
    ) = None
    unsafe_groups: Annotated[
        bool,
        setting("Allow groups so small that the server's side may be nearly all of one: results are marked."),
    ] = False
    public_weights: Annotated[
        bool,
        setting("With groups: weigh by examples, of which the server learns each group's; else all are 1."),
    ] = False
    prg: Annotated[Prg, setting("Cipher of the masks.")] = "aes-128-ctr"
    alike: Annotated[
        Likening,
        setting(
            "A client helps to two different sums at most of updates that come out alike: of one gradient "
            "(auto), of near models (always), of any models (any), or of none (never)."
        ),
    ] = "auto"
    bits: Annotated[int, setting("Bits of a coordinate as it is sent.", ge=2, le=32)] = 16
    bound: (
        Annotated[
            float,
            setting(
                "Range of a coordinate, [-bound, bound].",
                unset=f"{BOUND:g}; with noise what it takes",
                gt=0,
                le=1e6,
            ),
        ]
        | None
    ) = None
    blank: Annotated[
        float,
        setting(
            "Probability with which a client contributes nothing but its noise, by a coin that nobody sees.",
            panel="privacy",
            ge=0,
            lt=1,
        ),
    ] = 0.0
    small_cohort: Annotated[
        bool, setting("Allow 1 or 2 clients, where a sum hides nothing.", panel="cohort")
    ] = False

    def __post_init__(self) -> None:
        settle(self)
        if self.usual_ending is None and self.ending is not None:
            raise LocalProtocolError(
                f"--ending {self.ending} is for --scheme ckks: {self.scheme} has one ending"
            )
        if self.scheme != "decoys" and self.decoys is not None:
            raise LocalProtocolError(
                f"--decoys {self.decoys} is for --scheme decoys: {self.scheme} sends none"
            )
        if self.scheme != "split" and self.relays is not None:
            raise LocalProtocolError(f"--relays {self.relays} is for --scheme split: {self.scheme} has none")
        usual = {field.name: field.default for field in msgspec.structs.fields(Protection)}
        for name, schemes in LOOKED_AT_BY.items():
            if self.scheme == "plain" and name != "blank":
                continue
            if self.scheme not in schemes and getattr(self, name) != usual[name]:
                raise LocalProtocolError(
                    f"--{name} is for --scheme {' or '.join(schemes)}: it means nothing to {self.scheme}"
                )
        self._check_groups()

    def _check_groups(self) -> None:
        given = [name for name in OF_GROUPS if getattr(self, name)]
        if not self.groups:
            if given:
                flag = {"m_g": "group-m-min"}.get(given[0], given[0].replace("_", "-"))
                raise LocalProtocolError(f"--{flag} counts with --groups only")
            return
        if self.scheme == "plain":
            raise LocalProtocolError(
                f"--groups {self.groups} is for --scheme masking: plain shows every update, and rules take "
                "them one by one: leave it out"
            )
        if self.scheme != "masking":
            raise LocalProtocolError(
                f"--groups {self.groups} is for --scheme masking: with {self.scheme} there is one sum of "
                "all: leave it out"
            )
        for name, what in (("batch", "batches of clients"), ("blank", "clients that contribute nothing")):
            if value := getattr(self, name):
                raise LocalProtocolError(
                    f"--{name} {value:g} does not go with --groups: there are no {what} within groups: leave "
                    "one of the two out"
                )

    @property
    def against(self) -> Adversary:
        """The adversary, filled in."""
        return self.adversary or ("semi-honest" if self.scheme in ("ckks", "decoys") else "active")

    @property
    def title(self) -> str:
        """In a word or a few: the scheme, and groups where there are some."""
        if not self.groups:
            return self.scheme
        return f"{self.scheme}, {self.groups} {'unsafe ' if self.unsafe_groups else ''}groups"

    @property
    def usual_ending(self) -> Ending | None:
        """Where nothing is said; None where there is one ending."""
        endings: dict[str, Ending] = {"ckks": "release", "decoys": "keep"}
        return endings.get(self.scheme)

    @property
    def relay_count(self) -> int:
        """How many relays take part in a run on this machine."""
        return (self.relays or RELAYS) if self.scheme == "split" else 0

    @property
    def kept(self) -> bool:
        """Whether the clients keep the sum, and the server never has it."""
        return self.ending == "keep" or self.scheme == "decoys"

    def for_cohort(
        self,
        clients: int,
        vectors: Vectors,
        roster: Roster | None,
        *,
        cohort: Collection[ClientId] = (),
        cut: bytes = b"",
    ) -> Scheme:
        """The session of so many clients with these vectors, protected so. cohort, cut: of groups, as in
        `secagg.Masking.for_cohort`.

        Raises: LocalProtocolError where there is no such session.
        """
        scheme = SCHEMES[self.scheme]
        listed = len(roster.relays) if roster is not None else 0
        filled = {
            "adversary": self.against,
            "ending": self.ending or self.usual_ending,
            "relays": self.relays or listed or RELAYS,
            "candidates": self.decoys or CANDIDATES,
            "roster": roster,
            **({"cohort": cohort, "cut": cut} if self.groups else {}),
        }
        settings = msgspec.structs.asdict(self) | filled
        # A scheme gets what its for_cohort names. What it would not look at was refused in `__post_init__`.
        takes = inspect.signature(scheme.for_cohort).parameters
        own = {name: value for name, value in settings.items() if name in takes}
        return scheme.for_cohort(clients, vectors, **own)

    def policy(self, *, noised: bool = False, clients: int = 0) -> Policy:
        """The policy of a client that insists on just this. noised: and on noise, whose size is the server's
        to choose: on one machine both are the same user's. clients: of a session, where it is cut in groups.
        """
        return Policy(
            schemes=frozenset({self.scheme}),
            adversary=self.against,
            corrupt=self.corrupt,
            dropout=self.dropout,
            graph=self.graph,
            threshold=self.threshold,
            batch=self.batch or None,
            prg=self.prg,
            ending=self.ending or self.usual_ending,
            smallest_cohort=1 if self.small_cohort else 3,
            alike=self.alike,
            blank=self.blank,
            noise=ANY_NOISE if noised else None,
            smallest_group=max(1, clients // self.groups) if self.groups else None,
            unsafe_groups=self.unsafe_groups,
            public_weights=self.public_weights,
        )


def check_installed(schemes: Collection[str]) -> None:
    """Raises: ModuleNotFoundError where a client of one of these schemes would lack a package."""
    if not {"ckks", "decoys"}.isdisjoint(schemes):
        import tenseal  # noqa: F401
        import zstandard  # noqa: F401
