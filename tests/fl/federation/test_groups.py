"""Rounds in groups: a rule is given their means, they stay as they are, and sums that their members could not
have made are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl.cli.contribute import check_weighs
from fl.cohort.layout import lay_out
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets
from fl.data.shard import Shard
from fl.federation.client import LocalTrainer
from fl.federation.groups import CUT, longest
from fl.federation.server import Server
from fl.federation.simulation import simulated
from fl.federation.vectors import BELOW, CORRECT, EXAMPLES, LOSS, UPDATE, scheme_for
from fl.privacy.accounting import by_rdp, epsilon
from fl.privacy.budget import of_private
from fl.privacy.mechanisms import Level
from fl.privacy.releases import Gaussian
from fl.privacy.spending import comes_apart, discrete_release, failure
from fl.robust import Bench, Memory, Points, Verdict
from fl.robust.rules import mean
from secagg import (
    Aggregate,
    Bounded,
    ClientSession,
    Counts,
    Masking,
    Private,
    RemoteProtocolError,
    TooFewClients,
    Weight,
)
from secagg.bits import add_packed, pack, word_type
from secagg.inputs import encode_inputs
from secagg.masking.messages import CONSISTENCY_CHECK, MASKED_INPUT, MaskedInput
from secagg.private import Calibration
from secagg.record import AroundClient
from secagg.specs import Spec
from secagg.wire import Raw, decode, encode
from tests.fl.privacy.test_noised_rounds import Ear
from transport import RoundReport

SECRETS = RunSecrets.of_seed(4)
SMALL: dict[str, Any] = {
    "clients": 12,
    "groups": 3,
    "corrupt": 0,
    "adversary": "semi-honest",
    "rounds": 2,
    "model": "logistic",
    "partition": "iid",
    "execution": "batched",
    "examples_per_client": 30,
    "local_epochs": 1,
}


def run_of(ear: Ear | None = None, instruments: Mapping[str, Any] = {}, **changes: Any) -> Server:
    config = RunConfig.of(**SMALL | changes)
    return simulated(config, lay_out(config), secrets=SECRETS, tap=ear, **instruments)


def points_of_a_run(ear: Ear | None = None, **changes: Any) -> tuple[Server, list[Points]]:
    """A run, and what its rule was given."""
    seen: list[Points] = []

    def rule(points: Points, bench: Bench, memory: Memory) -> Verdict:
        seen.append(points)
        return mean(points, bench, memory)

    server = run_of(ear, {"rule": rule}, **changes)
    list(server.rounds())
    return server, seen


# What a rule is given


@pytest.mark.parametrize("adversary", ["active", "semi-honest"])
def test_a_rule_is_given_the_mean_of_each_group(adversary: str) -> None:
    ear = Ear()
    server, (points, *_) = points_of_a_run(ear, adversary=adversary, rounds=1)
    assert sorted(map(len, points.members)) == [4, 4, 4]
    assert frozenset[int]().union(*points.members) == frozenset(range(12))
    for members, update in zip(points.members, points.updates, strict=True):
        due = np.mean([ear.sent[u][0].astype(np.float64) for u in members], axis=0)
        np.testing.assert_allclose(update, due, atol=2e-4)
    assert points.weights.tolist() == [4.0, 4.0, 4.0]
    assert set(server.scheme.vectors) == {UPDATE}  # neither weights nor metrics of so few


def test_public_weights_are_a_groups_total_and_weigh_its_mean() -> None:
    uneven = {"partition": "quantity", "alpha": 0.5, "examples_per_client": None, "rounds": 1}
    ear = Ear()
    server, (points,) = points_of_a_run(ear, public_weights=True, **uneven)
    shares = lay_out(server.config).shares
    for members, update, weight in zip(points.members, points.updates, points.weights, strict=True):
        examples = [len(shares[u]) for u in members]
        assert weight == sum(examples)
        sent = [ear.sent[u][0].astype(np.float64) for u in members]
        np.testing.assert_allclose(update, np.average(sent, axis=0, weights=examples), atol=0.02)


def test_a_median_of_groups_is_that_of_their_means() -> None:
    server, (points,) = points_of_a_run(rounds=1)
    again = run_of(robust="median")
    start = again.model.parameters
    again.groups.cut = server.groups.cut
    trained = next(again.rounds())
    assert trained.survivors == points.members
    assert trained.parameters is not None
    np.testing.assert_allclose(trained.parameters - start, np.median(points.updates, axis=0), atol=4e-4)


# How they are cut


def test_groups_stay_over_the_rounds_and_after_a_stop() -> None:
    rounds = run_of(rounds=3).rounds()
    first = next(rounds)
    assert len(first.checkpoint.memory[CUT]) == 32
    config = RunConfig.of(**SMALL | {"rounds": 3})
    rest = simulated(config, lay_out(config), secrets=SECRETS, resume=first.checkpoint).rounds()
    assert {frozenset(each.survivors) for each in (first, *rounds, *rest)} == {frozenset(first.survivors)}


def test_of_a_sample_they_are_drawn_anew() -> None:
    server = run_of(sample=8, groups=2, rounds=4)
    sets = [trained.survivors for trained in server.rounds()]
    assert server.groups.memory == {}
    assert len({frozenset(some) for some in sets}) == 4
    assert {len(group) for some in sets for group in some} == {4}


@pytest.mark.parametrize("sample", [{}, {"sample": 11}], ids=["all", "a sample"])
def test_of_a_session_that_fails_the_groups_count_as_they_are_cut(sample: dict[str, Any]) -> None:
    """The very first, too, of which there is no sum to say how."""
    server = run_of(adversary="active", **sample)
    everybody, asked = frozenset(range(12)), list[frozenset[int]]()
    assert server.groups.of(everybody) == [everybody]  # before there is any

    def watch(report: RoundReport) -> None:
        if report.round == CONSISTENCY_CHECK:
            asked.append(frozenset(report.of_clients.alive))
            raise TooFewClients(0, 1, CONSISTENCY_CHECK)

    with pytest.raises(TooFewClients):
        next(server.rounds(watch=watch))
    groups = server.groups.of(asked[0])
    assert sorted(map(len, groups)) == ([3, 4, 4] if sample else [4, 4, 4])
    assert frozenset[int]().union(*groups) == asked[0]


def test_of_a_session_that_failed_the_groups_stay() -> None:
    """Clients have uploaded in it, and help to no other cut of what comes out alike."""
    server, cuts = run_of(minimum=1, rounds=2, local_epochs=1, algorithm="fedsgd"), list[Any]()

    def watch(report: RoundReport) -> None:
        if report.round == MASKED_INPUT:
            cuts.append(server.groups.of(frozenset(range(12))))
            if len(cuts) == 1:
                raise TooFewClients(0, 1, MASKED_INPUT)

    first, second = server.rounds(watch=watch)
    assert first.record.abandoned
    assert len(first.checkpoint.memory[CUT]) == 32
    assert cuts[0] == cuts[1] == list(second.survivors)


# What a client tells of itself


@pytest.mark.parametrize("name", [EXAMPLES, LOSS, CORRECT])
def test_a_group_is_told_nothing_of_its_clients_but_updates_whatever_the_server_asks_for(name: str) -> None:
    """A number of examples that is asked for as a count is no weight, which a policy would refuse."""
    more = {name: Counts(length=1, maximum=1000)}
    make = partial(Masking.for_cohort, 12, corrupt=0)
    trainer = LocalTrainer(0, Shard(np.zeros((3, 4)), np.zeros(3, np.int64), 2, "tiny"), "cpu")
    specs: dict[str, Spec] = {UPDATE: Bounded(length=4, bound=1.0), BELOW: Bounded(length=1, bound=0.5)}
    with pytest.raises(RemoteProtocolError, match=f"the server asks for {name} of each group"):
        trainer.offered(make(specs | more, groups=3))
    trainer.offered(make(specs, groups=3))
    trainer.offered(make(specs | {EXAMPLES: Weight(maximum=9)}, groups=3, public_weights=True))
    if name != EXAMPLES:
        with pytest.raises(RemoteProtocolError, match=f"the server asks for {name} of each group"):
            trainer.offered(make(specs | {name: Weight(maximum=9)}, groups=3, public_weights=True))
    trainer.offered(make(specs | more))  # of all it is


def test_nor_of_a_vector_that_is_given() -> None:
    specs: dict[str, Spec] = {"": Bounded(length=4, bound=1.0)}
    check_weighs(specs | {"weight": Weight(maximum=9)})
    with pytest.raises(RemoteProtocolError, match="weighs nothing by it"):
        check_weighs(specs | {"weight": Counts(length=1, maximum=9)})


# Sums that are too long


class Liar(AroundClient):
    """A client that adds to each of its words, under the masks that cancel."""

    def __init__(self, session: ClientSession, scheme: Masking, more: int, name: str) -> None:
        super().__init__(session)
        self._scheme, self._more, self._name = scheme, more, name

    def receive(self, message: Raw) -> bytes | None:
        reply = super().receive(message)
        if reply is None or MASKED_INPUT.encode() not in reply[:32]:
            return reply
        said, bits, at = decode(MaskedInput, reply), self._scheme.ring_bits(), self._scheme.names
        packed: list[Any] = list(said.packed)
        words = np.zeros(self._scheme.vectors[self._name].length, word_type(bits[self._name]))
        add_packed(words, packed[at.index(self._name)], bits[self._name])
        words += np.array(self._more % 2 ** bits[self._name]).astype(words.dtype)
        words &= np.array(2 ** bits[self._name] - 1).astype(words.dtype)
        packed[at.index(self._name)] = memoryview(pack(words, bits[self._name]))
        return encode(MaskedInput([memoryview(bytes(one)) for one in packed]))


class Lying:
    """An instrument by which some clients lie, in some rounds."""

    def __init__(self, who: set[int], more: int, name: str = UPDATE) -> None:
        self._who, self._more, self._name = who, more, name
        self.scheme: Any = None

    def server(self, task: bytes, session: Any) -> Any:
        self.scheme = session.scheme
        return session

    def client(self, u: int, session: ClientSession) -> ClientSession:
        return Liar(session, self.scheme, self._more, self._name) if u in self._who else session


LONG = {"clip": 0.5, "bits": 12}


@pytest.mark.parametrize("skips", [True, False])
def test_of_attackers_the_groups_are_left_out_where_they_skip_the_clip_and_none_where_they_keep_to_it(
    skips: bool,
) -> None:
    server = run_of(attack="scale", attack_level=1e3, attackers=0.1, skip_clip=skips, **LONG)
    trained = next(server.rounds())
    (attacker,) = lay_out(server.config).attackers
    dirty = [sorted(group) for group in trained.survivors if attacker in group]
    assert len(dirty) == 1
    assert trained.record.too_long == (dirty if skips else [])


@pytest.mark.parametrize("rule", ["mean", "median"])
def test_a_group_whose_sum_is_too_long_is_left_out_with_all_its_clients(rule: str) -> None:
    server = run_of(None, {"instrument": Lying({5}, 2**9)}, robust=rule, assumed=0.1, **LONG)
    start = server.model.parameters
    trained = next(server.rounds())
    (group,) = [some for some in trained.survivors if 5 in some]
    record = trained.record
    assert record.too_long == [sorted(group)]
    assert trained.left_out == group
    assert record.left_out == sorted(group)
    assert (record.sums, record.sums_asked, record.alive, record.abandoned) == (2, 3, 8, "")
    assert trained.parameters is not None
    assert np.linalg.norm(trained.parameters - start) <= 0.6


def test_nobody_is_left_out_who_keeps_to_the_clip() -> None:
    for record in (trained.record for trained in run_of(**LONG).rounds()):
        assert (record.too_long, record.left_out) == ([], None)


def test_a_round_all_of_whose_groups_are_too_long_is_abandoned() -> None:
    server = run_of(None, {"instrument": Lying({*range(12)}, 2**9)}, robust="median", **LONG)
    start = server.model.parameters
    trained = [*server.rounds()]
    assert {each.record.abandoned for each in trained} == {
        "every group's sum is longer than its clients could make it"
    }
    assert {len(each.left_out) for each in trained} == {12}
    assert trained[-1].record.left_out == [*range(12)]
    np.testing.assert_array_equal(trained[-1].parameters, start)


def test_a_group_that_weighs_more_than_its_clients_may_is_left_out() -> None:
    lying = Lying({5}, 4, EXAMPLES)  # of at most 4 x 30, in a ring of 128
    trained = next(run_of(None, {"instrument": lying}, public_weights=True).rounds())
    (group,) = [some for some in trained.survivors if 5 in some]
    assert trained.record.too_long == [sorted(group)]


def summed(scheme: Masking, x: np.ndarray, weights: list[int]) -> Aggregate:
    """What a group's sum is opened as whose clients all send x."""
    readings, total = scheme.readings(b"", b""), scheme.zeros()
    for weight in weights:
        given = {UPDATE: x, EXAMPLES: weight}
        words, _ = encode_inputs(
            scheme, {name: given[name] for name in scheme.vectors}, b"", bytes(32), readings=readings
        )
        for name, codes in words.items():
            total[name] += codes
            total[name] &= np.array(2 ** scheme.ring_bits()[name] - 1).astype(total[name].dtype)
    members = frozenset(range(len(weights)))
    return Aggregate.of_codes(scheme.vectors, members, scheme.centred(total), readings)


