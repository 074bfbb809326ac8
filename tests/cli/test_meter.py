"""`secagg train --meter`: what came out of the server's own record of a run, of whom, beside chance."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from commands import Ran
from matplotlib.figure import Figure

from fl.cli.fitting import fitting
from fl.cli.guessed import of_labels
from fl.cli.linked import linked, owned
from fl.cli.meter import BARS, _bars, _hidden, _linked, _whom, run
from fl.cli.output import Output
from fl.cli.pictures import shares
from fl.cli.readings import MOST, Readings, Record, packed, rebuilt, unpacked
from fl.cli.recorded import Round, record
from fl.cli.report import size
from fl.cli.scored import RIGHT, Tally, of_images
from fl.cohort.layout import Layout, lay_out
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets, put
from fl.federation.simulation import simulated
from fl.leakage.attack import Found
from fl.leakage.attacks import ATTACKS
from fl.leakage.verdicts import LEAKS, NOISED, PROTECTS, ROUNDING
from fl.leakage.views import Part, View
from tests.fl.leakage.helpers import quick_attack

Here = Callable[..., Ran]

N = 8
ONE_STEP = {"examples_per_client": 1, "batch_size": 1, "local_steps": 1, "partition": "iid", "alike": "never"}
SMALL: dict[str, Any] = ONE_STEP | {
    "clients": N,
    "rounds": 3,
    "model": "mlp-200",
    "execution": "sequential",
    "preflight": "off",
    "baseline": False,
}
EVERYBODY = frozenset(range(N))


@lru_cache
def recorded(kept: int = 2, most: int = 10**9, **flags: Any) -> tuple[RunConfig, Layout, Readings]:
    config = RunConfig.of(**SMALL | flags)
    layout, readings = lay_out(config), Readings(kept, most)
    server = simulated(config, layout, secrets=RunSecrets.of_seed(0), instrument=readings)
    for _ in server.rounds():
        pass
    return config, layout, readings


def rounds_of(kept: int = 2, **flags: Any) -> list[Round]:
    config, layout, readings = recorded(kept, **flags)
    return rebuilt(config, layout, RunSecrets.of_seed(0), readings.read().rounds)


# What is kept


def test_of_the_last_rounds_is_kept_what_the_server_could_read() -> None:
    for scheme, members in (("plain", [{u} for u in range(N)]), ("masking", [EVERYBODY])):
        read = recorded(scheme=scheme)[2].read()
        assert [one.round for one in read.rounds] == [2, 3]
        assert [part.members for part in read.rounds[-1].view.parts] == members
        assert read.left_out == 0


def test_a_sum_of_real_numbers_counts_as_what_it_takes() -> None:
    pytest.importorskip("tenseal")
    flags = {"scheme": "ckks", "model": "mlp", "alike": "never"}
    read = recorded(**flags)[2].read()
    assert [one.round for one in read.rounds] == [2, 3]
    assert read.bytes > sum(one.view.parts[0].updates.nbytes for one in read.rounds)
    assert recorded(2, read.needed, **flags)[2].read().left_out == 0
    assert recorded(2, read.needed - 1, **flags)[2].read().left_out == 2


def test_no_more_is_kept_than_there_is_memory_for() -> None:
    """Of masked sums the older rounds go, of single uploads those that come last."""
    one = recorded(3, scheme="masking")[2].bytes // 3
    tight = recorded(3, int(2.5 * one), scheme="masking")[2]
    assert ([each.round for each in tight.read().rounds], tight.bytes <= 2.5 * one) == ([2, 3], True)
    plain = recorded(1, scheme="plain")[2]
    few = recorded(1, plain.bytes // 2, scheme="plain")[2]
    (kept,) = few.read().rounds
    assert few.bytes <= plain.bytes // 2
    assert few.read().left_out == N - len(kept.view.parts) > 0


@pytest.mark.parametrize(("scheme", "left_out"), [("plain", 2 * N), ("masking", 2)])
def test_of_what_has_no_room_it_is_said_how_much_it_needs(scheme: str, left_out: int) -> None:
    none = recorded(2, 20_000, scheme=scheme)[2].read()
    assert (none.rounds[-1].view.parts, none.left_out) == ((), left_out)
    enough = recorded(2, none.needed, scheme=scheme)[2].read()
    assert ([one.round for one in enough.rounds], enough.left_out) == ([3], 0)
    assert recorded(2, none.needed - 1, scheme=scheme)[2].read().left_out > 0


def test_no_older_round_is_forgotten_for_what_has_no_room_without_it() -> None:
    scheme, readings = recorded(scheme="plain")[2].read().rounds[-1].scheme, Readings(3, 100)
    session: Any = SimpleNamespace(scheme=scheme, round=scheme.upload_round, receive=lambda u, message: None)
    there = []
    for task, many in ((b"1", 40), (b"2", 200), (b"2", 80)):
        readings.server(task, session).receive(0, bytes(many))
        there.append(readings.bytes)
    assert there == [1 + 40, 1 + 40 + 1, 1 + 80]


def test_what_the_servers_process_writes_is_what_is_read_of_it() -> None:
    for scheme in ("plain", "masking"):
        given = replace(recorded(scheme=scheme)[2].read(), left_out=3, needed=7)
        back = unpacked(packed(given))
        assert (back.left_out, back.bytes, back.needed) == (3, given.bytes, 7)
        for one, other in zip(given.rounds, back.rounds, strict=True):
            assert (one.task, one.scheme, one.view.why) == (other.task, other.scheme, other.view.why)
            for part, same in zip(one.view.parts, other.view.parts, strict=True):
                np.testing.assert_array_equal(part.updates, same.updates)
                assert replace(part, updates=same.updates) == same


@pytest.mark.parametrize("scheme", ["plain", "masking"])
def test_the_steps_of_clients_are_taken_again_as_they_were(scheme: str) -> None:
    """Held against what was heard while they were taken."""
    config, layout, readings = recorded(scheme=scheme, local_steps=3, examples_per_client=4)
    (_, round) = rebuilt(config, layout, RunSecrets.of_seed(0), readings.read().rounds)
    heard = record(config, layout, RunSecrets.of_seed(0))
    np.testing.assert_array_equal(round.before, heard.before)
    assert round.uploads.keys() == EVERYBODY
    for u in EVERYBODY:
        np.testing.assert_allclose(round.uploads[u], heard.uploads[u], atol=1e-6)
        np.testing.assert_array_equal(round.taken[u], heard.taken[u])
        np.testing.assert_allclose(round.encoded(u).updates, heard.encoded(u).updates, atol=1.1 * 3 / 2**15)
    np.testing.assert_allclose(round.sum_of(range(N)).updates, heard.sum_of(range(N)).updates, atol=1e-6)
    assert [part.members for part in round.read.parts] == [part.members for part in heard.read.parts]


def test_of_many_clients_those_who_hold_least_are_looked_at_and_all_are_in_the_sum() -> None:
    many = {"clients": MOST + 4, "partition": "quantity", "examples_per_client": None, "local_steps": 1}
    for scheme in ("plain", "masking"):
        round = rounds_of(scheme=scheme, **many)[-1]
        held = {u: len(own) for u, own in round.layout.shares.items()}
        assert len(round.uploads) == MOST
        assert max(held[u] for u in round.uploads) <= min(held[u] for u in held.keys() - round.uploads)
    (part,), (bare,) = round.read.parts, round.summed(range(MOST + 4)).parts
    np.testing.assert_allclose(part.updates, bare.updates, atol=1e-3)


# What it is told beside


def test_an_image_that_came_out_exactly_is_found_among_many_that_did_not() -> None:
    round = rounds_of(scheme="masking")[-1]
    x, y = round.truth_of(round.read.parts[0], tapped=False)
    grey = np.full(x.shape, 0.5)
    for right in (0, 1):
        images = np.concatenate([x[:right], grey[right:]])
        cell = of_images(round, round.read, (Found(images, y),))
        assert (cell.found, cell.tally[:2]) == (right > 0, (right, N))
    assert cell.beside.startswith(f"1 of {N} images at {RIGHT:.0f} dB")


def test_who_reads_a_sum_need_not_know_how_many_images_are_in_it() -> None:
    round = rounds_of(scheme="masking")[-1]
    x, y = round.truth_of(round.read.parts[0], tapped=False)
    for some in (x[:3], np.concatenate([x, x])):
        labels = np.resize(y, len(some))
        cell = of_images(round, round.read, (Found(some.astype(float), labels, claimed=labels >= 0),))
        assert cell.tally[:2] == (min(len(some), N), N)


def test_labels_that_were_dealt_by_other_shares_are_held_against_what_a_guess_by_these_hits() -> None:
    flags = {"partition": "shards", "classes_per_client": 1, "examples_per_client": None, "local_steps": 1}
    round = rounds_of(scheme="plain", **flags)[-1]
    cell = of_labels(round, round.read, tuple(Found(None, np.array([0])) for _ in round.read.parts))
    assert cell.expected == np.minimum(cell.truth, cell.without).sum() < 0.3 * cell.trials


def test_updates_of_one_client_are_told_by_their_likeness() -> None:
    rng = np.random.default_rng(0)
    own = rng.normal(size=(4, 50))
    views = [
        View(tuple(Part(frozenset({u}), (own[u] + rng.normal(size=50) / 4)[None]) for u in order))
        for order in ((0, 1, 2, 3), (3, 1, 0))
    ]
    cell = linked(views)
    assert (cell.auc, cell.hits, cell.trials, cell.expected, cell.found) == (1.0, 3, 3, 0.75, True)
    strangers = [View(tuple(Part(frozenset({u}), rng.normal(size=(1, 50))) for u in range(20))) for _ in "12"]
    assert linked(strangers).found is False
    assert abs(linked(strangers).auc - 0.5) < 0.25
    summed = linked([View((Part(frozenset({0, 1, 2}), own[:1]),))] * 2)
    assert (summed.auc, summed.trials, summed.found) == (0.5, 0, False)


def test_whose_an_image_is_who_is_in_which_sum_tells() -> None:
    rounds = rounds_of(scheme="masking")
    x, y = rounds[-1].truth(5, tapped=False)
    parts = Part(frozenset({1, 5}), np.zeros((1, 1))), Part(frozenset({2, 5}), np.zeros((1, 1)))
    one = Found(x.astype(float), y, claimed=np.ones(1, dtype=bool))
    result = owned(rounds, View(parts), (one, one))
    assert (result.images, result.named, result.rightly) == (1, 1, 1)
    assert result.beside == "1 image; it is told of 1 whose, of 1 rightly, beside 0.5 by chance"
    wrong = replace(one, images=1 - x.astype(float))
    assert owned(rounds, View(parts), (wrong, wrong)).rightly == 0
    none = replace(one, claimed=np.zeros(1, dtype=bool))
    assert owned(rounds, View(parts), (none, none)).beside == "no image"


# Which attacks


def tried(rounds: list[Round]) -> set[str]:
    return {name for name, why in fitting(rounds).items() if not why}


def test_every_attack_is_tried_or_it_is_said_why_not() -> None:
    fits = fitting(rounds_of(scheme="masking"))
    assert fits.keys() == ATTACKS.keys() | {"linkage", "grouping"}
    assert {name for name, why in fits.items() if not why} == {
        *("labels", "analytic", "peeling", "inversion", "history", "linkage")
    }
    assert "every update has its sender" in fitting(rounds_of(scheme="plain"))["grouping"]


@pytest.mark.parametrize(
    ("flags", "attack", "why"),
    [
        ({"model": "cnn"}, "peeling", "this model begins with Conv2d"),
        ({"model": "cnn"}, "analytic", "this model begins with Conv2d"),
        ({"dataset": "text", "model": "bag-of-words"}, "labels", "see words"),
        ({"dataset": "text", "model": "bag-of-words"}, "peeling", "these are texts"),
        ({"dataset": "text", "model": "bag-of-words"}, "sparse", "these are texts"),
        ({"dataset": "text", "model": "bag-of-words", "rounds": 1}, "history", "these are texts"),
        ({}, "words", "these are images"),
        ({"examples_per_client": 30, "batch_size": 30}, "inversion", "30 images in one of what was read"),
        ({"local_steps": 11, "examples_per_client": 2}, "inversion", "take 11 local steps"),
        ({"compress": 0.5}, "inversion", "see sparse"),
        ({"examples_per_client": 2}, "history", "a client's steps take others each time"),
        ({"rounds": 1}, "linkage", "of two rounds, and one was read: the run had no other: --rounds"),
        ({"rounds": 1}, "history", "in two rounds, and one was read: the run had no other: --rounds"),
    ],
)
def test_what_an_attack_is_not_for_is_said(flags: dict[str, Any], attack: str, why: str) -> None:
    assert why in fitting(rounds_of(scheme="plain", **flags))[attack]


def test_what_no_other_rounds_would_mend_is_not_laid_to_the_rounds() -> None:
    masked = rounds_of(1, scheme="masking")
    assert fitting(masked)["history"].endswith("of the others nothing was kept, or can be attacked")
    one = replace(masked[0], config=masked[0].config.with_(meter=True, meter_rounds=1))
    assert fitting([one])["linkage"].endswith("and one was read: --meter-rounds")
    assert "begins with Conv2d" in fitting(rounds_of(scheme="masking", model="cnn"))["grouping"]


def test_sums_of_other_clients_each_time_are_grouped() -> None:
    flags = {"scheme": "masking", "sample": 4, "clients": 12, "rounds": 6}
    assert "grouping" in tried(rounds_of(6, **flags))


# The command


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """And quickly."""
    monkeypatch.setattr("fl.leakage.apart.run", quick_attack)


def metered(here: Here, folder: Path, **flags: Any) -> tuple[Ran, dict[str, Any]]:
    secret = folder.parent / "secret"
    secret.mkdir(exist_ok=True)
    put(secret / "run.secret", RunSecrets.of_seed(0).secret)
    RunConfig.of(**SMALL | flags).write(secret / "config.json")
    ran = here("train", "--config", str(secret / "config.json"), "--meter", "--out", str(folder))
    assert ran.code == 0
    return ran, json.loads((folder / "meter.json").read_text())


def verdicts(told: dict[str, Any]) -> dict[str, str]:
    return {each["attack"]: each["verdict"] for each in told["attacks"]}


def test_beside_a_control_what_could_not_be_counted_is_drawn_as_none() -> None:
    """And what came out of the controls alone is drawn, too."""
    summed = _linked(recorded(scheme="masking")[0], rounds_of(scheme="masking"))
    assert ("seen" in summed.counted, summed.of_whom) == (False, "nobody")
    assert summed.fields.keys().isdisjoint({"right", "of", "chance"})
    bars = {"what the server read": 0.0, "single updates, encoded": 1.0, "without any attack": 1 / N}
    assert _bars(summed) == bars
    exact = msgspec.structs.replace(summed, counted={"exact": Tally(3, 4, 0.0), "sum": Tally(1, 4, 0.0)})
    assert _bars(exact).keys() >= {"single updates, not encoded", "their sum, not masked"}
    assert (_bars(exact)["single updates, not encoded"], _bars(exact)["their sum, not masked"]) == (
        0.75,
        0.25,
    )


def test_the_names_of_all_bars_are_within_the_picture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    within = []

    def saved(figure: Figure, *args: object, **how: object) -> None:
        figure.canvas.draw()
        (legend,) = figure.legends
        names = legend.get_window_extent()
        within.append(names.x0 >= 0 and names.x1 <= figure.bbox.x1)

    monkeypatch.setattr(Figure, "savefig", saved)
    shares(tmp_path / "meter.png", "all", {"analytic": dict.fromkeys((*BARS.values(), "without"), 0.5)})
    assert within == [True]


def test_where_nothing_was_found_no_client_is_the_worst() -> None:
    round = rounds_of(scheme="plain")[-1]
    y = [round.truth_of(part, tapped=False)[1] for part in round.read.parts]
    for shift, whom in ((0, "8 clients; worst"), (1, "nobody")):
        guess = tuple(Found(None, (labels + shift) % 10) for labels in y)
        assert _whom(round, "labels", of_labels(round, round.read, guess))[0].startswith(whom)


@pytest.mark.usefixtures("in_this_process")
def test_of_a_plain_run_images_and_labels_come_out_of_each_client(here: Here, tmp_path: Path) -> None:
    ran, told = metered(here, tmp_path / "run", scheme="plain")
    found = {each["attack"]: each for each in told["attacks"]}
    for attack in ("labels", "analytic", "peeling"):
        assert (found[attack]["verdict"], found[attack]["read"]) == (LEAKS, "8 single updates")
        assert (found[attack]["right"], found[attack]["of"]) == (N, N)
        assert found[attack]["worst"]["right"] == 1
        assert found[attack]["of_whom"].startswith("8 clients; worst")
    assert found["analytic"]["cells"].keys() == {"seen", "single"}
    assert [each["round"] for each in told["read"]] == [2, 3]
    assert told["not_tried"].keys() | found.keys() == ATTACKS.keys() | {"linkage", "grouping"}
    assert "attacking what the server read in rounds 2 and 3" in ran.out
    assert all(f"{name} was not tried: it {why}" in ran.out for name, why in told["not_tried"].items())
    assert told["sentence"] in ran.out
    assert "what is hidden from them is not protected by that" in told["sentence"]
    assert (tmp_path / "run" / "meter.png").stat().st_size > 0


@pytest.mark.usefixtures("in_this_process")
def test_of_a_masked_run_the_sum_is_read_and_peeled_where_it_is_rounded_finely(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, drawn = [], dict[str, dict[str, float]]()
    monkeypatch.setattr("fl.cli.meter.pictures.shares", lambda path, title, rows: drawn.update(rows))
    for bound, folder in ((0.05, tmp_path / "fine"), (3.0, tmp_path / "coarse")):
        ran, told = metered(here, folder, scheme="masking", bound=bound)
        assert "where masking protects, it is from that attack alone: it leaks by labels" in ran.out
        words.append(verdicts(told))
        found = {each["attack"]: each for each in told["attacks"]}
        assert found["peeling"]["read"] == "one sum of 8 updates"
        leaks = found["peeling"]["verdict"] == LEAKS
        assert found["peeling"]["of_whom"] == ("some of the 8 in a sum" if leaks else "nobody")
        assert found["peeling"]["cells"].keys() >= {"seen", "single", "sum"}
    assert (words[0]["peeling"], words[1]["peeling"]) == (LEAKS, ROUNDING)
    assert [each["linkage"] for each in words] == [PROTECTS, PROTECTS]
    bars = drawn[f"peeling\n({ROUNDING})"]
    assert bars["what the server read"] < bars["their sum, not masked"]
    assert "what the server read" in drawn[f"peeling\n({LEAKS})"]


def test_what_it_is_at_is_news_by_its_attack_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And so it is not said again and again."""
    heard, news = list[tuple[str, str]](), list[Callable[[], str]]()

    @contextmanager
    def watched(out: Output, status: object, told: Callable[[], str] | None = None) -> Iterator[None]:
        assert told is not None
        news.append(told)
        yield

    def found(config: RunConfig, name: str, rounds: list[Round]) -> object:
        heard.append((name, news[0]()))
        return _linked(config, rounds)

    monkeypatch.setattr("fl.cli.meter.shown", watched)
    monkeypatch.setattr("fl.cli.meter._found", found)
    config, layout, readings = recorded(scheme="masking")
    run(Output(), config, layout, RunSecrets.of_seed(0), readings.read(), tmp_path)
    assert heard == [(name, name) for name, why in fitting(rounds_of(scheme="masking")).items() if not why]


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("scheme", [pytest.param("plain", marks=pytest.mark.slow), "masking"])
def test_training_is_the_same_to_the_bit_with_a_meter(here: Here, tmp_path: Path, scheme: str) -> None:
    metered(here, tmp_path / "with", scheme=scheme, execution="batched")
    config = str(tmp_path / "secret" / "config.json")
    ran = here("train", "--config", config, "--out", str(tmp_path / "without"))
    assert (ran.code, ran.err, "meter" in ran.out) == (0, "", False)
    both = [tmp_path / name for name in ("with", "without")]
    models, metrics = (
        [(folder / name).read_bytes() for folder in both] for name in ("model.safetensors", "metrics.jsonl")
    )
    assert models[0] == models[1]
    records = [[json.loads(line) | {"seconds": None} for line in each.splitlines()] for each in metrics]
    assert records[0] == records[1]
    assert not (both[1] / "meter.json").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_of_a_run_over_processes_the_servers_process_has_the_record(here: Here, tmp_path: Path) -> None:
    flags = {"scheme": "masking", "execution": "processes", "clients": 4, "rounds": 1, "model": "mlp"}
    _, told = metered(here, tmp_path / "run", **flags)
    assert told["read"] == [{"round": 1, "updates": [4]}]
    assert "labels" in verdicts(told)
    assert not list((tmp_path / "run" / "parties" / "server").glob("*.bin"))


