"""What a session's messages weighed: of one client by round, beside the formula; of the relays; of keys and
ciphertexts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from fl.cli.output import Output
from fl.cli.report import size
from secagg import CKKS, Aggregate, Masking, RemoteProtocolError, Scheme, Split
from secagg.ckks.messages import ADVERTISE_KEYS, DECRYPT, INPUT, SHARE_KEYS
from secagg.masking.messages import traffic
from secagg.split.messages import traffic_of_client, traffic_of_relay
from transport import RoundReport

Formula = Mapping[str, tuple[int, int]]
"""Round -> bytes up and down."""


def show_bytes(
    out: Output,
    scheme: Scheme,
    u: int,
    length: int,
    total: Aggregate,
    reports: Sequence[RoundReport],
    dealt_to: Collection[int],
) -> None:
    """Bytes by round of one client that was there to the end, beside the formula; and per coordinate.
    dealt_to: whom it dealt shares, in a session of masking.

    Raises: RemoteProtocolError where the formula says otherwise.
    """
    alive = {report.round: report.of_clients.alive for report in reports}
    formula: Formula = {}
    if isinstance(scheme, Masking):
        U1, U2, U4 = alive["advertise-keys"], alive["share-keys"], alive.get("consistency-check")
        holders = None if scheme.complete else set(dealt_to)
        formula = traffic(scheme, 0, u, U1, U2, total.survivors, U4, holders)
    elif isinstance(scheme, Split):
        formula = traffic_of_client(scheme, scheme.relays, 0, u, signed=scheme.adversary == "active")
    rows = _rows(u, [report.of_clients for report in reports], formula)
    out.say()
    out.table(rows, ("round", "bytes up", "bytes down", "by the formula"), f"traffic of client {u}")
    sent = sum(report.up.get(u, 0) for report in reports)
    out.say(
        f"client {u} sent {size(sent)} in all, {8 * sent / length:.2f} bits a coordinate; {scheme.against}"
    )
    out.record({"client": u, "bytes_up": sent, "bits_per_coordinate": 8 * sent / length})
    if isinstance(scheme, Split):
        _show_relays(out, scheme, alive, total, reports)
    if isinstance(scheme, CKKS):
        _show_ckks(out, reports)


def _rows(who: int, reports: Sequence[RoundReport], formula: Formula) -> list[tuple[object, ...]]:
    """Of each round in which this party had something to say. Raises: as `show_bytes`."""
    rows: list[tuple[object, ...]] = []
    for report in reports:
        if who not in report.up:
            continue
        up, down = report.up[who], report.down.get(who, 0)
        due = formula.get(report.round)
        rows.append((report.round, up, down, f"{due[0]} / {due[1]}" if due else ""))
        if due and due != (up, down):
            raise RemoteProtocolError(f"{report.round}: {up} and {down} bytes, the formula says {due}")
    return rows


def _show_relays(
    out: Output,
    scheme: Split,
    alive: Mapping[str, Collection[int]],
    total: Aggregate,
    reports: Sequence[RoundReport],
) -> None:
    """Bytes of each relay by round, and how long the rounds of relays alone took. Raises: as `show_bytes`."""
    of_relays = [report.of_relays for report in reports]
    arrived, signed = alive[scheme.upload_round], scheme.adversary == "active"
    for j in range(scheme.relays):
        sets = arrived, total.survivors
        formula = traffic_of_relay(scheme, scheme.relays, j, *sets, signed=signed)
        rows = _rows(j, of_relays, formula)
        out.say()
        out.table(rows, ("round", "bytes up", "bytes down", "by the formula"), f"traffic of relay {j}")
    up = sum(sum(report.up.values()) for report in of_relays)
    down = sum(sum(report.down.values()) for report in of_relays)
    seconds = sum(report.seconds for report in reports if not report.of_clients.up)
    out.say(
        f"the relays sent {size(up)} and were sent {size(down)} in all; rounds of theirs alone took "
        f"{seconds * 1000:.0f} ms"
    )
    out.record({"relay_bytes_up": up, "relay_bytes_down": down, "relay_seconds": seconds})


def _show_ckks(out: Output, reports: Sequence[RoundReport]) -> None:
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
