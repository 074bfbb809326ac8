"""The rounds of a training at one client, and what it leaves of them in its folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fl.cli.display import shown, since
from fl.cli.drops import Killer
from fl.cli.output import Output
from fl.cli.report import outcome, tell_clipping
from fl.cli.rounds import FIRST_ROUND
from fl.config.limits import Limits
from fl.config.preflight import OFF, Preflight
from fl.config.secret import CLIENT, kept, rounding_seed
from fl.marks import in_unsafe_groups
from fl.own import OwnTask
from fl.page.state import METRICS
from fl.privacy.budget import Charged
from secagg import Aggregate, Scheme
from transport import Peer

if TYPE_CHECKING:
    from fl.data.shard import Shard
    from fl.federation.attacking import Attacker
    from fl.federation.task import Held, Instructions
    from fl.preflight import Verdict
    from fl.privacy.releases import Release

TEST = "test"  # folder of a test set, beside a client's own examples


def train(
    out: Output,
    peer: Peer,
    folder: Path,
    *,
    device: str,
    limits: Limits,
    killer: Killer | None = None,
    charged: Charged | None = None,
    preflight: Preflight = OFF,
    attacker: Attacker | None = None,
    own: OwnTask | None = None,
    held: tuple[Shard, Shard] | None = None,
) -> None:
    """Train on the shard in `folder` whenever the server asks, until it closes. Where the clients keep the
    model it is left in `folder`, beside what each round made of it. charged: the account that each round is
    charged to, if there is one. preflight: what an update may give away of the shard. attacker: what this
    client is, if it is malicious. own: the task of its own that it trains; held: what to train and to test
    on, where that is not in the folder.
    """
    import torch

    from fl.data.shard import FILE, read_shard
    from fl.federation.client import LocalTrainer

    # One thread: several would add up in another order, and the clients of one machine share its cores.
    torch.set_num_threads(1)
    killer = killer or Killer(None)
    secret = kept(folder / CLIENT)

    def asked(instructions: Instructions, releases: Sequence[Release]) -> None:
        killer.training(instructions.round)
        if charged is not None:
            own = instructions.privacy
            charged.asked(releases, of_examples=own is not None and own.mechanism == "example")

    def accepted(scheme: Scheme) -> None:
        trainer.offered(scheme)
        if charged is not None:
            charged.accepted(scheme)

    looked = Looked(out, f"client {peer.id}")
    shard, test = held or (
        read_shard(folder),
        read_shard(folder / TEST) if (folder / TEST / FILE).exists() else None,
    )
    trainer = LocalTrainer(
        peer.id,
        shard,
        device,
        secret,
        limits=limits,
        asked=asked,
        tell=out.warn,
        preflight=preflight,
        looked=looked,
        attacker=attacker,
        own=own,
    )
    take_part = partial(
        peer.contribute,
        trainer,
        alike=partial(trainer.likeness, policy=peer.policy),
        rounding_seed=rounding_seed(secret),
        largest_task=limits.task_bytes,
        progress=killer.progress,
        tell=out.warn,
        accepted=accepted,
        leaving=charged.leaving if charged is not None else lambda: None,
        instrument=attacker.session if attacker is not None else lambda session: session,
    )
    clipped = False
    with shown(out, since(lambda: f"client {peer.id}: {_at(killer.round)}")):
        while (contribution := take_part()) is not None:
            out.unsafe_groups = in_unsafe_groups(contribution.scheme)
            clipped = clipped or tell_clipping(out, peer.id, contribution, " (said once)")
            out.say(f"client {peer.id}: round {killer.round}: {outcome(contribution)}")
            fields = {"client": peer.id, "session": killer.round, "summed": contribution.summed}
            fields |= looked.last
            if contribution.result is not None:
                fields |= keep(
                    trainer.keep(contribution.result), contribution.result, folder, test, device, own
                )
            out.record(fields)


class Looked:
    """Says what the updates of a client give away of its examples: the first time that there is something to
    say, and whenever it is more than may be, or its rows are made for reading, as those of no honest model
    were in 2,520 rounds (benchmarks, preflight). Where nothing can be read, once. last: for programs.
    """

    def __init__(self, out: Output, who: str) -> None:
        self._out, self._who, self._said, self.last = out, who, False, dict[str, int]()

    def __call__(self, verdict: Verdict) -> None:
        self.last = {} if verdict.nothing else {"examples": verdict.examples, "read_off": verdict.out}
        if verdict.noteworthy or (verdict.out and not self._said):
            tell = self._out.warn if verdict.noteworthy else self._out.say
            tell(f"{self._who}: {verdict.sentence()}")
        elif verdict.nothing and not self._said:
            self._out.say(f"{self._who}: {verdict.nothing}")
        self._said = self._said or bool(verdict.out or verdict.nothing)


def _at(round: int) -> str:
    return f"round {round} was the last that the server began" if round else "waiting for the server"


def keep(
    held: Held,
    total: Aggregate,
    folder: Path,
    test: Shard | None,
    device_name: str,
    own: OwnTask | None = None,
) -> dict[str, Any]:
    """Leave the model in a client's folder, and what it has learned of the round, which is returned. own: its
    task, which is left there, too, with what it tests on, for who evaluates the model later.
    """
    import torch

    from fl.data.shard import write_shard
    from fl.federation.records import Learned
    from fl.models.architectures import MODELS, build
    from fl.models.weights import from_vector, save
    from fl.training.local import device, evaluate

    description, on = held.description, device(device_name)
    known = MODELS if own is None else own.models
    model = build(description.model, description.shape, description.classes, 0, known)
    from_vector(model, held.model.parameters)
    save(model, description, folder)
    if own is not None and test is not None and held.round == 1:
        own.write(folder)
        (folder / TEST).mkdir(exist_ok=True)
        write_shard(folder / TEST, test.x, test.y, test.classes, test.dataset)
    evaluated = None
    if test is not None:
        evaluated = evaluate(model, torch.tensor(test.x, device=on), torch.tensor(test.y, device=on))
    record = {"round": held.round, **asdict(Learned.of([total], evaluated)), "alive": len(total.survivors)}
    first = held.round == 1
    if first:
        np.save(folder / FIRST_ROUND, held.model.parameters)
    with (folder / METRICS).open("w" if first else "a", encoding="utf-8") as metrics:
        metrics.write(json.dumps(record) + "\n")
    return record
