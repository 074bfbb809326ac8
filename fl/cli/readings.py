"""What the server of a run could read of its last rounds, as far as it may be kept; and those rounds with
their truth, which the same steps of their clients give once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from fl.cli.recorded import Ear, Round, Vector, weight_in
from fl.cohort.layout import Layout
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets
from fl.federation.sending import contributions
from fl.federation.task import Instructions, order_of, read_instructions
from fl.federation.vectors import UPDATE
from fl.leakage import views
from fl.leakage.views import Part, View
from fl.privacy.step import asked_for
from fl.training.clients import LocalClients
from fl.training.local import device
from secagg import Aggregate, ClientSession, Decoys, Plain, Scheme, ServerSession
from secagg.errors import ClientId
from secagg.record import Around, ServerView
from secagg.schemes import read_offer
from secagg.wire import Raw

READABLE: Final = (Plain, Decoys)
"""Schemes whose uploads the server can read one by one. Of the others it reads the sum: no upload is kept."""

MOST: Final = 16  # clients whose single updates are attacked


@dataclass(frozen=True)
class Reading:
    """A training round as its server read it. scheme: of its first session. view: of all its sessions, which
    are several with clusters.
    """

    task: bytes = field(repr=False)
    scheme: Scheme
    view: View

    @property
    def round(self) -> int:
        return self._asked.round

    @property
    def brings_model(self) -> bool:
        """Whether the server had the model that the round began with, which clients may keep from it."""
        return bool(self._asked.parameters)

    @property
    def _asked(self) -> Instructions:
        return msgspec.msgpack.decode(self.task, type=Instructions)


@dataclass(frozen=True)
class Record:
    """What was kept of a run. left_out: how many uploads, or sums, of as many rounds were too many
    to be kept. bytes: of what was kept, as it is kept. needed: bytes that hold all of any one round.
    """

    rounds: tuple[Reading, ...]
    left_out: int
    bytes: int
    needed: int


class Readings:
    """An instrument of a run's server. It changes nothing of what is said, and keeps of the last `rounds`
    rounds what can be read of them, `most` bytes at most: of more the oldest rounds are forgotten, and of one
    that is more itself the uploads that come last. Of a round in which nothing could be read nothing is kept.
    """

    @classmethod
    def of(cls, config: RunConfig) -> Readings | None:
        """For a run of this description; None for one without a meter."""
        return cls(config.meter.rounds, config.meter.memory * 10**6) if config.meter.on else None

    def __init__(self, rounds: int, most: int) -> None:
        self._rounds, self._most = rounds, most
        self._kept: list[tuple[bytes, list[_Kept]]] = []
        self._lost: list[int] = []  # what was left out of earlier rounds of which nothing was kept
        self._came, self._needed = 0, 0

    def server(self, task: bytes, session: ServerSession) -> ServerSession:
        if not self._kept or self._kept[-1][0] != task:
            there = [(of, some) for of, some in self._kept if any(one.bytes for one in some)]
            gone = [_left_out(some) for _, some in self._kept if not any(one.bytes for one in some)]
            self._lost = [*self._lost, *filter(None, gone)][-self._rounds :]
            self._came = len(task)
            self._kept = [*there[max(0, len(there) - self._rounds + 1) :], (task, [])]
        kept = _Kept(session, self)
        self._kept[-1][1].append(kept)
        return kept

    def client(self, u: ClientId, session: ClientSession) -> ClientSession:
        return session

    @property
    def bytes(self) -> int:
        return sum(len(task) + sum(one.bytes for one in some) for task, some in self._kept)

    def room_for(self, more: int) -> bool:
        """Whether so many bytes of the last round can be kept besides. Older rounds are forgotten for them,
        but not for what there is no room for without these.
        """
        self._came += more
        self._needed = max(self._needed, self._came)
        task, some = self._kept[-1]
        if len(task) + sum(one.bytes for one in some) + more > self._most:
            return False
        while self.bytes + more > self._most:
            del self._kept[0]
        return True

    def read(self) -> Record:
        """What could be read, round by round in their order; of the last at least why nothing could."""
        rounds = [Reading(task, some[0].scheme, _together(some)) for task, some in self._kept]
        lost = [*self._lost, *filter(None, (_left_out(some) for _, some in self._kept))]
        kept = tuple([one for one in rounds if one.view.parts] or rounds[-1:])
        return Record(kept, sum(lost[-self._rounds :]), self.bytes, self._needed)


class _Kept(Around):
    """A session of which is kept what `views.of_server` looks at: single uploads where they can be read, the
    sum where they cannot."""

    def __init__(self, session: ServerSession, readings: Readings) -> None:
        super().__init__(session)
        self._readings, self.view, self.bytes, self.left_out = readings, ServerView(), 0, 0

    def receive(self, sender: ClientId, message: Raw) -> None:
        if isinstance(self.scheme, READABLE) and self.round == self.scheme.upload_round:
            if self._readings.room_for(len(message)):
                self.view.received.append((self.round, sender, bytes(message)))
                self.bytes += len(message)
            else:
                self.left_out += 1
        super().receive(sender, message)

    def advance(self) -> dict[ClientId, bytes]:
        requests = self._session.advance()
        if self.result is not None and not isinstance(self.scheme, READABLE):
            keeps = getattr(self.scheme, "ending", "release") == "keep"  # and the server has no codes
            size = 0 if keeps else _size(self.result)
            if keeps or self._readings.room_for(size):
                self.view.aggregate, self.bytes = self.result, size
            else:
                self.left_out += 1
        return requests


def _size(total: Aggregate) -> int:
    """Bytes. A sum of real numbers (ckks) has no codes, of which another's are computed at each look. Of
    groups what is looked at are their sums, beside that of all.
    """
    held = [total.codes] if total.codes else [total.sum, total.mean]
    return sum(vector.nbytes for each in held for vector in each.values()) + sum(map(_size, total.parts))


def _left_out(some: Sequence[_Kept]) -> int:
    return sum(one.left_out for one in some)


def _together(some: Sequence[_Kept]) -> View:
    each = [views.of_server(one.scheme, one.view) for one in some]
    parts = tuple(part for view in each for part in view.parts)
    return View(parts, "" if parts else each[-1].why)


# From the server's process to who looks at it


class _Part(msgspec.Struct, array_like=True):
    members: list[int]
    updates: bytes
    number: int
    examples: int | None
    deviation: float


class _Reading(msgspec.Struct, array_like=True):
    task: bytes
    offer: bytes
    why: str
    parts: list[_Part]


def packed(record: Record) -> bytes:
    """As a file holds it."""
    rounds = [_packed(one) for one in record.rounds]
    return msgspec.msgpack.encode((record.left_out, record.bytes, record.needed, rounds))


def _packed(one: Reading) -> _Reading:
    parts = [
        _Part(sorted(part.members), part.updates.tobytes(), len(part.updates), part.examples, part.deviation)
        for part in one.view.parts
    ]
    return _Reading(one.task, one.scheme.offer(), one.view.why, parts)


def unpacked(content: bytes) -> Record:
    """What `packed` made."""
    left_out, size, needed, rounds = msgspec.msgpack.decode(
        content, type=tuple[int, int, int, list[_Reading]]
    )
    read = (
        Reading(one.task, read_offer(one.offer), View(tuple(map(_part, one.parts)), one.why))
        for one in rounds
    )
    return Record(tuple(read), left_out, size, needed)


def _part(one: _Part) -> Part:
    updates = np.frombuffer(one.updates).reshape(one.number, -1)
    return Part(frozenset(one.members), updates, one.examples, one.deviation)


# With the truth


def looked_at(layout: Layout, reading: Reading) -> list[ClientId]:
    """Whose single updates are attacked, of those of whom something was read: as many as MOST, those who hold
    least, of whom most comes out.
    """
    members = frozenset[ClientId]().union(*(part.members for part in reading.view.parts))
    return sorted(sorted(members, key=lambda u: (len(layout.shares[u]), u))[:MOST])


def rebuilt(
    config: RunConfig, layout: Layout, secrets: RunSecrets, readings: Sequence[Reading]
) -> list[Round]:
    """The rounds of which something was read, each with what its clients trained: their steps are taken once
    more, from the model of its task and in the orders of their secrets. Noise of their own, and samples that
    were drawn under fresh coins, nothing keeps: the noise is another, and all that a client holds stands for
    its sample.
    """
    on = device(config.training.device)
    clients = LocalClients(layout.x, layout.y, layout.shares, on, "sequential")
    return [_rebuilt(config, layout, secrets, one, clients) for one in readings if one.view.parts]


def _rebuilt(
    config: RunConfig, layout: Layout, secrets: RunSecrets, one: Reading, clients: LocalClients
) -> Round:
    """Of as many clients at a time as are looked at: the memory is that of their updates, and of the sums."""
    asked, model = read_instructions(one.task)
    looked = looked_at(layout, one)
    parts = [part for part in one.view.parts if len(part.members) > 1]
    means = {part.members: np.zeros(part.updates.shape[1]) for part in parts}
    weight = {u: weight_in(config, layout, u) for members in means for u in members}
    uploads, taken = dict[ClientId, Vector](), dict[ClientId, list[NDArray[np.int64]]]()
    summed = sorted(frozenset(looked).union(*means))
    for some in (summed[i : i + MOST] for i in range(0, len(summed), MOST)):
        heard = Ear()
        orders = {u: order_of(asked, secrets.client(u), one.task) for u in some}
        per_example = asked_for(asked.privacy, asked.plan)
        results = clients.train(model, asked.plan, orders, tap=heard, per_example=per_example, counting=False)
        contributions(asked, model, results, (UPDATE,), tap=heard)
        taken |= heard.taken
        uploads |= {u: upload for u, upload in heard.uploads.items() if u in looked}
        for members, mean in means.items():
            for u in members & heard.uploads.keys():
                mean += heard.uploads[u] * (weight[u] / sum(weight[v] for v in members))
    if (
        asked.privacy is not None
        and asked.privacy.mechanism == "example"
        and asked.plan.sampling == "poisson"
    ):
        taken = {u: [np.arange(len(layout.shares[u]))] for u in taken}
    read = View(
        tuple(part for part in one.view.parts if len(part.members) > 1 or part.members <= set(looked))
    )
    before = np.frombuffer(asked.parameters, "<f4")
    heard = Ear(uploads, taken)
    return Round.of(config, layout, secrets, one.scheme, read, one.task, before, heard, means=means)
