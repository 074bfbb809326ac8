"""A single sum whose server is killed: `secagg serve --resume` finishes it with the same clients."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest
from commands import PATIENCE, Command, Ran, is_one_line

import transport
from fl.cli.output import Output
from fl.cli.stopped import HEARD, Stopped
from fl.config.protection import Protection
from fl.config.section import ConfigError
from secagg import LocalProtocolError, Policy, TooFewClients
from transport.frames import Announce

CLIENTS, LENGTH = 3, 50
Here = Callable[..., Ran]


def vector(u: int) -> np.ndarray:
    return np.sin(np.arange(LENGTH) + u).astype(np.float32)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class Federation:
    """Clients that are there throughout, whatever becomes of their server."""

    def __init__(self, keys: Path, endpoint: str) -> None:
        self._keys, self._endpoint = keys, endpoint
        self.reached, self.go_on = {u: Event() for u in range(CLIENTS)}, Event()
        self.said: set[tuple[int, int, bytes]] = set()  # client, number of the message, checksum
        self.heard: set[tuple[int, int, bytes]] = set()

    def take_part(self, u: int, stop_in: str) -> bool:
        own, server, roster = (self._keys / name for name in (f"client{u}.key", "server.pub", "roster"))

        def progress(round: str, sent: int, size: int) -> None:
            """Client 0 stops before its answer leaves, and the others do not."""
            if round == stop_in and not self.go_on.is_set():
                self.reached[u].set()
                assert u or self.go_on.wait(PATIENCE)

        with transport.join(self._endpoint, own, server, roster, policy=Policy(), patience=PATIENCE) as peer:
            send, receive = peer._send, peer._next_frame

            def sending(frame: Any, payload: Any = None) -> None:
                if isinstance(frame, Announce):
                    self.said.add((u, frame.number, frame.checksum))
                send(frame, payload)

            def receiving(**until: Any) -> Any:
                received = receive(**until)
                if received is not None and isinstance(frame := received[0], Announce):
                    self.heard.add((u, frame.number, frame.checksum))
                return received

            peer._send, peer._next_frame = sending, receiving  # type: ignore[method-assign]
            contribution = peer.contribute(vector(u), new=True, progress=progress)
            return contribution is not None and contribution.summed


@pytest.mark.slow
@pytest.mark.parametrize("round", ["masked-input", "consistency-check", "unmasking"])
def test_a_server_that_is_killed_in_a_round_is_started_again_and_the_sum_is_right(
    tmp_path: Path, here: Here, round: str
) -> None:
    """All but one may have answered; nothing that anybody says or hears is another thing the second time."""
    keys, out = tmp_path / "keys", tmp_path / "mean.npy"
    assert here("keys", "cohort", str(CLIENTS), "--out", str(keys)).code == 0
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    line = [
        *("serve", "--key", str(keys / "server.key"), "--roster", str(keys / "roster"), "--new", "--json"),
        *("--bind", endpoint, "--length", str(LENGTH), "--out", str(out)),
    ]
    killed = Command(*line)
    killed.line_with("listening")
    federation = Federation(keys, endpoint)
    with ThreadPoolExecutor(CLIENTS) as threads:
        clients = [threads.submit(federation.take_part, u, round) for u in range(CLIENTS)]
        for u in range(CLIENTS):
            assert federation.reached[u].wait(PATIENCE)
        os.kill(killed._process.pid, signal.SIGKILL)
        assert killed.end().code == -signal.SIGKILL
        session = tmp_path / "mean.npy.session"
        assert session.stat().st_mode & 0o777 == 0o600
        is_one_line(
            here(*line), 2, f"{session} holds a sum whose server was stopped: finish it with --resume"
        )
        second = Command(*line, "--resume")
        federation.go_on.set()
        assert [client.result() for client in clients] == [True] * CLIENTS
    ran = second.end()
    assert (ran.code, ran.err) == (0, "")
    written = ran.records[-1]
    assert written["survivors"] == list(range(CLIENTS))
    mean = np.mean([vector(u) for u in range(CLIENTS)], axis=0)
    assert np.abs(np.load(out) - mean).max() <= written["error_bound"] < 1e-3
    assert not session.exists()
    assert len(federation.said) == CLIENTS * 6
    assert len(federation.heard) == CLIENTS * 5


def test_there_is_nothing_to_go_on_from_but_while_vectors_are_summed(
    tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = here("serve", "--length", "5", "--resume")
    is_one_line(ran, 2, "--resume: mean.npy.session is not readable", "begin the sum anew")
    ran = here("serve", "--length", "5", "--resume", "--scheme", "plain")
    is_one_line(ran, 2, "--resume finishes a sum of --scheme masking alone: begin it anew")


def begun(folder: Path, *, resume: bool = False) -> Stopped:
    return Stopped.of(Output(), Protection(), folder / "mean.npy", force=False, resume=resume)


@pytest.mark.parametrize(
    ("end", "stays", "said"),
    [
        (TooFewClients(1, 2, "unmasking"), False, ""),
        (LocalProtocolError("clients have signed other sums"), False, ""),
        (KeyboardInterrupt(), True, "vectors had left: --resume, with the same options, goes on"),
    ],
    ids=["it failed", "nobody would sign it", "Ctrl-C"],
)
def test_a_sum_that_ends_without_a_result_is_kept_where_it_may_be_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], end: BaseException, stays: bool, said: str
) -> None:
    """And what could not be kept, or not gone on with, is nothing to speak of."""
    kept = tmp_path / "mean.npy.session"
    for leaves in (False, True):

        def aggregate(keep: Callable[[bytes], None], kept: bytes, leaves: bool = leaves) -> NoReturn:
            assert kept == b""
            if leaves:
                keep(b"a session")
            raise end

        with pytest.raises(type(end)):
            begun(tmp_path).finished(aggregate)
        assert kept.exists() is (leaves and stays)
        err = capsys.readouterr().err
        assert (said in err) if leaves and said else err == ""
    if stays:
        with pytest.raises(ConfigError, match="holds a sum whose server was stopped: finish it with"):
            begun(tmp_path)
        assert begun(tmp_path, resume=True).kept == b"a session"


def test_after_a_sum_that_was_gone_on_with_the_server_waits_for_who_comes_back(tmp_path: Path) -> None:
    session, waited = tmp_path / "mean.npy.session", list[float]()
    cohort: Any = SimpleNamespace(wait_until_heard=waited.append)
    session.write_bytes(b"a session")
    begun(tmp_path, resume=True).done(cohort)
    assert not session.exists()
    begun(tmp_path).done(cohort)
    assert waited == [HEARD]


def test_a_session_that_cannot_be_kept_is_warned_of_once_and_leaves_no_older_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What could not be removed is named: its sum is over."""
    total: Any = object()
    session = tmp_path / "mean.npy.session"

    def aggregate(keep: Callable[[bytes], None], kept: bytes) -> Any:
        keep(b"a session")
        assert session.read_bytes() == b"a session"
        in_the_way = tmp_path / f".mean.npy.session.{os.getpid()}.partial"
        in_the_way.mkdir()
        keep(b"it went on")
        assert not session.exists()
        in_the_way.rmdir()
        keep(b"it went on")
        return total

    assert begun(tmp_path).finished(aggregate) is total
    assert not session.exists()
    assert capsys.readouterr().err.count("if this server is stopped, its sum is lost") == 1
    stopped = begun(tmp_path)
    session.mkdir()
    nobody: Any = None  # waits, for nothing was gone on with
    stopped.done(nobody)
    assert "could not be removed (Is a directory): do it by hand, its sum is over" in capsys.readouterr().err


