"""The unprotected sum: the baseline of every measurement. The server sees every vector.

Same interface, same clipping; numbers travel as float32, integers as 64 bits, weights in the clear.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from secagg.aggregate import Aggregate, weights
from secagg.alike import Alike
from secagg.crypto import Rng, system_rng
from secagg.encoding import real_vector
from secagg.errors import ClientId, LocalProtocolError, RemoteProtocolError, counted
from secagg.identity import Identity, Roster
from secagg.inputs import checked
from secagg.parallel import Executor
from secagg.params import MAX_VECTORS, Parameters, named
from secagg.rounds import RoundServer
from secagg.session import Contribute, Once
from secagg.specs import Bounded, Spec, Vectors, check_vectors, weight_of
from secagg.states import AwaitingTask, Kept, StatefulClient
from secagg.wire import Message, Raw, Task, context_of, decode, decodes, encode

INPUT = "input"
NONCE = bytes(32)  # nothing is bound to it: there are no keys


class Input(Message, frozen=True, tag=INPUT):
    """u -> server: its vectors, in the clear."""

    vectors: Annotated[list[memoryview], msgspec.Meta(max_length=MAX_VECTORS)]


decodes(Input)


class Plain(Parameters, frozen=True, kw_only=True, tag="plain"):
    """The unprotected sum, to compare with: the server sees every client's vector.

    Source: McMahan et al., AISTATS 2017, algorithm 1.
    """

    rounds = every_round = ("join", INPUT)
    training_round = INPUT
    upload_round = INPUT
    finishing_rounds = ()
    opening_round = None
    slow_rounds = (INPUT,)
    against = "NOTHING IS PROTECTED: the server reads every client's vector."
    corrupt = 0

    @classmethod
    def for_cohort(cls, clients: int, vectors: Vectors | Spec, *, small_cohort: bool = False) -> Plain:
        """The scheme for n clients. Raises: LocalProtocolError where no such session is possible."""
        return cls(clients=clients, vectors=named(vectors), small_cohort=small_cohort)

    @property
    def upload_bytes(self) -> int:
        return sum(spec.length * np.dtype(_wire_type(spec)).itemsize for spec in self.vectors.values())

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
    ) -> PlainClient:
        return PlainClient(self, u, vectors, once=once)

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
    ) -> PlainServer:
        return PlainServer(self, cohort, task, parts=parts)

    def explain(self) -> str:
        return "\n".join(
            [
                f"plain, {counted(self.clients, 'client')}: NOTHING IS PROTECTED, the server reads "
                "every vector",
                *self.describe_vectors(),
            ]
        )


def _wire_type(spec: Spec) -> str:
    return "<f4" if isinstance(spec, Bounded) else "<i8"


class PlainClient(StatefulClient):
    """once: as of a client of any scheme, for who counts what leaves; the vectors need no such protection."""

    _parameters: Plain
    suspendable = True

    def _step(self, state: AwaitingTask, message: Raw) -> bytes:
        task = decode(Task, message)
        self._context = context_of(task.task)
        specs = self._encoding.vectors
        sent = []
        for name, value in checked(self._encoding, self._vectors(task.task)).items():
            x, self.clipping[name] = real_vector(specs[name], value, 1.0)  # the server applies the weight
            sent.append(x.astype(_wire_type(specs[name])))
        self._leaving()
        self.done = True
        return encode(Input([x.view(np.uint8).data for x in sent]))


class _KeptSums(Kept, frozen=True):
    """In the order of the names. apart: of each client; None where nothing is kept apart."""

    sums: list[bytes]
    apart: dict[int, list[bytes]] | None


_kept_sums = msgspec.msgpack.Decoder(_KeptSums)


class PlainServer(RoundServer):
    """parts: keep every client's vectors apart, for `Aggregate.parts`: memory for a cohort, not for a sum."""

    _parameters: Plain
    suspendable = True

    def __init__(
        self, parameters: Plain, cohort: Collection[ClientId], task: bytes, *, parts: bool = False
    ) -> None:
        super().__init__(parameters, cohort, task, NONCE)
        self._sums: dict[str, NDArray[Any]] = {
            name: np.zeros(spec.length, np.float64 if isinstance(spec, Bounded) else np.int64)
            for name, spec in parameters.vectors.items()
        }
        self._apart: dict[ClientId, Mapping[str, NDArray[Any]]] | None = {} if parts else None

    def _kept(self) -> bytes:
        apart = None if self._apart is None else {u: self._raw(own) for u, own in self._apart.items()}
        return msgspec.msgpack.encode(_KeptSums(self._raw(self._sums), apart))

    def _raw(self, sums: Mapping[str, NDArray[Any]]) -> list[bytes]:
        return [x.astype(x.dtype.newbyteorder("<")).tobytes() for _, x in sorted(sums.items())]

    def _restore(self, kept: bytes, alike: Alike | None) -> None:
        state = _kept_sums.decode(kept)
        self._sums = self._of_raw(state.sums)
        self._apart = (
            None if state.apart is None else {u: self._of_raw(own) for u, own in state.apart.items()}
        )

    def _of_raw(self, raw: list[bytes]) -> dict[str, NDArray[Any]]:
        specs = self._parameters.vectors
        return {
            name: np.frombuffer(x, "<f8" if isinstance(specs[name], Bounded) else "<i8").astype(
                self._sums[name].dtype
            )
            for name, x in zip(sorted(specs), raw, strict=True)
        }

    def _take(self, u: ClientId, message: Raw) -> None:
        self._add(u, decode(Input, message))

    def _open(self, closing: str, alive: frozenset[ClientId]) -> dict[ClientId, bytes]:
        parts = tuple(self._aggregate(frozenset({u}), own) for u, own in sorted((self._apart or {}).items()))
        self.result = self._aggregate(alive, self._sums, parts)
        return {}

    def _add(self, u: ClientId, message: Input) -> None:
        specs = self._parameters.vectors
        sizes = [specs[name].length * np.dtype(_wire_type(specs[name])).itemsize for name in sorted(specs)]
        if [len(raw) for raw in message.vectors] != sizes:
            raise RemoteProtocolError("the vectors have other sizes than the session's")
        values = {
            name: np.frombuffer(raw, _wire_type(specs[name]))
            for name, raw in zip(sorted(specs), message.vectors, strict=True)
        }
        try:
            values = check_vectors(specs, values)
        except LocalProtocolError as error:
            raise RemoteProtocolError(str(error)) from None
        for name, x in values.items():
            spec = specs[name]
            # Every client cuts there, so that who is beyond would outweigh all others, and is none of them.
            if isinstance(spec, Bounded) and max(x.max(), -x.min()) > np.float32(spec.bound):
                raise RemoteProtocolError(f"vector {name!r} is beyond its bound of {spec.bound:g}")
        weight, _ = weight_of(specs, values)
        own = {
            name: x.astype(np.float64) * weight if isinstance(specs[name], Bounded) else x
            for name, x in values.items()
        }
        for name, x in own.items():
            self._sums[name] += x
        if self._apart is not None:
            self._apart[u] = own

    def _aggregate(
        self,
        survivors: frozenset[ClientId],
        sums: Mapping[str, NDArray[Any]],
        parts: tuple[Aggregate, ...] = (),
    ) -> Aggregate:
        specs = self._parameters.vectors
        total_weight, _ = weights(specs, survivors, sums)
        bounded: Mapping[str, bool] = {name: isinstance(spec, Bounded) for name, spec in specs.items()}
        return Aggregate(
            survivors,
            {},
            sums,
            {
                name: total / (total_weight if bounded[name] else len(survivors))
                for name, total in sums.items()
            },
            # float32 on the wire: half a unit in the last of its 24 bits.
            {
                name: spec.bound * 2.0**-24 if isinstance(spec, Bounded) else 0.0
                for name, spec in specs.items()
            },
            parts=parts,
        )
