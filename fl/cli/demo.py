"""`secagg demo`: one secure sum, told round by round. Every client is a process with a vector of its own,
and so is every relay, without one.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import transport
from fl.cli import relay
from fl.cli.display import session_status, shown
from fl.cli.drops import Drop, Killer, parse
from fl.cli.join import joined, party_names
from fl.cli.output import Output
from fl.cli.report import round_fields, round_line, warn
from fl.cli.traffic import show_bytes
from fl.config.protection import Protection, check_installed
from fl.config.section import ConfigError
from secagg import (
    CKKS,
    Aggregate,
    Among,
    Bounded,
    Decoys,
    Masking,
    RemoteProtocolError,
    Roster,
    Scheme,
    Split,
    throwaway_identities,
)
from secagg.bits import add_packed, word_type
from secagg.ckks.messages import Ciphertexts
from secagg.ckks.packing import unpack_residues
from secagg.decoys.messages import Candidates
from secagg.errors import counted
from secagg.inputs import encode_inputs
from secagg.masking.messages import MaskedInput, ShareKeys
from secagg.record import RecordedClient
from secagg.schemes import read_offer
from secagg.split.messages import Shares
from secagg.wire import context_of, decode, relay_of
from transport import RoundReport
from transport.processes import LocalProcesses, lay_out_keys

BOUND = 1.0
SHOWN = 6  # coordinates
SENT = {
    "masking": ("masked", "masked words"),
    "split": ("sealed", "shares"),
    "ckks": ("residues", "ciphertexts"),
    "decoys": ("candidate", "candidates"),
}
"""Scheme -> what a client sends in place of its vector: its column, and in words."""
STORY = {
    "join": "clients report in; the server answers with the task",
    "advertise-keys": "each sends two fresh public keys: for sealing shares, and for masks",
    "share-keys": "each deals shares of its mask key and of its own mask's seed, sealed for each holder",
    "consistency-check": "each signs who has survived, with everything it was shown before",
    "masked-input": "each sends its words plus its own mask, plus or minus one mask for every neighbour",
    "unmasking": "of the survivors' own masks, and of the vanished ones' keys, the server gets shares",
    "input": "each sends its vector, for the server to read",
}
STORY_OF_CKKS = STORY | {
    "advertise-keys": "each sends a fresh public key, under which the session's key can be sealed for it",
    "share-keys": "the first three each make a secret key for the session, sealed for every other client",
    "input": "each opens the first of these that came, and sends its vector encrypted under it",
    "decrypt": "the server has added the ciphertexts; three clients decrypt the sum, flood it and release it",
}
STORY_OF_KEEP = STORY_OF_CKKS | {
    "decrypt": "the server has added the ciphertexts; each client decrypts the sum, the server never does",
}
STORY_OF_SPLIT = STORY | {
    "join": "clients and relays report in; the server answers the relays first",
    "relay-keys": "each relay sends a fresh public key, signed, which it forgets when the session is over",
    "shares": "each client cuts its words into a share for each relay, seals them and sends all at once",
    "deliver": "each relay opens the shares that are sealed for it, and says whose it cannot use",
    "columns": "each relay adds its shares, all of the same clients; the server adds what they send",
}
STORY_OF_DECOYS = STORY_OF_KEEP | {
    "input": "each sends its vector among others in the clear, and encrypted under that key which one it is",
    "decrypt": "the server has added what was chosen; each client decrypts the sum, the server never does",
}
COLUMNS = {
    "input": "its input",
    "words": "words in the ring",
    "masked": "masked words, as sent",
    "sealed": "words of its sealed share, as sent",
    "residues": "residues of its ciphertexts, as sent",
    "candidate": "its first candidate, as sent",
}


@dataclass(frozen=True)
class Demo:
    """What `secagg demo` was asked for."""

    clients: int
    length: int
    bits: int
    drop: tuple[str, ...]
    seed: int
    show: int
    protection: Protection
    deadline: float | None

    @property
    def scheme(self) -> str:
        return self.protection.scheme

    @property
    def exact(self) -> bool:
        """Whether what is summed are words of the ring."""
        return self.scheme in ("masking", "split") or self.protection.kept

    @property
    def story(self) -> Mapping[str, str]:
        if self.scheme == "decoys":
            return STORY_OF_DECOYS
        if self.scheme != "ckks":
            return STORY_OF_SPLIT if self.scheme == "split" else STORY
        return STORY_OF_KEEP if self.protection.kept else STORY_OF_CKKS

    def for_cohort(self, roster: Roster) -> Scheme:
        spec = Bounded(length=self.length, bound=BOUND, bits=self.bits)
        return self.protection.for_cohort(self.clients, {"": spec}, roster)


def run(out: Output, demo: Demo) -> None:
    """Sum once, tell it, and check it.

    Raises: TooFewClients; ConfigError; RemoteProtocolError if the sum is not the survivors'.
    """
    scheme, drops = described(demo)
    check_installed({demo.scheme})
    out.unsafe_groups = demo.protection.unsafe_groups
    warn(out, demo.protection)
    out.say(scheme.explain())
    out.say()
    with tempfile.TemporaryDirectory(prefix="secagg-demo-") as folder:
        server, parties = lay_out_keys(Path(folder) / "parties", demo.clients, scheme.relays)
        clients = parties[: demo.clients]
        scheme, total, reports = summed(out, demo, server, parties, drops)
        if demo.protection.kept:
            total = kept(scheme, total.survivors, [clients[u] for u in sorted(reports[-1].alive)])
        verify(out, demo, scheme, total, clients)
        if demo.scheme != "plain":
            show_words(out, demo, clients[demo.show])
        last = reports[-1].of_clients.alive or total.survivors  # relays may have the last word
        u = demo.show if demo.show in last else min(last)
        dealt = clients[u] / "dealt-to.npy"
        dealt_to = np.load(dealt).tolist() if dealt.exists() else ()
        show_bytes(out, scheme, u, demo.length, total, reports, dealt_to)


def described(demo: Demo) -> tuple[Scheme, dict[int, Drop]]:
    """The session, as it will be but for the roster, and who is lost in it. Raises: ConfigError,
    LocalProtocolError for what cannot be.
    """
    stand_in, _ = throwaway_identities((), relays=demo.protection.relay_count)
    scheme = demo.for_cohort(stand_in)
    drops = parse(demo.drop, demo.clients, scheme)
    if any(drop.training_round != 1 for drop in drops.values()):
        raise ConfigError("--drop: a demo has one session, so no training round can be named")
    if demo.deadline is not None and not 0 < demo.deadline < 1e9:
        raise ConfigError(f"--deadline {demo.deadline:g}: a number of seconds above 0")
    if not 0 <= demo.show < demo.clients:
        raise ConfigError(f"--show {demo.show}: the clients are 0 to {demo.clients - 1}")
    return scheme, drops


def summed(
    out: Output, demo: Demo, server: Path, parties: list[Path], drops: Mapping[int, Drop]
) -> tuple[Scheme, Aggregate, list[RoundReport]]:
    """One session over processes, told as it goes. parties: folders of the clients, then of the relays."""
    relays = len(parties) - demo.clients
    names, files = party_names(demo.clients, relays), (server / "server.key", server / "roster")
    serving, served = Pipe(duplex=False)  # at its end, no client waits for the server any more
    with (
        # `processes` is there by the time it is looked at: no client is missed before a session begins.
        transport.serve("tcp://127.0.0.1:*", *files, lives=lambda: living(processes, names)) as cohort,
        serving,
        served,
        LocalProcesses() as processes,
    ):
        scheme = demo.for_cohort(cohort.roster.identities)
        each = "one a client and one a relay" if relays else "one a client"
        out.say(f"starting {counted(len(parties), 'process', 'processes')}, {each}")
        for (name, u), own in zip(names.items(), parties, strict=True):
            args = (own, cohort.endpoint, serving, drops.get(u))
            if relay_of(u) is None:
                processes.start(name, client_process, out.debug, demo, scheme.offer(), *args)
            else:
                processes.start(name, relay_process, out.debug, demo, *args)
        reports: list[RoundReport] = []

        def watch(report: RoundReport) -> None:
            reports.append(report)
            tell(out, demo, report)

        deadlines = {} if demo.deadline is None else dict.fromkeys(scheme.rounds, demo.deadline)
        with shown(out, session_status(cohort.in_round)):
            total = cohort.aggregate(scheme, deadlines=deadlines, watch=watch)
        cohort.close()
        served.close()
        processes.wait(demo.deadline)  # for clients to leave what is checked
    return scheme, total, reports


def living(processes: LocalProcesses, names: Mapping[str, int]) -> frozenset[int]:
    """Parties whose process has not ended."""
    return frozenset(names[name] for name, code in processes.exit_codes.items() if code is None)


def tell(out: Output, demo: Demo, report: RoundReport) -> None:
    out.say(f"{report.round}: {demo.story[report.round]}")
    out.say(round_line(report))
    out.record(round_fields(report))


def own_vector(demo: Demo, u: int) -> NDArray[np.float32]:
    """Client u's secret: uniform in [-1, 1]."""
    return np.random.default_rng([demo.seed, u]).uniform(-BOUND, BOUND, demo.length).astype(np.float32)


