"""A client's side: a mod that takes part in secure sessions with what the app has trained."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from numpy.typing import NDArray

from secagg import (
    Clipping,
    LocalProtocolError,
    Policy,
    RemoteProtocolError,
    Scheme,
    SecAggError,
    accept,
    tickets,
)
from secagg_flower.party import Files, Party, log
from secagg_flower.records import (
    ABOUT,
    WHO,
    Layout,
    Replies,
    Said,
    arrays_sent,
    at_node,
    check_task,
    content_digest,
    is_train,
    printable,
    said_in,
    with_said,
    without_said,
)

CallNext = Callable[[Message, Context], Message]
PRECONDITION = 6
"""Flower's code for a mod that refuses."""


def secure_mod(
    policy: Policy | None = None,
    *,
    key: str | Path | None = None,
    roster: str | Path | None = None,
    roster_key: str | Path | None = None,
    state: str | Path | None = None,
    weighted_by: str = "num-examples",
) -> Callable[[Message, Context, CallNext], Message]:
    """A mod for `ClientApp(mods=[...])`, the last of them: what mods before it do to a reply they do to what
    leaves, masked or in the clear.

    policy: what this client takes part in, before it looks at any task; by default masking alone, active
    where it has a roster. key, roster, roster_key: its own files, as of `transport.join`. state: a folder for
    its records, where they are not to lie beside the key, or in the user's own folder for states. A node's
    configuration names them, as "secagg-key", "secagg-roster", "secagg-roster-key" and "secagg-state", and
    goes before these; {partition-id} in a path stands for the node's own. weighted_by: the metric that
    counts examples, as the server's grid has it: one that the server chose could be 0 of all clients but one.

    The app's reply to a train message has one array record, built as that of the message, and one metric
    record with the number of examples. Train messages outside a secure session are refused. What the app
    raises is logged here, and the server is told no more than that there is no reply.

    Security: without a roster the server is trusted to follow the protocol; with one all clients of a session
    train on the same arrays and configuration, or none. Evaluation and queries pass untouched: what the app
    replies to these leaves in the clear, of whatever model the server sends. Flower brings the app and the
    run's configuration to the nodes: whoever may do that is trusted with the data, roster or not.
    """
    files = Files(key, roster, roster_key, state)

    def mod(message: Message, context: Context, call_next: CallNext) -> Message:
        if not is_train(message):
            return call_next(message, context)
        try:
            content = _answer(policy, files, weighted_by, message, context, call_next)
            return Message(content, reply_to=message)
        except RemoteProtocolError as error:
            log.warning("this client takes no part: %s", error)
            return Message(Error(PRECONDITION, str(error)), reply_to=message)  # the server's own doing
        # Anything else may tell of this client's own, and Flower sends the server whatever is raised.
        except SecAggError as error:
            log.warning("this client takes no part: %s", printable(str(error)))
        except Exception as error:
            log.warning("this client takes no part", exc_info=error)
        return Message(
            Error(PRECONDITION, "this client takes no part; its own log says why"), reply_to=message
        )

    return mod


def _answer(
    policy: Policy | None,
    files: Files,
    weighted: str,
    message: Message,
    context: Context,
    call_next: CallNext,
) -> RecordDict:
    """The content of the reply."""
    said, payload = said_in(message.content)
    party = Party.of(policy, files.at(context.node_config))
    if said.round == WHO:
        return _introduced(party, context)
    if said.offer:
        if said.weighted != weighted:
            raise RemoteProtocolError(
                f"the server weighs replies by {said.weighted!r}, this client by {weighted!r}: give "
                "secure_mod and SecureGrid one weighted_by"
            )
        return _begun(party, said, payload, message, context, call_next)
    if ABOUT not in context.state:
        raise RemoteProtocolError("the server goes on with a session that this client is not in")
    kept = context.state[ABOUT]
    scheme = _accepted(party, kept["offer"])
    ticket, answer = tickets.step(
        scheme,
        kept["ticket"],
        payload,
        u=kept["client"],
        vectors=lambda task: {},  # they were given when it began
        record=party.record,
        identity=party.identity,
        once=party.once,
        alike=party.alike(lambda: _model(message.content)),
    )
    _keep(party, context, ticket, kept["offer"], kept["client"])
    return with_said({}, Said(round=said.round), answer)


def _introduced(party: Party, context: Context) -> RecordDict:
    """Which client of the roster is at this node."""
    if party.identity is None:
        raise RemoteProtocolError("the server asks for a client of a roster, and this one has none")
    statement = at_node(party.identity.roster.digest, context.run_id, context.node_id)
    signature = party.identity.key.sign(statement)
    return with_said({}, Said(round=WHO, client=party.identity.u), signature)


def _begun(
    party: Party, said: Said, payload: bytes, message: Message, context: Context, call_next: CallNext
) -> RecordDict:
    """Join, train, and answer. A session that was open is given up for it."""
    arrived = time.monotonic()
    _end(party, context)
    scheme = _accepted(party, said.offer)
    log.info("secure aggregation, %s", scheme.against)
    u = said.client if party.identity is None else party.identity.u
    if said.client != u:
        raise RemoteProtocolError(f"the server takes client {u} for client {said.client}")
    layouts: list[Layout] = []

    def vectors(task: bytes) -> Mapping[str, Any]:
        content = without_said(message.content)
        own = content_digest(context.run_id, message.metadata.message_type, content)
        check_task(task, own, alone=party.policy.adversary == "active")
        replies = Replies.offered(arrays_sent(content), scheme.vectors)
        asked = copy.copy(message)
        asked.content = content  # the app sees what the strategy sent
        reply = call_next(asked, context)
        if reply.has_error():
            raise LocalProtocolError(f"the app gave an error: {reply.error.reason}")
        layout, given = replies.of(reply.content, said.weighted)
        layouts.append(layout)
        return given

    ticket, answer = tickets.begin_jointly(
        scheme,
        payload,
        u=u,
        vectors=vectors,
        record=party.record,
        identity=party.identity,
        once=party.once,
        alike=party.alike(lambda: _model(message.content)),
        told=_tell,
    )
    if party.policy.answer_after is not None:
        time.sleep(max(0.0, arrived + party.policy.answer_after - time.monotonic()))
    _keep(party, context, ticket, said.offer, u)
    return with_said({}, Said(round=said.round, layout=layouts[0].encode()), answer)


def _accepted(party: Party, offer: bytes) -> Scheme:
    return accept(party.policy, offer, party.identity.roster if party.identity else None)


def _model(content: RecordDict) -> NDArray[np.floating]:
    """The real numbers of the arrays that the server sent."""
    arrays = arrays_sent(without_said(content)).values()
    return np.concatenate([np.zeros(0), *(x.ravel() for x in arrays if x.dtype.kind == "f")])


def _keep(party: Party, context: Context, ticket: bytes, offer: bytes, u: int) -> None:
    context.state[ABOUT] = ConfigRecord({"ticket": ticket, "offer": offer, "client": u})
    if tickets.done(ticket):  # a message comes once: nobody asks for this answer again
        _end(party, context)


def _end(party: Party, context: Context) -> None:
    if ABOUT in context.state:
        tickets.end(context.state[ABOUT]["ticket"], record=party.record)
        del context.state[ABOUT]


def _tell(clipping: Mapping[str, Clipping]) -> None:
    for name, each in clipping.items():
        if each.coordinates:
            log.warning("%s of the %s were beyond the bound and cut", each.coordinates, name)
