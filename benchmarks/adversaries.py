"""A round of a run under each protection, recorded, and what those who may look at it read: the server, a
client of the cohort of the others, who listens on the wire, and a relay, where there is one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.noised import Training, mean_of
from benchmarks.protected import SIZES
from benchmarks.protections import Protection
from fl.cli.recorded import Round, record
from fl.cohort.layout import Layout, lay_out
from fl.config.privacy import Perturbation
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets
from fl.data import DataError
from fl.federation.simulation import simulated
from fl.leakage import views
from fl.leakage.attack import Knowledge, Public
from fl.leakage.views import UPDATE, View
from fl.models.architectures import Description, build
from fl.models.weights import from_vector, to_vector
from fl.training.clients import LocalClients
from secagg.encoding import error_bound

SERVER, CLIENT, EAVESDROPPER, RELAY = "server", "client", "eavesdropper", "relay"
MODEL: Final = "mlp-200"
IMAGES: Final = 8  # of each client, all in its one step
RATE: Final = 0.5
TOGETHER: Final = 50  # clients whose steps make a round before the one that is attacked
OTHERS: Final = 10_000  # images of these, at most
CHARGED: Final = SIZES["full"].rounds  # in which a row's epsilon is spent: those of accuracy and cost
PUBLIC: Final = 500  # images of the test set, of an attacker's own
OWN: Final = 0  # the client that looks at the others
SLACK: Final = 1 + 1e-6  # of a bound beside the largest number, which the order of a sum can change a little

Parameters = NDArray[np.float32]


@dataclass(frozen=True)
class Stage:
    """What all rows of a seed share. layout: of the clients of the largest cohort, smaller ones are its
    first; models: round -> the model that it begins with.
    """

    layout: Layout
    models: Mapping[int, Parameters] = field(repr=False)

    @classmethod
    def of(cls, dataset: str, clients: int, rounds: tuple[int, ...], seed: int) -> Stage:
        """Raises: NotImplementedError where the data set is not to be had."""
        try:
            layout = lay_out(_settings(dataset, clients, seed))
        except DataError as error:
            raise NotImplementedError(str(error)) from error
        held = np.concatenate([layout.shares[u] for u in range(clients)])
        others = np.setdiff1d(np.arange(len(layout.y)), held)[:OTHERS]
        kept = np.concatenate([held, others])  # and not the whole data set, once more for each session
        shares = {u: np.arange(IMAGES) + IMAGES * u for u in range(clients)}
        layout = replace(layout, x=layout.x[kept], y=layout.y[kept], shares=shares)
        return cls(layout, _models(layout, np.arange(len(held), len(kept)), dataset, rounds, seed))

    def cohort(self, clients: int) -> Layout:
        return replace(self.layout, shares={u: self.layout.shares[u] for u in range(clients)})


def _settings(dataset: str, clients: int, seed: int, **more: Any) -> RunConfig:
    """alike: never, since one step comes out alike, and a client would help to no second sum of the kind."""
    settings: dict[str, Any] = {
        "dataset": dataset,
        "model": MODEL,
        "clients": clients,
        "small_cohort": clients < 3,
        "examples_per_client": IMAGES,
        "partition": "iid",
        "local_steps": 1,
        "batch_size": IMAGES,
        "lr": RATE,
        "momentum": 0.0,
        "rounds": CHARGED,
        "seed": seed,
        "metrics": False,
        "execution": "sequential",
        "scheme": "plain",
        "alike": "never",
    }
    return RunConfig.of(**settings | more)


def _models(
    layout: Layout, others: NDArray[np.int64], dataset: str, rounds: tuple[int, ...], seed: int
) -> dict[int, Parameters]:
    """One step on as many images as TOGETHER clients have is the mean of theirs."""
    most = max(rounds)
    training = Training(
        _settings(dataset, 1, seed, rounds=most, batch_size=TOGETHER * IMAGES, examples_per_client=None),
        replace(layout, shares={0: others}),
    )
    models = {1: training.parameters.astype(np.float32)}
    if most > 1:
        for done in training.rounds(mean_of):
            models[done + 1] = training.parameters.astype(np.float32)
            if done + 1 == most:
                break
    return {round: models[round] for round in rounds}


@dataclass(frozen=True)
class Recorded:
    """seen: the round that is attacked. then: the next one of the same clients, where anything of single ones
    is read. first: the weights with which the run began. noise: of each number of the mean, as the server
    adds it.
    """

    protection: Protection
    seen: Round
    then: Round | None
    first: Parameters = field(repr=False)
    noise: float = 0.0

    @classmethod
    def of(cls, protection: Protection, stage: Stage, round: int, clients: int, seed: int) -> Recorded:
        """Raises: LocalProtocolError, ConfigError where so few clients have no such session."""
        layout, before = stage.cohort(clients), stage.models[round]
        secrets, dataset = RunSecrets.of_seed(seed), layout.serving.dataset
        config = _settings(dataset.name, clients, seed, **protection.settings_of(clients))
        multiplier = simulated(config, layout, secrets=secrets).noising.multipliers[0]
        singly = protection.clear or protection.scheme == "decoys"
        changes: dict[str, Any] = {"rounds": 2 if singly else 1}
        if multiplier:
            changes |= {"epsilon": None, "noise_multiplier": multiplier}
        mechanism = config.privacy.mechanism
        if not protection.clear and mechanism in ("none", "central"):
            changes["bound"] = SLACK * _largest(config, layout, before)
        last = record(config.with_(**changes), layout, secrets, changes["rounds"], first=before)
        seen, then = (last.earlier[0], last) if singly else (last, None)
        central = multiplier * (config.privacy.clip or 0.0) / clients if mechanism == "central" else 0.0
        described = Description(MODEL, dataset.shape, dataset.classes)
        first = to_vector(build(MODEL, described.shape, described.classes, seed))
        return cls(protection, seen, then, first, central)

    @property
    def knowledge(self) -> Knowledge:
        """Of everybody, with a few images that are no secret, to tell labels by."""
        known, privacy, public = self.seen.knowledge, self.seen.config.privacy, self.seen.public
        if privacy.mechanism == "distributed":  # its clip stands in the session, and not in the task
            known = replace(known, perturbation=Perturbation(clip=privacy.clip))
        encoding = None if self.protection.clear else self.seen.encoding
        return replace(known, encoding=encoding, public=Public(public.x[:PUBLIC], public.y[:PUBLIC]))

    def read_by(self, adversary: str) -> View:
        """What it reads, each part with the model that it has. The server of clients who keep theirs has the
        first weights, a relay such as it draws itself.
        """
        match adversary:
            case "server":
                model = self.first if self.protection.kept else self.seen.before
                return _with(self.seen.read, model)
            case "client":
                return _with(self._others(), self.seen.before)
            case "relay":
                shape, classes = self.seen.knowledge.model.shape, self.seen.knowledge.model.classes
                drawn = to_vector(build(MODEL, shape, classes, self.seen.config.training.seed + 1))
                return _with(self.seen.view("relay", frozenset({0})), drawn)
        return View((), f"{views.of_eavesdropper().why}: {CAPTURED}")

    def _others(self) -> View:
        """The mean of all is what the model moved by, or the sum that the clients have; the client's own
        share is taken off, but that of one that may have been left blank, and where the model moved by what a
        rule made of groups, in which no share is known. How far off each number is, everybody can work out
        who knows the session.
        """
        n, (whole,) = len(self.seen.uploads), self.seen.view("participant").parts
        if self.seen.config.protection.blank or self.protection.group:
            return View((replace(whole, deviation=math.hypot(self._rounding, self._added)),))
        sent = self.seen.sum_of([OWN]) if self.protection.clear else self.seen.encoded(OWN)
        whole = replace(whole, deviation=self._rounding)
        (rest,) = views.of_colluders(whole, {OWN: (sent.updates[0], 1)}).parts
        return View((replace(rest, deviation=math.hypot(rest.deviation, self._added * n / (n - 1))),))

    @property
    def _rounding(self) -> float:
        """Of the mean, by how codes are rounded."""
        if self.protection.clear or self._private:
            return 0.0
        if not self.protection.kept:
            return self.seen.read.parts[0].deviation
        n, spec = len(self.seen.uploads), self.seen.scheme.vectors[UPDATE]
        return error_bound(spec, survivors=n, total_weight=n, max_weight=1) / math.sqrt(6 * n)

    @property
    def _added(self) -> float:
        """To the mean: the noise of a server, or of all shares, of which a client's own is not recorded; and
        what the float32 of two models leaves.
        """
        noise = self.seen.read.parts[0].deviation if self._private else self.noise
        after = self.seen.before if self.seen.after is None else self.seen.after
        largest = max(float(np.abs(self.seen.before).max()), float(np.abs(after).max()))
        return math.hypot(noise, 2.0**-23 * largest / math.sqrt(6))

    @property
    def _private(self) -> bool:
        return self.seen.config.privacy.mechanism == "distributed"


CAPTURED: Final = (
    "tests/transport/test_capture.py finds no run of bytes of any model, update or key; over plain ZeroMQ "
    "nothing is shown"
)


def adversaries(protection: Protection) -> tuple[str, ...]:
    """Who may look at a session under this protection: a relay where there are any."""
    relays = (RELAY,) if protection.scheme == "split" else ()
    return (SERVER, CLIENT, EAVESDROPPER, *relays)


def _with(view: View, model: Parameters) -> View:
    return View(tuple(replace(part, before=model) for part in view.parts), view.why)


def _largest(config: RunConfig, layout: Layout, before: Parameters) -> float:
    """Number in any update of the round, not clipped."""
    dataset, plan = layout.serving.dataset, config.training.plan
    model = build(MODEL, dataset.shape, dataset.classes, 0)
    from_vector(model, before)
    clients = LocalClients(layout.x, layout.y, layout.shares, torch.device("cpu"), "sequential")
    results = clients.train(model, plan, dict.fromkeys(layout.shares, bytes(32)), counting=False)
    return max(float(np.abs(result.upload).max()) for result in results.values())
