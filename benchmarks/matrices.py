"""The matrices of the page of `secagg report`: what leaks, and what poisoning does, of results."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np

from benchmarks import by_size, harness, joined
from benchmarks.adversaries import IMAGES, SERVER
from benchmarks.harness import Row
from benchmarks.inverted import cells_of
from benchmarks.leakage import cohorts, perturbed, sums
from benchmarks.matrix import leakage as leaking
from benchmarks.matrix import resilience
from benchmarks.poisoning import breakdown
from benchmarks.poisoning import matrix as poisoning
from benchmarks.protected import by_protection
from benchmarks.provenance import called
from fl.page.published import Matrix, Source

HIDDEN, FOUND = 20.0, 40.0
"""dB: what an image is found at, and what nobody tells from the original."""


def source(folder: str, name: str, size: str = "full") -> Source:
    """Where its result is from."""
    record = harness.read(folder, name, size)
    machine = record["machine"]
    return Source(
        of=f"{folder}/{name}",
        command=f"secagg bench {folder} {name} --size {record['size']} --seed {record['seed']}",
        commit=record["commit"],
        date=record["date"],
        machine=f"{called(machine)}, Python {machine['python']}",
    )


def measured(folder: str, name: str, size: str = "full") -> list[Row]:
    """Its rows; none where this size was not measured."""
    if not harness.file(folder, name, size).exists():
        return []
    return list(harness.read(folder, name, size)["rows"])


def _matrix(
    of: str,
    numbers: Mapping[str, Sequence[float | None]],
    columns: Sequence[str],
    *,
    about: Literal["leakage", "poisoning"] = "leakage",
    suffix: str = "",
    size: str = "full",
    **rest: Any,
) -> Matrix:
    """of: the benchmark, as folder/name. suffix: of the matrix's name, where it is one of several. size: of
    the result; what is claimed is claimed of the full one alone.
    """
    folder, name = of.split("/")
    return Matrix(
        name=f"{folder}-{name}{suffix}",
        about=about,
        columns=tuple(columns),
        rows=tuple((row, tuple(map(_rounded, values))) for row, values in numbers.items()),
        claim=harness.load(folder, name).CLAIM if size == "full" else "",
        source=source(folder, name, size),
        **rest,
    )


def _percent(
    of: str, numbers: Mapping[str, Sequence[float | None]], columns: Sequence[str], **rest: Any
) -> Matrix:
    """A matrix of shares of a hundred."""
    return _matrix(of, numbers, columns, unit="%", low=0, high=100, **rest)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def by_adversary(size: str = "full") -> Iterator[Matrix]:
    """What comes out under each protection: for whom, and for the server of how many and how late; and what
    the server is told beside images.
    """
    size = joined.sizes(size).get("leakage", size)
    if not (rows := measured("matrix", "leakage", size)):
        return
    seen = [row for row in rows if (row["clients"], row["round"]) == (joined.CROWD, joined.ROUND)]
    session = (
        f"in a session of {joined.CROWD} clients of {IMAGES} images each in training round {joined.ROUND}"
    )
    server = [row for row in rows if row["adversary"] == SERVER]
    out = f"Percent of the images that come out above {leaking.OUT:.0f} dB"
    empty = "nothing can be read, or there is no such session"
    whole: dict[str, Any] = {"corner": "protection", "better": "low", "size": size}
    yield _percent(
        "matrix/leakage",
        *_shares(seen, lambda row: str(row["adversary"])),
        title="What comes out under each protection, and for whom",
        says=f"{out} of what each party reads, {session}",
        across="who looks",
        empty=empty,
        **whole,
    )
    yield _percent(
        "matrix/leakage",
        *_shares(server, lambda row: f"{row['clients']}, {row['round']}"),
        suffix="-server",
        title="What the server reads of more clients, and of a trained model",
        says=f"{out} of what the server reads",
        across="clients in the session, training round",
        empty=empty,
        **whole,
    )
    yield _percent(
        "matrix/leakage",
        _told([row for row in seen if row["adversary"] == SERVER]),
        ("labels told right, %", "by the best guess, %", "updates linked, AUC in %"),
        suffix="-told",
        title="What the server is told beside images",
        says=(
            f"Labels of the images {session}: how many the server tells right, and how many the best guess "
            "without any update; how surely it tells which update of the next round is whose (50 is chance)"
        ),
        across="of what the server reads",
        empty="nothing can be read, or in one sum nothing of a single client",
        **whole,
    )


Numbers = dict[str, list[float | None]]
"""Row of a matrix -> its numbers."""


def _shares(rows: Sequence[Row], column: Callable[[Row], str]) -> tuple[Numbers, list[str]]:
    """Protections by columns: the mean share of the rows of each cell that have one, in percent."""
    columns = list(dict.fromkeys(map(column, rows)))

    def mean(some: Sequence[Row]) -> float | None:
        shares = [100 * row["share"] for row in some if row["share"] is not None]
        return statistics.fmean(shares) if shares else None

    return {
        name: [mean([row for row in of if column(row) == each]) for each in columns]
        for name, of in by_protection(rows).items()
    }, columns


def _told(rows: Sequence[Row]) -> Numbers:
    """Of the server's rows: labels, by chance, and linkage, in percent."""
    numbers = Numbers()
    for name, some in by_protection(rows).items():
        labels = [row for row in some if row.get("labels") is not None]
        images = sum(row["images"] for row in labels)
        areas = [row["linkage"] for row in some if row.get("linkage") is not None]
        numbers[name] = [
            *(
                100 * sum(row[of] for row in labels) / images if labels else None
                for of in ("labels", "chance")
            ),
            100 * statistics.fmean(areas) if areas else None,
        ]
    return numbers


