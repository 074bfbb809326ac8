"""A cohort on one machine: each party has its own folder, and no process outlives the one that began it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import zmq
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import transport
from transport.errors import TransportError
from transport.keys import Kind, read_private, read_public
from transport.processes import LocalProcesses, lay_out_keys
from transport.roster import read

MARK = "as imported"


def say(pipe: Connection, what: Callable[[], object]) -> None:
    pipe.send(what())


def wait_for_ever(pipe: Connection) -> None:
    pipe.send(os.getpid())
    while True:
        signal.pause()


def wait_for_ever_and_ignore_the_request_to_end(pipe: Connection) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wait_for_ever(pipe)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail(message: str) -> None:
    raise ValueError(message)


def mark() -> str:
    return MARK


def environment() -> dict[str, str]:
    return dict(os.environ)


def drawn() -> tuple[bytes, bytes, bytes]:
    """From the system, from OpenSSL, from libsodium."""
    return os.urandom(16), X25519PrivateKey.generate().private_bytes_raw(), zmq.curve_keypair()[1]


def imported() -> bool:
    return "colorsys" in sys.modules


def deaf_to_ctrl_c() -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def what_one_says(what: Callable[[], object]) -> object:
    here, there = Pipe()
    with LocalProcesses() as processes:
        processes.start("one", say, there, what)
        there.close()
        return here.recv()


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


# Processes


def test_exit_codes_tell_how_each_process_ended(capfd: pytest.CaptureFixture[str]) -> None:
    here, there = Pipe()
    with LocalProcesses() as processes:
        processes.start("well", os.getpid)
        processes.start("four", sys.exit, 4)
        processes.start("error", fail, "the reason")
        processes.start("killed", kill_itself)
        processes.start("runs", wait_for_ever, there)
        for name, code in {"well": 0, "four": 4, "error": 1, "killed": -9}.items():
            assert processes.wait_for(name) == code
        assert processes.wait(0) == {"well": 0, "four": 4, "error": 1, "killed": -9, "runs": None}
        pid = here.recv()
        assert not is_gone(pid)
    assert is_gone(pid)
    assert capfd.readouterr().err == "error: ValueError: the reason\n"


def test_a_temporary_folder_whose_name_is_longer_than_that_of_a_socket(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    code = """
import os
from transport.processes import LocalProcesses
with LocalProcesses() as processes:
    processes.start("one", os.getpid)
    print(processes.wait_for("one"))
"""
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TMPDIR": str(long)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.stdout, told.stderr) == ("0\n", "")


@pytest.mark.parametrize("target", [wait_for_ever, wait_for_ever_and_ignore_the_request_to_end])
def test_an_exception_takes_the_processes_along(
    target: Callable[[Connection], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transport.processes._STOP_SECONDS", 0.1)
    here, there = Pipe()
    pids = []

    def interrupted() -> None:
        with LocalProcesses() as processes:
            for name in "abc":
                processes.start(name, target, there)
            pids.extend(here.recv() for _ in range(3))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all(map(is_gone, pids))


@pytest.mark.parametrize("death", [signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_the_one_that_was_killed(death: signal.Signals) -> None:
    """They hold its stdout: it is at its end when the last of them is."""
    program = (
        "import signal; from transport.processes import LocalProcesses\n"
        "if __name__ == '__main__':\n"
        "    with LocalProcesses() as processes:\n"
        "        for name in 'abc': processes.start(name, signal.pause)\n"
        "        print('started', flush=True)\n"
        "        signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == "started\n"
        launcher.send_signal(death)
        assert launcher.communicate() == ("", None)
        assert launcher.returncode == -death


def test_processes_are_deaf_to_ctrl_c_from_the_beginning_and_this_one_is_not() -> None:
    assert what_one_says(deaf_to_ctrl_c) is True
    assert not deaf_to_ctrl_c()


def test_processes_have_nothing_of_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork of it would show what it has changed."""
    monkeypatch.setattr(sys.modules[__name__], "MARK", "changed")
    assert mark() == "changed"
    assert what_one_says(mark) == "as imported"