NOISED = {"noise_multiplier": 1.0}


@given(
    st.integers(1, 40),
    st.floats(1e-2, 1e2),
    st.integers(8, 16),
    st.sampled_from([{}, {"public_weights": True}, {"privacy": "distributed", **NOISED}]),
    st.lists(st.integers(0, 9), min_size=3, max_size=3).filter(any),
)
def test_clients_who_keep_to_the_clip_make_no_sum_that_is_too_long(
    length: int, clip: float, bits: int, how: dict[str, Any], weights: list[int]
) -> None:
    """All of a group send the same, just as long as it may be."""
    config = RunConfig.of(**SMALL | {"clients": 6, "groups": 2, "clip": clip, "bits": bits} | how)
    scheme = scheme_for(config, 6, length, 9, None)
    assert isinstance(scheme, Masking)
    part = summed(scheme, np.full(length, clip / np.sqrt(length)), weights)
    far = np.linalg.norm(part.mean[UPDATE])
    assert far <= longest(config, scheme, Level.of(config.privacy), part)


@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
def test_clients_own_noise_is_no_reason_to_be_left_out(noise: str) -> None:
    server = run_of(privacy="local", noise=noise, clip=0.5, noise_multiplier=2.0)
    assert [trained.record.too_long for trained in server.rounds()] == [[], []]


