"""One vector of a client of `secagg join`: read from a file, and contributed to one session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fl.cli.display import shown, since
from fl.cli.output import Output
from fl.cli.report import outcome, tell_clipping, within
from fl.cli.results import npy, write_result
from fl.config.section import ConfigError
from fl.marks import in_unsafe_groups
from fl.privacy.budget import Charged
from secagg import Bounded, LocalProtocolError, RemoteProtocolError, Scheme, Weight
from secagg.errors import counted
from secagg.specs import Vectors, check_vectors
from transport import Contribution, Peer, TransportError

NPY = b"\x93NUMPY"  # what such a file begins with


def read_vector(path: Path, *, flatten: bool = False) -> np.ndarray[Any, Any]:
    """The vector in an .npy file, all that can be known without the server's offer checked.

    flatten: take an array of another shape as its numbers in the order of rows.

    Raises: ConfigError if it holds anything else.
    """
    try:
        with path.open("rb") as file:
            is_npy = file.read(len(NPY)) == NPY
            file.seek(0)
            x = np.load(file, allow_pickle=False) if is_npy else np.zeros(0)
    except OSError as error:
        raise ConfigError(f"{path}: not readable: {error.strerror}") from None
    except Exception:  # whatever numpy's parsers raise, and not in its words, which advise to unpickle it
        raise ConfigError(f"{path} was cut short or damaged, or holds Python objects, not numbers") from None
    if not is_npy:
        raise ConfigError(f"{path} is not a vector in numpy's .npy format: write one with numpy.save")
    if x.ndim != 1 and not flatten:
        raise ConfigError(
            f"{path} holds an array of shape {x.shape}, not a vector: to send its "
            f"{counted(x.size, 'number')} row by "
            "row give --flatten"
        )
    if x.size == 0:
        raise ConfigError(f"{path} holds no number")
    try:
        return check_vectors({"": Bounded(length=x.size, bound=1.0)}, {"": x.reshape(-1)})[""]
    except LocalProtocolError as error:
        raise ConfigError(f"{path}: {error}") from None


def check_weighs(vectors: Vectors) -> None:
    """Raises: RemoteProtocolError where these would tell the sum of weights and weigh nothing by them: as a
    count, which a policy takes also of groups whose weights it does not let be known.
    """
    if not isinstance(vectors.get("weight", Weight(maximum=1)), Weight):
        raise RemoteProtocolError("the server asks for the weight, and weighs nothing by it")


def contribute(
    out: Output,
    peer: Peer,
    vector: np.ndarray[Any, Any],
    weight: int | None,
    result: Path | None,
    *,
    new: bool,
    charged: Charged | None = None,
) -> None:
    """Contribute one vector to one session. result: where the mean goes if the clients keep it. new: the
    vector is another one than before. charged: the account that it is charged to, if there is one.
    """
    values: dict[str, Any] = {"": vector} if weight is None else {"": vector, "weight": weight}
    on_account: Any = {} if charged is None else {"leaving": charged.leaving}
    at, needed = ["waiting for the server"], [True]

    def accepted(scheme: Scheme) -> None:
        needed[0] = bool(scheme.finishing_rounds)
        if weight is not None:
            check_weighs(scheme.vectors)
        if charged is not None:
            charged.accepted(scheme)

    def progress(round: str, sent: int, size: int) -> None:
        at[0] = f"in {round}"

    def left() -> None:
        why = "until the sum is finished, which may need this client" if needed[0] else "to hear how it ends"
        out.say(
            f"client {peer.id}: the vector is sent; stay {why} (a lost connection is made again; a process "
            "that was stopped cannot go on)"
        )

    with shown(out, since(lambda: f"client {peer.id}: {at[0]}")):
        contribution = peer.contribute(
            values,
            new=new,
            progress=progress,
            left=left,
            tell=out.warn,
            accepted=accepted,
            **on_account,
        )
    if contribution is None or not contribution.summed:
        nothing = "the server closed without a session"
        if peer.turned_away:
            nothing += f" for this process: another of this key was in the one that ran ({peer.turned_away})"
        reason = contribution.reason if contribution else nothing
        raise TransportError(f"the vector is not known to be in a sum: {reason}")
    out.unsafe_groups = in_unsafe_groups(contribution.scheme)
    tell_clipping(out, peer.id, contribution)
    out.say(f"client {peer.id}: the vector is {outcome(contribution)}")
    leave_mean(out, peer, contribution, result)


def leave_mean(out: Output, peer: Peer, contribution: Contribution, result: Path | None) -> None:
    """Put on record that the vector is in the sum, and the mean into this file where this client has it.

    Raises: ResultError if it had to go elsewhere.
    """
    fields: dict[str, Any] = {"client": peer.id, "summed": True}
    total = contribution.result
    if total is None or result is None:
        out.record(fields)
        return
    kept = write_result(result, npy(total.mean[""]))
    survivors, bound = sorted(total.survivors), total.error_bound[""]
    out.say(
        f"wrote {kept.path}: the mean over {counted(len(survivors), 'client')}, each coordinate within "
        f"{bound:.2e} of the mean of {within(contribution.scheme)}"
    )
    out.record(fields | {"wrote": kept.path, "survivors": survivors, "error_bound": bound})
    kept.check()
