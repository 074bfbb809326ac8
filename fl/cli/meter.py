"""`secagg train --meter`: what came out of the server's own record of a run, of whom, beside chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from fl import marks
from fl.cli import pictures
from fl.cli.attack import concluded, read_by, sentence
from fl.cli.attacked import SCORES, Outcome, attacked
from fl.cli.display import shown
from fl.cli.fitting import GROUPING, LINKAGE, fitting
from fl.cli.linked import linked, owned
from fl.cli.output import Output
from fl.cli.readings import READABLE, Reading, Record, rebuilt
from fl.cli.recorded import Round
from fl.cli.report import size
from fl.cli.results import write_result
from fl.cli.scored import Cell, Images, Tally, of_images
from fl.cohort.layout import Layout
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets
from fl.leakage import apart
from fl.leakage.attack import Budget, Guess
from fl.leakage.verdicts import LEAKS, MISSED, PROTECTS
from fl.leakage.views import Part, View
from fl.page.state import METER, Tried
from secagg import Plain
from secagg.errors import counted

PICTURE = "meter.png"
BARS: Final = {
    "seen": "what the server read",
    "single": "single updates, encoded",
    "sum": "their sum, not masked",
    "exact": "single updates, not encoded",
    "last": "the last round alone",
}
"""Name of a cell -> what its bar is called."""
Bars = Mapping[str, Mapping[str, float]]
CLOSING: Final = (
    "that is what these attacks found, on this record: what is hidden from them is not protected by that, "
    "and a server that crafts the model was not tried: secagg attack imprint"
)


class Found(Tried, frozen=True):
    """And in numbers. counted: how much came out of what was read ("seen") and of each control, by its name;
    without those of which nothing was counted. told: as JSON holds it, of which `Tried` is the words.
    """

    counted: Mapping[str, Tally]
    told: Mapping[str, Any]

    @property
    def row(self) -> tuple[str, ...]:
        return self.attack, self.read, self.beside, self.of_whom, self.verdict

    @property
    def fields(self) -> dict[str, Any]:
        """As JSON holds it."""
        words = {name: getattr(self, name) for name in ("attack", "read", "beside", "of_whom")}
        seen = self.counted.get("seen")
        return words | (seen._asdict() if seen else {}) | dict(self.told)


def run(
    out: Output,
    config: RunConfig,
    layout: Layout,
    secrets: RunSecrets,
    record: Record,
    folder: Path,
) -> None:
    """Attack what was kept of the run, say what came out, and leave it in the folder."""
    some = [one for one in record.rounds if one.view.parts and one.brings_model]
    always = {"scheme": config.protection.scheme, "left_out": record.left_out}
    always |= marks.fields(config.protection.unsafe_groups)
    if not some:
        why = _why(config, record)
        out.say(f"the meter: nothing to attack at the server: {why}")
        if (
            record.rounds or not (folder / METER).exists()
        ):  # what an earlier meter found of its rounds stays so
            nothing = {"read": [], "why": why, "attacks": [], "not_tried": {}, "sentence": CLOSING}
            _write(out, folder, always | nothing, {})
        return
    kept = f"{size(record.bytes)} kept of at most {config.meter.memory} MB"
    out.say(f"attacking what the server read in {_rounds(some)} ({kept})")
    if record.left_out:
        what = counted(record.left_out, "upload" if isinstance(some[-1].scheme, READABLE) else "sum")
        were = "was not kept, and is" if record.left_out == 1 else "were not kept, and are"
        out.warn(f"{what} {were} not attacked: {_too_much(config, record)}")
    at, done = ["what the clients trained"], [0, 1]
    with shown(out, lambda: (done[0] / done[1], f"the meter: {at[0]}"), lambda: at[0]):
        rounds = rebuilt(config, layout, secrets, some)
        fits = fitting(rounds)
        tried = [name for name, reason in fits.items() if not reason]
        done[1], results = len(tried), list[Found]()
        for name in tried:
            at[0] = name
            results.append(_found(config, name, rounds))
            done[0] += 1
    untried = {name: reason for name, reason in fits.items() if reason}
    _say(out, config, results, untried)
    found = {
        "read": [_read(one) for one in some],
        "bytes": record.bytes,
        "attacks": [each.fields for each in results],
        "not_tried": untried,
        "noise": _hidden(config),
        "sentence": CLOSING,
    }
    drawn = {f"{each.attack}\n({each.verdict})": _bars(each) for each in results if each.counted}
    _write(out, folder, always | found, drawn)


def _say(out: Output, config: RunConfig, results: Sequence[Found], untried: Mapping[str, str]) -> None:
    out.table(
        [each.row for each in results], ("attack", "it read", "came out, beside chance", "of whom", "verdict")
    )
    for each in results:
        out.say(f"{each.attack}: {each.sentence}")
    for name, reason in untried.items():
        out.say(f"{name} was not tried: it {reason}")
    through = [each.attack for each in results if each.verdict == LEAKS]
    if through and any(each.verdict == PROTECTS for each in results):
        scheme = config.protection.scheme
        out.say(f"where {scheme} protects, it is from that attack alone: it leaks by {', '.join(through)}")
    if noise := _hidden(config):
        out.say(noise)
    out.say(CLOSING)


def _why(config: RunConfig, record: Record) -> str:
    """Nothing is attacked."""
    if not record.rounds:
        return "the run was at its end, and no round was left to be read: raise --rounds"
    last = record.rounds[-1].view
    if last.parts:
        kept = "the clients keep the model, by which it would attack what it read"
        return f"{kept}; it has that of a first round: try --rounds 1"
    if record.left_out:  # before what its view says: of what was not kept that is not true
        return f"what it read was not kept, which protects nobody: {_too_much(config, record)}"
    return last.why or "no upload came"


def _too_much(config: RunConfig, record: Record) -> str:
    """What was left out, and what to do."""
    enough = math.ceil(record.needed / 10**6)
    return f"a round is more than --meter-memory {config.meter.memory} MB holds: give at least {enough}"


def _rounds(some: Sequence[Reading]) -> str:
    """Which, in words. They need not be the last of the run: of a later one the server may lack the model."""
    *before, last = (str(one.round) for one in some)
    return f"rounds {', '.join(before)} and {last}" if before else f"round {last}"


def _hidden(config: RunConfig) -> str:
    """What besides the scheme may be what hides; "" for nothing."""
    mechanism = config.privacy.mechanism
    if mechanism not in ("local", "example", "distributed"):  # of central noise, which the server adds itself
        return ""
    noise = f"what was read carries the noise of --privacy {mechanism}: where nothing is found"
    scheme = config.protection.scheme
    rather = "for plain hides nothing" if scheme == "plain" else f"and not {scheme}"
    return f"{noise}, it may be that which hides it, {rather}"


def _read(one: Reading) -> dict[str, Any]:
    return {"round": one.round, "updates": [len(part.members) for part in one.view.parts]}


def _write(out: Output, folder: Path, told: Mapping[str, Any], drawn: Bars) -> None:
    """A picture of an earlier meter goes: it is none of this one. drawn: attack -> its bars."""
    (folder / PICTURE).unlink(missing_ok=True)
    if drawn:
        title = out.marked(f"{told['scheme']}: what came out of what was read")
        pictures.shares(folder / PICTURE, title, drawn)
    result = write_result(folder / METER, msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n")
    out.say(f"wrote {folder}: {', '.join([METER, *[PICTURE] * bool(drawn)])}")
    out.record({"meter": told})
    result.check()


def _bars(each: Found) -> dict[str, float]:
    """Shares. Where nothing that was read could be counted none is drawn, beside the control's chance."""
    first = next(iter(each.counted.values()))
    read = each.counted.get("seen", Tally(0, first.of, first.chance))
    counted = {"seen": read} | dict(each.counted)
    bars = {BARS[name]: tally.right / max(tally.of, 1) for name, tally in counted.items()}
    return bars | {"without any attack": read.chance / max(read.of, 1)}


