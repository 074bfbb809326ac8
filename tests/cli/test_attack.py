"""`secagg attack`: what each party of a real round can read, how it is scored, and what is said of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from commands import Ran, is_one_line

from fl.cli.attack import described, imprinted, party_of, seen_of, sentence
from fl.cli.attacked import SCORES, Doing, Outcome, attacked
from fl.cli.guessed import of_labels, of_words
from fl.cli.recorded import Round, record
from fl.cli.scored import Images, of_images
from fl.cohort.layout import lay_out
from fl.config.privacy import Perturbation
from fl.config.protection import BOUND
from fl.config.secret import RunSecrets
from fl.config.section import ConfigError
from fl.data.examples import Dataset
from fl.leakage import apart
from fl.leakage.attack import Budget, Found, Guess, Knowledge
from fl.leakage.attacks import ATTACKS
from fl.leakage.baselines import TO_BEAT
from fl.leakage.peeling import peeling
from fl.leakage.verdicts import ABOVE_BASELINE, FAILED, LEAKS, NO_MODEL, NOTHING, PROTECTS, ROUNDING, TOO_FEW
from fl.leakage.views import View
from fl.models.architectures import build
from tests.fl.leakage.helpers import gradient

N = 8
EVERYBODY = frozenset(range(N))
BUDGET_OF_PEELING = Budget(seconds=1e9)
BUDGET = Budget(seconds=0.2, iterations=2, starts=1)


@lru_cache(maxsize=8)
def round_of(scheme: str = "masking", images: int = 1, number: int = 1, **flags: Any) -> Round:
    if scheme in ("ckks", "decoys"):
        pytest.importorskip("tenseal")
    config = described({"scheme": scheme, **flags}, N, images, None, number, 0)
    return record(config, lay_out(config), RunSecrets.of_seed(0))


def true_update(round: Round, u: int) -> np.ndarray:
    """One step from the received model, worked out without the trainer."""
    x, y = round.layout.examples(u)
    model = build("lenet-zhu", (1, 8, 8), 10, 0)  # of round 1: the first model
    return -round.config.training.lr * gradient(model, x, y)


# Views


def test_what_is_known_of_a_round_is_the_model_that_clients_received_and_their_plan() -> None:
    knowledge = round_of(images=2).knowledge
    assert (knowledge.model.model, knowledge.examples, knowledge.plan.steps) == ("lenet-zhu", 2, 1)
    first = build("lenet-zhu", (1, 8, 8), 10, 0)
    np.testing.assert_array_equal(
        knowledge.parameters, np.concatenate([p.detach().numpy().ravel() for p in first.parameters()])
    )


def test_the_server_of_masking_reads_the_mean_of_the_updates_and_of_plain_each() -> None:
    (part,) = round_of().view("server").parts
    expected = np.mean([true_update(round_of(), u) for u in range(N)], axis=0)
    assert (part.members, part.examples) == (EVERYBODY, N)
    assert np.abs(part.updates[0] - expected).max() < 3.0 / 2**15  # a step of codes of 16 bits
    for part in round_of("plain").view("server").parts:
        (u,) = part.members
        np.testing.assert_allclose(part.updates[0], true_update(round_of("plain"), u), atol=1e-6)


def test_where_the_clients_keep_the_sum_the_server_reads_nothing() -> None:
    view = round_of("ckks", ending="keep").view("server")
    assert (view.parts, "keep the sum" in view.why) == ((), True)


def test_among_decoys_the_server_reads_the_true_update_too() -> None:
    round = round_of("decoys", decoys=2)
    for part in round.view("server").parts:
        (u,) = part.members
        assert len(part.updates) == 2
        assert np.abs(part.updates - true_update(round, u)).max(axis=1).min() < 3.0 / 2**15


def test_the_server_and_all_clients_but_one_read_that_one() -> None:
    round = round_of()
    (part,) = round.view("colluders", EVERYBODY - {5}).parts
    assert part.members == {5}
    np.testing.assert_allclose(part.updates[0], round.encoded(5).updates[0], atol=1e-12)
    assert np.abs(part.updates[0] - true_update(round, 5)).max() < 3.0 / 2**15


def test_a_participant_reads_the_mean_off_the_models_of_two_rounds() -> None:
    for flags in ({}, {"algorithm": "fedsgd"}):
        round = round_of(**flags)
        (seen,), (summed,) = round.view("participant").parts, round.view("server").parts
        np.testing.assert_allclose(seen.updates, summed.updates, atol=1e-5)  # models are float32
    with pytest.raises(ConfigError, match="--view participant reads the mean off a server that steps along"):
        round_of(algorithm="fedavg-weights").view("participant")


def test_at_a_client_the_gradient_of_its_first_step_is_read_whatever_the_scheme() -> None:
    round = round_of(images=2, local_steps=3)
    for part in round.view("client").parts:
        (u,) = part.members
        assert part.examples == 2
        np.testing.assert_allclose(
            part.updates[0], true_update(round, u) / -round.config.training.lr, atol=1e-4
        )


def test_a_relay_reads_a_share_of_a_vector_which_is_none_of_it() -> None:
    round = round_of("split", relays=2)
    shares = [round.view("relay", frozenset({j})).parts for j in (0, 1)]
    assert [part.members for part in (*shares[0], *shares[1])] == [{u} for u in (0, 2, 4, 6, 1, 3, 5, 7)]
    for part in (*shares[0], *shares[1]):
        (u,) = part.members
        # Uniform in a ring that holds eight such sums: as far from zero as no update is.
        assert np.abs(part.updates).mean() > 5 * np.abs(true_update(round, u)).max()
        assert abs(np.corrcoef(part.updates[0], true_update(round, u))[0, 1]) < 0.1
    with pytest.raises(ConfigError, match="--view relay:2: this session had 2 relays"):
        round.view("relay", frozenset({2}))


def test_on_the_wire_nothing_is_read() -> None:
    assert round_of().view("eavesdropper").parts == ()


def test_a_later_round_is_attacked_from_the_model_that_it_started_from() -> None:
    first, second = round_of(), round_of(number=2)
    np.testing.assert_array_equal(second.before, first.after.astype(np.float32))
    assert not np.array_equal(second.uploads[0], first.uploads[0])


def test_rounds_before_it_are_read_as_they_were() -> None:
    config = described({"scheme": "masking"}, N, 1, None, 3, 0)
    round = record(config, lay_out(config), RunSecrets.of_seed(0), rounds=3)
    first, second = round.earlier
    np.testing.assert_array_equal(first.before, round_of().before)
    np.testing.assert_array_equal(second.before, first.after.astype(np.float32))
    np.testing.assert_array_equal(round.before, second.after.astype(np.float32))
    sums = [round_of(number=number).view("server").parts[0] for number in (1, 2, 3)]
    (part,) = round.view("server").parts
    for one, expected in zip((*part.earlier, part), sums, strict=True):
        np.testing.assert_allclose(one.updates, expected.updates, atol=1e-6)
    for control in (round.single(range(N)), round.exact(range(N)), round.summed(range(N))):
        assert all(len(part.earlier) == 2 for part in control.parts)
    np.testing.assert_array_equal(round.exact([5]).parts[0].earlier[1].updates[0], second.uploads[5])
    (summed,) = round.summed(range(N)).parts
    np.testing.assert_allclose(summed.earlier[0].updates, part.earlier[0].updates, atol=3.0 / 2**15)


def test_how_many_rounds_were_seen() -> None:
    assert (seen_of("inversion", None, 4), seen_of("history", None, 4), seen_of("history", 2, 4)) == (1, 4, 2)
    with pytest.raises(
        ConfigError, match="--rounds-seen 2: inversion looks at one round, history at several"
    ):
        seen_of("inversion", 2, 4)
    with pytest.raises(ConfigError, match="--rounds-seen 5: up to round 4 there are no more: raise --round"):
        seen_of("history", 5, 4)


# Scores and verdicts


def knowing_the_truth(round: Round, noise: Callable[[View], float]) -> Callable[..., Guess]:
    """An attack that would have to be told the truth: to see what is made of what it finds."""

    def run(attack: str, view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
        guesses = []
        for part in view.parts:
            own = [round.truth(u, tapped=False) for u in sorted(part.members, reverse=True)]
            x, y = np.concatenate([x for x, _ in own]), np.concatenate([y for _, y in own])
            guesses.append(Found((x + noise(view)).astype(np.float64), y, 0.0))
        return tuple(guesses)

    return run


def outcome_of(round: Round, patch: pytest.MonkeyPatch, noise: Callable[[View], float]) -> Outcome:
    patch.setattr(apart, "run", knowing_the_truth(round, noise))
    return attacked(round, "inversion", "server", BUDGET, 0)


def test_images_of_a_sum_are_scored_beside_those_that_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    round = round_of()
    view = round.view("server")
    guess = knowing_the_truth(round, lambda view: 0.1)("", view, round.knowledge, BUDGET, 0)
    cell = of_images(round, view, guess)
    assert (cell.scores.psnr.mean() > 19, cell.scores.labels.all(), cell.identified.all()) == (True,) * 3
    assert cell.found is True
    json.dumps(cell.told(), allow_nan=False)


@pytest.mark.parametrize(
    ("fails", "word"),
    [
        (set(), LEAKS),
        ({"seen", "sum"}, PROTECTS),
        ({"seen"}, ROUNDING),
        ({"seen", "single", "sum"}, ROUNDING),
        ({"seen", "single", "sum", "exact"}, FAILED),
    ],
)
def test_a_verdict_rests_on_the_controls_of_the_same_run(
    fails: set[str], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    round = round_of()
    exact = {u: x.tobytes() for u, x in round.uploads.items()}

    def cell_of(view: View) -> str:
        if len(view.parts) == 1:
            return "sum" if np.array_equal(view.parts[0].updates, round.sum_of(range(N)).updates) else "seen"
        return "exact" if view.parts[0].updates[0].tobytes() == exact[0] else "single"

    outcome = outcome_of(round, monkeypatch, lambda view: 0.9 if cell_of(view) in fails else 0.0)
    assert outcome.verdict == word
    assert ("exact" in outcome.cells) == ({"seen", "single"} <= fails)
    said = sentence(round.config, "server", frozenset(), outcome)
    assert word in said
    # The labels came out with the images, and where these did not, too.
    assert ("all 8 labels are" in said) == (word != LEAKS)
    assert ("images are not found; all 8 labels are" in said) == (word not in (LEAKS, FAILED))


def test_what_is_needed_is_told_beside_what_was_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    round = round_of()
    seen = outcome_of(round, monkeypatch, lambda view: 0.1).seen
    assert isinstance(seen, Images)
    needed = max(float(seen.baseline_psnr[name].mean()) for name in TO_BEAT) + ABOVE_BASELINE
    assert dict(zip(seen.header, seen.row, strict=True))["needed"] == f"{needed:.1f}"
    assert f"{seen.brief} in the mean, {needed:.1f} needed" in seen.says
    assert seen.told()["needed_psnr"] == pytest.approx(needed, abs=0.01)
    # Two numbers that are printed alike and are not say nothing.
    near = replace(seen, scores=replace(seen.scores, psnr=np.full(N, needed - 0.002)))
    assert (near.found, near.row[1], near.row[2]) == (False, f"{needed - 0.002:.2f} dB", f"{needed:.2f}")
    # Where a few images decide, and not the mean, a control says them, too.
    few = replace(seen, scores=replace(seen.scores, psnr=np.array([31.0] * 4 + [0.0] * 4)))
    assert (few.brief.count("4 of 8 images at 30 dB"), "at 30 dB" in near.brief) == (1, False)
    assert seen.lines == ("no SSIM: its window of 11 x 11 does not fit into 8 x 8 pixels",)


def test_labels_come_out_as_many_as_there_are_whatever_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    round = round_of(images=2)
    view = round.view("server")
    (found,) = knowing_the_truth(round, lambda view: 0.0)("", view, round.knowledge, BUDGET, 0)
    turned = of_images(round, view, (replace(found, labels=np.roll(found.labels, 1)),))
    assert (turned.besides, turned.scores.labels.all()) == ("all 16 labels", False)
    absent = min({*range(10)} - {*found.labels.tolist()})
    one = found.labels.copy()
    one[0] = absent
    assert of_images(round, view, (replace(found, labels=one),)).besides == "15 of 16 labels"
    none = np.full(2 * N, absent)
    assert of_images(round, view, (replace(found, labels=none),)).besides == ""


@pytest.mark.parametrize(
    ("attack", "needs_it", "word"),
    [("inversion", True, NO_MODEL), ("inversion", False, LEAKS), ("learned", True, NO_MODEL)],
)
def test_who_lacks_the_model_is_held_against_who_has_it(
    attack: str, needs_it: bool, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    round = round_of()

    def run(attack: str, view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
        assert knowledge.parameters.shape == round.before.shape
        lost = needs_it and not np.array_equal(knowledge.parameters, round.before)
        return knowing_the_truth(round, lambda view: 0.9 * lost)(attack, view, knowledge, budget, seed)

    monkeypatch.setattr(apart, "run", run)
    outcome = attacked(round, attack, "server", BUDGET, 0, without_model=True)
    assert outcome.verdict == word
    assert outcome.cells.keys() == {"seen", "informed", "single", "sum"}
    said = sentence(round.config, "server", frozenset(), outcome)
    assert "the server, without the model, read one sum of 8 updates" in said
    assert ("the same attack with the model gets 120.0 dB" in said) == needs_it


def test_who_follows_the_model_over_rounds_has_it() -> None:
    with pytest.raises(ConfigError, match="--without-model: who follows the model over rounds has it"):
        attacked(round_of(), "inversion", "participant", BUDGET, 0, without_model=True)


def test_who_has_learned_is_held_against_the_class_mean() -> None:
    round = round_of("plain")
    view = round.view("server")
    guess = knowing_the_truth(round, lambda view: 0.0)("", view, round.knowledge, BUDGET, 0)
    cell = of_images(round, view, guess)
    nearer = 0.9 * cell.baselines["class mean"] + 0.1 * cell.truth  # by 0.9 dB
    guess = tuple(replace(one, images=x[None]) for one, x in zip(guess, nearer, strict=True))
    learned = SCORES["learned"](round, view, guess)
    assert (of_images(round, view, guess).found, learned.found) == (False, True)


def test_who_learns_is_told_what_was_done_to_what_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    told = dict[frozenset[int], list[Knowledge]]()

    def run(attack: str, view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
        told.setdefault(view.parts[0].members, []).append(knowledge)
        return knowing_the_truth(round, lambda view: 0.0)(attack, view, knowledge, budget, seed)

    monkeypatch.setattr(apart, "run", run)
    round = round_of(privacy="local", clip=1.0, noise_multiplier=0.01, bits=8)
    attacked(round, "learned", "server", BUDGET, 0)
    (single,), both = told[frozenset({0})], told[EVERYBODY]
    assert single.perturbation == Perturbation("local", clip=1.0, multiplier=0.01)
    assert single.encoding == round.encoding
    assert round.encoding is not None
    assert (round.encoding.bits, round.encoding.share) == (8, 1.0)
    # Of what was summed in the clear nothing was rounded.
    assert sorted((one.encoding for one in both), key=str) == [round.encoding, None]
    assert single.public is not None
    assert not (single.public.x[:, None] == round.layout.x[:N]).all(axis=(2, 3, 4)).any()
    told.clear()
    attacked(round, "learned", "client", BUDGET, 0)  # where nothing is noised yet
    assert {(one.perturbation, one.encoding) for one in told[frozenset({0})]} == {
        (None, None),
        (single.perturbation, round.encoding),
    }


def test_what_nobody_can_read_is_not_called_protected(monkeypatch: pytest.MonkeyPatch) -> None:
    round = round_of("ckks", ending="keep")
    outcome = outcome_of(round, monkeypatch, lambda view: 0.0)
    assert outcome.verdict == NOTHING
    assert "the server can read nothing" in sentence(round.config, "server", frozenset(), outcome)


def test_who_peels_a_sum_says_how_many_images_it_has_and_that_is_held_against_the_truth() -> None:
    round = round_of("plain", images=2, algorithm="fedsgd", model="mlp-1000")
    sum = View((round.sum_of(range(N)),))
    (found,) = peeling(sum, round.knowledge, BUDGET_OF_PEELING, 0)
    cell = of_images(round, sum, (found,))
    assert cell.claimed is not None
    claims = int(cell.claimed.sum())
    assert (cell.told()["claimed"], cell.told()["right"]) == (claims, cell.right)
    assert cell.right >= 0.9 * claims > 8
    assert f"of 16 it says {claims} images, {cell.right} of them rightly" in cell.says
    (wrong,) = (replace(found, images=np.zeros_like(found.images)),)
    assert of_images(round, sum, (wrong,)).right == 0


def test_a_server_that_crafts_the_model_reads_images_out_of_a_masked_sum_at_the_usual_bound() -> None:
    config = described({"model": "mlp-1000"}, 4, 4, None, 1, 0)
    layout = lay_out(config)
    round = record(config, layout, RunSecrets.of_seed(0), first=imprinted(config, layout, None))
    outcome = attacked(round, "imprint", "server", BUDGET, 0)
    assert outcome.verdict == LEAKS
    assert isinstance(outcome.seen, Images)
    assert outcome.seen.claimed is not None
    assert outcome.seen.right == outcome.seen.claimed.sum() >= 8
    # As large as the bound lets them be, and no number is clipped: the image of one client alone fills it.
    largest = max(np.abs(upload).max() for upload in round.uploads.values())
    assert 0.3 * BOUND < largest <= BOUND


def test_of_too_few_images_there_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    config = described({"scheme": "plain"}, 3, 1, None, 1, 0)
    round = record(config, lay_out(config), RunSecrets.of_seed(0))
    outcome = outcome_of(round, monkeypatch, lambda view: 0.0)
    assert outcome.verdict == TOO_FEW
    said = sentence(config, "server", frozenset(), outcome)
    assert said.endswith("too few for a verdict, which takes 8 images: raise --images.")


def test_what_is_attacked_meanwhile_is_told_as_long_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    round, doing, seen = round_of(), Doing(), list[list[str]]()
    all_there = Barrier(2)

    def run(*args: Any) -> Guess:
        all_there.wait()
        seen.append(sorted(doing))
        all_there.wait()
        return knowing_the_truth(round, lambda view: 0.0)(*args)

    monkeypatch.setattr(apart, "run", run)
    monkeypatch.setattr("fl.cli.attacked.usable_cores", lambda: 2)
    attacked(round, "inversion", "client", BUDGET, 0, doing=doing)
    assert seen == [["seen", "single"]] * 2
    assert [*doing] == []


# Labels


def test_labels_are_scored_by_how_many_there_are_of_each_class_whatever_their_order() -> None:
    round = round_of(images=2)
    view = round.single(range(N))
    true = [round.truth_of(part, tapped=False)[1] for part in view.parts]
    absent = [min({*range(10)} - {*y}) for y in true]
    right = of_labels(round, view, tuple(Found(None, y[::-1]) for y in true))
    assert (right.hits, right.trials, right.found) == (2 * N, 2 * N, True)
    # Of two labels of ten nearly even classes the best guess is two different ones: 2 P(Bin(2, 1/10) > 0).
    assert right.expected == pytest.approx(N * 2 * (1 - 0.9**2), rel=0.02)
    few = of_labels(
        round,
        view,
        tuple(Found(None, np.array([c, c])) for c in absent[:6])
        + tuple(Found(None, np.array([y[0], c])) for y, c in zip(true[6:], absent[6:], strict=True)),
    )
    assert (few.hits, few.found) == (2, False)
    json.dumps(few.told(), allow_nan=False)


def test_of_labels_that_could_not_be_better_than_chance_there_is_no_verdict() -> None:
    round = round_of()
    view = View(round.single([0]).parts)
    (part,) = view.parts
    assert of_labels(round, view, (Found(None, round.truth_of(part, tapped=False)[1]),)).found is None


def test_labels_are_told_of_a_sum_that_hides_images(here: Callable[..., Ran], tmp_path: Path) -> None:
    ran = here("attack", "labels", "--clients", "8", "--json", "--out", str(tmp_path / "attack"))
    assert ran.code == 0, ran
    (told,) = ran.records
    assert (told["attack"], told["verdict"]) == ("labels", LEAKS)
    assert [(cell["hits"], cell["labels"]) for cell in told["cells"].values()] == [(8, 8)] * 3
    assert "8 of 8 labels are told right, beside 4.6 of the best guess" in told["sentence"]
    assert (tmp_path / "attack" / "seen.png").exists()


# Words


@pytest.fixture
def text(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Of 300 words of which the first are most frequent; that of the library takes seconds to read."""
    rng = np.random.default_rng(0)
    x = np.minimum(rng.geometric(0.03, (400, 8)) - 1, 299).astype(np.int64)
    y = rng.integers(1, 300, 400)
    dataset = Dataset("text", x[:300], y[:300], x[300:], y[300:], 300, tuple(f"w{i:03}" for i in range(300)))
    monkeypatch.setattr("fl.cohort.layout.load", lambda name, data_dir: dataset)
    return dataset


