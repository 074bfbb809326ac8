"""A secure aggregator for federated learning: the server learns the sum of its clients' vectors."""

from secagg.aggregate import Aggregate
from secagg.averaging import Averaged, average
from secagg.ckks import CKKS
from secagg.decoys import Among, Decoys
from secagg.encoding import Clipping
from secagg.errors import LocalProtocolError, RelayLost, RemoteProtocolError, SecAggError, TooFewClients
from secagg.identity import Identity, Roster, throwaway_identities
from secagg.in_process import run
from secagg.ledger import Ledger, LedgerReport
from secagg.masking import Masking
from secagg.names import Names
from secagg.plain import Plain
from secagg.policy import Policy
from secagg.record import Recorded, ServerView, Tampered
from secagg.schemes import accept
from secagg.session import ClientSession, Scheme, ServerSession
from secagg.specs import Bounded, Counts, Private, Weight
from secagg.split import Split
from secagg.tree import Tree

__all__ = [
    "CKKS",
    "Aggregate",
    "Among",
    "Averaged",
    "Bounded",
    "ClientSession",
    "Clipping",
    "Counts",
    "Decoys",
    "Identity",
    "Ledger",
    "LedgerReport",
    "LocalProtocolError",
    "Masking",
    "Names",
    "Plain",
    "Policy",
    "Private",
    "Recorded",
    "RelayLost",
    "RemoteProtocolError",
    "Roster",
    "Scheme",
    "SecAggError",
    "ServerSession",
    "ServerView",
    "Split",
    "Tampered",
    "TooFewClients",
    "Tree",
    "Weight",
    "accept",
    "average",
    "run",
    "throwaway_identities",
]