def test_what_is_given_up_is_gone(tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """By --force; and what is no session at all is refused, and kept."""
    monkeypatch.chdir(tmp_path)
    assert here("keys", "cohort", "3", "--out", "keys").code == 0
    session = Path("mean.npy.session")
    line = ["serve", "--key", "keys/server.key", "--roster", "keys/roster", "--length", "5"]
    line += ["--bind", "tcp://127.0.0.1:*", "--json"]
    session.write_bytes(b"nothing of the kind, but as long as one may be")
    is_one_line(here(*line, "--resume"), 2, "this is no session that this server can go on with")
    assert session.exists()
    server = Command(*line, "--force")
    json.loads(server.line_with("listening"))
    assert not session.exists()
    server.interrupt()
    assert server.end().code == 130


@pytest.mark.parametrize("ran", [True, False])
def test_one_that_failed_is_not_gone_on_with(tmp_path: Path, ran: bool) -> None:
    """Its clients have heard that it is over; but for options that are not its own, by which it never ran."""
    session = tmp_path / "mean.npy.session"
    session.write_bytes(b"before")
    stopped = Stopped(Output(), session, b"before")

    def aggregate(keep: Callable[[bytes], None], kept: bytes) -> Any:
        if ran:
            keep(b"later")
        raise LocalProtocolError("clients have signed other sums")

    with pytest.raises(LocalProtocolError, match="signed other sums"):
        stopped.finished(aggregate)
    assert session.exists() != ran
