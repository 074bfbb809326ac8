"""A single sum whose server was stopped: what `secagg serve --resume` finishes it from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fl.cli.output import Output
from fl.config.protection import Protection
from fl.config.section import ConfigError
from fl.data.files import write_atomically
from secagg import Aggregate, LocalProtocolError, SecAggError
from transport import Cohort

HEARD = 10.0
"""Seconds in which the clients of a sum that was taken up come to hear of its end: they try every two."""


@dataclass
class Stopped:
    """The session of one sum, on disk beside its result while it runs, from the request for vectors on. path:
    of that file; None where it cannot be kept. kept: what another process has left. ran: whether it has run
    here, from there on or from the beginning.
    """

    out: Output
    path: Path | None
    kept: bytes
    ran: bool = False

    @classmethod
    def of(
        cls, out: Output, protection: Protection, result: Path | None, *, force: bool, resume: bool
    ) -> Self:
        """Raises: ConfigError where there is nothing to go on from, or what there is would be lost."""
        path = None
        if result is not None and protection.scheme == "masking":
            path = result.with_name(f"{result.name}.session")
        if not resume:
            if path is not None and path.exists():
                if not force:
                    raise ConfigError(
                        f"{path} holds a sum whose server was stopped: finish it with --resume and the same "
                        "options, or give it up with --force"
                    )
                path.unlink()
            return cls(out, path, b"")
        if path is None:
            raise ConfigError("--resume finishes a sum of --scheme masking alone: begin it anew")
        try:
            return cls(out, path, path.read_bytes())
        except OSError as error:
            raise ConfigError(
                f"--resume: {path} is not readable ({error.strerror}): there is one only while vectors are "
                "being summed; begin the sum anew"
            ) from None

    def finished(self, aggregate: Callable[..., Aggregate]) -> Aggregate:
        """The sum of a session that is kept, or of the one that was. aggregate: as of `transport.Cohort`."""
        if self.kept:
            self.out.say(
                "going on with the sum that was stopped: each client is asked again as it comes back"
            )
        try:
            return aggregate(keep=None if self.path is None else self._keep, kept=self.kept)
        except LocalProtocolError:
            # Other options than it was begun with: it may still be gone on with, unless it had come to run.
            if self.ran:
                self._forget()
            raise
        except SecAggError:
            self._forget()  # it failed, and is not to be tried again with others
            raise
        except KeyboardInterrupt:
            if self.path is not None and self.path.exists():
                self.out.warn("vectors had left: --resume, with the same options, goes on while clients wait")
            raise

    def done(self, cohort: Cohort) -> None:
        """The result is on disk: who of the sum comes back in a while hears of it."""
        self._forget()
        if self.kept:
            cohort.wait_until_heard(HEARD)

    def _keep(self, session: bytes) -> None:
        self.ran = True
        if self.path is None:
            return
        try:
            write_atomically(self.path, session, 0o600)
        except OSError as error:
            self.out.warn(
                f"{self.path} could not be written ({error.strerror}): if this server is stopped, its sum is "
                "lost"
            )
            self._forget()  # an older one must not be gone on from
            self.path = None

    def _forget(self) -> None:
        if self.path is None:
            return
        try:
            self.path.unlink()
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            self.out.warn(
                f"{self.path} could not be removed ({error.strerror}): do it by hand, its sum is over"
            )
