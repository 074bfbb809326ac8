"""The unprotected sum behaves as any scheme does: drops, weights, counts, bounds; and hostile uploads."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import (
    Bounded,
    Clipping,
    Counts,
    LocalProtocolError,
    Plain,
    RemoteProtocolError,
    run,
)
from secagg.plain import Input
from secagg.wire import Join, Task, context_of, decode, encode
from tests.play import Play
from tests.secagg.helpers import MIXED, culprits_named, mixed_inputs, with_another_byte

FIVE = Plain.for_cohort(5, MIXED)
INPUTS = mixed_inputs(range(5))


def check(total: Any, survivors: set[int]) -> None:
    x = [INPUTS[u] for u in sorted(survivors)]
    w = [each["weight"] for each in x]
    assert total.survivors == survivors
    assert total.codes == {}
    assert total.sum["weight"].tolist() == [sum(w)]
    assert total.sum["counts"].tolist() == np.sum([each["counts"] for each in x], axis=0).tolist()
    np.testing.assert_allclose(total.mean["counts"], np.mean([each["counts"] for each in x], axis=0))
    true = np.average([each["update"] for each in x], axis=0, weights=w)
    assert np.abs(total.mean["update"] - true).max() <= total.error_bound["update"]
    assert (total.error_bound["counts"], total.error_bound["weight"]) == (0.0, 0.0)
    np.testing.assert_allclose(total.sum["update"], total.mean["update"] * sum(w))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
@pytest.mark.parametrize("clip", [None, 0.7])
@pytest.mark.parametrize("bound", [0.1, 0.7001, 3.0])
def test_the_mean_is_within_half_a_last_place_of_float32(
    bound: float, clip: float | None, dtype: type
) -> None:
    scheme = Plain.for_cohort(3, Bounded(length=1, bound=bound, clip=clip))
    for x in np.random.default_rng(0).normal(0, 2, 60).astype(dtype):
        total = run(scheme, {u: [x] for u in range(3)})
        exact = float(x) * min(1, clip / abs(float(x))) if clip and x else float(x)
        true = min(max(exact, -bound), bound)
        assert abs(total.mean[""][0] - true) <= total.error_bound[""] == bound * 2.0**-24


def test_vectors_are_on_record_before_they_leave_or_stay_here() -> None:
    """Nothing is hidden that a second input would uncover; but who keeps to a budget counts what leaves."""

    def refused(context: bytes) -> None:
        raise LocalProtocolError(context.hex())

    client = FIVE.client(0, lambda task: INPUTS[0], once=refused)
    client.start()
    with pytest.raises(LocalProtocolError, match=context_of(b"task").hex()):
        client.receive(encode(Task(bytes(32), b"task")))


def test_clipping_is_counted_as_in_masking() -> None:
    spec = {"n": Counts(length=1, maximum=9), "x": Bounded(length=3, bound=3.5, clip=5.0)}
    play = Play(Plain.for_cohort(3, spec), {u: {"n": [u], "x": [30.0, -40.0, 0.0]} for u in range(3)})
    assert play.clients[0].clipping == {}
    np.testing.assert_allclose(play.finish().mean["x"], [3.0, -3.5, 0.0])
    assert play.clients[0].clipping == {"n": Clipping(0, 1.0), "x": Clipping(1, 0.1)}


def refuses(round: str, change: Callable[[Any], Any], words: str) -> None:
    """Client 0's changed answer is refused, it is named and out, and the others' sum is what it was."""
    play = Play(FIVE, INPUTS).to(round).answer()
    kind = {"join": Join, "input": Input}[round]
    answer = play.answers.pop(0)
    new = change(decode(kind, answer))
    with pytest.raises(RemoteProtocolError, match=f"client 0, {round}: .*{words}") as caught:
        play.server.receive(0, new if isinstance(new, bytes) else encode(new))
    assert caught.value.culprits == {0}
    with pytest.raises(RemoteProtocolError, match=f"client 0 is not expected in round {round}"):
        play.server.receive(0, answer)
    check(play.finish(), {1, 2, 3, 4})


def vectors(**new: Any) -> Callable[[Input], Input]:
    """The upload with the bytes of some vectors exchanged."""
    return lambda message: Input(
        [memoryview(new.get(name, old)) for name, old in zip(sorted(MIXED), message.vectors, strict=True)]
    )


def reals(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


def integers(*values: int) -> bytes:
    return np.array(values, "<i8").tobytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            vectors(update=np.array([0, 0, math.nan, 0, 0], "<f4").tobytes()),
            "'update' holds nan at coordinate 2",
        ),
        (vectors(update=np.array([0, 0, 0, 0, -math.inf], "<f4").tobytes()), "'update' holds -inf"),
        (vectors(update=reals(0, 0, 0, 0, 1 + 2**-23)), "'update' is beyond its bound of 1"),
        (vectors(update=reals(0, -3e38, 0, 0, 0)), "'update' is beyond its bound of 1"),
        (vectors(update=bytes(16)), "other sizes"),
        (vectors(update=bytes(24)), "other sizes"),
        (vectors(update=bytes(40)), "other sizes"),
        (vectors(counts=integers(0, 0, 10)), r"'counts' holds 10, not in 0\.\.9"),
        (vectors(counts=integers(-1, 0, 0)), r"'counts' holds -1, not in 0\.\.9"),
        (vectors(weight=integers(-1)), r"'weight' holds -1, not in 0\.\.4"),
        (vectors(weight=integers(5)), r"'weight' holds 5, not in 0\.\.4"),
        (lambda message: Input(message.vectors[:2]), "other sizes"),
        (lambda message: Input([*message.vectors, memoryview(b"")]), "other sizes"),
        (lambda message: encode(Join(1, bytes(32))), "not a input message"),
        (lambda message: b"", "not a input message"),
    ],
)
def test_a_hostile_upload_is_refused_and_nothing_of_it_is_added(
    change: Callable[[Any], Any], words: str
) -> None:
    refuses("input", change, words)


@settings(max_examples=60)
@pytest.mark.parametrize("round", Plain.rounds)
@given(st.binary(max_size=100))
def test_whatever_the_bytes_a_server_refuses_them_and_goes_on(round: str, data: bytes) -> None:
    refuses(round, lambda _: data, "not a ")


@given(st.data())
def test_whatever_byte_of_an_upload_changes_it_is_taken_or_refused(data: st.DataObject) -> None:
    play = Play(FIVE, INPUTS).to("input").answer()
    message = with_another_byte(play.answers.pop(0), data)
    culprits = culprits_named(lambda m: play.server.receive(0, m), message)
    assert culprits in (None, {0})
    assert play.finish().survivors == {0, 1, 2, 3, 4} - (culprits or set())


@given(st.data())
def test_whatever_byte_of_a_task_changes_a_client_answers_or_refuses(data: st.DataObject) -> None:
    play = Play(FIVE, INPUTS).to("input")
    client, answered = play.clients[0], False
    with suppress(RemoteProtocolError):
        decode(Input, client.receive(with_another_byte(play.requests[0], data)))
        answered = True
    assert client.done == answered
    with pytest.raises(LocalProtocolError, match="over"):
        client.receive(b"")


def test_a_client_refuses_anything_but_a_task() -> None:
    for message in (b"", encode(Join(1, bytes(32))), encode(Task(bytes(32), b""))[:-1]):
        play = Play(FIVE, INPUTS).to("input")
        with pytest.raises(RemoteProtocolError, match="not a task message"):
            play.clients[0].receive(message)