def of_text(**flags: Any) -> Round:
    config = described({"dataset": "text", "model": "bag-of-words", **flags}, N, 2, None, 1, 0)
    return record(config, lay_out(config), RunSecrets.of_seed(0))


def test_words_are_scored_beside_as_many_frequent_ones(text: Dataset) -> None:
    round = of_text()
    view = round.view("server")
    x, y = round.truth_of(view.parts[0], tapped=False)
    true = np.setdiff1d(np.append(x, y), [0])  # token 0 is all words without a token
    wrong = np.setdiff1d(np.arange(300), np.append(true, 0))[:3]
    named = np.concatenate([[0], wrong, true[5:]])
    cell = of_words(round, view, (Found(None, y, words=np.sort(named)),))
    assert (cell.true, cell.named, cell.hits) == (len(true), len(true) - 2, len(true) - 5)
    assert (cell.precision, cell.recall) == ((len(true) - 5) / (len(true) - 2), (len(true) - 5) / len(true))
    tokens = [int(w) for row, next in zip(text.test_x, text.test_y, strict=True) for w in (*row, next) if w]
    frequent = [w for w, _ in sorted(Counter(tokens).items(), key=lambda one: (-one[1], one[0]))]
    assert cell.chance == len({*frequent[: cell.named]} & {*true.tolist()})
    assert cell.found is True
    assert cell.lines[1] == f"not named: {' '.join(f'w{i:03}' for i in true[:5])}"
    # Those that anybody names are no find.
    frequent_ones = np.array(sorted(frequent[:30]))
    assert of_words(round, view, (Found(None, y, words=frequent_ones),)).found is False
    assert of_words(round, view, (Found(None, y, words=np.array([], np.int64)),)).found is False
    json.dumps(cell.told(), allow_nan=False)


