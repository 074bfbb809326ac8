"""Sessions over a network: ZeroMQ with CURVE, one server and the clients of a roster."""

from transport.client import Contribution, Peer, join
from transport.errors import TransportError
from transport.exchange import RoundReport
from transport.server import Cohort, serve, usual_deadlines

__all__ = [
    "Cohort",
    "Contribution",
    "Peer",
    "RoundReport",
    "TransportError",
    "join",
    "serve",
    "usual_deadlines",
]