def test_where_the_server_reads_nothing_it_is_said_why(here: Here, tmp_path: Path) -> None:
    pytest.importorskip("tenseal")
    ran, told = metered(here, tmp_path / "run", scheme="ckks", ending="keep", rounds=1)
    assert told["attacks"] == []
    assert "ciphertexts under a key of theirs" in told["why"]
    assert f"the meter: nothing to attack at the server: {told['why']}" in ran.out


@pytest.mark.parametrize(("scheme", "left_out"), [("plain", 2 * N), ("masking", 2)])
def test_what_was_too_much_to_be_kept_is_not_taken_for_hidden(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scheme: str, left_out: int
) -> None:
    config, layout, readings = recorded(2, 20_000, scheme=scheme)
    much = replace(readings.read(), needed=300_000_001)
    run(Output(), config, layout, RunSecrets.of_seed(0), much, tmp_path)
    told = json.loads((tmp_path / "meter.json").read_text())
    assert told["why"].endswith("a round is more than --meter-memory 256 MB holds: give at least 301")
    assert f"the meter: nothing to attack at the server: {told['why']}" in capsys.readouterr().out
    assert (told["scheme"], told["left_out"], told["attacks"]) == (scheme, left_out, [])


def test_what_is_kept_is_counted_as_the_limit_counts_it_and_its_rounds_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fl.cli.meter._found", lambda config, name, rounds: _linked(config, rounds))
    config, layout, readings = recorded(scheme="plain")
    read = readings.read()
    first = replace(read, rounds=read.rounds[:1], left_out=3, needed=300_000_001)
    run(Output(), config, layout, RunSecrets.of_seed(0), first, tmp_path)
    said = capsys.readouterr()
    assert json.loads((tmp_path / "meter.json").read_text())["bytes"] == read.bytes == readings.bytes
    assert f"the server read in round 2 ({size(readings.bytes)} kept of at most 256 MB)" in said.out
    more = "a round is more than --meter-memory 256 MB holds: give at least 301"
    assert f"3 uploads were not kept, and are not attacked: {more}" in said.err