def test_the_words_of_a_cohort_are_read_out_of_its_masked_sum(
    text: Dataset, here: Callable[..., Ran], tmp_path: Path
) -> None:
    ran = here(
        "attack", "words", "--clients", "4", "--texts", "2", "--json", "--out", str(tmp_path / "attack")
    )
    assert ran.code == 0, ran
    (told,) = ran.records
    assert (told["attack"], told["verdict"]) == ("words", LEAKS)
    for cell in told["cells"].values():
        assert (cell["precision"], cell["recall"], cell["true"]) == (1.0, 1.0, cell["guessed"])
    assert len(told["cells"]["single"]["true"]) == 4
    assert (tmp_path / "attack" / "seen.png").exists()


def test_words_are_read_without_the_model(text: Dataset) -> None:
    outcome = attacked(of_text(), "words", "server", BUDGET, 0, without_model=True)
    assert outcome.verdict == LEAKS
    assert outcome.seen is not None
    assert outcome.informed is not None
    assert outcome.seen.row == outcome.informed.row


def test_words_whose_rows_are_below_a_step_of_the_codes_are_hidden_by_rounding(text: Dataset) -> None:
    outcome = attacked(of_text(bits=2), "words", "server", BUDGET, 0)
    assert outcome.verdict == ROUNDING
    assert outcome.seen is not None
    assert outcome.seen.row[-2] < "0.50"  # recall
    assert outcome.exact is None or outcome.exact.found