def test_but_its_environment_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert what_one_says(environment) == dict(os.environ)
    monkeypatch.setenv("SECAGG_MARK", "set")
    assert what_one_says(environment)["SECAGG_MARK"] == "set"  # type: ignore[index]
    monkeypatch.delenv("SECAGG_MARK")
    assert what_one_says(environment) == dict(os.environ)


def test_no_two_draw_the_same_secrets() -> None:
    """As those would that began with the state of one generator."""
    for generator in zip(*(what_one_says(drawn) for _ in range(3)), strict=True):  # type: ignore[call-overload]
        assert len(set(generator)) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
def test_what_is_preloaded_is_imported_once() -> None:
    """In a process of its own: only the first LocalProcesses of a process says what is."""
    program = (
        "import sys; from multiprocessing import Pipe; from transport.processes import LocalProcesses\n"
        "from test_local_processes import imported, say\n"
        "if __name__ == '__main__':\n"
        "    with LocalProcesses(['colorsys']) as processes:\n"
        "        here, there = Pipe()\n"
        "        processes.start('one', say, there, imported)\n"
        "        print('colorsys' in sys.modules, here.recv())\n"
    )
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, check=True)
    assert ran.stdout == "False True\n"


def speak(words: str) -> None:
    print(words, flush=True)
    print(words, file=sys.stderr, flush=True)


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_what_they_print_is_printed_here(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], platform: str
) -> None:
    """Forked or spawned."""
    monkeypatch.setattr(sys, "platform", platform)
    with LocalProcesses() as processes:
        processes.start("one", speak, "heard")
        assert processes.wait_for("one") == 0
    assert capfd.readouterr() == ("heard\n", "heard\n")


def test_nothing_is_imported_from_where_one_stands(tmp_path: Path) -> None:
    (tmp_path / "colorsys.py").write_text("print('from the working directory')\n")
    program = tmp_path / "elsewhere" / "program.py"
    program.parent.mkdir()
    program.write_text(
        "from transport.processes import LocalProcesses\n"
        "if __name__ == '__main__':\n"
        "    with LocalProcesses(['colorsys']) as processes:\n"
        "        processes.start('one', print, 'ran')\n"
        "        processes.wait_for('one')\n"
    )
    env = os.environ | {"PYTHONPATH": str(Path(transport.__file__).parents[1])}
    ran = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, cwd=tmp_path, env=env, check=True
    )
    assert (ran.stdout, ran.stderr) == ("ran\n", "")


def test_one_that_cannot_be_started_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise EOFError("unexpected EOF")

    monkeypatch.setattr("multiprocessing.forkserver.ensure_running", gone)
    words = "the process of one could not be started: unexpected EOF"
    with LocalProcesses() as processes, pytest.raises(TransportError, match=words):
        processes.start("one", os.getpid)


# Folders


def test_every_party_has_its_own_keys_and_no_others(tmp_path: Path) -> None:
    server, folders = lay_out_keys(tmp_path / "parties", 3, 2)
    assert {path.name for path in server.iterdir()} == {"server.key", "roster", "roster.pub"}
    parties: list[tuple[Kind, int]] = [
        ("client", 0),
        ("client", 1),
        ("client", 2),
        ("relay", 0),
        ("relay", 1),
    ]
    keys = set()
    for (kind, id), own in zip(parties, folders, strict=True):
        private = own / f"{kind}.key"
        assert {path.name for path in own.iterdir()} == {private.name, "server.pub", "roster", "roster.pub"}
        assert stat.S_IMODE(own.stat().st_mode) == 0o700
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
        key = read_private(private, kind)
        roster = read(own / "roster", read_public(own / "roster.pub"))
        assert (roster.relays if kind == "relay" else roster.clients)[id] == key.public
        assert read_public(own / "server.pub") == read_private(server / "server.key").public
        keys.add(private.read_bytes())
    assert len(keys) == 5
