"""The one place between training and encoding: whatever changes what a client sends does it here.

Clipping and noise of the client's own, compression, and an attacker's updates are each a `Sending`. Over
processes one is asked about one client, in one process about all of them at once: attackers may collude.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from fl.federation.task import Instructions
from fl.federation.vectors import contribution
from fl.privacy.mechanisms import perturbed
from fl.training.local import LocalResult, Tap
from secagg import LocalProtocolError
from secagg.crypto import KEY_BYTES
from secagg.errors import ClientId

Results = Mapping[ClientId, LocalResult]
Sending = Callable[[Instructions, nn.Module, Results], Results]
"""(what the server asked for, the model as it was received, what each client trained) -> what each sends, the
same clients."""


def as_trained(instructions: Instructions, model: nn.Module, results: Results) -> Results:
    """Clients send what they trained."""
    return results


def in_turn(first: Sending, then: Sending) -> Sending:
    """What the second makes of what the first makes of it."""
    return lambda instructions, model, results: then(instructions, model, first(instructions, model, results))


def as_asked(instructions: Instructions, results: Results) -> Results:
    """Clients clip, leave out and add noise as the task says, each under fresh bytes that nothing keeps."""
    if instructions.privacy is None:
        return results
    return {
        u: replace(result, upload=perturbed(instructions.privacy, result.upload, os.urandom(KEY_BYTES)))
        for u, result in results.items()
    }


def contributions(
    instructions: Instructions,
    model: nn.Module,
    results: Results,
    names: Collection[str],
    *,
    sending: Sending = as_trained,
    tap: Tap | None = None,
) -> dict[ClientId, dict[str, Any]]:
    """Each client's vectors for a session that asks for those called `names`. model: as it was received. tap:
    told what is sent.

    What the server asks of each client comes first: in an attacker's `sending` it has no say.

    Raises: LocalProtocolError if the clients are others after sending than before; RemoteProtocolError for
    a name that there is nothing of.
    """
    sent = sending(instructions, model, as_asked(instructions, results))
    if sent.keys() != results.keys():
        raise LocalProtocolError(
            f"of clients {sorted(results)} the sending gave {sorted(sent)}: who takes part is settled before"
        )
    if tap is not None:
        for u in sorted(sent):
            tap.upload(u, sent[u].upload)
    asked = instructions.privacy
    # Beside noise of the client's own, what side of a clip it is on would tell without noise.
    clip = asked.clip if asked is not None and asked.mechanism == "none" else None
    return {u: contribution(sent[u], names, clip) for u in sent}


def in_place_of(
    instructions: Instructions,
    model: nn.Module,
    u: ClientId,
    decoys: Sequence[LocalResult],
    names: Collection[str],
) -> list[dict[str, Any]]:
    """Client u's decoys as they would be sent if they were true: clipped and noised like what is."""
    return [contributions(instructions, model, {u: decoy}, names)[u] for decoy in decoys]
