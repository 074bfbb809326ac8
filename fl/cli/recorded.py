"""A training round to be attacked: recorded as its parties saw it, beside it the truth, for scoring, and what
the controls look at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from fl.cohort.layout import Layout
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets, rounding_seed
from fl.config.section import ConfigError
from fl.federation.server import Server
from fl.federation.simulation import SimulatedCohort, simulated
from fl.federation.task import Instructions
from fl.federation.vectors import EXAMPLES, UPDATE
from fl.leakage import views
from fl.leakage.attack import Encoding, Knowledge, Public
from fl.leakage.views import Part, View
from fl.training.server import GlobalModel
from fl.training.step import Gradients
from secagg import Bounded, ClientSession, Scheme, Split, Weight
from secagg.encoding import centred
from secagg.errors import ClientId, counted
from secagg.inputs import encode_inputs
from secagg.record import RecordedClient, Recorder
from secagg.split.messages import SeedShare, VectorShare
from secagg.split.relay import AwaitingMembers, SplitRelay
from secagg.wire import Raw, context_of, relay_of

Vector = NDArray[np.float64]
GALLERY = 1_000  # public images among which a guess is to be told, the true ones beside them
OWN = 6_000  # images of an attacker's own, at most

PARTIES = ("server", "eavesdropper", "participant", "client", "relay", "colluders")


@dataclass(frozen=True)
class Round:
    """What was recorded, and what is true of it.

    scheme: of its session. read: what the server could read. before, after: (d,), the model that the clients
    received, and the next one, None where nobody follows the model. uploads: what each client trained, not
    encoded. taken: which of its own examples were in its steps. first: the gradient of its first step, and
    which examples were in that. opened: what each relay opened. earlier: rounds before it that were recorded,
    too, in their order. means: of sets of clients whose uploads are not all there, their weighted mean.
    """

    config: RunConfig
    layout: Layout
    secrets: RunSecrets = field(repr=False)
    scheme: Scheme
    read: View
    task: bytes = field(repr=False)
    before: NDArray[np.float32]
    uploads: Mapping[ClientId, Vector]
    taken: Mapping[ClientId, NDArray[np.int64]]
    first: Mapping[ClientId, tuple[Vector, NDArray[np.int64]]]
    after: Vector | None = None
    opened: Mapping[int, Mapping[ClientId, VectorShare | SeedShare]] = field(default_factory=dict, repr=False)
    earlier: tuple[Round, ...] = field(default=(), repr=False)
    means: Mapping[frozenset[ClientId], Vector] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        config: RunConfig,
        layout: Layout,
        secrets: RunSecrets,
        scheme: Scheme,
        read: View,
        task: bytes,
        before: NDArray[np.float32],
        heard: Ear,
        **rest: Any,
    ) -> Round:
        """heard: of what its clients trained. rest: the fields that follow."""
        taken = {u: np.unique(np.concatenate(each)) for u, each in heard.taken.items()}
        truth = dict(heard.uploads), taken, dict(heard.first)
        return cls(config, layout, secrets, scheme, read, task, before, *truth, **rest)

    @property
    def knowledge(self) -> Knowledge:
        examples = max(map(len, self.layout.shares.values()))
        asked = msgspec.msgpack.decode(self.task, type=Instructions)
        return Knowledge(asked.model, self.before, asked.plan, examples, perturbation=asked.privacy)

    @property
    def encoding(self) -> Encoding | None:
        """Of an update of as many examples as a client has at most; None where none is so rounded."""
        vectors, examples = self.scheme.vectors, self.knowledge.examples
        spec = vectors[UPDATE]
        most = next((one.maximum for one in vectors.values() if isinstance(one, Weight)), None)
        if not isinstance(spec, Bounded):
            return None
        return Encoding(spec.bits, spec.bound, 1.0 if most is None else most / examples, spec.clip)

    @property
    def public(self) -> Public:
        """Images of an attacker's own: of the test set, as the true ones are of the training set."""
        dataset = self.layout.serving.dataset
        return Public(cast(NDArray[np.float32], dataset.test_x)[:OWN], dataset.test_y[:OWN])

    def encoded(self, u: ClientId) -> Part:
        """What client u's codes say of its update, and of its number of examples, where that is sent. Of a
        private vector, whose codes carry noise, the update.
        """
        scheme = cast(Any, self.scheme)
        if not isinstance(scheme.vectors[UPDATE], Bounded):
            return self.sum_of([u])
        values: dict[str, Any] = {UPDATE: self.uploads[u], EXAMPLES: len(self.layout.shares[u])}
        seed = rounding_seed(self.secrets.client(u))
        # What is summed beside the two has a stream of its own, and changes none of their codes.
        mine = {n: values.get(n, np.zeros(spec.length, np.int64)) for n, spec in scheme.vectors.items()}
        words, _ = encode_inputs(scheme, mine, context_of(self.task), seed)
        codes = {name: centred(scheme.vectors[name], each, scheme.clients) for name, each in words.items()}
        return views.encoded(u, scheme.vectors, [codes])

    def view(self, party: str, which: frozenset[ClientId] = frozenset()) -> View:
        """What this party, one of PARTIES, can read of it, and of the rounds before it that were recorded.
        which: the colluders, or the relay's number.

        Raises: ConfigError where there is no such party.
        """
        return self._with_earlier(lambda round: round._alone(party, which))

    def _with_earlier(self, read: Callable[[Round], View]) -> View:
        """read: what is read of one round."""
        return views.over_rounds(read(self), [(round.before, read(round)) for round in self.earlier])

    def _alone(self, party: str, which: frozenset[ClientId]) -> View:
        match party:
            case "server":
                return self.read
            case "eavesdropper":
                return views.of_eavesdropper()
            case "client":
                return views.of_client({u: (g, len(of)) for u, (g, of) in self.first.items()})
            case "participant":
                return self._of_participant()
            case "relay":
                (j,) = which
                if j not in self.opened:
                    raise ConfigError(
                        f"--view relay:{j}: this session had {counted(len(self.opened), 'relay')}"
                    )
                return views.of_relay(cast(Split, self.scheme), self.opened[j])
        whole = self.read
        if len(whole.parts) != 1:
            return whole  # to who reads single updates anyway, or nothing, colluders are no help
        own = {u: self.encoded(u) for u in which}
        each = {u: (part.updates[0], part.examples or 1) for u, part in own.items()}
        return views.of_colluders(whole.parts[0], each)

    def _of_participant(self) -> View:
        step, plan = self.config.server.step, self.config.training.plan
        if step.optimiser != "average" or plan.algorithm == "fedavg-weights":
            raise ConfigError("--view participant reads the mean off a server that steps along it: average")
        assert self.after is not None  # noqa: S101 - of a round that was recorded for this
        lr = -plan.lr * step.lr if plan.algorithm == "fedsgd" else step.lr
        return views.of_participant(self.before.astype(np.float64), self.after, lr, frozenset(self.uploads))

    def single(self, members: Sequence[ClientId]) -> View:
        """The first control: each one's update in the clear, encoded as it was for the session."""
        return self._with_earlier(
            lambda round: View(tuple(round.encoded(u) for u in members if u in round.uploads))
        )

    def exact(self, members: Sequence[ClientId]) -> View:
        """Each one's update, not encoded."""
        return self._with_earlier(
            lambda round: View(tuple(round.sum_of([u]) for u in members if u in round.uploads))
        )

    def summed(self, members: Sequence[ClientId]) -> View:
        """The second control: what their updates come to together, not encoded and not masked."""
        return self._with_earlier(
            lambda round: View((round.sum_of(members),) if round.knows(members) else ())
        )

    def knows(self, members: Sequence[ClientId]) -> bool:
        """Whether their sum can be had."""
        return frozenset(members) in self.means or self.uploads.keys() >= set(members)

    def sum_of(self, members: Sequence[ClientId]) -> Part:
        """What their updates come to together in this round, not encoded and not masked."""
        weights = np.array([weight_in(self.config, self.layout, u) for u in members])
        mean = self.means.get(frozenset(members))
        if mean is None:
            mean = np.average([self.uploads[u] for u in members], axis=0, weights=weights)
        told = int(weights.sum()) if self.config.weighted else None
        return Part(frozenset(members), mean[None], told)

    def truth(self, u: ClientId, *, tapped: bool) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Images and labels that are in what was seen of client u. tapped: of its first step alone."""
        x, y = self.layout.examples(u)
        of = self.first[u][1] if tapped else self.taken[u]
        return cast(NDArray[np.float32], x[of]), y[of]

    def truth_of(self, part: Part, *, tapped: bool) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The same of all members of a part."""
        own = [self.truth(u, tapped=tapped) for u in sorted(part.members)]
        return np.concatenate([x for x, _ in own]), np.concatenate([y for _, y in own])


