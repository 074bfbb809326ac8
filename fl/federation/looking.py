"""The preflight in a training round: which update is looked at, what noise is still to come on it, and
whether it leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from fl.config.preflight import Preflight
from fl.data.examples import Inputs
from fl.federation.task import Instructions
from fl.federation.vectors import UPDATE
from fl.preflight import Kept, Verdict, preflight
from fl.privacy.mechanisms import Level
from fl.training.local import LocalResult
from secagg import Private
from secagg.errors import ClientId
from secagg.specs import Spec

Results = Mapping[ClientId, LocalResult]
Sent = dict[ClientId, dict[str, Any]]


@dataclass(frozen=True)
class Looking:
    """At the updates of one round. level: of noise that is still to come on them, in the sum or of each
    client's own; None for none. noised: whether noise of any kind bounds what is told. kept: over the rounds,
    of each client whose examples stay; filled here.

    Security: of what noise bounds, a refusal would tell without it, and so would one that looked at it. Such
    an update is looked at before, with the noise reckoned in, and zeros leave in its place; one whose noise
    is in its steps leaves as it is.
    """

    rules: Preflight
    instructions: Instructions
    level: Level | None
    noised: bool
    kept: dict[ClientId, Kept]

    @classmethod
    def of(
        cls,
        rules: Preflight,
        instructions: Instructions,
        specs: Mapping[str, Spec],
        *,
        noised: bool,
        kept: dict[ClientId, Kept],
    ) -> Looking:
        """specs: of the session's vectors, as far as they are known. noised: by what each client adds."""
        spec, asked = specs.get(UPDATE), instructions.privacy
        if isinstance(spec, Private):
            return cls(rules, instructions, Level(spec.clip, spec.multiplier), True, kept)
        local = noised and asked is not None and asked.mechanism == "local"
        level = Level(asked.clip, asked.multiplier) if local and asked is not None else None
        return cls(rules, instructions, level, noised, kept)

    def sent(
        self,
        model: nn.Module,
        examples: Callable[[ClientId], Inputs],
        results: Results,
        send: Callable[[Results], Sent],
        *,
        blind: Collection[ClientId] = (),
    ) -> tuple[Sent, dict[ClientId, Verdict]]:
        """What would leave each client, and the verdicts: none where nothing is looked at.

        model: as it was received, on the CPU. examples: a client's -> all that it holds. send: what is sent
        of what was trained. blind: who has no such rules, as a malicious client has none.
        """
        if self.rules.action == "off":
            return send(results), {}
        if self.level is None:
            would = send(results)
            looked = {u: vectors[UPDATE] for u, vectors in would.items() if u not in blind}
            return would, {u: self._at(model, u, examples(u), update) for u, update in looked.items()}
        looked = {u: result.upload for u, result in results.items() if u not in blind}
        verdicts = {u: self._at(model, u, examples(u), update) for u, update in looked.items()}
        if self.rules.action == "refuse":
            results = {
                u: replace(result, upload=np.zeros_like(result.upload))
                if u in verdicts and verdicts[u].leaks
                else result
                for u, result in results.items()
            }
        return send(results), verdicts

    def withholds(self, verdict: Verdict) -> bool:
        """Whether a client with this verdict sends nothing."""
        return verdict.leaks and self.rules.action == "refuse" and not self.noised

    def _at(self, model: nn.Module, u: ClientId, x: Inputs, update: np.ndarray[Any, Any]) -> Verdict:
        noise = 0.0
        if self.level is not None and self.level.clip is not None:
            # An update that the clip shortens has the more noise for its length.
            noise = self.level.multiplier * max(self.level.clip, float(np.linalg.norm(update)))
        kept = self.kept.setdefault(u, {})
        return preflight(model, x, update, self.instructions.plan, self.rules, noise=noise, kept=kept)
