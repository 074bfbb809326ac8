"""A secure aggregator for federated learning: the server learns the sum of its clients' vectors."""

from secagg.encoding import Bounded, Clipping, Counts, Weight
from secagg.errors import LocalProtocolError, RemoteProtocolError, SecAggError, TooFewClients
from secagg.masking import Masking
from secagg.plain import Plain
from secagg.policy import Policy
from secagg.record import Recorded, ServerView
from secagg.session import Aggregate, ClientSession, Scheme, ServerSession, run

__all__ = [
    "Aggregate",
    "Bounded",
    "ClientSession",
    "Clipping",
    "Counts",
    "LocalProtocolError",
    "Masking",
    "Plain",
    "Policy",
    "Recorded",
    "RemoteProtocolError",
    "Scheme",
    "SecAggError",
    "ServerSession",
    "ServerView",
    "TooFewClients",
    "Weight",
    "run",
]
