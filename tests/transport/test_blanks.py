"""What a program around a client's session is told and keeps does not follow the client's coin."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loopback import Federation

from secagg import Masking, Policy, Private
from secagg.alike import OWN_INPUT
from secagg.blank import SUMMED, Coin
from transport import Contribution

D = 5000


def test_journal_record_budget_progress_and_outcome_are_the_same_however_the_coin_falls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    scheme = Masking.for_cohort(3, Private(length=D, clip=1.0), blank=0.5)
    one, other = (session(tmp_path / str(summed), monkeypatch, scheme, summed) for summed in (True, False))
    assert one == other
    assert one["summed"]
    assert {"client.key.journal", "client.key.signed"} <= one["files"].keys()
    assert one["order"] == ["accepted", "vectors", "leaving", "left"]
    assert not {"secagg", "transport"} & {record.name.split(".")[0] for record in caplog.records}


def session(folder: Path, monkeypatch: pytest.MonkeyPatch, scheme: Any, summed: bool) -> dict[str, Any]:
    """One session of three clients; all that client 0 is told, and the sizes of what it keeps."""
    federation, policy = Federation(folder, 3), Policy(adversary="semi-honest", blank=0.5, noise=1.0)
    order: list[str] = []
    sent: list[tuple[str, int, int]] = []

    def tossed(blank: float, rng: Any) -> Coin:
        return SUMMED if summed or threading.current_thread() is not thread[0] else Coin(0)

    def vectors(task: bytes) -> Any:
        order.append("vectors")
        return np.full(D, 0.5)

    def client(u: int, endpoint: str) -> Contribution | None:
        with federation.join(u, endpoint, policy) as peer:
            if u:
                return peer.contribute(lambda task: np.zeros(D))
            thread.append(threading.current_thread())
            return peer.contribute(
                vectors,
                progress=lambda *of: sent.append(of),
                alike=lambda task: OWN_INPUT,
                accepted=lambda scheme: order.append("accepted"),
                leaving=lambda: order.append("leaving"),
                left=lambda: order.append("left"),
                tell=order.append,
            )

    thread: list[threading.Thread] = []
    monkeypatch.setattr("secagg.inputs.toss", tossed)
    with ThreadPoolExecutor(3) as threads, federation.serve() as cohort:
        others = [threads.submit(client, u, cohort.endpoint) for u in range(3)]
        total = cohort.aggregate(scheme, b"task of a round")
        ended = others[0].result()
    assert ended is not None
    files = {path.name: path.stat().st_size for path in federation.clients[0].iterdir()}
    mean = float(total.mean[""].mean())
    assert abs(mean - (1 / 3 / 0.5 / D**0.5 if summed else 0.0)) < 6 * total.noise[""] / D**0.5
    return {
        "summed": ended.summed,
        "reason": ended.reason,
        "clipped": ended.clipping[""].norm_factor,
        "files": files,
        "order": order,
        "sent": sent,
    }
