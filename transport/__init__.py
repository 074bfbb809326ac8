"""Sessions over a network: ZeroMQ with CURVE, one server, the clients of a roster, and its relays."""

from transport.client import Contribution, Peer, join
from transport.errors import Refused, TransportError
from transport.exchange import RoundReport, Standing
from transport.line import load_identity
from transport.relay import Relay, Served, join_as_relay
from transport.server import Cohort, serve, usual_deadlines

__all__ = [
    "Cohort",
    "Contribution",
    "Peer",
    "Refused",
    "Relay",
    "RoundReport",
    "Served",
    "Standing",
    "TransportError",
    "join",
    "join_as_relay",
    "load_identity",
    "serve",
    "usual_deadlines",
]