def client_process(
    debug: bool,
    demo: Demo,
    offer: bytes,
    own: Path,
    endpoint: str,
    serving: Connection,
    drop: Drop | None,
) -> None:
    """Body of a client's process. It leaves its words in its own folder, for the check at the end."""
    with joined(Output(lines=False, debug=debug), own, endpoint, serving, demo.protection.policy()) as peer:
        seed = os.urandom(32)
        x = own_vector(demo, peer.id)
        np.save(own / "input.npy", x)
        scheme = read_offer(offer)
        if demo.exact:  # as the session will encode it: of the same seed, and of its task, which is empty
            words, _ = encode_inputs(scheme, x, context_of(b""), seed)
            np.save(own / "words.npy", words[""])
        recorders: list[RecordedClient] = []

        def record(session: Any) -> RecordedClient:
            recorders.append(RecordedClient(session))
            return recorders[-1]

        # Of the same distribution as the inputs: these decoys nobody can tell from the true vector.
        decoys = scheme.candidates - 1 if isinstance(scheme, Decoys) else 0
        others = np.random.default_rng(list(os.urandom(32))).uniform(-BOUND, BOUND, (decoys, demo.length))
        contribution = peer.contribute(
            lambda task: Among(x, [*others.astype(np.float32)]) if decoys else x,
            rounding_seed=seed,
            progress=Killer(drop, peer.flush, round=1).progress,
            instrument=record,
        )
        if contribution is not None and contribution.result is not None:
            np.save(own / "sum.npy", contribution.result.codes[""])
        if demo.scheme != "plain":
            save_said(recorders[0], scheme, own, shown=demo.show == peer.id)


