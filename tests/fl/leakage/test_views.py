"""Of real sessions, what each party reads: of each scheme just what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from fl.federation import vectors
from fl.leakage import views
from fl.leakage.views import Part, View, encoded, of_colluders, of_participant, of_server, of_two
from secagg import CKKS, Among, Bounded, Decoys, Masking, Plain, Recorded, Scheme, Split, Weight, run
from secagg.encoding import centred
from secagg.inputs import encode_inputs
from secagg.wire import context_of

N, LENGTH = 4, 12
VECTORS = {"examples": Weight(maximum=10), "update": Bounded(length=LENGTH, bound=1.0)}
rng = np.random.default_rng(19)
INPUTS: dict[int, dict[str, Any]] = {
    u: {"examples": u + 2, "update": rng.uniform(-1, 1, LENGTH)} for u in range(N)
}
MEAN = sum(own["examples"] * own["update"] for own in INPUTS.values()) / 14
SEEDS = {u: bytes([u]) * 32 for u in range(N)}
TASK = b"a round"


def seen(scheme: Scheme, inputs: Mapping[int, Any] = INPUTS) -> View:
    recorded: list[Recorded] = []

    def record(server: Any) -> Recorded:
        recorded.append(Recorded(server))
        return recorded[0]

    run(scheme, inputs, task=TASK, rounding_seeds=SEEDS, instrument=record)
    return of_server(scheme, recorded[0].view)


def masking() -> Scheme:
    return Masking.for_cohort(N, VECTORS, adversary="semi-honest")


def split() -> Scheme:
    return Split.for_cohort(N, VECTORS, adversary="semi-honest")


def released() -> Scheme:
    return CKKS.for_cohort(N, VECTORS, ending="release")


def own_codes(scheme: Any, u: int) -> dict[str, Any]:
    codes, _ = encode_inputs(scheme, INPUTS[u], context_of(TASK), SEEDS[u])
    return {name: centred(VECTORS[name], words, N) for name, words in codes.items()}


def test_the_names_are_those_of_training() -> None:
    assert (views.UPDATE, views.EXAMPLES) == (vectors.UPDATE, vectors.EXAMPLES)


def test_a_plain_server_reads_every_update_and_its_weight() -> None:
    view = seen(Plain.for_cohort(N, VECTORS))
    assert {part.members: part.examples for part in view.parts} == {
        frozenset({u}): own["examples"] for u, own in INPUTS.items()
    }
    for part in view.parts:
        (u,) = part.members
        np.testing.assert_array_equal(part.updates[0], INPUTS[u]["update"].astype(np.float32))


@pytest.mark.parametrize("scheme", [masking, split])
def test_of_a_scheme_that_hides_a_server_reads_one_sum(scheme: Callable[[], Scheme]) -> None:
    (part,) = seen(scheme()).parts
    assert (part.members, part.examples) == (frozenset(range(N)), 14)
    np.testing.assert_allclose(part.updates[0], MEAN, atol=1e-3)


def test_what_masking_split_and_a_released_sum_show_is_one_and_the_same() -> None:
    """So that one attack on what masking shows is one on all three, or on less than the others show."""
    pytest.importorskip("tenseal")
    (masked,), (of_relays,), (decrypted,) = (seen(scheme()).parts for scheme in (masking, split, released))
    for part in (of_relays, decrypted):
        assert (part.members, part.examples) == (masked.members, masked.examples)
    np.testing.assert_array_equal(of_relays.updates, masked.updates)
    # Codes are rounded, each by less than a step. What CKKS releases is flooded, by less than half of one.
    step = 1 / VECTORS["update"].levels * 10 / 14
    assert np.abs(masked.updates - MEAN).max() <= N * step
    assert np.abs(decrypted.updates - MEAN).max() <= N * step / 2
    assert decrypted.deviation < masked.deviation / 2


def test_where_the_clients_keep_the_sum_the_server_reads_nothing() -> None:
    pytest.importorskip("tenseal")
    view = seen(CKKS.for_cohort(N, VECTORS, ending="keep"))
    assert view.parts == ()
    assert "keep the sum" in view.why


def test_of_decoys_a_server_reads_every_candidate_and_not_which_is_true() -> None:
    pytest.importorskip("tenseal")
    scheme = Decoys.for_cohort(N, VECTORS, candidates=3)
    decoys = {u: [{**own, "update": own["update"] / k} for k in (-2, 3)] for u, own in INPUTS.items()}
    view = seen(scheme, {u: Among(own, decoys[u]) for u, own in INPUTS.items()})
    places = set()
    for part in view.parts:
        (u,) = part.members
        assert (part.updates.shape, part.examples) == ((3, LENGTH), INPUTS[u]["examples"])
        # The true one is rounded under the client's own seed, as in every scheme.
        true = encoded(u, VECTORS, [own_codes(scheme, u)]).updates[0]
        (place,) = np.flatnonzero((part.updates == true).all(axis=1))
        places.add(int(place))
        other = np.delete(part.updates, place, axis=0)
        sent = [decoy["update"] for decoy in decoys[u]]
        assert min(np.abs(other - np.array(order)).max() for order in (sent, sent[::-1])) < 1e-3
    assert places <= {0, 1, 2}


def test_codes_say_the_update_to_a_step_of_the_encoding() -> None:
    part = encoded(2, VECTORS, [own_codes(masking(), 2)])
    assert (part.members, part.examples) == (frozenset({2}), 4)
    step = 1 / VECTORS["update"].levels * 10 / 4  # w_max / w levels of a weighted code
    assert np.abs(part.updates[0] - INPUTS[2]["update"]).max() <= step
    assert part.deviation == pytest.approx(step / 6**0.5)


def test_how_far_a_sum_is_off_is_known_of_its_encoding() -> None:
    """Of random rounding: as the root of the number of clients, and twice as far with as little weight."""
    length, n = 20_000, N
    specs = {"update": Bounded(length=length, bound=1.0, bits=8), "examples": Weight(maximum=2)}
    inputs = {u: {"update": rng.uniform(-0.9, 0.9, length), "examples": np.array([1])} for u in range(n)}
    (part,) = seen(Masking.for_cohort(n, specs, adversary="semi-honest"), inputs).parts
    off = part.updates[0] - np.mean([own["update"] for own in inputs.values()], axis=0)
    assert part.deviation == pytest.approx(off.std(), rel=0.05)
    (left,) = of_colluders(part, {u: (inputs[u]["update"], 1) for u in range(3)}).parts
    assert left.deviation == pytest.approx(part.deviation * n / 1 * (1 / n) ** 0.5)


def test_the_server_and_clients_on_its_side_read_the_sum_of_the_others() -> None:
    scheme = masking()
    (whole,) = seen(scheme).parts
    own = {u: encoded(u, VECTORS, [own_codes(scheme, u)]) for u in (0, 1, 3)}
    (left,) = of_colluders(whole, {u: (part.updates[0], part.examples or 1) for u, part in own.items()}).parts
    assert (left.members, left.examples) == (frozenset({2}), 4)
    # To the last bit what the one that is left had encoded: there is nobody to hide among.
    np.testing.assert_allclose(
        left.updates[0], encoded(2, VECTORS, [own_codes(scheme, 2)]).updates[0], atol=1e-12
    )
    nobody = of_colluders(Part(frozenset({0}), np.zeros((1, 2)), 2), {0: (np.zeros(2), 2)})
    assert (nobody.parts, nobody.why) == ((), "nobody else is in the sum")


def test_a_server_that_asks_for_two_sums_reads_what_is_in_one_alone() -> None:
    (whole,) = seen(masking()).parts
    without = Masking.for_cohort(3, VECTORS, adversary="semi-honest")
    (most,) = seen(without, {u: own for u, own in INPUTS.items() if u != 2}).parts
    (left,) = of_two(whole, most).parts
    assert (left.members, left.examples) == (frozenset({2}), 4)
    off = np.abs(left.updates[0] - INPUTS[2]["update"]).max()
    assert off < 1e-3
    assert left.deviation == pytest.approx(np.hypot(14 * whole.deviation, 10 * most.deviation) / 4)
    for one, other in ((most, whole), (whole, whole)):
        assert of_two(one, other) == View((), "the second sum is not of some of the first")
    # Where weights are not told, each counts 1.
    of_three, of_two_of_them = (Part(frozenset(range(n)), np.full((1, 2), n / 2)) for n in (3, 2))
    (left,) = of_two(of_three, of_two_of_them).parts
    assert (left.updates.tolist(), left.examples) == ([[2.5, 2.5]], None)


def test_a_participant_reads_the_mean_off_two_models() -> None:
    before = np.ones(3)
    (part,) = of_participant(before, before + 0.5 * np.array([1.0, 2.0, -1.0]), 0.5, frozenset({0, 1})).parts
    assert part.updates.tolist() == [[1.0, 2.0, -1.0]]
    assert part.examples is None
