"""The workers of a Ray cluster as an executor: in which a run's clients are trained, and sums unmasked."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Final

import ray
from ray.exceptions import RayError, RayTaskError

RETRIES: Final = 3
"""How often a task is done again whose worker died."""
PATIENCE: Final = 10.0
"""Seconds until a machine is taken to be unreachable."""
OURS: Final = ("secagg", "transport", "fl", "torch")


class ClusterError(RuntimeError):
    """The cluster cannot be had, or could not do what it was given."""


class RayExecutor(Executor):
    """Tasks of the cluster that `connected`, or the caller's `ray.init`, has reached.

    A task whose worker dies is done again: what is submitted gives the same whoever does it, and however
    often. To cancel a future stops its task, too. In the place of a large argument of many tasks stands what
    `put` gives.

    A future raises what its task raised; ClusterError where workers died each time it was tried, or could not
    be given it.

    Security: arguments and results leave this process, as Ray carries and keeps them: in the clear over a
    network, unless Ray itself is told to use TLS. Whoever is on the cluster is trusted as this machine is.
    """

    def __init__(self) -> None:
        self._called = ray.remote(max_retries=RETRIES)(_called)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return _Task(self._called.remote(fn, *args, **kwargs))

    def put(self, value: Any) -> Any:
        """What stands for this value among the arguments of tasks: each machine is sent it once."""
        return ray.put(value)

    @property
    def workers(self) -> int:
        """How many tasks the cluster does at once."""
        return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _called(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return fn(*args, **kwargs)


class _Task(Future[Any]):
    def __init__(self, reference: Any) -> None:
        super().__init__()
        self._reference = reference
        reference.future().add_done_callback(self._end)

    def cancel(self) -> bool:
        ray.cancel(self._reference)
        return super().cancel()

    def _end(self, done: Future[Any]) -> None:
        if not self.set_running_or_notify_cancel():
            return
        try:
            self.set_result(_result(done))
        except BaseException as error:  # whatever the task raised is for whoever waits for it
            self.set_exception(error)


def _result(done: Future[Any]) -> Any:
    """What a task gave. Raises: what it raised, without Ray's picture of where; ClusterError."""
    error = done.exception()
    if error is None:
        return done.result()
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, ModuleNotFoundError) and (cause.name or "").split(".")[0] in OURS:
        raise ClusterError(
            f"a worker of the Ray cluster has no {cause.name}: install this secagg[fl] on all its machines"
        )
    if isinstance(cause, RayError):
        what = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        raise ClusterError(f"the Ray cluster could not do a task, tried {RETRIES + 1} times: {what}")
    raise cause


def connected(cores: int) -> RayExecutor:
    """The cluster that RAY_ADDRESS in the environment names; else one on this machine alone, of so many
    workers, which ends with this process. Where `ray.init` was called before, the cluster that it reached.

    Raises: ClusterError where there is no cluster at that address.
    """
    if ray.is_initialized():
        return RayExecutor()
    # Ray would report to its makers who uses it, and print what it will do one day.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = os.environ.get("RAY_ADDRESS")
    here = {} if address else {"num_cpus": cores, "include_dashboard": False}
    # What workers print stays with them: Ray's logs are files of its own.
    quiet = {"configure_logging": False, "log_to_driver": False}
    ours = threading.current_thread() is threading.main_thread()
    ended_by = signal.getsignal(signal.SIGTERM)
    try:
        _reach(address or "local")
        ray.init(address=address or "local", **here, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        where = f"at {address}" if address else "on this machine"
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ClusterError(f"no Ray cluster {where} ({reason}): is it running? (RAY_ADDRESS)") from error
    finally:
        if ours and ended_by is not None:
            signal.signal(signal.SIGTERM, ended_by)  # Ray has put its own in its place
    return RayExecutor()


def _reach(address: str) -> None:
    """Raises: OSError where nobody listens there. Ray would try for minutes, and say so line by line."""
    host, _, port = address.rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.rpartition("/")[2].strip("[]"), int(port)), PATIENCE).close()