def by_cohort() -> Iterator[Matrix]:
    """What is found in a masked sum, by how many clients are in it."""
    if not (rows := measured("leakage", "cohorts")):
        return
    seen = [row for row in rows if row["read"] == cohorts.SUM and row["told"] == cohorts.INFERRED]
    by = {clients: some for (clients,), some in cells_of(seen, "clients").items()}
    counts: dict[str, Callable[[Row], float | None]] = {
        "images above 20 dB": lambda row: row.get("recognised") if row["psnr"] is not None else None,
        "labels counted right": lambda row: row["hits"],
        "labels right by chance": lambda row: row["chance"],
    }
    yield _percent(
        "leakage/cohorts",
        {name: [_share(some, count) for some in by.values()] for name, count in counts.items()},
        [str(clients) for clients in by],
        title="How large a crowd hides an image",
        says="Percent that comes out of a masked sum, by the clients in it, of one MNIST image each",
        corner="what comes out, %",
        across="clients in the sum",
        better="low",
        empty="not looked for",
    )


def _share(some: Sequence[Row], count: Callable[[Row], float | None]) -> float | None:
    counts = [count(row) for row in some]
    there = [each for each in counts if each is not None]
    return 100 * sum(there) / sum(row["images"] for row in some) if len(there) == len(counts) else None


def by_perturbation() -> Iterator[Matrix]:
    """What a client does to its update, against who knows what."""
    if not (rows := measured("leakage", "perturbed")):
        return
    by = {
        (what, attack): float(np.mean([np.mean(row["psnr"]) for row in some]))
        for (what, attack), some in cells_of(rows, "what", "attack").items()
    }
    called = {
        perturbed.PLAIN: "asks for all of it",
        perturbed.AWARE: "knows what was done",
        perturbed.LEARNED: "has learned from others' images",
    }
    guess = float(np.mean([max(row["baselines"].values()) for row in rows]))
    yield _matrix(
        "leakage/perturbed",
        {
            what: [by.get((what, attack)) for attack in perturbed.ATTACKERS]
            for what in dict.fromkeys(row["what"] for row in rows)
        },
        [called[attack] for attack in perturbed.ATTACKERS],
        title="What leaving out and noise hide, and from whom",
        says=(
            f"PSNR in dB of what is found of one MNIST image in its update ({HIDDEN:.0f} and more is the "
            f"image; {guess:.1f} is guessed without any update), by what the attacker knows"
        ),
        corner="what the client does",
        across="attacker",
        unit="dB",
        better="low",
        low=guess,
        high=FOUND,
        digits=1,
        empty="nothing that this attacker knows beside the others",
    )


def by_rounds() -> Iterator[Matrix]:
    """Peeling sums over rounds."""
    if not (rows := measured("leakage", "sums")):
        return
    name, bounds = sums.BASE.name, sums.BASE.bounds
    base = [row for row in rows if row["name"] == name]
    by = cells_of(base, "rounds", "bound")
    called = {sums.FLOAT: "not encoded", sums.TIGHT: "16 bits, tight", sums.DEFAULT: "16 bits, bound 3"}
    yield _percent(
        "leakage/sums",
        {
            f"{rounds} rounds": [
                100 * statistics.fmean(row["share"] for row in by[rounds, bound]) for bound in bounds
            ]
            for rounds in sorted({row["rounds"] for row in base})
        },
        [called[bound] for bound in bounds],
        title="What sums of five clients give up over the rounds",
        says=(
            "Percent of all examples of a run read out of its sums, five clients of 100 images each, a step "
            "of eight images a round, by how the sum is encoded"
        ),
        corner="after",
        across="sum",
        better="low",
    )