def weight_in(config: RunConfig, layout: Layout, u: ClientId) -> float:
    """What client u's update weighs in a sum: its examples, or where no weights are summed 1."""
    return float(len(layout.shares[u])) if config.weighted else 1.0


class Ear:
    """Hears what clients train: the truth."""

    def __init__(
        self,
        uploads: Mapping[ClientId, Vector] = MappingProxyType({}),
        taken: Mapping[ClientId, list[NDArray[np.int64]]] = MappingProxyType({}),
    ) -> None:
        self.uploads = dict(uploads)
        self.taken = dict(taken)
        self.first: dict[ClientId, tuple[Vector, NDArray[np.int64]]] = {}

    def step(self, u: int, step: int, examples: NDArray[np.int64], gradients: Gradients) -> None:
        if step == 0:
            along = gradients.along.detach().cpu().numpy().astype(np.float64)
            self.first[u] = along, examples.copy()
            self.taken[u] = []
        self.taken[u].append(examples.copy())

    def upload(self, u: int, upload: NDArray[np.floating]) -> None:
        self.uploads[u] = upload.astype(np.float64)

    def forget(self) -> None:
        """For another round, which may be of others."""
        for each in (self.uploads, self.taken, self.first):
            each.clear()


class _Looking(Recorder):
    """Records the server, and looks into the relays, whose secrets are theirs: the last session counts."""

    def __init__(self, wanted: Callable[[bytes], bool]) -> None:
        super().__init__([None], wanted)
        self.opened: dict[int, Mapping[ClientId, VectorShare | SeedShare]] = {}

    def client(self, u: ClientId, session: ClientSession) -> ClientSession:
        j = relay_of(u)
        return session if j is None else _Opened(session, partial(self.opened.__setitem__, j))


