"""Flower's two runtimes as their users start them: programs of their own, on loopback, and `flwr run`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).parent
BIN = Path(sys.executable).parent
PATIENCE = 180.0


@dataclass
class Engine:
    """A SuperLink that runs. nodes: partition -> the process of its SuperNode; none in the simulation."""

    folder: Path
    environment: Mapping[str, str]
    nodes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def submit(self, app: Path, config: str = "", federation: str = "") -> subprocess.Popen[str]:
        """`flwr run`: its output tells how the run goes."""
        command = [str(BIN / "flwr"), "run", str(app), "test", "--stream"]
        command += ["--run-config", config] if config else []
        command += ["--federation-config", federation] if federation else []
        return subprocess.Popen(  # noqa: S603
            command,
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@contextmanager
def simulation(folder: Path) -> Iterator[Engine]:
    """Raises: RuntimeError where it does not start."""
    with _superlink(folder, ["--simulation"]) as (engine, _):
        yield engine


@contextmanager
def deployment(folder: Path, nodes: int, config: Callable[[int], str] = lambda i: "") -> Iterator[Engine]:
    """config: of node i beside its partition, as it is typed.

    Raises: RuntimeError where it does not start.
    """
    with _superlink(folder, []) as (engine, fleet), ExitStack() as stack:
        for i in range(nodes):
            own = f"partition-id={i} num-partitions={nodes} {config(i)}".strip()
            command = ["flower-supernode", "--insecure", "--superlink", fleet, "--port", str(free_port())]
            process = _started(stack, [*command, "--node-config", own], engine, f"node{i}.log")
            engine.nodes[i] = process
        yield engine


@contextmanager
def _superlink(folder: Path, extra: Sequence[str]) -> Iterator[tuple[Engine, str]]:
    port = free_port()
    home = folder / "flwr-home"
    home.mkdir()
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "test"\n[superlink.test]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    environment = os.environ | {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "XDG_STATE_HOME": str(folder / "state"),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT.parent),  # an app may use what is measured here
    }
    engine = Engine(folder, environment)
    command = ["flower-superlink", "--insecure", "--disable-runtime-dependency-installation"]
    command += ["--host", "127.0.0.1", "--port", str(port), *extra]
    with ExitStack() as stack:
        process = _started(stack, command, engine, "superlink.log")
        _answers(process, f"http://127.0.0.1:{port}/health")
        yield engine, f"127.0.0.1:{port}"


def _started(stack: ExitStack, command: Sequence[str], engine: Engine, name: str) -> subprocess.Popen[bytes]:
    """In a session of its own, which ends with the runtime."""
    log = stack.enter_context((engine.folder / name).open("wb"))
    process = subprocess.Popen(  # noqa: S603
        command,
        executable=BIN / command[0],
        env=engine.environment,
        cwd=engine.folder,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    stack.callback(end, process)
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    """With all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _answers(process: subprocess.Popen[bytes], url: str) -> None:
    end_of_patience = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end_of_patience:
        try:
            with urlopen(url) as reply:  # noqa: S310
                if reply.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("the SuperLink has not started: see superlink.log")


def free_port() -> int:
    """A port of this machine at which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
