"""A whole session in this process: its server, clients and relays, and what they say to each other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from secagg.aggregate import Aggregate
from secagg.alike import Alike
from secagg.crypto import Rng, system_rng
from secagg.encoding import Clipping
from secagg.errors import ClientId, LocalProtocolError
from secagg.identity import Identity, party
from secagg.parallel import Executor
from secagg.session import ClientSession, Contribute, Scheme, ServerSession, relays_of
from secagg.specs import Vector
from secagg.tagged import Tagged

Drops = Mapping[str, Collection[ClientId]]


def run(
    scheme: Scheme,
    inputs: Mapping[ClientId, Mapping[str, Vector] | Vector | Contribute],
    *,
    task: bytes = b"",
    drop: Drops | None = None,
    rounding_seeds: Mapping[ClientId, bytes] | None = None,
    identities: Mapping[ClientId, Identity] | None = None,
    alike: Mapping[ClientId | None, Alike] | None = None,
    tagged: Mapping[int, Tagged] | None = None,
    instrument: Callable[[ServerSession], ServerSession] = lambda server: server,
    listen: Callable[[ClientId, ClientSession], ClientSession] = lambda u, client: client,
    told: Callable[[ClientId, Mapping[str, Clipping]], None] = lambda u, clipping: None,
    executor: Executor | None = None,
    parts: bool = False,
    rng: Rng = system_rng,
) -> Aggregate:
    """One session with all its clients, and relays, in this process; its sum: the server's, or where the
    clients keep it one client's.

    scheme: for as many clients as there are inputs. inputs: id -> vectors, or a function of the task that
    gives them. task: opaque bytes, which those functions get. drop: round -> ids never heard from again from
    that round on, relays by those under which they take part (`wire.relay_party`). rounding_seeds: id -> 32
    secret bytes, which make that client's rounding, and nothing else, repeatable. identities: id -> identity,
    for an active adversary (the server holds the same roster). alike: id -> the rule of that client for
    sessions that come out alike; None -> the server's. tagged: j -> that of relay j. instrument, listen: wrap
    the server's side, and each client's (see record.py). told: in the end, of each client, what encoding
    changed in its vectors. executor: of threads or processes, in which the server unmasks. parts: as in
    `Scheme.server`. rng: of all parties' keys, nonces and noise.

    Raises: TooFewClients where more are lost than the session can lose; LocalProtocolError for vectors that
    are not as the scheme says, and for rounds and ids that it has not; RemoteProtocolError where what
    `instrument` or `listen` put around a party breaks the protocol.
    """
    gone = _check_drops(scheme, inputs, drop or {})
    rules = alike or {}
    roster = next((identity.roster for identity in (identities or {}).values()), None)
    server = instrument(
        scheme.server(
            inputs.keys(),
            task,
            roster=roster,
            executor=executor,
            alike=rules.get(None),
            parts=parts,
            rng=rng,
        )
    )
    clients = {
        u: listen(
            u,
            scheme.client(
                u,
                value if callable(value) else _constant(value),
                rounding_seed=(rounding_seeds or {}).get(u),
                identity=(identities or {}).get(u),
                alike=rules.get(u),
                rng=rng,
            ),
        )
        for u, value in inputs.items()
    }
    relays = {
        r: listen(
            r, scheme.relay(j, identity=(identities or {}).get(r), tagged=(tagged or {}).get(j), rng=rng)
        )
        for j, r in enumerate(relays_of(scheme))
    }
    total = _drive(server, clients | relays, gone)
    for u, client in clients.items():
        told(u, client.clipping)
    return next((client.result for client in clients.values() if client.result), total)


def _drive(
    server: ServerSession,
    clients: Mapping[ClientId, ClientSession],
    gone: Mapping[str, Collection[ClientId]],
) -> Aggregate:
    """Every round in turn, to the server's result."""
    outbox = {u: client.start() for u, client in clients.items()}
    lost: set[ClientId] = set()
    while server.result is None:
        # Before the round's answers, which they do not give; who is lost once is never heard from again.
        lost |= set(gone.get(server.round, ()))
        for u, message in outbox.items():
            if u not in lost:
                server.receive(u, message)
        requests = server.advance()
        replies = {u: clients[u].receive(m) for u, m in requests.items() if u not in lost}
        outbox = {u: reply for u, reply in replies.items() if reply is not None}
    return server.result


def _constant(value: Mapping[str, Vector] | Vector) -> Contribute:
    return lambda task: value


def _check_drops(scheme: Scheme, cohort: Collection[ClientId], drop: Drops) -> dict[str, set[ClientId]]:
    for name, ids in drop.items():
        if name not in scheme.rounds:
            raise LocalProtocolError(f"no round {name!r}; the rounds are {', '.join(scheme.rounds)}")
        if unknown := set(ids) - set(cohort) - set(relays_of(scheme)):
            raise LocalProtocolError(f"{party(min(unknown))} cannot be dropped: it is not in the cohort")
    return {name: set(ids) for name, ids in drop.items()}
