"""`secagg demo`: one secure sum, told round by round. Every client is a process with a vector of its own."""

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
from fl.cli.display import session_status, shown
from fl.cli.drops import Drop, Killer, parse
from fl.cli.join import joined
from fl.cli.output import Output
from fl.cli.report import round_fields, round_line, size, warn
from fl.config.protection import Protection, check_installed
from fl.config.section import ConfigError
from secagg import CKKS, Aggregate, Bounded, Masking, RemoteProtocolError, Roster, Scheme
from secagg.bits import add_packed, word_type
from secagg.ckks.messages import ADVERTISE_KEYS, DECRYPT, INPUT, SHARE_KEYS, Ciphertexts
from secagg.ckks.packing import unpack_residues
from secagg.crypto import DIGEST_BYTES
from secagg.errors import counted
from secagg.inputs import encode_inputs
from secagg.masking.messages import MaskedInput, ShareKeys, traffic
from secagg.record import RecordedClient
from secagg.schemes import read_offer
from secagg.wire import context_of, decode
from transport import RoundReport
from transport.processes import LocalProcesses, lay_out_keys

BOUND = 1.0
SHOWN = 6  # coordinates
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
COLUMNS = {
    "input": "its input",
    "words": "words in the ring",
    "masked": "masked words, as sent",
    "residues": "residues of its ciphertexts, as sent",
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
        return self.scheme == "masking" or self.protection.kept

    @property
    def story(self) -> Mapping[str, str]:
        if self.scheme != "ckks":
            return STORY
        return STORY_OF_KEEP if self.protection.kept else STORY_OF_CKKS

    def for_cohort(self, roster: Roster) -> Scheme:
        spec = Bounded(length=self.length, bound=BOUND, bits=self.bits)
        return self.protection.for_cohort(self.clients, {"": spec}, roster)


def run(out: Output, demo: Demo) -> None:
    """Sum once, tell it, and check it.

    Raises: TooFewClients; ConfigError; RemoteProtocolError if the sum is not the survivors'.
    """
    scheme = demo.for_cohort(Roster(bytes(DIGEST_BYTES), {}))  # as it will be, but for the roster
    drops = parse(demo.drop, demo.clients, scheme.rounds)
    if any(drop.training_round != 1 for drop in drops.values()):
        raise ConfigError("--drop: a demo has one session, so no training round can be named")
    if demo.deadline is not None and not 0 < demo.deadline < 1e9:
        raise ConfigError(f"--deadline {demo.deadline:g}: a number of seconds above 0")
    if not 0 <= demo.show < demo.clients:
        raise ConfigError(f"--show {demo.show}: the clients are 0 to {demo.clients - 1}")
    check_installed({demo.scheme})
    warn(out, demo.protection)
    out.say(scheme.explain())
    out.say()
    with tempfile.TemporaryDirectory(prefix="secagg-demo-") as folder:
        server, clients = lay_out_keys(Path(folder) / "parties", demo.clients)
        files = server / "server.key", server / "roster"
        serving, served = Pipe(duplex=False)  # at its end, no client waits for the server any more
        with (
            # `processes` is there by the time it is looked at: no client is missed before a session begins.
            transport.serve("tcp://127.0.0.1:*", *files, lives=lambda: living(processes)) as cohort,
            serving,
            served,
            LocalProcesses() as processes,
        ):
            scheme = demo.for_cohort(cohort.roster.identities)
            out.say(f"starting {counted(demo.clients, 'process', 'processes')}, one a client")
            for u, own in enumerate(clients):
                args = (out.debug, demo, scheme.offer(), own, cohort.endpoint, serving, drops.get(u))
                processes.start(f"client {u}", client_process, *args)
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
        if isinstance(scheme, CKKS) and demo.protection.kept:
            total = kept(scheme, total.survivors, [clients[u] for u in sorted(reports[-1].alive)])
        verify(out, demo, scheme, total, clients)
        if demo.scheme != "plain":
            show_words(out, demo, clients[demo.show])
        show_bytes(out, demo, scheme, total, reports, clients)
        if demo.scheme == "ckks":
            show_ckks_bytes(out, reports)


def living(processes: LocalProcesses) -> frozenset[int]:
    """Clients whose process has not ended."""
    codes = processes.exit_codes
    return frozenset(int(name.removeprefix("client ")) for name, code in codes.items() if code is None)


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
    with joined(Output(lines=False, debug=debug), own, endpoint, serving, demo.protection) as peer:
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

        contribution = peer.contribute(
            lambda task: x,
            rounding_seed=seed,
            progress=Killer(drop, peer.flush, round=1).progress,
            instrument=record,
        )
        if contribution is not None and contribution.result is not None:
            np.save(own / "sum.npy", contribution.result.codes[""])
        if demo.scheme != "plain":
            save_said(recorders[0], scheme, own, shown=demo.show == peer.id)


def save_said(recorder: RecordedClient, scheme: Scheme, own: Path, *, shown: bool) -> None:
    """Whom it dealt shares to, and if it is to be shown what it sent instead of its vector, if it did."""
    said = dict(zip(scheme.rounds, recorder.view.sent, strict=False))
    if isinstance(scheme, Masking) and "share-keys" in said:
        np.save(own / "dealt-to.npy", list(decode(ShareKeys, said["share-keys"]).sealed))
    if isinstance(scheme, CKKS) and shown and "input" in said:
        plan, ciphertexts = scheme.plan, decode(Ciphertexts, said["input"])
        residues = unpack_residues(plan.ring, plan.ciphertexts, ciphertexts.residues)
        np.save(own / "residues.npy", residues[0, 0, 0])
    if shown and "masked-input" in said:
        message = decode(MaskedInput, said["masked-input"])
        bits = scheme.vectors[""].ring_bits(scheme.clients)
        masked = np.zeros(scheme.vectors[""].length, word_type(bits))
        add_packed(masked, message.packed[0], bits)
        np.save(own / "masked.npy", masked)


def kept(scheme: CKKS, survivors: frozenset[int], clients: list[Path]) -> Aggregate:
    """What each of these clients has decrypted.

    Raises: RemoteProtocolError if it is not the same at all of them.
    """
    first, *others = [np.load(own / "sum.npy") for own in clients]
    if not all(np.array_equal(first, other) for other in others):
        raise RemoteProtocolError("the clients that keep the sum do not all have the same")
    return scheme.aggregate(survivors, {"": first})


def verify(out: Output, demo: Demo, scheme: Scheme, total: Aggregate, clients: list[Path]) -> None:
    """The server's sum, or that which the clients keep, beside the sum of what the survivors put in.

    Raises: RemoteProtocolError where they differ.
    """
    survivors = sorted(total.survivors)
    if demo.exact:
        ring = np.uint64(2 ** scheme.vectors[""].ring_bits(demo.clients) - 1)
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
    sent, what = ("masked", "masked words") if demo.scheme == "masking" else ("residues", "ciphertexts")
    if sent not in columns:
        out.say(f"client {demo.show} sent no {what}: it vanished before")
    out.record({"client": demo.show, **{name: column.tolist() for name, column in columns.items()}})


def show_bytes(
    out: Output,
    demo: Demo,
    scheme: Scheme,
    total: Aggregate,
    reports: list[RoundReport],
    clients: list[Path],
) -> None:
    """Bytes by round of one surviving client, beside the formula; and per coordinate."""
    alive = {report.round: report.alive for report in reports}
    last = reports[-1].alive
    u = demo.show if demo.show in last else min(last)
    predicted: Mapping[str, tuple[int, int]] = {}
    if isinstance(scheme, Masking):
        U1, U2, U4 = alive["advertise-keys"], alive["share-keys"], alive.get("consistency-check")
        holders = None if scheme.complete else set(np.load(clients[u] / "dealt-to.npy").tolist())
        predicted = traffic(scheme, 0, u, U1, U2, total.survivors, U4, holders)
    rows = []
    for report in reports:
        up, down = report.up[u], report.down.get(u, 0)
        formula = predicted.get(report.round)
        rows.append((report.round, up, down, f"{formula[0]} / {formula[1]}" if formula else ""))
        if formula and formula != (up, down):
            raise RemoteProtocolError(f"{report.round}: {up} and {down} bytes, the formula says {formula}")
    out.say()
    out.table(rows, ("round", "bytes up", "bytes down", "by the formula"), f"traffic of client {u}")
    sent = sum(report.up[u] for report in reports)
    out.say(
        f"client {u} sent {size(sent)} in all, {8 * sent / demo.length:.2f} bits a coordinate; "
        f"{scheme.against}"
    )
    out.record({"client": u, "bytes_up": sent, "bits_per_coordinate": 8 * sent / demo.length})


def show_ckks_bytes(out: Output, reports: list[RoundReport]) -> None:
    """What of the traffic are keys, and what ciphertexts: of all clients, in both directions."""
    up = {report.round: sum(report.up.values()) for report in reports}
    down = {report.round: sum(report.down.values()) for report in reports}
    keys = up[ADVERTISE_KEYS] + down[SHARE_KEYS] + up[SHARE_KEYS] + down[INPUT]
    fields = {
        "key_bytes": keys,
        "ciphertext_bytes": up[INPUT] + down[DECRYPT],
        "released_bytes": up[DECRYPT],
        "message_bytes": sum(up.values()) + sum(down.values()),
        "wire_bytes": sum(report.wire_up + report.wire_down for report in reports),
    }
    key, ciphertext, released, message, wire = map(size, fields.values())
    out.say(
        f"all clients, both ways: keys {key}, ciphertexts {ciphertext}, what they released {released}; "
        f"{message} of messages, {wire} of frames"
    )
    out.record(fields)