def relay_process(
    debug: bool, demo: Demo, own: Path, endpoint: str, serving: Connection, drop: Drop | None
) -> None:
    """Body of a relay's process."""
    speaks_up = Output(lines=False, debug=debug)
    relay.process(speaks_up, own, endpoint, serving, demo.protection.policy(), drop)


def save_said(recorder: RecordedClient, scheme: Scheme, own: Path, *, shown: bool) -> None:
    """Whom it dealt shares to, and if it is to be shown what it sent instead of its vector, if it did."""
    said = dict(zip(scheme.rounds, recorder.view.sent, strict=False))
    if isinstance(scheme, Masking) and "share-keys" in said:
        np.save(own / "dealt-to.npy", list(decode(ShareKeys, said["share-keys"]).sealed))
    if isinstance(scheme, CKKS) and shown and "input" in said:
        plan, ciphertexts = scheme.plan, decode(Ciphertexts, said["input"])
        residues = unpack_residues(plan.ring, plan.ciphertexts, ciphertexts.residues)
        np.save(own / "residues.npy", residues[0, 0, 0])
    if isinstance(scheme, Split) and shown and len(recorder.view.sent) > 1:
        sealed = decode(Shares, recorder.view.sent[1]).sealed  # it says nothing in the relays' rounds
        whole = max(sealed, key=len)  # the others are seeds
        np.save(own / "sealed.npy", np.frombuffer(whole[: len(whole) // 8 * 8], "<u8"))
    if isinstance(scheme, Decoys) and shown and "input" in said:
        first = next(scheme.plan.unpack(decode(Candidates, said["input"]).vectors))
        np.save(own / "candidate.npy", first.ravel()[: scheme.vectors[""].length])
    if shown and "masked-input" in said:
        message = decode(MaskedInput, said["masked-input"])
        bits = scheme.ring_bits()[""]  # type: ignore[attr-defined]  # of masking
        masked = np.zeros(scheme.vectors[""].length, word_type(bits))
        add_packed(masked, message.packed[0], bits)
        np.save(own / "masked.npy", masked)


def kept(scheme: Scheme, survivors: frozenset[int], clients: list[Path]) -> Aggregate:
    """What each of these clients has decrypted.

    Raises: RemoteProtocolError if it is not the same at all of them.
    """
    first, *others = [np.load(own / "sum.npy") for own in clients]
    if not all(np.array_equal(first, other) for other in others):
        raise RemoteProtocolError("the clients that keep the sum do not all have the same")
    return Aggregate.of_codes(scheme.vectors, survivors, {"": first})


def verify(out: Output, demo: Demo, scheme: Scheme, total: Aggregate, clients: list[Path]) -> None:
    """The server's sum, or that which the clients keep, beside the sum of what the survivors put in.

    Raises: RemoteProtocolError where they differ.
    """
    survivors = sorted(total.survivors)
    if demo.exact:
        clients_of_a_sum = getattr(scheme, "summed", demo.clients)
        ring = np.uint64(2 ** scheme.vectors[""].ring_bits(clients_of_a_sum) - 1)
        expected = np.zeros(demo.length, np.uint64)
        for u in survivors:
            expected += np.load(clients[u] / "words.npy")
        # The sum's codes are centred: in two's complement those below zero are their words of the ring again.
        if not np.array_equal(expected & ring, total.codes[""].view(np.uint64) & ring):
            raise RemoteProtocolError("the sum is not the sum of the survivors' words")
    mean = sum(np.load(clients[u] / "input.npy").astype(np.float64) for u in survivors) / len(survivors)
    worst = float(np.abs(total.mean[""] - mean).max())
    if worst > total.error_bound[""]:
        raise RemoteProtocolError(
            f"the mean is {worst:.2e} off, and its bound is {total.error_bound['']:.2e}"
        )
    out.say()
    out.say(f"survivors: {', '.join(map(str, survivors))}")
    for part in total.parts:
        out.say(f"  a group of them, with a sum of its own: {', '.join(map(str, sorted(part.survivors)))}")
    if demo.exact:
        whose = "the sum that each client keeps" if demo.protection.kept else "the server's sum"
        out.say(
            f"{whose} equals the sum of the words of {counted(len(survivors), 'survivor')} exactly, in "
            "the ring, "
            f"at {counted(demo.length, 'coordinate')}"
        )
    out.say(
        f"the mean is within {worst:.2e} of the mean of their vectors (bound {total.error_bound['']:.2e})"
    )
    out.record(
        {
            "survivors": survivors,
            "exact": demo.exact,
            "largest_error": worst,
            "error_bound": total.error_bound[""],
        }
    )


def show_words(out: Output, demo: Demo, own: Path) -> None:
    """One client's input, and its words in the ring if it has any, beside what it sent in their place."""
    columns = {
        name: np.load(own / f"{name}.npy", mmap_mode="r")[:SHOWN]
        for name in COLUMNS
        if (own / f"{name}.npy").exists()
    }
    out.say()
    rows = [
        (i, *(f"{columns[name][i]:+.6f}" if name == "input" else columns[name][i] for name in columns))
        for i in range(min(SHOWN, demo.length))
    ]
    out.table(rows, ("coordinate", *(COLUMNS[name] for name in columns)), f"client {demo.show}")
    sent, what = SENT[demo.scheme]
    if sent not in columns:
        out.say(f"client {demo.show} sent no {what}: it vanished before")
    out.record({"client": demo.show, **{name: column.tolist() for name, column in columns.items()}})
