"""How long a round takes a client, by the model of links and devices (Ma et al., figure 5)."""

from __future__ import annotations

from fl.cohort.layout import Serving
from fl.cohort.links import compute_seconds, expected_seconds
from fl.config.plan import LocalPlan
from fl.config.run import RunConfig
from fl.config.section import ConfigError
from secagg.errors import ClientId


def client_seconds(config: RunConfig, serving: Serving, u: ClientId, up: int, down: int) -> float:
    """What the model of links and devices gives client u for a round of so many bytes."""
    declared, speeds, held = serving.declared, serving.speeds, serving.examples
    if declared is None or speeds is None or held is None or (link := declared[u].link) is None:
        raise ConfigError("links: only `secagg train` lays out a model of them")
    return compute_seconds(_seen(config.training.plan, held[u]), speeds[u]) + expected_seconds(link, up, down)


def _seen(plan: LocalPlan, examples: int) -> int:
    """How many examples all steps of a round take: whole passes, and some batches of another; by Poisson
    sampling, how many on average.
    """
    if plan.algorithm == "fedsgd":
        return examples
    if plan.sampling == "poisson":
        return plan.steps_of(examples) * min(plan.batch_size, examples)
    passes, batches = divmod(plan.steps_of(examples), -(-examples // plan.batch_size))
    return passes * examples + batches * plan.batch_size
