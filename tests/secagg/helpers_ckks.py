"""What the tests of CKKS share: polynomials by their coefficients, and a session that can be played again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg import RemoteProtocolError
from secagg.ckks import CKKS
from secagg.ckks.messages import Ciphertexts
from secagg.ckks.packing import unpack_residues
from secagg.ckks.ring import Ring
from secagg.errors import TooFewClients
from secagg.wire import decode
from tests.play import TASK, identities, rounding_seed, seeded

Coefficients = NDArray[Any]  # (N,) Python integers, or floats
Residues = NDArray[np.uint64]

# Polynomials modulo X^N + 1. In SEAL's order residue i is the value at psi^(2 bitrev(i) + 1).


@lru_cache
def least_root(ring: Ring, which: int) -> int:
    """psi: of the primitive 2N-th roots of unity modulo a prime the least, as SEAL takes it."""
    q, order = ring.primes[which], 2 * ring.degree
    root = next(r for g in range(2, q) if pow(r := pow(g, (q - 1) // order, q), order // 2, q) == q - 1)
    return min(pow(root, odd, q) for odd in range(1, order, 2))


def residues_of(ring: Ring, coefficients: Coefficients, which: int = 0) -> Residues:
    """(N,) integers -> (N,) residues modulo a prime. From modulo X^2h - r^2 to X^h - r and X^h + r."""
    q, psi, exponents = ring.primes[which], least_root(ring, which), [ring.degree]
    blocks = np.array([int(c) % q for c in coefficients], object)[None]
    while blocks.shape[1] > 1:
        low, high = np.hsplit(blocks, 2)
        roots = np.array([[pow(psi, e // 2, q)] for e in exponents], object)
        blocks = np.stack([low + roots * high, low - roots * high], 1).reshape(-1, low.shape[1]) % q
        exponents = [e // 2 + half for e in exponents for half in (0, ring.degree)]
    return blocks.ravel().astype(np.uint64)


def coefficients_of(ring: Ring, residues: Residues, which: int = 0) -> Coefficients:
    """The way back: (N,) residues modulo a prime -> (N,) integers in -q/2..q/2."""
    q, psi = ring.primes[which], least_root(ring, which)
    levels = [[ring.degree]]
    while len(levels[-1]) < ring.degree // 2:
        levels.append([e // 2 + half for e in levels[-1] for half in (0, ring.degree)])
    blocks = residues.astype(object)[:, None]
    for exponents in reversed(levels):
        plus, minus = blocks[0::2], blocks[1::2]
        inverse = np.array([[pow(2 * pow(psi, e // 2, q), -1, q)] for e in exponents], object)
        blocks = np.hstack([(plus + minus) * pow(2, -1, q), (plus - minus) * inverse]) % q
    centred = blocks.ravel()
    return np.where(centred > q // 2, centred - q, centred)


def polynomial(ring: Ring, slots: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) slots, as `Keys.decrypt` gives them -> (N,) coefficients of the polynomial they are values of.

    SEAL's slot j is the value at zeta^e, zeta = exp(i pi / N), e = 3^j modulo 2N. The first half is the real
    parts; the second those of the values by zeta^(e N/2), a power of i.
    """
    N = ring.degree
    exponents = np.array(_exponents(N))
    points = slots[: N // 2] + 1j * slots[N // 2 :] * np.where(exponents % 4 == 1, 1, -1)
    values = np.empty(N, complex)  # at zeta^(2t + 1)
    values[exponents // 2] = points
    values[(2 * N - exponents) // 2] = points.conj()
    coefficients = np.fft.fft(values) / N * np.exp(-1j * math.pi * np.arange(N) / N)
    return coefficients.real


def slots_of(ring: Ring, coefficients: Coefficients) -> NDArray[np.float64]:
    """The way back: (N,) coefficients -> (N,) slots."""
    N, exponents = ring.degree, np.array(_exponents(ring.degree))
    values = np.fft.ifft(coefficients * np.exp(1j * math.pi * np.arange(N) / N)) * N  # at zeta^(2t + 1)
    points = values[exponents // 2]
    return np.concatenate([points.real, points.imag * np.where(exponents % 4 == 1, 1, -1)])


def slots_of_power(ring: Ring, k: int) -> NDArray[np.float64]:
    """(N,) slots of X^k."""
    exponents = np.array(_exponents(ring.degree))
    points = np.exp(1j * math.pi * (exponents * k % (2 * ring.degree)) / ring.degree)
    return np.concatenate([points.real, points.imag * np.where(exponents % 4 == 1, 1, -1)])


@lru_cache
def _exponents(N: int) -> list[int]:
    return [pow(3, j, 2 * N) for j in range(N // 2)]


def secret_coefficients(ring: Ring, keys: Any) -> Coefficients:
    """Of a session's secret key: N of -1, 0, 1."""
    return coefficients_of(ring, keys.secret()[0])


def keys_of(client: Any) -> Any:
    """The CKKS key that a client holds once it has encrypted."""
    return client._state.key.keys


def uploaded(scheme: CKKS, upload: bytes) -> Residues:
    """(c, 2, L, N) residues of what a client uploads."""
    plan = scheme.plan
    return unpack_residues(plan.ring, plan.ciphertexts, decode(Ciphertexts, upload).residues)


# The same session again and again, one message in it another


class Again:
    """A client that can be asked again, in the state it was in: a real one, whose state is put back.

    What it answered to the same messages before, it answers again.
    """

    _HELD = ("_state", "_encoded", "_rounding_seed", "done", "result")

    def __init__(self, client: Any) -> None:
        self._client = client
        self._known: dict[tuple[bytes, ...], Any] = {(): (client.start(), self._held())}

    def _held(self) -> dict[str, Any]:
        return {name: getattr(self._client, name) for name in self._HELD}

    def answer(self, heard: tuple[bytes, ...]) -> bytes:
        """To the last of all messages it heard. Raises: what the client raises."""
        return self._after(heard)[0]

    def result(self, heard: tuple[bytes, ...]) -> Any:
        return self._after(heard)[1]["result"]

    def state(self, heard: tuple[bytes, ...]) -> Any:
        return self._after(heard)[1]["_state"]

    def _after(self, heard: tuple[bytes, ...]) -> Any:
        if heard not in self._known:
            for name, value in self._after(heard[:-1])[1].items():
                setattr(self._client, name, value)
            try:
                self._known[heard] = (self._client.receive(heard[-1]), self._held())
            except RemoteProtocolError as refusal:
                self._known[heard] = refusal
        known = self._known[heard]
        if isinstance(known, RemoteProtocolError):
            raise known
        return known


@dataclass
class Outcome:
    """Of one session. named: culprits of what the server refused. refusals: by clients. too_few: the end."""

    server: Any
    heard: dict[int, tuple[bytes, ...]]
    said: dict[tuple[str, int], bytes] = field(default_factory=dict)
    named: list[frozenset[int]] = field(default_factory=list)
    refusals: dict[int, RemoteProtocolError] = field(default_factory=dict)
    too_few: bool = False


class Sessions:
    """Sessions of the same clients, alike to the last byte until one message is another."""

    def __init__(self, scheme: CKKS, inputs: Mapping[int, Any]) -> None:
        self.scheme, self.inputs = scheme, inputs
        self.roster, self.identities = identities(inputs)
        self.clients = {
            u: Again(
                scheme.client(
                    u,
                    lambda task, x=x: x,
                    rounding_seed=rounding_seed(u),
                    identity=self.identities[u],
                    rng=seeded(100 + u),
                )
            )
            for u, x in inputs.items()
        }
        self.honest = self.play()

    def play(
        self, answer: tuple[str, int, bytes] | None = None, request: tuple[str, int, bytes] | None = None
    ) -> Outcome:
        """A whole session. answer: (round, u, what the server hears from u instead); request: (round, u, what
        u hears from the server instead).

        Raises: whatever is neither a refusal of received bytes nor too few clients.
        """
        server = self.scheme.server(self.inputs, TASK, roster=self.roster, rng=seeded(7))
        out = Outcome(server, dict.fromkeys(self.clients, ()))
        while server.result is None:
            # Who lies speaks last: it has heard whatever it can hear.
            for u in sorted(server.waiting_for, key=lambda u: (answer is not None and u == answer[1], u)):
                self._answer(out, u, answer)
            try:
                requests = server.advance()
            except TooFewClients:
                out.too_few = True
                break
            for u, told in requests.items():
                changed = request is not None and request[:2] == (server.round, u)
                out.heard[u] = (*out.heard[u], request[2] if request and changed else told)
        return out

    def _answer(self, out: Outcome, u: int, instead: tuple[str, int, bytes] | None) -> None:
        if u in out.refusals:
            return
        try:
            said = self.clients[u].answer(out.heard[u])
        except RemoteProtocolError as refusal:
            out.refusals[u] = refusal
            return
        if instead is not None and instead[:2] == (out.server.round, u):
            said = instead[2]
        out.said[out.server.round, u] = said
        try:
            out.server.receive(u, said)
        except RemoteProtocolError as refusal:
            out.named.append(refusal.culprits)
