"""The task of one training round, as it travels: the model, and all that a client is to do with it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from fl.config.limits import Limits
from fl.config.plan import LocalPlan, ServerStep, unknown_to_loops
from fl.config.privacy import Perturbation
from fl.config.run import RunConfig
from fl.config.secret import order_key
from fl.data.examples import OWN
from fl.models.architectures import MODELS, Description, Models, unset
from fl.models.weights import from_vector
from fl.privacy.mechanisms import Level, asked_of_clients
from fl.training.server import GlobalModel
from fl.training.step import check_examples
from secagg import RemoteProtocolError
from secagg.crypto import KEY_BYTES

_Count = Annotated[int, msgspec.Meta(ge=1, le=100_000)]


class Instructions(msgspec.Struct, frozen=True, array_like=True, tag="train", forbid_unknown_fields=True):
    """What a client is to do.

    run: fresh for each run, so that round 3 of this one is not round 3 of another: a client contributes to
    each once. parameters: (d,) little-endian float32; empty: those that the clients keep, which the server
    does not have, after the round before in the same run. server: how clients that keep the model step along
    the mean. privacy: what it does itself to what it trains and sends; None for nothing. The order of
    examples is not in it: that is each client's own.
    """

    run: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    round: _Count
    model: Description
    parameters: bytes
    plan: LocalPlan
    server: ServerStep
    privacy: Perturbation | None = None


_instructions = msgspec.msgpack.Decoder(Instructions)  # made once: see secagg.wire.decodes


@dataclass(frozen=True)
class Held:
    """The global model at a client, where clients keep it. round: in whose sum it was last."""

    run: bytes
    round: int
    description: Description
    model: GlobalModel = field(repr=False)


def write_instructions(
    config: RunConfig,
    run: bytes,
    round: int,
    model: Description,
    parameters: NDArray[np.float32],
    level: Level | None = None,
) -> bytes:
    """The task of one training round, with the model to start from; (0,) parameters for the clients' own.
    level: of its noise, None for that of the first round.
    """
    sent = parameters.astype("<f4").tobytes()
    asked = asked_of_clients(config.privacy, level or Level.of(config.privacy))
    return msgspec.msgpack.encode(
        Instructions(run, round, model, sent, config.training.plan, config.server.step, asked)
    )


def read_instructions(
    task: bytes, held: Held | None = None, limits: Limits | None = None, models: Models = MODELS
) -> tuple[Instructions, torch.nn.Module]:
    """The instructions, and the model they bring, or that this client holds where they bring none. models:
    which this client trains: all of this package, or that of its own task alone.

    Raises: RemoteProtocolError if the task is anything else, is beyond the limits, asks for another model, or
    starts from one this client has not got; TaskError as a task of one's own does.
    """
    try:
        instructions = _instructions.decode(task)
        description = instructions.model
        vector = np.frombuffer(instructions.parameters, "<f4")
        if not instructions.parameters:
            vector = _held_before(instructions, held)
        if limits is not None:  # before anything is made that such a number sizes
            limits.check(instructions.plan, len(vector))
        _check_known(description, models)
        model = unset(description, models)  # the task decides nothing about memory but by its length
        if instructions.privacy is not None and instructions.privacy.mechanism == "example":
            check_examples(model)
        from_vector(model, vector)  # only checks it here: what does not fit is refused before memory is had
        if not description.own:
            # As model.to_empty("cpu"), which imports all of sympy.
            some = model.state_dict().items()
            model.load_state_dict(
                {name: torch.empty(t.shape, dtype=t.dtype) for name, t in some}, assign=True
            )
            from_vector(model, vector)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, RuntimeError, ValueError) as error:
        raise RemoteProtocolError(f"the server's task is not a training round: {error}") from None
    # Other bytes for the same round would be another context: the client's journal would let it pass again.
    if msgspec.msgpack.encode(instructions) != task:
        raise RemoteProtocolError("the server's task is in a form that is not canonical")
    return instructions, model


def round_of(task: bytes) -> int:
    """Of which round it is, whatever else it says. Raises: RemoteProtocolError if it is no training round."""
    try:
        return _instructions.decode(task).round
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"the server's task is not a training round: {error}") from None


def _check_known(description: Description, models: Models) -> None:
    """Security: of a task of one's own the server says a digest, and nothing that it sends is ever run."""
    if description.model in models:
        return
    theirs, ours = description.model.removeprefix(OWN), next(iter(models)).removeprefix(OWN)
    if models is MODELS:
        raise RemoteProtocolError(
            f"the server trains a task of its own, SHA-256 {theirs}, and this client was given none: get its "
            "file from somebody you trust, read it, and name it with --task: none comes over the network"
        )
    if description.own:
        raise RemoteProtocolError(
            f"the server's task is another file than this client's: SHA-256 {theirs} there, {ours} here"
        )
    raise RemoteProtocolError(
        f"the server asks for the model {description.model}, and this client trains its own task alone: "
        "leave --task out if that is right"
    )


def check_loop(instructions: Instructions) -> None:
    """Of a client whose task has a loop of its own: it takes other steps than some plans ask for.

    Raises: RemoteProtocolError for such a plan: whoever promises an epsilon by it would promise too much.
    """
    asked, name = instructions.privacy, unknown_to_loops(instructions.plan)
    if asked is not None and asked.mechanism == "example":
        raise RemoteProtocolError(
            "the server asks for noise in every step, and this client's own loop adds none"
        )
    if name is not None:
        raise RemoteProtocolError(
            f"the server asks for {name} = {getattr(instructions.plan, name)}, of which this client's own "
            "loop knows nothing"
        )


def order_of(instructions: Instructions, secret: bytes, task: bytes) -> bytes:
    """The key of the order in which a client takes its examples in the round of this task: 32 bytes.

    Security: fresh where there is noise on the examples of Poisson samples, of which each step is counted
    with a coin of its own. Of a round that is begun twice, as by a run that goes on, both sums would be of
    the same samples, and two releases under one coin tell more than under a coin each.
    """
    asked = instructions.privacy
    if asked is not None and asked.mechanism == "example" and instructions.plan.sampling == "poisson":
        return os.urandom(KEY_BYTES)
    return order_key(secret, task)


def _held_before(instructions: Instructions, held: Held | None) -> NDArray[np.float32]:
    if held is None or (held.run, held.round) != (instructions.run, instructions.round - 1):
        raise RemoteProtocolError(
            f"training round {instructions.round} starts from the model that the clients keep, which this "
            "client has not got: it was not in every sum before. It can take part in the next run"
        )
    return held.model.broadcast