def test_no_picture_of_an_earlier_meter_is_taken_for_this_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, layout, readings = recorded(2, 20_000, scheme="plain")
    for name in ("meter.json", "meter.png"):
        (tmp_path / name).write_text("earlier")
    run(Output(), config, layout, RunSecrets.of_seed(0), Readings(2, 10**9).read(), tmp_path)
    assert "the run was at its end" in capsys.readouterr().out
    assert {file.read_text() for file in tmp_path.iterdir()} == {"earlier"}
    run(Output(), config, layout, RunSecrets.of_seed(0), readings.read(), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["meter.json"]
    assert capsys.readouterr().out.endswith(f"wrote {tmp_path}: meter.json\n")


def test_where_the_clients_keep_the_model_what_was_read_is_not_attacked(here: Here, tmp_path: Path) -> None:
    pytest.importorskip("tenseal")
    flags = {"scheme": "decoys", "decoys": 2, "model": "logistic", "rounds": 3, "local_steps": 2}
    ran, told = metered(here, tmp_path / "run", **flags)
    assert told["attacks"] == []
    assert "the clients keep the model, by which it would attack what it read" in ran.out


@pytest.mark.usefixtures("in_this_process")
def test_noise_in_what_was_read_is_not_laid_to_the_scheme(here: Here, tmp_path: Path) -> None:
    noise = {"privacy": "distributed", "clip": 1.0, "noise_multiplier": 1.0}
    ran, told = metered(here, tmp_path / "run", scheme="masking", model="mlp", metrics=False, **noise)
    assert "carries the noise of --privacy distributed" in told["noise"]
    assert told["noise"] in ran.out
    assert {LEAKS, ROUNDING}.isdisjoint(verdicts(told).values())
    assert verdicts(told)["analytic"] == NOISED


def test_nothing_is_said_to_be_hidden_by_a_scheme_that_hides_nothing() -> None:
    local = {"privacy": "local", "clip": 1.0, "noise_multiplier": 1.0}
    assert _hidden(RunConfig.of(scheme="plain", **local)).endswith("for plain hides nothing")
    assert _hidden(RunConfig.of(scheme="masking", **local)).endswith("and not masking")


def test_of_a_run_that_was_at_its_end_nothing_is_left_to_be_read() -> None:
    assert Readings(2, 10**9).read() == Record((), 0, 0, 0)