def test_but_what_is_longer_than_noise_is() -> None:
    lying = {"instrument": Lying({5}, 2**15)}
    server = run_of(None, lying, privacy="local", clip=0.5, noise_multiplier=0.1)
    assert len(next(server.rounds()).record.too_long or ()) == 1
    server = run_of(None, lying, privacy="distributed", clip=0.5, noise_multiplier=0.1)
    assert len(next(server.rounds()).record.too_long or ()) == 1


# Noise


DISTRIBUTED: dict[str, Any] = {"privacy": "distributed", "clip": 0.5, "noise_multiplier": 1.0}


def test_noise_is_reckoned_for_a_group_and_a_client_is_charged_its_own_groups_sum() -> None:
    server = run_of(**DISTRIBUTED, corrupt=1, adversary="active")
    scheme = server.scheme
    assert isinstance(scheme, Masking)
    assert not isinstance(scheme.groups, msgspec.UnsetType)
    assert (scheme.summed, scheme.groups.m_g, scheme.honest) == (4, 3, 2)
    records = [trained.record for trained in server.rounds()]
    spec = scheme.vectors[UPDATE]
    assert isinstance(spec, Private)
    of_group = discrete_release(Calibration(spec, 4, 2))
    assert [charge.releases for charge in server.noising.spending.charges] == [(of_group,)] * 2
    assert of_private(scheme) == (of_group,)
    # Of a sparse or a complete graph alike: the draw of groups may fail, once in 2^48 with its tries.
    assert failure(scheme) == 2.0**-48
    assert not comes_apart(scheme)
    assert [record.epsilon for record in records] == [
        epsilon([of_group] * n, 1e-5 - n * 2.0**-48) for n in (1, 2)
    ]
    assert {record.honest for record in records} == {2}
    # Twelve have added shares of which two are enough: in the mean of all that is sqrt(12 / 2) / 12 of it.
    assert records[0].noise == pytest.approx(0.5 * np.sqrt(12 / 2) / 12, rel=2e-2)


