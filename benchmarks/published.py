"""What `secagg report` shows of the committed results: fl/page/published.json and the pictures beside it.
`python -m benchmarks report` writes both, so that an installed package has them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
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
from benchmarks.protocol import growth
from fl.page.published import (
    DATA,
    PICTURES,
    Curve,
    Growth,
    Matrix,
    Panel,
    Picture,
    Point,
    Published,
    Source,
)

HIDDEN, FOUND = 20.0, 40.0
"""dB: what an image is found at, and what nobody tells from the original."""
GALLERY: Final = {"digits": "Digits", "mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}


def published() -> Published:
    """All of it."""
    points, points_of = charted()
    return Published(
        points=points,
        points_of=points_of,
        matrices=tuple(matrix for make in MATRICES for matrix in make()),
        growth=tuple(grown()),
        pictures=tuple(
            Picture(
                f"leakage-{dataset}.png",
                f"{name}: the originals, found in single updates, found in a masked sum of ten, and the "
                "class mean, which knows no update",
                f"Four rows of ten images of {name}, each below its PSNR: the originals; what was found of "
                "them in single updates; in the masked sum of all ten; and the mean image of each class",
            )
            for dataset, name in GALLERY.items()
        ),
    )


def write() -> Iterator[Path]:
    """Each file once it is written."""
    PICTURES.mkdir(exist_ok=True)
    for picture in published().pictures:
        (PICTURES / picture.file).write_bytes((harness.FIGURES / picture.file).read_bytes())
        yield PICTURES / picture.file
    DATA.write_bytes(encoded())
    yield DATA


def encoded() -> bytes:
    """As it is committed."""
    return msgspec.json.format(msgspec.json.encode(published()), indent=1) + b"\n"


def source(folder: str, name: str) -> Source:
    record = harness.read(folder, name)
    machine = record["machine"]
    return Source(
        of=f"{folder}/{name}",
        command=f"secagg bench {folder} {name} --size {record['size']} --seed {record['seed']}",
        commit=record["commit"],
        date=record["date"],
        machine=f"{machine['cores']} cores of {machine['processor']}, Python {machine['python']}",
    )


def _measured(folder: str, name: str) -> list[Row]:
    """Its rows; none where its full size was not measured."""
    if not harness.file(folder, name).exists():
        return []
    return list(harness.read(folder, name)["rows"])


def charted() -> tuple[tuple[Point, ...], tuple[Source, ...]]:
    """The points of the chart, and what they were measured by."""
    tables = joined.measured()
    points = joined.points(tables)
    return points, tuple(source(joined.FOLDER, name) for name in tables) if points else ()


# Matrices


def _matrix(
    of: str,
    numbers: Mapping[str, Sequence[float | None]],
    columns: Sequence[str],
    *,
    about: Literal["leakage", "poisoning"] = "leakage",
    suffix: str = "",
    **rest: Any,
) -> Matrix:
    """of: the benchmark, as folder/name. suffix: of the matrix's name, where it is one of several."""
    folder, name = of.split("/")
    return Matrix(
        name=f"{folder}-{name}{suffix}",
        about=about,
        columns=tuple(columns),
        rows=tuple((row, tuple(map(_rounded, values))) for row, values in numbers.items()),
        claim=harness.load(folder, name).CLAIM,
        source=source(folder, name),
        **rest,
    )


def _percent(
    of: str, numbers: Mapping[str, Sequence[float | None]], columns: Sequence[str], **rest: Any
) -> Matrix:
    """A matrix of shares of a hundred."""
    return _matrix(of, numbers, columns, unit="%", low=0, high=100, **rest)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def by_adversary() -> Iterator[Matrix]:
    """What comes out under each protection: for whom, and for the server of how many and how late."""
    if not (rows := _measured("matrix", "leakage")):
        return
    seen = [row for row in rows if (row["clients"], row["round"]) == (joined.CROWD, joined.ROUND)]
    yield _crossed(
        seen,
        lambda row: str(row["adversary"]),
        title="What comes out under each protection, and for whom",
        says=(
            f"Percent of the images in what each party reads that come out above {leaking.OUT:.0f} dB, in a "
            f"session of {joined.CROWD} clients of {IMAGES} images each in training round {joined.ROUND}"
        ),
        across="who looks",
    )
    yield _crossed(
        [row for row in rows if row["adversary"] == SERVER],
        lambda row: f"{row['clients']}, {row['round']}",
        suffix="-server",
        title="What the server reads of more clients, and of a trained model",
        says=f"Percent of the images that come out above {leaking.OUT:.0f} dB of what the server reads",
        across="clients in the session, training round",
    )


def _crossed(rows: Sequence[Row], column: Callable[[Row], str], **rest: Any) -> Matrix:
    """Protections by columns: the mean share of the rows of each cell that have one, in percent."""
    cells: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        some = cells.setdefault(row["protection"], {}).setdefault(column(row), [])
        some += [100 * row["share"]] if row["share"] is not None else []
    columns = list(dict.fromkeys(map(column, rows)))
    numbers = {
        name: [statistics.fmean(by[each]) if by.get(each) else None for each in columns]
        for name, by in cells.items()
    }
    empty = "nothing can be read, or there is no such session"
    return _percent(
        "matrix/leakage", numbers, columns, corner="protection", better="low", empty=empty, **rest
    )


def by_cohort() -> Iterator[Matrix]:
    """What is found in a masked sum, by how many clients are in it."""
    if not (rows := _measured("leakage", "cohorts")):
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
    if not (rows := _measured("leakage", "perturbed")):
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
    if not (rows := _measured("leakage", "sums")):
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


def under_attack() -> Iterator[Matrix]:
    """What is left of the model under each protection."""
    if not (rows := _measured("matrix", "resilience")):
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
    )


def by_attack() -> Iterator[Matrix]:
    """Every attack under every rule."""
    if not (rows := _measured("poisoning", "matrix")):
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
    if not (rows := _measured("poisoning", "breakdown")):
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
    if not (rows := _measured("poisoning", "groups")):
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


# Curves


def grown() -> Iterator[Growth]:
    """What a session costs by its clients and coordinates."""
    if not (rows := _measured("protocol", "growth")):
        return
    panels = []
    for (grows, graph), each in growth.series(rows).items():
        curves = list[Curve]()
        for who, name, unit in growth.PARTIES:
            measured = [(row[grows], statistics.median(row[name]) / unit) for row in each]
            said = [(row[grows], row["predicted_" + name] / unit) for row in each]
            curves += [Curve(who, tuple(measured)), Curve(who, tuple(said), predicted=True)]
        other = "coordinates" if grows == "clients" else "clients"
        panels.append(
            Panel(
                f"growth-{grows}-{graph}",
                f"{graph.capitalize()} graph, {each[0][other]:,} {other}",
                grows,
                "processor seconds",
                tuple(curves),
            )
        )
    yield Growth(
        title="A masked sum",
        says=(
            f"Processor time of a masked sum of which {100 * growth.LOST:.0f} % of the clients are lost "
            "before they upload: dots are measured, dashes are what the papers' counts of operations say."
        ),
        panels=tuple(panels),
        claim=growth.CLAIM,
        source=source("protocol", "growth"),
    )