# One attack


def _found(config: RunConfig, name: str, rounds: Sequence[Round]) -> Found:
    if name == LINKAGE:
        return _linked(config, rounds)
    if name == GROUPING:
        return _owned(config, rounds)
    before = rounds[:-1] if name == "history" else ()
    round = replace(rounds[-1], earlier=tuple(before))
    budget = _budget(config, round, round.read.parts)
    return _of(config, name, round, attacked(round, name, "server", budget, config.training.seed))


def _budget(config: RunConfig, round: Round, parts: Sequence[Part]) -> Budget:
    """So many seconds for all images of what was read, which a part has by its images."""
    images = sum(round.knowledge.images_of(part) for part in parts)
    return Budget(seconds=config.meter.time / max(images, 1))


def _of(config: RunConfig, name: str, round: Round, outcome: Outcome) -> Found:
    seen = outcome.seen
    assert seen is not None  # noqa: S101 - of a round of which something was read
    text = sentence(config, "server", frozenset(), outcome, more="")
    told = concluded(outcome.verdict, text, outcome.cells)
    told["cells"] = {cell: _briefly(each) for cell, each in told["cells"].items()}
    whom, worst = _whom(round, name, seen)
    return Found(
        name,
        read_by("server", seen),
        seen.beside,
        whom,
        outcome.verdict,
        text,
        {name: cell.tally for name, cell in outcome.cells.items()},
        told | worst,
    )