def test_of_unsafe_groups_noise_of_clients_together_has_no_epsilon() -> None:
    server = run_of(**DISTRIBUTED, unsafe_groups=True, corrupt=3)
    record = next(server.rounds()).record
    assert (record.epsilon, record.unsafe_groups) == (None, True)
    assert "unsafe groups" in (record.no_epsilon or "")
    (release,) = of_private(server.scheme)
    calibration = server.scheme.calibration(UPDATE)  # type: ignore[attr-defined]
    assert release == discrete_release(calibration, shares=1)  # a client counts on nobody else
    own = run_of(privacy="local", clip=0.5, noise_multiplier=1.0, unsafe_groups=True, corrupt=3)
    assert next(own.rounds()).record.epsilon is not None  # its own hides it whoever is in its group


@pytest.mark.parametrize(
    ("size", "exact", "integers"),
    [(100, 4.377, 4.753), (20, 11.48, 12.30), (10, 17.86, 19.80), (5, 28.37, 30.13)],
)
def test_noise_for_one_sum_of_all_is_that_much_less_in_a_group(
    size: int, exact: float, integers: float
) -> None:
    """Of 100 clients, multiplier 1, delta 1e-5: what groups would cost that are not reckoned for."""
    total = Calibration(Private(length=1000, clip=1.0, bits=20, multiplier=1.0), 100, 100)
    of_group = discrete_release(total, shares=size)
    assert epsilon([Gaussian(np.sqrt(size / 100))], 1e-5) == pytest.approx(exact, rel=1e-3)
    orders = [float(order) for order in range(2, 65)]
    assert by_rdp([of_group], 1e-5, orders) == pytest.approx(integers, rel=5e-3)
    # And reckoned for it is, it costs what one sum of all did.
    spec = Private(length=1000, clip=1.0, bits=20, multiplier=1.0)
    assert epsilon([discrete_release(Calibration(spec, size, size))], 1e-5) == pytest.approx(4.74, rel=5e-3)