class _Opened(RecordedClient):
    """A relay that is looked at between opening the shares and adding them up."""

    def __init__(self, session: ClientSession, opened: Callable[[Mapping[ClientId, Any]], None]) -> None:
        super().__init__(session)
        self._opened = opened

    def receive(self, message: Raw) -> bytes | None:
        reply = super().receive(message)
        state = cast(SplitRelay, self._session)._state
        if isinstance(state, AwaitingMembers):
            self._opened({u: usable.share for u, usable in state.shares.items()})
        return reply


def record(
    config: RunConfig,
    layout: Layout,
    secrets: RunSecrets,
    rounds: int = 1,
    *,
    first: NDArray[np.float32] | None = None,
) -> Round:
    """Run it to its last round, which is recorded, and so many in all, the others as its `earlier`. first:
    parameters that the server begins with, None for weights that are drawn from the seed.
    """
    last, tasks = config.training.rounds, list[bytes]()

    def wanted(task: bytes) -> bool:
        if msgspec.msgpack.decode(task, type=Instructions).round <= last - rounds:
            return False
        tasks.append(task)
        return True

    recorder, ear = _Looking(wanted), Ear()
    server = simulated(config, layout, secrets=secrets, tap=ear, instrument=recorder, evaluate_every=last)
    if first is not None:
        server.model = GlobalModel(first, config.server.step)
    recorded, before = list[Round](), server.model.broadcast
    for _ in server.rounds():
        after = model_of(server)
        if tasks:
            recorded.append(
                Round.of(
                    config,
                    layout,
                    secrets,
                    server.scheme,
                    views.of_server(server.scheme, recorder.servers[-1]),
                    tasks[-1],
                    before,
                    ear,
                    after=after.astype(np.float64),
                    opened=dict(recorder.opened),
                )
            )
        before = after
        ear.forget()
    return replace(recorded[-1], earlier=tuple(recorded[:-1]))


def model_of(server: Server) -> NDArray[np.float32]:
    """Where the clients keep it, theirs."""
    cohort = cast(SimulatedCohort, server.cohort)
    return server.model.broadcast if cohort.held is None else cohort.held.model.broadcast
