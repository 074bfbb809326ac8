"""Training in which every column of a table sums the updates in its own way."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fl.cohort.layout import Layout, lay_out
from fl.config.privacy import Perturbation
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets, order_key
from fl.federation.simulation import WAYS
from fl.models.architectures import build
from fl.models.weights import from_vector, to_vector
from fl.privacy.mechanisms import Level, central_deviation, into_ball, perturbed
from fl.privacy.noise import RealNoise, real_noise
from fl.training.clients import LocalClients
from fl.training.local import Diverged, evaluate
from fl.training.step import PerExample
from secagg import Bounded
from secagg.crypto import KEY_BYTES
from secagg.encoding import centred, decode_mean, encode_vector, error_bound
from secagg.errors import ClientId

DELTA = 1e-5
Vector = NDArray[np.float64]
Updates = Mapping[ClientId, NDArray[np.floating[Any]]]
Mean = Callable[[Updates], Vector]


# Training


class Training:
    """Clients whose updates are summed by whoever calls it. config: of rounds, clients and local training.
    layout: None for the configuration's.
    """

    def __init__(self, config: RunConfig, layout: Layout | None = None) -> None:
        self.config, layout = config, layout or layout_of(config)
        dataset = layout.serving.dataset
        way = WAYS[config.training.execution]
        # A copy of what they hold, and not of a data set of which most is nobody's.
        held = np.unique(np.concatenate(list(layout.shares.values())))
        shares = {u: np.searchsorted(held, own) for u, own in layout.shares.items()}
        self._clients = LocalClients(layout.x[held], layout.y[held], shares, torch.device("cpu"), way)
        self._test = torch.tensor(dataset.test_x), torch.tensor(dataset.test_y)
        self._secrets = RunSecrets.of_seed(config.training.seed)
        self._model = build(config.training.model, dataset.shape, dataset.classes, config.training.seed)
        self.parameters = to_vector(self._model).astype(np.float64)

    def rounds(
        self, mean: Mean, per_example: Callable[[int], PerExample | None] = lambda round: None
    ) -> Iterator[int]:
        """Each round's number, once the model has moved by its mean. per_example: what a round's steps make
        of the gradients of examples.

        Raises: Diverged where clients or their mean leave the finite numbers; the model is then as it was.
        """
        for round in range(1, self.config.training.rounds + 1):
            moved = self.parameters + mean(self._updates(round, per_example(round)))
            if not np.isfinite(moved.astype(np.float32)).all():
                raise Diverged(f"the mean of round {round} is not finite")
            self.parameters = moved
            yield round

    def chosen(self, round: int) -> list[ClientId]:
        """Whose updates are summed."""
        cohort = self.config.cohort
        rng = np.random.default_rng([self.config.training.seed, round])
        return sorted(rng.choice(cohort.clients, cohort.per_round, replace=False).tolist())

    def _updates(self, round: int, per_example: PerExample | None) -> Updates:
        chosen, model = self.chosen(round), self._model_now()
        orders = {u: order_key(self._secrets.client(u), b"round %d" % round) for u in chosen}
        plan = self.config.training.plan
        results = self._clients.train(model, plan, orders, per_example=per_example, counting=False)
        return {u: result.upload.astype(np.float64) for u, result in results.items()}

    def evaluated(self) -> tuple[float, float]:
        """(accuracy, mean loss in nats) on the test set."""
        return evaluate(self._model_now(), *self._test)

    def _model_now(self) -> torch.nn.Module:
        from_vector(self._model, self.parameters.astype(np.float32))
        return self._model

    def by_class(self) -> list[float]:
        """Accuracy on each class of the test set."""
        x, y = self._test
        of_each = [y == each for each in range(int(y.max()) + 1)]
        return [evaluate(self._model_now(), x[own], y[own])[0] for own in of_each]

    def accuracy(self) -> float:
        return self.evaluated()[0]


@lru_cache(maxsize=1)
def layout_of(config: RunConfig) -> Layout:
    """Of one seed, for all columns."""
    return lay_out(config)


# Sums


def mean_of(updates: Updates) -> Vector:
    """(d,) of clients' (d,)."""
    mean: Vector = np.mean(list(updates.values()), axis=0)
    return mean


def decoded(spec: Bounded, updates: Updates, rng: np.random.Generator) -> tuple[Vector, float]:
    """(mean, the deviation of each of its numbers): of the sum of codes, which is what a session that hides
    single updates leaves of its masked inputs, to the last bit. rng: how they are rounded.
    """
    n, codes = len(updates), np.zeros(spec.length, np.int64)
    for x in updates.values():
        words, _ = encode_vector(spec, x, clients=n, rounding_key=rng.bytes(KEY_BYTES))
        codes += centred(spec, words, n)
    numbers: dict[str, Any] = {"survivors": n, "total_weight": n, "max_weight": 1}
    return decode_mean(spec, codes, **numbers), error_bound(spec, **numbers) / math.sqrt(6 * n)


def clipped(clip: float, updates: Updates) -> Updates:
    """Each update, brought to an l2 norm of at most `clip`."""
    return {u: into_ball(x, clip) for u, x in updates.items()}


def central(clip: float, z: float, updates: Updates) -> Vector:
    """The server's noise on the mean."""
    mean = mean_of(clipped(clip, updates))
    ball = Bounded(length=len(mean), bound=clip, clip=clip)
    deviation = central_deviation(ball, Level(clip, z), len(updates), as_float=True)
    return mean + real_noise("gaussian", deviation, len(mean), os.urandom(KEY_BYTES))


def local(clip: float, z: float, updates: Updates, *, noise: RealNoise = "gaussian") -> Vector:
    """Each client's whole noise on its own update."""
    asked = Perturbation("local", noise, clip, z)
    return mean_of({u: perturbed(asked, x, os.urandom(KEY_BYTES)) for u, x in updates.items()})