def under_attack(size: str = "full") -> Iterator[Matrix]:
    """What is left of the model under each protection."""
    if not (rows := measured("matrix", "resilience", size)):
        return
    attacks = (resilience.NOTHING, *resilience.ATTACKS)
    yield _percent(
        "matrix/resilience",
        {
            f"{line.protection}: {line.rule}": [
                statistics.fmean(line.percents(attack).values()) for attack in attacks
            ]
            for line in resilience.lines_of(rows)
        },
        attacks,
        about="poisoning",
        title="What is left under each protection",
        says=(
            "Accuracy in percent where a fifth of the clients attack, by protection and rule: the mean, and "
            "where the server sees each update the best rule that it permits"
        ),
        corner="protection: rule",
        across="attack",
        better="high",
        size=size,
    )


def by_attack() -> Iterator[Matrix]:
    """Every attack under every rule."""
    if not (rows := measured("poisoning", "matrix")):
        return
    attacks = poisoning.attacks_in(rows)
    yield _percent(
        "poisoning/matrix",
        {
            line.name: [poisoning.percent(of[attack]) if attack in of else None for attack in attacks]
            for line, of in poisoning.by_line(rows).items()
        },
        attacks,
        about="poisoning",
        title="Every attack under every rule",
        says=(
            f"Accuracy in percent, digits, {poisoning.CLIENTS} clients of whom a fifth attack, by the rule "
            "with which the server combines updates that it sees"
        ),
        corner="rule",
        across="attack",
        better="high",
    )


def by_share() -> Iterator[Matrix]:
    """How many attackers a rule bears."""
    if not (rows := measured("poisoning", "breakdown")):
        return
    shares = sorted({row["share"] for row in rows})
    attacks = breakdown.attacks_in(rows)
    by = [breakdown.paths(rows, attack) for attack in attacks]

    def worst(line: breakdown.Line, share: float) -> float | None:
        there = [paths[line][share] for paths in by]
        return None if any("unfit" in row for row in there) else min(map(breakdown.percent, there))

    each = {line.name: [worst(line, share) for share in shares] for line in by[0]}
    yield _percent(
        "poisoning/breakdown",
        {name: numbers for name, numbers in each.items() if any(n is not None for n in numbers)},
        [f"{100 * share:.0f} %" for share in shares],
        about="poisoning",
        title="How many attackers each rule bears",
        says=(
            f"Accuracy in percent under the worst of {len(attacks)} attacks ({', '.join(attacks)}), by the "
            "share of attackers; rules are told a fifth, those with a * the true share"
        ),
        corner="rule",
        across="attackers",
        better="high",
        empty="the rule is not for so few honest clients",
    )


def by_group() -> Iterator[Matrix]:
    """What attackers leave by the size of a group."""
    if not (rows := measured("poisoning", "groups")):
        return
    by = {
        by_size.named(next(iter(of.values()))[0]): {
            at: some for at, some in of.items() if at[0] == by_size.IID
        }
        for of in by_size.runs(rows).values()
    }
    attacks = list(dict.fromkeys(at for of in by.values() for at in of))
    clients = rows[0]["clients"]
    yield _percent(
        "poisoning/groups",
        {
            name: [by_size.percent(of[at], "accuracy") if at in of else None for at in attacks]
            for name, of in by.items()
            if of
        },
        [f"{attack} {bad}" if bad else attack for _, attack, bad in attacks],
        about="poisoning",
        title="How large a group a rule can take for one client",
        says=(
            f"Accuracy in percent, MNIST, {clients} clients, by how many of them attack and how, and by the "
            "clients of a group: the median of the groups' masked sums, beside one sum of all"
        ),
        corner="clients of a group",
        across="attack",
        better="high",
    )


PROTECTIONS: Final = (by_adversary, under_attack)
"""What there is in any size."""
MATRICES: Final = (
    by_adversary,
    by_cohort,
    by_rounds,
    by_perturbation,
    under_attack,
    by_attack,
    by_share,
    by_group,
)
"""In the order of the page."""