# The command


def test_a_session_is_attacked_and_what_leaked_is_told(here: Callable[..., Ran], tmp_path: Path) -> None:
    folder = tmp_path / "attack"
    line = ["attack", "inversion", "--scheme", "masking", "--clients", "3", "--time", "0.1", "--json"]
    ran = here(*line, "--iterations", "1", "--out", str(folder))
    assert ran.code == 0, ran
    (told,) = ran.records
    assert told == json.loads((folder / "report.json").read_bytes())
    assert (told["view"], told["scheme"], told["verdict"]) == ("server", "masking", TOO_FEW)
    assert told["cells"].keys() == {"seen", "single", "sum"}
    assert {path.name for path in folder.iterdir()} == {"report.json", "seen.png", "single.png", "sum.png"}
    is_one_line(here(*line, "--out", str(folder)), 2, "is not empty", "--force")


def test_what_a_history_adds_is_told_beside_its_last_round_alone(
    here: Callable[..., Ran], tmp_path: Path
) -> None:
    line = ["attack", "history", "--clients", "3", "--round", "2", "--time", "0.1", "--json"]
    ran = here(*line, "--iterations", "1", "--out", str(tmp_path / "attack"))
    assert ran.code == 0, ran
    (told,) = ran.records
    assert (told["rounds_seen"], told["cells"].keys()) == (2, {"seen", "single", "sum", "last"})
    assert "one sum of 3 updates in each of 2 rounds" in told["sentence"]
    assert "by the last round alone)" in told["sentence"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("inversion --time nan", "Invalid value for '--time': nan: give a finite number"),
        ("inversion --lr inf", "Invalid value for '--lr': inf: give a finite number"),
        ("inversion --local-steps 0", "--local-steps 0: an attack is on steps that are counted: give 1 or"),
        ("labels --batch 0", "0 is not in the range x>=1"),
        ("inversion --start nowhere", "--start nowhere: there are grey,"),
        ("inversion --view colluders:", "--view colluders: say which of the clients 0 to 9"),
        ("inversion --view relay:0", "--view relay:0: only split has relays: try --scheme split"),
        ("face --view relay:0", "--view relay:0: only split has relays: try --scheme split"),
        ("inversion --model gru", "gru is not for images: there are"),
        ("face --model gru", "gru is not for images: there are"),
        ("inversion --model lenat", "model = 'lenat': give one of cnn, mlp"),
    ],
)
def test_what_is_asked_for_amiss_is_refused_before_anything_runs(
    line: str, words: str, here: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fl.cli.attack.record", None)
    monkeypatch.setattr("fl.cli.face.trained", None)
    is_one_line(here("attack", *line.split(), "--out", str(tmp_path / "attack")), 2, words)
    assert not (tmp_path / "attack").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("analytic --time 1", "--time: analytic has no use for it: it is for inversion, sparse"),
        ("learned --start uniform", "--start: learned has no use for it"),
        (
            "peeling --iterations 3",
            "--iterations: peeling has no use for it: it is for inversion, sparse, cosine, history, learned",
        ),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(
    line: str, words: str, here: Callable[..., Ran], tmp_path: Path
) -> None:
    is_one_line(here("attack", *line.split(), "--out", str(tmp_path / "attack")), 2, words)
    assert not (tmp_path / "attack").exists()


def test_the_attacks_are_listed_with_their_sources(here: Callable[..., Ran]) -> None:
    listed = here("attack", "list", "--json").records
    assert [one["name"] for one in listed] == list(ATTACKS)
    assert all(one["line"].endswith(".") and one["source"].endswith(".") for one in listed)


def test_who_saw_it_is_one_of_the_parties() -> None:
    assert party_of("colluders:0,3", 4) == ("colluders", {0, 3})
    assert party_of("relay:1", 4) == ("relay", {1})
    for text, words in {
        "sever": "--view sever: there are server, .*did you mean 'server'",
        "server:1": "--view server:1: only colluders and relays have numbers: colluders:0,3, relay:0",
        "colluders:4": "--view colluders:4: say which of the clients 0 to 3 are on the server's side",
        "colluders": "--view colluders: say which of the clients",
        "colluders:": "--view colluders: say which of the clients",
        "relay:0,1": "--view relay:0,1: say which relay of --scheme split: relay:0",
    }.items():
        with pytest.raises(ConfigError, match=words):
            party_of(text, 4)