def _briefly(told: Mapping[str, Any]) -> dict[str, Any]:
    """Without what there is of every image, class or word."""
    lists = {name for name, each in told.items() if isinstance(each, list)} | {"images"}
    return {name: each for name, each in told.items() if name not in lists}


def _whom(round: Round, name: str, seen: Cell) -> tuple[str, dict[str, Any]]:
    """In words, and as JSON holds it: of single updates the client of whom most came out."""
    parts = seen.view.parts
    guess: Guess | None = getattr(seen, "guesses", None)
    if seen.found is False:
        return "nobody", {}
    if any(len(part.members) > 1 for part in parts) or guess is None:
        members = sorted({len(part.members) for part in parts})
        return (
            f"some of the {' or '.join(map(str, members))} in a sum" if seen.found else "too few to say",
            {},
        )
    score = partial(SCORES.get(name, of_images), round)
    each = [score(View((part,)), (one,)) for part, one in zip(parts, guess, strict=True)]
    worst = max(each, key=_rank)
    (u,) = worst.view.parts[0].members
    right, of, _ = worst.tally
    told = {"client": u, "right": right, "of": of}
    return f"{counted(len(parts), 'client')}; worst {u}: {right} of {of}", {"worst": told}


def _rank(cell: Cell) -> tuple[float, float, int]:
    near = float(cell.scores.psnr.mean()) if isinstance(cell, Images) else 0.0
    return cell.tally.right / max(cell.tally.of, 1), near, cell.tally.right


def _linked(config: RunConfig, rounds: Sequence[Round]) -> Found:
    seen = linked([round.read for round in rounds])
    control = seen
    if not isinstance(rounds[-1].scheme, Plain):
        control = linked([round.single(sorted(round.uploads)) for round in rounds])
    outcome = Outcome(seen, control, None, None, "")
    text = sentence(config, "server", frozenset(), outcome, more="")
    told = concluded(outcome.verdict, text, outcome.cells)
    told["cells"] = {cell: _briefly(each) for cell, each in told["cells"].items()}
    whom = "nobody" if seen.found is False else counted(len(rounds[-1].uploads), "client")
    tallies = {name: cell.tally for name, cell in (("seen", seen), ("single", control)) if cell.trials}
    read = f"{read_by('server', seen)} in each of {counted(len(rounds), 'round')}"
    return Found(LINKAGE, read, seen.beside, whom, outcome.verdict, text, tallies, told)


def _owned(config: RunConfig, rounds: Sequence[Round]) -> Found:
    parts = [replace(part, before=round.before) for round in rounds for part in round.read.parts]
    view, last = View(tuple(parts)), rounds[-1]
    knowledge = replace(last.knowledge, encoding=last.encoding)
    guess = apart.run("peeling", view, knowledge, _budget(config, last, parts), config.training.seed)
    result = owned(rounds, view, guess)
    verdict = LEAKS if result.found else MISSED
    read = f"the sums of {counted(len(rounds), 'round')}"
    it = "it leaks" if result.found else verdict
    text = f"{config.protection.scheme}: the server read {read}, and took out {result.beside}: {it}."
    told = {"verdict": verdict, "sentence": text} | dict(result.told())
    whom = f"the {len(last.layout.shares)} clients of the run" if result.found else "nobody"
    return Found(
        GROUPING,
        read,
        result.beside,
        whom,
        verdict,
        text,
        {"seen": result.tally} if result.named else {},
        told,
    )
